"""Small synthetic cases on disk, for cohorts that are contoured in seconds."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import distributed
import numpy as np
from distributed import WorkerPlugin

from aistat_jax.cohort.workers import Crew, LocalWorkers
from aistat_jax.data.phantoms import pet_ct_phantom
from tests.cli.datasets import save

QUICK = ("--draws", "100", "--slices", "point", "--no-pictures")
"""Of `aistat cohort`: what makes a case a matter of a tenth of a second."""


def write_cases(folder: Path, count: int, different: int = 8, first: int = 0) -> Path:
    """A manifest of `count` PETs, a point in each; of `different` phantoms from seed `first`."""
    rows, made = [], []
    for n in range(min(count, different)):
        phantom = pet_ct_phantom(
            first + n,
            dims=3,
            shape=(24, 24, 3),
            spacing_mm=(4.0, 4.0, 4.0),
            radius_mm=20.0,
            amplitude=0.1,
        )
        channel = phantom.image["PT"]
        made.append((channel.values, channel.grid.affine, phantom.centre))
    for n in range(count):
        values, affine, centre = made[n % len(made)]
        name = f"P{n:03d}"
        save(folder / "images" / f"{name}.nii.gz", np.asarray(values, np.float32), affine)
        point = " ".join(f"{x:.3f}" for x in centre)
        rows.append({"id": name, "PT": f"images/{name}.nii.gz", "point": point})
    return write_manifest(folder / "manifest.csv", rows)


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def done(out: Path) -> set[str]:
    """Cases that are there; hidden folders, of workers that were killed, are not."""
    return {path.parent.name for path in out.glob("cases/[!.]*/summary.json")}


def workers_of(pid: int) -> list[int]:
    """The processes that a run has spawned to contour in, less Python's own resource tracker."""
    import psutil

    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child.pid)
    return found


def results(out: Path) -> dict[str, str]:
    """A digest of everything that a run wrote, less what tells of time and place.

    Those are seconds, in summaries and posteriors, and the records of a run.
    """
    from aistat_jax.inference.store import load_posterior

    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
        if path.is_dir() or hidden or path.name in ("cohort.json", "aistat.json"):
            continue
        if path.name == "summary.json":
            summary = json.loads(path.read_text())
            for target in summary["targets"]:
                target.pop("seconds")
            content = json.dumps(summary).encode()
        elif path.name == "case.json":
            record = json.loads(path.read_text())
            content = json.dumps([record[key] for key in ("id", "state", "settings")]).encode()
        elif path.name == "posterior.nc":
            drawn = [(each.target_id, each.radii) for each in load_posterior(path)]
            content = b"".join(name.encode() + radii.tobytes() for name, radii in drawn)
        elif path.name == "report.html" and "cases" in path.parts:
            continue
        else:
            content = path.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


class Circles(WorkerPlugin):
    """Fits are circles in every worker, those too that are started anew."""

    def setup(self, worker: object) -> None:
        from aistat_jax import case
        from tests.cli import scans

        case._fit = scans.circles


@dataclass(frozen=True)
class Spawned:
    """Workers of `LocalWorkers` whose fits are circles."""

    count: int = 2

    @contextmanager
    def hired(self, cases: int) -> Iterator[Crew]:
        with LocalWorkers(self.count).hired(cases) as crew:
            crew.client.register_plugin(Circles())
            yield crew


@dataclass(frozen=True)
class Here:
    """A worker in this very process, in place of `LocalWorkers`."""

    count: int | None = None
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        LocalWorkers(self.count, self.memory_gib)

    @contextmanager
    def hired(self, cases: int) -> Iterator[Crew]:
        with distributed.Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as client:  # fmt: skip
            yield Crew(client, "one worker, here")
