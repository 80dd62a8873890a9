"""Is nothing lost when a command is stopped, the disk is full, or nobody listens?"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from aistat_jax._files import HIDDEN, OLD_FOLDER_S
from tests.cli.datasets import write_balls
from tests.ends import inputs, verdict, whole

QUIET = {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg"}


LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def started(*arguments: str, **more) -> subprocess.Popen:
    """A Python that answers to Ctrl-C, which what runs in the background of a shell does not."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()} | QUIET
    command = [sys.executable, "-c", LISTENING, *arguments]
    return subprocess.Popen(command, env=environment, text=True, **more)


def stopped(process: subprocess.Popen, kind: signal.Signals) -> str:
    """What a process says whose end is asked for as a person would: again, if it goes on.

    Python drops a KeyboardInterrupt that comes while it calls the function of a weak reference.
    """
    try:
        for _ in range(5):
            process.send_signal(kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.communicate()
    pytest.fail(f"{kind.name} did not end it")


def ends(kind: str, folder: Path, count: int, *names: str, seed: int = 1) -> list[dict]:
    """What became of `count` commands that ended as `kind` says."""
    arguments = ["-m", "tests.ends", kind, str(folder), str(count), str(seed), *names]
    process = started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=550)
    assert process.returncode == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == count
    return found


def check(found: list[dict]) -> Counter:
    """Old results or new ones, all of them, with the status and the sentence that go with it."""
    for one in found:
        assert one["found"] in ("old", "new"), one
        sentences = one["said"].splitlines()
        if one["status"] == 0:
            assert (one["found"], sentences) == ("new", []), one
            continue
        (sentence,) = sentences
        assert re.fullmatch(r"aistat: .*(whole in|are whole|was written).*", sentence), one
        assert HIDDEN not in sentence
        stops = {128 + one["signal"]} if "signal" in one else {1}
        assert one["status"] in stops, one
        if one["found"] == "new":
            assert "nothing was written" not in sentence, one
    return Counter((one["found"], one["status"]) for one in found)


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk."""
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_what_is_half_is_told_from_what_is_whole(tmp_path):
    """The negative control of all that follows."""
    out = tmp_path / "out"
    out.mkdir()
    record = {"runs": [{"command": "evaluate", "files": ["scores.json", "scores.csv"]}]}
    (out / "aistat.json").write_text(json.dumps(record))
    (out / "scores.json").write_text('{"seed": 3}')
    assert verdict(out, whole(out), 3).startswith("old")
    assert verdict(out, {}, 3).startswith("files")
    (out / "scores.csv").touch()
    assert verdict(out, {}, 3) == "new"
    assert verdict(out, {}, 4) == "mixed"
    (tmp_path / f"{HIDDEN}0123456789ab").mkdir()
    assert verdict(out, whole(out), 3).startswith("hidden")
    fine = {"command": "evaluate", "status": 143, "signal": 15, "found": "old",
            "said": "aistat: stopped; nothing was written\n"}  # fmt: skip
    check([fine])
    wrong = {"status": 0, "found": "mixed", "said": ""}, {"said": "aistat: stopped"}, {"status": 1}
    for change in (*wrong, {"found": "new"}):
        with pytest.raises(AssertionError):
            check([fine | change])


def test_stopped_at_random_moments(tmp_path):
    counts = check(ends("stop", tmp_path, 8, "evaluate"))
    assert counts.keys() - {("new", 0)}  # something was stopped


@pytest.mark.slow
def test_stopped_at_twenty_random_moments(tmp_path):
    found = ends("stop", tmp_path / "a", 18, "contour", "predict", "evaluate", seed=2)
    found += ends("stop", tmp_path / "b", 2, "demo", seed=3)
    counts = check(found)
    assert {status for _, status in counts} >= {130, 143}
    assert {held for held, _ in counts} == {"old", "new"}


@pytest.mark.slow
def test_training_stopped_at_random_moments_goes_on(tmp_path):
    """Stopped, every file is whole; and the same command then ends as it would have."""
    from aistat_jax.nets.weights import load_net
    from tests.cli.datasets import QUICK

    balls = write_balls(tmp_path / "balls")
    out = tmp_path / "runs" / "out"
    arguments = ["-m", "aistat_jax.cli", "train", str(balls), "--out", str(out), *QUICK]
    draw = random.Random(4)
    cut = 0
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process = started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(draw.randint(4, 9)):  # lines, so that it has begun
            process.stdout.readline()
        time.sleep(draw.uniform(0, 1.5))
        err = stopped(process, kind)
        assert process.returncode in (0, 128 + kind), err
        cut += process.returncode != 0
        assert not list(tmp_path.rglob(".*"))
        for path in out.rglob("*.json"):
            json.loads(path.read_text())
        for path in out.rglob("plan.json"):
            if path.parent != out:
                load_net(path.parent)
    assert cut
    process = started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "2 of 2 folds are done" in said
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_command_of_its_own_says_that_it_was_stopped(tmp_path, kind):
    """While JAX is being imported, or compiles: the moment most likely to be met."""
    pet, point = inputs(tmp_path / "scan")
    out = tmp_path / "results" / "out"
    arguments = ["contour", str(pet), f"--point={point}", "--out", str(out)]
    process = started("-m", "aistat_jax.cli", *arguments, stderr=subprocess.PIPE)
    time.sleep(3)
    said = stopped(process, kind)
    assert (process.returncode, said) == (128 + kind, "aistat: stopped; nothing was written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def killed_while_writing(folder: Path, draw: random.Random) -> None:
    size = draw.randint(0, 5000)
    arguments = ["-m", "tests.ends", "write", str(folder), "100000", str(size)]
    process = started(*arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(draw.uniform(0, 0.2))
    process.kill()
    process.communicate()
    versions = {path.read_bytes()[:9] for path in (folder / "out").rglob("*.*n*")}
    sizes = {len(path.read_bytes()) for path in (folder / "out").rglob("*.bin")}
    assert len(versions - {b'{\n "schem'}) == 1
    assert len(sizes) == 1
    assert not list((folder / "out").rglob(".*"))


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux")
@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_hard_a_folder_holds_one_version_and_the_next_run_tidies_up(tmp_path, count):
    draw = random.Random(5)
    for _ in range(count):
        killed_while_writing(tmp_path, draw)
    left = [path for path in tmp_path.iterdir() if path.name != "out"]
    assert all(path.name.startswith(HIDDEN) for path in left)
    for path in left:
        os.utime(path, (0, time.time() - 2 * OLD_FOLDER_S))
    killed_while_writing(tmp_path, draw)
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("count", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_posterior_is_whole_whenever_a_script_is_stopped(tmp_path, count):
    """A script of one's own has no handler: SIGTERM ends it, but not while a file is written."""
    from aistat_jax.inference.store import load_posterior

    draw = random.Random(6)
    for n in range(count):
        kind = (signal.SIGTERM, signal.SIGINT)[n % 2]
        arguments = ["-m", "tests.ends", "save", str(tmp_path), "100000", str(draw.randint(0, 500))]
        process = started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0, 0.5))
        stopped(process, kind)
        assert process.returncode == -kind
        assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]
        assert load_posterior(tmp_path / "posterior.nc")[0].draws.shape[0] >= 200


