"""How is a region with a hole read along rays: an outer and an inner boundary that never cross?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Bool, Float, Int
from aistat_jax.space.basis import Basis, repeated
from aistat_jax.space.chart import Points, Shares, even_ends
from aistat_jax.space.curve import Curve, MultiPolygon, region_of
from aistat_jax.space.grid import Plane
from aistat_jax.space.star import StarBending, StarChart, star_chart


@record
class Ring:
    """The closed region between two curves in a slice, the inner one within the outer."""

    outer: Curve
    inner: Curve

    @property
    def unit(self) -> str:
        return self.outer.unit

    @property
    def curves(self) -> tuple[Curve, Curve]:
        return self.outer, self.inner

    @property
    def points(self) -> Float[np.ndarray, "vertex 2"]:
        """The vertices of both curves."""
        return np.concatenate([curve.points for curve in self.curves])

    @property
    def area(self) -> float:
        return self.outer.area - self.inner.area

    def region(self, plane: Plane | None = None) -> MultiPolygon:
        """What lies between the curves, as shapely polygons."""
        return region_of(self.curves)

    def contains(self, points: ArrayLike) -> Bool[np.ndarray, "*batch"]:
        """Whether points (..., 2) lie between the curves."""
        return self.outer.contains(points) & ~self.inner.contains(points)

    def distance_to(self, points: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Distance from points (..., 2) to the nearer of the curves."""
        return np.minimum(*(curve.distance_to(points) for curve in self.curves))

    def pieces(
        self, step: float | None = None
    ) -> tuple[Float[np.ndarray, "piece 2"], Float[np.ndarray, " piece"]]:
        """Those of both curves, see `Curve.pieces`."""
        points, lengths = zip(*(curve.pieces(step) for curve in self.curves), strict=True)
        return np.concatenate(points), np.concatenate(lengths)

    def check(self) -> Ring:
        """This ring, or InputError where the inner curve does not lie within the outer."""
        import shapely

        if not shapely.Polygon(self.outer.points).contains(shapely.Polygon(self.inner.points)):
            raise InputError(
                "the inner curve of a ring must lie within the outer one, and here it does not; "
                "pass (outer, inner) in this order, without a place where they meet"
            )
        return self


