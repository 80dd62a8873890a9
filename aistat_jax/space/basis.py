"""Which functions make up a boundary? Laplace-Beltrami eigenfunctions of its base, with spectra.

The base is what the sites of a chart lie on: a circle for a star in a plane, a sphere for one in
space. A field on the circle is f(a) = sum_k c_k phi_k(a) with phi_0 = 1 and, for harmonic k >= 1,
sqrt(2) cos(k a) and sqrt(2) sin(k a): every phi has mean square one. A stationary Gaussian
process gives independent c_k with variances proportional to a spectral density at the eigenvalue,
which is k^2 on the circle.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Float

# No function has less than exp of this times the variance of the largest: a squared exponential
# would underflow to zero, and its precision to infinity.
LEAST_LOG_DENSITY = -80.0


@record
class Basis:
    """Eigenfunctions of the Laplace-Beltrami operator on the sites of a chart, to an order.

    Every function has mean square one over the base, of `dims` dimensions: 1 for a circle, 2 for a
    sphere. The first is constant. Of the operator's sign there are two conventions: here no
    eigenvalue is negative.

    With several `blocks`, independent fields on as many sets of sites, the functions of each are
    zero elsewhere, and the first of all are the constants.

    Shapes: functions (site, basis); eigenvalues (basis,), on the circle 0, 1, 1, 4, 4, 9, ...
    """

    functions: Float[ArrayLike, "site basis"]
    eigenvalues: Float[ArrayLike, " basis"]
    dims: int = static(default=1)
    order: int = static(default=0)
    blocks: int = static(default=1)


def equal_angles(rays: int) -> Float[np.ndarray, " ray"]:
    """Angles of equally spaced rays, counter-clockwise from 0."""
    return 2 * np.pi * np.arange(rays) / rays


def circle_basis(angles: Float[np.ndarray, " ray"], harmonics: int = 16) -> Basis:
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
    eigenvalues = np.concatenate([[0.0], np.square(np.repeat(order, 2).astype(float))])
    return Basis(functions, eigenvalues, 1, harmonics)


def repeated(basis: Basis, blocks: int) -> Basis:
    """A basis of so many independent fields, each on sites of its own: f1, g1, f2, g2, ..."""
    each = np.asarray(basis.functions)
    functions = np.zeros((blocks, len(each), each.shape[1], blocks))
    for block in range(blocks):
        functions[block, :, :, block] = each
    whole = functions.reshape(blocks * len(each), -1)
    return Basis(whole, np.repeat(basis.eigenvalues, blocks), basis.dims, basis.order, blocks)


def spectral_variance(
    eigenvalues: Float[ArrayLike, " basis"],
    amplitude: Float[ArrayLike, ""] | float,
    lengthscale: Float[ArrayLike, ""] | float,
    smoothness: Float[ArrayLike, ""] | float,
    dims: int = 1,
    blocks: int = 1,
) -> Float[Array, " basis"]:
    """Prior variances of the coefficients of a stationary process on a base of `dims` dimensions.

    Matern: (2 nu / l^2 + lambda)^-(nu + dims / 2) at the eigenvalue lambda; `smoothness` nu may be
    any positive number and infinity gives the squared exponential exp(-lambda l^2 / 2). Normalised
    over the functions in use that are not constant, so that `amplitude` is the pointwise standard
    deviation of the field about its mean whatever the truncation (on a sphere, of whole degrees),
    in each of so many equal `blocks`. The constants (lambda = 0) get variance zero here: the mean
    has a prior of its own. lengthscale in radians on a circle or sphere. All but the eigenvalues
    may be traced: another smoothness compiles nothing anew.

    Source: Borovitskiy et al. 2020, Matern Gaussian processes on Riemannian manifolds, eq. 9-10.
    """
    eigenvalues = jnp.asarray(eigenvalues)
    smooth = jnp.isinf(smoothness)
    nu = jnp.where(smooth, 1.0, smoothness)
    squared = 0.5 * eigenvalues * jnp.square(lengthscale)
    # Relative to lambda = 0: no cancellation, so that large nu tends to the squared exponential.
    log_density = jnp.where(smooth, -squared, -(nu + 0.5 * dims) * jnp.log1p(squared / nu))
    log_density = jnp.where(eigenvalues > 0, log_density, -jnp.inf)
    relative = jnp.maximum(log_density - jnp.max(log_density), LEAST_LOG_DENSITY)
    density = jnp.where(eigenvalues > 0, jnp.exp(relative), 0.0)
    return jnp.square(amplitude) * density / (jnp.sum(density) / blocks)


def host_variance(
    eigenvalues: ArrayLike, amplitude: float, lengthscale: float, smoothness: float, dims: int = 1
) -> Float[np.ndarray, " basis"]:
    """`spectral_variance` outside JAX: numpy, double precision whatever the JAX settings."""
    with jax.enable_x64(True):
        values = (eigenvalues, amplitude, lengthscale, smoothness)
        arrays = (jnp.asarray(v, dtype=jnp.float64) for v in values)
        return np.asarray(_compiled_variance(*arrays, dims))


_compiled_variance = jax.jit(spectral_variance, static_argnums=4)
