"""What is to be contoured near a reference? Targets of offsets from a curve, or from a mesh."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.targets import HARMONICS
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Chart
from aistat_jax.space.curve import Curve, contours_from_mask, coverage_from_contours
from aistat_jax.space.grid import Grid, Plane, box_about
from aistat_jax.space.image import Channel, ChannelBlock, ChannelSlice
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.space.mesh_reach import checked_normals
from aistat_jax.space.mesh_reference import smooth_surface
from aistat_jax.space.offset import OffsetChart, offset_chart
from aistat_jax.space.offset_mesh import OffsetMeshChart, offset_mesh_chart
from aistat_jax.space.reference import checked_curve
from aistat_jax.space.sphere import DEGREE
from aistat_jax.space.surfaces import mode_count

# Harmonics come in multiples of this, so that targets of about one form share what is compiled.
HARMONICS_BUCKET, MOST_HARMONICS = 8, 64
SITES_A_HARMONIC = 8
# A mask of fewer pixels, or voxels, has no outline to speak of.
MIN_PIXELS, MIN_VOXELS = 6, 30
# Of a mesh: so many vertices, twice as many where normals of a coarser one cross too soon; at
# most as many modes as a star in space has, and where nobody says as many as harmonics to this
# degree: with more, the weights of a Laplace fit often do not hold. Meshes of one size share what
# is compiled.
VERTICES, USUAL_DEGREE = (1000, 2000, 4000), 9
# Sd, in voxels, of what rounds the steps of a reference that a prior's mean follows.
FINE = 0.5
# Voxels beside a mask that its outline is made in.
BESIDE = 6
# The share of its volume that may lie between a reference and what modes hold of it.
LOST = 0.05


@runtime_checkable
class Estimated(Protocol):
    """What an earlier posterior says: a chart and its mean boundary."""

    @property
    def chart(self) -> Any: ...

    @property
    def estimate(self) -> Float[np.ndarray, " site"]: ...


@record
class OffsetTarget:
    """Where a contour is sought: along the normals of a reference curve in a slice.

    `outline` is the reference as it was given; charts smooth it, fits start from it. `seen_through`
    and `doubts` are those of a `targets.Target`.
    """

    outline: Curve
    plane: Plane
    id: str = static(default="target")
    seen_through: float = static(default=0.0)
    doubts: tuple[str, ...] = static(default=())

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def link(self) -> str:
        """That of its charts: values are offsets."""
        return "identity"

    @property
    def centre(self) -> Float[np.ndarray, "2"]:
        """Of mass of the region inside; it need not lie in it."""
        return self.outline.centroid

    @property
    def content(self) -> float:
        """The area of the reference."""
        return self.outline.area

    @property
    def radius(self) -> float:
        """Twice the area over the perimeter: the radius of a disc, half the width of a strip."""
        return 2 * self.outline.area / self.outline.perimeter

    @property
    def size(self) -> tuple[float, float]:
        """Its radius, and no more doubt of it than a prior has."""
        return self.radius, 0.0

    def expected(self, chart: Chart, basis: Basis) -> None:
        """None: a prior knows but its size."""
        return None

    @property
    def taper(self) -> None:
        """None: sections are taken to be alike from slice to slice."""
        return None

    @property
    def harmonics(self) -> int:
        """As many to an arc as a disc of its area would have."""
        disc = 2 * np.sqrt(np.pi * self.outline.area)
        wanted = np.ceil(HARMONICS * self.outline.perimeter / disc / HARMONICS_BUCKET - 0.25)
        return int(np.clip(wanted * HARMONICS_BUCKET, HARMONICS, MOST_HARMONICS))

    def seen_as_disc(self, blur: float) -> bool:
        """Never: it is not round."""
        return False

    def chart(self, reach: float, rays: int | None = None) -> OffsetChart:
        """The normals of the smoothed reference, by default SITES_A_HARMONIC to a harmonic."""
        sites = rays or SITES_A_HARMONIC * self.harmonics
        return offset_chart(self.outline, reach, self.plane, sites)

    def part_of(self, channel: Channel, reach: float) -> ChannelSlice:
        """The slice of a channel that is nearest to it, whole."""
        return channel.slice_at(self.plane)

    def elsewhere(self, points: Float[np.ndarray, "*batch 2"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points belong to another target: none is known to."""
        return np.zeros(points.shape[:-1], dtype=bool)


