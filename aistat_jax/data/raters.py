"""How would several raters draw the same lesion? Truth plus a bias and a correlated slip."""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.data.textures import correlated_noise
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Plane


def simulate_raters(
    truth: Curve,
    seed: int,
    count: int = 4,
    *,
    bias_sd: float = 0.55,
    error_sd: float = 0.84,
    correlation_mm: float = 4.0,
    mean_bias: float = 0.0,
    vertices: int = 512,
) -> list[Curve]:
    """Contours of `count` raters of one true outline.

    A rater's contour is where signed distance to the truth = bias + error(point): the bias, drawn
    from N(mean_bias, bias_sd^2), dilates the whole outline; the error is a stationary normal
    field of sd `error_sd` and correlation exp(-(d / correlation_mm)^2). Offsets thus run along
    the normal, and sharp or concave outlines stay simple curves. Where a slip cuts a lesion in
    two, its largest part is returned. The defaults are those of measured raters: total sd 1 mm,
    three tenths of its variance constant over the slice, correlation length 4 mm. The same seed
    gives the same bits; raters are independent given the truth.

    Shapes: lengths in the curve's unit. Returns counter-clockwise curves of `vertices` points.
    Raises InputError for settings out of range, or errors under which a contour vanishes.

    >>> angles = 2 * np.pi * np.arange(360) / 360
    >>> circle = Curve(20 * np.stack([np.cos(angles), np.sin(angles)], axis=-1))
    >>> raters = simulate_raters(circle, seed=1, count=2, error_sd=0.0)
    >>> [float(np.sqrt(r.area / np.pi).round(2)) for r in raters]
    [19.65, 21.37]
    """
    if count < 1:
        raise InputError(f"count must be at least 1 rater, got {count}")
    if min(bias_sd, error_sd) < 0 or not correlation_mm > 0:
        raise InputError(
            "bias_sd and error_sd must be >= 0 and correlation_mm positive, got "
            f"{bias_sd}, {error_sd} and {correlation_mm}"
        )
    margin = abs(mean_bias) + 5 * (bias_sd + error_sd)
    plane = _fine_plane(truth, margin, correlation_mm)
    depth = signed_distance(truth, plane)
    step = float(plane.spacing[0])
    curves = []
    for stream in np.random.SeedSequence(seed).spawn(count):
        rng = np.random.default_rng(stream)
        offset = mean_bias + bias_sd * rng.standard_normal()
        offset = offset + error_sd * correlated_noise(rng, plane.shape, correlation_mm / step)
        found = contours_from_mask(np.clip(0.5 + (depth + offset) / (8 * step), 0, 1), plane)
        if not found:
            raise InputError(
                f"rater errors of sd {bias_sd} and {error_sd} wipe out a contour of area "
                f"{truth.area:.1f} {truth.unit}2; make them smaller"
            )
        curves.append(found[0].resample(vertices))
    return curves


def signed_distance(curve: Curve, plane: Plane) -> Float[np.ndarray, "nu nv"]:
    """Distance of each pixel centre to a closed curve, positive inside, in the plane's unit."""
    import shapely

    region = shapely.make_valid(shapely.Polygon(curve.points))
    edge = shapely.boundary(region)
    shapely.prepare(region)
    shapely.prepare(edge)
    points = plane.points()
    inside = shapely.contains_xy(region, points[..., 0], points[..., 1])
    return np.where(inside, 1.0, -1.0) * shapely.distance(shapely.points(points), edge)


def _fine_plane(truth: Curve, margin: float, correlation: float) -> Plane:
    """Square pixels around a curve, fine against its size and the correlation length."""
    low, high = truth.points.min(axis=0) - margin, truth.points.max(axis=0) + margin
    step = min(correlation / 8, float(np.sqrt(truth.area)) / 60)
    step = max(step, float((high - low).max()) / 600)
    shape = np.ceil((high - low) / step).astype(int) + 1
    return Plane(
        origin=low,
        spacing=np.full(2, step),
        offset=0.0,
        thickness=step,
        frame=np.eye(3),
        shape=(int(shape[0]), int(shape[1])),
        unit=truth.unit,
    )
