"""What is to be contoured in space? A target without slices: a centre and a rough radius."""

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

    Raises InputError for an empty mask, one that fewer than 3 slices show, and one whose voxels are
    longer than it is wide.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    if count == 0:
        raise InputError(f"target {name}: the mask is empty")
    component = labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
    if why := unfit(component, grid):
        raise InputError(f"target {name}: {why}")
    radius = _radius(component, grid)
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(component, 1), sampling=grid.spacing))
    deepest = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - 1.0
    centroid = np.argwhere(component).mean(axis=0)
    along = np.array([0.0, 0.25, 0.5, 0.75, 1.0])[:, None]
    places = grid.to_world(centroid + along * (deepest - centroid))
    seen = [Seen(place, _seen_from(place, component, grid)) for place in places]
    centre = max(seen, key=lambda each: each.volume).centre
    surface = surface_from_mask(component, grid)
    return VolumeTarget(centre, radius, grid.unit, name, surface, seen_through, doubts)


def unfit(component: Bool[np.ndarray, "i j k"], grid: Grid) -> str | None:
    """Why the voxels of a lesion do not show its surface; None where they do."""
    met, radius = int(component.any(axis=(0, 1)).sum()), _radius(component, grid)
    if met >= MIN_SLICES and grid.spacing.max() <= 2 * radius:
        return None
    return (
        f"{met} slice(s) {grid.spacing[2]:.3g} {grid.unit} apart do not show the surface of a "
        f"lesion of radius {radius:.3g} {grid.unit}; contour it slice by slice (dims=2)"
    )


def _radius(component: np.ndarray, grid: Grid) -> float:
    """Of the ball of equal volume."""
    return float((0.75 / np.pi * component.sum() * float(np.prod(grid.spacing))) ** (1 / 3))


def _seen_from(centre: np.ndarray, component: np.ndarray, grid: Grid) -> float:
    """Volume of the component that straight rays from the centre reach without leaving it."""
    chart = sphere_chart(centre, 1.0, grid.unit, RAYS)
    step = float(grid.spacing.min()) / STEPS
    reach = float(np.linalg.norm(np.array(grid.shape) * grid.spacing))
    radii = np.arange(step / 2, reach, step)
    points = centre + radii[None, :, None] * chart.directions[:, None, :]
    index = np.rint(grid.to_index(points)).astype(int)
    within = np.asarray(((index >= 0) & (index < np.array(grid.shape))).all(axis=-1))
    i, j, k = np.moveaxis(np.where(within[..., None], index, 0), -1, 0)
    hit = component[i, j, k] & within
    first_exit = np.where(hit.all(axis=1), len(radii), hit.argmin(axis=1))
    return float(chart.content(first_exit * step))