@record
class RingChart:
    """Rays from a centre in a hole, along each of which a boundary has two radii.

    A `chart.Chart` of twice as many sites as rays: the first half of the values are the outer
    radii, the second the inner ones, along the same rays. See `star.StarChart` for the fields.
    """

    centre: Float[np.ndarray, "2"]
    angles: Float[np.ndarray, " ray"]
    radius_max: float
    plane: Plane

    @property
    def star(self) -> StarChart:
        """The chart of either boundary by itself."""
        return StarChart(self.centre, self.angles, self.radius_max, self.plane)

    @property
    def rays(self) -> int:
        return len(self.angles)

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def dims(self) -> int:
        return 2

    @property
    def sites(self) -> int:
        return 2 * self.rays

    @property
    def reach(self) -> tuple[float, float]:
        return 0.0, self.radius_max

    @property
    def ends(self) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
        return even_ends(self.reach, self.sites)

    @property
    def link(self) -> str:
        return "ring"

    @property
    def extent(self) -> float:
        return self.star.extent

    @property
    def directions(self) -> Float[np.ndarray, "site 2"]:
        """Away from the centre, at both boundaries."""
        return np.tile(self.star.directions, (2, 1))

    def basis(self, order: int) -> Basis:
        """The constant and the first `order` harmonics on each half of the sites."""
        return repeated(self.star.basis(order), 2)

    # ------------------------------------------------------------------------ of points

    def share(self, points: Float[np.ndarray, "voxel 2"], footprint: float = 0.0) -> Shares:
        """Voxels shared out to outer rays and, all of them again, to inner ones."""
        one = self.star.share(points, footprint)
        site = np.concatenate([one.site, one.site + self.rays])
        return Shares(np.tile(one.voxel, 2), site, np.tile(one.share, 2), np.tile(one.position, 2))

    def position(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """The distance of each point from the centre."""
        return self.star.position(points)

    def nearest(self, points: Points) -> Int[np.ndarray, "*batch"]:
        """The outer site of the ray nearest in angle to each point."""
        return self.star.nearest(points)

    def outward(self, points: Points) -> Float[np.ndarray, "*batch 2"]:
        """Unit vectors from the centre towards each point."""
        return self.star.outward(points)

    def beside(self, points: Points, turn: float) -> Float[np.ndarray, "2 *batch 2"]:
        """The points turned about the centre by `turn` radians, clockwise and counter-clockwise."""
        return self.star.beside(points, turn)

    def apart(self, first: Points, second: Points) -> Float[np.ndarray, "*batch"]:
        """The arc between the angles of two points, at the mean of their radii."""
        return self.star.apart(first, second)

    def words(self, direction: ArrayLike) -> str:
        """Where a direction of the plane leads to."""
        return self.star.words(direction)

    # -------------------------------------------------------------------- of boundaries

    def halves(self, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Outer and inner radii (*batch, ray), the latter no larger: a wall may vanish."""
        outer, inner = np.split(np.asarray(values), 2, axis=-1)
        return outer, np.minimum(inner, outer)

    def points(
        self, values: Float[np.ndarray, "*batch site"]
    ) -> Float[np.ndarray, "*batch site 2"]:
        """In-plane points of both boundaries."""
        return self._each(self.star.points, values, axis=-2)

    def line(
        self, site: int, positions: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place 2"]:
        """Points of one site's ray at several distances from the centre."""
        return self.star.line(site % self.rays, positions)

    def surface(self, values: Float[np.ndarray, " site"]) -> Ring:
        """The outer curve, counter-clockwise, and the inner, clockwise."""
        outer, inner = (self.star.points(half) for half in self.halves(values))
        return Ring(Curve(outer, self.unit), Curve(inner[::-1], self.unit))

    def sections(self, values: Float[np.ndarray, " site"], plane: Plane) -> list[Curve]:
        """Outer and inner curve in their own slice, nothing in any other."""
        if not self.plane.is_slice(plane):
            return []
        ring = self.surface(values)
        return [ring.outer, ring.inner]

    def sees(self, surface: Ring) -> bool:
        """Whether the centre lies in the hole, and each ray leaves it before the outer curve."""
        star = self.star
        if not (star.sees(surface.outer) and star.sees(surface.inner)):
            return False
        return bool((star.values_of(surface.inner) < star.values_of(surface.outer)).all())

    def values_of(self, surface: Ring) -> Float[np.ndarray, " site"]:
        """Where each ray leaves the outer and the inner curve for the last time.

        Raises InputError when the centre is not in the hole, or the curves cross along a ray.
        """
        if not self.sees(surface):
            raise InputError(
                f"the ring's hole is not seen from {tuple(np.round(self.centre, 2).tolist())}: "
                "the centre must lie in it, and the inner curve within the outer on every ray"
            )
        return np.concatenate([self.star.values_of(c) for c in (surface.outer, surface.inner)])

    def inside(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch 2"]
    ) -> Bool[np.ndarray, "draw ..."]:
        """Whether points lie inside of the outer polygon and not of the inner."""
        outer, inner = self.halves(values)
        return self.star.inside(outer, points) & ~self.star.inside(inner, points)

    def inside_share(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch 2"]
    ) -> Float[np.ndarray, "*batch"]:
        """The share of rings that each point lies in."""
        outer, inner = self.halves(values)
        return self.star.inside_share(outer, points) - self.star.inside_share(inner, points)

    def content(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch"]:
        """The area between the polygons."""
        outer, inner = self.halves(values)
        return np.asarray(self.star.content(outer) - self.star.content(inner))

    def sectors(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """The area of each ray's sector of a disc, of the inner ones less than nothing."""
        outer, inner = self.halves(values)
        return np.concatenate([self.star.sectors(outer), -self.star.sectors(inner)], axis=-1)

    def weights(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """Half the length of the two edges that meet at each point of either boundary."""
        return self._each(self.star.weights, values)

    def gap(
        self, values: Float[np.ndarray, "draw site"], others: Float[np.ndarray, "draw site"]
    ) -> Float[np.ndarray, "draw site"]:
        """From outer points to the other's outer polygon, from inner ones to its inner."""
        pairs = zip(self.halves(values), self.halves(others), strict=True)
        return np.concatenate([self.star.gap(*pair) for pair in pairs], axis=-1)

    def distance(self, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, "site site"]:
        """The arc between rays of one boundary; infinite from one boundary to the other."""
        outer, inner = (self.star.distance(half) for half in self.halves(values))
        never = np.full_like(outer, np.inf)
        return np.block([[outer, never], [never, inner]])

    def bending(self, blur: float, shrinkage: float = 1.0) -> RingBending:
        """See `RingBending`."""
        return RingBending(self.star.bending(blur, shrinkage))

    def _each(
        self, function: Callable[[np.ndarray], np.ndarray], values: ArrayLike, axis: int = -1
    ) -> np.ndarray:
        return np.concatenate([function(half) for half in self.halves(values)], axis=axis)


@record
class RingBending:
    """`star.StarBending` of each boundary by itself: what is blurred is one region plus another."""

    one: StarBending

    @property
    def shrinkage(self) -> Float[ArrayLike, ""]:
        return self.one.shrinkage

    def __call__(self, values: Float[ArrayLike, " site"]) -> Float[Array, " site"]:
        outer, inner = jnp.split(jnp.asarray(values), 2)
        return jnp.concatenate([self.one(outer), self.one(inner)])


def rings_of(curves: Sequence[Curve]) -> list[Ring]:
    """Each region inside of curves (even-odd rule) that has a hole, with the largest of its own."""
    found = []
    for polygon in region_of(curves).geoms:
        outer, *holes = (
            Curve(np.asarray(edge.coords, dtype=float)[:-1], curves[0].unit)
            for edge in (polygon.exterior, *polygon.interiors)
        )
        if holes:
            found.append(Ring(outer, max(holes, key=lambda hole: hole.area)))
    return found


def ring_chart(centre: ArrayLike, radius_max: float, plane: Plane, rays: int = 128) -> RingChart:
    """A ring chart with equally spaced rays.

    Raises InputError for fewer than 8 rays or a radius that is not positive.
    """
    star = star_chart(centre, radius_max, plane, rays)
    return RingChart(star.centre, star.angles, star.radius_max, plane)
