"""What do programs that others wrote say of a DICOM file? dciodvfy and plastimatch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax.space.image import Channel


def check_valid(*paths: Path) -> None:
    """dciodvfy (of dicom3tools) finds no error in a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    for path in paths:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()
        assert not [line for line in said if line.startswith("Error")], (path.name, said)
        assert said  # it names the kind of object


def drawn_by_plastimatch(
    path: Path, series: Path, like: Channel, out: Path
) -> dict[str, np.ndarray]:
    """The regions of an RTSTRUCT as masks on a series, by name."""
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed (Debian: plastimatch)")
    command = ["plastimatch", "convert", "--input", path, "--referenced-ct", series]
    command += ["--output-prefix", out, "--prefix-format", "nii.gz"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    found = {}
    for file in out.glob("*.nii.gz"):
        found[file.name.removesuffix(".nii.gz")] = aj.read_mask(file, like)
    return found
