"""Which elements is the surface of a mask made of, and how large is each?

The corners of voxels (in 2D of pixels) carry the code of the eight (four) voxels around them; a
corner whose voxels are not all alike is an element of the surface, as large as the triangles (the
line) that marching cubes puts there (Nikolov et al. 2021).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from aistat_jax._typing import Bool, Float, UInt8


def corner_codes(mask: Bool[np.ndarray, "*voxel"]) -> UInt8[np.ndarray, "*corner"]:
    """The code of every corner of a mask's voxels: a bit for each voxel around it, in their order.

    What lies beyond the mask is outside. Shapes: one more along every axis than the mask.
    """
    codes, shift = np.pad(mask, 1).astype(np.uint8), 1
    for axis in reversed(range(codes.ndim)):
        ahead, behind = [slice(None)] * codes.ndim, [slice(None)] * codes.ndim
        ahead[axis], behind[axis] = slice(None, -1), slice(1, None)
        codes = (codes[tuple(ahead)] << shift) | codes[tuple(behind)]
        shift *= 2
    return codes


def element_sizes(spacing: Float[np.ndarray, " dims"]) -> Float[np.ndarray, " code"]:
    """Area in 3D, length in 2D, of the surface element of every code, for voxels of a spacing."""
    others = np.prod(spacing) / spacing if len(spacing) == 3 else spacing
    return np.linalg.norm(_normals(len(spacing)) * others, axis=-1).sum(axis=-1)


def surface_elements(
    mask: Bool[np.ndarray, "*voxel"], spacing: Float[np.ndarray, " dims"]
) -> tuple[Bool[np.ndarray, "*corner"], Float[np.ndarray, " element"]]:
    """Which corners are elements of the surface, and the size of each of these, in their order."""
    codes = corner_codes(mask)
    surface = (codes != 0) & (codes != 2 ** (2**mask.ndim) - 1)
    return surface, element_sizes(spacing)[codes[surface]]


@cache
def _normals(dims: int) -> Float[np.ndarray, "code piece dims"]:
    """Of every code the triangles' normals as long as their areas, or the line's own vectors.

    Of unit voxels. In space the triangles are Lorensen's, of those voxels that are fewer: a code
    has the surface of its complement.
    """
    if dims == 2:
        corners = np.array([[0.5, 0.5]])  # from the middle of one side to that of the next
        lines = {1: [[0.5, 0.5]], 3: [[0.0, 1.0]], 5: [[1.0, 0.0]], 6: np.repeat(corners, 2, 0)}
        found = np.zeros((16, 2, 2))
        for code in range(1, 15):
            kind = min(code, 15 - code)
            alike = kind if kind in lines else 1
            found[code, : len(lines[alike])] = lines[alike]
        return found
    from skimage.measure import marching_cubes

    found = np.zeros((256, 5, 3))
    for code in range(1, 255):
        bits = np.array([code >> (7 - bit) & 1 for bit in range(8)], dtype=float)
        cube = (bits if bits.sum() <= 4 else 1 - bits).reshape(2, 2, 2)
        points, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        a, b, c = np.moveaxis(points[faces].astype(float), 1, 0)
        found[code, : len(faces)] = np.cross(b - a, c - a) / 2
    return found
