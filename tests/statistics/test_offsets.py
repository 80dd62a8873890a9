"""Are posteriors of offsets calibrated? Truths from the prior, data from the model on the normals.

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
from aistat_jax.boundary.redrawn import blurred_values
from benchmarks.calibration import FALSE_ALARM, STEP, held
from tests.boundary.test_offsets import PLANE
from tests.helpers import horseshoe_curve

pytestmark = pytest.mark.slow
COUNT, POINTS, BLUR = 100, 24, 1.0
PRIOR = aj.Prior(amplitude=0.05, amplitude_log_sd=0.3, lengthscale_log_sd=0.3, mean_log_sd=0.05)
SETTINGS = {"prior": PRIOR, "rays": 128, "harmonics": 16}


@cache
def fitted() -> tuple[list[aj.Posterior], aj.Posterior]:
    """Posteriors and their truths: points stand exactly on normals, where tables are exact."""
    target = aj.offset_target(horseshoe_curve(), PLANE)
    prior = aj.boundary_model(target, **SETTINGS)
    chart, truths = prior.chart, aj.prior_draws(prior, COUNT, seed=7)
    low, high = chart.reach
    models = []
    for seed, truth in enumerate(truths.draws):
        rng = np.random.default_rng([seed, 2])
        place = (np.arange(POINTS) + rng.uniform(size=(chart.sites, POINTS))) / POINTS
        position = low + (high - low) * place
        inside = ndtr((np.clip(truth, low, high)[:, None] - position) / BLUR)
        points = np.stack([chart.line(site, row) for site, row in enumerate(position)])
        evidence = aj.point_intensity(
            points.reshape(-1, 2), blurred_values(rng, inside, STEP).ravel(), family="blurred",
            blur=BLUR, prior=STEP,
        )  # fmt: skip
        models.append(aj.boundary_model(target, evidence, **SETTINGS))
    return aj.fit_many(models, draws=500, seed=0), truths


def test_ranks_are_uniform_and_bands_cover_and_those_scaled_by_seven_tenths_do_not():
    posteriors, truths = fitted()
    low, high = posteriors[0].chart.reach
    assert (truths.draws > low).all()
    assert (truths.draws < high).all()
    assert aj.sbc_ranks(posteriors, truths).p >= FALSE_ALARM
    assert held(posteriors, truths.draws).sum() >= int(binom.ppf(0.001, COUNT, 0.95))
    assert aj.sbc_ranks(posteriors, truths, shrink=0.7).p < FALSE_ALARM
    assert held(posteriors, truths.draws, 0.7).sum() < int(binom.ppf(0.001, COUNT, 0.95))
