"""Are ranks spread evenly? Counts in bins, and the ECDF with a band that holds all of it at once.

Ranks are whole numbers 0 .. draws, as many as there were replicates.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float, Int

BINS = 10
SIMULATIONS = 20_000


def check_draws(draws: int) -> None:
    """InputError for draws whose ranks do not fall into ten equal bins (99, 199, ... do)."""
    if draws < 9 or (draws + 1) % BINS:
        raise InputError(f"draws + 1 must be a multiple of {BINS} (99, 199, ...), got {draws}")


def bin_counts(ranks: Int[np.ndarray, " replicate"], draws: int) -> Int[np.ndarray, " bin"]:
    """How many ranks fall into each of BINS equal bins of 0 .. draws."""
    return np.bincount(ranks * BINS // (draws + 1), minlength=BINS)


def chi_square_p(ranks: Int[np.ndarray, " replicate"], draws: int) -> float:
    """p-value of uniform ranks in 0 .. draws, in BINS equal bins."""
    from scipy.stats import chisquare

    return float(chisquare(bin_counts(ranks, draws)).pvalue)


def ecdf_p(
    ranks: Int[np.ndarray, " replicate"], draws: int, simulations: int = SIMULATIONS
) -> float:
    """p-value of the simultaneous ECDF test of Sailynoja, Burkner & Vehtari 2022.

    The statistic is the smallest pointwise two-sided binomial probability of the ECDF of the
    ranks over all its points; its distribution under uniformity is simulated.
    """
    observed = _ecdf_statistic(np.bincount(ranks, minlength=draws + 1)[None])
    null = _ecdf_null(len(ranks), draws, simulations)
    return float((1 + (null <= observed[0]).sum()) / (1 + simulations))


def ecdf_difference(ranks: Int[np.ndarray, " replicate"], draws: int) -> Float[np.ndarray, " p"]:
    """ECDF of ranks less that of even ranks, at the places of `ecdf_band`."""
    below = np.cumsum(np.bincount(ranks, minlength=draws + 1))[:-1]
    return below / len(ranks) - _places(draws)


def ecdf_band(
    count: int, draws: int, level: float = 0.95, simulations: int = SIMULATIONS
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Places, and the band that holds the whole ECDF difference of `count` even ranks at once.

    With probability `level`; at each place it is the binomial interval of one probability, found
    by simulation (Sailynoja, Burkner & Vehtari 2022, Statistics and Computing 32, 32).
    Shapes: three of (draws,). Raises InputError for a level outside (0, 1).
    """
    from scipy.stats import binom

    if not 0 < level < 1:
        raise InputError(f"a band's level must lie strictly between 0 and 1, got {level}")
    null, place = _ecdf_null(count, draws, simulations), _places(draws)
    gamma = float(np.quantile(null, 1 - level, method="lower"))
    low, high = binom.ppf(gamma / 2, count, place), binom.isf(gamma / 2, count, place)
    return place, low / count - place, high / count - place


def _places(draws: int) -> Float[np.ndarray, " p"]:
    return np.arange(1, draws + 1) / (draws + 1)


@cache
def _ecdf_null(count: int, draws: int, simulations: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    equal = np.full(draws + 1, 1 / (draws + 1))
    return _ecdf_statistic(rng.multinomial(count, equal, size=simulations))


def _ecdf_statistic(counts: np.ndarray) -> np.ndarray:
    from scipy.stats import binom

    below = np.cumsum(counts, axis=1)[:, :-1]
    total = int(counts[0].sum())
    place = _places(counts.shape[1] - 1)
    table = np.arange(total + 1)[:, None]
    two_sided = 2 * np.minimum(binom.cdf(table, total, place), binom.sf(table - 1, total, place))
    return np.take_along_axis(two_sided, below, axis=0).min(axis=1)
