"""Where does intensity fall all around a place, at about a given distance from it?

A level cuts a lesion out only where all that it touches is darker. A closed surface that runs along
the steepest fall in every direction needs no level, but a rough size to start from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.regions import distances
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.sphere_sites import sphere_basis, sphere_sites

# 362 directions, harmonics of log radius to degree 8, places every 2 mm out to 110.
FREQUENCY, DEGREE, STEP, FARTHEST = 6, 8, 2.0, 110.0
# A fall is the mean of log uptake over such a length within a place, less that beyond it, mm.
WIDTHS = 6.0, 12.0
SIZES = np.geomspace(7.0, 70.0, 10)
# Radii are drawn to the surface that they make by a normal law of this sd in the log, which is
# drawn in round by round; a fall counts in units of the second number.
LOOSE, TIGHT, ROUNDS = 0.45, 0.12, 18
PULL, FALL = 0.05, 0.05
# Precisions of the harmonics: of the size, and of degree l times (1 + l (l + 1)) to this power.
SIZE_PRECISION, SHAPE_PRECISION, ROUGHNESS = 0.16, 0.0063, 1.2
# No fall counts for more, nor for less (where the image ends, where it rises).
HIGHEST, LOWEST = 2.0, -0.5


def surfaces_at(
    tone: Float[np.ndarray, "i j k"], place: Float[np.ndarray, "3"], spacing: np.ndarray
) -> Iterator[Bool[np.ndarray, "i j k"]]:
    """Voxels within a surface about a place, for each of SIZES and WIDTHS.

    Each is sought twice: about the place, and about the centroid of what that gave. `tone` is log
    uptake, `place` a voxel's index and `spacing` its sides in mm.
    """
    from scipy import ndimage

    smooth = np.asarray(ndimage.gaussian_filter(tone, 0.5))
    middle = np.asarray(place, dtype=float) * spacing
    for width in WIDTHS:
        about_place = _falls(smooth, middle, spacing, width)
        for size in SIZES:
            first = _surface(about_place, float(size))
            centre = middle + _to_centroid(first)
            radii = _surface(_falls(smooth, centre, spacing, width), float(size))
            chart = sphere_chart(centre, FARTHEST, frequency=FREQUENCY)
            within = distances(tone.shape, spacing, centre / spacing) < radii.max()
            within[within] = chart.inside(radii[None], np.argwhere(within) * spacing)[0]
            yield within


def _places() -> np.ndarray:
    """Where uptake is read along a ray; it falls half a step farther out, between two of them."""
    return np.arange(STEP, FARTHEST, STEP)


def _falls(
    smooth: Float[np.ndarray, "i j k"], centre: np.ndarray, spacing: np.ndarray, width: float
) -> Float[np.ndarray, "ray place"]:
    """How far tone falls just beyond each place along each ray from a centre."""
    from scipy import ndimage

    rays, far = sphere_sites(FREQUENCY).directions, _places()
    index = (centre + rays[:, None] * far[:, None]) / spacing
    along = ndimage.map_coordinates(smooth, index.reshape(-1, 3).T, order=1, mode="nearest")
    total = np.pad(np.cumsum(along.reshape(len(rays), len(far)), axis=1), ((0, 0), (1, 0)))
    here, count = np.arange(1, len(far) + 1), round(width / STEP)
    start, end = np.maximum(here - count, 0), np.minimum(here + count, len(far))
    within = (total[:, here] - total[:, start]) / (here - start)
    beyond = (total[:, end] - total[:, here]) / np.maximum(end - here, 1)
    falls = np.clip(within - beyond, LOWEST, HIGHEST)
    falls[((index < -0.5) | (index > np.array(smooth.shape) - 0.5)).any(axis=-1)] = LOWEST
    falls[:, -count:] = LOWEST
    return falls


def _surface(falls: Float[np.ndarray, "ray place"], size: float) -> Float[np.ndarray, " ray"]:
    """The smooth surface of about a size along which tone falls most.

    In each round a ray's radius is its mean under exp(fall), drawn to the surface so far; the
    surface is then the ridge regression of log radii on harmonics, weighted by the falls met.
    """
    basis = sphere_basis(FREQUENCY, DEGREE)
    harmonics, eigenvalues = np.asarray(basis.functions), np.asarray(basis.eigenvalues)
    ridge = SHAPE_PRECISION * (1 + eigenvalues) ** ROUGHNESS
    ridge[0] = SIZE_PRECISION
    log, surface = np.log(_places() + STEP / 2), np.full(len(falls), np.log(size))
    for drawn in np.geomspace(LOOSE, TIGHT, ROUNDS):
        worth = falls - PULL * ((log - surface[:, None]) / drawn) ** 2
        share = np.exp((worth - worth.max(axis=1, keepdims=True)) / FALL)
        share /= share.sum(axis=1, keepdims=True)
        met = np.maximum((share * falls).sum(axis=1), 0.02)
        weighted = harmonics * (met / met.sum())[:, None]
        off = weighted.T @ (share @ log - np.log(size))
        gram = weighted.T @ harmonics + np.diag(ridge)
        surface = np.log(size) + harmonics @ np.linalg.solve(gram, off)
    return np.exp(surface)


def _to_centroid(radii: Float[np.ndarray, " ray"]) -> Float[np.ndarray, "3"]:
    """From the centre to the centroid of a star, but not out of its nearest side."""
    rays = sphere_sites(FREQUENCY).directions
    shift = 0.75 * (radii**4) @ rays / (radii**3).sum()
    return shift * min(1.0, 0.7 * radii.min() / max(float(np.linalg.norm(shift)), 1e-9))
