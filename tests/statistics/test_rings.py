"""Are posteriors of rings calibrated? Truths from the prior, data from the model on the rays.

False alarms: the rank test alarms at 1% family-wise; the count of bands that hold is compared with
the 0.1% binomial point of 95%. The controls are draws scaled by .7 about their mean.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

import aistat_jax as aj
from aistat_jax.boundary.families import StepPrior
from aistat_jax.boundary.nested import nested_prior
from benchmarks.calibration import FALSE_ALARM, held
from tests.boundary.test_rings import PLANE, tuple_of

pytestmark = pytest.mark.slow
COUNT, POINTS, BLUR = 60, 24, 1.0
PRIOR = aj.Prior(amplitude=0.05, amplitude_log_sd=0.3, lengthscale_log_sd=0.3, mean_log_sd=0.05)
# Steps of five sds up into the wall, and of either sign, 2 sds large, into the core.
STEP = StepPrior(np.array([0.0, 5.0]), np.array([1.0, 0.25]), np.asarray(8.0), np.asarray(8.0))
SETTINGS = {"prior": PRIOR, "rays": 64, "harmonics": 8, "radius_max": 38.0}


@cache
def fitted() -> tuple[list[aj.Posterior], aj.Posterior]:
    """Posteriors and their truths: points stand exactly on rays, where tables are exact."""
    target = aj.ring_target(tuple_of(24.0, 11.0), PLANE)
    prior = aj.boundary_model(target, **SETTINGS)
    chart, truths = prior.chart, aj.prior_draws(prior, COUNT, seed=7)
    high = chart.reach[1]
    mean, precision = nested_prior(STEP)
    models = []
    for seed, truth in enumerate(truths.draws):
        rng = np.random.default_rng([seed, 2])
        place = (np.arange(POINTS) + rng.uniform(size=(chart.rays, POINTS))) / POINTS
        outer, inner = (ndtr((half[:, None] - high * place) / BLUR) for half in chart.halves(truth))
        sd = np.sqrt(float(STEP.rate) / rng.gamma(float(STEP.shape)))
        level, wall, core = mean + sd / np.sqrt(precision) * rng.standard_normal(3)
        values = level + wall * outer + core * inner + sd * rng.standard_normal(place.shape)
        points = np.stack([chart.line(ray, row) for ray, row in enumerate(high * place)])
        evidence = aj.point_intensity(
            points.reshape(-1, 2), values.ravel(), family="blurred", blur=BLUR, prior=STEP
        )
        models.append(aj.boundary_model(target, evidence, **SETTINGS))
    return aj.fit_many(models, draws=500, seed=0), truths


def test_ranks_are_uniform_and_bands_cover_and_those_scaled_by_seven_tenths_do_not():
    posteriors, truths = fitted()
    assert truths.draws.max() < posteriors[0].chart.reach[1]
    assert aj.sbc_ranks(posteriors, truths).p >= FALSE_ALARM
    assert held(posteriors, truths.draws).sum() >= int(binom.ppf(0.001, COUNT, 0.95))
    assert held(posteriors, truths.draws, 0.7).sum() < int(binom.ppf(0.001, COUNT, 0.95))
