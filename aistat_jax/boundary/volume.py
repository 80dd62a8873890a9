"""What is to be contoured in space, and is it better contoured slice by slice?

A target without slices is a centre and a rough radius.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.targets import unblurred
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, ChannelBlock
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.space.sphere import DEGREE, FREQUENCY, SphereChart, sphere_chart

# Fewer slices than this, or of voxels longer than this many rough radii, hold no surface.
MIN_SLICES = 3
# Of a lesion that ends in the first or last slice with a section of at least this share of its
# largest, the border cuts off more than there is to guess (of a ball, an eightieth).
CUT_SHARE = 0.25
# A star in space holds a shape of which straight rays from its centre reach this share.
SEEN_SHARE = 0.95
# Rays along which a mask is looked at from a possible centre, and steps to a voxel.
RAYS, STEPS = 5, 2


@record
class VolumeTarget:
    """Where a surface is sought.

    Shapes: centre (3,) in patient coordinates, radius a scalar (of the ball of equal volume), in
    `unit`. `outline` is a rough surface, where one is known: fits start from it. `seen_through` and
    `doubts` are those of a `Target`.
    """

    centre: Float[np.ndarray, "3"]
    radius: float
    unit: str = static(default="mm")
    id: str = static(default="target")
    outline: Mesh | None = None
    seen_through: float = static(default=0.0)
    doubts: tuple[str, ...] = static(default=())

    @property
    def size(self) -> tuple[float, float]:
        """Its radius without the blur it was found through, and what that adds to its log sd."""
        return unblurred(self.radius, self.seen_through)

    @property
    def content(self) -> float:
        """Its rough volume, without the blur it was found through."""
        return float(4 / 3 * np.pi * self.size[0] ** 3)

    @property
    def link(self) -> str:
        """That of its charts: values are radii."""
        return "log"

    @property
    def taper(self) -> None:
        """None: the third dimension is read."""
        return None

    def seen_as_disc(self, blur: float) -> bool:
        """Whether the image of a ball stands in for a blurred step: always."""
        return True

    @property
    def harmonics(self) -> int:
        """Up to which degree harmonics of a surface are told apart where nobody says."""
        return DEGREE

    def chart(self, reach: float, rays: int | None = None) -> SphereChart:
        """About so many rays in all directions of space, by default 642."""
        frequency = FREQUENCY if rays is None else max(2, round(((rays - 2) / 10) ** 0.5))
        return sphere_chart(self.centre, reach, self.unit, frequency)

    def part_of(self, channel: Channel, reach: float) -> ChannelBlock:
        """The voxels of a channel in a box around it."""
        return channel.block_at(self.centre, reach)

    def elsewhere(self, points: Float[np.ndarray, "*batch 3"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points belong to another target: none is known to."""
        return np.zeros(points.shape[:-1], dtype=bool)


class Seen(NamedTuple):
    """How much of a mask straight rays from a centre reach without leaving it: its volume."""

    centre: np.ndarray
    volume: float


def volume_target(
    mask: Bool[np.ndarray, "i j k"],
    grid: Grid,
    name: str = "target",
    seen_through: float = 0.0,
    doubts: tuple[str, ...] = (),
) -> VolumeTarget:
    """The target of a mask's largest component, seen from a good centre.

    Of the centroid, the deepest point and points between them, the centre is the one from which
    the star of first exits covers the component best.

    Raises InputError for an empty mask, and for one that is `unfit`.
    """
    component, box = _largest(mask, name)
    part, first = component[box], box[2].start
    if why := unfit(part, grid, first):
        raise InputError(f"target {name}: {why}; contour it slice by slice (dims=2)")
    centre = _best_seen(part, _offset(box), grid).centre
    surface = surface_from_mask(component, grid)
    radius = _radius(component, grid)
    return VolumeTarget(centre, radius, grid.unit, name, surface, seen_through, doubts)


def unfit(component: Bool[np.ndarray, "i j k"], grid: Grid, first: int = 0) -> str | None:
    """Why the voxels of a lesion do not show its surface; None where they do.

    The lesion may be given in a box, whose lowest slice is slice `first` of the grid.
    """
    area, radius, unit = component.sum(axis=(0, 1)), _radius(component, grid), grid.unit
    met, apart = int((area > 0).sum()), grid.spacing[2]
    if grid.shape[2] == 1:
        return "an image of one slice does not show the surface of a lesion"
    if met < MIN_SLICES:
        few = "1 slice does" if met == 1 else f"{met} slices do"
        return f"{few} not show the surface of a lesion (at least {MIN_SLICES})"
    if grid.spacing.max() > 2 * radius:
        return (
            f"slices {apart:.3g} {unit} apart do not show the surface of a lesion "
            f"{2 * radius:.3g} {unit} wide"
        )
    if (end := _cut_off(area, grid, first, CUT_SHARE)) is not None:
        return f"the image ends in slice {end}, in the middle of the lesion, and shows no whole one"
    return None


