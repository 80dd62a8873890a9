"""Are the posteriors calibrated? The benchmark's own functions, with fewer replicates.

False alarms: each rank test alarms at 1% family-wise. Coverage bounds are 0.1% binomial points
of the asked coverage, so that a right posterior fails about once in a thousand.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

import aistat_jax as aj
from aistat_jax.planning.margins import covered_share
from benchmarks import calibration

pytestmark = pytest.mark.slow
LAPLACE, NUTS = 120, 30


def fewest(count: int, coverage: float) -> int:
    """The smallest count of bands that hold still compatible with `coverage`, at 0.1%."""
    return int(binom.ppf(0.001, count, coverage))


def test_laplace_ranks_are_uniform_and_bands_cover() -> None:
    found = calibration.calibrate(LAPLACE)
    assert found.fallbacks <= 0.05
    assert found.ranks.p >= calibration.FALSE_ALARM
    assert found.held.sum() >= fewest(LAPLACE, 0.95)


def test_a_posterior_scaled_by_seven_tenths_fails() -> None:
    found = calibration.calibrate(LAPLACE, shrink=0.7)
    assert found.ranks.p < calibration.FALSE_ALARM
    assert found.held.sum() < fewest(LAPLACE, 0.95)


def test_margins_cover_what_they_promise_and_the_median_alone_does_not() -> None:
    share, probability = 0.98, 0.9
    covered = {"outer": 0, "median": 0, "inner": 0}
    for posterior, truth in calibration.posteriors(LAPLACE):
        margin = aj.coverage_margin(posterior, share=share, probability=probability)
        target = posterior.chart.sectors(truth["radii"][None])
        for which in ("outer", "median"):
            by = posterior.chart.sectors(margin.values(which))
            covered[which] += int(covered_share(target, by)[0] >= share)
        core = posterior.chart.sectors(margin.inner)[None]
        covered["inner"] += int(covered_share(core, target[0])[0] >= share)
    least = fewest(LAPLACE, probability)
    assert min(covered["outer"], covered["inner"]) >= least
    assert covered["median"] < least


def test_a_wrong_prior_fails() -> None:
    found = calibration.calibrate(NUTS * 2, prior="wrong")
    assert found.ranks.p < calibration.FALSE_ALARM


def test_nuts_ranks_are_uniform_and_bands_cover() -> None:
    found = calibration.calibrate(NUTS, "nuts")
    assert found.ranks.p >= calibration.FALSE_ALARM
    assert found.held.sum() >= fewest(NUTS, 0.95)


@pytest.mark.parametrize(("temper", "count", "covers"), [("auto", 60, True), (1.0, 20, False)])
def test_tempering_restores_coverage_under_correlated_noise(
    temper: float | str, count: int, covers: bool
) -> None:
    """Untempered, fewer than 3 bands in 100 hold: of 20, 13 would be let pass."""
    held, _ = calibration.pixel_coverage(count, correlation_px=2.0, temper=temper)
    assert (held.sum() >= fewest(count, 0.9)) is np.bool_(covers)
