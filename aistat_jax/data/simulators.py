"""Which simple images obey a boundary model exactly? For tests of bias and coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import ArrayLike, Float
from aistat_jax.data.textures import correlated_noise
from aistat_jax.space.curve import Curve, last_exits
from aistat_jax.space.grid import Plane
from aistat_jax.space.star import unit_vectors

BAYESBD_REFERENCE = (0.5, 0.5)
_ELLIPSE_AXES, _ELLIPSE_SHIFT, _ELLIPSE_TURN = (0.35, 0.25), (0.1, 0.1), np.pi / 3
_TRIANGLE_SIDE = 0.5


def interpolate_radii(
    radii: Float[np.ndarray, " ray"], angles: Float[np.ndarray, "*batch"] | float
) -> Float[np.ndarray, "*batch"]:
    """Radii at any angle from radii at equally spaced angles 0, 2 pi / ray, ...

    Trigonometric interpolation: exact for boundaries of fewer than ray / 2 harmonics.

    >>> nodes = 2 * np.pi * np.arange(8) / 8
    >>> bool(np.isclose(interpolate_radii(2 + np.cos(nodes), np.pi / 3), 2.5))
    True
    """
    radii, angles = np.asarray(radii, dtype=float), np.asarray(angles, dtype=float)
    rays = len(radii)
    weights = np.fft.rfft(radii) / rays
    total = np.full(angles.shape, weights[0].real)
    for k in range(1, (rays - 1) // 2 + 1):
        total += 2 * (weights[k].real * np.cos(k * angles) - weights[k].imag * np.sin(k * angles))
    if rays % 2 == 0:
        total += weights[-1].real * np.cos(rays // 2 * angles)
    return total


def blurred_step_mean(
    radii: Float[np.ndarray, " ray"],
    plane: Plane,
    *,
    centre: ArrayLike | Sequence[float] = (0.0, 0.0),
    inside: float,
    outside: float,
    psf: float,
    blur: str = "ray",
) -> Float[np.ndarray, "nu nv"]:
    """outside + (inside - outside) Phi(d / psf) at every pixel centre.

    blur="ray": d = radius(angle) - distance to the centre, the model's own approximation;
    blur="normal": d is the signed distance to the boundary, the limit of a wide gentle curve.
    psf 0 is a hard step; a pixel whose centre lies on the boundary takes the mean of both.

    Shapes: radii (ray,) at equally spaced angles from 0; centre (2,); lengths in the plane's
    unit. Raises InputError for another `blur` or a negative psf.
    """
    from scipy.special import ndtr

    if blur not in ("ray", "normal"):
        raise InputError(f"blur must be 'ray' or 'normal', got {blur!r}")
    if not psf >= 0:
        raise InputError(f"psf must be >= 0, got {psf}")
    offset = plane.points() - np.asarray(centre, dtype=float)
    angle = np.arctan2(offset[..., 1], offset[..., 0])
    depth = interpolate_radii(radii, angle) - np.hypot(offset[..., 0], offset[..., 1])
    if blur == "normal":
        dense = 2 * np.pi * np.arange(2048) / 2048
        radius = interpolate_radii(radii, dense)
        points = radius[:, None] * np.stack([np.cos(dense), np.sin(dense)], axis=-1)
        depth = np.sign(depth) * Curve(points, plane.unit).distance_to(offset)
    step = ndtr(depth / psf) if psf > 0 else np.heaviside(depth, 0.5)
    return outside + (inside - outside) * step


def blurred_step_image(
    rng: np.random.Generator,
    radii: Float[np.ndarray, " ray"],
    plane: Plane,
    *,
    centre: ArrayLike | Sequence[float] = (0.0, 0.0),
    inside: float,
    outside: float,
    sigma: float,
    psf: float,
    noise_correlation_px: float = 0.0,
    blur: str = "ray",
) -> Float[np.ndarray, "nu nv"]:
    """`blurred_step_mean` plus normal noise of sd `sigma`.

    The noise has correlation exp(-(d / noise_correlation_px)^2) between pixels d apart; 0 is
    white. Shapes, units and errors as there, and InputError for a negative sigma.
    """
    if not sigma >= 0:
        raise InputError(f"sigma must be >= 0, got {sigma}")
    mean = blurred_step_mean(
        radii, plane, centre=centre, inside=inside, outside=outside, psf=psf, blur=blur
    )
    return mean + sigma * correlated_noise(rng, plane.shape, noise_correlation_px)


@record
class BayesBDImage:
    """One simulated image of the BayesBD study, with lengths as shares of the image's side.

    Shapes: positions (voxel, 2), one uniform in each cell, in order of cell i * size + j;
    values (voxel,); truth a closed curve; reference (2,), the centre of the rays; plane the
    cells as pixels. The unit is called "px", there being no millimetres.
    """

    positions: Float[np.ndarray, "voxel 2"]
    values: Float[np.ndarray, " voxel"]
    truth: Curve
    reference: Float[np.ndarray, "2"]
    plane: Plane
    scenario: str = static(default="S1")

    def true_radii(self, angles: Float[np.ndarray, " ray"]) -> Float[np.ndarray, " ray"]:
        """Exact distance from the reference point to the boundary along each angle."""
        return _true_radii(self.scenario, np.asarray(angles, dtype=float))


def bayesbd_image(seed: int, scenario: str = "S1", size: int = 100) -> BayesBDImage:
    """The simulated images on which BayesBD was judged, in the unit square.

    S1: ellipse of semi-axes .35 and .25, its centre (.1, .1) from the reference point (.5, .5),
    turned by 60 degrees; Bernoulli .5 inside, .2 outside. S2: equilateral triangle of side .5
    centred on the reference point, one corner up; the same. S3: the ellipse with N(4, 1.5^2)
    inside and N(1, 1) outside. One observation in each of size x size cells, uniform in its cell.

    Raises InputError for another scenario or fewer than 2 cells a side.
    Source: Li & Ghosal 2017, Bayesian detection of image boundaries, Annals of Statistics 45,
    and Syring & Li 2017, BayesBD: an R package, The R Journal 9.

    >>> image = bayesbd_image(0, "S2", size=20)
    >>> image.values.shape, float(image.true_radii(np.array([np.pi / 2]))[0].round(4))
    ((400,), 0.2887)
    """
    if scenario not in ("S1", "S2", "S3"):
        raise InputError(f"unknown scenario {scenario!r}; choose S1, S2 or S3")
    if size < 2:
        raise InputError(f"size must be at least 2 cells a side, got {size}")
    rng = np.random.default_rng(seed)
    cells = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1)
    positions = (cells.reshape(-1, 2) + rng.uniform(size=(size * size, 2))) / size
    reference = np.array(BAYESBD_REFERENCE)
    offset = positions - reference
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    inside = np.hypot(offset[:, 0], offset[:, 1]) < _true_radii(scenario, angle)
    if scenario == "S3":
        draws = rng.standard_normal(size * size)
        values = np.where(inside, 4.0 + 1.5 * draws, 1.0 + draws)
    else:
        values = (rng.uniform(size=size * size) < np.where(inside, 0.5, 0.2)).astype(float)
    angles = 2 * np.pi * np.arange(1536) / 1536
    truth = Curve(reference + _true_radii(scenario, angles)[:, None] * unit_vectors(angles), "px")
    plane = Plane(
        np.full(2, 0.5 / size), np.full(2, 1.0 / size), 0.0, 1.0, np.eye(3), (size, size), "px"
    )
    return BayesBDImage(positions, values, truth, reference, plane, scenario)


def _true_radii(scenario: str, angles: np.ndarray) -> np.ndarray:
    if scenario == "S2":
        turns = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
        corners = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * _TRIANGLE_SIDE / np.sqrt(3)
        return last_exits(corners, np.zeros(2), unit_vectors(angles))
    cos, sin = np.cos(_ELLIPSE_TURN), np.sin(_ELLIPSE_TURN)
    shape = np.array([[cos, sin], [-sin, cos]]) / np.array(_ELLIPSE_AXES)[:, None]
    direction = np.stack([np.cos(angles), np.sin(angles)], axis=-1) @ shape.T
    shift = shape @ np.array(_ELLIPSE_SHIFT)  # |r direction - shift| = 1
    a, b, c = (direction**2).sum(axis=-1), direction @ shift, shift @ shift - 1
    return (b + np.sqrt(b**2 - a * c)) / a
