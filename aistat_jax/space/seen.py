"""How much of a region do straight rays from one centre reach, so that a star can hold it?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Bool, Float, Int
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.star import star_chart

# A star holds a region of which straight rays from its centre reach this share.
SEEN_SHARE = 0.95
# Rays along which a region is looked at: in a plane, and by the frequency of a sphere; steps to a
# voxel. What tells a share in a plane are rays whose ends are half a pixel apart, but no more than.
RAYS, FREQUENCY, STEPS = 64, 5, 2
BETWEEN, MOST_RAYS = 0.5, 512
# Where a centre is tried: at these shares of the way from the centroid to the deepest point.
TRIED = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


class StarCentre(NamedTuple):
    """The best centre, the area or volume that straight rays from it reach within a region, and
    the region's deepest point."""

    centre: np.ndarray
    content: float
    deepest: np.ndarray


def best_seen(
    part: Bool[np.ndarray, "*box"],
    low: Int[np.ndarray, " axis"],
    where: Plane | Grid,
    rays: int = RAYS,
) -> StarCentre:
    """The centre from which straight rays reach most of a region without leaving it.

    Of the centroid, the deepest point and points between them, the first from which the star of
    first exits is largest. `part` is the region in its box of voxels, of which `low` is the first;
    in a plane the box has a pixel around it to spare, but where the image ends. `rays` is how many
    there are in a plane.
    """
    from scipy import ndimage

    pad = 0 if isinstance(where, Plane) else 1
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(part, pad), sampling=where.spacing))
    deepest = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - pad
    if isinstance(where, Plane):
        points = where.origin + where.spacing * (low + np.moveaxis(np.indices(part.shape), 0, -1))
        centroid, far = points[part].mean(axis=0), points[tuple(deepest)]
        tried = centroid + TRIED[:, None] * (far - centroid)
        exits = [_first_exits(centre, part, low, where, rays) for centre in tried]
        squares = [float(np.square(each).sum()) for each in exits]
        best = int(np.argmax(squares))
        return StarCentre(tried[best], np.pi * squares[best] / rays, far)
    centroid = np.argwhere(part).mean(axis=0)
    tried = where.to_world(low + centroid + TRIED[:, None] * (deepest - centroid))
    ball = sphere_chart(tried[0], 1.0, where.unit, FREQUENCY)
    volumes = [float(ball.content(_first_exits(centre, part, low, where))) for centre in tried]
    best = int(np.argmax(volumes))
    return StarCentre(tried[best], volumes[best], tried[-1])


def seen_share(region: Bool[np.ndarray, "*grid"], where: Plane | Grid) -> float:
    """The share, at most 1, of a region that a star can hold: what `best_seen` reaches, over all.

    Holes within are filled first: a boundary goes around them. In a plane there are rays enough
    for strips of a pixel; of discs and balls of two pixels or more the share is .96 at least.
    """
    from scipy import ndimage

    ((*box,),) = ndimage.find_objects(region.astype(np.uint8))
    part = np.pad(np.asarray(ndimage.binary_fill_holes(region[tuple(box)])), 1)
    low = np.array([side.start - 1 for side in box])
    whole = float(part.sum() * np.prod(where.spacing))
    around = np.pi * np.linalg.norm(np.array(part.shape) * where.spacing)
    rays = int(np.clip(around / (BETWEEN * where.spacing.min()), RAYS, MOST_RAYS))
    return min(best_seen(part, low, where, rays).content / whole, 1.0)


def _first_exits(
    centre: np.ndarray, part: np.ndarray, low: np.ndarray, where: Plane | Grid, rays: int = RAYS
) -> Float[np.ndarray, " ray"]:
    """How far each ray from a centre runs before it first leaves a region."""
    if isinstance(where, Plane):
        directions = star_chart(centre, 1.0, where, rays).directions
    else:
        directions = sphere_chart(centre, 1.0, where.unit, FREQUENCY).directions
    step = float(where.spacing.min()) / STEPS
    reach = float(np.linalg.norm(np.array(part.shape) * where.spacing))
    radii = np.arange(step / 2, reach, step)
    points = centre + radii[None, :, None] * directions[:, None, :]
    index = np.rint(where.to_index(points)).astype(int) - low
    within = np.asarray(((index >= 0) & (index < np.array(part.shape))).all(axis=-1))
    at = np.moveaxis(np.where(within[..., None], index, 0), -1, 0)
    hit = part[tuple(at)] & within
    return step * np.where(hit.all(axis=1), len(radii), hit.argmin(axis=1))
