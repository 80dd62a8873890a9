"""Which directions stand for the sphere, how do they hang together, with which harmonics?"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.space.basis import Basis


class Sites(NamedTuple):
    """Nearly even directions: the corners of an icosahedron whose faces are cut into triangles.

    Shapes: directions (site, 3), triangles (face, 3) counter-clockwise from outside; share (site,)
    of the sphere that each stands for; corners (20, 3, 3) of the icosahedron; number (20, n + 1,
    n + 1) of the site at each place (i, j) of each of its faces.
    """

    directions: np.ndarray
    triangles: np.ndarray
    share: np.ndarray
    corners: np.ndarray
    number: np.ndarray


@cache
def sphere_sites(frequency: int) -> Sites:
    """The directions of a star in space, and how they hang together."""
    corners = _icosahedron()
    n = frequency
    places = [(i, j) for i in range(n + 1) for j in range(n + 1 - i)]
    number = np.full((20, n + 1, n + 1), -1)
    directions: dict[tuple[float, ...], int] = {}
    for face, (a, b, c) in enumerate(corners):
        for i, j in places:
            point = i * a + j * b + (n - i - j) * c
            point /= np.linalg.norm(point)
            key = tuple(np.round(point, 9) + 0.0)
            number[face, i, j] = directions.setdefault(key, len(directions))
    triangles = []
    for at in number:
        for i, j in places:
            if i + j < n:
                triangles.append((at[i + 1, j], at[i, j + 1], at[i, j]))
            if i + j < n - 1:
                triangles.append((at[i + 1, j], at[i + 1, j + 1], at[i, j + 1]))
    points = np.array(list(directions))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = np.array(triangles)
    outward = np.linalg.det(points[faces]) > 0
    faces = np.where(outward[:, None], faces, faces[:, ::-1])
    third = np.repeat(solid_angles(points[faces]) / 3, 3)
    share = np.bincount(faces.ravel(), third, len(points)) / (4 * np.pi)
    return Sites(points, faces, share, corners, number)


@cache
def sphere_basis(frequency: int, degree: int) -> Basis:
    """Real spherical harmonics to a degree, of mean square one, on the rays of a star in space.

    Eigenvalues l (l + 1). Raises InputError when the rays are too few to tell them apart.
    """
    from scipy.special import sph_harm_y

    directions = sphere_sites(frequency).directions
    if not degree >= 1 or 2 * (degree + 1) ** 2 > len(directions):
        raise InputError(
            f"spherical harmonics of degree {degree} need at least {2 * (degree + 1) ** 2} rays, "
            f"got {len(directions)}; use a lower degree or a higher frequency"
        )
    x, y, z = directions.T
    polar, azimuth = np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)
    columns, eigenvalues = [], []
    for order in range(degree + 1):
        for m in range(-order, order + 1):
            harmonic = sph_harm_y(order, abs(m), polar, azimuth)
            part = harmonic.real if m >= 0 else harmonic.imag
            columns.append(np.sqrt(4 * np.pi * (1 if m == 0 else 2)) * part)
            eigenvalues.append(float(order * (order + 1)))
    return Basis(np.stack(columns, axis=1), np.array(eigenvalues), 2, degree)


@cache
def sphere_analysis(frequency: int, degree: int) -> Float[np.ndarray, "basis ray"]:
    """What takes values on the rays to coefficients of harmonics, by weighted least squares."""
    functions = np.asarray(sphere_basis(frequency, degree).functions)
    weighted = functions * sphere_sites(frequency).share[:, None]
    return np.linalg.solve(weighted.T @ functions, weighted.T)


def _icosahedron() -> Float[np.ndarray, "20 3 3"]:
    """Corners of its faces, counter-clockwise from outside, on the unit sphere."""
    from scipy.spatial import ConvexHull

    golden = (1 + np.sqrt(5)) / 2
    one = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)])
    points = np.concatenate([np.roll(one, k, axis=1) for k in range(3)])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    corners = points[ConvexHull(points).simplices]
    outward = np.linalg.det(corners) > 0
    return np.where(outward[:, None, None], corners, corners[:, ::-1])


def solid_angles(corners: Float[np.ndarray, "face 3 3"]) -> Float[np.ndarray, " face"]:
    """Of triangles on the unit sphere, negative where seen from outside (Van Oosterom & Strackee
    1983, eq. 8)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    product = np.linalg.det(corners)
    dots = sum(np.einsum("fi,fi->f", *pair) for pair in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(product, 1 + dots)


@cache
def edge_products(frequency: int) -> Float[np.ndarray, "3 face 3"]:
    """Cross products of the directions of each triangle's corners, by turns."""
    sites = sphere_sites(frequency)
    a, b, c = (sites.directions[sites.triangles[:, i]] for i in range(3))
    return np.stack([np.cross(a, b), np.cross(b, c), np.cross(c, a)])


@cache
def meeting(frequency: int) -> Any:
    """Which triangles meet at each ray: sparse (face, ray), ones."""
    from scipy.sparse import csr_array

    triangles = sphere_sites(frequency).triangles
    face = np.repeat(np.arange(len(triangles)), 3)
    return csr_array((np.ones(len(face)), (face, triangles.ravel())))


@cache
def pair_angles(frequency: int) -> tuple[np.ndarray, Any]:
    """Solid angles of the triangles, and for each pair of rays those of the triangles at both."""
    from scipy.sparse import diags_array

    sites = sphere_sites(frequency)
    angle, meet = solid_angles(sites.directions[sites.triangles]), meeting(frequency)
    return angle, (meet.T @ diags_array(angle) @ meet).tocsr()
