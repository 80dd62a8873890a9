"""What is the geometry of a closed mesh: its normals, its modes, and the prisms on it?"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._threads import one_blas_thread
from aistat_jax._typing import Float, Int
from aistat_jax.space.mesh import Mesh

# Rounds in which a vertex normal takes the mean of its neighbours'.
ROUNDS = 2
# Newton steps to a point's place in a prism.
STEPS = 6
# Where more than one in so many eigenvectors is wanted, all are computed at once.
DENSE = 20


def neighbours(faces: Int[np.ndarray, "face 3"], count: int) -> Any:
    """Which vertices share an edge (site, site), sparse, 1 where they do."""
    from scipy.sparse import csr_array

    one, other = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    ones = np.ones(2 * len(one))
    both = (np.concatenate([one, other]), np.concatenate([other, one]))
    found = csr_array((ones, both), (count, count))
    found.data[:] = 1.0
    return found


def vertex_normals(
    points: Float[np.ndarray, "site 3"], faces: Int[np.ndarray, "face 3"], rounds: int = ROUNDS
) -> Float[np.ndarray, "site 3"]:
    """Outward unit normals: of the triangles around a vertex by area, then smoothed."""
    corners = points[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(points)
    for i in range(3):
        np.add.at(total, faces[:, i], cross)
    normals = _unit(total)
    beside = neighbours(faces, len(points))
    for _ in range(rounds):
        count = np.asarray(beside.sum(axis=1))[:, None]
        normals = _unit(normals + beside @ normals / count)
    return normals


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)


def mode_count(order: int) -> int:
    """As many modes as spherical harmonics to a degree: alike on every mesh, so that models of any
    share what is compiled."""
    return (order + 1) ** 2


def mesh_modes(
    mesh: Mesh, count: int
) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, "site mode"], Float[np.ndarray, " mode"]]:
    """Areas of the vertices, and the lowest eigenfunctions of the Laplace-Beltrami operator.

    Of mean square one; eigenvalues in one over the unit squared. The tufted intrinsic Laplacian of
    Sharp & Crane 2020, *A Laplacian for nonmanifold triangle meshes*. Raises InputError where the
    mesh has too few vertices to tell so many apart.
    """
    import robust_laplacian
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    sites = len(mesh.points)
    if not 1 <= count <= sites // 2:
        raise InputError(
            f"{count} modes of a mesh need at least {2 * count} vertices, got {sites}; use a lower "
            "order or a finer mesh"
        )
    laplacian, areas = robust_laplacian.mesh_laplacian(mesh.points, mesh.faces)
    mass = np.asarray(areas.diagonal())
    start = np.random.default_rng(0).standard_normal(sites)
    scale = float(mass.sum())
    if DENSE * count > sites:
        root = 1 / np.sqrt(mass)
        whole = root[:, None] * laplacian.toarray() * root
        with one_blas_thread():  # two wait for each other, and beside other work for long
            eigenvalues, functions = eigh(whole, subset_by_index=[0, count - 1])
        functions = root[:, None] * functions
    else:
        eigenvalues, functions = eigsh(laplacian, count, areas, sigma=-0.1 / scale, v0=start)
    order = np.argsort(eigenvalues)
    functions = functions[:, order] * np.sqrt(scale)
    largest = np.abs(functions).argmax(axis=0)
    functions *= np.sign(functions[largest, np.arange(count)])
    eigenvalues = np.maximum(eigenvalues[order], 0.0)
    eigenvalues[0], functions[:, 0] = 0.0, 1.0
    return mass, functions, eigenvalues


def prism(
    x: Float[np.ndarray, "pair 3"],
    corner: Float[np.ndarray, "pair 3 3"],
    normal: Float[np.ndarray, "pair 3 3"],
) -> tuple[Float[np.ndarray, "pair 3"], Float[np.ndarray, " pair"]]:
    """(shares, t) with x = sum of shares times (corner + t normal), by Newton's method."""
    share = np.full((len(x), 3), 1 / 3)
    up = _unit(normal.sum(axis=1))
    t = np.einsum("pi,pi->p", x - corner.mean(axis=1), up)
    for _ in range(STEPS):
        lifted = corner + t[:, None, None] * normal
        base = lifted[:, 0]
        one, other = lifted[:, 1] - base, lifted[:, 2] - base
        along = np.einsum("pc,pci->pi", share, normal)
        miss = x - np.einsum("pc,pci->pi", share, lifted)
        across = np.cross(one, other)
        volume = np.einsum("pi,pi->p", across, along)
        volume = np.where(np.abs(volume) < 1e-300, np.inf, volume)
        rise = np.einsum("pi,pi->p", across, miss) / volume
        first, second = (
            np.clip(np.einsum("pi,pi->p", np.cross(*pair), miss) / volume, -2.0, 2.0)
            for pair in ((other, along), (along, one))
        )
        share = share + np.stack([-first - second, first, second], axis=1)
        t = t + rise
    lifted = corner + t[:, None, None] * normal
    miss = np.linalg.norm(x - np.einsum("pc,pci->pi", share, lifted), axis=1)
    size = np.linalg.norm(lifted[:, 1] - lifted[:, 0], axis=1)
    return np.where((miss < 1e-6 * size)[:, None], share, -1.0), t


def crossings(
    surface: Mesh,
    starts: Float[np.ndarray, "site 3"],
    directions: Float[np.ndarray, "site 3"],
    low: Float[np.ndarray, " site"],
    high: Float[np.ndarray, " site"],
) -> Float[np.ndarray, " site"]:
    """The smallest offset, of either sign, at which each line crosses a surface between its two
    ends; or infinity."""
    from scipy.spatial import KDTree

    corner = surface.points[surface.faces]
    middle = corner.mean(axis=1)
    size = float(np.linalg.norm(corner - middle[:, None], axis=-1).max())
    half, centre = 0.5 * (high - low), 0.5 * (high + low)
    near = KDTree(middle).query_ball_point(
        starts + centre[:, None] * directions, half + 1.01 * size
    )
    site = np.repeat(np.arange(len(starts)), [len(each) for each in near])
    face = np.concatenate([np.asarray(each, dtype=int) for each in near] or [np.zeros(0, int)])
    a, b, c = np.moveaxis(corner[face], 1, 0)
    d, e, f = directions[site], b - a, c - a
    across = np.cross(d, f)
    volume = np.einsum("pi,pi->p", e, across)
    volume = np.where(np.abs(volume) < 1e-300, np.inf, volume)
    off = starts[site] - a
    u = np.einsum("pi,pi->p", off, across) / volume
    turned = np.cross(off, e)
    v = np.einsum("pi,pi->p", d, turned) / volume
    t = np.einsum("pi,pi->p", f, turned) / volume
    slack = 1e-9 * (high - low)
    low, high = (low - slack)[site], (high + slack)[site]
    met = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
    met &= (t >= low) & (t <= high) & np.isfinite(volume)
    found = np.full(len(starts), np.inf)
    for i in np.flatnonzero(met)[np.argsort(-np.abs(t[met]), kind="stable")]:
        found[site[i]] = t[i]
    return found
