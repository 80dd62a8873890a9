"""How much do two regions have in common, and what of each does the other not touch?"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool
from aistat_jax.space.curve import Curve
from aistat_jax.space.ring import Ring


def dice(a: Any, b: Any) -> float:
    """Twice the common part over the sum of two regions: masks of one shape, or curves and rings.

    Of these it is that of their areas, exactly. NaN when both masks are empty. Raises InputError
    when shapes or units differ, or a curve is to be compared with a mask.

    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    if isinstance(a, Curve | Ring) or isinstance(b, Curve | Ring):
        first, second = _two_regions(a, b)
        return float(2 * first.intersection(second).area / (first.area + second.area))
    a, b = two_masks(a, b)
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else float("nan")


def lebesgue_error(a: Curve | Ring, b: Curve | Ring) -> float:
    """Area inside one closed curve, or ring, but not the other, in the square of their unit.

    A curve that crosses itself is first made valid (its even-odd region).
    Raises InputError when the units differ.
    """
    first, second = _two_regions(a, b)
    return float(first.symmetric_difference(second).area)


def stray_volume(a: np.ndarray, b: np.ndarray, voxel: float = 1.0) -> float:
    """Volume of the pieces of mask `a` that touch nothing of `b`, each voxel of volume `voxel`.

    Of a prediction against its reference this is autoPET's false-positive volume, of a reference
    against its prediction its false-negative volume. Pieces are connected by faces and edges (18
    neighbours), as in the challenge's own code (Gatidis et al. 2024, Nature Machine Intelligence
    6, 1396-1405). Raises InputError when the shapes differ.

    >>> stray_volume(np.array([1, 1, 0, 1, 0, 1]), np.array([0, 1, 1, 0, 0, 0]), voxel=4.0)
    8.0
    """
    from scipy import ndimage

    a, b = two_masks(a, b)
    labels = np.zeros(a.shape, dtype=np.int32)
    ndimage.label(a, ndimage.generate_binary_structure(a.ndim, min(2, a.ndim)), output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[np.unique(labels[b])] = 0
    return float(sizes.sum() * voxel)


def two_masks(a: Any, b: Any) -> tuple[Bool[np.ndarray, "..."], Bool[np.ndarray, "..."]]:
    """Two masks on one grid. Raises InputError for what is no array, and when shapes differ."""
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if not (a.ndim and b.ndim):
        raise InputError("regions must be masks of one shape; draw a mesh into voxels first")
    if a.shape != b.shape:
        raise InputError(f"mask shapes {a.shape} and {b.shape} differ; resample one of them")
    return a, b


def _two_regions(a: Any, b: Any) -> tuple[Any, Any]:
    if not (isinstance(a, Curve | Ring) and isinstance(b, Curve | Ring)):
        raise InputError("a curve can be compared with a curve only; draw it into a mask first")
    if a.unit != b.unit:
        raise InputError(f"cannot compare a contour in {a.unit} with one in {b.unit}")
    return a.region(), b.region()
