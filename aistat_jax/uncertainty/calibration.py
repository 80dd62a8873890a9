"""Does a posterior mean what it says? Ranks of simulated truths among its draws.

Simulation-based calibration (Talts et al. 2018): draw a truth from the prior, data from the model
given the truth, and fit. Over many repetitions the rank of the truth among independent posterior
draws is uniform if the computation is right. Too narrow a posterior piles ranks up at both ends,
too wide a one in the middle, a shifted one on one side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float, Int
from aistat_jax.inference.posterior import Posterior

DIRECTIONS = (0, 90, 180, 270)  # degrees
BINS = 10


@record
class Ranks:
    """Ranks of truths among posterior draws: uniform on 0 .. draws if all is well.

    Shapes: values (replicate, quantity), of the quantities named in `names`.
    """

    values: Int[np.ndarray, "replicate quantity"]
    names: tuple[str, ...] = static()
    draws: int = static(default=99)

    def p_values(self) -> dict[str, tuple[float, float]]:
        """(chi-square p, ECDF p) of uniformity, each quantity."""
        return {
            name: (chi_square_p(column, self.draws), ecdf_p(column, self.draws))
            for name, column in zip(self.names, self.values.T, strict=True)
        }

    @property
    def p(self) -> float:
        """Bonferroni p-value over all quantities and both tests."""
        each = [p for pair in self.p_values().values() for p in pair]
        return min(1.0, min(each) * len(each))


def sbc_ranks(
    posteriors: Sequence[Posterior],
    truths: Posterior,
    *,
    draws: int = 99,
    shrink: float = 1.0,
    seed: int = 0,
) -> Ranks:
    """Rank of each truth among `draws` draws of its posterior.

    `truths` holds one draw a posterior, in their order, as `prior_draws` makes them. What is
    ranked: the radius in four directions, the area, and every scalar site that all have, unless
    it is the same in all truths. `shrink` scales the draws about their mean (that of the
    logarithm where a quantity is positive): 0.7 is the negative control that a test must notice.
    `draws` of a posterior are taken at random; they should be nearly independent.

    Raises InputError when there are not as many truths as posteriors, for posteriors of too few
    draws, and for `draws` whose ranks do not fall into ten equal bins (99, 199, ... do).
    Source: Talts, Betancourt, Simpson, Vehtari & Gelman 2018, Validating Bayesian inference
    algorithms with simulation-based calibration.
    """
    count = len(truths.draws)
    if draws < 9 or (draws + 1) % BINS:
        raise InputError(f"draws + 1 must be a multiple of {BINS} (99, 199, ...), got {draws}")
    if count != len(posteriors):
        raise InputError(f"{len(posteriors)} posteriors need as many truths, got {count}")
    if fewest := [len(p.draws) for p in posteriors if len(p.draws) < draws]:
        raise InputError(f"ranks among {draws} draws need as many, got {min(fewest)}")
    true = quantities(truths)
    shared = set.intersection(*[set(p.samples) for p in posteriors])
    names = [n for n in true if n not in truths.samples or (n in shared and np.ptp(true[n]) > 0)]
    ranks = np.zeros((count, len(names)), dtype=int)
    for i, posterior in enumerate(posteriors):
        found = quantities(posterior)
        chosen = np.random.default_rng(seed + i).permutation(len(posterior.draws))[:draws]
        for k, name in enumerate(names):
            values, truth = found[name], true[name][i]
            if values.min() > 0 and truth > 0:
                values, truth = np.log(values), np.log(truth)
            values = values.mean() + shrink * (values - values.mean())
            ranks[i, k] = (values[chosen] < truth).sum()
    return Ranks(ranks, tuple(names), draws)


def quantities(posterior: Posterior) -> Mapping[str, Float[np.ndarray, " draw"]]:
    """Radius in four directions, area, and every scalar site, one value a draw."""
    radii = posterior.draws
    quarter = radii.shape[1] / 360
    found = {f"radius {angle}°": radii[:, round(angle * quarter)] for angle in DIRECTIONS}
    found["area"] = posterior.chart.sectors(radii).sum(axis=1)
    scalars = {n: v.ravel() for n, v in posterior.samples.items() if v.ndim == 2}
    return found | scalars


def bin_counts(ranks: Int[np.ndarray, " replicate"], draws: int) -> Int[np.ndarray, " bin"]:
    """How many ranks fall into each of BINS equal bins of 0 .. draws."""
    return np.bincount(ranks * BINS // (draws + 1), minlength=BINS)


def chi_square_p(ranks: Int[np.ndarray, " replicate"], draws: int) -> float:
    """p-value of uniform ranks in 0 .. draws, in BINS equal bins."""
    from scipy.stats import chisquare

    return float(chisquare(bin_counts(ranks, draws)).pvalue)


def ecdf_p(ranks: Int[np.ndarray, " replicate"], draws: int, simulations: int = 20_000) -> float:
    """p-value of the simultaneous ECDF test of Sailynoja, Burkner & Vehtari 2022.

    The statistic is the smallest pointwise two-sided binomial probability of the ECDF of the
    ranks over all its points; its distribution under uniformity is simulated.
    """
    observed = _ecdf_statistic(np.bincount(ranks, minlength=draws + 1)[None])
    null = _ecdf_null(len(ranks), draws, simulations)
    return float((1 + (null <= observed[0]).sum()) / (1 + simulations))


@cache
def _ecdf_null(count: int, draws: int, simulations: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    equal = np.full(draws + 1, 1 / (draws + 1))
    return _ecdf_statistic(rng.multinomial(count, equal, size=simulations))


def _ecdf_statistic(counts: np.ndarray) -> np.ndarray:
    from scipy.stats import binom

    below = np.cumsum(counts, axis=1)[:, :-1]
    total = int(counts[0].sum())
    places = counts.shape[1]
    place = np.arange(1, places) / places
    table = np.arange(total + 1)[:, None]
    two_sided = 2 * np.minimum(binom.cdf(table, total, place), binom.sf(table - 1, total, place))
    return np.take_along_axis(two_sided, below, axis=0).min(axis=1)
