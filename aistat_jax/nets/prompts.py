"""How does a network hear what it is asked for? Points and a box as channels beside the image.

Channel 0 has a Gaussian bump about every foreground point (this is wanted), channel 1 about
every background point (this is not), channel 2 is 1 inside a box and 0 outside. All zeros: nothing
in particular is asked for, and the network answers with everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import ArrayLike, Float
from aistat_jax.nets.plan import Plan
from aistat_jax.space.grid import Grid

GUIDES = 3  # channels
SD_VOXELS = 2.0  # of a bump, along each of the network's axes
SEEN = 0.5  # of a bump's or box's 1: what a window must hold to have been asked
SAME_PLACE = 1e-6  # voxels between a box's face and a voxel centre that lies on it


def prompts(
    plan: Plan,
    grid: Grid,
    *,
    foreground_mm: Sequence[Any] | ArrayLike = (),
    background_mm: Sequence[Any] | ArrayLike = (),
    box_mm: Sequence[Any] | ArrayLike | None = None,
) -> Float[np.ndarray, "i j k 3"]:
    """What a person points at in an image, as the guidance of a network (see `predict`).

    A bump is exp(-d^2 / (2 * 2^2)), d the distance to the point in working voxels, so 1 at the
    point; where bumps overlap the larger counts. For a 2D network, which sees one plane at a
    time, points belong to the plane nearest to them, and a box to the planes it spans. A box has
    its edges along the grid's axes and holds the voxel centres between its corners, along each
    axis at least the one nearest to its middle. It may reach beyond the image.

    Shapes: grid, the working grid (`prepare(plan, image).grid`); foreground_mm and background_mm
    (point, 3), or (3,) for one point; box_mm (2, 3), opposite corners; all in patient millimetres
    (RAS+; in px for a grid in px). Returns float32, zeros where nothing is passed.
    Raises InputError for a point outside the image, a box that misses it, or a network that takes
    no prompts.

    >>> from aistat_jax.nets.architecture import Architecture
    >>> from aistat_jax.nets.plan import Normalisation
    >>> a = Architecture(2, 1, 2, (4, 8), ((2, 2),), guidance=3)
    >>> plan = Plan("net", a, ("PT",), ("SUV",), ("background", "lesion"),
    ...             (Normalisation("suv"),), (4.0, 4.0, 4.0), (16, 16), 2)
    >>> grid = Grid(np.diag([4.0, 4.0, 4.0, 1.0]), (16, 16, 3))
    >>> asked = prompts(plan, grid, foreground_mm=(20.0, 8.0, 4.0))
    >>> asked[5, 2, :, 0].tolist(), round(float(asked[7, 2, 1, 0]), 4)
    ([0.0, 1.0, 0.0], 0.6065)
    """
    a = plan.architecture
    if a.guidance != GUIDES:
        raise InputError(
            f"the network {plan.name} takes no points or boxes; train one whose plan has "
            f"guidance={GUIDES}"
        )
    wanted = _points(grid, foreground_mm, "foreground")
    unwanted = _points(grid, background_mm, "background")
    box = None if box_mm is None else _box(grid, box_mm)
    if a.dims == 3:
        return guide_maps(grid.shape, wanted, unwanted, box)
    maps = np.zeros((*grid.shape, GUIDES), np.float32)
    last = grid.shape[2] - 1
    planes = [np.clip(np.rint(points[:, 2]), 0, last) for points in (wanted, unwanted)]
    spanned = range(0) if box is None else range(last + 1)[_inside(box[:, 2], last + 1)]
    for k in {*map(int, np.concatenate(planes)), *spanned}:
        here, not_here = wanted[planes[0] == k, :2], unwanted[planes[1] == k, :2]
        flat = box[:, :2] if box is not None and k in spanned else None
        maps[:, :, k] = guide_maps(grid.shape[:2], here, not_here, flat)
    return maps


def guide_maps(
    shape: tuple[int, ...],
    foreground: Float[np.ndarray, "point axis"],
    background: Float[np.ndarray, "other axis"],
    box: Float[np.ndarray, "2 axis"] | None,
) -> Float[np.ndarray, "*shape 3"]:
    """Bumps about points and the inside of a box, all in fractional indices of an array.

    Shapes: box, its lowest and its highest corner. Returns float32 (*shape, 3).
    """
    maps = np.zeros((*shape, GUIDES), np.float32)
    for channel, points in enumerate((foreground, background)):
        for point in points:
            bump = np.ones((), np.float32)
            for size, middle in zip(shape, point, strict=True):
                d = (np.arange(size) - middle) / SD_VOXELS
                bump = bump[..., None] * np.exp(-0.5 * d**2).astype(np.float32)
            maps[..., channel] = np.maximum(maps[..., channel], bump)
    if box is not None:
        inside = tuple(_inside(faces, n) for faces, n in zip(box.T, shape, strict=True))
        maps[(*inside, 2)] = 1
    return maps


def asks(guidance: Float[np.ndarray, "*space 3"]) -> bool:
    """Whether a foreground point or a box lies in these maps."""
    return bool((guidance[..., ::2] >= SEEN).any())


def _inside(faces: Float[np.ndarray, "2"], size: int) -> slice:
    """Voxels of an axis between two faces, at least the one nearest to their middle."""
    low, high = np.clip(faces, 0, size - 1)
    first, last = np.ceil(low - SAME_PLACE), np.floor(high + SAME_PLACE)
    if first > last:
        first = last = np.rint((low + high) / 2)
    return slice(int(first), int(last) + 1)


def _points(grid: Grid, points_mm: Sequence[Any] | ArrayLike, what: str) -> np.ndarray:
    """Fractional indices (point, 3) of points in the image."""
    xyz = np.asarray(points_mm, dtype=np.float64)
    xyz = xyz.reshape(-1, 3) if xyz.shape in ((0,), (3,)) else xyz
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not np.isfinite(xyz).all():
        raise InputError(
            f"{what} points need three finite coordinates x, y, z each, got {points_mm}"
        )
    beyond = xyz[~grid.contains(xyz)]
    if len(beyond):
        raise InputError(
            f"the {what} point {tuple(beyond[0].tolist())} lies outside the image, which covers "
            f"{_extent(grid)}; choose a point in it"
        )
    return grid.to_index(xyz)


def _box(grid: Grid, box_mm: Sequence[Any] | ArrayLike) -> np.ndarray:
    """Lowest and highest fractional index (2, 3) of a box that the image has a part in."""
    corners = np.asarray(box_mm, dtype=np.float64)
    if corners.shape != (2, 3) or not np.isfinite(corners).all():
        raise InputError(f"a box needs two opposite corners x, y, z, all finite, got {box_mm}")
    index = np.sort(grid.to_index(corners), axis=0)
    if (index[1] < -0.5).any() or (index[0] > np.array(grid.shape) - 0.5).any():
        raise InputError(
            f"the box from {tuple(corners[0].tolist())} to {tuple(corners[1].tolist())} lies "
            f"outside the image, which covers {_extent(grid)}; choose one that overlaps it"
        )
    return index


def _extent(grid: Grid) -> str:
    ends = grid.to_world(np.stack([np.zeros(3), np.array(grid.shape) - 1.0]))
    low, high = (tuple(each.round(1).tolist()) for each in (ends.min(axis=0), ends.max(axis=0)))
    return f"{low} to {high} {grid.unit}"
