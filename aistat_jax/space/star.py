"""How does a star turn a voxel near a boundary into a pair (ray, distance along it)?"""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Bool, Float, Int
from aistat_jax.space.basis import Basis, circle_basis, equal_angles
from aistat_jax.space.chart import Points, Shares, even_ends
from aistat_jax.space.closed import distance_to_polygons, half_edges, shared_along
from aistat_jax.space.curve import Curve, last_exits
from aistat_jax.space.directions import direction_words
from aistat_jax.space.grid import Plane


@record
class StarChart:
    """Rays from a centre; a boundary is a positive radius along each of them.

    A `chart.Chart` whose sites are the rays and whose values are the radii. Angles run
    counter-clockwise from the +u axis of the plane, equally spaced from 0.

    Shapes: centre (2,) in-plane coordinates, angles (ray,) radians, radius_max a scalar;
    lengths in the unit of the plane (mm, or px for images without spacing).
    """

    centre: Float[np.ndarray, "2"]
    angles: Float[np.ndarray, " ray"]
    radius_max: float
    plane: Plane

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def dims(self) -> int:
        return 2

    @property
    def sites(self) -> int:
        return len(self.angles)

    @property
    def reach(self) -> tuple[float, float]:
        return 0.0, self.radius_max

    @property
    def ends(self) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
        return even_ends(self.reach, self.sites)

    @property
    def link(self) -> str:
        return "log"

    @property
    def extent(self) -> float:
        return np.pi * self.radius_max**2

    @property
    def step(self) -> float:
        """The angle between neighbouring rays."""
        return 2 * np.pi / len(self.angles)

    @property
    def directions(self) -> Float[np.ndarray, "ray 2"]:
        return unit_vectors(self.angles)

    def basis(self, order: int) -> Basis:
        """The constant and the first `order` harmonics."""
        return circle_basis(self.angles, order)

    # ------------------------------------------------------------------------ of points

    def polar(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Radius and angle in [0, 2 pi) of in-plane points (..., 2)."""
        offset = np.asarray(points, dtype=float) - self.centre
        angle = np.mod(np.arctan2(offset[..., 1], offset[..., 0]), 2 * np.pi)
        return np.asarray(np.hypot(offset[..., 0], offset[..., 1])), np.asarray(angle)

    def position(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """The distance of each point from the centre."""
        u, v = np.moveaxis(np.asarray(points, dtype=float) - self.centre, -1, 0)
        return np.asarray(np.hypot(u, v))

    def nearest(self, points: Points) -> Int[np.ndarray, "*batch"]:
        """The ray nearest in angle to each point."""
        return self.nearest_to(self.polar(points)[1])

    def nearest_to(self, angle: ArrayLike | float) -> Int[np.ndarray, "*batch"]:
        """The ray nearest to an angle (radians)."""
        rays = len(self.angles)
        return np.asarray(np.rint(np.asarray(angle) / (2 * np.pi) * rays).astype(int) % rays)

    def outward(self, points: Points) -> Float[np.ndarray, "*batch 2"]:
        """Unit vectors from the centre towards each point."""
        return unit_vectors(self.polar(points)[1])

    def beside(self, points: Points, turn: float) -> Float[np.ndarray, "2 *batch 2"]:
        """The points turned about the centre by `turn` radians, clockwise and counter-clockwise."""
        radius, angle = self.polar(points)
        turned = unit_vectors(np.stack([angle - turn, angle + turn]))
        return self.centre + radius[..., None] * turned

    def apart(self, first: Points, second: Points) -> Float[np.ndarray, "*batch"]:
        """The arc between the angles of two points, at the mean of their radii."""
        (near, one), (far, other) = self.polar(first), self.polar(second)
        return np.asarray(_around(one, other) * (near + far) / 2)

    def words(self, direction: ArrayLike) -> str:
        """Where a direction of the plane leads to; see `direction_words`."""
        u, v = np.asarray(direction, dtype=float)
        return direction_words(self.plane, (float(u), float(v)))

    def share(self, points: Float[np.ndarray, "voxel 2"], footprint: float = 0.0) -> Shares:
        """Share voxels out to the rays their footprint meets.

        A voxel at angle a covers angles a +- footprint / (2 t). Its share of a ray is the integral
        of that ray's hat function (linear interpolation between neighbouring rays) over the
        footprint: a point (footprint 0) is split linearly between its two rays.

        Shapes: points (voxel, 2) in-plane; footprint is the voxel's width in the chart's unit.
        """
        rays, step = len(self.angles), self.step
        radius, angle = self.polar(points)
        half_width = np.minimum(footprint / (2 * np.maximum(radius, 1e-12)) / step, rays / 2 - 1.0)
        voxel, ray, share = shared_along(angle / step, half_width, rays)
        return Shares(voxel, ray, share, radius[voxel])

    # -------------------------------------------------------------------- of boundaries

    def points(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray 2"]:
        """In-plane points of boundaries given by their radii."""
        return self.centre + np.asarray(values)[..., None] * self.directions

    def line(
        self, site: int, positions: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place 2"]:
        """Points of one ray at several distances from the centre."""
        return self.centre + np.asarray(positions)[:, None] * self.directions[site]

    def surface(self, values: Float[np.ndarray, " ray"]) -> Curve:
        """The closed, counter-clockwise curve of one boundary."""
        return Curve(points=self.points(values), unit=self.unit)

    def sections(self, values: Float[np.ndarray, " ray"], plane: Plane) -> list[Curve]:
        """The curve itself in its own slice, nothing in any other."""
        return [self.surface(values)] if self.plane.is_slice(plane) else []

    def sees(self, surface: Curve) -> bool:
        """Whether the centre lies inside of a closed curve."""
        return bool(surface.contains(self.centre[None])[0])

    def values_of(self, surface: Curve) -> Float[np.ndarray, " ray"]:
        """Where each ray leaves a closed curve for the last time.

        Raises InputError when the centre lies outside the curve.
        """
        if not self.sees(surface):
            raise InputError(
                f"the chart's centre {tuple(np.round(self.centre, 2))} lies outside the contour; "
                "choose a centre inside it"
            )
        return last_exits(surface.points, self.centre, self.directions)

    def inside(
        self, values: Float[np.ndarray, "draw ray"], points: Float[np.ndarray, "*batch 2"]
    ) -> Bool[np.ndarray, "draw ..."]:
        """Whether points lie inside of each boundary's polygon."""
        values = np.asarray(values, dtype=float)
        surely, parts = self._compared(values, points)
        found = np.repeat(surely[None], len(values), axis=0)
        for at, within in parts:
            found[:, at] = within.T
        return found.reshape(len(values), *np.shape(points)[:-1])

    def inside_share(
        self, values: Float[np.ndarray, "draw ray"], points: Float[np.ndarray, "*batch 2"]
    ) -> Float[np.ndarray, "*batch"]:
        """The share of the polygons that each point lies inside of."""
        surely, parts = self._compared(np.asarray(values, dtype=float), points)
        found = surely.astype(float)
        for at, within in parts:
            found[at] = within.mean(axis=1)
        return found.reshape(np.shape(points)[:-1])

    def _compared(
        self, draws: np.ndarray, points: np.ndarray
    ) -> tuple[np.ndarray, Iterator[tuple[np.ndarray, np.ndarray]]]:
        """Which points (flat) lie inside of every draw; and of those that may not, some at a time,
        their numbers and whether each lies inside of each draw (point, draw).

        Along the chord between two rays the inverse radius is linear in the sine rule's weights, so
        that the points between two rays are compared with every draw in one matrix product.
        """
        rays, step = len(self.angles), self.step
        radius, angle = self.polar(np.reshape(points, (-1, 2)))
        before = np.floor(angle / step).astype(int) % rays
        after = (before + 1) % rays
        smallest = draws.min(axis=0, initial=np.inf)  # of no draws too
        largest = draws.max(axis=0, initial=0.0)
        # a chord dips below its ends by at most cos(step / 2)
        surely = radius < np.minimum(smallest[before], smallest[after]) * np.cos(step / 2)
        never = radius > np.maximum(largest[before], largest[after])
        near = np.flatnonzero(~surely & ~never)
        near = near[np.argsort(before[near], kind="stable")]
        sector = before[near]
        along = angle[near] - sector * step
        weights = np.stack([np.sin(step - along), np.sin(along)], axis=-1)
        weights *= (radius[near] / np.sin(step))[:, None]
        inverse = 1.0 / np.maximum(draws, 1e-12).T  # (ray, draw)
        parts = (
            (near[at], weights[at] @ inverse[[ray, (ray + 1) % rays]] <= 1.0)
            for ray, at in _runs(sector)
        )
        return surely, parts

    def content(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch"]:
        """Area inside the polygon of each boundary."""
        sine = np.sin(self.angles[1] - self.angles[0])
        return np.asarray(0.5 * sine * np.sum(values * np.roll(values, -1, axis=-1), axis=-1))

    def sectors(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray"]:
        """The area of each ray's sector of a disc."""
        return 0.5 * self.step * np.square(values, dtype=float)

    def weights(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray"]:
        """Half the length of the two edges that meet at each ray."""
        return half_edges(self.points(values))

    def gap(
        self, values: Float[np.ndarray, "draw ray"], others: Float[np.ndarray, "draw ray"]
    ) -> Float[np.ndarray, "draw ray"]:
        """The distance from each point of polygons to the other polygon.

        That is at most the distance d along the ray, and what is as near as that to a point of
        radius r lies within an angle asin(d / r) of its ray: edges farther round are left out.
        """
        rays, (points, polygons) = len(self.angles), (self.points(v) for v in (values, others))
        turn = np.arcsin(np.clip(np.abs(values - others) / np.maximum(values, 1e-300), 0.0, 1.0))
        reach = np.ceil(turn.max(axis=-1) / self.step) + 1
        reach = 2 ** np.ceil(np.log2(reach)).astype(int)  # of few kinds, each done at once
        found = np.empty(np.shape(values))
        for widest in np.unique(reach):
            at, beside = reach == widest, np.arange(-widest, widest)
            edges = (np.arange(rays)[:, None] + beside) % rays if 2 * widest < rays / 2 else None
            found[at] = distance_to_polygons(points[at], polygons[at], edges)
        return found

    def distance(self, values: Float[np.ndarray, " ray"]) -> Float[np.ndarray, "ray ray"]:
        """The arc between rays, at the mean radius."""
        return _around(self.angles[:, None], self.angles[None, :]) * np.mean(values)

    def bending(self, blur: float, shrinkage: float = 1.0) -> StarBending:
        """See `StarBending`."""
        return StarBending(np.asarray(blur, dtype=float), np.asarray(shrinkage, dtype=float))


@record
class StarBending:
    """Where a boundary seems to lie once a Gaussian point spread of sd s has blurred it.

    Blurring is heat flow for a time s^2 / 2, and the level set half-way between the two
    intensities moves under it with normal speed equal to its curvature (Merriman, Bence & Osher
    1994). About a circle of radius R, the mean radius, that flow is linear: the mean shrinks by
    s^2 / (2 R) and harmonic k >= 1 is damped by exp(-(k^2 - 1) (s / R)^2 / 2). A shift (k = 1)
    is kept, corners are rounded, and ripples finer than the blur do not show. With `shrinkage` 0
    the mean is left, for tables in which a disc of the mean radius has been blurred already; to a
    shift such a disc answers by a factor exp(-(s / R)^2 / 2) less than to a change of its radius.
    Blurring moves matter about and makes none: the mean square of the radii is kept, so that of an
    edge that is rougher than can be seen the area shows, which is more than its mean radius says.
    """

    blur: Float[ArrayLike, ""]
    shrinkage: Float[ArrayLike, ""]

    def __call__(self, values: Float[ArrayLike, " ray"]) -> Float[Array, " ray"]:
        radii, shrinkage = jnp.asarray(values), self.shrinkage
        count = radii.shape[-1]
        mean = jnp.mean(radii)
        order = np.arange(count // 2 + 1)
        power = jnp.where(order > 0, order**2 - jnp.asarray(shrinkage), 0.0)
        damping = jnp.exp(-0.5 * power * jnp.square(self.blur / mean))
        smooth = jnp.fft.irfft(jnp.fft.rfft(radii) * damping, n=count)
        kept = 0.5 * jnp.mean(jnp.square(radii) - jnp.square(smooth)) / mean
        return smooth + kept - 0.5 * shrinkage * jnp.square(self.blur) / mean


def star_chart(centre: ArrayLike, radius_max: float, plane: Plane, rays: int = 128) -> StarChart:
    """A star chart with equally spaced rays.

    Raises InputError for fewer than 8 rays or a radius that is not positive.
    """
    if rays < 8:
        raise InputError(f"a star chart needs at least 8 rays, got {rays}")
    if not radius_max > 0:
        raise InputError(f"the chart's outer radius must be positive, got {radius_max}")
    angles = equal_angles(rays)
    return StarChart(np.asarray(centre, dtype=float), angles, float(radius_max), plane)


def unit_vectors(angles: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch 2"]:
    """Vectors of length one at angles (radians) counter-clockwise from the +u axis."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _around(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smaller of the two angles between directions."""
    gap = np.abs(one - other)
    return np.asarray(np.minimum(gap, 2 * np.pi - gap))


def _runs(values: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Each distinct value of a sorted array, with the slice where it stands."""
    runs = np.unique(values, return_index=True, return_counts=True)
    for value, start, count in zip(*runs, strict=True):
        yield int(value), slice(start, start + count)
