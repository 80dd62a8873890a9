"""Is the dose prescribed the straight line of the probability, and nothing beyond the target?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from tests.helpers import make_image, make_posterior, make_surface, make_volume


@pytest.mark.parametrize(
    ("image", "posterior"),
    [(make_image(), make_posterior(draws=200)), (make_volume(), make_surface())],
)
def test_dose_is_a_line_of_the_probability(image, posterior, tmp_path):
    channel = image["PT"]
    path = aj.write_dose(tmp_path / "dose.nii.gz", posterior, channel, low_gy=50.0, high_gy=70.0)
    dose = aj.read_image(D=path)["D"].values
    chance = aj.probability_map(posterior, channel.grid)
    assert dose.shape == channel.values.shape
    assert np.allclose(dose[chance == 0], 0.0)
    assert np.allclose(dose[chance == 1], 70.0, atol=1e-4)
    partly = (chance > 0) & (chance < 1)
    assert partly.any()
    assert np.allclose(dose[partly], 50.0 + 20.0 * chance[partly], atol=1e-4)
    reverse = 70.0 - 20.0 * chance[partly]  # the control
    assert not np.allclose(dose[partly], reverse, atol=1.0)
    both = aj.dose_prescription([posterior] * 2, channel.grid, low_gy=50.0, high_gy=70.0)
    assert (both >= dose - 1e-4).all()


def test_the_volume_above_a_dose_is_that_of_a_level():
    posterior, grid = make_surface(draws=400), make_volume().primary.grid
    dose = aj.dose_prescription(posterior, grid, low_gy=0.0, high_gy=100.0)
    level = aj.probability_contours(posterior, [0.5])[0.5][0]
    assert (dose >= 50).sum() * grid.spacing.prod() == pytest.approx(level.volume, rel=0.03)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 60.0), (70.0, 60.0), (0.0, np.inf)])
def test_doses_that_are_none_are_refused(low, high):
    with pytest.raises(InputError, match="0 <= low_gy <= high_gy"):
        aj.dose_prescription(make_surface(), make_volume().primary.grid, low_gy=low, high_gy=high)


def test_without_spacing_there_is_no_nifti(tmp_path):
    image = make_image(spacing=None)
    with pytest.raises(InputError, match="no spacing"):
        aj.write_dose(tmp_path / "dose.nii", make_posterior(spacing=None, draws=100),
                      image["PT"], low_gy=1.0, high_gy=2.0)  # fmt: skip
