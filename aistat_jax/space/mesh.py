"""What is a closed surface, and what does a slice show of it?"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import ArrayLike, Bool, Float, Int
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Grid, Plane

# A vertex this close to a plane, as a share of the surface's size, is moved off it.
NEXT_TO = 1e-9
# Sd, in voxels, by which the steps of a mask are smoothed.
SMOOTH = 0.6
# Points whose nearest triangles are sought at once; and that are looked for inside.
_AT_ONCE, _RAYS_AT_ONCE = 2000, 200_000
# Two axes across rays to infinity, and the one along them: askew to every grid.
_ASKEW = np.linalg.qr(np.array([[1.0, 0.37, 0.21], [-0.29, 1.0, 0.43], [0.17, -0.39, 1.0]]))[0]


@record
class Mesh:
    """A closed surface of triangles, each counter-clockwise seen from outside.

    Shapes: points (vertex, 3) in patient coordinates (mm, or px without spacing); faces (face, 3)
    numbers of vertices.
    """

    points: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    unit: str = static(default="mm")

    @property
    def volume(self) -> float:
        """Volume inside, by the divergence theorem."""
        a, b, c = np.moveaxis(self.points[self.faces], 1, 0)
        return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)

    @property
    def areas(self) -> Float[np.ndarray, " face"]:
        """Area of every triangle."""
        a, b, c = np.moveaxis(self.points[self.faces], 1, 0)
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)

    def pieces(
        self, step: float | None = None
    ) -> tuple[Float[np.ndarray, "piece 3"], Float[np.ndarray, " piece"]]:
        """The middles of all triangles, and their areas.

        Every triangle is first cut into k x k equal ones, the fewest of which no side is longer
        than `step`; by default into one.
        """
        corners = self.points[self.faces]
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max()
        k = 1 if step is None else max(1, int(np.ceil(longest / step)))
        row, column = np.divmod(np.arange(k * k), k)
        upright, turned = row + column < k, row + column < k - 1
        u = np.concatenate([row[upright] + 1 / 3, row[turned] + 2 / 3])
        v = np.concatenate([column[upright] + 1 / 3, column[turned] + 2 / 3])
        weights = np.stack([k - u - v, u, v], axis=-1) / k
        return (weights @ corners).reshape(-1, 3), np.repeat(self.areas / k**2, k * k)

    def distance_to(self, points: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Unsigned distance from points (..., 3) to the nearest place on the surface."""
        from scipy.spatial import KDTree

        points = np.asarray(points, dtype=float)
        flat, corners = points.reshape(-1, 3), self.points[self.faces]
        middles = corners.mean(axis=1)
        reach = float(np.linalg.norm(corners - middles[:, None], axis=-1).max())
        tree, found = KDTree(middles), []
        for part in np.array_split(flat, 1 + len(flat) // _AT_ONCE):
            # no triangle is nearer than its middle less its reach
            near = tree.query_ball_point(part, tree.query(part)[0] + reach * (1 + 1e-9))
            counts = np.array([len(each) for each in near], dtype=int)
            if not len(part):
                continue
            chosen = np.concatenate([np.asarray(each, dtype=int) for each in near])
            apart = _to_triangles(np.repeat(part, counts, axis=0), corners[chosen])
            found.append(np.minimum.reduceat(apart, np.cumsum(counts) - counts))
        return np.concatenate([*found, np.empty(0)]).reshape(points.shape[:-1])

    def contains(self, points: ArrayLike) -> Bool[np.ndarray, "*batch"]:
        """Whether points (..., 3) lie inside: a ray from there crosses the surface an odd number of
        times."""
        from scipy.spatial import KDTree

        points = np.asarray(points, dtype=float)
        flat = points.reshape(-1, 3)
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        inside = ((flat >= low) & (flat <= high)).all(axis=1)
        near, corners = np.flatnonzero(inside), (self.points @ _ASKEW)[self.faces]
        middles = corners[..., :2].mean(axis=1)
        reach = np.linalg.norm(corners[..., :2] - middles[:, None], axis=-1).max(axis=1)
        a, sides = corners[:, 0], corners[:, 1:] - corners[:, :1]
        for part in np.array_split(near, 1 + len(near) // _RAYS_AT_ONCE):
            if not len(part):
                continue
            starts = flat[part] @ _ASKEW
            met = KDTree(starts[:, :2]).query_ball_point(middles, reach * (1 + 1e-9))
            face = np.repeat(np.arange(len(met)), [len(each) for each in met])
            ray = np.concatenate([np.asarray(each, dtype=int) for each in met])
            (e, f), off = np.moveaxis(sides[face], 1, 0), starts[ray] - a[face]
            with np.errstate(divide="ignore", invalid="ignore"):
                area = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
                u = (off[:, 0] * f[:, 1] - off[:, 1] * f[:, 0]) / area
                v = (e[:, 0] * off[:, 1] - e[:, 1] * off[:, 0]) / area
            met = (u >= 0) & (v >= 0) & (u + v < 1) & (u * e[:, 2] + v * f[:, 2] > off[:, 2])
            inside[part] = np.bincount(ray[met], minlength=len(part)) % 2 == 1
        return inside.reshape(points.shape[:-1])

    def check(self) -> Mesh:
        """This mesh, or InputError where it is not the whole surface of a body."""
        if not np.isfinite(self.points).all():
            bad = int((~np.isfinite(self.points)).any(axis=1).sum())
            raise InputError(f"{bad} vertices of the mesh are NaN or infinite; leave them out")
        edges = np.sort(self.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        count = np.unique(edges, axis=0, return_counts=True)[1]
        if (count == 1).any():
            raise InputError(
                f"the mesh has a hole: {int((count == 1).sum())} edges have a triangle on one side "
                "only; close it"
            )
        if (count > 2).any():
            raise InputError(
                f"{int((count > 2).sum())} edges of the mesh belong to more than two triangles; "
                "pass a surface that does not meet itself"
            )
        return self

    def section(self, plane: Plane) -> list[Curve]:
        """The closed curves in which a plane cuts the surface, in the plane's coordinates.

        Outer curves run counter-clockwise and the edges of holes clockwise.
        """
        uvw = self.points @ plane.frame
        height = uvw[:, 2] - plane.offset
        least = NEXT_TO * max(float(np.ptp(uvw)), 1.0)
        height = np.where(np.abs(height) < least, least, height)
        above = height > 0
        cut = self.faces[above[self.faces].any(axis=1) & ~above[self.faces].all(axis=1)]
        if len(cut) == 0:
            return []
        # The edge that goes up and the one that goes down, seen along the triangle's own turn.
        ends = np.stack([cut, np.roll(cut, -1, axis=1)], axis=-1)
        rising = ~above[ends[..., 0]] & above[ends[..., 1]]
        falling = above[ends[..., 0]] & ~above[ends[..., 1]]
        count = len(self.points)
        pairs = (np.sort(ends[where], axis=-1) for where in (falling, rising))
        enter, leave = (np.asarray(low * count + high) for low, high in (pair.T for pair in pairs))
        edges = np.unique(np.concatenate([enter, leave]))
        low, high = edges // count, edges % count
        share = (height[low] / (height[low] - height[high]))[:, None]
        crossing = uvw[low, :2] + share * (uvw[high, :2] - uvw[low, :2])
        follow = np.empty(len(edges), dtype=int)
        follow[np.searchsorted(edges, enter)] = np.searchsorted(edges, leave)
        return [Curve(crossing[loop], self.unit) for loop in _loops(follow) if len(loop) > 2]


def _to_triangles(
    points: Float[np.ndarray, "pair 3"], corners: Float[np.ndarray, "pair 3 3"]
) -> Float[np.ndarray, " pair"]:
    """Distance from each point to its triangle: to the plane above it, else to the nearest side."""
    sides = np.roll(corners, -1, axis=1) - corners
    off = points[:, None] - corners
    normal = np.cross(sides[:, 0], sides[:, 1])
    size = np.linalg.norm(normal, axis=-1)
    above = (np.einsum("psi,pi->ps", np.cross(sides, off), normal) >= 0).all(axis=1) & (size > 0)
    squared = np.maximum((sides**2).sum(axis=-1), 1e-300)
    along = np.clip((off * sides).sum(axis=-1) / squared, 0.0, 1.0)
    beside = np.linalg.norm(off - along[..., None] * sides, axis=-1).min(axis=1)
    height = np.abs((off[:, 0] * normal).sum(axis=-1)) / np.where(size > 0, size, 1.0)
    return np.where(above, height, beside)


def _loops(follow: Int[np.ndarray, " place"]) -> list[list[int]]:
    """The cycles of a permutation."""
    left, found = set(range(len(follow))), []
    while left:
        place = start = left.pop()
        loop = [start]
        while (place := int(follow[place])) != start:
            left.discard(place)
            loop.append(place)
        found.append(loop)
    return found


def surface_from_mask(mask: Bool[np.ndarray, "i j k"], grid: Grid, smooth: float = SMOOTH) -> Mesh:
    """The smooth surface half-way between the voxels of a mask and what is beside them.

    `smooth` is the sd, in voxels, of what rounds its steps; with 0 it holds the centres of the
    mask's voxels and of no others.

    Raises InputError for an empty mask.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    if not mask.any():
        raise InputError("an empty mask has no surface")
    fraction = ndimage.gaussian_filter(np.pad(mask, 2).astype(float), smooth)
    level = min(0.5, 0.9 * float(fraction.max()))  # a single voxel is smoothed to less than a half
    index, faces, _, _ = marching_cubes(fraction, level)
    points = grid.to_world(index.astype(float) - 2)
    mesh = Mesh(points, faces.astype(int), grid.unit)
    return mesh if mesh.volume > 0 else Mesh(points, mesh.faces[:, ::-1], grid.unit)
