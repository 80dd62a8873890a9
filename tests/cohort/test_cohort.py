"""Is every case contoured once, whatever is damaged, killed, full or changed meanwhile?"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case
from aistat_jax._files import HIDDEN, sole_run
from aistat_jax.cli import main
from aistat_jax.cohort import workers
from aistat_jax.cohort.task import Task, contour_task, is_done
from aistat_jax.cohort.workers import LocalWorkers, worker_environment
from aistat_jax.data.phantoms import pet_ct_phantom
from tests.cli import scans
from tests.cli.datasets import save
from tests.cli.test_ends import disk  # noqa: F401
from tests.ends import fill

pytest.importorskip("distributed", reason="needs the extra: pip install 'aistat_jax[cohort]'")

from tests.cohort.phantoms import QUICK, Here, Spawned, done, results, workers_of, write_cases

ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg", "PYTHONPATH": os.getcwd()}


def begin(manifest: Path, out: Path, *more: str) -> subprocess.Popen:
    arguments = ["cohort", str(manifest), "--out", str(out), *QUICK, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "aistat_jax.cli", *arguments], env=os.environ | ENVIRONMENT,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(manifest: Path, out: Path, *more: str) -> tuple[int, str, str]:
    process = begin(manifest, out, *more)
    try:
        said, complained = process.communicate(timeout=550)
    except subprocess.TimeoutExpired as late:
        process.kill()
        said, complained = process.communicate()
        raise AssertionError(f"still at work after 550 s:\n{said}\n{complained}") from late
    return process.returncode, said, complained


def contents(out: Path) -> dict[str, int]:
    """When what was found in a case was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("cases/*/summary.json")}


def damage(manifest: Path, *names: str) -> None:
    """Cut files short, in the middle of what gzip has packed."""
    for name in names:
        path = manifest.parent / "images" / f"{name}.nii.gz"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wait_for(out: Path, count: int, process: subprocess.Popen, timeout_s: float = 300.0) -> None:
    """Until that many cases are there; or the run is over."""
    end = time.monotonic() + timeout_s
    while len(done(out)) < count and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def here(monkeypatch):
    """`aistat cohort` in this process, with fits that are circles."""
    monkeypatch.setattr(case, "_fit", scans.circles)
    monkeypatch.setattr(workers, "LocalWorkers", Here)

    def cohort(manifest: Path, out: Path, *more: str) -> int:
        return main(["cohort", str(manifest), "--out", str(out), *QUICK, *more])

    return cohort


def test_what_is_damaged_is_listed_and_the_rest_goes_on(here, tmp_path, capsys):
    import pandas as pd

    manifest, out = write_cases(tmp_path / "data", 5), tmp_path / "out"
    damage(manifest, "P001", "P003")
    assert here(manifest, out) == 1
    said, complained = capsys.readouterr()
    assert "3 cases contoured, 0 kept, 2 failed" in said
    assert "2 of 5 cases failed (P001, P003); report.html and cases.csv in" in complained
    assert "aistat: P003: " in complained
    assert done(out) == {"P000", "P002", "P004"}
    table = pd.read_csv(out / "cases.csv")
    assert table["case"].tolist() == [f"P{n:03d}" for n in range(5)]
    bad = table[table["state"] == "failed"]
    assert bad["case"].tolist() == ["P001", "P003"]
    assert not any(
        str(tmp_path) in (out / name).read_text() for name in ("cases.csv", "report.html")
    )
    assert all("nii.gz: " in sentence for sentence in bad["sentence"])
    assert pd.read_parquet(out / "targets.parquet")["case"].nunique() == 3
    page = (out / "report.html").read_text()
    assert "3 of 5 cases are done, 2 failed" in page
    assert json.loads((out / "cohort.json").read_text())["failed"] == 2
    assert not list(out.rglob(f"{HIDDEN}*"))


