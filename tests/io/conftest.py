"""What do the tests of files share? A volume with a ball in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.io.volumes import affine_of, ball, save


@pytest.fixture
def pet(tmp_path) -> Path:
    return save(tmp_path / "pet.nii.gz", ball(affine_of()), affine_of())
