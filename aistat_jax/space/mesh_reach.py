"""How far does each normal of a closed mesh run, inwards and outwards, before it meets others?"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.reach import Normals, Reaches, balls, check_room, ends
from aistat_jax.space.surfaces import neighbours, vertex_normals


def mesh_normals(mesh: Mesh) -> Normals:
    """The vertices of a mesh as sites, with smoothed normals."""
    faces = mesh.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    mass = np.bincount(faces.ravel(), np.repeat(mesh.areas / 3, 3), len(mesh.points))
    outward = vertex_normals(mesh.points, faces)
    return Normals(mesh.points, outward, edges, mass, size_of(mesh), mesh.unit)


def mesh_reaches(mesh: Mesh, normals: Float[np.ndarray, "site 3"]) -> Reaches:
    """How far the normals of a mesh run, at each vertex, before they cross.

    From a vertex the smallest ball that touches it, on that side, and passes through another that
    is no neighbour nor neighbour of one (`reach.balls`); and the first offset at which a triangle
    that it is a corner of turns over: none where it is over at the start.
    """
    once = neighbours(mesh.faces, len(mesh.points))
    rolled = balls(mesh.points, normals, (once + once @ once).tocsr())
    turns = _turns(mesh, normals)
    return Reaches(*(np.minimum(*pair) for pair in zip(rolled, turns, strict=True)))


def _turns(mesh: Mesh, normals: np.ndarray) -> Reaches:
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
    return Reaches(*found)


def size_of(mesh: Mesh) -> float:
    """Three times the volume over the surface: of a ball the radius."""
    return 3 * mesh.volume / float(mesh.areas.sum())


def checked_normals(
    mesh: Mesh, reach: float, voxel: float, *, even: bool = False
) -> tuple[Normals, Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
    """The normals of a closed mesh, and how far in and out boundaries may lie (`reach.ends`).

    Raises InputError for a mesh with holes or edges of more than two triangles, one that is too
    small or narrow, and a reach that is not positive.
    """
    if not reach > 0:
        raise InputError(f"the chart's reach must be positive, got {reach}")
    mesh = mesh.check()
    if not mesh.volume > 0:
        raise InputError("the mesh is inside out, or empty; turn its triangles counter-clockwise")
    normals = mesh_normals(mesh)
    found = mesh_reaches(mesh, normals.outward)
    low, high = ends(normals, found, reach, voxel, even=even)
    check_room(normals, low, high, voxel)
    return normals, low, high
