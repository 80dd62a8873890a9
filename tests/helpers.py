"""Synthetic images and posteriors with known answers, shared by the tests."""

from __future__ import annotations

import numpy as np

from aistat_jax.inference.posterior import Diagnostics, Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.star import star_chart

TRUSTED = Diagnostics(converged=True, ess_min=900.0, khat=0.3)


def ellipse_radii(angles: np.ndarray, a: float, b: float, tilt: float = 0.4) -> np.ndarray:
    """Polar radius of an ellipse about its centre."""
    return a * b / np.hypot(b * np.cos(angles - tilt), a * np.sin(angles - tilt))


def smooth_draws(
    angles: np.ndarray, draws: int, sd: np.ndarray | float, seed: int, harmonics: int = 12
) -> np.ndarray:
    """Periodic Gaussian functions (draw, ray) of standard deviation `sd` at each angle."""
    rng = np.random.default_rng(seed)
    k = np.arange(1, harmonics + 1)
    scale = (1.0 + (0.45 * k) ** 2) ** -1.25
    phase = k[:, None] * angles
    values = rng.standard_normal((draws, 1)) * 0.5
    values = values + (rng.standard_normal((draws, harmonics)) * scale) @ np.cos(phase)
    values = values + (rng.standard_normal((draws, harmonics)) * scale) @ np.sin(phase)
    return values / np.sqrt(0.25 + (scale**2).sum()) * sd


def make_posterior(
    *,
    axes: tuple[float, float] = (14.0, 10.0),
    sd: float = 0.06,
    swell: float = 0.0,
    swell_at: float = np.pi,
    draws: int = 1000,
    rays: int = 128,
    seed: int = 0,
    size: int = 64,
    spacing: float | None = 2.0,
    centre: tuple[float, float] | None = None,
    diagnostics: Diagnostics = TRUSTED,
) -> Posterior:
    """Smooth log-radius draws around an ellipse, `swell` more uncertain towards `swell_at`."""
    step = 1.0 if spacing is None else spacing
    grid = Grid(
        np.diag([step, step, step, 1.0]), (size, size, 1), unit="px" if spacing is None else "mm"
    )
    middle = step * (size - 1) / 2
    chart = star_chart(
        np.array((middle, middle) if centre is None else centre), 3 * max(axes), grid.plane(0), rays
    )
    local_sd = sd * (1 + swell * np.exp(2.0 * (np.cos(chart.angles - swell_at) - 1)))
    log_radii = np.log(ellipse_radii(chart.angles, *axes))
    log_radii = log_radii + smooth_draws(chart.angles, draws, local_sd, seed)
    return Posterior(
        chart=chart,
        radii=np.exp(log_radii)[None],
        samples={},
        diagnostics=diagnostics,
        method="laplace",
        seed=seed,
        target_id="lesion-1",
        seconds={"evidence": 0.1, "fit": 0.2, "total": 0.3},
    )


def make_surface(
    *,
    axes: tuple[float, float, float] = (14.0, 10.0, 12.0),
    sd: float = 0.05,
    swell: float = 0.0,
    draws: int = 200,
    seed: int = 0,
    centre: tuple[float, float, float] = (63.0, 61.0, 40.0),
    unit: str = "mm",
    diagnostics: Diagnostics = TRUSTED,
) -> Posterior:
    """Smooth log-radius draws around an ellipsoid, `swell` more uncertain towards +x."""
    chart = sphere_chart(np.array(centre), 3 * max(axes), unit)
    basis = chart.basis(4)
    rng = np.random.default_rng(seed)
    scale = (1.0 + np.asarray(basis.eigenvalues)) ** -0.75
    wave = (rng.standard_normal((draws, len(scale))) * scale) @ np.asarray(basis.functions).T
    wave *= sd * (1 + swell * np.maximum(chart.directions[:, 0], 0.0)) / np.sqrt((scale**2).sum())
    log_radii = -0.5 * np.log((chart.directions**2 / np.square(axes)).sum(axis=1))
    return Posterior(
        chart, np.exp(log_radii + wave)[None], {}, diagnostics, "laplace", seed, "lesion-1"
    )


