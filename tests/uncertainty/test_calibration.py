"""Are ranks of truths uniform for right posteriors, and do their tests notice wrong ones?

False alarms: counts of alarms are gated at 0.1% binomial points; the posterior of
`normal_posteriors` is exact, so that only chance can alarm.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.calibration import Ranks, quantities, sbc_ranks
from aistat_jax.uncertainty.uniformity import (
    bin_counts,
    chi_square_p,
    ecdf_band,
    ecdf_difference,
    ecdf_p,
)
from tests.helpers import make_posterior

DRAWS = 99


def normal_posteriors(
    count: int, rng: np.random.Generator, shift: float = 0.0
) -> tuple[list[Posterior], Posterior]:
    """Circles whose log radius is N(2, .1^2), seen once with an error of .1: exact posteriors."""
    blank = make_posterior(draws=1, rays=32)
    truth = 2 + 0.1 * rng.standard_normal(count)
    seen = truth + 0.1 * rng.standard_normal(count)
    centre, sd = 2 + (seen - 2) / 2, 0.1 / np.sqrt(2)
    posteriors = []
    for middle in centre:
        log_radius = middle + sd * (shift + rng.standard_normal(400))
        posteriors.append(_circles(blank, log_radius))
    return posteriors, _circles(blank, truth)


def _circles(blank: Posterior, log_radius: np.ndarray) -> Posterior:
    radii = np.exp(log_radius)[None, :, None] * np.ones(32)
    samples = {"size": log_radius[None], "fixed": np.full((1, len(log_radius)), 3.0)}
    return replace(blank, radii=radii, samples=samples)


def test_ranks_of_exact_posteriors_are_uniform_and_wrong_ones_are_noticed(rng):
    posteriors, truths = normal_posteriors(400, rng)
    ranks = sbc_ranks(posteriors, truths)
    assert ranks.values.shape == (400, 6)
    assert ranks.names == (*[f"radius {a}°" for a in (0, 90, 180, 270)], "area", "size")
    assert ranks.p > 1e-3
    assert sbc_ranks(posteriors, truths, shrink=0.7).p < 1e-3
    assert sbc_ranks(posteriors, truths, shrink=1.4).p < 1e-3
    assert sbc_ranks(*normal_posteriors(400, rng, shift=0.4)).p < 1e-3


def test_ranks_count_the_draws_below_the_truth(rng):
    posteriors, truths = normal_posteriors(3, rng)
    one = replace(posteriors[0], radii=posteriors[0].radii[:, :DRAWS])
    one = replace(one, samples={"size": one.samples["size"][:, :DRAWS]})
    first = replace(truths, radii=truths.radii[:, :1], samples={"size": np.array([[2.0]])})
    below = int((one.draws[:, 0] < first.draws[0, 0]).sum())
    found = sbc_ranks([one], first, seed=5)
    assert found.values[0, 0] == found.values[0, 4] == below
    assert "size" not in found.names  # one truth is the same in all truths
    np.testing.assert_allclose(quantities(one)["area"], np.pi * one.draws[:, 0] ** 2)


def test_bins_are_equal():
    assert bin_counts(np.arange(100), 99).tolist() == [10] * 10


def test_mismatches_are_refused(rng):
    posteriors, truths = normal_posteriors(4, rng)
    with pytest.raises(InputError, match="3 posteriors need as many truths, got 4"):
        sbc_ranks(posteriors[:3], truths)
    with pytest.raises(InputError, match="ranks among 499 draws need as many, got 400"):
        sbc_ranks(posteriors, truths, draws=499)
    with pytest.raises(InputError, match="multiple of 10"):
        sbc_ranks(posteriors, truths, draws=100)


def test_tests_of_uniformity_keep_their_level_and_have_power() -> None:
    rng = np.random.default_rng(0)
    count = DRAWS + 1
    uniform = rng.integers(0, count, (200, 100))
    narrow = np.clip(np.rint(count / 2 + 40 * rng.standard_normal((20, 500))), 0, count - 1)
    for test in (chi_square_p, ecdf_p):
        alarms = sum(test(ranks, DRAWS) < 0.05 for ranks in uniform)
        assert alarms <= binom.ppf(0.999, len(uniform), 0.05)
        assert all(test(ranks.astype(int), DRAWS) < 1e-3 for ranks in narrow)


def test_a_band_holds_whole_ecdfs_as_often_as_it_says() -> None:
    """Of 1000 uniform samples 95% lie in the band; 90% is 7 standard errors below."""
    rng = np.random.default_rng(1)
    place, low, high = ecdf_band(80, DRAWS)
    assert place.shape == (DRAWS,)
    differences = [ecdf_difference(rng.integers(0, DRAWS + 1, 80), DRAWS) for _ in range(1000)]
    inside = [bool(((d >= low - 1e-12) & (d <= high + 1e-12)).all()) for d in differences]
    assert 0.93 <= np.mean(inside) <= 0.975
    # negative control: intervals of 95% at each place alone hold few whole ECDFs
    alone = [binom.interval(0.95, 80, p) for p in place]
    lower, upper = np.array(alone).T / 80 - place
    assert np.mean([((d >= lower) & (d <= upper)).all() for d in differences]) < 0.85
    # in the band is to pass the test, at the same level
    for ranks in rng.integers(0, DRAWS + 1, (50, 80)):
        d = ecdf_difference(ranks, DRAWS)
        p, within = ecdf_p(ranks, DRAWS), bool(((d >= low - 1e-12) & (d <= high + 1e-12)).all())
        assert within == (p > 0.05) or abs(p - 0.05) < 0.005
    assert ecdf_difference(np.arange(100), DRAWS) == pytest.approx(np.zeros(DRAWS))
    with pytest.raises(InputError, match="level"):
        ecdf_band(80, DRAWS, 1.0)


def test_coverage_of_central_intervals_by_hand() -> None:
    """Ranks 0 .. 99 once each: an interval of half the ranks holds 50 of 100, se .05."""
    ranks = Ranks(np.arange(100)[:, None], ("x",), DRAWS)
    half, most = ranks.central_coverage((0.5, 0.95))["x"]
    assert half[:3] == (0.5, 0.5, pytest.approx(0.05))
    assert half.low < 0.5 < half.high
    assert most[:2] == (0.96, 0.96)
    narrow = Ranks(np.array([0, 0, 99, 50])[:, None], ("x",), DRAWS)
    assert narrow.central_coverage((0.8,))["x"][0].share == 0.25
    with pytest.raises(InputError, match="level"):
        ranks.central_coverage((0.0,))
