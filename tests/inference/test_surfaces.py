"""Is the posterior of a surface about the surface that is there?"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.inference.conflict import conflicts
from aistat_jax.space.curve import contours_from_mask

BALL = Ball((54.3, 58.2, 30.7), 16.0, 7.0)
VOLUME = 4 / 3 * np.pi * BALL.radius**3


@pytest.fixture(scope="module")
def image():
    return image_of_balls([BALL], seed=1, grows=False, noise=0.3)


@pytest.fixture(scope="module")
def posterior(image):
    (target,) = aj.find_targets(image, point_mm=BALL.centre, dims=3)
    prior = aj.Prior(amplitude=0.05, fixed=("amplitude", "lengthscale"))
    model = aj.boundary_model(target, aj.intensity(image, temper=0.3), prior=prior)
    return aj.fit(model, draws=500, fallback=False)


def test_the_volume_is_that_of_the_ball(posterior):
    volume = aj.area_posterior(posterior)
    assert volume.unit == "mm3"
    low, middle, high = volume.quantiles.values()
    assert low < VOLUME < high
    assert (high - low) / middle < 0.1
    assert posterior.diagnostics.khat < 0.7


def test_the_band_holds_the_surface_and_the_grade_says_so(posterior):
    band = aj.simultaneous_band(posterior)
    truth = np.linalg.norm(
        posterior.chart.points(posterior.estimate) - np.array(BALL.centre), axis=1
    )
    assert (np.abs(truth - BALL.radius) < band.half_width).mean() > 0.95
    grade = aj.grade(posterior)
    assert grade.case == "green"
    assert len(grade.local) == 642


def test_its_sections_agree_with_its_probability_map(image, posterior):
    grid = image.primary.grid
    mean = posterior.estimate
    filled = aj.probability_map(posterior, grid)
    assert np.isclose(filled.sum() * grid.spacing.prod(), VOLUME, rtol=0.05)
    for k in (6, 8, 10):
        plane = grid.plane(k)
        (section,) = posterior.chart.sections(mean, plane)
        (half,) = contours_from_mask(filled[:, :, k] > 0.5, plane)
        assert abs(section.area - half.area) < 0.06 * section.area
        assert np.array_equal(filled[:, :, k], aj.probability_map(posterior, plane))
    with pytest.raises(aj.InputError, match="no slice of its own"):
        aj.probability_map(posterior)


def test_it_is_kept(posterior, tmp_path):
    aj.save_posterior(tmp_path / "surface.nc", posterior)
    (again,) = aj.load_posterior(tmp_path / "surface.nc")
    assert np.array_equal(again.radii, posterior.radii)
    assert np.array_equal(
        again.chart.points(again.estimate), posterior.chart.points(posterior.estimate)
    )
    assert posterior.to_arviz(["posterior"]).posterior.sizes["ray"] == 642


def test_sources_that_contradict_each_other_say_volumes(posterior):
    """One says the surface that was fitted, another one a tenth further out: 1.33 times as much."""
    answers = iter((posterior, replace(posterior, radii=1.1 * posterior.radii)))
    model = posterior.model + aj.term(lambda radii: -jnp.mean(jnp.square(radii - 17.6)))
    (found,) = conflicts(model, lambda alone: next(answers))
    one, two = (f"{factor * np.median(posterior.chart.content(posterior.draws)):,.0f} mm³"
                for factor in (1.0, 1.1**3))  # fmt: skip
    assert f"alone they say a volume of {one} and one of {two}, further apart" in found.text


def test_a_turned_image_turns_the_surface(image, posterior):
    """The same voxels, the patient turned by 90 degrees about z: nothing else may change."""
    values = np.rot90(image.primary.values, 1, (0, 1))
    x, y, z = image.primary.grid.spacing
    turned = aj.Image.from_arrays(PT=values, spacing_mm=(y, x, z))
    across = image.primary.values.shape[1] - 1
    centre = (across * y - BALL.centre[1], BALL.centre[0], BALL.centre[2])
    (target,) = aj.find_targets(turned, point_mm=centre, dims=3)
    model = aj.boundary_model(
        target, aj.intensity(turned, temper=0.3), prior=posterior.model.data.prior
    )
    again = aj.fit(model, draws=500, fallback=False)
    one, other = (p.chart.content(p.draws) for p in (posterior, again))
    assert abs(one.mean() - other.mean()) < 0.5 * one.std()
    assert np.isclose(one.std(), other.std(), rtol=0.25)


def test_too_few_slices_are_refused(image):
    mask = np.zeros(image.primary.values.shape, bool)
    mask[15:20, 15:20, 7:9] = True
    with pytest.raises(aj.InputError, match="slice by slice"):
        aj.find_targets(image, mask=mask, dims=3)
    with pytest.raises(aj.InputError, match="`dims` must be"):
        aj.find_targets(image, mask=mask, dims=4)