def test_a_rerun_does_only_what_is_missing_or_changed(here, tmp_path, capsys):
    manifest, out = write_cases(tmp_path / "data", 6), tmp_path / "out"
    images = manifest.parent / "images"
    sound = (images / "P003.nii.gz").read_bytes()
    damage(manifest, "P003")
    assert here(manifest, out) == 1
    before, wanted = contents(out), results(out)
    (images / "P003.nii.gz").write_bytes(sound)
    shutil.copy(images / "P001.nii.gz", images / "P000.nii.gz")
    os.utime(images / "P002.nii.gz")  # touched, and the same
    shutil.rmtree(out / "cases" / "P004")
    (out / "cases" / "P005" / "contours.csv").unlink()
    capsys.readouterr()
    assert here(manifest, out) == 0
    said = capsys.readouterr().out
    assert "1 of 6 cases are there already and are kept" in said  # P001
    assert "4 cases contoured, 2 kept, 0 failed" in said  # P002 is the same by its contents
    now = contents(out)
    fresh = {name for name in now if before.get(name) != now[name]}
    assert fresh == {"P000", "P003", "P004", "P005"}
    found = results(out)
    assert found["cases/P004/posterior.nc"] == wanted["cases/P004/posterior.nc"]
    assert found["cases/P000/posterior.nc"] != wanted["cases/P000/posterior.nc"]
    assert here(manifest, out) == 0
    assert "0 cases contoured, 6 kept, 0 failed" in capsys.readouterr().out
    assert contents(out) == now
    assert here(manifest, out, "--seed", "1") == 0
    assert "6 cases contoured, 0 kept, 0 failed" in capsys.readouterr().out


def test_another_cohort_is_not_written_over_it(here, tmp_path, capsys):
    manifest, out = write_cases(tmp_path / "data", 2), tmp_path / "out"
    assert here(manifest, out) == 0
    wanted = results(out)
    other = shutil.copytree(manifest.parent, tmp_path / "other") / "manifest.csv"
    capsys.readouterr()
    assert here(other, out) == 2
    sentence = "the folder holds results of another manifest.csv; choose another folder with --out"
    assert sentence in capsys.readouterr().err
    assert results(out) == wanted
    with sole_run(out, "cases"):
        assert here(manifest, out) == 2
    assert "another run is writing there" in capsys.readouterr().err
    assert here(manifest, out) == 0


def test_a_full_disk_is_told_and_the_rerun_goes_on(here, tmp_path, capsys, disk):  # noqa: F811
    manifest, folder = write_cases(tmp_path / "data", 5), disk("2m")
    out, ballast = folder / "out", folder / "ballast"
    fill(ballast, 450_000)
    assert here(manifest, out) == 1
    complained = capsys.readouterr().err
    there = done(out)
    assert 0 < len(there) < 5
    assert complained == (
        f"aistat: {out}: no space left on device; {len(there)} of 5 cases are whole in {out}\n"
    )
    assert not list(folder.rglob(f"{HIDDEN}*"))
    for name in there:
        assert {"case.json", "posterior.nc"} <= {p.name for p in (out / "cases" / name).iterdir()}
    ballast.unlink()
    assert here(manifest, out) == 0
    assert f"{5 - len(there)} cases contoured, {len(there)} kept" in capsys.readouterr().out
    assert here(manifest, tmp_path / "wanted") == 0
    assert results(out) == results(tmp_path / "wanted")


def write_hecktor(folder: Path, name: str, seed: int) -> None:
    """PET and CT on grids of their own, and a label map on the CT's."""
    phantom = pet_ct_phantom(
        seed, dims=3, shape=(24, 24, 3), spacing_mm=(4.0, 4.0, 4.0), ct_spacing_mm=2.0,
        radius_mm=20.0, amplitude=0.1,
    )  # fmt: skip
    pet, ct = phantom.image["PT"], phantom.image["CT"]
    voxels = np.stack(np.meshgrid(*map(np.arange, ct.grid.shape), indexing="ij"), axis=-1)
    away = np.linalg.norm(ct.grid.to_world(voxels.reshape(-1, 3)) - phantom.centre, axis=1)
    labels = (away < 18.0).reshape(ct.grid.shape).astype(np.uint8)
    labels[:2, :2] = 2
    save(folder / "imagesTr" / f"{name}__PT.nii.gz", pet.values, pet.grid.affine)
    save(folder / "imagesTr" / f"{name}__CT.nii.gz", ct.values, ct.grid.affine)
    save(folder / "labelsTr" / f"{name}.nii.gz", labels, ct.grid.affine)


