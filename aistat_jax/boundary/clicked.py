"""Which target does each point that was given belong to, and can its kind of boundary hold it?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float, Int
from aistat_jax.boundary.choices import ChartChoice, told
from aistat_jax.boundary.hints import Hints, voxels
from aistat_jax.space.grid import Grid, Plane

# A kind ("inside", "outside", "edge") and a point in the coordinates of a target.
Clicked = tuple[str, tuple[float, ...]]


def clicked(
    hints: Hints | None, grid: Grid, labels: Int[np.ndarray, "*grid"], n: int, k: int | None
) -> list[Clicked]:
    """The points that belong to component `n`, of slice `k` or, without one, in space.

    Points outside belong to all components, others to the nearest. Shapes: labels (i, j) or
    (i, j, k), components counted from 1.
    """
    if hints is None:
        return []
    found: list[Clicked] = []
    held = np.argwhere(labels)
    sides = grid.spacing[: labels.ndim]
    kinds = {"inside": hints.inside, "outside": hints.outside, "edge": hints.edge}
    for kind, points in kinds.items():
        for point, index in zip(points, voxels(points, grid), strict=True):
            if k is not None and index[2] != k:
                continue
            away = np.linalg.norm((held - index[: labels.ndim]) * sides, axis=1)
            own = int(labels[tuple(held[away.argmin()])])
            if kind == "outside" or own == n:
                at = point if k is None else grid.plane(k).to_uv(point)
                found.append((kind, tuple(map(float, at))))
    return found


def told_with(
    clicks: list[Clicked],
    star: Callable[[], Any],
    part: Bool[np.ndarray, "*grid"],
    where: Plane | Grid,
    name: str,
    chart: str,
) -> tuple[Any, ChartChoice | None]:
    """The target of a component by a chart (`told`) that holds all points inside of it.

    Raises InputError where a star was asked for, whose rays do not reach one of them.
    """
    target, choice = told(star, part, where, name, chart)
    inside = [np.array(point) for kind, point in clicks if kind == "inside"]
    if isinstance(target, str) or target.link != "log":
        return target, choice
    hidden = [point for point in inside if not _seen(point, target.centre, part, where)]
    if not hidden:
        return target, choice
    at = tuple(np.round(hidden[0], 1).tolist())
    reason = f"straight rays from one centre do not reach the point {at} within it"
    if chart == "star":
        raise InputError(
            f'target {name}: no star holds all points: {reason}; pass `chart="offset"`, whose '
            "boundaries are told from the outline"
        )
    return told(star, part, where, name, "offset")[0], ChartChoice(name, "offset", reason)


def _seen(
    point: Float[np.ndarray, " axis"], centre: np.ndarray, part: np.ndarray, where: Plane | Grid
) -> bool:
    """Whether the straight way from a centre to a point lies in a component, holes filled."""
    from scipy import ndimage

    start, end = where.to_index(centre), where.to_index(point)
    steps = int(np.ceil(2 * np.abs(end - start).max())) + 1
    way = start + np.linspace(0, 1, steps)[:, None] * (end - start)
    way = way[np.abs(way - end).max(axis=1) > 1.0]  # a point may lie a voxel beyond the edge
    index = np.rint(way).astype(int)
    shape = np.array(part.shape)
    if ((index < 0) | (index >= shape)).any():
        return False
    return bool(np.asarray(ndimage.binary_fill_holes(part))[tuple(index.T)].all())
