"""What is the geometry of a closed mesh: its normals, modes, reach, and the prisms on it?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float, Int
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh, surface_from_mask

# Rounds in which a vertex normal takes the mean of its neighbours'.
ROUNDS = 2
# Newton steps to a point's place in a prism.
STEPS = 6
# Where more than one in so many eigenvectors is wanted, all are computed at once.
DENSE = 20
# Rounds in which vertices move to the middle of their neighbours and back to the surface.
RELAXED = 8
# Meshes are cut a little too fine, at most so much, in so many tries, and then thinned.
SPARE, TRIES = 1.25, 8
# Sds, in voxels, by which the signed distance to a mask is smoothed: the first that leaves a reach
# of so many voxels, or of a share of the size where that is less, to both sides is taken, if no
# more than MISSED of its normals miss the outline.
SMOOTH, WANTED, SHARE, MISSED = (0.5, 0.7, 1.0, 1.4, 2.0), 1.5, 0.3, 0.02
# Hardly any reach: so many voxels.
NARROW = 0.3


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


def mesh_reaches(mesh: Mesh, normals: Float[np.ndarray, "site 3"]) -> tuple[float, float]:
    """How far normals run inwards and outwards before they cross.

    Between vertices that are no neighbours, nor neighbours of one, the balls of
    `reference.reaches`; between those that are, the first offset at which a triangle turns over.
    """
    points, count = mesh.points, len(mesh.points)
    once = neighbours(mesh.faces, count)
    beside = (once + once @ once).toarray() > 0
    inner = outer = np.inf
    for start in range(0, count, 256):
        rows = slice(start, start + 256)
        away = points - points[rows, None]
        up = np.einsum("pqi,pi->pq", away, normals[rows])
        square = np.square(away).sum(axis=-1)
        far = ~beside[rows] & (square > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            radius = np.where(far, square / (2 * np.abs(up)), np.inf)
        inner = min(inner, float(radius[up < 0].min(initial=np.inf)))
        outer = min(outer, float(radius[up > 0].min(initial=np.inf)))
    corner, normal = points[mesh.faces], normals[mesh.faces]
    e, f = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    m, n = normal[:, 1] - normal[:, 0], normal[:, 2] - normal[:, 0]
    up = normal.sum(axis=1)
    c, b, a = (
        np.einsum("fi,fi->f", v, up)
        for v in (np.cross(e, f), np.cross(e, n) + np.cross(m, f), np.cross(m, n))
    )
    if (c <= 0).any():
        return 0.0, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b**2 - 4 * a * c)
        turns = np.concatenate([2 * c / (-b + root), 2 * c / (-b - root)])
    turns = turns[np.isfinite(turns)]
    inner = min(inner, float((-turns[turns < 0]).min(initial=np.inf)))
    return inner, min(outer, float(turns[turns > 0].min(initial=np.inf)))


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
    low: float,
    high: float,
) -> Float[np.ndarray, " site"]:
    """The smallest offset, of either sign, at which each line crosses a surface; or infinity."""
    from scipy.spatial import KDTree

    corner = surface.points[surface.faces]
    middle = corner.mean(axis=1)
    size = float(np.linalg.norm(corner - middle[:, None], axis=-1).max())
    half, centre = 0.5 * (high - low), 0.5 * (high + low)
    near = KDTree(middle).query_ball_point(starts + centre * directions, half + 1.01 * size)
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
    met = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
    met &= (t >= low - slack) & (t <= high + slack) & np.isfinite(volume)
    found = np.full(len(starts), np.inf)
    for i in np.flatnonzero(met)[np.argsort(-np.abs(t[met]), kind="stable")]:
        found[site[i]] = t[i]
    return found


def smooth_surface(mask: Bool[np.ndarray, "i j k"], grid: Grid, *vertices: int) -> Mesh:
    """The least smoothed even mesh around a mask whose normals run far enough and meet its outline.

    Far enough is WANTED voxels, or SHARE of three times the volume over the surface. It has the
    first of so many `vertices`; the next where no smoothing does both and they are more than a
    voxel apart. Where none does, the one whose normals run farthest of those that miss at most
    MISSED of the outline; where all miss more, the one that misses least; but none that has hardly
    any reach.
    """
    voxel, area, found = float(np.prod(grid.spacing) ** (1 / 3)), np.inf, []
    outline = surface_from_mask(mask, grid)
    for count, sd in product(vertices, SMOOTH):
        if count > vertices[0] and area <= vertices[0] * voxel**2:
            break
        mesh = even_surface(mask, grid, count, sd).check()
        normals = vertex_normals(mesh.points, mesh.faces)
        inner, outer = (float(reach) for reach in mesh_reaches(mesh, normals))
        area = float(mesh.areas.sum())
        size = 3 * mesh.volume / area
        low, high = min(inner, size), min(outer, size)
        missed = ~np.isfinite(crossings(outline, mesh.points, normals, -low, high))
        reach, share = min(inner, outer), float(missed.mean())
        worse = 2 * (reach < NARROW * voxel) + (share > MISSED)
        found.append((worse, share if worse == 1 else -reach, len(found), mesh))
        if share <= MISSED and reach >= min(WANTED * voxel, SHARE * size):
            return mesh
    return min(found)[-1]


def even_surface(mask: Bool[np.ndarray, "i j k"], grid: Grid, vertices: int, smooth: float) -> Mesh:
    """A smooth closed mesh of so many even vertices around a mask.

    The level of the signed distance to the mask's edge, smoothed by some voxels, within which
    there are as many voxels, by marching cubes on an even grid; vertices then move to the middle of
    their neighbours and back onto it.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    pad = 5
    padded = np.pad(mask, pad)
    inside, outside = (
        np.asarray(ndimage.distance_transform_edt(part, sampling=grid.spacing))
        for part in (padded, ~padded)
    )
    half = 0.5 * float(grid.spacing.mean())
    depth = np.where(padded, inside - half, half - outside)
    sd = smooth * float(np.prod(grid.spacing) ** (1 / 3)) / grid.spacing
    depth = ndimage.gaussian_filter(depth, sd)
    count = int(mask.sum())
    last, first = np.partition(depth.ravel(), [-count - 1, -count])[[-count - 1, -count]]
    depth -= 0.5 * (last + first)
    low = grid.to_world(np.full(3, -float(pad)))

    def read(points: np.ndarray) -> np.ndarray:
        index = grid.to_index(points) + pad
        return ndimage.map_coordinates(depth, index.T, order=1, mode="nearest")

    extent = (np.array(padded.shape) - 1) * grid.spacing
    area = float(mask.sum() * np.prod(grid.spacing)) ** (2 / 3) * 6
    step = np.sqrt(1.8 * area / vertices)
    for _ in range(TRIES):
        step = min(step, float(inside.max()))
        count = np.maximum(np.floor(extent / step).astype(int) + 1, 2)
        ticks = np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), axis=-1)
        places = low + step * ticks @ grid.frame.T
        values = read(places.reshape(-1, 3)).reshape(count)
        if values.max() <= 0:
            step *= 0.6
            continue
        index, faces = _largest(*marching_cubes(values, 0.0)[:2])
        if 1 <= len(index) / vertices < SPARE:
            break
        step *= np.sqrt(len(index) / (0.5 * (1 + SPARE) * vertices))
    points, faces = thinned(low + step * index @ grid.frame.T, faces.astype(int), vertices)
    beside = neighbours(faces, len(points))
    near = 0.25 * float(grid.spacing.min())
    for _ in range(RELAXED):
        points = 0.5 * points + 0.5 * (beside @ points) / np.asarray(beside.sum(axis=1))[:, None]
        for _ in range(2):
            slope = np.stack(
                [read(points + near * e) - read(points - near * e) for e in np.eye(3)], axis=1
            ) / (2 * near)
            square = np.maximum(np.square(slope).sum(axis=1), 0.1)
            points = points - (read(points) / square)[:, None] * slope
    mesh = Mesh(points, faces, grid.unit)
    return mesh if mesh.volume > 0 else Mesh(points, faces[:, ::-1].copy(), grid.unit)


