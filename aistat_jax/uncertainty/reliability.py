"""Is what has a probability of 30% right three times in ten? In bins, and as one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float, Int

BINS, REPLICATES = 10, 1000


class Reliability(NamedTuple):
    """Mean probability and share that was right in bins of equal counts, lowest first.

    Where equal probabilities fall in two bins, each has of their rights as many as of them.

    `error` is the expected calibration error (the mean over all of |share - probability| of their
    bin; that of voxels, in bins of equal width, is of `voxel_scores`), `sd` its standard deviation
    over units drawn anew with replacement, and `chance` the mean that it has where every
    probability is right: of few it is not 0.
    Shapes: predicted, right and count (bin,).
    """

    predicted: Float[np.ndarray, " bin"]
    right: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]
    error: float
    sd: float
    chance: float


def reliability(
    probability: Sequence[float] | np.ndarray,
    right: Sequence[float] | np.ndarray,
    units: Sequence[Any] | np.ndarray | None = None,
    *,
    bins: int = BINS,
    seed: int = 0,
) -> Reliability:
    """How often what has about each probability is right.

    `right` is whether it was, and `units` which patient each is of (by default each its own): these
    are drawn anew. Raises InputError for arrays of different lengths, fewer of them than bins, and
    values outside of [0, 1].

    >>> found = reliability([0.1] * 10 + [0.9] * 10, [0] * 9 + [1] * 10 + [0], bins=2)
    >>> found.right.tolist(), round(found.error, 3)
    ([0.1, 0.9], 0.0)
    """
    p, hit = np.asarray(probability, dtype=float), np.asarray(right, dtype=float)
    of = np.arange(len(p)) if units is None else np.asarray(units)
    if p.shape != hit.shape or p.ndim != 1 or of.shape != p.shape:
        raise InputError(
            f"probability, right and units must be as long as each other, got {p.shape}, "
            f"{hit.shape} and {of.shape}"
        )
    if len(p) < bins or bins < 1:
        raise InputError(
            f"{len(p)} probabilities do not fill {bins} bins; give more, or fewer bins"
        )
    if not ((p >= 0) & (p <= 1) & (hit >= 0) & (hit <= 1)).all():
        raise InputError("probabilities, and whether they were right, must lie between 0 and 1")
    rng = np.random.default_rng(seed)
    names, of = np.unique(of, return_inverse=True)
    members = [np.flatnonzero(of == n) for n in range(len(names))]
    drawn = []
    for _ in range(REPLICATES):
        at = np.concatenate([members[n] for n in rng.integers(len(members), size=len(members))])
        drawn.append(_error(p[at], hit[at], bins)[0])
    even = [_error(p, (rng.random(len(p)) < p).astype(float), bins)[0] for _ in range(REPLICATES)]
    error, (predicted, share, count) = _error(p, hit, bins)
    return Reliability(predicted, share, count, error, float(np.std(drawn)), float(np.mean(even)))


def _error(p: np.ndarray, hit: np.ndarray, bins: int) -> tuple[float, tuple[np.ndarray, ...]]:
    _, of = np.unique(p, return_inverse=True)
    hit = (np.bincount(of, hit) / np.bincount(of))[of]  # whatever the order of equal ones
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    predicted, share = (np.array([values[part].mean() for part in parts]) for values in (p, hit))
    count = np.array([len(part) for part in parts])
    return float(count @ np.abs(share - predicted) / len(p)), (predicted, share, count)
