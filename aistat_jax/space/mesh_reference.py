"""Which smooth, even mesh stands for a mask, so that its boundary is told by offsets from it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Bool, Float, Int
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.space.mesh_reach import mesh_normals, mesh_reaches
from aistat_jax.space.reach import (
    KEPT,
    MISSED,
    Normals,
    Reaches,
    gentle,
    least_lost,
    narrow_share,
)
from aistat_jax.space.surfaces import crossings, neighbours

# Rounds in which vertices move to the middle of their neighbours and back to the surface.
RELAXED = 8
# Meshes are cut a little too fine, at most so much, in so many tries, and then thinned.
SPARE, TRIES = 1.25, 8
# Sds, in voxels, by which the signed distance to a mask is smoothed.
SMOOTH = (0.5, 0.7, 1.0, 1.4, 2.0)
# Vertices farther apart than this share of the size, and than a voxel, are too few: flat triangles
# on a tube would lose a fiftieth of its volume.
COARSE = 0.3
# Voxels around a mask in which its distance is known.
PAD = 5


class Depth(NamedTuple):
    """How deep points lie in a mask, smoothed; negative outside.

    `values` are those of a grid and of PAD voxels more around it; `most` is the largest before it
    was smoothed, `volume` that of the mask.
    """

    values: np.ndarray
    grid: Grid
    most: float
    volume: float

    def at(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, " point"]:
        from scipy import ndimage

        index = self.grid.to_index(points) + PAD
        return ndimage.map_coordinates(self.values, index.T, order=1, mode="nearest")


def smooth_surface(mask: Bool[np.ndarray, "i j k"], grid: Grid, *vertices: int) -> Mesh:
    """The least smoothed even mesh around a mask whose normals run far enough and meet its outline.

    Far enough is `reach.Normals.enough`. It has the first of so many `vertices`; the next where
    they are more than a voxel apart and no smoothing does both, or they are COARSE. Where none
    does, each normal runs as far as it can: of the finest tried the mesh is the least smoothed that
    hardly any normal of is too short and that loses hardly any of the outline, or the one that
    comes nearest to it (`reach.least_lost`).
    """
    voxel, outline = float(np.prod(grid.spacing) ** (1 / 3)), surface_from_mask(mask, grid)
    depths = smoothed_depths(mask, grid, SMOOTH)
    tried: list[tuple[Mesh, Normals, Reaches]] = []
    for vertex_count in vertices:
        tried, last = [], vertex_count == vertices[-1]
        for depth in depths:
            mesh = even_surface(depth, vertex_count).check()
            normals = mesh_normals(mesh)
            reaches = mesh_reaches(mesh, normals.outward)
            tried.append((mesh, normals, reaches))
            if min(reaches.least) < normals.enough(voxel):
                continue
            if not last and normals.apart > max(COARSE * normals.size, voxel):
                continue
            low, high = (np.full(len(mesh.points), each) for each in reaches.least)
            if missed(outline, normals, low, high) <= MISSED:
                return mesh
        if tried[0][1].apart <= voxel:
            break
    found = []
    for _, normals, reaches in tried:
        low, high = (gentle(normals.points, normals.edges, each) for each in reaches)
        lost = max(missed(outline, normals, low, high), normals.unheld(outline.points, high))
        found.append((narrow_share(normals, KEPT * low, KEPT * high, voxel), lost))
    return tried[least_lost(found)][0]


def missed(
    outline: Mesh,
    normals: Normals,
    low: Float[np.ndarray, " site"],
    high: Float[np.ndarray, " site"],
) -> float:
    """The share of normals that an outline is not met by within their reach, and the size."""
    low, high = np.minimum(low, normals.size), np.minimum(high, normals.size)
    met = crossings(outline, normals.points, normals.outward, -low, high)
    return float((~np.isfinite(met)).mean())


def smoothed_depths(
    mask: Bool[np.ndarray, "i j k"], grid: Grid, sds: Sequence[float]
) -> list[Depth]:
    """The signed distance to a mask's edge, smoothed by each of some sds in voxels, from the level
    within which there are as many voxels as in the mask."""
    from scipy import ndimage

    padded, count = np.pad(mask, PAD), int(mask.sum())
    inside, outside = (
        np.asarray(ndimage.distance_transform_edt(part, sampling=grid.spacing))
        for part in (padded, ~padded)
    )
    half, volume = 0.5 * float(grid.spacing.mean()), float(np.prod(grid.spacing))
    depth, found = np.where(padded, inside - half, half - outside), []
    for sd in sds:
        smooth = ndimage.gaussian_filter(depth, sd * volume ** (1 / 3) / grid.spacing)
        last, first = np.partition(smooth.ravel(), [-count - 1, -count])[[-count - 1, -count]]
        smooth -= 0.5 * (last + first)
        found.append(Depth(smooth, grid, float(inside.max()), count * volume))
    return found


def even_surface(depth: Depth, vertices: int) -> Mesh:
    """A smooth closed mesh of so many even vertices, near where a depth is 0.

    By marching cubes on an even grid, of whose pieces the largest counts; vertices then move to the
    middle of their neighbours and back onto a level of the depth, within half a voxel of 0: that at
    which the mesh has its piece's share of the mask's volume, of which flat triangles would cut off
    some.
    """
    from skimage.measure import marching_cubes

    grid, most = depth.grid, depth.most
    low = grid.to_world(np.full(3, -float(PAD)))
    extent = (np.array(depth.values.shape) - 1) * grid.spacing
    area = depth.volume ** (2 / 3) * 6
    step = np.sqrt(1.8 * area / vertices)
    for _ in range(TRIES):
        step = min(step, most)
        count = np.ceil(extent / step).astype(int) + 2  # beyond all that is known: a closed surface
        ticks = np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), axis=-1)
        places = low + step * ticks @ grid.frame.T
        values = depth.at(places.reshape(-1, 3)).reshape(count)
        if values.max() <= 0:
            step *= 0.6
            continue
        every = marching_cubes(values, 0.0)[:2]
        index, faces = _largest(*every)
        if 1 <= len(index) / vertices < SPARE:
            break
        step *= np.sqrt(len(index) / (0.5 * (1 + SPARE) * vertices))
    part, whole = (abs(Mesh(v, f.astype(int), "px").volume) for v, f in ((index, faces), every))
    wanted = depth.volume * min(part / whole, 1.0)
    points, faces = thinned(low + step * index @ grid.frame.T, faces.astype(int), vertices)
    beside = neighbours(faces, len(points))
    near, level = 0.25 * float(grid.spacing.min()), 0.0
    for _ in range(RELAXED):
        points = 0.5 * points + 0.5 * (beside @ points) / np.asarray(beside.sum(axis=1))[:, None]
        for _ in range(2):
            slope = np.stack(
                [depth.at(points + near * e) - depth.at(points - near * e) for e in np.eye(3)],
                axis=1,
            ) / (2 * near)
            square = np.maximum(np.square(slope).sum(axis=1), 0.1)
            points = points - ((depth.at(points) - level) / square)[:, None] * slope
        mesh = Mesh(points, faces, grid.unit)
        level -= (wanted - abs(mesh.volume)) / float(mesh.areas.sum())
        level = float(np.clip(level, -2 * near, 2 * near))
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
