"""What does PET show of balls and discs? Exactly blurred, in noise that neighbours share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.data.textures import correlated_noise
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Image

# Gauss-Legendre points along each axis of a voxel, whose value is a mean over its volume.
POINTS = 3


class Ball(NamedTuple):
    """What a ball (if `tall`, a cylinder along z) adds to the uptake. Lengths in mm."""

    centre: tuple[float, float, float]
    radius: float
    uptake: float
    tall: bool = False

    def section(self, plane: Plane) -> Curve:
        """Its circle in a plane across z. Raises InputError where the plane misses it."""
        height = 0.0 if self.tall else plane.offset - self.centre[2]
        if abs(height) >= self.radius:
            raise InputError(f"the plane at {plane.offset:g} mm misses the ball")
        radius = np.sqrt(self.radius**2 - height**2)
        turns = 2 * np.pi * np.arange(720) / 720
        circle = radius * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
        return Curve(np.asarray(self.centre[:2]) + circle, plane.unit)


def image_of_balls(
    balls: Sequence[Ball],
    *,
    seed: int,
    shape: tuple[int, int, int] = (44, 40, 16),
    spacing_mm: tuple[float, float, float] = (2.5, 3.0, 4.0),
    background: float = 1.0,
    psf_mm: float = 3.0,
    noise: float = 0.1,
    grows: bool = True,
    correlation_px: float = 1.0,
) -> Image:
    """A PET image of balls in an even background, its first voxel at the origin.

    Each is seen through a Gaussian point spread of sd `psf_mm` (a non-central chi-squared law) and
    averaged over voxels; overlapping balls add. The noise has sd noise * sqrt(mean), or `noise`
    everywhere where it does not grow, and is alike within about `correlation_px` voxels.
    """
    spacing = np.asarray(spacing_mm)
    grid = np.moveaxis(np.indices(shape), 0, -1) * spacing
    node, weight = np.polynomial.legendre.leggauss(POINTS)
    mean = np.full(shape, background)
    for ball in balls:
        used = 2 if ball.tall else 3
        for cell in np.ndindex(*(POINTS,) * used):
            shift = np.zeros(3)
            shift[:used] = 0.5 * spacing[:used] * node[list(cell)]
            away = (grid + shift - ball.centre)[..., :used]
            share = np.prod(0.5 * weight[list(cell)])
            mean += share * ball.uptake * _seen(np.linalg.norm(away, axis=-1), ball, psf_mm)
    rng = np.random.default_rng(seed)
    textures = [correlated_noise(rng, shape[:2], correlation_px) for _ in range(shape[2])]
    sd = noise * np.sqrt(np.maximum(mean, 0.0)) if grows else noise
    values = mean + sd * np.stack(textures, axis=-1)
    return Image.from_arrays(PT=values, spacing_mm=spacing_mm)


def _seen(
    distance: Float[np.ndarray, "*grid"], ball: Ball, psf: float
) -> Float[np.ndarray, "*grid"]:
    from scipy.stats import ncx2

    steps = np.linspace(0.0, ball.radius + 10 * psf, 800)
    profile = ncx2.cdf((ball.radius / psf) ** 2, 2 if ball.tall else 3, (steps / psf) ** 2)
    return np.interp(distance, steps, profile, right=0.0)