def test_a_folder_of_a_known_layout_is_a_cohort(here, tmp_path, capsys):
    folder, out = tmp_path / "hecktor", tmp_path / "out"
    for seed, name in enumerate(("CHUM-001", "CHUS-002")):
        write_hecktor(folder, name, seed)
    assert here(folder, out) == 2
    assert (
        "what to contour in each case is not said; pass --threshold, --net or --target-label"
        in (capsys.readouterr().err)
    )
    labels = "--target-label", "GTVp", "--reference-label", "GTVp"
    assert main(["cohort", str(folder), "--out", str(out), "--draws", "100", "--no-pictures",
                 "--slices", "1", *labels]) == 0  # fmt: skip
    assert done(out) == {"CHUM-001", "CHUS-002"}
    summary = json.loads((out / "cases/CHUM-001/summary.json").read_text())
    assert {target["channel"] for target in summary["targets"]} == {"CT"}  # where it was drawn
    assert summary["reference"]["dice"] > 0.3
    # the PET alone, from a threshold: drawn on the CT, compared there
    options = "--threshold", "2.5", "--channel", "PT", "--reference-label", "GTVp"
    assert main(["cohort", str(folder), "--out", str(tmp_path / "pet"), "--draws", "100",
                 "--no-pictures", "--slices", "1", *options]) == 0  # fmt: skip
    summary = json.loads((tmp_path / "pet/cases/CHUM-001/summary.json").read_text())
    assert {target["channel"] for target in summary["targets"]} == {"PT"}
    assert main(["cohort", str(folder), "--out", str(tmp_path / "x"), "--target-label", "GTV"]) == 2
    assert "there is no label GTV in case CHUM-001; choose one of GTVp, GTVn" in (
        capsys.readouterr().err
    )
    for options, sentence in (
        (("--net", "lesion-pet-3d"), "pass a manifest's point, and neither --target-label,"),
        ((*labels[:2], "--threshold", "2"), "pass one of a manifest's point, --target-label, --th"),
        (labels[:2], "--slices of the point need a point; write all, or slice numbers"),
    ):
        assert here(folder, tmp_path / "x", *options) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert "`" not in said
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_meant_is_refused_before_anything_is_written(here, tmp_path, capsys):
    manifest, out = write_cases(tmp_path / "data", 1), tmp_path / "out"
    for options, sentence in (
        (
            ("--threshold", "2", "--net", "lesion-pet-2d"),
            "net finds the target itself; drop threshold",
        ),
        (("--target-label", "1"), "--target-label names a label of a folder's layout"),
        (("--workers", "0"), "--workers must be at least 1"),
        (("--memory-gib", "-1"), "--memory-gib -1 must be a positive number"),
        (("--slurm",), "--slurm needs --workers and --memory-gib"),
        (("--scheduler", "tcp://127.0.0.1:1", "--workers", "2"), "--workers means nothing"),
        (("--scheduler", "tcp://127.0.0.1:1"), "no Dask scheduler answers there"),
    ):
        assert here(manifest, out, *options) == 2, options
        assert sentence in capsys.readouterr().err
        assert not out.exists()


