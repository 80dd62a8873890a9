"""Which few boundaries stand best for all the draws of a posterior?

Sixteen draws at random are a poor picture of a thousand, and sixteen may be all that a treatment
plan can be optimised against. The best sixteen have the smallest energy distance to the draws:
with d = 1 - IoU, 2 E d(S, Y) - E d(S, S') - E d(Y, Y') for S among the few and Y among all.
"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior

MOST = 1000  # draws that are compared with one another; of more, as many spread evenly


def representatives(posterior: Posterior, count: int = 16) -> Posterior:
    """`count` outcomes of equal weight that no one exchange would bring closer to all draws.

    Where the target may not exist, "nothing there" is an outcome too: of `count`, as many have a
    boundary as stand for the posterior best, and the share of these is the presence of what is
    returned. They are draws of the posterior, some possibly more than once, in one chain; the
    diagnostics are those of all draws. At least one boundary is kept whatever the presence.
    No draw of random numbers is involved. IoU is that of the sectors of a chart, of which
    each boundary has as much as its value there gives: sum min(r, s)^2 / sum max(r, s)^2 for radii
    r and s about one centre.

    Raises InputError for no count. Source: support points, Mak & Joseph 2018, equation 2, with
    the distance of Kohl et al. 2018; chosen one by one, then exchanged while that helps.
    """
    if count < 1:
        raise InputError(f"at least one representative must be asked for, got {count}")
    draws, total = posterior.draws, len(posterior.draws)
    looked_at = np.unique(np.linspace(0, total - 1, min(total, MOST)).round().astype(int))
    sectors = posterior.chart.sectors(draws[looked_at])
    distance = sector_distance(sectors, sectors)
    share = posterior.presence / len(looked_at)
    weights = np.append(np.full(len(looked_at), share), 1 - posterior.presence)
    with_nothing = np.pad(distance, (0, 1), constant_values=1.0)
    with_nothing[-1, -1] = 0.0
    possible = np.flatnonzero(weights)
    chosen = possible[
        nearest_to(weights[possible], with_nothing[np.ix_(possible, possible)], count)
    ]
    present = chosen[chosen < len(looked_at)]
    kept = looked_at[present if len(present) else [int(distance.mean(axis=1).argmin())]]
    return replace(
        posterior,
        radii=draws[kept][None],
        samples={
            name: value.reshape(total, *value.shape[2:])[kept][None]
            for name, value in posterior.samples.items()
        },
        presence=len(present) / count,
    )


def sector_distance(
    a: Float[np.ndarray, "n site"], b: Float[np.ndarray, "m site"]
) -> Float[np.ndarray, "n m"]:
    """1 - IoU of every pair of boundaries on one chart, from their sectors (`Chart.sectors`)."""
    common = np.empty((len(a), len(b)))
    for row, one in zip(common, a, strict=True):
        row[:] = np.minimum(one, b).sum(axis=1)
    union = a.sum(axis=1)[:, None] + b.sum(axis=1) - common
    return 1 - common / np.maximum(union, np.finfo(float).tiny)


def nearest_to(
    weights: Float[np.ndarray, " n"], distance: Float[np.ndarray, "n n"], count: int
) -> np.ndarray:
    """`count` of n points of equal weight, repeats allowed, close to the weighted n in energy.

    Shapes: weights (n,) sum to 1; distance (n, n) between the points. Returns (count,), sorted.
    """
    to_all = distance @ weights
    chosen = np.empty(count, dtype=int)
    to_chosen = np.zeros(len(weights))
    for n in range(count):
        chosen[n] = np.argmin(to_all - to_chosen / (n + 1))
        to_chosen += distance[:, chosen[n]]
    moved = True
    while moved:  # it ends: every exchange comes closer, and there are finitely many choices
        moved = False
        for n in range(count):
            rest = to_chosen - distance[:, chosen[n]]
            energy = to_all - rest / count
            best = int(np.argmin(energy))
            if energy[best] < energy[chosen[n]] - 1e-12:
                to_chosen = rest + distance[:, best]
                chosen[n], moved = best, True
    return np.sort(chosen)
