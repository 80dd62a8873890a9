"""Taken apart again, is the collapsed likelihood of an image still what it was?"""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
import pytest
from scipy import stats

import aistat_jax as aj
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.observed import (
    Voxels,
    given_boundaries,
    inside_shares,
    voxels_of,
)
from tests.boundary import brute

ETA = 0.3
HYPER = {
    "gaussian": (0.4, 0.3, 1.5, 0.8),
    "bernoulli": (1.3, 2.1, 0.0, 0.0),
    "poisson": (1.7, 0.6, 0.0, 0.0),
}


@cache
def model(kind: str) -> BoundaryModel:
    """A noisy disc read as a blurred step ("constant", "poisson" noise) or a hard one."""
    rng = np.random.default_rng(0)
    chart = brute.a_chart()
    level = brute.step_values(rng, chart, chart.plane.points())
    if kind == "hard bernoulli":
        level = (rng.uniform(size=level.shape) < 0.2 + 0.15 * level).astype(float)
    if kind == "hard poisson":
        level = rng.poisson(np.maximum(2 * level, 0.1)).astype(float)
    image = aj.Image.from_arrays(PT=level, spacing_mm=2.0)
    if kind in ("constant", "noisy"):
        noise = "constant" if kind == "constant" else "poisson"
        how = {"blur": 2.3, "prior": brute.STEP_PRIOR, "noise": noise}
    else:
        family = kind.removeprefix("hard ")
        how = {"family": family, "hyper": HYPER[family]}
    evidence = aj.intensity(image, temper=ETA, **how)
    return aj.boundary_model(
        brute.a_target(chart), evidence, rays=64, radius_max=brute.RADIUS_MAX, harmonics=8
    )


def setting(kind: str) -> tuple[Voxels, np.ndarray, float]:
    """The voxels of a model, one boundary, and the collapsed log-likelihood there."""
    (voxels,) = voxels_of(model(kind))
    (radii,) = brute.boundaries(model(kind).chart, 1)
    with jax.enable_x64(True):
        value = float(brute.read_tables(model(kind).data.terms, radii))
    return voxels, radii, value


def normal_inverse_gamma(
    best: np.ndarray, precision: np.ndarray, shape: float, rate: float, at: np.ndarray
) -> float:
    """log density of (coefficients..., sigma) at a place, of sigma^2."""
    *values, sd = at
    normal = stats.multivariate_normal(best, sd**2 * np.linalg.inv(precision))
    return float(normal.logpdf(values) + stats.invgamma(shape, scale=rate).logpdf(sd**2))


@pytest.mark.parametrize("kind", ["constant", "noisy"])
def test_a_blurred_step_is_prior_times_voxels_over_posterior(kind):
    """Candidate's formula: at whatever intensities, the collapsed likelihood comes out."""
    voxels, radii, value = setting(kind)
    given = given_boundaries(voxels, np.stack([radii] * 5), np.random.default_rng(1))
    law = voxels.levels()
    inside = inside_shares(voxels.term, voxels.shared, np.stack([radii] * 5))
    places = law.parameters(inside, np.random.default_rng(1))
    x = np.stack([np.ones_like(inside[0]), inside[0]], axis=1)
    y = voxels.values[voxels.shared.voxel]
    weight = ETA * voxels.shared.share * voxels.precisions[voxels.shared.voxel]
    prior = brute.STEP_PRIOR
    k, m = np.diag(prior.precision), prior.mean
    precision = k + x.T @ (weight[:, None] * x)
    best = np.linalg.solve(precision, k @ m + x.T @ (weight * y))
    loss = (weight * (y - x @ best) ** 2).sum() + (best - m) @ k @ (best - m)
    shape = float(prior.shape) + 0.5 * ETA * len(voxels.values)
    rate = float(prior.rate) + 0.5 * loss
    for place, block in zip(places, given.block_log_likelihood, strict=True):
        before = normal_inverse_gamma(m, k, float(prior.shape), float(prior.rate), place)
        after = normal_inverse_gamma(best, precision, shape, rate, place)
        assert abs(before + block.sum() - after - value) < 1e-6 * abs(value)
        assert abs(before + block[1:].sum() - after - value) > 1e-3  # a block left out is noticed
    # and the intensities are draws of that posterior: false alarms of 1e-3 each, seed 2
    many = law.parameters(np.repeat(inside[:1], 4000, axis=0), np.random.default_rng(2))
    error = (many[:, :2] - best) / many[:, 2:]
    square = np.einsum("di,ij,dj->d", error, precision, error)
    assert stats.kstest(square, stats.chi2(2).cdf).pvalue > 1e-3
    assert stats.kstest(many[:, 2] ** 2, stats.invgamma(shape, scale=rate).cdf).pvalue > 1e-3
    assert stats.kstest(1.1 * square, stats.chi2(2).cdf).pvalue < 1e-3


@pytest.mark.parametrize("kind", ["hard gaussian", "hard bernoulli", "hard poisson"])
def test_hard_steps_are_prior_times_voxels_over_posterior(kind):
    from scipy.special import gammaln

    voxels, radii, value = setting(kind)
    family, hyper = kind.removeprefix("hard "), HYPER[kind.removeprefix("hard ")]
    law = voxels.levels()
    inside = (voxels.shared.position < radii[voxels.shared.site]).astype(float)[None]
    (place,) = law.parameters(inside, np.random.default_rng(1))
    given = given_boundaries(voxels, radii[None], np.random.default_rng(1))
    y, w = voxels.values[voxels.shared.voxel], ETA * voxels.shared.share
    total = given.block_log_likelihood.sum()
    for side, member in enumerate((1 - inside[0], inside[0])):
        n, s, ss = (member @ (w * y**power) for power in range(3))
        first, second = place[side]
        if family == "gaussian":
            m, k, a, b = hyper
            p = k + n
            best, spread = (k * m + s) / p, ss + k * m**2 - (k * m + s) ** 2 / p
            at = np.array([first, second])
            before = normal_inverse_gamma(np.array([m]), np.array([[k]]), a, b, at)
            post = a + 0.5 * n, b + 0.5 * spread
            after = normal_inverse_gamma(np.array([best]), np.array([[p]]), *post, at)
        elif family == "bernoulli":
            before = stats.beta(*hyper[:2]).logpdf(first)
            after = stats.beta(hyper[0] + s, hyper[1] + n - s).logpdf(first)
        else:
            before = stats.gamma(hyper[0], scale=1 / hyper[1]).logpdf(first)
            after = stats.gamma(hyper[0] + s, scale=1 / (hyper[1] + n)).logpdf(first)
            total += member @ (w * gammaln(y + 1))  # the base measure, which the term leaves out
        total += before - after
    assert abs(total - value) < 1e-6 * abs(value)
    assert abs(total - 1e-4 * value - value) > 1e-6 * abs(value)


def test_blocks_are_squares_worth_an_effective_voxel():
    (voxels,) = voxels_of(model("constant"))
    count = np.bincount(voxels.block)
    assert count.max() == 4  # 2 x 2 pixels, each worth 0.3
    assert (count == 4).mean() > 0.8
    for block in (0, 30, 77):
        assert np.ptp(voxels.points[voxels.block == block], axis=0).max() <= 2.0
