"""What does each slice of an image show of a surface in space, and as which polygons?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.probability import SizePosterior

if TYPE_CHECKING:
    from shapely import MultiPolygon
else:
    MultiPolygon = Any

KINDS = ("estimate", "lower", "upper")


@runtime_checkable
class Regional(Protocol):
    """What covers a region of a plane: a posterior, a band, a curve."""

    def region(self, plane: Plane | None = None) -> MultiPolygon: ...


@record
class Section:
    """What a plane cuts out of a surface and its band: closed curves in the plane's coordinates.

    Each of estimate, lower and upper is none, one or several curves; outer ones run
    counter-clockwise, the edges of holes clockwise.
    """

    plane: Plane
    estimate: tuple[Curve, ...]
    lower: tuple[Curve, ...]
    upper: tuple[Curve, ...]


@record
class Surfaces:
    """The closed surfaces of an estimate and of the two edges of its band."""

    estimate: Mesh
    lower: Mesh
    upper: Mesh

    def section(self, plane: Plane) -> Section:
        """Where a plane cuts them."""
        return Section(plane, *(tuple(getattr(self, kind).section(plane)) for kind in KINDS))


def band_surfaces(posterior: Posterior, band: Band | None = None) -> Surfaces:
    """Estimate, lower and upper surface of a posterior; without a band, of the simultaneous 95%.

    The lower one vanishes nowhere: it keeps at least a thousandth of the estimate's radii.

    Raises InputError for a contour in a slice, and a band of another chart.
    """
    check_surface(posterior, band)
    band = simultaneous_band(posterior) if band is None else band
    estimate = np.asarray(posterior.estimate, dtype=float)
    lower = band.lower
    if posterior.chart.link == "log":
        lower = np.maximum(lower, 1e-3 * estimate)
    return Surfaces(*(posterior.chart.surface(values) for values in (estimate, lower, band.upper)))


def check_surface(posterior: Posterior, *others: Any) -> None:
    """Raises InputError unless a posterior is of a surface and bands and grades have its sites."""
    if posterior.chart.dims != 3:
        raise InputError(
            f"{posterior.target_id} is a contour in a slice; pass the posterior of a surface in "
            "space (find_targets with dims=3)"
        )
    for other in others:
        if other is None:
            continue
        if other.sites != posterior.chart.sites:
            raise InputError(
                f"the {type(other).__name__.lower()} has {other.sites} sites and the surface "
                f"{posterior.chart.sites}; make it of this posterior"
            )


def sections(
    posterior: Posterior, where: Image | Channel | Grid, band: Band | None = None
) -> dict[str, Section]:
    """The closed curves of a surface and its band in every slice of a channel that meets them.

    `where` is a channel, or an image, whose first channel is meant, or a grid: any, such as that of
    a CT with slices of its own. Without a band, that of all the surface at 95% is taken.

    Returns the slices from below by name ("z029" is slice 29 of the third axis); none where the
    surface lies outside the volume. Raises InputError for a contour in a slice, and for a grid in
    another unit.
    """
    source = where.primary if isinstance(where, Image) else where
    grid = source if isinstance(source, Grid) else source.grid
    if grid.unit != posterior.unit:
        raise InputError(f"the surface is in {posterior.unit} and the slices are in {grid.unit}")
    surfaces = band_surfaces(posterior, band)
    height = np.concatenate([getattr(surfaces, kind).points for kind in KINDS]) @ grid.frame[:, 2]
    found = {}
    for k in range(grid.shape[2]):
        plane = grid.plane(k)
        if height.min() < plane.offset < height.max():
            section = surfaces.section(plane)
            if any(getattr(section, kind) for kind in KINDS):
                found[f"z{k:03d}"] = section
    return found


def section_areas(
    posterior: Posterior, grid: Grid, draws: int = 200
) -> dict[int, tuple[float, SizePosterior]]:
    """The area of a surface in every slice of a grid that its estimate meets, and its posterior.

    Of up to so many draws, spread evenly; a draw that does not reach a slice has no area there.
    Returns slice numbers from below with (area of the estimate, posterior of the area).
    Raises InputError for a contour in a slice.
    """
    check_surface(posterior)
    chart, every = posterior.chart, np.asarray(posterior.draws, dtype=float)
    planes = [grid.plane(k) for k in range(grid.shape[2])]
    heights = np.array([plane.offset for plane in planes])

    def areas(values: np.ndarray) -> np.ndarray:
        return _areas_at(chart.surface(values), grid.frame, heights)

    estimate = areas(np.asarray(posterior.estimate, dtype=float))
    chosen = np.linspace(0, len(every) - 1, min(draws, len(every))).round().astype(int)
    each, unit = np.array([areas(row) for row in every[chosen]]), f"{posterior.unit}2"
    met = np.flatnonzero(estimate > 0)
    return {int(k): (float(estimate[k]), SizePosterior(each[:, k], unit)) for k in met}


def _areas_at(
    mesh: Mesh, frame: Float[np.ndarray, "3 3"], heights: Float[np.ndarray, " plane"]
) -> Float[np.ndarray, " plane"]:
    """Area of a surface's sections at ascending heights along the third axis of a frame.

    By Green's theorem over the pieces that planes cut out of triangles, in no order.
    """
    corners = (mesh.points @ frame)[mesh.faces]
    up = corners[..., 2]
    first, last = (np.searchsorted(heights, end) for end in (up.min(axis=1), up.max(axis=1)))
    count = last - first
    face = np.repeat(np.arange(len(count)), count)
    plane = first[face] + np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    rise = up[face] - heights[plane][:, None]
    above, after = rise > 0, np.roll(rise, -1, axis=1) > 0
    row = np.arange(len(face))

    def crossed(edge: np.ndarray) -> np.ndarray:
        following = (edge + 1) % 3
        start, end = (corners[face, n, :2] for n in (edge, following))
        share = rise[row, edge] / (rise[row, edge] - rise[row, following])
        return start + share[:, None] * (end - start)

    (u, v), (to_u, to_v) = (
        crossed(ways.argmax(axis=1)).T for ways in (above & ~after, ~above & after)
    )
    return np.bincount(plane, 0.5 * (u * to_v - v * to_u), minlength=len(heights))


def section_rows(
    posterior: Posterior, where: Image | Channel | Grid, band: Band | None = None
) -> list[dict[str, str | int | float]]:
    """The curves of `sections` as rows of a table, one a vertex, in patient coordinates.

    Columns are target, slice, vertex, x, y, z with the unit, as `x_mm`, kind ("estimate", "lower",
    "upper"), loop (its number among those of its kind in the slice) and channel (nothing for a
    grid).
    """
    source, rows = where.primary if isinstance(where, Image) else where, []
    channel = source.name if isinstance(source, Channel) else ""
    for section in sections(posterior, where, band).values():
        plane = section.plane
        for kind in KINDS:
            for number, curve in enumerate(getattr(section, kind)):
                for vertex, point in enumerate(plane.to_world(curve.points)):
                    row = {"target": posterior.target_id, "slice": plane.index, "vertex": vertex}
                    place = zip("xyz", point, strict=True)
                    row |= {f"{axis}_{plane.unit}": round(float(at) + 0.0, 4) for axis, at in place}
                    rows.append(row | {"kind": kind, "loop": number, "channel": channel})
    return rows


def to_shapely(shape: Regional | Sequence[Curve], plane: Plane | None = None) -> MultiPolygon:
    """A region in a plane as shapely polygons with holes, in the plane's coordinates (u, v).

    Of a posterior it is the inside of its estimate; of a band what lies between its edges; of
    curves what they enclose, by the even-odd rule. A contour in a slice has a plane of its own, a
    surface has to be told one. Empty where the plane meets nothing.

    Whatever else has a method `region(plane)` is asked it. Raises InputError for a surface without
    a plane.

    >>> square = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0]])
    >>> to_shapely([Curve(square), Curve(square / 3 + 1)]).area
    8.0
    """
    if isinstance(shape, Regional):
        return shape.region(plane)
    return region_of(list(shape))
