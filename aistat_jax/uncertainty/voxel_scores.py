"""How good are probabilities voxel by voxel, near the boundary where they can be wrong?

Over a whole image almost every voxel is easy, and any score is near perfect. So scores are of a
band about the reference's boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float

BINS = 15
LEAST = 1e-6
THRESHOLDS = 40


class VoxelScores(NamedTuple):
    """Means over `count` voxels: negative log-likelihood (nats), Brier score, calibration error.

    ece: voxels in 15 bins of equal width by their probability of being inside; mean over voxels of
    the distance, in their bin, between mean probability and share inside (Naeini et al. 2015,
    Obtaining well calibrated probabilities using Bayesian binning, AAAI, 2901-2907; of the inside,
    not of the likelier class as in Guo et al. 2017).
    """

    nll: float
    brier: float
    ece: float
    count: int


class QuBrats(NamedTuple):
    """The score of `qu_brats`, and the areas under Dice and what is filtered."""

    score: float
    dice: float
    filtered_true_positives: float
    filtered_true_negatives: float


def boundary_band(
    mask: Bool[np.ndarray, "*voxel"], width: float, spacing: Sequence[float] | np.ndarray
) -> Bool[np.ndarray, "*voxel"]:
    """Voxels that lie within `width` of a voxel of the other kind, centre to centre; 2D or 3D.

    Shapes: spacing (dims,), and `width`, in one unit. None for a mask without a boundary. Raises
    InputError for a width that is not positive.
    """
    from scipy.ndimage import distance_transform_edt

    if not width > 0:
        raise InputError(f"the width of a boundary band must be positive, got {width}")
    mask = np.asarray(mask, dtype=bool)
    if mask.all() or not mask.any():
        return np.zeros(mask.shape, dtype=bool)
    sides = np.broadcast_to(np.asarray(spacing, dtype=float), (mask.ndim,))
    inside, outside = (np.asarray(distance_transform_edt(m, sampling=sides)) for m in (mask, ~mask))
    return inside + outside <= width * (1 + 1e-9)


def voxel_scores(
    probability: Float[np.ndarray, "*voxel"],
    truth: Bool[np.ndarray, "..."],
    where: Bool[np.ndarray, "..."] | None = None,
    *,
    least: float = LEAST,
) -> VoxelScores:
    """Scores of probabilities of being inside, over the voxels of `where` (by default all).

    A probability of 0 or 1 that is wrong has no finite log-likelihood: the NLL is of probabilities
    held between `least` and 1 - `least` (draws cannot tell less than one in their number). NaN
    where there is no voxel. Brier 1950, Verification of forecasts expressed in terms of
    probability, Mon Weather Rev 78, 1-3. Raises InputError for other shapes, or values outside
    [0, 1].
    """
    _check(probability, truth)
    truth, chosen = np.asarray(truth, dtype=bool), _chosen(where, truth.shape)
    p, y = np.asarray(probability, dtype=float)[chosen], truth[chosen].astype(float)
    if not len(p):
        return VoxelScores(float("nan"), float("nan"), float("nan"), 0)
    held = np.clip(p, least, 1 - least)
    nll = -np.where(y > 0, np.log(held), np.log1p(-held)).mean()
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    off = np.bincount(place, p - y, BINS)
    return VoxelScores(
        float(nll), float(((p - y) ** 2).mean()), float(np.abs(off).sum() / len(p)), len(p)
    )


def qu_brats(
    predicted: Bool[np.ndarray, "*voxel"],
    truth: Bool[np.ndarray, "..."],
    uncertainty: Float[np.ndarray, "..."],
    where: Bool[np.ndarray, "..."] | None = None,
) -> QuBrats:
    """The score of the BraTS challenge on uncertainty (Mehta et al. 2022, MELBA 1, 1-54).

    At 41 thresholds from 0 to 1 voxels whose uncertainty is higher are filtered out. Dice of the
    rest should rise (that of nothing against nothing is 1), and few true positives and true
    negatives be filtered: the score is (D + (1 - P) + (1 - N)) / 3, of the areas D, P and N under
    Dice and under the shares of true positives and negatives that are filtered.

    Shapes: uncertainty of the masks' shape, in [0, 1] (the challenge counts in percent); `where`,
    in which true negatives are counted (there the brain), by default everything. Raises InputError
    for other shapes, or values outside [0, 1].
    """
    _check(uncertainty, truth)
    if predicted.shape != truth.shape:
        raise InputError(f"mask shapes {predicted.shape} and {truth.shape} differ")
    predicted, truth = np.asarray(predicted, dtype=bool), np.asarray(truth, dtype=bool)
    within = _chosen(where, truth.shape)
    # a voxel is left from the first threshold on that is not below its uncertainty
    first = np.ceil(np.asarray(uncertainty, dtype=float) * THRESHOLDS - 1e-9).astype(int)

    def left(kind: Bool[np.ndarray, "..."]) -> Float[np.ndarray, " threshold"]:
        return np.cumsum(np.bincount(first[kind], minlength=THRESHOLDS + 1)).astype(float)

    both, sizes = left(predicted & truth), left(predicted) + left(truth)
    overlap = np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)
    right = left(predicted & truth & within), left(~predicted & ~truth & within)
    gone = [1 - kept / kept[-1] if kept[-1] else np.zeros(len(kept)) for kept in right]
    d, p, n = (float((each[1:] + each[:-1]).mean() / 2) for each in (overlap, *gone))
    return QuBrats((d + (1 - p) + (1 - n)) / 3, d, p, n)


def _chosen(where: np.ndarray | None, shape: tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    if where is None:
        return np.ones(shape, dtype=bool)
    if where.shape != shape:
        raise InputError(f"where has shape {where.shape}, and the masks {shape}")
    return np.asarray(where, dtype=bool)


def _check(values: np.ndarray, truth: np.ndarray) -> None:
    if values.shape != truth.shape:
        raise InputError(f"a map of shape {values.shape} does not fit a mask of {truth.shape}")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise InputError("probabilities and uncertainties must lie in [0, 1]")
