"""Does a command speak so that everybody can listen: any locale, any file name, no noise?"""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from aistat_jax._errors import InputWarning
from aistat_jax.cli import main
from aistat_jax.cli.terminal import Stopped, complain, say, terminal
from aistat_jax.io.nifti import read_channel
from tests.cli.datasets import write_balls
from tests.ends import inputs

LATIN = os.fsdecode(b"ren\xe9")
ASCII = {
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii:strict",
}  # fmt: skip


CLI = """
import sys
from aistat_jax import case
from aistat_jax.cli import main
from tests.ends import circles
case._fit = circles
sys.exit(main())
"""


def cli(*arguments: object, cwd: Path | None = None, **environment: str):
    """A command in a process of its own; a fit is a circle."""
    quiet = {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg", "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        [sys.executable, "-c", CLI, *map(str, arguments)], capture_output=True,
        check=False, env=os.environ | quiet | environment, cwd=cwd, timeout=200,
    )  # fmt: skip


def test_a_latin_1_name_in_an_ascii_locale_goes_to_the_end(tmp_path):
    """Any byte may be in a file name; what the terminal cannot show is written in ASCII."""
    pet, point = inputs(tmp_path / "scan")
    image = pet.rename(tmp_path / f"{LATIN}.nii.gz")
    options = [f"--point={point}", "--slices", "1", "--draws", "100"]
    done = cli("contour", image, *options, cwd=tmp_path, **ASCII)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"mm^2" in done.stdout
    assert b"wrote to aistat-out/ren\xe9/" in done.stdout
    out = tmp_path / "aistat-out" / LATIN
    assert r"ren\\xe9.nii.gz" in (out / "summary.json").read_text(encoding="utf-8")
    assert "posterior.nc" in os.listdir(out)
    refused = cli("contour", image, "--level", "2", *options, cwd=tmp_path, **ASCII)
    assert refused.returncode == 2


@pytest.mark.parametrize("locale", [{}, ASCII])
def test_scores_of_files_with_latin_1_names(tmp_path, locale):
    data = write_balls(tmp_path / LATIN) / "labelsTr"
    (data / "P2.nii.gz").rename(data / f"{LATIN}.nii.gz")
    out = tmp_path / LATIN / "out"
    done = cli("evaluate", data, data, "--out", out, **locale)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.fsencode(out) in done.stdout
    assert "ren" in (out / "scores.csv").read_text(encoding="utf-8")


def test_a_network_and_a_posterior_in_a_latin_1_folder(tmp_path):
    from aistat_jax.inference.store import load_posterior, save_posterior
    from aistat_jax.nets.weights import load_net, save_net, untrained
    from tests.helpers import make_posterior
    from tests.nets.cases import tiny_plan

    folder = tmp_path / LATIN
    assert len(load_net(save_net(untrained(tiny_plan()), folder)).members) == 1
    assert len(load_posterior(save_posterior(folder / f"{LATIN}.nc", make_posterior()))) == 1


def test_a_device_that_is_not_there_is_one_sentence(tmp_path):
    asked = "tpu" if os.path.exists("/dev/nvidia0") else "cuda"
    pet, point = inputs(tmp_path / "scan")
    arguments = ["contour", pet, f"--point={point}", "--out", tmp_path / "out"]
    sentence = f"JAX cannot use the device that JAX_PLATFORMS={asked} asks for; unset"
    done = cli(*arguments, JAX_PLATFORMS=asked)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"aistat: {sentence}")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out").exists()
    done = cli("doctor", "--out", tmp_path / "out", JAX_PLATFORMS=asked)
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.decode().count(f"PROBLEM  devices: {sentence}") == 1
    assert done.stdout.count(b"PROBLEM") == 1


@pytest.fixture
def odd(tmp_path) -> Path:
    """A NIfTI file over which nibabel complains, and reads on."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))
    raw = bytearray(image.to_bytes())
    raw[80:84] = np.float32(-1).tobytes()  # a spacing below 0, where the sform is what counts
    (tmp_path / "odd.nii").write_bytes(raw)
    return tmp_path / "odd.nii"


def test_log_lines_of_libraries_are_not_shown(odd):
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = nib.imageglobals.logger  # it shows its lines by itself
    logger.addHandler(handler)
    try:
        with terminal():
            read_channel(odd)
        assert not lines
        read_channel(odd)  # negative control
        assert any("pixdim" in line for line in lines)
        assert logging.root.manager.disable == logging.NOTSET
    finally:
        logger.removeHandler(handler)


@pytest.mark.filterwarnings("default")
def test_warnings_about_the_input_are_sentences_and_others_are_not_shown(capsys):
    with terminal():
        warnings.warn("of a library", UserWarning, stacklevel=1)
        warnings.warn("of the input", InputWarning, stacklevel=1)
    assert capsys.readouterr().err == "aistat: of the input\n"


def test_what_a_stream_cannot_encode(monkeypatch):
    for encoding, wanted in (
        ("ascii", b"1 mm^2 +- 2 \\u20ac ren\xe9\n"),
        ("utf-8", "1 mm² ± 2 € ".encode() + b"ren\xe9\n"),
    ):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        with terminal():
            say(f"1 mm² ± 2 € {LATIN}")
        assert raw.getvalue() == wanted
        assert sys.stdout.errors == "strict"  # as it was


def test_streams_that_are_closed_or_absent(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with terminal():
        say("to nobody")
        complain("to nobody")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say("to nobody")


def test_a_second_signal_does_not_disturb_the_end():
    order = []

    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            order.append("tidied up")

    before = signal.getsignal(signal.SIGTERM)
    with terminal() as came:
        with pytest.raises(Stopped) as stopped:
            work()
        assert stopped.value.number == signal.SIGTERM
    assert came == [signal.SIGTERM, signal.SIGINT]
    assert order == ["tidied up"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_while_an_object_is_destroyed_is_not_lost():
    """Python prints such an exception and goes on; the work must stop all the same."""

    class Stops:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        thing = Stops()
        del thing
        for _ in range(1000):
            time.sleep(0.01)

    with terminal(), pytest.raises(Stopped):
        work()


def test_a_stop_that_comes_back_as_an_error_of_a_library(monkeypatch, tmp_path, capsys):
    from aistat_jax import evaluation

    def callback(*_args: object, **_more: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("INTERNAL: CpuCallback error: KeyboardInterrupt") from None

    monkeypatch.setattr(evaluation, "evaluate", callback)
    arguments = ["evaluate", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "aistat: stopped; nothing was written\n"
