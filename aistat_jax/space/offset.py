"""How does a closed curve turn a voxel near it into a pair (place along it, signed distance)?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace
from aistat_jax._typing import Array, ArrayLike, Bool, Float, Int
from aistat_jax.space.basis import Basis, circle_basis, equal_angles
from aistat_jax.space.chart import Points, Shares, own_ends
from aistat_jax.space.closed import distance_to_polygons, half_edges, shared_along
from aistat_jax.space.curve import Curve, cross
from aistat_jax.space.directions import direction_words
from aistat_jax.space.grid import Plane
from aistat_jax.space.reach import (
    KEPT,
    Normals,
    Reaches,
    balls,
    check_room,
    ends,
    least_lost,
    limits_of,
    narrow_share,
)
from aistat_jax.space.reference import checked_curve, curve_normals, smoothed

# Sds, in pixels, by which an outline is smoothed along itself: the first that leaves a reach of
# ROOMY pixels, and of ROOMY_SHARE of what is asked for, to both sides is taken.
SMOOTH, ROOMY, ROOMY_SHARE = (1.5, 2.1, 3.0, 4.2, 6.0), 3.0, 0.5
# Cells on either side of the nearest site in which the foot of a point is looked for.
NEARBY = 2
# Cells go on so much farther than boundaries do.
BEYOND = 1.05
# Points compared with every draw at a time.
AT_ONCE = 2048


class Foot(NamedTuple):
    """Where normals through points start: place along the curve in sites, and signed distance.

    `cell` is that between sites cell and cell + 1, or -1 where a point is so far from the curve
    that no normal, or more than one, can be told to pass through it.
    """

    place: np.ndarray
    position: np.ndarray
    cell: np.ndarray


@record
class OffsetChart:
    """Normals of a closed curve; a boundary is a signed distance along each of them.

    A `chart.Chart` whose sites are equally spaced along the reference, counter-clockwise. Values
    are positive outside of it, and keep to (low, high), within which normals do not cross, or,
    where they do so sooner in some places than in others, each to its own `limits`.

    Shapes: reference, normals (site, 2) in-plane, the latter outward unit vectors; low, high
    scalars in the unit of the plane; limits (site, 2) or None.
    """

    reference: Float[np.ndarray, "site 2"]
    normals: Float[np.ndarray, "site 2"]
    low: float
    high: float
    plane: Plane
    limits: Float[np.ndarray, "site 2"] | None = None

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def dims(self) -> int:
        return 2

    @property
    def sites(self) -> int:
        return len(self.reference)

    @property
    def reach(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def ends(self) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
        return own_ends(self.limits, self.reach, self.sites)

    @property
    def link(self) -> str:
        return "identity"

    @property
    def extent(self) -> float:
        return float(self.content(self.ends[1]))

    @property
    def directions(self) -> Float[np.ndarray, "site 2"]:
        return self.normals

    @property
    def curve(self) -> Curve:
        """The reference itself."""
        return Curve(self.reference, self.unit)

    @property
    def radius(self) -> float:
        """Of the disc of the reference's area: what angles of a prior are of."""
        return float(np.sqrt(self.curve.area / np.pi))

    @property
    def spacing(self) -> Float[np.ndarray, " site"]:
        """The length of the reference that each site stands for."""
        return half_edges(self.reference)

    @property
    def curvature(self) -> Float[np.ndarray, " site"]:
        """Of the reference, positive where it bends as a circle does."""
        turn = np.roll(self.normals, -1, axis=0) - np.roll(self.normals, 1, axis=0)
        tangents = np.stack([-self.normals[:, 1], self.normals[:, 0]], axis=1)
        return np.einsum("si,si->s", turn, tangents) / (2 * self.spacing)

    def basis(self, order: int) -> Basis:
        """Waves along the curve; their eigenvalues are told on the disc of its area."""
        circle = circle_basis(equal_angles(self.sites), order)
        scale = (2 * np.pi * self.radius / self.curve.perimeter) ** 2
        return replace(circle, eigenvalues=scale * np.asarray(circle.eigenvalues))

    # ------------------------------------------------------------------------ of points

    def foot(self, points: Points) -> Foot:
        """Where the normals through points start; elsewhere the nearest site and distance."""
        from scipy.spatial import KDTree

        points = np.asarray(points, dtype=float)
        flat = points.reshape(-1, 2)
        near = np.asarray(KDTree(self.reference).query(flat)[1])
        place, cell = near.astype(float), np.full(len(flat), -1)
        position = np.full(len(flat), np.inf)
        normal_next, next_site = (np.roll(v, -1, axis=0) for v in (self.normals, self.reference))
        low, high = (BEYOND * end for end in self.ends)
        for step in range(-NEARBY, NEARBY):
            j = (near + step) % self.sites
            corners = self.reference[j], self.normals[j], next_site[j], normal_next[j]
            for t, share in _in_cell(flat, *corners):
                better = (share >= -1e-9) & (share <= 1 + 1e-9) & (np.abs(t) < np.abs(position))
                within = np.clip(share, 0.0, 1.0)
                least, most = (
                    (1 - within) * end[j] + within * end[(j + 1) % self.sites]
                    for end in (low, high)
                )
                better &= (t >= least) & (t <= most)
                position[better], cell[better] = t[better], j[better]
                place[better] = j[better] + np.clip(share[better], 0.0, 1.0)
        far = cell < 0
        if far.any():
            depth = np.maximum(self.curve.distance_to(flat[far]), 1e-12)
            within = self.curve.contains(flat[far])
            if self.limits is not None:  # beyond the limits there, and so of all boundaries
                depth = np.maximum(depth, BEYOND * np.where(within, -self.low, self.high))
            position[far] = np.where(within, -depth, depth)
        shape = points.shape[:-1]
        return Foot(place.reshape(shape), position.reshape(shape), cell.reshape(shape))

    def position(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """The signed distance of each point along the normal through it."""
        return self.foot(points).position

    def nearest(self, points: Points) -> Int[np.ndarray, "*batch"]:
        """The site nearest to where the normal through each point starts."""
        return np.rint(self.foot(points).place).astype(int) % self.sites

    def outward(self, points: Points) -> Float[np.ndarray, "*batch 2"]:
        """Unit vectors along the normals through points."""
        return self._at(self.foot(points).place)[1]

    def _at(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Point and unit normal of the curve at places, in sites."""
        before = np.floor(place).astype(int)
        share = (place - before)[..., None]
        before, after = before % self.sites, (before + 1) % self.sites
        point, normal = (
            (1 - share) * each[before] + share * each[after]
            for each in (self.reference, self.normals)
        )
        return point, normal / np.linalg.norm(normal, axis=-1, keepdims=True)

    def beside(self, points: Points, turn: float) -> Float[np.ndarray, "2 *batch 2"]:
        """The points moved along the curve by an arc of `turn` radians of the disc of its area."""
        foot = self.foot(points)
        step = turn * self.radius / self.curve.perimeter * self.sites
        start, normal = self._at(np.stack([foot.place - step, foot.place + step]))
        return start + foot.position[..., None] * normal

    def apart(self, first: Points, second: Points) -> Float[np.ndarray, "*batch"]:
        """The shorter way along the reference between the feet of two points."""
        gap = np.abs(self.foot(first).place - self.foot(second).place) % self.sites
        return np.asarray(np.minimum(gap, self.sites - gap) * self.curve.perimeter / self.sites)

    def words(self, direction: ArrayLike) -> str:
        """Where a direction of the plane leads to; see `direction_words`."""
        u, v = np.asarray(direction, dtype=float)
        return direction_words(self.plane, (float(u), float(v)))

    def share(self, points: Float[np.ndarray, "voxel 2"], footprint: float = 0.0) -> Shares:
        """Share voxels out to the sites whose normals they meet.

        As rays share them, with widths measured along the curve at the voxel's own position. What
        is too far from the curve to have one foot goes to the nearest site: it lies on the same
        side of every boundary within the reach.
        """
        foot = self.foot(points)
        j = np.where(foot.cell < 0, np.rint(foot.place).astype(int) % self.sites, foot.cell)
        t = np.clip(foot.position, self.low, self.high)[:, None]
        start, end = (self.reference[i] + t * self.normals[i] for i in (j, (j + 1) % self.sites))
        width = np.linalg.norm(end - start, axis=1)
        half = np.where(foot.cell < 0, 0.0, 0.5 * footprint / np.maximum(width, 1e-12))
        half = np.minimum(half, self.sites / 2 - 1.0)
        voxel, site, share = shared_along(foot.place, half, self.sites)
        return Shares(voxel, site, share, foot.position[voxel])

    # -------------------------------------------------------------------- of boundaries

    def points(
        self, values: Float[np.ndarray, "*batch site"]
    ) -> Float[np.ndarray, "*batch site 2"]:
        """In-plane points of boundaries given by their offsets."""
        return self.reference + np.asarray(values)[..., None] * self.normals

    def line(
        self, site: int, positions: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place 2"]:
        """Points of one normal at several distances from the reference."""
        return self.reference[site] + np.asarray(positions)[:, None] * self.normals[site]

    def surface(self, values: Float[np.ndarray, " site"]) -> Curve:
        """The closed, counter-clockwise curve of one boundary."""
        return Curve(self.points(values), self.unit)

    def sections(self, values: Float[np.ndarray, " site"], plane: Plane) -> list[Curve]:
        """The curve itself in its own slice, nothing in any other."""
        return [self.surface(values)] if self.plane.is_slice(plane) else []

    def met(self, surface: Curve) -> float:
        """The share of the normals that meet a closed curve within the reach."""
        return float(np.isfinite(self._crossings(surface)).mean())

    def sees(self, surface: Curve) -> bool:
        """Whether at least half of the normals meet a closed curve within the reach."""
        return self.met(surface) >= 0.5

    def values_of(self, surface: Curve) -> Float[np.ndarray, " site"]:
        """Where normals cross a closed curve, nearest to the reference; a normal that it does not
        meet within the reach ends there, on the side where the curve is.

        Raises InputError when the curve is not near to the reference.
        """
        values = self._crossings(surface)
        missed = ~np.isfinite(values)
        if missed.mean() > 0.5:
            raise InputError(
                f"{missed.mean():.0%} of the normals of the reference do not meet the contour "
                f"between {self.low:.3g} and {self.high:.3g} {self.unit} from it; choose a "
                "reference nearer to the contour"
            )
        within = surface.contains(self.reference[missed])
        low, high = self.ends
        values[missed] = np.where(within, high[missed], low[missed])
        return values

    def _crossings(self, surface: Curve) -> Float[np.ndarray, " site"]:
        """The smallest offset, of either sign, at which each normal meets a curve; or infinity."""
        found = np.full(self.sites, np.inf)
        edges = surface.edges
        start, (low, high) = surface.points, self.ends
        for first in range(0, self.sites, 64):
            rows = slice(first, first + 64)
            d = self.normals[rows, None]
            off = start[None] - self.reference[rows, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                across = cross(d, edges)
                along = cross(off, edges) / across
                share = cross(off, d) / across
            slack = 1e-9 * (self.high - self.low)
            least, most = (end[rows, None] for end in (low - slack, high + slack))
            hit = (share >= -1e-9) & (share <= 1 + 1e-9)
            hit &= (along >= least) & (along <= most)
            along = np.where(hit, along, np.inf)
            best = np.abs(along).argmin(axis=1)
            found[rows] = np.take_along_axis(along, best[:, None], axis=1)[:, 0]
        return found

    def inside(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch 2"]
    ) -> Bool[np.ndarray, "draw ..."]:
        """Whether points lie inside of each boundary's polygon."""
        values = np.asarray(values, dtype=float)
        flat = np.reshape(points, (-1, 2))
        surely, near, cell = self._undecided(values, flat)
        found = np.repeat(surely[None], len(values), axis=0)
        for at in _some(near):
            found[:, at] = self._left_of(values, flat[at], cell[at])
        return found.reshape(len(values), *np.shape(points)[:-1])

    def inside_share(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch 2"]
    ) -> Float[np.ndarray, "*batch"]:
        """The share of the polygons that each point lies inside of."""
        values = np.asarray(values, dtype=float)
        flat = np.reshape(points, (-1, 2))
        surely, near, cell = self._undecided(values, flat)
        found = surely.astype(float)
        for at in _some(near):
            found[at] = self._left_of(values, flat[at], cell[at]).mean(axis=0)
        return found.reshape(np.shape(points)[:-1])

    def _undecided(self, values: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Which points are inside of every boundary; the numbers of those to look at; cells."""
        foot = self.foot(points)
        low = values.min(axis=0, initial=self.high)
        high = values.max(axis=0, initial=self.low)
        j = np.where(foot.cell < 0, np.rint(foot.place).astype(int) % self.sites, foot.cell)
        after = (j + 1) % self.sites
        # an edge between two offsets leaves them by what the arc between its ends does
        bulge = 0.25 * float(self.spacing.max())
        below = foot.position < np.minimum(low[j], low[after]) - bulge
        above = foot.position > np.maximum(high[j], high[after]) + bulge
        far = foot.cell < 0
        surely = np.where(far, foot.position < 0, below)
        return surely, np.flatnonzero(~far & ~below & ~above), foot.cell

    def _left_of(self, values: np.ndarray, points: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Whether points (point,) lie to the left of the edges in their cells: (draw, point)."""
        after = (cell + 1) % self.sites
        start = points - self.reference[cell], self.normals[cell]
        end = points - self.reference[after], self.normals[after]
        v, w = values[:, cell], values[:, after]
        # (x - a) x (x - b) for a = p + v n and b = q + w m, in powers of v and w
        turn = cross(start[0], end[0]) - w * cross(start[0], end[1])
        turn -= v * cross(start[1], end[0]) - v * w * cross(start[1], end[1])
        return turn > 0

    def content(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch"]:
        """Area inside of the polygon of each boundary, by the shoelace formula."""
        points = self.points(values) - self.reference[0]
        return np.asarray(0.5 * cross(points, np.roll(points, -1, axis=-2)).sum(axis=-1))

    def sectors(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """An even part of the reference's area, and what lies between it and the offset."""
        values = np.asarray(values, dtype=float)
        strip = self.spacing * (values + 0.5 * self.curvature * values**2)
        return self.curve.area / self.sites + strip

    def weights(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """Half the length of the two edges that meet at each site."""
        return half_edges(self.points(values))

    def gap(
        self, values: Float[np.ndarray, "draw site"], others: Float[np.ndarray, "draw site"]
    ) -> Float[np.ndarray, "draw site"]:
        """The distance from each point of polygons to the other polygon."""
        return distance_to_polygons(self.points(values), self.points(others))

    def distance(self, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, "site site"]:
        """The shorter way along the polygon of a boundary."""
        length = self.weights(values)
        along = np.cumsum(length) - 0.5 * length
        gap = np.abs(along[:, None] - along)
        return np.minimum(gap, length.sum() - gap)

    def bending(self, blur: float, shrinkage: float = 1.0) -> OffsetBending:
        """Curve shortening for a time blur^2 / 2, linear about the reference."""
        return bending(self.curvature, float(self.spacing.mean()), blur, shrinkage)


@record
class OffsetBending:
    """Where a boundary seems to lie once a Gaussian point spread of sd b has blurred it.

    Curve shortening for a time b^2 / 2, linear about the reference: d v / d tau = G v - kappa with
    G the second derivative along the curve plus kappa^2.

    Shapes: flow (site, site), shift (site,).
    """

    flow: Float[ArrayLike, "site site"]
    shift: Float[ArrayLike, " site"]
    shrinkage: Float[ArrayLike, ""]

    def __call__(self, values: Float[ArrayLike, " site"]) -> Float[Array, " site"]:
        return jnp.asarray(self.flow) @ values - jnp.asarray(self.shift)


def bending(
    curvature: Float[np.ndarray, " site"], spacing: float, blur: float, shrinkage: float
) -> OffsetBending:
    """The flow of a curve of this curvature, at sites `spacing` apart; see `OffsetBending`."""
    count = len(curvature)
    kappa = shrinkage * np.clip(curvature, -1 / blur, 1 / blur)
    wave = 2 * np.pi * np.fft.fftfreq(count, spacing)
    second = np.fft.ifft(-(wave**2)[:, None] * np.fft.fft(np.eye(count), axis=0), axis=0).real
    rate, mode = np.linalg.eigh(0.5 * (second + second.T) + np.diag(kappa**2))
    time = 0.5 * blur**2
    lasting = np.where(
        np.abs(rate * time) > 1e-8,
        np.expm1(rate * time) / np.where(rate == 0, 1.0, rate),
        time,
    )
    flow = (mode * np.exp(rate * time)) @ mode.T
    return OffsetBending(flow, mode @ (lasting * (mode.T @ kappa)), np.asarray(float(shrinkage)))


def offset_chart(
    curve: Curve, reach: float, plane: Plane, sites: int = 128, *, smooth: bool = True
) -> OffsetChart:
    """The normals of a closed curve, as far as `reach` to both sides or as they do not cross.

    The curve is smoothed along itself by the least of SMOOTH pixels of the plane that leaves its
    normals half of the reach, and ROOMY pixels, to both sides; not at all unless `smooth`. Where
    none does, each normal has its own reach if that of all is little (`reach.ends`), and the least
    is taken of which hardly any normal is too short and that loses hardly anything of the curve
    (`reach.least_lost`).

    Raises InputError for a curve that is open, crosses itself, or is so small or narrow that its
    normals cross within LEAST pixels; for fewer than 16 sites or a reach that is not positive.
    """
    if sites < 16:
        raise InputError(f"an offset chart needs at least 16 sites, got {sites}")
    if not reach > 0:
        raise InputError(f"the chart's reach must be positive, got {reach}")
    pixel = float(plane.spacing.mean())
    curve = checked_curve(curve, plane)
    tried: list[tuple[Normals, Reaches]] = []
    for sd in SMOOTH if smooth else (0.0,):
        normals = curve_normals(*smoothed(curve, sd * pixel, sites), curve.unit)
        found = balls(normals.points, normals.outward)
        tried.append((normals, found))
        if KEPT * min(found.least) >= max(ROOMY * pixel, ROOMY_SHARE * reach):
            tried = tried[-1:]
            break
    made: list[tuple[OffsetChart, Normals, np.ndarray, np.ndarray]] = []
    for normals, found in tried:
        low, high = ends(normals, found, reach, pixel)
        chart = OffsetChart(
            normals.points, normals.outward, -float(low.max()), float(high.max()), plane,
            limits_of(low, high),
        )  # fmt: skip
        made.append((chart, normals, low, high))
    if len(made) > 1:
        losses = [
            (
                narrow_share(normals, low, high, pixel),
                max(1 - chart.met(curve), normals.unheld(curve.points, high)),
            )
            for chart, normals, low, high in made
        ]
        made = [made[least_lost(losses)]]
    ((chart, normals, low, high),) = made
    check_room(normals, low, high, pixel)
    return chart


def _in_cell(
    x: np.ndarray, p: np.ndarray, n: np.ndarray, q: np.ndarray, m: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both (t, share) with x = (1 - share) (p + t n) + share (q + t m).

    One of them is next to where the two normals meet, and its share next to infinite.
    """
    d, e, turn = x - p, q - p, m - n
    a, b, c = -cross(n, turn), cross(d, turn) - cross(n, e), cross(d, e)
    root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))
    large = -(b + np.where(b >= 0, root, -root))
    for above, below in ((2 * c, large), (large, 2 * a)):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.nan_to_num(np.clip(above / below, -1e9, 1e9), nan=1e9)
        edge = e + t[:, None] * turn
        length = np.maximum(np.square(edge).sum(axis=-1), 1e-300)
        yield t, ((d - t[:, None] * n) * edge).sum(axis=-1) / length


def _some(numbers: np.ndarray) -> list[np.ndarray]:
    return [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)]
