"""Does the house keep its floors, stay light to import, and check shapes in the tests?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HEAVY = ("matplotlib", "arviz", "nibabel", "scipy.optimize", "xarray", "contourpy", "shapely",
         "pydicom", "highdicom")  # fmt: skip


def test_floors_import_only_floors_below(repository):
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_upward_import_is_noticed(repository, tmp_path):
    package = tmp_path / "aistat_jax"
    for floor in ("space", "views"):
        (package / floor).mkdir(parents=True)
        (package / floor / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "space" / "__init__.py").write_text("import aistat_jax.views\n")
    (tmp_path / ".importlinter").write_text(
        "[importlinter]\nroot_package = aistat_jax\n\n[importlinter:contract:floors]\n"
        "name = floors\ntype = layers\nlayers =\n    aistat_jax.views\n    aistat_jax.space\n"
    )
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "aistat_jax.space is not allowed to import aistat_jax.views" in done.stdout


def test_importing_the_package_is_light(repository):
    report = f"import sys, aistat_jax; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", report], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_shapes_are_checked_in_tests():
    from jaxtyping import TypeCheckError

    from aistat_jax.space.curve import Curve

    with pytest.raises(TypeCheckError):
        Curve(np.zeros((4, 3)))
