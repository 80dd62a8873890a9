"""What is a contour? A closed curve in the plane of a slice; and mask <-> contour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import ArrayLike, Bool, Float
from aistat_jax.space.grid import Plane

if TYPE_CHECKING:
    from shapely import MultiPolygon
else:
    MultiPolygon = Any


@record
class Curve:
    """A closed polygon; its last point joins its first, which is not repeated.

    Shapes: points (vertex, 2) in-plane (u, v); unit "mm" or "px" is static.

    >>> square = Curve(np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]))
    >>> square.area, square.perimeter, square.is_ccw
    (4.0, 8.0, True)
    """

    points: Float[np.ndarray, "vertex 2"]
    unit: str = static(default="mm")

    @property
    def edges(self) -> Float[np.ndarray, "vertex 2"]:
        """Vector from each vertex to the next."""
        return np.roll(self.points, -1, axis=0) - self.points

    @property
    def signed_area(self) -> float:
        """Area in unit squared, positive when the curve runs counter-clockwise."""
        shifted = self.points - self.points[0]
        return float(cross(shifted, np.roll(shifted, -1, axis=0)).sum() / 2)

    @property
    def area(self) -> float:
        return abs(self.signed_area)

    @property
    def perimeter(self) -> float:
        return float(np.linalg.norm(self.edges, axis=1).sum())

    def region(self, plane: Plane | None = None) -> MultiPolygon:
        """What it encloses in its own plane, by the even-odd rule, as shapely polygons."""
        return region_of([self])

    @property
    def is_ccw(self) -> bool:
        return self.signed_area > 0

    @property
    def centroid(self) -> Float[np.ndarray, "2"]:
        """Centre of mass of the region inside."""
        shifted = self.points - self.points[0]
        following = np.roll(shifted, -1, axis=0)
        weight = cross(shifted, following)
        if weight.sum() == 0:
            return self.points.mean(axis=0)
        moment = ((shifted + following) * weight[:, None]).sum(axis=0)
        return self.points[0] + moment / (3 * weight.sum())

    def resample(self, count: int) -> Curve:
        """`count` points equally spaced in arc length along the polygon, from its first point.

        Raises InputError for fewer than three points.
        """
        if count < 3:
            raise InputError(f"a closed curve needs at least 3 points, got {count}")
        along = np.append(0.0, np.cumsum(np.linalg.norm(self.edges, axis=1)))
        closed = np.append(self.points, self.points[:1], axis=0)
        at = along[-1] * np.arange(count) / count
        points = np.stack([np.interp(at, along, closed[:, n]) for n in range(2)], axis=-1)
        return replace(self, points=points)

    def pieces(
        self, step: float | None = None
    ) -> tuple[Float[np.ndarray, "piece 2"], Float[np.ndarray, " piece"]]:
        """Points at equal arc length, `step` apart or less, and the length each stands for.

        By default a thousandth of the perimeter; at least 16.
        """
        perimeter = self.perimeter
        count = 1000 if step is None else max(16, int(np.ceil(perimeter / step)))
        return self.resample(count).points, np.full(count, perimeter / count)

    def contains(self, points: ArrayLike) -> Bool[np.ndarray, "*batch"]:
        """Whether points (..., 2) lie inside, by the even-odd rule; none on the curve does."""
        import shapely

        points, polygon = np.asarray(points, dtype=float), shapely.Polygon(self.points)
        shapely.prepare(polygon)
        return np.asarray(shapely.contains_xy(polygon, points[..., 0], points[..., 1]))

    def distance_to(self, points: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Unsigned distance from points (..., 2) to the nearest place on the curve."""
        import shapely

        ring = shapely.LinearRing(self.points)
        shapely.prepare(ring)
        return np.asarray(shapely.distance(ring, shapely.points(np.asarray(points, dtype=float))))


