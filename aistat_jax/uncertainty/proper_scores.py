"""How good is a predicted distribution? Proper scores: in the mean the truth itself scores best.

All are losses, in the unit of what is predicted (Gneiting & Raftery 2007, Strictly proper scoring
rules, prediction, and estimation, JASA 102, 359-378).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float


def crps(draws: Sequence[float] | np.ndarray, truth: float) -> float:
    """Continuous ranked probability score of draws: E|X - y| - E|X - X'| / 2, of a volume say.

    That of the draws' own distribution (means over all pairs, a draw with itself included). One
    draw alone has its absolute error. Raises InputError for no draws, or values that are no number.

    >>> crps(np.array([1.0, 3.0]), 2.0)
    0.5
    """
    return energy_score(np.asarray(draws, dtype=float)[:, None], np.array([truth], dtype=float))


def energy_score(draws: Sequence[Any] | np.ndarray, truth: Sequence[float] | np.ndarray) -> float:
    """Energy score of draws of a vector: E|X - y| - E|X - X'| / 2 with Euclidean distances.

    Of radii along rays it scores a whole boundary at once. Shapes: draws (draw, dims), truth
    (dims,). Raises InputError for no draws, other shapes, or values that are no number.
    """
    drawn, true = np.asarray(draws, dtype=float), np.asarray(truth, dtype=float)
    if drawn.ndim != 2 or not len(drawn) or true.shape != drawn.shape[1:]:
        raise InputError(
            f"a score needs draws (draw, dims) and a truth (dims,), got {drawn.shape} and "
            f"{true.shape}"
        )
    if not (np.isfinite(drawn).all() and np.isfinite(true).all()):
        raise InputError("a score needs draws and a truth that are finite numbers")
    away = float(np.linalg.norm(drawn - true, axis=1).mean())
    return away - _mean_distance(drawn) / 2


def interval_score(lower: float, upper: float, truth: float, level: float) -> float:
    """Width of a central interval of probability `level`, and what missing the truth costs.

    (u - l) + 2 / alpha times the distance from the interval, alpha = 1 - level. Raises InputError
    for a level outside (0, 1) or an interval whose ends are crossed.

    >>> interval_score(1.0, 3.0, 4.0, level=0.8)
    12.0
    """
    if not 0 < level < 1:
        raise InputError(f"an interval's level must lie strictly between 0 and 1, got {level}")
    if not lower <= upper:
        raise InputError(f"an interval must not end below where it begins, got {lower} to {upper}")
    missed = max(lower - truth, truth - upper, 0.0)
    return float(round((upper - lower) + 2 / (1 - level) * missed, 12))


def _mean_distance(drawn: Float[np.ndarray, "draw dims"]) -> float:
    """Mean distance between two draws, each with itself included."""
    count, dims = drawn.shape
    if dims == 1:  # sorted, the k-th is added for the k before it and taken off for those after
        order = np.sort(drawn[:, 0])
        return float(2 * (order @ (2 * np.arange(count) - count + 1)) / count**2)
    from scipy.spatial.distance import pdist

    return float(2 * pdist(drawn).sum() / count**2) if count > 1 else 0.0
