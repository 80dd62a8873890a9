"""Which closed curve can offsets be measured from, and what are its normals?"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.space.closed import half_edges
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.reach import Normals

# An outline with one edge so many times as long as any other is not closed.
OPEN = 5.0
# Points of an outline to a site, before it is smoothed.
FINER = 4


def checked_curve(curve: Curve, plane: Plane) -> Curve:
    """The curve counter-clockwise, or InputError where it is not the outline of one region."""
    import shapely

    if curve.unit != plane.unit:
        raise InputError(
            f"the reference is in {curve.unit} and the slice in {plane.unit}; give both one unit"
        )
    if len(curve.points) < 3 or not np.isfinite(curve.points).all():
        raise InputError("a reference curve needs at least 3 points, all of them finite")
    length = np.sort(np.linalg.norm(curve.edges, axis=1))
    ends = float(np.linalg.norm(curve.edges[-1]))
    if len(length) > 8 and ends == length[-1] and ends > OPEN * length[-2]:
        raise InputError(
            f"the reference curve is open: its ends lie {ends:.3g} {curve.unit} apart, "
            f"{ends / length[-2]:.0f} times its longest edge; close it"
        )
    if not shapely.LinearRing(curve.points).is_simple:
        raise InputError(
            "the reference curve crosses itself; pass the outline of one region, such as the "
            "largest of outlines(mask, plane)"
        )
    if curve.area == 0:
        raise InputError("the reference curve has no area")
    return curve if curve.is_ccw else replace(curve, points=curve.points[::-1])


def smoothed(
    curve: Curve, sd: float, sites: int
) -> tuple[Float[np.ndarray, "site 2"], Float[np.ndarray, "site 2"]]:
    """Points evenly spaced along a curve convolved with a Gaussian of sd `sd` along itself, and
    their outward unit normals."""
    count, length = FINER * sites, curve.perimeter
    even = curve.resample(count).points
    wave = np.fft.fftfreq(count, 1 / count)
    series = np.fft.fft(even[:, 0] + 1j * even[:, 1]) / count
    series *= np.exp(-0.5 * (2 * np.pi * wave * sd / length) ** 2)
    if count % 2 == 0:
        series[count // 2] = 0.0
    kept = np.abs(wave) < sites / 2
    wave, series = wave[kept], series[kept]

    def at(share: np.ndarray, factor: np.ndarray) -> np.ndarray:
        return np.exp(2j * np.pi * share[:, None] * wave) @ (factor * series)

    share = np.arange(count + 1) / count
    along = np.append(0.0, np.cumsum(np.abs(np.diff(at(share, np.ones_like(wave))))))
    places = np.interp(along[-1] * np.arange(sites) / sites, along, share)
    point, normal = at(places, np.ones_like(wave)), -1j * at(places, 1j * wave)
    normal /= np.abs(normal)
    return _pairs(point), _pairs(normal)


def curve_normals(
    points: Float[np.ndarray, "site 2"], normals: Float[np.ndarray, "site 2"], unit: str
) -> Normals:
    """The vertices of a closed polygon as sites."""
    site = np.arange(len(points))
    edges = np.stack([site, np.roll(site, -1)], axis=1)
    curve = Curve(points, unit)
    size = 2 * curve.area / curve.perimeter
    return Normals(points, normals, edges, half_edges(points), size, unit)


def _pairs(complex_numbers: np.ndarray) -> Float[np.ndarray, "site 2"]:
    return np.stack([np.real(complex_numbers), np.imag(complex_numbers)], axis=1)