def test_a_reader_that_has_gone_loses_nothing(tmp_path):
    assert check(ends("pipe", tmp_path, 4, "evaluate")) == {("new", 0): 4}
    data = write_balls(tmp_path / "balls") / "labelsTr"
    for n, reader in enumerate(("true", "head -1")):
        out = tmp_path / str(n)
        arguments = f"-m aistat_jax.cli evaluate {data} {data} --out {out} --help"
        arguments = arguments.removesuffix(" --help") if n else arguments
        command = f"{sys.executable} {arguments} | {reader}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": os.getcwd()} | QUIET,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert out.exists() == (n == 1)


@pytest.mark.slow
def test_twenty_readers_that_have_gone(tmp_path):
    names = ("contour", "predict", "evaluate")
    assert check(ends("pipe", tmp_path / "a", 18, *names)) == {("new", 0): 18}
    assert check(ends("pipe", tmp_path / "b", 2, "demo", "train")) == {("new", 0): 2}


def test_standard_output_that_cannot_be_written_is_told(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    data = write_balls(tmp_path / "balls") / "labelsTr"
    out = tmp_path / "out"
    with open("/dev/full", "w") as full:
        arguments = ["-m", "aistat_jax.cli", "evaluate", str(data), str(data), "--out", str(out)]
        process = started(*arguments, stdout=full, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=100)
    wanted = "standard output cannot be written (no space left on device); the results in"
    assert process.returncode == 1
    assert said == f"aistat: {wanted} {out} are whole\n"
    assert (out / "scores.csv").is_file()


def test_a_full_disk(tmp_path, disk):
    counts = check(ends("full", disk("64k"), 6, "evaluate"))
    assert counts["old", 1]


@pytest.mark.slow
def test_twenty_full_disks(disk):
    counts = check(ends("full", disk("3m"), 20, "contour", "predict", "evaluate", seed=2))
    assert counts["old", 1] >= 5
    assert counts["new", 0] >= 2


def test_a_posterior_on_a_full_disk(disk):
    """HDF5 ends the process when a disk is full; the old file stays and nothing beside it."""
    from aistat_jax._errors import InputError
    from aistat_jax.inference.store import load_posterior, save_posterior
    from tests.helpers import make_posterior

    folder = disk("300k")
    small, large = make_posterior(draws=100), make_posterior(draws=1000)
    path = save_posterior(folder / "posterior.nc", small)
    with pytest.raises(InputError, match=r"cannot be written \(no space left on device\)"):
        save_posterior(path, large)
    assert [file.name for file in folder.iterdir()] == ["posterior.nc"]
    assert load_posterior(path)[0].draws.shape == small.draws.shape
