"""How far does each normal of a closed mesh run, inwards and outwards, before it meets others?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.surfaces import neighbours, vertex_normals

# Boundaries keep to this share of the reaches, and a chart reaches at least so many voxels.
KEPT, LEAST = 0.9, 0.25
# A reach is enough if it is so many voxels, or a share of the size where that is less. All sites
# share one that is, if it is at least this share of the median of what each has of its own.
WANTED, SHARE, ALIKE = 1.5, 0.3, 0.5
# Reaches of their own change along the surface by no more than this share of the way; and no more
# than this share of the surface may have less than LEAST.
SLOPE, NARROW_SHARE = 0.5, 0.05
# Where normals cross at once, boundaries still have so many voxels.
FLOOR = 0.05
# Vertices whose balls are rolled at a time.
AT_ONCE = 256


class Reaches(NamedTuple):
    """How far normals run inwards and outwards from each vertex. Shapes: both (site,)."""

    inner: Float[np.ndarray, " site"]
    outer: Float[np.ndarray, " site"]

    @property
    def least(self) -> tuple[float, float]:
        """How far all of them do."""
        return float(self.inner.min()), float(self.outer.min())


def mesh_reaches(mesh: Mesh, normals: Float[np.ndarray, "site 3"]) -> Reaches:
    """How far the normals of a mesh run, at each vertex, before they cross.

    From a vertex the smallest ball that touches it, on that side, and passes through another that
    is no neighbour nor neighbour of one (`reference.reaches`); and the first offset at which a
    triangle that it is a corner of turns over: none where it is over at the start.
    """
    balls, turns = _balls(mesh, normals), _turns(mesh, normals)
    return Reaches(np.minimum(balls[0], turns[0]), np.minimum(balls[1], turns[1]))


class Normals(NamedTuple):
    """A checked mesh, its outward unit normals, and how far they run inwards and outwards.

    Shapes: normals (site, 3); low, high (site,), both positive.
    """

    mesh: Mesh
    normals: Float[np.ndarray, "site 3"]
    low: Float[np.ndarray, " site"]
    high: Float[np.ndarray, " site"]


def _balls(mesh: Mesh, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points, count = mesh.points - mesh.points.mean(axis=0), len(mesh.points)
    once = neighbours(mesh.faces, count)
    beside = (once + once @ once).toarray() > 0
    np.fill_diagonal(beside, True)
    square = np.square(points).sum(axis=1)
    inner, outer = np.empty(count), np.empty(count)
    for start in range(0, count, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        here, along = points[rows], normals[rows]
        up = along @ points.T - np.einsum("pi,pi->p", along, here)[:, None]
        away = square + square[rows, None] - 2 * here @ points.T
        with np.errstate(divide="ignore", invalid="ignore"):
            radius = np.where(beside[rows], np.inf, np.maximum(away, 0.0) / (2 * np.abs(up)))
        inner[rows] = np.where(up < 0, radius, np.inf).min(axis=1)
        outer[rows] = np.where(up > 0, radius, np.inf).min(axis=1)
    return inner, outer


def _turns(mesh: Mesh, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corner, normal = mesh.points[mesh.faces], normals[mesh.faces]
    e, f = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    m, n = normal[:, 1] - normal[:, 0], normal[:, 2] - normal[:, 0]
    up = normal.sum(axis=1)
    c, b, a = (
        np.einsum("fi,fi->f", v, up)
        for v in (np.cross(e, f), np.cross(e, n) + np.cross(m, f), np.cross(m, n))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b**2 - 4 * a * c)
        turns = np.stack([2 * c / (-b + root), 2 * c / (-b - root)])
    turns = np.where(np.isfinite(turns), turns, np.inf)
    sides = np.where(turns < 0, -turns, np.inf), np.where(turns > 0, turns, np.inf)
    found = []
    for side in sides:
        first = np.where(c <= 0, 0.0, side.min(axis=0))
        least = np.full(len(mesh.points), np.inf)
        np.minimum.at(least, mesh.faces.ravel(), np.repeat(first, 3))
        found.append(least)
    return found[0], found[1]


def gentle(mesh: Mesh, reach: Float[np.ndarray, " site"]) -> Float[np.ndarray, " site"]:
    """The largest reaches, none above those given, that change by SLOPE of the way along edges.

    They are min_j (reach_j + SLOPE d_ij) with d the way along the edges of the mesh, so that a
    boundary that keeps to a share of them bends away from the mesh no faster.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    count, faces = len(mesh.points), mesh.faces
    known = np.flatnonzero(np.isfinite(reach))
    if len(known) == 0:
        return reach.copy()
    one, other = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    length = SLOPE * np.linalg.norm(mesh.points[one] - mesh.points[other], axis=1)
    start = np.full(len(known), count)  # a place from which each vertex is as far as its reach
    edges = csr_array(
        (
            np.concatenate([length, np.maximum(reach[known], 1e-300)]),
            (np.concatenate([one, start]), np.concatenate([other, known])),
        ),
        (count + 1, count + 1),
    )
    return np.asarray(dijkstra(edges, directed=True, indices=count))[:count]


def size_of(mesh: Mesh) -> float:
    """Three times the volume over the surface: of a ball the radius."""
    return 3 * mesh.volume / float(mesh.areas.sum())


def enough(mesh: Mesh, voxel: float) -> float:
    """The least reach that all sites may share: WANTED voxels, or SHARE of the size."""
    return min(WANTED * voxel, SHARE * size_of(mesh))


def narrow_share(mesh: Mesh, reach: Float[np.ndarray, " site"], least: float) -> float:
    """The share of the surface whose reach is less than `least`."""
    return float(mesh.areas @ (reach < least)[mesh.faces].mean(axis=1) / mesh.areas.sum())


def checked_normals(mesh: Mesh, reach: float, voxel: float, *, even: bool = False) -> Normals:
    """The normals of a closed mesh, and how far in and out boundaries may lie from each site.

    As far as `reach`, or as the normals do not cross: all alike if that is `enough` and hardly less
    than most could, or `even` is asked for; else each as far as its own, made `gentle`. `voxel` is
    the side of the voxels that will be read. Raises InputError for a mesh with holes or edges of
    more than two triangles, one so small or narrow that its normals cross within LEAST voxels (on
    NARROW_SHARE of the surface where each has its own reach), and a reach that is not positive.
    """
    if not reach > 0:
        raise InputError(f"the chart's reach must be positive, got {reach}")
    mesh = mesh.check()
    if not mesh.volume > 0:
        raise InputError("the mesh is inside out, or empty; turn its triangles counter-clockwise")
    normals = vertex_normals(mesh.points, mesh.faces)
    found, count = mesh_reaches(mesh, normals), len(mesh.points)
    low, high = (np.clip(KEPT * gentle(mesh, each), FLOOR * voxel, reach) for each in found)
    alike = all(each.min() >= ALIKE * np.median(each) for each in (low, high))
    if even or (alike and min(found.least) >= enough(mesh, voxel)):
        low, high = (np.full(count, min(reach, KEPT * each)) for each in found.least)
        narrow = min(low.min(), high.min()) < LEAST * voxel
    else:
        narrow = narrow_share(mesh, np.minimum(low, high), LEAST * voxel) > NARROW_SHARE
    if narrow:
        least = min(low.min(), high.min())
        raise InputError(
            f"normals of the reference cross {least:.2g} {mesh.unit} from it, less than "
            f"{LEAST} of a voxel ({voxel:.3g} {mesh.unit}): it is too small or too narrow for "
            "offsets; use a finer image, or contour it slice by slice"
        )
    return Normals(mesh, normals, low, high)