def test_without_dask_the_extra_is_named(here, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert here(write_cases(tmp_path / "data", 1), tmp_path / "out") == 2
    assert "pip install 'aistat_jax[cohort]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_settings_are_another_result(here, tmp_path):
    from dataclasses import replace

    from aistat_jax.cohort.manifest import read_manifest

    manifest = write_cases(tmp_path / "data", 1)
    (one,) = read_manifest(manifest, {"slices": "point"}, aj.Settings(draws=100))
    task = Task(one, tmp_path / "out" / "P000", pictures=False)
    assert not is_done(task)
    assert contour_task(task).state == "done"
    assert is_done(task)
    assert contour_task(task).state == "kept"
    for settings in ({"seed": 1}, {"draws": 200}, {"tolerance_mm": 1.0}):
        other = replace(one, settings=replace(one.settings, **settings))
        assert not is_done(replace(task, case=other))
    assert not is_done(replace(task, case=replace(one, options={**one.options, "chart": "auto"})))
    assert not is_done(replace(task, pictures=True))
    # a file that cannot be read for now costs no results
    image = manifest.parent / "images" / "P000.nii.gz"
    image.rename(tmp_path / "away")
    outcome = contour_task(task)
    assert outcome.state == "failed"
    assert (task.out / "summary.json").is_file()
    (tmp_path / "away").rename(image)
    assert contour_task(task).state == "kept"
    # what fails takes the place of what was there from other files
    damage(manifest, "P000")
    outcome = contour_task(task)
    assert outcome.state == "failed"
    assert "P000.nii.gz" in outcome.sentence
    assert {path.name for path in task.out.iterdir()} == {"case.json", "aistat.json"}
    assert json.loads((task.out / "case.json").read_text())["sentence"] == outcome.sentence


def test_somebody_elses_files_are_left_alone(here, tmp_path):
    from aistat_jax.cohort.manifest import read_manifest

    manifest = write_cases(tmp_path / "data", 1)
    (one,) = read_manifest(manifest, {"slices": "point"}, aj.Settings(draws=100))
    out = tmp_path / "out" / "P000"
    out.mkdir(parents=True)
    (out / "summary.json").write_text("mine")
    outcome = contour_task(Task(one, out, pictures=False))
    assert outcome.state == "failed"
    assert "summary.json there is not from an earlier run" in outcome.sentence
    assert (out / "summary.json").read_text() == "mine"
    # the whole cohort lists it too
    folder = tmp_path / "whole"
    shutil.copytree(out, folder / "cases" / "P000")
    found = aj.contour_cohort([one], folder, workers=Here(), pictures=False)
    assert found.failed == (("P000", outcome.sentence),)
    assert "summary.json there is not from an earlier run" in (folder / "cases.csv").read_text()
    assert (folder / "cases" / "P000" / "summary.json").read_text() == "mine"
    with pytest.raises(aj.InputError, match="case P000: image PT: there is no none"):
        aj.contour_cohort([aj.CohortCase("P000", {"PT": Path("none")})], folder, workers=Here())


# ------------------------------------------------------------------------- killed, and full disks


def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    """By a process that is ended hard at its work; its case is done by the next one."""
    manifest = write_cases(tmp_path / "data", 4)
    options: dict[str, Any] = {
        "settings": aj.Settings(draws=100), "slices": "point", "pictures": False,
        "workers": Spawned(),
    }  # fmt: skip
    killed = []

    def kill(outcome: object, whole: int, cases: int) -> None:
        if whole == 1:
            killed.extend(workers_of(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)

    found = aj.contour_cohort(manifest, tmp_path / "out", progress=kill, **options)
    assert killed
    assert (len(found.done), found.failed) == (4, ())
    assert done(tmp_path / "out") == set(found.done)
    again = aj.contour_cohort(manifest, tmp_path / "out", **options)  # hires nobody
    assert [each.state for each in again.outcomes] == ["kept"] * 4


def killed_and_gone_on_with(folder: Path, cases: int, whole: int, seed: int) -> None:
    """Workers and whole runs killed at random; then all is what it would have been."""
    draw = random.Random(seed)
    manifest, out = write_cases(folder / "data", cases), folder / "out"
    assert run(manifest, folder / "wanted")[0] == 0
    for _ in range(whole):
        process = begin(manifest, out)
        wait_for(out, len(done(out)) + 1, process)
        for pid in workers_of(process.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(out, len(done(out)) + draw.randint(1, 3), process)
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        process.communicate()
        for path in out.glob("cases/[!.]*"):
            assert (path / "case.json").is_file()
    time.sleep(1.0)  # for workers to notice
    status, _, complained = run(manifest, out)
    assert (status, complained) == (0, "")
    assert len(done(out)) == cases
    found = results(out)
    assert found == results(folder / "wanted")
    damaged = next(out.glob("cases/*/contours.csv"))
    damaged.write_text("x")
    assert results(out) != found  # the negative control


@pytest.mark.slow
def test_killed_hard_again_and_again_it_is_gone_on_with(tmp_path):
    killed_and_gone_on_with(tmp_path, 24, 3, 7)


@pytest.mark.slow
def test_a_worker_that_takes_too_much_memory_is_ended(tmp_path):
    """Less than it takes to begin: the case is listed, and the run ends."""
    manifest = write_cases(tmp_path / "data", 1)
    found = aj.contour_cohort(
        manifest, tmp_path / "out", slices="point", workers=aj.LocalWorkers(1, 0.25)
    )
    ((name, sentence),) = found.failed
    assert name == "P000"
    assert "its worker ended each time that it was tried" in sentence
    assert "memory of 0.2 GiB" in sentence
    assert (found.folder("P000") / "case.json").is_file()


@pytest.mark.slow
def test_stopped_it_says_what_is_whole_and_leaves_no_process(tmp_path):
    manifest, out = write_cases(tmp_path / "data", 40), tmp_path / "out"
    process = begin(manifest, out)
    wait_for(out, 6, process)  # of which the run has heard of some
    pids = workers_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 143
    assert re.fullmatch(rf"aistat: stopped; \d+ of 40 cases are whole in {out}\n", complained)
    assert pids
    time.sleep(1.0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def faults(times: int = 200) -> int:
    """Pages that memory of a megabyte costs, taken and freed again and again."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(1 << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's memory")
def test_a_worker_keeps_the_memory_that_it_frees():
    with LocalWorkers(1).hired(1) as crew:
        assert crew.client.submit(faults).result(timeout=60) < 2000
    # negative control: as Dask has it, all pages are new every time
    script = "from tests.cohort.test_cohort import faults; print(faults())"
    environment = os.environ | ENVIRONMENT | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40_000


@pytest.mark.slow
def test_workers_of_a_scheduler_elsewhere(tmp_path):
    """Scheduler and workers in processes of their own, as on other computers."""
    manifest, out = write_cases(tmp_path / "data", 6), tmp_path / "out"
    port, running = free_port(), []
    address = f"tcp://127.0.0.1:{port}"
    environment = os.environ | ENVIRONMENT | worker_environment()
    programs = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    programs += [["worker", address, "--nthreads", "1", "--no-dashboard", "--memory-limit", "3GiB",
                  "--local-directory", str(tmp_path / str(n))] for n in range(2)]  # fmt: skip
    try:
        for program in programs:
            command = [sys.executable, "-m", "dask", *program]
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        time.sleep(8.0)
        status, said, complained = run(manifest, out, "--scheduler", address)
        assert (status, complained) == (0, "")
        assert f"2 workers of the scheduler {address}, at most 3.0 GiB each" in said
        assert len(done(out)) == 6
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


SBATCH = """#!/bin/sh
# Stands in for SLURM: the script that it is given runs at once, on this computer; a copy of it,
# as the file is deleted when sbatch has answered.
for last; do :; done
cp "$last" "$HOME/job.sh"
sh "$HOME/job.sh" >"$HOME/job.log" 2>&1 &
echo $! >"$HOME/pid"
echo "Submitted batch job 1"
"""


@pytest.mark.slow
def test_slurm_is_given_jobs_that_contour(tmp_path, monkeypatch):
    """By a stand-in for sbatch, which runs what it is given; SLURM itself is not here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill $(cat "$HOME/pid")\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "none"))
    manifest, out = write_cases(tmp_path / "data", 2), tmp_path / "out"
    more = "--slurm", "--workers", "1", "--memory-gib", "3"
    status, said, complained = run(manifest, out, *more)
    assert (status, complained) == (0, "")
    assert "1 jobs of SLURM, one core and 3 GiB each" in said
    assert len(done(out)) == 2
    script = (tmp_path / "job.sh").read_text()
    assert "#SBATCH --mem=3G" in script
    assert "export OMP_NUM_THREADS='1'" in script
    assert "export JAX_COMPILATION_CACHE_DIR=" in script
    assert "--nthreads 1" in script


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
