"""How does a closed mesh turn a voxel near it into a pair (place on it, signed distance)?"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import ArrayLike, Bool, Float, Int
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Points, Shares, own_ends
from aistat_jax.space.curve import Curve
from aistat_jax.space.directions import words_in_space
from aistat_jax.space.grid import Plane
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.mesh_bending import OffsetMeshBending
from aistat_jax.space.mesh_feet import Foot, Prisms, remembered_feet
from aistat_jax.space.mesh_reach import checked_normals
from aistat_jax.space.reach import limits_of
from aistat_jax.space.surfaces import crossings, mesh_modes, mode_count, vertex_normals

# A voxel wider than this many times the distance between sites is cut into eight.
WIDE = 1.2
# Points compared with every draw at a time.
AT_ONCE = 4096


@record
class OffsetMeshChart:
    """Normals of a closed mesh; a boundary is a signed distance along each of them.

    A `chart.Chart` whose sites are the vertices. Two corners and their normals span a side of the
    prism on a triangle, in which a point's place and distance are found. Values are positive
    outside, and keep to (low, high), or, where normals cross sooner in some places than in others,
    each to its own `limits`.

    Shapes: reference, normals (site, 3) in patient coordinates; faces (face, 3); modes (site, mode)
    eigenfunctions of the Laplace-Beltrami operator of mean square one, eigenvalues (mode,) in units
    of the ball of the mesh's volume; mass (site,) the area each vertex stands for; limits (site, 2)
    or None.
    """

    reference: Float[np.ndarray, "site 3"]
    faces: Int[np.ndarray, "face 3"]
    normals: Float[np.ndarray, "site 3"]
    mass: Float[np.ndarray, " site"]
    modes: Float[np.ndarray, "site mode"]
    eigenvalues: Float[np.ndarray, " mode"]
    low: float
    high: float
    unit: str = static(default="mm")
    limits: Float[np.ndarray, "site 2"] | None = None

    @property
    def dims(self) -> int:
        return 3

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
    def directions(self) -> Float[np.ndarray, "site 3"]:
        return self.normals

    @property
    def mesh(self) -> Mesh:
        """The reference itself."""
        return Mesh(self.reference, self.faces, self.unit)

    @property
    def radius(self) -> float:
        """Of the ball of the reference's volume: what angles of a prior are of."""
        return float((0.75 * self.mesh.volume / np.pi) ** (1 / 3))

    @property
    def spacing(self) -> float:
        """About how far sites are apart."""
        return float(np.sqrt(self.mass.mean()))

    def basis(self, order: int) -> Basis:
        """As many of the lowest modes as there are spherical harmonics to a degree."""
        count = mode_count(order)
        if not order >= 1 or count > len(self.eigenvalues):
            raise InputError(
                f"an order of {order} needs {count} modes of the mesh, of which "
                f"{len(self.eigenvalues)} are known; use a lower order or more sites"
            )
        return Basis(self.modes[:, :count], self.eigenvalues[:count], 2, order)

    # ------------------------------------------------------------------------ of points

    def foot(self, points: Float[np.ndarray, "point 3"]) -> Foot:
        """Under which triangle each point lies; elsewhere the nearest vertex and distance."""
        prisms = Prisms(self.reference, self.faces, self.normals, self.reach, self.limits)
        return remembered_feet(prisms, points)

    def _flat(self, points: Points) -> tuple[Foot, tuple[int, ...]]:
        points = np.asarray(points, dtype=float)
        return self.foot(points.reshape(-1, 3)), points.shape[:-1]

    def position(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """The signed distance of each point along the normal through it."""
        foot, shape = self._flat(points)
        return foot.position.reshape(shape)

    def nearest(self, points: Points) -> Int[np.ndarray, "*batch"]:
        """The vertex with the largest share of each point."""
        foot, shape = self._flat(points)
        best = foot.share.argmax(axis=1)[:, None]
        return np.take_along_axis(foot.site, best, axis=1)[:, 0].reshape(shape)

    def outward(self, points: Points) -> Float[np.ndarray, "*batch 3"]:
        """Unit vectors along the normals through points."""
        foot, shape = self._flat(points)
        return self._at(foot)[1].reshape(*shape, 3)

    def _at(self, foot: Foot) -> tuple[np.ndarray, np.ndarray]:
        """Point and unit normal of the surface below points."""
        point, normal = (
            np.einsum("pc,pci->pi", foot.share, each[foot.site])
            for each in (self.reference, self.normals)
        )
        return point, normal / np.linalg.norm(normal, axis=1, keepdims=True)

    def beside(self, points: Points, turn: float) -> Float[np.ndarray, "4 *batch 3"]:
        """The points moved to four sides by an arc of `turn` radians of the ball of its volume."""
        foot, shape = self._flat(points)
        point, out = self._at(foot)
        one = np.cross(out, np.eye(3)[np.abs(out).argmin(axis=1)])
        one /= np.linalg.norm(one, axis=1, keepdims=True)
        other = np.cross(out, one)
        moved = []
        for side in (one, -one, other, -other):
            start, normal = self._at(self.foot(point + turn * self.radius * side))
            moved.append(start + foot.position[:, None] * normal)
        return np.stack(moved).reshape(4, *shape, 3)

    def apart(self, first: Points, second: Points) -> Float[np.ndarray, "*batch"]:
        """The straight line between two points: no longer than any way along a boundary."""
        away = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
        return np.asarray(np.linalg.norm(away, axis=-1))

    def words(self, direction: ArrayLike) -> str:
        """Where a direction leads to in the patient."""
        return words_in_space(np.asarray(direction, dtype=float), self.unit)

    def share(self, points: Float[np.ndarray, "voxel 3"], footprint: float = 0.0) -> Shares:
        """Share voxels out to the corners of the triangles that they lie over.

        By barycentric coordinates; a voxel that is wide beside the triangles is cut into eight
        first, which share its weight and its position.
        """
        from scipy.sparse import csr_array

        whole = self.foot(points)
        near = (whole.position > self.low - footprint) & (whole.position < self.high + footprint)
        cut = np.flatnonzero(near & (footprint > WIDE * self.spacing))
        left = np.setdiff1d(np.arange(len(points)), cut)
        parts = [(left, Foot(*(part[left] for part in whole)), 1.0)]
        if len(cut):
            steps = 0.25 * footprint * np.array(np.meshgrid(*3 * [[-1, 1]])).reshape(3, -1).T
            parts += [(cut, self.foot(points[cut] + step), 1 / len(steps)) for step in steps]
        site = np.concatenate([part.site for _, part, _ in parts]).ravel()
        share = np.concatenate([part.share * weight for _, part, weight in parts]).ravel()
        voxel = np.repeat(np.concatenate([at for at, _, _ in parts]), 3)
        summed = csr_array((share, (voxel, site)), (len(points), self.sites)).tocoo()
        kept = summed.data > 0
        voxel = summed.coords[0][kept].astype(int)
        return Shares(
            voxel, summed.coords[1][kept].astype(int), summed.data[kept], whole.position[voxel]
        )

    # -------------------------------------------------------------------- of boundaries

    def points(
        self, values: Float[np.ndarray, "*batch site"]
    ) -> Float[np.ndarray, "*batch site 3"]:
        """Points of boundaries given by their offsets."""
        return self.reference + np.asarray(values)[..., None] * self.normals

    def line(
        self, site: int, positions: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place 3"]:
        """Points of one normal at several distances from the reference."""
        return self.reference[site] + np.asarray(positions)[:, None] * self.normals[site]

    def surface(self, values: Float[np.ndarray, " site"]) -> Mesh:
        """The closed mesh of one boundary."""
        return Mesh(self.points(values), self.faces, self.unit)

    def sections(self, values: Float[np.ndarray, " site"], plane: Plane) -> list[Curve]:
        """The closed curves in which a slice cuts the surface: none, one or several."""
        return self.surface(values).section(plane)

    def _crossings(self, surface: Mesh) -> Float[np.ndarray, " site"]:
        return crossings(surface, self.reference, self.normals, *self.ends)

    def sees(self, surface: Mesh) -> bool:
        """Whether at least half of the normals meet a closed surface within the reach."""
        return bool(np.isfinite(self._crossings(surface)).mean() >= 0.5)

    def values_of(self, surface: Mesh) -> Float[np.ndarray, " site"]:
        """Where normals cross a closed surface, nearest to the reference; a normal that it does not
        meet within the reach ends there, on the side where its neighbours do.

        Raises InputError when the surface is not near to the reference.
        """
        values = self._crossings(surface)
        missed = ~np.isfinite(values)
        if missed.mean() > 0.5:
            raise InputError(
                f"{missed.mean():.0%} of the normals of the reference do not meet the surface "
                f"between {self.low:.3g} and {self.high:.3g} {self.unit} from it; choose a "
                "reference nearer to the surface"
            )
        if missed.any():
            from scipy.spatial import KDTree

            low, high = self.ends
            near = KDTree(self.reference[~missed]).query(self.reference[missed])[1]
            outside = values[~missed][near] > 0.5 * (low + high)[~missed][near]
            values[missed] = np.where(outside, high[missed], low[missed])
        return values

    def inside(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch 3"]
    ) -> Bool[np.ndarray, "draw ..."]:
        """Whether points lie inside of each boundary, linear over every triangle."""
        values = np.asarray(values, dtype=float)
        foot = self.foot(np.reshape(points, (-1, 3)))
        found = np.zeros((len(values), len(foot.face)), dtype=bool)
        for start in range(0, len(foot.face), AT_ONCE):
            at = slice(start, start + AT_ONCE)
            found[:, at] = self._within(values, Foot(*(part[at] for part in foot)))
        return found.reshape(len(values), *np.shape(points)[:-1])

    def inside_share(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch 3"]
    ) -> Float[np.ndarray, "*batch"]:
        """The share of the boundaries that each point lies inside of."""
        values = np.asarray(values, dtype=float)
        foot = self.foot(np.reshape(points, (-1, 3)))
        low, high = values.min(axis=0, initial=np.inf), values.max(axis=0, initial=-np.inf)
        found = (foot.position <= low[foot.site].min(axis=1)).astype(float)
        near = np.flatnonzero((found == 0) & (foot.position <= high[foot.site].max(axis=1)))
        for start in range(0, len(near), AT_ONCE):
            at = near[start : start + AT_ONCE]
            found[at] = self._within(values, Foot(*(part[at] for part in foot))).mean(axis=0)
        return found.reshape(np.shape(points)[:-1])

    def _within(self, values: np.ndarray, foot: Foot) -> Bool[np.ndarray, "draw point"]:
        edge = sum(values[:, foot.site[:, i]] * foot.share[:, i] for i in range(3))
        return foot.position <= edge

    def content(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch"]:
        """Volume inside of the mesh of each boundary, by signed tetrahedra."""
        values = np.asarray(values, dtype=float)
        flat = values.reshape(-1, self.sites)
        found = []
        for row in flat:
            a, b, c = np.moveaxis((self.points(row) - self.reference[0])[self.faces], 1, 0)
            found.append(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)
        return np.asarray(found).reshape(values.shape[:-1])

    def sectors(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """A part of the reference's volume, and what lies between it and the offset."""
        values = np.asarray(values, dtype=float)
        mean, _ = self.curvatures()
        strip = self.mass * (values + 0.5 * mean * values**2)
        return self.mesh.volume * self.mass / self.mass.sum() + strip

    def weights(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """A third of the triangles that meet at each vertex."""
        points = self.points(values)
        a, b, c = (points[..., self.faces[:, i], :] for i in range(3))
        area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)
        return area @ self._meet() / 3

    def _meet(self) -> Any:
        """Which triangles have which vertices (face, site), sparse."""
        from scipy.sparse import csr_array

        faces = np.repeat(np.arange(len(self.faces)), 3)
        return csr_array(
            (np.ones(len(faces)), (faces, self.faces.ravel())), (len(self.faces), self.sites)
        )

    def gap(
        self, values: Float[np.ndarray, "draw site"], others: Float[np.ndarray, "draw site"]
    ) -> Float[np.ndarray, "draw site"]:
        """How far each point of surfaces lies from the other one's tangent plane, along its normal.

        To first order in the gap the distance itself, and never less.
        """
        slopes = [
            np.einsum("si,si->s", vertex_normals(self.points(row), self.faces, 0), self.normals)
            for row in others
        ]
        return np.abs(values - others) * np.abs(np.reshape(slopes, np.shape(others)))

    def distance(self, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, "site site"]:
        """The shortest way along the edges of a boundary."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import dijkstra

        points = self.points(values)
        one, other = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]],
                                     self.faces[:, [2, 0]]]).T  # fmt: skip
        length = np.linalg.norm(points[one] - points[other], axis=1)
        edges = csr_array((length, (one, other)), (self.sites, self.sites))
        return np.asarray(dijkstra(edges, directed=True))

    def curvatures(self) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
        """The sum of the two curvatures of the reference, and the sum of their squares.

        The first from the Laplacian of the coordinates, which is minus it along the normal, with
        the modes in place of points; Gauss' curvature from the angles at a vertex, smoothed alike.
        """
        analysis = self.modes.T * (self.mass / self.mass.sum())
        bent = self.modes @ (
            (self.eigenvalues / self.radius**2)[:, None] * (analysis @ self.reference)
        )
        mean = np.einsum("si,si->s", bent, self.normals)
        corners = self.reference[self.faces]
        angles = np.zeros(self.sites)
        for i in range(3):
            one, other = (corners[:, (i + k) % 3] - corners[:, i] for k in (1, 2))
            cosine = np.einsum("fi,fi->f", one, other)
            cosine /= np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            np.add.at(angles, self.faces[:, i], np.arccos(np.clip(cosine, -1.0, 1.0)))
        gauss = self.modes @ (self.modes.T @ (2 * np.pi - angles) / self.mass.sum())
        return mean, np.maximum(mean**2 - 2 * gauss, 0.5 * mean**2)

    def bending(self, blur: float, shrinkage: float = 1.0) -> OffsetMeshBending:
        """Mean-curvature flow for a time blur^2 / 2, linear about the reference, in its modes."""
        mean, squares = self.curvatures()
        mean = shrinkage * np.clip(mean, -2 / blur, 2 / blur)
        squares = shrinkage * np.minimum(squares, 2 / blur**2)
        analysis = self.modes.T * (self.mass / self.mass.sum())
        operator = (analysis * squares) @ self.modes
        operator = 0.5 * (operator + operator.T) - np.diag(self.eigenvalues / self.radius**2)
        rate, mode = np.linalg.eigh(operator)
        time = 0.5 * blur**2
        gained = np.expm1(rate * time)
        lasting = np.where(
            np.abs(rate * time) > 1e-8, gained / np.where(rate == 0, 1.0, rate), time
        )
        shift = self.modes @ (mode @ (lasting * (mode.T @ (analysis @ mean))))
        change = (mode * gained) @ mode.T @ analysis
        return OffsetMeshBending(change, self.modes, shift, np.asarray(float(shrinkage)))


def offset_mesh_chart(
    mesh: Mesh, reach: float, voxel: float, modes: int, *, even: bool = False
) -> OffsetMeshChart:
    """The normals of a closed mesh, as far as `reach` to both sides or as they do not cross.

    Where that leaves all of them little room and some of them more, each has its own
    (`reach.ends`), unless `even`. `modes` is how many eigenfunctions are kept.
    Raises InputError for what `checked_normals` refuses.
    """
    normals, low, high = checked_normals(mesh, reach, voxel, even=even)
    mass, functions, eigenvalues = mesh_modes(mesh, modes)
    radius = (0.75 * mesh.volume / np.pi) ** (1 / 3)
    return OffsetMeshChart(
        mesh.points, mesh.faces, normals.outward, mass, functions, eigenvalues * radius**2,
        -float(low.max()), float(high.max()), mesh.unit, limits_of(low, high),
    )  # fmt: skip
