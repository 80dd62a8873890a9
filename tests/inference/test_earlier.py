"""A posterior of which only the draws are left: its law is kept, and new evidence adds to it."""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from tests.helpers import make_posterior


@pytest.fixture(scope="module")
def saved():
    return make_posterior(sd=0.06, swell=1.0)


def test_without_new_evidence_the_law_is_that_of_the_draws(saved):
    nothing = aj.anchors(np.zeros((0, 2)))  # compiles what the other tests need
    again = aj.fit(aj.model_from_draws(saved) + nothing, draws=1000)
    assert again.diagnostics.converged
    sd, expected = again.draws.std(axis=0), saved.draws.std(axis=0)
    np.testing.assert_allclose(again.estimate, saved.estimate, atol=0.2 * expected.max())
    np.testing.assert_allclose(sd, expected, rtol=0.15)
    near, far = (np.corrcoef(saved.draws[:, 0], saved.draws[:, n])[0, 1] for n in (4, 64))
    again_near, again_far = (
        np.corrcoef(again.draws[:, 0], again.draws[:, n])[0, 1] for n in (4, 64)
    )
    assert again_near == pytest.approx(near, abs=0.1)
    assert again_far == pytest.approx(far, abs=0.1)


def test_new_evidence_adds_as_it_does_to_a_gaussian(saved):
    """Against the formula: a measured log radius, and the regression of all others on it."""
    place, sd = 30, 0.4
    log_radius = np.log(saved.draws)
    radius = saved.estimate[place] + 1.0
    points = saved.chart.points(np.full(128, radius))[place]
    model = aj.model_from_draws(saved) + aj.anchors(points, sd=sd)
    found = np.log(aj.fit(model, draws=1000).draws)
    covariance = np.cov(log_radius.T)
    noise = (sd / radius) ** 2
    gain = covariance[:, place] / (covariance[place, place] + noise)
    expected = log_radius.mean(axis=0) + gain * (np.log(radius) - log_radius.mean(axis=0)[place])
    spread = np.sqrt(np.diag(covariance))
    assert np.abs((found.mean(axis=0) - expected) / spread).max() < 0.25
    left = np.sqrt(covariance[place, place] * (1 - gain[place]))
    assert found[:, place].std() == pytest.approx(left, rel=0.2)


def test_what_surprises_it_makes_it_doubt_itself(saved):
    far = saved.chart.points(saved.estimate + 6 * saved.draws.std(axis=0))[30]
    near = saved.chart.points(saved.estimate)[30]
    models = [aj.model_from_draws(saved) + aj.anchors(point, sd=0.3) for point in (near, far)]
    calm, surprised = (aj.fit(model, draws=1000).draws[:, 94].std() for model in models)
    assert surprised > 1.2 * calm
    assert calm < 1.1 * saved.draws[:, 94].std()


def test_evidence_without_a_model_says_what_to_do(saved):
    with pytest.raises(aj.InputError, match="model_from_draws"):
        saved.model + aj.anchors([(3.0, 4.0)])
    with pytest.raises(TypeError):
        3 + aj.anchors([(3.0, 4.0)])
