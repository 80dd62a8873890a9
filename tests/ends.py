"""Commands that are stopped, filled up or not listened to: a process that runs many of them.

`python -m tests.ends KIND FOLDER COUNT SEED` runs real commands, less the fit of a contour, which
is a circle, and prints one line of JSON for each. A process of its own, since it is sent signals.
KIND is stop (a signal at a random moment), pipe (nobody reads standard output) or full (a disk);
or write and save, which do nothing but write a folder, or a posterior, again and again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

STOPS = (signal.SIGINT, signal.SIGTERM)


def inputs(folder: Path) -> tuple[Path, str]:
    """A small PET, and a point in its lesion."""
    from aistat_jax.data.phantoms import pet_ct_phantom
    from tests.cli.scans import save

    phantom = pet_ct_phantom(
        3, dims=3, shape=(30, 28, 3), spacing_mm=(4.0, 4.0, 4.0), radius_mm=24.0, amplitude=0.08
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = save(folder / "pet.nii.gz", phantom.image["PT"].values, phantom.image["PT"].grid.affine)
    return path, ",".join(f"{x:.3f}" for x in phantom.centre)


def commands(data: Path) -> dict[str, Callable[[Path, int], list[str]]]:
    """Arguments of every command that writes results, from the folder and the seed."""
    from aistat_jax.nets.weights import save_net, untrained
    from tests.cli.datasets import QUICK, write_balls
    from tests.nets.cases import tiny_plan

    pet, point = inputs(data / "scan")
    plan = tiny_plan(widths=(2, 4), spacing_mm=(4.0, 4.0, 4.0))
    net = save_net(untrained(plan, 1), data / "net")
    balls = write_balls(data / "balls")
    labels = balls / "labelsTr"

    def contour(out: Path, seed: int) -> list[str]:
        where = [f"--point={point}", "--slices", "1", "--draws", "100"]
        return ["contour", str(pet), *where, "--seed", str(seed), "--out", str(out)]

    return {
        "contour": contour,
        "predict": lambda out, seed: [
            "predict", str(net), "--image", f"PT={pet}", "--seed", str(seed), "--out", str(out)
        ],
        "evaluate": lambda out, seed: [
            "evaluate", str(labels), str(labels), "--seed", str(seed), "--out", str(out)
        ],
        "demo": lambda out, seed: [
            "demo", "--draws", "100", "--seed", str(seed), "--out", str(out)
        ],
        "train": lambda out, seed: ["train", str(balls), "--out", str(out), *QUICK],
    }  # fmt: skip


def run(arguments: list[str]) -> tuple[int, str]:
    """The status of a command, and what it wrote to standard error."""
    from aistat_jax.cli import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main(arguments)
    return status, said.getvalue()


def whole(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def hidden(folder: Path) -> list[str]:
    return [path.as_posix() for path in folder.rglob(".*")]


def verdict(out: Path, before: dict[str, bytes], seed: int) -> str:
    """Whether a folder holds what it did, or all that a run with this seed writes, or neither."""
    found = whole(out) if out.exists() else {}
    if hidden(out.parent):
        return f"hidden {hidden(out.parent)}"
    if found == before:
        return "old"
    record = json.loads(found["aistat.json"])
    ours = {name for each in record["runs"] for name in each["files"]} | {"aistat.json"}
    training = record["runs"][0]["command"] == "train"  # which keeps its checkpoints there too
    if not (ours < set(found) if training else ours == set(found)):
        return f"files {sorted(found)}"
    if "summary.json" in found:
        from aistat_jax.inference.store import load_posterior

        seeds = {json.loads(found["summary.json"])["seed"]}
        seeds |= {posterior.seed for posterior in load_posterior(out / "posterior.nc")}
        if seeds != {seed}:
            return f"mixed {seeds}"
    if "scores.json" in found and not training and json.loads(found["scores.json"])["seed"] != seed:
        return "mixed"
    return "new"


def stop(folder: Path, count: int, seed: int, names: list[str]) -> None:
    """Send a signal at a random moment of each command; the folder has older results at first.

    How long a command lasts is measured, and taken for longer when a late signal found it unready:
    the machine has become slower.
    """
    draw, made = random.Random(seed), commands(folder / "data")
    for kind in STOPS:  # one that comes when a command is over must not end this process
        signal.signal(kind, lambda number, frame: None)
    lasted: dict[str, float] = {}
    for name in names:
        start = time.perf_counter()
        assert run(made[name](folder / name / "out", 0))[0] == 0
        start = time.perf_counter()
        assert run(made[name](folder / name / "out", 0))[0] == 0
        lasted[name] = time.perf_counter() - start
    for n in range(count):
        name, kind = names[n % len(names)], STOPS[n // len(names) % 2]
        out = folder / name / "out"
        before = whole(out)
        share = draw.uniform(0, 1) if draw.random() < 0.5 else draw.uniform(0.7, 1.05)
        timer = threading.Timer(share * lasted[name], os.kill, (os.getpid(), kind))
        timer.start()
        status, said = run(made[name](out, n + 1))
        timer.cancel()
        timer.join()
        time.sleep(0.01)
        found = verdict(out, before, n + 1)
        if share > 0.9 and found == "old":
            lasted[name] *= 1.5
        tell(name, status, said, found, signal=int(kind))


def pipe(folder: Path, count: int, seed: int, names: list[str]) -> None:
    """Run each command with a standard output whose reader has gone, at once or after a line."""
    draw, made = random.Random(seed), commands(folder / "data")
    for n in range(count):
        name = names[n % len(names)]
        out = folder / f"{name}-{n}" / "out"
        read_end, write_end = os.pipe()
        stream = os.fdopen(write_end, "w", encoding="utf-8")
        reader = threading.Thread(target=read_lines, args=(read_end, draw.choice((0, 1, 2))))
        reader.start()
        with contextlib.redirect_stdout(stream):
            status, said = run(made[name](out, n))
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        reader.join()
        tell(name, status, said, verdict(out, {}, n))


def write(folder: Path, count: int, seed: int, names: list[str]) -> None:
    """Put version after version of the same files into a folder, until killed."""
    from aistat_jax._folders import Run, claim, filled

    place = claim(folder / "out", Run("contour", "digest", "pet.nii.gz"))
    for version in range(count):
        with filled(place, last=("summary.json",)) as filling:
            for name in ("summary.json", "a/b.bin", "a/c.bin", "figure.png"):
                path = filling.folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"%09d" % version * (1 + seed))
        if version == 0:
            print("ready", file=sys.__stdout__, flush=True)


def save(folder: Path, count: int, seed: int, names: list[str]) -> None:
    """Save posterior after posterior under one name, until killed."""
    from aistat_jax._record import replace
    from aistat_jax.inference.store import save_posterior
    from tests.helpers import make_posterior

    posterior = make_posterior(draws=200 + seed)
    for version in range(count):
        save_posterior(folder / "posterior.nc", replace(posterior, seed=version))
        if version == 0:
            print("ready", file=sys.__stdout__, flush=True)


def read_lines(descriptor: int, lines: int) -> None:
    while lines and (sign := os.read(descriptor, 1)):
        lines -= sign == b"\n"
    os.close(descriptor)


def full(folder: Path, count: int, seed: int, names: list[str]) -> None:
    """Fill a disk, on which older results lie, up to a random rest, and run each command."""
    draw, made = random.Random(seed), commands(folder.parent / "data")
    for name in names:
        assert run(made[name](folder / name / "out", 0))[0] == 0
    ballast = folder / "ballast"
    for n in range(count):
        name = names[n % len(names)]
        out = folder / name / "out"
        before = whole(out)
        rest = int(draw.uniform(0, 1.6) * sum(len(content) for content in before.values()))
        fill(ballast, rest)
        status, said = run(made[name](out, n + 1))
        left = os.statvfs(folder)
        ballast.unlink()
        tell(name, status, said, verdict(out, before, n + 1), free=left.f_bavail, rest=rest)


def fill(ballast: Path, rest: int) -> None:
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
    with ballast.open("r+b") as stream:
        stream.truncate(max(0, ballast.stat().st_size - rest))


def tell(name: str, status: int, said: str, found: str, **more: object) -> None:
    line = {"command": name, "status": status, "said": said, "found": found, **more}
    print(json.dumps(line), file=sys.__stdout__, flush=True)


def circles(models: list, settings: object) -> list:
    from tests.cli import scans

    return scans.circles(models, settings)


if __name__ == "__main__":
    what, where, count, seed, *names = sys.argv[1:]
    if what in ("stop", "pipe", "full"):
        from aistat_jax import case

        case._fit = circles
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        kinds = {"stop": stop, "pipe": pipe, "full": full, "write": write, "save": save}
        kinds[what](Path(where), int(count), int(seed), names)