def last_exits(
    points: Float[np.ndarray, "*batch vertex 2"],
    centre: Float[np.ndarray, "2"],
    directions: Float[np.ndarray, "ray 2"],
) -> Float[np.ndarray, "*batch ray"]:
    """Where rays from a centre leave closed polygons for the last time, 0 where one never does.

    >>> square = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> last_exits(square, np.zeros(2), np.array([[1.0, 0.0], [0.6, 0.8]])).tolist()
    [1.0, 1.25]
    """
    start = (np.asarray(points) - centre)[..., None, :, :]
    step = np.roll(start, -1, axis=-2) - start
    d = directions[:, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        across = cross(d, step)
        along_ray = cross(start, step) / across
        along_edge = cross(start, d) / across
    hit = (along_edge >= -1e-12) & (along_edge < 1 + 1e-12) & (along_ray > 0)
    return np.where(hit, along_ray, 0.0).max(axis=-1)


def contours_from_mask(mask: np.ndarray, plane: Plane) -> list[Curve]:
    """The closed curves where a mask, or a map of inside fractions, crosses one half.

    Convention: pixel values sit at pixel centres and are interpolated linearly; a region that
    touches the border is closed half a pixel outside it. Outer boundaries run counter-clockwise,
    holes clockwise; the largest area first.

    Shapes: mask (nu, nv) bool or in [0, 1], of the plane's shape. Empty list for an empty mask.
    Raises InputError for another shape or values outside [0, 1].

    >>> plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(5, 5), unit="px")
    >>> mask = np.zeros((5, 5), dtype=bool); mask[1:4, 1:4] = True
    >>> [curve.area for curve in contours_from_mask(mask, plane)]
    [8.5]
    """
    import contourpy

    fraction = np.asarray(mask, dtype=float)
    if fraction.shape != plane.shape:
        raise InputError(
            f"mask of shape {fraction.shape} does not match the plane's {plane.shape}; "
            "pass the mask of this slice"
        )
    if not (np.isfinite(fraction).all() and fraction.min() >= 0 and fraction.max() <= 1):
        raise InputError("mask values must lie in [0, 1]; pass a bool mask or inside fractions")
    padded = np.pad(fraction, 1)
    index = [np.arange(-1, n + 1) for n in plane.shape]
    lines = contourpy.contour_generator(index[0], index[1], padded.T).lines(0.5)
    curves = []
    for line in lines:
        points = np.asarray(line, dtype=float)[:-1]
        points = points[np.abs(points - np.roll(points, 1, axis=0)).max(axis=1) > 1e-12]
        if len(points) >= 3:
            curves.append(Curve(plane.origin + points * plane.spacing, plane.unit))
    return sorted((c for c in curves if c.area > 0), key=lambda c: -c.area)


def coverage_from_contours(curves: Sequence[Curve], plane: Plane) -> Float[np.ndarray, "nu nv"]:
    """The fraction of each pixel's area that lies inside, by the even-odd rule over all curves.

    Exact up to rounding, holes and self-crossings included; `coverage >= 0.5` is the mask.
    Shapes: returns (nu, nv) in [0, 1]. Raises InputError for a curve in another unit.
    """
    import shapely

    coverage = np.zeros(plane.shape)
    if not curves:
        return coverage
    if any(curve.unit != plane.unit for curve in curves):
        raise InputError(
            f"contours in {curves[0].unit} cannot be drawn on a plane in {plane.unit}; "
            "use the plane they were made on"
        )
    half_diagonal = np.linalg.norm(plane.spacing) / 2 * (1 + 1e-9)
    edge = np.zeros(plane.shape, dtype=bool)
    for curve in curves:
        box = plane.box_around(curve.points)
        centres = plane.points(box)
        coverage[box] += curve.contains(centres)
        edge[box] |= curve.distance_to(centres) <= half_diagonal
    coverage %= 2
    region = region_of(curves)
    centres = plane.origin + plane.spacing * np.argwhere(edge)
    low, high = centres - plane.spacing / 2, centres + plane.spacing / 2
    pixels = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    coverage[edge] = shapely.area(shapely.intersection(pixels, region)) / plane.pixel_area
    return np.clip(coverage, 0.0, 1.0)


def region_of(curves: Sequence[Curve]) -> MultiPolygon:
    """The region inside of curves by the even-odd rule, as polygons with holes; empty for none."""
    import shapely

    polygons = [shapely.make_valid(shapely.Polygon(curve.points)) for curve in curves]
    return as_polygons(reduce(shapely.symmetric_difference, polygons, shapely.MultiPolygon()))


def as_polygons(geometry: Any) -> MultiPolygon:
    """The areas of any shapely geometry, without its lines and points."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(geometry))
    areas = [part for part in parts if isinstance(part, shapely.Polygon) and not part.is_empty]
    return shapely.MultiPolygon(areas)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The third component of the cross product of vectors (..., 2) in a plane."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
