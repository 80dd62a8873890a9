"""What is to be contoured in space? A target without slices: a centre and a rough radius."""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.targets import unblurred
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Chart
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, ChannelBlock
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.space.seen import best_seen
from aistat_jax.space.sphere import DEGREE, FREQUENCY, SphereChart, sphere_chart

# Fewer slices than this, or of voxels longer than this many rough radii, hold no surface.
MIN_SLICES = 3
# Of a lesion that ends in the first or last slice with a section of at least this share of its
# largest, the border cuts off more than there is to guess (of a ball, an eightieth).
CUT_SHARE = 0.25


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

    def expected(self, chart: Chart, basis: Basis) -> None:
        """None: a prior knows but its size."""
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
    component, box = largest_part(mask, name)
    part, first = component[box], box[2].start
    if why := unfit(part, grid, first):
        raise InputError(f"target {name}: {why}; contour it slice by slice (`dims=2`)")
    centre = best_seen(part, np.array([side.start for side in box]), grid).centre
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
    if (end := cut_off(area, grid, first, CUT_SHARE)) is not None:
        return f"the image ends in slice {end}, in the middle of the lesion, and shows no whole one"
    return None


def largest_part(mask: np.ndarray, name: str) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """The largest connected component of a mask, and its box."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    if count == 0:
        raise InputError(f"target {name}: the mask is empty")
    component = labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
    return component, ndimage.find_objects(component.astype(np.uint8))[0]


def cut_off(area: np.ndarray, grid: Grid, first: int, share: float = 0.0) -> int | None:
    """The outermost slice of the grid in which more than a share of the largest section lies."""
    last = grid.shape[2] - 1
    for slice_, size in ((first, area[0]), (first + len(area) - 1, area[-1])):
        if slice_ in (0, last) and size > share * area.max():
            return slice_
    return None


def _radius(component: np.ndarray, grid: Grid) -> float:
    """Of the ball of equal volume."""
    volume = float(component.sum() * np.prod(grid.spacing))
    return float((0.75 / np.pi * volume) ** (1 / 3))