def thinned(
    points: Float[np.ndarray, "site 3"], faces: Int[np.ndarray, "face 3"], count: int
) -> tuple[Float[np.ndarray, "left 3"], Int[np.ndarray, "fewer 3"]]:
    """A closed mesh with so many vertices: the shortest edges are drawn together, one by one.

    Only edges whose ends have two neighbours in common are, which leaves its topology as it was.
    """
    points, faces = points.copy(), faces.copy()
    while len(points) > count:
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]))
        edges = np.unique(edges, axis=0)
        length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        around: list[set[int]] = [set() for _ in points]
        for one, other in edges.tolist():
            around[one].add(other)
            around[other].add(one)
        goes_to, touched = np.arange(len(points)), np.zeros(len(points), dtype=bool)
        left = len(points) - count
        for one, other in edges[np.argsort(length, kind="stable")].tolist():
            near = around[one] | around[other]
            if len(around[one] & around[other]) != 2 or touched[list(near)].any():
                continue
            goes_to[other], touched[list(near)] = one, True
            points[one] = 0.5 * (points[one] + points[other])
            left -= 1
            if left == 0:
                break
        if (goes_to == np.arange(len(points))).all():
            break
        faces = goes_to[faces]
        once = (np.diff(np.sort(faces, axis=1), axis=1) > 0).all(axis=1)
        kept = goes_to == np.arange(len(points))
        points, faces = points[kept], (np.cumsum(kept) - 1)[faces[once]]
    return points, faces


def _largest(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected part with the most vertices."""
    from scipy.sparse.csgraph import connected_components

    _, part = connected_components(neighbours(faces, len(points)), directed=False)
    kept = part == np.bincount(part).argmax()
    number = np.cumsum(kept) - 1
    return points[kept], number[faces[kept[faces[:, 0]]]]
