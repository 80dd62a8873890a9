"""Are posteriors of offsets calibrated? Truths from the prior, data from the model on the normals.

Each site of a thin curve has its own reach, and the bent prior is felt where that is little. False
alarms: the rank test alarms at 1% family-wise; the count of bands that hold is compared with
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
from tests.helpers import horseshoe_curve, horseshoe_depth

pytestmark = pytest.mark.slow
POINTS, BLUR = 24, 1.0
PRIOR = aj.Prior(amplitude=0.05, amplitude_log_sd=0.3, lengthscale_log_sd=0.3, mean_log_sd=0.05)
SETTINGS = {"prior": PRIOR, "rays": 128, "harmonics": 16}


# A horseshoe 16 pixels thick all along, whose normals share one reach; and one 20 thick in the
# middle and 3 at its tips, each of whose normals has its own.
REFERENCES = {
    "even": horseshoe_curve(),
    "thin": horseshoe_depth(PLANE.points(), half=10.0, tip=1.5) > 0,
}
# How many truths of each.
COUNTS = {"even": 100, "thin": 200}


@cache
def fitted(name: str, seed: int = 7) -> tuple[list[aj.Posterior], aj.Posterior]:
    """Posteriors and their truths: points stand exactly on normals, where tables are exact."""
    target = aj.offset_target(REFERENCES[name], PLANE)
    prior = aj.boundary_model(target, **SETTINGS)
    chart, truths = prior.chart, aj.prior_draws(prior, COUNTS[name], seed=seed)
    low, high = (end[:, None] for end in chart.ends)
    models = []
    for number, truth in enumerate(truths.draws):
        rng = np.random.default_rng([seed, number])
        place = (np.arange(POINTS) + rng.uniform(size=(chart.sites, POINTS))) / POINTS
        position = low + (high - low) * place
        inside = ndtr((truth[:, None] - position) / BLUR)
        points = np.stack([chart.line(site, row) for site, row in enumerate(position)])
        evidence = aj.point_intensity(
            points.reshape(-1, 2), blurred_values(rng, inside, STEP).ravel(), family="blurred",
            blur=BLUR, prior=STEP,
        )  # fmt: skip
        models.append(aj.boundary_model(target, evidence, chart=chart, **SETTINGS))
    return aj.fit_many(models, draws=500, seed=0), truths


@pytest.mark.parametrize("name", REFERENCES)
def test_ranks_are_uniform_and_bands_cover_and_those_scaled_by_seven_tenths_do_not(name):
    posteriors, truths = fitted(name)
    chart, enough = posteriors[0].chart, int(binom.ppf(0.001, len(posteriors), 0.95))
    low, high = chart.ends
    assert (chart.limits is None) == (name == "even")
    assert ((truths.draws > low) & (truths.draws < high)).all()
    assert aj.sbc_ranks(posteriors, truths).p >= FALSE_ALARM
    assert held(posteriors, truths.draws).sum() >= enough
    assert aj.sbc_ranks(posteriors, truths, shrink=0.7).p < FALSE_ALARM
    assert held(posteriors, truths.draws, 0.7).sum() < enough


def test_where_there_is_little_room_bands_hold_what_they_say_and_narrower_ones_do_not():
    """Of intervals at the tips, each of one site: 95% of the draws, and 95% of the truths.

    Sites of one truth go together, so the error is that of the truths' own shares; the alarm is at
    three and a half of those.
    """
    posteriors, truths = fitted("thin")
    low, high = posteriors[0].chart.ends
    room = np.minimum(-low, high)
    narrow = room < 0.3 * np.median(room)
    assert narrow.sum() >= 5
    # the ends are felt there, and nowhere else
    used = np.abs(truths.draws) / room
    assert np.quantile(used[:, narrow], 0.9) > 0.5 > np.quantile(used[:, ~narrow], 0.9)

    def off(shrink: float) -> float:
        shares = []
        for posterior, truth in zip(posteriors, truths.draws, strict=True):
            draws = posterior.draws[:, narrow]
            draws = draws.mean(axis=0) + shrink * (draws - draws.mean(axis=0))
            least, most = np.quantile(draws, [0.025, 0.975], axis=0)
            shares.append(((truth[narrow] >= least) & (truth[narrow] <= most)).mean())
        error = np.std(shares, ddof=1) / np.sqrt(len(shares))
        return float((np.mean(shares) - 0.95) / error)

    assert abs(off(1.0)) < 3.5
    assert off(0.7) < -3.5
