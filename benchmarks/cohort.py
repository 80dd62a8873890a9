"""What does a cohort cost beside a plain loop, and is every case there once, whatever is killed?

Small synthetic PETs, one contour each from a point. The plain loop does the same cases one after
another in one process with the same files. Both run on the same cores; with others at work there,
they are timed by turns, and the processor's seconds are the ones to compare.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._table import Result, Row
from tests.cohort.phantoms import done, results, workers_of, write_cases

CASES, FEW, MANY, DAMAGED, KILLS = 200, 20, 400, 5, 20
DRAWS = 200


def run(quick: bool) -> Result:
    cases, few, many, damaged, kills = (
        (12, 4, 12, 2, 2) if quick else (CASES, FEW, MANY, DAMAGED, KILLS)
    )
    details: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = _throughput(root / "throughput", cases, 3 if quick else 2, details)
        rows += _scale(root / "scale", few, many, details)
        rows += _damaged(root / "damaged", cases, damaged)
        rows += _killed(root / "killed", 16 if quick else 60, kills)
    notes = [
        f"Phantoms of 24 x 24 x 3 voxels, {DRAWS} draws, the slice of the point alone. Two workers "
        "of one thread each; compiled programs come from a cache on disk in every process. "
        "Seconds by the clock are with starting and ending the workers.",
        "Without pictures: without figure.png and report.html, which take most of a small case.",
        "Killed: half of the kills are of a worker, half of the whole run, SIGKILL at random "
        "moments; then the same command once more, and every draw, table, contour and probability "
        "map is compared with those of a run that nothing happened to.",
    ]
    return Result("Cohorts: throughput, scale and kills", rows, notes, details)


# ------------------------------------------------------------------------------------ throughput


def _throughput(folder: Path, cases: int, turns: int, details: list[dict[str, Any]]) -> list[Row]:
    """The same cases by a plain loop and by a cohort, in turns of equal size."""
    found: dict[str, list[tuple[float, float, int]]] = {"loop": [], "cohort": []}
    share = cases // turns
    warm = write_cases(folder / "warm", 2)
    for how in found:
        _timed(how, warm, folder / "warm" / how)
    for turn in range(turns):
        manifest = write_cases(folder / str(turn), share, share, first=turn * share)
        for how in found:
            load = os.getloadavg()[0]
            wall, cpu, there = _timed(how, manifest, folder / str(turn) / how)
            found[how].append((wall, cpu, there))
            details.append({"what": how, "cases": share, "seconds": wall, "processor's s": cpu,
                            "done": there, "load at its start": load})  # fmt: skip
    walls, cpus, counts = (
        {how: sum(each[n] for each in timed) for how, timed in found.items()} for n in range(3)
    )
    return [
        Row("throughput beside a plain loop", walls["loop"] / walls["cohort"], "times",
            at_least=1.7, note=f"{counts['cohort']} cases each"),
        Row("a case in the plain loop", walls["loop"] / counts["loop"], "s"),
        Row("a case in the cohort", walls["cohort"] / counts["cohort"], "s"),
        Row("processor's seconds a case, loop", cpus["loop"] / counts["loop"], "s"),
        Row("processor's seconds a case, cohort", cpus["cohort"] / counts["cohort"], "s"),
    ]  # fmt: skip


def _timed(how: str, manifest: Path, out: Path, *more: str) -> tuple[float, float, int]:
    """Seconds by the clock and of the processor, and how many cases are done, in a new process."""
    before, start = os.times(), time.perf_counter()
    _, status, said = _finished(how, manifest, out, *more)
    wall, after = time.perf_counter() - start, os.times()
    if status != 0:
        raise RuntimeError(said)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return wall, cpu, len(list(out.rglob("summary.json")))


def loop(manifest: Path, out: Path) -> None:
    """What a person would write without this engine."""
    import aistat_jax as aj

    with manifest.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            case = aj.contour(
                manifest.parent / row["PT"], point_mm=[float(x) for x in row["point"].split()],
                slices="point", settings=aj.Settings(draws=DRAWS), title=row["id"],
            )  # fmt: skip
            aj.write_case(out / row["id"], case)


# ------------------------------------------------------------------------------------ scale


def _scale(folder: Path, few: int, many: int, details: list[dict[str, Any]]) -> list[Row]:
    """Cost a case as cohorts grow, and the memory of workers, without pictures."""
    rows, cost = [], {}
    for cases in (few, many):
        manifest = write_cases(folder / str(cases), cases, cases)
        out = folder / str(cases) / "out"
        load = os.getloadavg()[0]
        wall, cpu, there = _timed("cohort", manifest, out, "--no-pictures")
        spent = _processor_seconds(out)
        late = spent[len(spent) // 2 :]
        cost[cases] = float(np.median(late))
        row = {"what": "cohort without pictures", "cases": cases, "seconds": wall}
        details.append(row | {"processor's s": cpu, "done": there, "load at its start": load})
        rows.append(Row(f"a case of {cases} without pictures", wall / cases, "s",
                        note=f"{cost[cases]:.3g} s of the processor, later half"))  # fmt: skip
    growth = cost[many] / cost[few]
    rows.append(
        Row(f"processor's cost a case, {many} cases over {few}", growth, "times", at_most=1.2)
    )
    return rows


def _processor_seconds(out: Path) -> list[float]:
    """What each case took of its worker, in the order in which they were done."""
    import json

    paths = sorted(out.glob("cases/*/case.json"), key=lambda path: path.stat().st_mtime)
    return [json.loads(path.read_text())["processor_seconds"] for path in paths]


# ------------------------------------------------------------------------------------ damage


def _damaged(folder: Path, cases: int, damaged: int) -> list[Row]:
    manifest = write_cases(folder, cases)
    for n in random.Random(1).sample(range(cases), damaged):
        path = folder / "images" / f"P{n:03d}.nii.gz"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _finished("cohort", manifest, folder / "out", "--no-pictures")
    with (folder / "out" / "cases.csv").open(newline="", encoding="utf-8") as stream:
        states = [row["state"] for row in csv.DictReader(stream)]
    sound = cases - damaged
    return [
        Row(f"done, of {cases} with {damaged} damaged", states.count("done"), "", sound, sound),
        Row("listed as failed", states.count("failed"), "", damaged, damaged),
    ]


# ------------------------------------------------------------------------------------ kills


def _killed(folder: Path, cases: int, kills: int) -> list[Row]:
    draw = random.Random(2)
    manifest, out = write_cases(folder, cases), folder / "out"
    _finished("cohort", manifest, folder / "wanted", "--no-pictures")
    wanted = results(folder / "wanted")
    killed = same = rounds = 0
    while killed < kills:
        shutil.rmtree(out, ignore_errors=True)
        rounds += 1
        while killed < kills and len(done(out)) < cases:
            process = _begun("cohort", manifest, out, "--no-pictures")
            _wait(out, len(done(out)) + 1, process)
            for whole in (False, True):
                time.sleep(draw.uniform(0, 1))
                pids = [process.pid] if whole else workers_of(process.pid)
                if pids and process.poll() is None:
                    os.kill(draw.choice(pids), signal.SIGKILL)
                    killed += 1
            process.kill()
            process.communicate()
        time.sleep(1.0)  # for workers to notice that they are alone
        _finished("cohort", manifest, out, "--no-pictures")
        same += len(done(out)) == cases and results(out) == wanted
    return [
        Row("kills, of workers and of whole runs", killed, "", at_least=kills),
        Row("reruns that ended as an undisturbed run", same, "", rounds, rounds,
            note=f"{cases} cases"),
    ]  # fmt: skip


def _wait(out: Path, count: int, process: subprocess.Popen) -> None:
    while len(done(out)) < count and process.poll() is None:
        time.sleep(0.02)


# ------------------------------------------------------------------------------------ processes


def _begun(how: str, manifest: Path, out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.cohort", "loop", str(manifest), str(out)]
    if how == "cohort":
        command = [sys.executable, "-m", "aistat_jax.cli", "cohort", str(manifest), "--out"]
        command += [str(out), "--draws", str(DRAWS), "--slices", "point", "--workers", "2", *more]
    kept = {"MPLBACKEND": "Agg", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05"}
    cache = os.path.join(tempfile.gettempdir(), "aistat-benchmark-cache")
    return subprocess.Popen(
        command, env={"JAX_COMPILATION_CACHE_DIR": cache, **os.environ, **kept}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _finished(how: str, manifest: Path, out: Path, *more: str) -> tuple[str, int, str]:
    process = _begun(how, manifest, out, *more)
    said, complained = process.communicate()
    return said, process.returncode, complained


if __name__ == "__main__":
    loop(Path(sys.argv[2]), Path(sys.argv[3]))
