"""How far from the nearest star does a point on the edge lie, where an expert has drawn it?

Of the 40 sarcomas, in slices (one in five) and in space: the drawn outline's nearest star, of the
functions that a model has, from the centre and by the rays that it would have; and of the middles
of faces between voxels inside and outside how far each lies from it along its ray, as a share of
the rough radius. Half a voxel's width is in that. A Student t of two degrees of freedom is fitted
to them, every patient counting as much; it is held against a normal law, on patients left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.hints import ROUGH
from aistat_jax.boundary.meant import largest
from aistat_jax.boundary.prior import REACH, Prior
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.space.chart import Chart, linked, unlinked
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import surface_from_mask
from benchmarks._table import Result, Row
from benchmarks.patients import of_each, patients

EVERY, POINTS = 5, 400  # slices, and points of a patient
LAW: Any = stats.t(2)
WITHIN = 1.25  # the share in use is at most so many times the one that was found, or less


def departures(folder: Path) -> dict[int, Float[np.ndarray, " point"]]:
    """Of one patient, in slices (2) and in space (3): away from the nearest star, over the rough
    radius, outwards positive."""
    rng = np.random.default_rng([11, int(folder.name[-3:])])
    image = read_image(PT=folder / "PET_image.nii.gz")
    mask = read_mask(folder / "PET_mask.nii.gz", image.primary)
    whole = largest(mask)
    found: dict[int, np.ndarray] = {}
    for dims in (2, 3):
        parts = [whole]
        if dims == 2:
            slices = np.flatnonzero(whole.any(axis=(0, 1)))[::EVERY]
            parts = [_only(whole, int(k)) for k in slices]
        away = [one for part in parts if (one := _away(image, part, dims)) is not None]
        if away:
            found[dims] = rng.choice(np.concatenate(away), POINTS)
    return found


def edge_of(mask: Bool[np.ndarray, "i j k"], grid: Grid, flat: bool) -> Float[np.ndarray, "face 3"]:
    """Middles of the faces between voxels of a mask and others, in patient coordinates.

    Those within slices alone where it is `flat`; the border of the image is no edge.
    """
    found = []
    for axis in range(2 if flat else 3):
        middle = np.zeros(3)
        middle[axis] = 0.5
        found.append(np.argwhere(np.diff(mask, axis=axis)) + middle)
    return grid.to_world(np.concatenate(found))


def _only(mask: np.ndarray, k: int) -> np.ndarray:
    """The largest component of one slice."""
    one = np.zeros_like(mask)
    one[:, :, k] = mask[:, :, k]
    return largest(one)


def _away(image: Any, mask: np.ndarray, dims: int) -> np.ndarray | None:
    grid = image.primary.grid
    points = edge_of(mask, grid, dims == 2)
    try:
        (target,) = find_targets(image, mask=mask, dims=dims).found
        if dims == 3:
            return departures_from_star(target, surface_from_mask(mask, grid, 0.0), points)
        k = int(np.flatnonzero(mask.any(axis=(0, 1)))[0])
        outline = contours_from_mask(mask[:, :, k], target.plane)[0]
        return departures_from_star(target, outline, target.plane.to_uv(points))
    except (InputError, ValueError):
        return None


def departures_from_star(
    target: Any, outline: Any, points: Float[np.ndarray, "point dims"]
) -> Float[np.ndarray, " point"]:
    """How far points lie, along rays, from the star nearest to an outline, over a rough radius.

    Of the functions that a model of the target has. Raises InputError for an outline around which
    no ray from the target's centre leads.
    """
    chart: Chart = target.chart(target.radius * REACH)
    values = chart.values_of(outline)
    _, mean, basis = Prior().on(target, chart, None)
    functions, wanted = np.asarray(basis.functions), unlinked(chart.link, values) - mean
    nearest = linked(chart.link, mean + functions @ np.linalg.lstsq(functions, wanted)[0])
    shared, at = chart.share(points), np.zeros(len(points))
    np.add.at(at, shared.voxel, np.asarray(nearest)[shared.site] * shared.share)
    return (chart.position(points) - at) / target.radius


def scale_of(away: list[np.ndarray]) -> float:
    """The scale of the t that makes the departures of patients likeliest."""

    def loss(log_scale: float) -> float:
        return -sum(_log(each, np.exp(log_scale)) for each in away)

    best: Any = optimize.minimize_scalar(loss, bounds=(-8, 1), method="bounded")
    return float(np.exp(best.x))


def _log(away: np.ndarray, scale: float) -> float:
    """Log density a point."""
    return float((LAW.logpdf(away / scale) - np.log(scale)).mean())


def run(quick: bool) -> Result:
    title = "Points on drawn edges, and the nearest star"
    folders = patients()[: 5 if quick else None]
    if not folders:
        said = "Skipped: the sarcoma collection was not found; set AISTAT_DATA to its folder."
        return Result(title, [], [said])
    every, rows = of_each(departures, folders), []
    for dims, where in ((2, "slices"), (3, "space")):
        away = [found[dims] for found in every if dims in found]
        scale, used = scale_of(away), ROUGH[dims] if dims == 2 else None
        rest = [away[:n] + away[n + 1 :] for n in range(len(away))]
        scales = np.array([scale_of(others) for others in rest])
        sds = np.array([np.sqrt(np.mean([np.square(x).mean() for x in some])) for some in rest])
        gains = np.array([
            _log(x, s) - float(stats.norm.logpdf(x, scale=sd).mean())
            for x, s, sd in zip(away, scales, sds, strict=True)
        ])  # fmt: skip
        sizes = np.quantile(np.abs(np.concatenate(away)), (0.5, 0.9, 0.99))
        rows += [
            Row(f"{where}: scale over the rough radius", scale,
                at_least=used and used / WITHIN, at_most=used and used * WITHIN,
                note=f"without one patient {scales.min():.3f} to {scales.max():.3f}"),
            Row(f"{where}: log density a point of patients left out, more than of a normal law",
                float(gains.mean()), at_least=0.0,
                note=f"± {gains.std(ddof=1) / np.sqrt(len(gains)):.3f}"),
            Row(f"{where}: within twice the scale", float(np.mean(
                [(np.abs(x) < 2 * s).mean() for x, s in zip(away, scales, strict=True)])),
                note=f"of the law {LAW.cdf(2) - LAW.cdf(-2):.3f}; of a normal one .954"),
            Row(f"{where}: 99% of points are nearer than", float(sizes[2]), "rough radii",
                note=f"half than {sizes[0]:.3f}, 90% than {sizes[1]:.3f}"),
        ]  # fmt: skip
    notes = [
        f"{len(folders)} patients, {POINTS} points of each, seeds [11, patient]. The largest "
        "component of what was drawn. In use are the scale in slices, and in space that of places "
        "at which a contour is farthest off (`real_pet:expert corrected`)."
    ]
    return Result(title, rows, notes)
