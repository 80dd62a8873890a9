"""Which least contour covers the target as well as was asked? Margins by coverage.

A plan needs contours that hold the target, or a stated share of it, with a stated probability;
how far they lie from the median follows, and differs by direction. After Bernstein et al. 2021,
who bound the target by an inner and an outer contour, put a law between them and read a patient's
own margin off it; here the law is the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.planning.margins import (
    Covered,
    SafetyMargin,
    check_margin,
    covered_share,
)
from aistat_jax.space.chart import LINKS, outwards

# How far contours go on beyond the outermost draws, as shares of their way from the median.
STRETCH = 1 + 0.05 * np.arange(1, 61)


def coverage_margin(
    posterior: Posterior, *, share: float = 0.98, probability: float | None = 0.95
) -> SafetyMargin:
    """The least contour that covers a share of the target with a probability, and its inner twin.

    Contours are those of probability: within the one of level t every point is inside of the
    target with probability at least t, so that they grow as t falls. Outer is the least of them
    for which |D and C| / |D| >= `share` with probability at least `probability`, D the target and
    C the contour; inner the largest for which |D and C| / |C| >= `share` is. With `probability`
    None the share is that expected, the mean over draws: of all sets of its size, a contour of
    probability covers most of the target in expectation (the ratio of means; Neyman and Pearson's
    lemma).

    The first half of each chain makes the contours, and the second chooses among them and says
    how well they cover. As the rank of a draw among draws is uniform, a target that is like
    independent draws is covered with at least `probability`, however few they are. Beyond the
    outermost draws contours go on by stretching what these make away from the median.

    Where less is asked than the median covers, the outer contour lies inside of it and the margin
    is negative. Sizes are those of the sectors of a chart, as in `representatives`. It is of
    delineation alone, given that there is a target: set-up errors are not in it. A slice knows
    nothing of its neighbours: the share is that of its own area.

    Raises InputError for a share or probability outside (0, 1), fewer than 100 draws, and what no
    contour of these reaches. Source: Bernstein et al. 2021, Phys Med Biol 66 055024; the
    mean coverage as a criterion is that of Stroom et al. 1999, Int J Radiat Oncol 43(4).
    """
    asked = {"share": share} | ({} if probability is None else {"probability": probability})
    check_margin(posterior, **asked)
    chart, radii = posterior.chart, np.asarray(posterior.radii, dtype=float)
    radii = radii if radii.shape[1] > 1 else radii.reshape(1, -1, radii.shape[-1])
    half = radii.shape[1] // 2
    makers, judges = (
        part.reshape(-1, radii.shape[-1]) for part in (radii[:, :half], radii[:, half:])
    )
    family, levels = _family(chart, makers)
    sizes, targets = chart.sectors(family), chart.sectors(judges)

    def covers(row: int) -> np.ndarray:
        return covered_share(targets, sizes[row])

    def covered(row: int) -> np.ndarray:
        return np.minimum(targets, sizes[row]).sum(axis=1) / sizes[row].sum()

    needed = 0 if probability is None else math.ceil((len(judges) + 1) * probability)
    if needed > len(judges):
        raise InputError(
            f"{2 * len(judges)} draws cannot tell a probability of {probability:g}; fit again with "
            "more draws"
        )

    def enough(shares: np.ndarray) -> bool:
        if probability is None:
            return float(shares.mean()) >= share
        return int((shares >= share).sum()) >= needed

    last = len(family) - 1
    outer = _first(lambda row: enough(covers(row)), last)
    inner = last - _first(lambda row: enough(covered(last - row)), last)
    return SafetyMargin(
        chart,
        np.median(posterior.draws, axis=0),
        family[outer],
        family[inner],
        _covered(covers(outer), share),
        _covered(covered(inner), share),
        "expected coverage",
        share,
        (levels[outer], levels[inner]),
        posterior.target_id,
    )


def _family(
    chart: Any, draws: Float[np.ndarray, "draw site"]
) -> tuple[Float[np.ndarray, "row site"], list[float]]:
    """Contours row by row one within the next, and the probability that each is the contour of.

    The smallest is 1 and the largest 0 beyond the draws, where they are stretched.
    """
    grows, count = outwards(chart), len(draws)
    middle = np.median(draws, axis=0)
    among = np.sort(grows * draws, axis=0) * grows
    beyond = middle + STRETCH[:, None] * (among[-1] - middle)
    within = middle + STRETCH[::-1, None] * (among[0] - middle)
    if LINKS[chart.link].layers == 2:
        within = within[:0]  # the edges of a ring would cross
    low, high = chart.ends
    high = np.maximum(high, draws.max(axis=0))
    if chart.link == "log":
        low = np.maximum(low, 1e-3 * middle)
    levels = [1.0] * len(within) + [1 - (n + 0.5) / count for n in range(count)]
    return np.clip(np.concatenate([within, among, beyond]), low, high), levels + [0.0] * len(beyond)


def _covered(shares: np.ndarray, share: float) -> Covered:
    return Covered(float(shares.mean()), float((shares >= share).mean()))


def _first(holds: Callable[[int], bool], last: int) -> int:
    """The first row for which a condition holds that goes on to hold once it does.

    Raises InputError where it does not at the last.
    """
    if not holds(last):
        raise InputError(
            "no contour that grows from these draws covers as much as was asked; ask for a smaller "
            "share or probability, or fit again with more draws"
        )
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
