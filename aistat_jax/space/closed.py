"""What do sites along a closed line share: voxels, lengths, distances between its polygons?"""

from __future__ import annotations

import numpy as np

from aistat_jax._typing import Float, Int

# So many pairs of a point and an edge at a time fill a core's cache.
PAIRS = 65_000


def shared_along(
    place: Float[np.ndarray, " voxel"], half_width: Float[np.ndarray, " voxel"], sites: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(voxel, site, share) of voxels that cover place +- half_width of a closed line.

    Places are counted in sites, 0 at the first. A voxel's share of a site is the mean of that
    site's hat function (linear interpolation between neighbours) over what it covers.
    """
    before = np.floor(place).astype(int)
    offset = place - before
    reach = np.ceil(half_width).astype(int)
    voxels, site_ids, shares = [], [], []
    for k in range(-int(reach.max(initial=0)), int(reach.max(initial=0)) + 2):
        met = np.flatnonzero((k >= -reach) & (k <= reach + 1))
        share = _hat_average(k - offset[met], half_width[met])
        keep = share > 0
        voxels.append(met[keep])
        site_ids.append((before[met[keep]] + k) % sites)
        shares.append(share[keep])
    return np.concatenate(voxels), np.concatenate(site_ids), np.concatenate(shares)


def _hat_average(distance: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Mean of max(0, 1 - |x|) over [distance - half_width, distance + half_width]."""

    def integral(x: np.ndarray) -> np.ndarray:
        x = np.clip(x, -1.0, 1.0)
        return 0.5 + x - 0.5 * x * np.abs(x)

    wide = half_width > 1e-9
    width = np.where(wide, 2 * half_width, 1.0)
    mean = (integral(distance + half_width) - integral(distance - half_width)) / width
    return np.where(wide, mean, np.maximum(0.0, 1 - np.abs(distance)))


def half_edges(points: Float[np.ndarray, "*batch site 2"]) -> Float[np.ndarray, "*batch site"]:
    """Half the length of the two edges of a closed polygon that meet at each point."""
    edge = np.linalg.norm(np.roll(points, -1, axis=-2) - points, axis=-1)
    return 0.5 * (edge + np.roll(edge, 1, axis=-1))


def distance_to_polygons(
    points: Float[np.ndarray, "batch point 2"],
    polygons: Float[np.ndarray, "batch vertex 2"],
    edges: Int[np.ndarray, "point edge"] | None = None,
) -> Float[np.ndarray, "batch point"]:
    """The distance from each point to the polygon of the same number.

    `edges` are those that each point is compared with, by default all of them; edge k leads from
    vertex k to the next.
    """
    each = points.shape[1] * (polygons.shape[1] if edges is None else edges.shape[1])
    parts = 1 + len(points) * each // PAIRS
    pairs = zip(np.array_split(points, parts), np.array_split(polygons, parts), strict=True)
    return np.concatenate([_to_polygons(*pair, edges) for pair in pairs])


def _to_polygons(points: np.ndarray, polygons: np.ndarray, edges: np.ndarray | None) -> np.ndarray:
    def met(ends: np.ndarray) -> np.ndarray:
        """(batch, point or 1, edge)."""
        return ends[:, None] if edges is None else ends[:, edges]

    end = np.roll(polygons, -1, axis=1)
    (u0, v0), (u1, v1) = ([met(p[..., axis]) for axis in range(2)] for p in (polygons, end))
    along_u, along_v = u1 - u0, v1 - v0
    squared = np.maximum(along_u**2 + along_v**2, 1e-300)
    off_u, off_v = points[..., :1] - u0, points[..., 1:] - v0
    position = np.clip((off_u * along_u + off_v * along_v) / squared, 0.0, 1.0)
    off_u -= position * along_u
    off_v -= position * along_v
    return np.sqrt((off_u**2 + off_v**2).min(axis=-1))
