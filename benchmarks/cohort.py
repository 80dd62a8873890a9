"""What does a cohort cost beside a plain loop, and is every case there once, whatever is killed?

Small synthetic PETs, one contour each from a point. The plain loop does the same cases one after
another in one process with the same files; two such loops at once, each of half of the cases, know
nothing of one another: what they reach is what the two cores have. All run on the same two cores,
in turns of ten seconds, so that all meet the same machine; the load before is kept.
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
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._table import Result, Row
from tests.cohort.phantoms import done, results, workers_of, write_cases

CASES, FEW, MANY, DAMAGED, KILLS = 200, 20, 400, 5, 20
DRAWS = 200
HOWS, TURN = ("loop", "cohort", "loops"), 10.0  # seconds: each in turn, the others stopped
TITLES = {
    "throughput": "Cohorts: throughput beside a plain loop",
    "scale": "Cohorts: cost a case as they grow",
    "damaged": "Cohorts: damaged inputs",
    "killed": "Cohorts: kills",
}


def run(quick: bool, scenario: str) -> Result:
    cases, few, many, damaged, kills = (
        (12, 4, 12, 2, 2) if quick else (CASES, FEW, MANY, DAMAGED, KILLS)
    )
    details: list[dict[str, Any]] = []
    notes = [
        f"Phantoms of 24 x 24 x 3 voxels, {DRAWS} draws, the slice of the point alone. Two workers "
        "of one thread each; compiled programs come from a cache on disk in every process."
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if scenario == "throughput":
            rows = _throughput(folder, cases, details)
            notes.append("Seconds by the clock are with starting and ending the workers.")
        elif scenario == "scale":
            rows = _scale(folder, few, many, details)
            notes.append("Without figure.png and report.html, which take most of a small case.")
        elif scenario == "damaged":
            rows = _damaged(folder, cases, damaged)
        else:
            rows = _killed(folder, 16 if quick else 60, kills)
            notes.append(
                "Half of the kills are of a worker, half of the whole run, SIGKILL at random "
                "moments; then the same command once more, and every draw, table, contour and "
                "probability map is compared with those of a run that nothing happened to."
            )
    return Result(TITLES[scenario], rows, notes, details)


# ------------------------------------------------------------------------------------ throughput


def _throughput(folder: Path, cases: int, details: list[dict[str, Any]]) -> list[Row]:
    """The same cases by a plain loop, by a cohort, and by two loops at once.

    What they compile is in the cache before.
    """
    warm, manifest = write_cases(folder / "warm", 2), write_cases(folder, cases, cases)
    for how in HOWS[:2]:
        _timed(how, warm, folder / "warm" / how)
    load = os.getloadavg()[0]
    walls, cpus = _in_turns(manifest, folder)
    for how in HOWS:
        done_by = len(list((folder / how).rglob("summary.json")))
        details.append({"what": how, "cases": cases, "seconds": walls[how],
                        "processor's s": cpus[how], "done": done_by,
                        "load before": load})  # fmt: skip
        if done_by != cases:
            raise RuntimeError(f"of {cases} cases the {how} did {done_by}")
    return [
        Row("throughput beside a plain loop", walls["loop"] / walls["cohort"], "times",
            at_least=1.7, note=f"{cases} cases each"),
        Row("two plain loops at once beside one", walls["loop"] / walls["loops"], "times",
            note="what these cores have to give"),
        Row("a case in the plain loop", walls["loop"] / cases, "s"),
        Row("a case in the cohort", walls["cohort"] / cases, "s"),
        Row("processor's seconds a case, loop", cpus["loop"] / cases, "s"),
        Row("processor's seconds a case, cohort", cpus["cohort"] / cases, "s"),
        Row("processor's seconds a case, two loops", cpus["loops"] / cases, "s"),
    ]  # fmt: skip


def _in_turns(manifest: Path, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by the clock, and of the processor, of each; in the turns of others it is stopped."""
    walls, cpus, running = dict.fromkeys(HOWS, 0.0), dict.fromkeys(HOWS, 0.0), {}
    for how in HOWS:
        running[how] = _begun(how, manifest, folder / how, quiet=True)
        os.killpg(running[how].pid, signal.SIGSTOP)
    try:
        while running:
            for how, process in list(running.items()):
                start = time.perf_counter()
                os.killpg(process.pid, signal.SIGCONT)
                status, spent = _ended(process.pid, start + TURN)
                walls[how] += time.perf_counter() - start
                if status is None:
                    os.killpg(process.pid, signal.SIGSTOP)
                    continue
                del running[how]
                cpus[how] = spent
                if status != 0:
                    raise RuntimeError(f"the {how} ended with status {status}")
    finally:
        for process in running.values():
            os.killpg(process.pid, signal.SIGKILL)
    return walls, cpus