class Choice(NamedTuple):
    """Whether a target is contoured slice by slice (2) or as a surface (3), and why, in words."""

    dims: int
    reason: str


def chosen_dims(channel: Channel, mask: Bool[np.ndarray, "i j k"]) -> Choice:
    """Whether what a mask marks, its largest component, is better contoured in slices or in space.

    In slices where the voxels do not show its surface (`unfit`: one slice, fewer than 3 met, slices
    thicker than it is wide), where the image ends within it, and where it is no star in space:
    straight rays from its best centre reach less than 95% of it, holes within filled. Else in
    space.
    Raises InputError for an empty mask.
    """
    from scipy import ndimage

    component, box = _largest(mask, "target")
    part, first, grid = component[box], box[2].start, channel.grid
    if why := unfit(part, grid, first):
        return Choice(2, why)
    if (end := _cut_off(part.sum(axis=(0, 1)), grid, first)) is not None:
        return Choice(2, f"the image ends in slice {end}, which the lesion reaches")
    part = np.asarray(ndimage.binary_fill_holes(part))
    seen = _best_seen(part, _offset(box), grid).volume / _volume(part, grid)
    if seen < SEEN_SHARE:
        reached = np.floor(100 * seen)
        return Choice(2, f"straight rays from its best centre reach {reached:.0f}% of the lesion")
    return Choice(
        3,
        f"{part.shape[2]} slices show the whole lesion, and straight rays from one centre reach "
        f"{min(seen, 1.0):.0%} of it",
    )


def _largest(mask: np.ndarray, name: str) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """The largest connected component of a mask, and its box."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    if count == 0:
        raise InputError(f"target {name}: the mask is empty")
    component = labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
    return component, ndimage.find_objects(component.astype(np.uint8))[0]


def _offset(box: tuple[slice, slice, slice]) -> np.ndarray:
    return np.array([side.start for side in box])


def _cut_off(area: np.ndarray, grid: Grid, first: int, share: float = 0.0) -> int | None:
    """The outermost slice of the grid in which more than a share of the largest section lies."""
    last = grid.shape[2] - 1
    for slice_, size in ((first, area[0]), (first + len(area) - 1, area[-1])):
        if slice_ in (0, last) and size > share * area.max():
            return slice_
    return None


def _best_seen(part: np.ndarray, offset: np.ndarray, grid: Grid) -> Seen:
    """The centre from which straight rays reach most of a component, given in its box."""
    from scipy import ndimage

    depth = np.asarray(ndimage.distance_transform_edt(np.pad(part, 1), sampling=grid.spacing))
    deepest = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - 1.0
    centroid = np.argwhere(part).mean(axis=0)
    along = np.array([0.0, 0.25, 0.5, 0.75, 1.0])[:, None]
    places = grid.to_world(offset + centroid + along * (deepest - centroid))
    seen = [Seen(place, _seen_from(place, part, offset, grid)) for place in places]
    return max(seen, key=lambda each: each.volume)


def _radius(component: np.ndarray, grid: Grid) -> float:
    """Of the ball of equal volume."""
    return float((0.75 / np.pi * _volume(component, grid)) ** (1 / 3))


def _volume(component: np.ndarray, grid: Grid) -> float:
    return float(component.sum() * np.prod(grid.spacing))


def _seen_from(centre: np.ndarray, part: np.ndarray, offset: np.ndarray, grid: Grid) -> float:
    """Volume of the component that straight rays from the centre reach without leaving it."""
    chart = sphere_chart(centre, 1.0, grid.unit, RAYS)
    step = float(grid.spacing.min()) / STEPS
    reach = float(np.linalg.norm(np.array(part.shape) * grid.spacing))
    radii = np.arange(step / 2, reach, step)
    points = centre + radii[None, :, None] * chart.directions[:, None, :]
    index = np.rint(grid.to_index(points)).astype(int) - offset
    within = np.asarray(((index >= 0) & (index < np.array(part.shape))).all(axis=-1))
    i, j, k = np.moveaxis(np.where(within[..., None], index, 0), -1, 0)
    hit = part[i, j, k] & within
    first_exit = np.where(hit.all(axis=1), len(radii), hit.argmin(axis=1))
    return float(chart.content(first_exit * step))
