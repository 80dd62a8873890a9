"""Which functions make up a boundary? Laplace-Beltrami eigenfunctions of the circle, with spectra.

A field on the circle is f(a) = sum_k c_k phi_k(a) with phi_0 = 1 and, for harmonic k >= 1,
sqrt(2) cos(k a) and sqrt(2) sin(k a): every phi has mean square one. A stationary Gaussian
process gives independent c_k with variances proportional to a spectral density at k.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Float

# No harmonic has less than exp of this times the variance of the largest: a squared exponential
# would underflow to zero, and its precision to infinity.
LEAST_LOG_DENSITY = -80.0


@record
class CircleBasis:
    """Fourier basis on the rays of a star chart.

    Shapes: functions (ray, basis) with basis = 2 harmonics + 1; frequency (basis,), the
    harmonic of each column (0, 1, 1, 2, 2, ...).
    """

    functions: Float[ArrayLike, "ray basis"]
    frequency: Float[ArrayLike, " basis"]
    harmonics: int = static()


def equal_angles(rays: int) -> Float[np.ndarray, " ray"]:
    """Angles of equally spaced rays, counter-clockwise from 0."""
    return 2 * np.pi * np.arange(rays) / rays


def circle_basis(angles: Float[np.ndarray, " ray"], harmonics: int = 16) -> CircleBasis:
    """The constant and the first `harmonics` cosines and sines at the given angles.

    Raises InputError when the rays are too few to tell the harmonics apart.
    """
    if not 1 <= harmonics <= (len(angles) - 1) // 2:
        raise InputError(
            f"{harmonics} harmonics need at least {2 * harmonics + 1} rays, got {len(angles)}; "
            "use fewer harmonics or more rays"
        )
    order = np.arange(1, harmonics + 1)
    waves = np.asarray(angles)[:, None] * order
    pairs = np.sqrt(2.0) * np.stack([np.cos(waves), np.sin(waves)], axis=-1)
    functions = np.concatenate([np.ones((len(angles), 1)), pairs.reshape(len(angles), -1)], axis=1)
    frequency = np.concatenate([[0.0], np.repeat(order, 2).astype(float)])
    return CircleBasis(functions, frequency, harmonics)


def spectral_variance(
    frequency: Float[ArrayLike, " basis"],
    amplitude: Float[ArrayLike, ""] | float,
    lengthscale: Float[ArrayLike, ""] | float,
    smoothness: Float[ArrayLike, ""] | float,
) -> Float[Array, " basis"]:
    """Prior variances of the coefficients of a stationary process on the circle.

    Matern: (2 nu / l^2 + k^2)^-(nu + 1/2); `smoothness` nu may be any positive number and
    infinity gives the squared exponential exp(-k^2 l^2 / 2). Normalised over the harmonics
    k >= 1 in use, so that `amplitude` is the pointwise standard deviation of the field about
    its circular mean whatever the truncation. The constant (k = 0) gets variance zero here:
    the mean has a prior of its own. lengthscale in radians. All but the frequencies may be traced:
    another smoothness compiles nothing anew.

    Source: Borovitskiy et al. 2020, Matern Gaussian processes on Riemannian manifolds, eq. 9-10.
    """
    k2 = jnp.square(frequency)
    smooth = jnp.isinf(smoothness)
    nu = jnp.where(smooth, 1.0, smoothness)
    squared = 0.5 * k2 * jnp.square(lengthscale)
    # Relative to k = 0: no cancellation, so that large nu tends to the squared exponential.
    log_density = jnp.where(smooth, -squared, -(nu + 0.5) * jnp.log1p(squared / nu))
    log_density = jnp.where(frequency > 0, log_density, -jnp.inf)
    relative = jnp.maximum(log_density - jnp.max(log_density), LEAST_LOG_DENSITY)
    density = jnp.where(frequency > 0, jnp.exp(relative), 0.0)
    return jnp.square(amplitude) * density / jnp.sum(density)


def host_variance(
    frequency: ArrayLike, amplitude: float, lengthscale: float, smoothness: float
) -> Float[np.ndarray, " basis"]:
    """`spectral_variance` outside JAX: numpy, double precision whatever the JAX settings."""
    with jax.enable_x64(True):
        values = (frequency, amplitude, lengthscale, smoothness)
        return np.asarray(_compiled_variance(*(jnp.asarray(v, dtype=jnp.float64) for v in values)))


_compiled_variance = jax.jit(spectral_variance)
