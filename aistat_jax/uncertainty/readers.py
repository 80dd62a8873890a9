"""How well do samples of a region match several readers' regions?

Both scores use the distance 1 - IoU; two empty regions are the same (IoU 1).
"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float


def pairwise_iou(
    a: Bool[np.ndarray, "n ..."], b: Bool[np.ndarray, "m ..."]
) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every pair of masks; 1 for two empty ones.

    Raises InputError for masks of different grids.
    """
    if a.shape[1:] != b.shape[1:]:
        raise InputError(f"masks of shapes {a.shape[1:]} and {b.shape[1:]} are on different grids")
    first, second = (m.reshape(len(m), -1).astype(np.float64) for m in (a, b))
    common = first @ second.T
    union = first.sum(axis=1)[:, None] + second.sum(axis=1) - common
    return np.where(union > 0, common / np.maximum(union, 1.0), 1.0)


def ged_squared(
    samples: Bool[np.ndarray, "sample ..."], readers: Bool[np.ndarray, "reader ..."]
) -> float:
    """Generalised energy distance squared, 2 E d(S, Y) - E d(S, S') - E d(Y, Y').

    Means are over all pairs, a mask with itself included, as Kohl et al. 2018 (Probabilistic
    U-Net) and Baumgartner et al. 2019 (PHiSeg) compute it.
    """
    across = 1 - pairwise_iou(samples, readers)
    within = [1 - pairwise_iou(masks, masks) for masks in (samples, readers)]
    return float(2 * across.mean() - within[0].mean() - within[1].mean())


def matched_iou(
    samples: Bool[np.ndarray, "sample ..."], readers: Bool[np.ndarray, "reader ..."]
) -> float:
    """Mean IoU of samples and readers under the best one-to-one matching (Hungarian method).

    Readers are repeated in turn to the number of samples (Kohl et al. 2019, A hierarchical
    probabilistic U-Net for modeling multi-scale ambiguities). Raises InputError when that number
    is no multiple of theirs.
    """
    from scipy.optimize import linear_sum_assignment

    if len(samples) % len(readers):
        raise InputError(
            f"{len(samples)} samples cannot be matched with {len(readers)} readers evenly; draw "
            f"a multiple of {len(readers)}"
        )
    iou = np.tile(pairwise_iou(samples, readers), len(samples) // len(readers))
    return float(iou[linear_sum_assignment(-iou)].mean())