def make_volume(unit: str = "mm", shape: tuple[int, int, int] = (64, 60, 22)) -> Image:
    """PET of the ellipsoid of `make_surface` in voxels of 2 x 2 x 4."""
    spacing = np.array([2.0, 2.0, 4.0])
    grid = np.moveaxis(np.indices(shape), 0, -1) * spacing
    depth = np.sqrt((((grid - (63.0, 61.0, 40.0)) / (14.0, 10.0, 12.0)) ** 2).sum(axis=-1))
    noise = np.random.default_rng(0).standard_normal(shape)
    values = 1.0 + 5.0 / (1.0 + np.exp(8.0 * (depth - 1))) + 0.2 * noise
    return Image.from_arrays(PT=values, spacing_mm=None if unit == "px" else spacing.tolist())


def make_image(size: int = 64, spacing: float | None = 2.0, seed: int = 0) -> Image:
    """A blurred elliptic PET lesion and a finer-textured CT on one grid."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    step = 1.0 if spacing is None else spacing
    u, v = np.meshgrid(*[step * (np.arange(size) - (size - 1) / 2)] * 2, indexing="ij")
    inside = np.hypot(u, v) < ellipse_radii(np.arctan2(v, u), 14.0, 10.0)
    body = np.hypot(u / 1.2, v) < 0.45 * size * step
    pet = gaussian_filter(1.0 * body + 6.0 * inside, 4.0 / step)
    pet = np.abs(pet + gaussian_filter(rng.standard_normal(u.shape), 0.7) * 0.35)
    ct = np.where(body, 40.0, -950.0) + 15.0 * inside + rng.normal(0, 18, u.shape)
    if spacing is None:
        return Image.from_arrays(PT=pet, CT=ct)
    return Image.from_arrays(PT=pet, CT=ct, spacing_mm=spacing)


def circle(radius: float, centre: tuple[float, float] = (0.0, 0.0), vertices: int = 2000) -> Curve:
    angles = 2 * np.pi * np.arange(vertices) / vertices
    points = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radius + np.asarray(centre)
    return Curve(points=points, unit="mm")


def horseshoe_depth(
    points: np.ndarray,
    centre: tuple[float, float] = (47.3, 45.1),
    middle: float = 28.0,
    half: float = 8.0,
    gap: float = 1.0,
    turn: float = 0.3,
    tip: float | None = None,
) -> np.ndarray:
    """How deep points (..., 2) lie in a strip of half-width `half` along an open ring, round at
    both ends; negative outside. Nowhere does a star see all of it. With a `tip` it tapers from
    `half` in the middle to that at its ends."""
    offset = points - np.asarray(centre)
    angle = np.arctan2(offset[..., 1], offset[..., 0]) - turn
    angle = np.mod(angle + np.pi, 2 * np.pi) - np.pi
    along = np.clip(angle, gap - np.pi, np.pi - gap)
    if tip is not None:
        half = half - (half - tip) * (along / (np.pi - gap)) ** 2
    along = along + turn
    foot = middle * np.stack([np.cos(along), np.sin(along)], axis=-1)
    return half - np.linalg.norm(offset - foot, axis=-1)


def horseshoe_curve(vertices: int = 2000) -> Curve:
    """The outline of `horseshoe_depth`."""
    import contourpy

    axis = np.linspace(-5.0, 105.0, vertices // 4)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    lines = contourpy.contour_generator(axis, axis, horseshoe_depth(grid)).lines(0.0)
    points = np.asarray(max(lines, key=len), dtype=float)[:-1]
    curve = Curve(points, "px")
    return curve if curve.is_ccw else Curve(points[::-1], "px")


def tube_depth(
    points: np.ndarray,
    centre: tuple[float, float, float] = (40.0, 38.0, 24.0),
    middle: float = 22.0,
    half: float = 8.0,
    gap: float = 1.0,
    tip: float | None = None,
) -> np.ndarray:
    """How deep points (..., 3) lie in a bent tube, round at both ends; negative outside. With a
    `tip` it tapers from `half` in the middle to that at its ends, as a mandible does."""
    offset = points - np.asarray(centre)
    along = np.clip(np.arctan2(offset[..., 1], offset[..., 0]), gap - np.pi, np.pi - gap)
    foot = middle * np.stack([np.cos(along), np.sin(along), 0 * along], axis=-1)
    if tip is not None:
        half = half - (half - tip) * (along / (np.pi - gap)) ** 2
    return half - np.linalg.norm(offset - foot, axis=-1)