def _ended(pid: int, until: float) -> tuple[int | None, float]:
    """The exit status of a process, None if it goes on; and what it and its children have taken."""
    while time.perf_counter() < until:
        gone, status, usage = os.wait4(pid, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        time.sleep(0.02)
    return None, 0.0


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


def loop(manifest: Path, out: Path, part: int = 0, parts: int = 1) -> None:
    """What a person would write without this engine: every `parts`-th case, from that of `part`."""
    import aistat_jax as aj

    with manifest.open(newline="", encoding="utf-8") as stream:
        for row in list(csv.DictReader(stream))[part::parts]:
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
    names = {f"P{n:03d}" for n in random.Random(1).sample(range(cases), damaged)}
    for name in names:
        path = folder / "images" / f"{name}.nii.gz"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, status, _ = _finished("cohort", manifest, folder / "out", "--no-pictures")
    with (folder / "out" / "cases.csv").open(newline="", encoding="utf-8") as stream:
        states = {row["case"]: row["state"] for row in csv.DictReader(stream)}
    whole = [name for name in done(folder / "out") if states[name] == "done"]
    listed = [name for name in states if states[name] == "failed" and name in names]
    sound = cases - damaged
    return [
        Row(f"done, of {cases} with {damaged} damaged", len(whole), "", sound, sound),
        Row("of the damaged, listed as failed", len(listed), "", damaged, damaged),
        Row("exit status of the run", status, "", 1, 1),
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


def _begun(
    how: str, manifest: Path, out: Path, *more: str, quiet: bool = False
) -> subprocess.Popen:
    """A process, and what it says; or if `quiet` one with a group of its own that says nothing."""
    command = [sys.executable, "-m", "benchmarks.cohort", how, str(manifest), str(out)]
    if how == "cohort":
        command = [sys.executable, "-m", "aistat_jax.cli", "cohort", str(manifest), "--out"]
        command += [str(out), "--draws", str(DRAWS), "--slices", "point", "--workers", "2", *more]
    kept = {"MPLBACKEND": "Agg", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05"}
    cache = os.path.join(tempfile.gettempdir(), "aistat-benchmark-cache")
    said = subprocess.DEVNULL if quiet else subprocess.PIPE
    return subprocess.Popen(
        command, env={"JAX_COMPILATION_CACHE_DIR": cache, **os.environ, **kept}, text=True,
        stdout=said, stderr=said, process_group=0 if quiet else None,
    )  # fmt: skip


def _finished(how: str, manifest: Path, out: Path, *more: str) -> tuple[str, int, str]:
    process = _begun(how, manifest, out, *more)
    said, complained = process.communicate()
    return said, process.returncode, complained


def loops(manifest: Path, out: Path) -> None:
    """Two loops in two processes that know nothing of one another."""
    spawn = get_context("spawn")
    halves = [spawn.Process(target=loop, args=(manifest, out, part, 2)) for part in range(2)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()
    sys.exit(any(half.exitcode for half in halves))


if __name__ == "__main__":
    {"loop": loop, "loops": loops}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
