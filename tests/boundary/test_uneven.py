"""Are levels that differ from place to place integrated out as they should be, and to what end?"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.boundary.answers import Counted, Tabulated
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.observed import (
    expected,
    given_boundaries,
    inside_shares,
    voxels_of,
)
from aistat_jax.boundary.uneven import UnevenStep
from aistat_jax.boundary.uneven_levels import LevelPrior, UnevenLevels
from aistat_jax.data.phantoms import Phantom
from tests.boundary import brute

ETA = 0.3


@cache
def small(levels: str = "uneven", bump: float = 1.5) -> BoundaryModel:
    """A noisy disc, one side of which takes up more."""
    rng = np.random.default_rng(0)
    chart = brute.a_chart()
    points = chart.plane.points()
    values = brute.step_values(rng, chart, points)
    side = (points - chart.centre)[..., 0] / 10.0
    inside = chart.position(points) < 12.0
    image = aj.Image.from_arrays(PT=values + bump * np.clip(side, 0, 1) * inside, spacing_mm=2.0)
    evidence = aj.intensity(image, blur=2.3, temper=ETA, prior=brute.STEP_PRIOR, levels=levels)
    return aj.boundary_model(
        brute.a_target(chart), evidence, rays=64, radius_max=brute.RADIUS_MAX, harmonics=8
    )


def test_uneven_levels_are_prior_times_voxels_over_posterior():
    """Candidate's formula: at whatever levels, the collapsed likelihood comes out."""
    (voxels,) = voxels_of(small())
    term = voxels.term
    assert isinstance(term, UnevenStep)
    (radii,) = brute.boundaries(small().chart, 1)
    with jax.enable_x64(True):
        value = float(brute.read_tables(small().data.terms, radii))
    many = np.stack([radii] * 3)
    given = given_boundaries(voxels, many, np.random.default_rng(1))
    inside = inside_shares(term, voxels.shared, many)
    law = voxels.levels()
    assert isinstance(law, UnevenLevels)
    places = law.parameters(inside, np.random.default_rng(1))

    def density(at, prior: LevelPrior):
        *levels, sd = at
        middle, precision, shape, rate = prior
        error = np.asarray(levels) - middle
        normal = 0.5 * np.linalg.slogdet(precision / (2 * np.pi * sd**2))[1]
        normal -= 0.5 * error @ precision @ error / sd**2
        noise: Any = stats.invgamma(shape, scale=rate)
        return normal + noise.logpdf(sd**2)

    for place, block in zip(places, given.block_log_likelihood, strict=True):
        before = density(place, law.prior)
        after = density(place, law.given(inside[0]))
        assert abs(before + block.sum() - after - value) < 1e-5 * abs(value)
        assert abs(before + block[1:].sum() - after - value) > 1e-3


def test_even_levels_are_a_special_case():
    """Where nothing varies strengths are chosen to be nothing, and the likelihood is as ever."""
    radii = brute.boundaries(small().chart, 3)
    gap = []
    for bump in (0.0, 1.5):
        even, uneven = small("even", bump), small("uneven", bump)
        with jax.enable_x64(True):
            pairs = [
                [float(brute.read_tables(m.data.terms, r)) for m in (even, uneven)] for r in radii
            ]
        gap.append(np.ptp([b - a for a, b in pairs]))
    assert gap[0] < 0.02 < gap[1]


def likeliest_scale(phantom: Phantom, **how) -> float:
    """The dilation of the true boundary that the image finds likeliest."""
    point = (*phantom.centre[:2], 0.0)
    target = aj.find_targets(phantom.image, point_mm=point, slices="point")[0]
    model = aj.boundary_model(target, aj.intensity(phantom.image, "PT", **how))
    truth = phantom.truth_radii(model.chart.angles, target.centre)
    scales = np.linspace(0.8, 1.3, 26)
    with jax.enable_x64(True):
        values = along(model.data.terms, scales[:, None] * truth)
    return float(scales[int(np.argmax(values))])


@jax.jit
def along(terms: Any, radii: Any) -> jax.Array:
    return jax.vmap(lambda one: aj.log_likelihood(terms, one))(radii)


def test_a_cold_core_no_longer_moves_the_edge():
    cold = [aj.pet_ct_phantom(seed, necrosis=True, radius_mm=25.0) for seed in range(1)]
    even = np.mean([likeliest_scale(p) for p in cold])
    uneven = np.mean([likeliest_scale(p, levels="uneven") for p in cold])
    assert even > 1.05
    assert abs(uneven - 1) < 0.4 * (even - 1)


def test_what_is_expected_follows_the_levels():
    (voxels,) = voxels_of(small(bump=4.0))
    (even,) = voxels_of(small("even", bump=4.0))
    many = np.stack(brute.boundaries(small().chart, 1))
    share = inside_shares(voxels.term, voxels.shared, many)[0]
    share = np.bincount(voxels.shared.voxel, voxels.shared.share * share)
    assert expected(even, share) is None
    seen = expected(voxels, share)
    rows = np.stack([np.ones_like(share), share], axis=1)
    plain = rows @ np.linalg.lstsq(rows, voxels.values)[0]
    assert np.std(voxels.values - seen) < 0.95 * np.std(voxels.values - plain)


@pytest.mark.parametrize("how", [{"levels": "odd"}, {"levels": "uneven", "family": "gaussian"}])
def test_what_levels_may_be(how):
    with pytest.raises(InputError, match="levels"):
        aj.intensity(aj.pet_ct_phantom(0).image, "PT", **how)


def test_simulated_levels_differ_as_their_prior_says():
    (radii,) = brute.boundaries(small().chart, 1)
    spread = {}
    for levels in ("even", "uneven"):
        model = small(levels, bump=4.0)
        (voxels,) = voxels_of(model)
        share = inside_shares(voxels.term, voxels.shared, radii[None])[0]
        share = np.bincount(voxels.shared.voxel, voxels.shared.share * share)
        ends = voxels.points[:, 0] - model.chart.centre[0]
        gaps = []
        for seed in range(12):
            (piece,) = aj.simulate(model, radii, seed=seed).pieces
            assert isinstance(piece, Counted)
            read = Tabulated(tuple(model.data.terms), model.target, model.chart)
            values = piece.counted(read)[0].values
            right, left = (values[(share > 0.95) & (k * ends > 2.0)] for k in (1, -1))
            gaps.append((right.mean() - left.mean()) / np.hypot(right.std(), left.std()))
        spread[levels] = np.std(gaps)
    assert spread["uneven"] > 2 * spread["even"]
