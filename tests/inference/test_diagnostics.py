"""Do the diagnostics refuse what cannot be trusted, each in a sentence of its own?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.inference.diagnostics import chain_diagnostics, trustworthy, weight_diagnostics
from aistat_jax.inference.posterior import Diagnostics
from aistat_jax.space.star import StarChart
from tests.helpers import make_posterior


@pytest.fixture(scope="module")
def chart() -> StarChart:
    return make_posterior(draws=100, rays=32).chart


def independent(seed: int = 0, mean: float = 12.0) -> np.ndarray:
    """Independent radii (4 chains, 500 draws, 32 rays)."""
    return mean + np.random.default_rng(seed).standard_normal((4, 500, 32))


def test_independent_draws_pass(chart):
    result = chain_diagnostics({}, independent(), chart, 0)
    assert result.converged
    assert result.reasons == ()
    assert result.ess_min > 1000
    assert result.rhat_max is not None
    assert result.rhat_max < 1.01
    assert weight_diagnostics(0.69, 800.0, independent(), chart).converged


def test_weights_must_fit_and_leave_a_tenth_of_the_draws(chart):
    def weigh(khat: float, ess: float) -> Diagnostics:
        return weight_diagnostics(khat, ess, independent()[:1], chart)

    for khat, ess, fits in ((0.69, 50.0, True), (0.69, 49.0, False), (0.71, 400.0, False)):
        result = weigh(khat, ess)
        assert trustworthy(result, 500) == result.converged == fits
    few = "the weights leave 49 effective draws (at least 50 wanted)"
    assert weigh(0.69, 49.0).reasons == (few,)
    assert not trustworthy(weigh(np.nan, 400.0), 500)
    assert not trustworthy(weigh(0.3, np.nan), 500)
    # a boundary at the edge of its chart is no fault of the weights
    at_edge = weight_diagnostics(0.3, 400.0, 0 * independent()[:1] + chart.radius_max, chart)
    assert not at_edge.converged
    assert trustworthy(at_edge, 500)


def test_a_boundary_at_the_edge_of_its_chart_is_refused(chart):
    edge = chart.radius_max
    radii = independent()
    radii[..., 5] += edge - 12.0
    for result in (
        chain_diagnostics({}, radii, chart, 0),
        weight_diagnostics(0.1, 800.0, radii, chart),
    ):
        assert not result.converged
        assert result.reasons == (
            f"the boundary reaches the edge of the region searched ({edge:.0f} mm from the centre)",
        )
    rarely = independent()
    rarely[0, :5, 5] = edge
    assert weight_diagnostics(0.1, 800.0, rarely, chart).converged


@pytest.mark.parametrize("khat", [0.71, np.inf, np.nan])
def test_a_high_or_missing_khat_is_refused(chart, khat):
    result = weight_diagnostics(khat, 800.0, independent(), chart)
    assert not result.converged
    assert "the approximation does not fit (Pareto khat" in result.reasons[0]


def test_chains_apart_stuck_or_divergent_are_refused(chart):
    apart = independent()
    apart[0] += 1.0
    assert any("the chains disagree" in r for r in chain_diagnostics({}, apart, chart, 0).reasons)
    rng = np.random.default_rng(2)
    slow = 12 + np.cumsum(0.05 * rng.standard_normal((4, 500, 32)), axis=1)
    assert any("effective draws" in r for r in chain_diagnostics({}, slow, chart, 0).reasons)
    divergent = chain_diagnostics({}, independent(), chart, 3)
    assert divergent.reasons == ("3 divergent transitions",)
    assert not divergent.converged


def test_scalar_sites_are_watched_too(chart):
    amplitude = np.random.default_rng(3).standard_normal((4, 500))
    amplitude[0] += 3
    result = chain_diagnostics({"amplitude": amplitude}, independent(), chart, 0)
    assert any("the chains disagree" in r for r in result.reasons)
    constant = chain_diagnostics({"lengthscale": np.ones((4, 500))}, independent(), chart, 0)
    assert constant.converged


def test_radii_that_are_not_finite_are_refused(chart):
    radii = independent()
    radii[0, 0, 0] = np.nan
    assert "some draws are not finite" in weight_diagnostics(0.1, 800.0, radii, chart).reasons
