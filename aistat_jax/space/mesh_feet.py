"""Under which triangle of a mesh does a point lie, and how far from it along smoothed normals?"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._typing import Int
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.surfaces import prism

# A point farther than this many reaches and sites' distances has no triangle.
FAR, BESIDE = 1.2, 2.0
# A triangle is looked for among those around so many of the nearest vertices, first and then.
NEAREST = (1, 6)
# Prisms go on so much farther than boundaries do.
BEYOND = 1.1


class Foot(NamedTuple):
    """Under which triangle points lie, with which shares of its corners, and how far from it.

    `face` is -1 where a point is too far from the surface to tell: it then has one corner, the
    nearest, three times. Shapes: face, position (point,), site and share (point, 3).
    """

    face: np.ndarray
    site: np.ndarray
    share: np.ndarray
    position: np.ndarray


class Prisms(NamedTuple):
    """A mesh whose triangles are carried along normals, as far as a reach (low, high).

    With `limits`, each corner only as far as its own. Shapes: reference, normals (site, 3); faces
    (face, 3); limits (site, 2) or None.
    """

    reference: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    reach: tuple[float, float]
    limits: np.ndarray | None = None


def feet(prisms: Prisms, points: np.ndarray) -> Foot:
    """The foot of each point; elsewhere the nearest vertex and the distance from it.

    What has no foot lies on the side of the surface that a ray tells (`Mesh.contains`): at a sharp
    edge the normal of the nearest vertex need not. Where corners have limits of their own, what has
    no foot for being beyond those is told to be beyond the reach: it lies on one side of every
    boundary.
    """
    from scipy.spatial import KDTree

    reference, faces, _, (low, high), limits = prisms
    tree = KDTree(reference)
    away, near = (np.asarray(v) for v in tree.query(points))
    position, face = away.copy(), np.full(len(points), -1)
    site = np.repeat(near[:, None], 3, axis=1)
    share = np.tile([1.0, 0.0, 0.0], (len(points), 1))
    around = faces_around(faces, len(reference))
    edge = np.linalg.norm(reference[faces[:, 0]] - reference[faces[:, 1]], axis=1).mean()
    left = np.flatnonzero(away <= FAR * max(high, -low) + BESIDE * edge)
    for vertices in NEAREST:
        if len(left) == 0:
            break
        close = np.asarray(tree.query(points[left], vertices)[1]).reshape(len(left), -1)
        found = _under(prisms, points[left], around[close].reshape(len(left), -1))
        kept = found.face >= 0
        here = left[kept]
        face[here], position[here] = found.face[kept], found.position[kept]
        site[here], share[here] = found.site[kept], found.share[kept]
        left = left[~kept]
    left = np.flatnonzero(face < 0)
    within = Mesh(reference, faces).contains(points[left])
    if limits is not None:
        own = np.where(within, -limits[near[left], 0], limits[near[left], 1])
        end = BEYOND * np.where(within, -low, high)
        position[left] = np.where(away[left] > own, np.maximum(away[left], end), away[left])
    position[left[within]] *= -1
    return Foot(face, site, share, position)


def _under(prisms: Prisms, points: np.ndarray, candidates: Int[np.ndarray, "point most"]) -> Foot:
    """The candidate (-1: none) in whose prism each point lies, nearest to the surface."""
    reference, faces, normals, (low, high), limits = prisms
    count, many = candidates.shape
    rows, columns = np.nonzero(candidates >= 0)
    corners = faces[candidates[rows, columns]]
    share, t = prism(points[rows], reference[corners], normals[corners])
    t = np.where((share >= -1e-7).all(axis=1), t, np.inf)
    if limits is not None:
        low, high = np.einsum("pc,pcs->sp", share, limits[corners])
    t = np.where((t >= BEYOND * low) & (t <= BEYOND * high), t, np.inf)
    distance = np.full((count, many), np.inf)
    distance[rows, columns] = np.abs(t)
    best = distance.argmin(axis=1)
    number = np.full((count, many), -1)
    number[rows, columns] = np.arange(len(rows))
    at = number[np.arange(count), best]
    met = np.isfinite(distance[np.arange(count), best])
    face = np.where(met, candidates[np.arange(count), best], -1)
    share = np.where(met[:, None], np.clip(share[at], 0.0, 1.0), 1.0)
    return Foot(face, corners[at], share / share.sum(axis=1, keepdims=True), t[at])


def faces_around(faces: Int[np.ndarray, "face 3"], sites: int) -> Int[np.ndarray, "site most"]:
    """The triangles that meet at each vertex, filled up with -1."""
    corner = faces.ravel()
    order = np.argsort(corner, kind="stable")
    count = np.bincount(corner, minlength=sites)
    slot = np.arange(len(corner)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((sites, count.max()), -1)
    table[corner[order], slot] = order // 3
    return table


class _Looked:
    """A mesh and points, alike where their numbers are: the same voxels are asked for often."""

    def __init__(self, prisms: Prisms, points: np.ndarray) -> None:
        self.prisms, self.points = prisms, points
        own = b"" if prisms.limits is None else prisms.limits.tobytes()
        self.key = points.shape, points.tobytes(), prisms.reference.tobytes(), prisms.reach, own

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: Any) -> bool:
        return self.key == other.key


@lru_cache(maxsize=4)
def _remembered(looked: _Looked) -> Foot:
    return feet(looked.prisms, looked.points)


def remembered_feet(prisms: Prisms, points: np.ndarray) -> Foot:
    """`feet`, kept for the few meshes and points that were asked for last."""
    return _remembered(_Looked(prisms, points))
