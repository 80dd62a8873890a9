"""Do bands hold the share of the posterior they claim?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.space.offset import offset_chart
from aistat_jax.uncertainty.bands import pointwise_band, simultaneous_band
from tests.helpers import TRUSTED, horseshoe_depth, make_posterior

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)


@pytest.mark.parametrize("level", LEVELS)
def test_simultaneous_band_holds_its_share_of_the_draws(level):
    """A few more than its share: of those that made it, as many as new ones would be (below)."""
    posterior = make_posterior(draws=1000, swell=2.0)
    held = simultaneous_band(posterior, level).contains(posterior.draws).mean()
    assert level <= held + 0.01 < level + 0.03


def test_a_band_over_many_sites_holds_its_share_of_new_boundaries():
    """60 bands of 300 draws at 500 sites that know nothing of each other; the sd of the mean share
    is 0.003. The control judges draws by a mean and an sd that they had a part in."""
    rng = np.random.default_rng(0)
    posterior = make_posterior(rays=500, draws=300)
    fresh = 10 + rng.standard_normal((2000, 500))
    held, naive = [], []
    for _ in range(60):
        draws = 10 + rng.standard_normal((300, 500))
        posterior.radii[:] = draws.reshape(posterior.radii.shape)
        held.append(simultaneous_band(posterior).contains(fresh).mean())
        centre, sd = draws.mean(axis=0), draws.std(axis=0, ddof=1)
        multiple = np.quantile((np.abs(draws - centre) / sd).max(axis=1), 0.95)
        naive.append((np.abs(fresh - centre) < multiple * sd).all(axis=1).mean())
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
    assert np.mean(naive) < 0.935


def test_draws_that_importance_sampling_repeats_are_judged_by_others():
    """300 draws, each twice or more, and in any order: as wide as from those 300 alone."""
    rng = np.random.default_rng(1)
    single, several = make_posterior(draws=300), make_posterior(draws=900)
    draws = single.draws.copy()
    several.radii[:] = draws[rng.permutation(np.repeat(np.arange(300), 3))].reshape(
        several.radii.shape
    )
    widths = [simultaneous_band(one).half_width for one in (single, several)]
    np.testing.assert_allclose(widths[0], widths[1], rtol=0.03)


def test_pointwise_band_does_not_hold_the_boundary_simultaneously():
    """Negative control: 95% at every ray is far from 95% of whole boundaries."""
    posterior = make_posterior()
    band = pointwise_band(posterior, 0.95)
    at_each_ray = (posterior.draws >= band.lower) & (posterior.draws <= band.upper)
    assert np.allclose(at_each_ray.mean(axis=0), 0.95, atol=0.005)
    assert band.contains(posterior.draws).mean() < 0.8


def test_a_band_that_is_too_narrow_is_caught():
    """Negative control: a band from draws shrunk by 0.7 misses its share of fresh draws.

    Fresh draws: 4,000 from the same law; the binomial sd of the share is 0.004, and the band's
    own quantile from 4,000 draws adds as much, so 0.03 is a five-sigma gate.
    """
    fresh = make_posterior(seed=1, draws=4000).draws
    honest = make_posterior(seed=2, draws=4000)
    assert simultaneous_band(honest).contains(fresh).mean() == pytest.approx(0.95, abs=0.03)
    centre = honest.estimate
    narrow = make_posterior(seed=2, draws=4000)
    narrow.radii[:] = centre + 0.7 * (narrow.radii - centre)
    assert simultaneous_band(narrow).contains(fresh).mean() < 0.85


@pytest.mark.parametrize("make", [simultaneous_band, pointwise_band])
def test_bands_nest_in_level(make):
    posterior = make_posterior(swell=3.0)
    bands = [make(posterior, level) for level in LEVELS]
    for inner, outer in itertools.pairwise(bands):
        assert np.all(outer.lower <= inner.lower)
        assert np.all(outer.upper >= inner.upper)


def test_bands_scale_with_the_unit_of_length():
    small, large = make_posterior(), make_posterior()
    large.radii[:] *= 10.0
    assert np.allclose(
        simultaneous_band(large).half_width, 10 * simultaneous_band(small).half_width
    )


def test_lower_edge_stops_at_the_centre_and_half_width_is_the_larger_side():
    band = simultaneous_band(make_posterior(sd=0.6, seed=3))
    assert band.lower.min() == 0.0
    assert np.allclose(band.half_width, band.upper - band.centre)


def test_a_ray_without_spread_is_allowed():
    posterior = make_posterior()
    posterior.radii[..., 5] = 10.0
    band = simultaneous_band(posterior)
    assert band.half_width[5] == pytest.approx(0.0, abs=1e-9)
    assert band.contains(posterior.draws).mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("make", [simultaneous_band, pointwise_band])
@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.1, float("nan")])
def test_level_outside_the_unit_interval_is_refused(make, level):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        make(make_posterior(draws=120), level)


@pytest.mark.parametrize("make", [simultaneous_band, pointwise_band])
def test_too_few_draws_are_refused(make):
    with pytest.raises(InputError, match="at least 100 posterior draws, got 99"):
        make(make_posterior(draws=99))


def test_the_upper_edge_of_offsets_stops_where_their_normals_may_cross():
    """In the mouth of a horseshoe; unclipped the edge would cross itself."""
    plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (96, 96), "px")
    outline = contours_from_mask(horseshoe_depth(plane.points(), gap=0.5) > 0, plane)[0]
    chart = offset_chart(outline, 8.0, plane, 256)
    rng = np.random.default_rng(0)
    low, high = chart.ends
    moved = 0.8 * high + 0.3 * (high - low) * rng.standard_normal((400, 1))
    posterior = Posterior(chart, np.clip(moved, low, high)[None], {}, TRUSTED, "laplace", 0, "u")
    band = simultaneous_band(posterior)
    assert (band.upper <= high).all()
    assert (band.lower >= low).all()
    assert band.contains(posterior.draws).mean() >= 0.94
    assert shapely.LinearRing(chart.surface(band.upper).points).is_simple
    # control: as far above the centre as the band would reach
    free = band.centre + band.half_width
    assert (free > high).any()
    assert not shapely.LinearRing(chart.points(free)).is_simple
