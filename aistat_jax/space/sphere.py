"""How does a star in space turn a voxel near a surface into a pair (ray, distance along it)?"""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Bool, Float, Int
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Points, Shares, even_ends
from aistat_jax.space.curve import Curve
from aistat_jax.space.directions import words_in_space
from aistat_jax.space.grid import Plane
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.sphere_sites import (
    edge_products,
    meeting,
    pair_angles,
    solid_angles,
    sphere_analysis,
    sphere_basis,
    sphere_sites,
)

# Edges of the icosahedron are cut into so many: 10 n^2 + 2 rays.
FREQUENCY = 8
DEGREE = 12
# A surface is drawn with triangles of 1 / FINER of the rays' own: a ball then loses 0.1% of its
# volume to their being flat.
FINER = 3
# A voxel that covers more than one ray is cut into at most so many along each side.
MOST_CUT = 8
# Points compared with every draw at a time.
AT_ONCE = 4096
# Radii whose cubes are summed at a time: they stay in a core's cache.
CACHED = 40_000


@record
class SphereChart:
    """Rays from a centre in all directions of space; a surface is a positive radius along each.

    A `chart.Chart` whose sites are the rays and whose values are the radii. Between three rays the
    radius is linear in the barycentric coordinates of a direction.

    Shapes: centre (3,) in patient coordinates; radius_max a scalar; in mm (px without spacing).
    """

    centre: Float[np.ndarray, "3"]
    radius_max: float
    unit: str = static(default="mm")
    frequency: int = static(default=FREQUENCY)

    @property
    def dims(self) -> int:
        return 3

    @property
    def sites(self) -> int:
        return 10 * self.frequency**2 + 2

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
        return 4 / 3 * np.pi * self.radius_max**3

    @property
    def directions(self) -> Float[np.ndarray, "ray 3"]:
        return sphere_sites(self.frequency).directions

    @property
    def triangles(self) -> Int[np.ndarray, "face 3"]:
        return sphere_sites(self.frequency).triangles

    def basis(self, order: int) -> Basis:
        """Spherical harmonics up to a degree."""
        return sphere_basis(self.frequency, order)

    # ------------------------------------------------------------------------ of points

    def position(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """The distance of each point from the centre."""
        return np.asarray(np.linalg.norm(np.asarray(points, dtype=float) - self.centre, axis=-1))

    def nearest(self, points: Points) -> Int[np.ndarray, "*batch"]:
        """The ray nearest in direction to each point."""
        points = np.asarray(points, dtype=float)
        site, weight = self._around(points.reshape(-1, 3) - self.centre)
        best = np.take_along_axis(site, weight.argmax(axis=1)[:, None], axis=1)
        return best[:, 0].reshape(points.shape[:-1])

    def outward(self, points: Points) -> Float[np.ndarray, "*batch 3"]:
        """Unit vectors from the centre towards each point."""
        away = np.asarray(points, dtype=float) - self.centre
        return away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-12)

    def beside(self, points: Points, turn: float) -> Float[np.ndarray, "4 *batch 3"]:
        """The points turned about the centre by `turn` radians, to four sides."""
        radius, out = self.position(points)[..., None], self.outward(points)
        least = np.eye(3)[np.abs(out).argmin(axis=-1)]
        one = np.cross(out, least)
        one /= np.linalg.norm(one, axis=-1, keepdims=True)
        sides = np.stack([one, -one, np.cross(out, one), -np.cross(out, one)])
        return self.centre + radius * (np.cos(turn) * out + np.sin(turn) * sides)

    def apart(self, first: Points, second: Points) -> Float[np.ndarray, "*batch"]:
        """The arc between the directions of two points, at the mean of their radii."""
        angle = _angle(self.outward(first), self.outward(second))
        return np.asarray(angle * (self.position(first) + self.position(second)) / 2)

    def words(self, direction: ArrayLike) -> str:
        """Where a direction leads to in the patient."""
        return words_in_space(np.asarray(direction, dtype=float), self.unit)

    def share(self, points: Float[np.ndarray, "voxel 3"], footprint: float = 0.0) -> Shares:
        """Share voxels out to the rays that they meet.

        A point is split between the three rays around it by its barycentric coordinates; a voxel
        of width `footprint` that covers several rays is cut into smaller ones first, which share
        its weight and its distance from the centre.
        """
        from scipy.sparse import csr_array

        away = np.asarray(points, dtype=float) - self.centre
        radius = np.linalg.norm(away, axis=-1)
        between = np.sqrt(4 * np.pi / self.sites)
        wanted = footprint / np.maximum(radius * between, 1e-12)
        cuts = np.clip(np.ceil(wanted), 1, MOST_CUT).astype(int)
        parts = []
        for cut in np.unique(cuts):
            voxel = np.flatnonzero(cuts == cut)
            place = footprint * ((np.arange(cut) + 0.5) / cut - 0.5)
            small = np.stack(np.meshgrid(place, place, place), axis=-1).reshape(-1, 3)
            site, weight = self._around((away[voxel][:, None] + small).reshape(-1, 3))
            parts.append(
                (weight.ravel() / len(small), np.repeat(voxel, 3 * len(small)), site.ravel())
            )
        share, voxel, site = (np.concatenate(part) for part in zip(*parts, strict=True))
        summed = csr_array((share, (voxel, site)), (len(points), self.sites)).tocoo()
        kept = summed.data > 0
        voxel = summed.coords[0][kept].astype(int)
        return Shares(voxel, summed.coords[1][kept].astype(int), summed.data[kept], radius[voxel])

    def _around(self, away: Float[np.ndarray, "point 3"]) -> tuple[np.ndarray, np.ndarray]:
        """The three rays around each vector from the centre, and its barycentric coordinates."""
        sites, n = sphere_sites(self.frequency), self.frequency
        face = (away @ sites.corners.sum(axis=1).T).argmax(axis=1)
        inverse = np.linalg.inv(np.swapaxes(sites.corners, 1, 2))
        place = np.maximum(np.einsum("pij,pj->pi", inverse[face], away), 0.0)
        total = place.sum(axis=1, keepdims=True)
        place = n * np.where(total > 0, place / np.where(total > 0, total, 1.0), 1 / 3)
        whole = np.floor(place + 1e-12).astype(int)
        left = n - whole.sum(axis=1)
        corner = np.flatnonzero(left == 0)  # on a ray: the triangle below one of its coordinates
        whole[corner, place[corner].argmax(axis=1)] -= 1
        left[corner] = 1
        part = place - whole
        step = np.eye(3, dtype=int)
        turned = (left == 2)[:, None]
        reached = whole[:, None] + np.where(turned[..., None], 1 - step, step)
        weight = np.clip(np.where(turned, 1 - part, part), 0.0, 1.0)
        number = sites.number[face[:, None], reached[..., 0], reached[..., 1]]
        return number, weight / weight.sum(axis=1, keepdims=True)

    # -------------------------------------------------------------------- of boundaries

    def points(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray 3"]:
        """Points of surfaces given by their radii."""
        return self.centre + np.asarray(values)[..., None] * self.directions

    def line(
        self, site: int, positions: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place 3"]:
        """Points of one ray at several distances from the centre."""
        return self.centre + np.asarray(positions)[:, None] * self.directions[site]

    def surface(self, values: Float[np.ndarray, " ray"]) -> Mesh:
        """The closed surface of one boundary, in triangles FINER times as fine as its rays."""
        fine, (site, weight) = sphere_sites(FINER * self.frequency), _finer(self.frequency)
        radii = (np.asarray(values)[site] * weight).sum(axis=1)
        return Mesh(self.centre + radii[:, None] * fine.directions, fine.triangles, self.unit)

    def sections(self, values: Float[np.ndarray, " ray"], plane: Plane) -> list[Curve]:
        """The closed curves in which a slice cuts the surface: none, one or several."""
        return self.surface(values).section(plane)

    def sees(self, surface: Mesh) -> bool:
        """Whether the centre lies inside of a closed surface: it then fills the sky."""
        corners = surface.points[surface.faces] - self.centre
        corners = corners / np.maximum(np.linalg.norm(corners, axis=-1, keepdims=True), 1e-300)
        return float(solid_angles(corners).sum()) > 2 * np.pi

    def values_of(self, surface: Mesh) -> Float[np.ndarray, " ray"]:
        """Where each ray leaves a closed surface for the last time.

        Raises InputError when the centre lies outside the surface.
        """
        ray, along = _exits(surface, self.centre, self.directions)
        radii = np.zeros(self.sites)
        np.maximum.at(radii, ray, along)
        if (radii == 0).any() or not self.sees(surface):
            raise InputError(
                f"the chart's centre {tuple(np.round(self.centre, 2))} lies outside the surface; "
                "choose a centre inside it"
            )
        return radii

    def inside(
        self, values: Float[np.ndarray, "draw ray"], points: Float[np.ndarray, "*batch 3"]
    ) -> Bool[np.ndarray, "draw ..."]:
        """Whether points lie inside of each surface."""
        values = np.asarray(values, dtype=float)
        flat = np.reshape(points, (-1, 3))
        found = np.zeros((len(values), len(flat)), dtype=bool)
        for start in range(0, len(flat), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found[:, part] = self._within(values, flat[part])
        return found.reshape(len(values), *np.shape(points)[:-1])

    def inside_share(
        self, values: Float[np.ndarray, "draw ray"], points: Float[np.ndarray, "*batch 3"]
    ) -> Float[np.ndarray, "*batch"]:
        """The share of the surfaces that each point lies inside of."""
        values = np.asarray(values, dtype=float)
        flat = np.reshape(points, (-1, 3))
        radius = self.position(flat)
        found = (radius < values.min(initial=np.inf)).astype(float)
        near = np.flatnonzero((found == 0) & (radius <= values.max(initial=0.0)))
        site, _ = self._around(flat[near] - self.centre)
        surely = radius[near] < values.min(axis=0)[site].min(axis=1)
        found[near[surely]] = 1.0
        near = near[~surely & (radius[near] <= values.max(axis=0)[site].max(axis=1))]
        for start in range(0, len(near), AT_ONCE):
            part = near[start : start + AT_ONCE]
            found[part] = self._within(values, flat[part]).mean(axis=0)
        return found.reshape(np.shape(points)[:-1])

    def _within(self, values: np.ndarray, points: np.ndarray) -> Bool[np.ndarray, "draw point"]:
        site, weight = self._around(points - self.centre)
        edge = sum(values[:, site[:, i]] * weight[:, i] for i in range(3))
        return self.position(points) <= edge

    def content(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch"]:
        """Volume inside of each boundary, whose radius is linear on every triangle.

        The mean of the cube of a linear function over a triangle is a tenth of the sum of all
        products of three of its values at the corners: cubes, squares times a neighbour, and the
        product of all three.
        """
        angle, beside = pair_angles(self.frequency)
        triangles = self.triangles.T
        radii = np.asarray(values, dtype=float)
        found = []
        for some in np.array_split(radii.reshape(-1, self.sites), max(1, radii.size // CACHED)):
            r = np.ascontiguousarray(some.T)
            a, b, c = (r[corner] for corner in triangles)
            found.append((r * r * (beside @ r)).sum(axis=0) + angle @ (a * b * c))
        return (np.concatenate(found) / 30).reshape(radii.shape[:-1])

    def sectors(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray"]:
        """The volume of each ray's sector of a ball."""
        share = sphere_sites(self.frequency).share
        return 4 / 3 * np.pi * share * np.asarray(values, dtype=float) ** 3

    def weights(self, values: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray"]:
        """A third of the triangles that meet at each ray."""
        area = np.linalg.norm(self._across(values), axis=-1) / 2
        return area @ meeting(self.frequency) / 3

    def gap(
        self, values: Float[np.ndarray, "draw ray"], others: Float[np.ndarray, "draw ray"]
    ) -> Float[np.ndarray, "draw ray"]:
        """How far each point of surfaces lies from the other one's tangent plane on the same ray.

        To first order in the gap the distance itself, and never less.
        """
        one = others[:1] if np.asarray(others).strides[0] == 0 else others  # the same for all
        normal = self._normals(one)
        return np.abs(values - others) * np.einsum("dri,ri->dr", normal, self.directions)

    def _normals(self, values: Float[np.ndarray, "draw ray"]) -> Float[np.ndarray, "draw ray 3"]:
        """Unit normals at the rays, outwards: of the triangles around them by their areas."""
        meet, across = meeting(self.frequency), self._across(values)
        total = np.stack([across[..., i] @ meet for i in range(3)], axis=-1)
        return total / np.linalg.norm(total, axis=-1, keepdims=True)

    def _across(
        self, values: Float[np.ndarray, "*batch ray"]
    ) -> Float[np.ndarray, "*batch face 3"]:
        """Twice the area of every triangle, outwards at right angles to it.

        a x b + b x c + c x a of its corners, which is linear in products of two radii.
        """
        radii = np.asarray(values, dtype=float)
        a, b, c = (radii[..., self.triangles[:, i]] for i in range(3))
        ab, bc, ca = edge_products(self.frequency)
        return (a * b)[..., None] * ab + (b * c)[..., None] * bc + (c * a)[..., None] * ca

    def distance(self, values: Float[np.ndarray, " ray"]) -> Float[np.ndarray, "ray ray"]:
        """The arc between rays, at the mean radius."""
        directions = self.directions
        return _angle(directions[:, None], directions[None]) * np.mean(values)

    def bending(self, blur: float, shrinkage: float = 1.0) -> SphereBending:
        """See `SphereBending`."""
        basis = sphere_basis(self.frequency, DEGREE)
        spread, shrunk = (np.asarray(v, dtype=float) for v in (blur, shrinkage))
        analysis = sphere_analysis(self.frequency, DEGREE)
        return SphereBending(spread, shrunk, analysis, basis.functions, basis.eigenvalues)


@record
class SphereBending:
    """Where a surface seems to lie once a Gaussian point spread of sd s has blurred it.

    The half-way level set moves with normal speed equal to the sum of its curvatures for a time
    s^2 / 2. About a ball of radius R, the mean radius, the mean shrinks by s^2 / R and what is of
    degree l is damped by exp(-(l (l + 1) - 2) (s / R)^2 / 2): a shift (l = 1) is kept. With
    `shrinkage` 0 the mean is left, for tables in which a ball of the mean radius has been blurred
    already; to a shift such a ball answers by a factor exp(-(s / R)^2) less than to a change of its
    radius. Blurring moves matter about and makes none: the mean cube of the radii is kept, so that
    of a surface that is rougher than can be seen the volume shows.

    Shapes: analysis (basis, ray) and functions (ray, basis), to and from harmonics; eigenvalues
    l (l + 1).
    """

    blur: Float[ArrayLike, ""]
    shrinkage: Float[ArrayLike, ""]
    analysis: Float[ArrayLike, "basis ray"]
    functions: Float[ArrayLike, "ray basis"]
    eigenvalues: Float[ArrayLike, " basis"]

    def __call__(self, values: Float[ArrayLike, " ray"]) -> Float[Array, " ray"]:
        radii, eigenvalues = jnp.asarray(values), jnp.asarray(self.eigenvalues)
        analysis = jnp.asarray(self.analysis)
        coefficients = analysis @ radii
        mean = coefficients[0]
        power = jnp.where(eigenvalues > 0, eigenvalues - 2 * jnp.asarray(self.shrinkage), 0.0)
        lost = jnp.expm1(-0.5 * power * jnp.square(self.blur / mean)) * coefficients
        smooth = radii + jnp.asarray(self.functions) @ lost
        kept = analysis[0] @ (radii**3 - smooth**3) / (3 * jnp.square(mean))
        return smooth + kept - self.shrinkage * jnp.square(self.blur) / mean


def sphere_chart(
    centre: ArrayLike, radius_max: float, unit: str = "mm", frequency: int = FREQUENCY
) -> SphereChart:
    """A star in space with 10 frequency^2 + 2 nearly even rays.

    Raises InputError for a frequency below 2 or a radius that is not positive.
    """
    if frequency < 2:
        raise InputError(f"a star in space needs a frequency of at least 2, got {frequency}")
    if not radius_max > 0:
        raise InputError(f"the chart's outer radius must be positive, got {radius_max}")
    return SphereChart(np.asarray(centre, dtype=float), float(radius_max), unit, int(frequency))


@cache
def _finer(frequency: int) -> tuple[np.ndarray, np.ndarray]:
    """The three rays around each vertex that a surface is drawn with, and their weights."""
    chart = SphereChart(np.zeros(3), 1.0, frequency=frequency)
    return chart._around(sphere_sites(FINER * frequency).directions)


def _angle(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between unit vectors; by the chord, which is exact for small ones too."""
    chord = np.linalg.norm(one - other, axis=-1)
    return np.asarray(2 * np.arcsin(np.clip(0.5 * chord, 0.0, 1.0)))


def _exits(
    surface: Mesh, centre: np.ndarray, directions: Float[np.ndarray, "ray 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """Every ray and distance at which rays from a point cross a surface (Moller & Trumbore)."""
    corner = surface.points[surface.faces] - centre
    ray_found, along_found = [], []
    for start in range(0, len(corner), AT_ONCE):
        a, b, c = np.moveaxis(corner[start : start + AT_ONCE], 1, 0)
        # d = x a + y b + z c, all of one sign: the ray meets the triangle at 1 / (x + y + z)
        volume = np.einsum("fi,fi->f", a, np.cross(b, c))
        volume = np.where(volume == 0, np.inf, volume)
        x, y, z = (directions @ (np.cross(*pair) / volume[:, None]).T
                   for pair in ((b, c), (c, a), (a, b)))  # fmt: skip
        met = (x >= -1e-12) & (y >= -1e-12) & (z >= -1e-12) & (x + y + z > 0)
        ray, face = np.nonzero(met)
        ray_found.append(ray)
        along_found.append(1 / (x + y + z)[ray, face])
    return np.concatenate(ray_found), np.concatenate(along_found)
