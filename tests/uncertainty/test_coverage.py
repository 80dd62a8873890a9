"""Does coverage say how often a band held the truth, and notice a band that is too narrow?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.uncertainty.coverage import Coverage, coverage
from tests.helpers import circle, make_posterior

COUNT = 120


@pytest.fixture(scope="module")
def replicates():
    """Posteriors and truths of one law: the truth is one more draw."""
    posteriors, truths = [], []
    for seed in range(COUNT):
        found = make_posterior(sd=0.06, draws=301, rays=32, seed=seed)
        truths.append(found.chart.surface(found.draws[-1]))
        posteriors.append(replace(found, radii=found.radii[:, :-1]))
    return posteriors, truths


def test_bands_of_the_right_law_hold_as_often_as_they_say(replicates):
    found = coverage(*replicates)
    low, high = found.interval(0.999)
    assert found.count == COUNT
    assert ((low <= found.levels) & (found.levels <= high)).all()
    assert (np.diff(found.held) >= 0).all()  # bands nest
    assert (np.diff(found.half_width, axis=1) > 0).all()


def test_bands_that_are_too_narrow_are_noticed(replicates):
    """Negative control: the same posteriors, scaled by .7 about their mean."""
    posteriors, truths = replicates
    scaled = []
    for posterior in posteriors:
        mean = posterior.estimate
        scaled.append(replace(posterior, radii=mean + 0.7 * (posterior.radii - mean)))
    found = coverage(scaled, truths)
    assert found.interval(0.999)[1][found.levels == 0.8] < 0.8
    right = coverage(posteriors, truths)
    np.testing.assert_allclose(found.half_width, 0.7 * right.half_width, rtol=1e-6)


def test_intervals_are_those_of_scipy():
    from scipy.stats import binomtest

    found = Coverage(np.array([0.5, 0.9, 0.95]), np.array([0, 17, 20]), np.ones((20, 3)))
    low, high = found.interval()
    for n, held in enumerate(found.held):
        exact = binomtest(int(held), 20).proportion_ci(0.95, method="exact")
        assert low[n] == pytest.approx(exact.low)
        assert high[n] == pytest.approx(exact.high)


def test_a_truth_elsewhere_is_held_by_none():
    posterior = make_posterior(draws=200)
    assert coverage([posterior], [circle(5.0, (10.0, 10.0), 50)]).held.tolist() == [0] * 7
    with pytest.raises(InputError, match="one truth for each posterior, got 1 posteriors and 0"):
        coverage([posterior], [])
    with pytest.raises(InputError, match="1 to 5 results, 0"):
        aj.plot_coverage({})


def test_the_plot_shows_share_interval_and_width(replicates):
    found = coverage(*replicates)
    left, right = aj.plot_coverage(found).axes
    points = left.lines[1]
    np.testing.assert_allclose(points.get_ydata(), found.share)
    np.testing.assert_allclose(points.get_xdata(), found.levels)
    np.testing.assert_allclose(right.lines[0].get_ydata(), np.median(found.half_width, axis=0))
    (bars,) = left.collections
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends.T, found.interval())