@record
class OffsetVolumeTarget:
    """Where a surface is sought: along the normals of a reference mesh.

    `reference` is the smooth, even mesh that charts are made of, `outline` the finer surface that
    fits start from; `voxel` is the side of a voxel of the mask that it was read off. See
    `OffsetTarget` for the others.
    """

    outline: Mesh
    reference: Mesh
    voxel: float
    id: str = static(default="target")
    seen_through: float = static(default=0.0)
    doubts: tuple[str, ...] = static(default=())

    @property
    def unit(self) -> str:
        return self.reference.unit

    @property
    def link(self) -> str:
        """That of its charts: values are offsets."""
        return "identity"

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Of the box that holds the reference."""
        return 0.5 * (self.reference.points.min(axis=0) + self.reference.points.max(axis=0))

    @property
    def content(self) -> float:
        """The volume of the reference."""
        return self.reference.volume

    @property
    def radius(self) -> float:
        """Three times the volume over the surface: the radius of a ball; of a long tube 1.5."""
        return 3 * self.reference.volume / float(self.reference.areas.sum())

    @property
    def size(self) -> tuple[float, float]:
        """Its radius, and no more doubt of it than a prior has."""
        return self.radius, 0.0

    def expected(self, chart: Chart, basis: Basis) -> Float[np.ndarray, " site"] | None:
        """The reference as it was given, where modes about the smoothed one would lose LOST of it:
        what is thin or finely formed. None elsewhere, whose mean is the smooth reference."""
        heights, functions = chart.values_of(self.outline), np.asarray(basis.functions)
        lost = np.abs(heights - functions @ np.linalg.lstsq(functions, heights)[0])
        area = chart.weights(np.zeros(chart.sites))
        return heights if area @ lost > LOST * self.content else None

    @property
    def taper(self) -> None:
        """None: the third dimension is read."""
        return None

    @property
    def harmonics(self) -> int:
        """The degree of harmonics on a ball that its modes are as many as."""
        return USUAL_DEGREE

    def seen_as_disc(self, blur: float) -> bool:
        """Never: it is not round."""
        return False

    def chart(self, reach: float, rays: int | None = None) -> OffsetMeshChart:
        """The normals of the reference. Its vertices are the sites, however many are asked for."""
        return offset_mesh_chart(self.reference, reach, self.voxel, mode_count(DEGREE))

    def part_of(self, channel: Channel, reach: float) -> ChannelBlock:
        """The voxels of a channel in a box around it."""
        half = float(np.linalg.norm(self.reference.points - self.centre, axis=1).max())
        return channel.block_at(self.centre, half + reach)

    def elsewhere(self, points: Float[np.ndarray, "*batch 3"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points belong to another target: none is known to."""
        return np.zeros(points.shape[:-1], dtype=bool)


