"""Do fits of planar images give the answers they gave?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.golden.fits import CASES, FILE, answers, phantom_model

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


def compare(found: dict, kept: dict) -> None:
    """Evidence to rounding; what was drawn to a tenth of a standard deviation."""
    np.testing.assert_allclose(found["centre"], kept["centre"], rtol=1e-9)
    np.testing.assert_allclose(found["rough_radius"], kept["rough_radius"], rtol=1e-9)
    rises = (np.diff(each["log_likelihood"]) for each in (found, kept))  # less their constants
    np.testing.assert_allclose(*rises, rtol=1e-9)
    sd = np.array(kept["sd"])
    assert (np.abs(np.array(found["estimate"]) - kept["estimate"]) < 0.1 * sd).all()
    np.testing.assert_allclose(found["sd"], sd, rtol=0.1)
    assert found["grade"] == kept["grade"]


@pytest.mark.parametrize("name", CASES)
def test_planar_fits_are_what_they_were(name: str) -> None:
    compare(answers(CASES[name]()), GOLDEN[name])


def test_another_lesion_is_told_apart() -> None:
    with pytest.raises(AssertionError):
        compare(answers(phantom_model(0, radius_mm=19.0)), GOLDEN["both images, seed 0"])
