"""Which closed curves does a contour, a mask or a drawn volume make in one slice?"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.space.curve import Curve, MultiPolygon, contours_from_mask, region_of
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel
from aistat_jax.space.ring import Ring

Region = Curve | Ring | tuple[Curve, ...] | np.ndarray | Channel
"""A region of a slice: its contour, a ring, all contours, a boolean mask (2D, or 3D on the image's
grid), a volume."""


def outlines(region: Region, plane: Plane) -> tuple[Curve, ...]:
    """The closed curves that bound a region in the slice `plane`, the largest first.

    `region` is a `Curve` or a `Ring` in that slice, or several curves; a boolean mask of the slice
    (nu, nv), or of the volume (i, j, k) whose slice it is, as `read_mask` returns; or a `Channel`
    that holds a mask of 0 and 1 (or inside fractions) on a grid of its own. Masks are drawn along
    half a pixel, as `contours_from_mask` says: boundaries run counter-clockwise, holes clockwise.

    Returns nothing where the mask is empty in this slice. Raises InputError for a mask of another
    shape or another kind, a channel without this slice, and a curve in another unit.

    >>> plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(5, 5), unit="px")
    >>> mask = np.zeros((5, 5), dtype=bool); mask[1:4, 1:4] = True
    >>> [curve.area for curve in outlines(mask, plane)]
    [8.5]
    """
    if isinstance(region, Ring):
        region = region.curves
    curves = (region,) if isinstance(region, Curve) else region
    if isinstance(curves, tuple):
        for curve in curves:
            if curve.unit != plane.unit:
                raise InputError(
                    f"the contour is in {curve.unit} and the slice in {plane.unit}; "
                    "pass a contour drawn on this image"
                )
        return curves
    if isinstance(region, Channel):
        own = region.slice_at(plane)
        return tuple(contours_from_mask(own.values, own.plane))
    if not isinstance(region, np.ndarray):
        raise InputError(
            "a region is a Curve, a boolean mask or a Channel that holds one, got "
            f"{_article(type(region).__name__)}"
        )
    return tuple(contours_from_mask(_slice_of(region, plane), plane))


def region_in(chart: Any, values: Float[np.ndarray, " site"], plane: Plane | None) -> MultiPolygon:
    """The inside of a boundary in a plane, by default that of its chart, as shapely polygons.

    Raises InputError for a surface without a plane.
    """
    if plane is None and chart.dims == 3:
        raise InputError(
            "a surface has no slice of its own; say which plane, as image[name].grid.plane(k)"
        )
    return region_of(chart.sections(np.asarray(values), chart.plane if plane is None else plane))


def _slice_of(mask: np.ndarray, plane: Plane) -> np.ndarray:
    """The mask of one slice, of itself or of its volume."""
    if mask.dtype != bool:
        raise InputError(
            f"a mask must be boolean, got an array of {mask.dtype}; pass mask > 0 if that is meant"
        )
    if mask.ndim == 3 and mask.shape[:2] == plane.shape and plane.index < mask.shape[2]:
        return mask[:, :, plane.index]
    if mask.shape != plane.shape:
        raise InputError(
            f"a mask of shape {mask.shape} is not on the grid of this image, whose slice "
            f"{plane.index} has {plane.shape[0]} x {plane.shape[1]} pixels; read it with "
            "read_mask(path, like=image.primary), or pass it as a Channel with a grid of its own"
        )
    return mask


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