def offset_target(
    reference: Any, where: Plane | Grid, name: str = "target"
) -> OffsetTarget | OffsetVolumeTarget:
    """A target whose boundary is sought along the normals of a reference, in a slice or in space.

    With a plane, `reference` is a closed `Curve` in it, a boolean mask (nu, nv) of it, of which the
    largest region counts, or an earlier posterior of any chart. With a grid it is a closed `Mesh`,
    a boolean mask (i, j, k), or an earlier posterior of a surface. Boundaries are signed distances
    from it, as far as its normals do not cross; nothing has to be seen from a centre.

    Raises InputError for an empty or tiny mask; a curve that is open, crosses itself or is in
    another unit; a mesh with holes or edges of more than two triangles; and a shape so small or
    narrow that offsets cannot be told from it.

    >>> target = offset_target(mask, image.primary.grid.plane(12))  # doctest: +SKIP
    >>> posterior = fit(boundary_model(target, intensity(image)))  # doctest: +SKIP
    """
    if isinstance(where, Plane):
        curve = checked_curve(_outline(reference, where, name), where)
        target = OffsetTarget(curve, where, name)
        target.chart(target.radius)
    else:
        target = _in_space(_filled(reference, where, name), where, name)
        checked_normals(target.reference, target.radius, target.voxel)  # its modes take seconds
    return target


def _in_space(mask: Bool[np.ndarray, "i j k"], grid: Grid, name: str) -> OffsetVolumeTarget:
    """The target of a mask's largest component."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(labels.ravel())[1:]
    if len(sizes) == 0 or sizes.max() < MIN_VOXELS:
        raise InputError(
            f"target {name}: the mask's largest component has {sizes.max(initial=0)} voxels, and a "
            f"surface needs {MIN_VOXELS}"
        )
    largest = labels == int(sizes.argmax()) + 1
    box = box_about(largest, BESIDE)
    component, grid = largest[box], grid.part(box)
    outline = surface_from_mask(component, grid, FINE)
    smooth = smooth_surface(component, grid, *VERTICES)
    voxel = float(np.prod(grid.spacing) ** (1 / 3))
    return OffsetVolumeTarget(outline, smooth, voxel, name)


def _filled(reference: Any, grid: Grid, name: str) -> Bool[np.ndarray, "i j k"]:
    """The voxels of a grid inside of a reference."""
    if isinstance(reference, np.ndarray):
        if reference.dtype != bool or reference.shape != grid.shape:
            raise InputError(
                f"target {name}: a mask in space must be boolean on the grid of "
                f"{grid.shape} voxels, got {reference.shape} of {reference.dtype}"
            )
        return reference
    if isinstance(reference, Estimated):
        reference = reference.chart.surface(reference.estimate)
    if not isinstance(reference, Mesh):
        raise InputError(
            f"target {name}: a reference in space is a Mesh, a boolean mask or a posterior of a "
            f"surface, got a {type(reference).__name__}"
        )
    if reference.unit != grid.unit:
        raise InputError(
            f"the reference is in {reference.unit} and the grid in {grid.unit}; give both one unit"
        )
    mesh, planes = reference.check(), [grid.plane(k) for k in range(grid.shape[2])]
    shares = [coverage_from_contours(mesh.section(plane), plane) for plane in planes]
    return np.stack(shares, axis=2) >= 0.5


def _outline(reference: Any, plane: Plane, name: str) -> Curve:
    if isinstance(reference, Curve):
        return reference
    if isinstance(reference, np.ndarray):
        if reference.dtype != bool:
            raise InputError(
                f"target {name}: a mask must be boolean, got an array of {reference.dtype}"
            )
        found = contours_from_mask(reference, plane)
        if not found or found[0].area < MIN_PIXELS * plane.pixel_area:
            raise InputError(
                f"target {name}: the mask's largest region has "
                f"{found[0].area / plane.pixel_area if found else 0:.0f} pixels in slice "
                f"{plane.index}, and an outline needs {MIN_PIXELS}"
            )
        return found[0]
    if isinstance(reference, Estimated):
        (curve, *others) = reference.chart.sections(reference.estimate, plane) or [None]
        if curve is None or others:
            raise InputError(
                f"target {name}: the earlier estimate shows {len(others) + bool(curve)} curves in "
                "this slice; pass the one that is meant"
            )
        return curve
    raise InputError(
        f"target {name}: a reference is a Curve, a boolean mask or a posterior, got a "
        f"{type(reference).__name__}"
    )
