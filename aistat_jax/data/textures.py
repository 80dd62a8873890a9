"""What do noise and tissue add to an ideal image? Random fields with a stated correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError

PerAxis = float | Sequence[float] | np.ndarray
"""One number, or one for each axis."""


def correlation_at(distance: np.ndarray | float, correlation: float) -> np.ndarray:
    """Correlation of the fields of this file at a distance: exp(-(distance / correlation)^2).

    This is white noise passed through a Gaussian filter of sd correlation / 2. `correlation` is
    the 1/e distance, in the unit of `distance`; 0 means white.
    """
    distance = np.abs(np.asarray(distance, dtype=float))
    if correlation == 0:
        return np.where(distance == 0, 1.0, 0.0)
    return np.asarray(np.exp(-((distance / correlation) ** 2)))


def correlated_noise(
    rng: np.random.Generator, shape: Sequence[int], correlation: PerAxis = 0.0
) -> np.ndarray:
    """Stationary normal field with mean 0, variance 1 and a Gaussian correlation function.

    Drawn by circulant embedding, so that variance and correlation are exact at every lag and up
    to the borders; axes are independent factors. Correlation 0 is white noise.

    Shapes: correlation in samples, one number or one for each axis; returns `shape`.
    Raises InputError for a negative correlation.
    Source: Dietrich & Newsam 1997, SIAM J. Sci. Comput. 18.

    >>> correlated_noise(np.random.default_rng(0), (3, 4), 1.5).shape
    (3, 4)
    """
    from scipy.fft import next_fast_len

    lengths = np.broadcast_to(np.asarray(correlation, dtype=float), (len(shape),))
    if np.any(lengths < 0) or not np.all(np.isfinite(lengths)):
        raise InputError(f"the noise correlation must be finite and >= 0, got {correlation}")
    padded = list(shape)
    for axis, length in enumerate(lengths):
        if length > 0 and shape[axis] > 1:
            wanted = shape[axis] + int(np.ceil(5 * length))
            padded[axis] = int(next_fast_len(wanted, real=True) or wanted)
    field = rng.standard_normal(padded)
    for axis, (n, length) in enumerate(zip(padded, lengths, strict=True)):
        if n > 1 and length > 0:
            field = _colour(field, axis, length)
    return field[tuple(slice(n) for n in shape)]


def _colour(field: np.ndarray, axis: int, correlation: float) -> np.ndarray:
    """Give white noise, taken as periodic along an axis, the correlation function."""
    n = field.shape[axis]
    lag = np.minimum(np.arange(n), n - np.arange(n))
    power = np.maximum(np.fft.rfft(correlation_at(lag, correlation)).real, 0.0)
    full = power.sum() + power[1 : (n + 1) // 2].sum()
    filter_ = np.sqrt(power * n / full)
    along = filter_.reshape([-1 if i == axis else 1 for i in range(field.ndim)])
    return np.fft.irfft(np.fft.rfft(field, axis=axis) * along, n=n, axis=axis)


def pet_noise(
    rng: np.random.Generator,
    mean: np.ndarray,
    level: float,
    reference: float,
    correlation: PerAxis = 0.0,
) -> np.ndarray:
    """Poisson-like noise: sd = level * sqrt(reference * mean), spatially correlated.

    `level` is the relative noise where the mean equals `reference` (the background SUV).

    Shapes: mean any grid, correlation in voxels; returns the noise alone.
    Raises InputError for a negative level.
    """
    if not level >= 0:
        raise InputError(f"the noise level must be >= 0, got {level}")
    sd = level * np.sqrt(reference * np.maximum(mean, 0.0))
    return sd * correlated_noise(rng, mean.shape, correlation)


def lumps(
    rng: np.random.Generator, shape: Sequence[int], correlation: PerAxis, sd: float
) -> np.ndarray:
    """Positive log-normal texture of mean 1 and log-sd `sd` (heterogeneous uptake).

    Shapes: correlation in samples; returns `shape`.
    """
    return np.exp(sd * correlated_noise(rng, shape, correlation) - sd**2 / 2)


def waves(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """A smooth random function of the plane, kept as its waves, for any grid to read.

    Shapes: scale the correlation length; returns (count, 4): wave vector, phase, amplitude.
    """
    vectors = rng.standard_normal((count, 2)) * np.sqrt(2) / scale
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    return np.concatenate([vectors, phase, np.full((count, 1), np.sqrt(2 / count))], axis=1)


def read_waves(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of a function made by `waves` at points (x, y)."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for kx, ky, phase, height in field:
        total += height * np.cos(kx * x + ky * y + phase)
    return total
