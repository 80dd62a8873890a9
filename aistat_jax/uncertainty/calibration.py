"""Does a posterior mean what it says? Ranks of simulated truths among its draws.

Simulation-based calibration (Talts et al. 2018): draw a truth from the prior, data from the model
given the truth, and fit. Over many repetitions the rank of the truth among independent posterior
draws is uniform if the computation is right. Too narrow a posterior piles ranks up at both ends,
too wide a one in the middle, a shifted one on one side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float, Int
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.coverage import binomial_interval
from aistat_jax.uncertainty.uniformity import check_draws, chi_square_p, ecdf_p

DIRECTIONS = (0, 90, 180, 270)  # degrees
LEVELS = (0.5, 0.8, 0.95)


class Covered(NamedTuple):
    """How many of the truths a central interval held: a share, with its Monte-Carlo error.

    `level` is the probability of the ranks that count as held; low and high are the 95%
    Clopper-Pearson bounds of the share.
    """

    level: float
    share: float
    error: float
    low: float
    high: float


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

    def central_coverage(self, levels: Sequence[float] = LEVELS) -> dict[str, tuple[Covered, ...]]:
        """What central posterior intervals held of each quantity.

        A truth is held by the interval between two draws where its rank says so; levels are
        rounded to those that ranks know (of 99 draws .96 for .95, of 199 it is .95).
        Raises InputError for a level outside (0, 1).
        """
        found: dict[str, tuple[Covered, ...]] = {}
        count, places = len(self.values), self.draws + 1
        for name, ranks in zip(self.names, self.values.T, strict=True):
            rows = []
            for level in levels:
                if not 0 < level < 1:
                    raise InputError(f"a level must lie strictly between 0 and 1, got {level}")
                tail = round((1 - level) / 2 * places - 1e-9)
                held = int(((ranks >= tail) & (ranks < places - tail)).sum())
                low, high = binomial_interval(np.array([held]), count, 0.95)
                exact, share = 1 - 2 * tail / places, held / count
                error = float(np.sqrt(share * (1 - share) / count))
                rows.append(Covered(exact, share, error, float(low[0]), float(high[0])))
            found[name] = tuple(rows)
        return found

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
    check_draws(draws)
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
