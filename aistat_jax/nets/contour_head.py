"""What does a network say about an edge? Per ray a position and its noise; and whether it is there.

The head reads a U-Net's last features and log-odds along the rays of a star (edges.py). With y(a)
the log radius at which a reader drew the edge, relative to the target's rough radius, it says

    y ~ N(mu, Phi diag(S) Phi' + diag(s^2)),

mu(a) and s(a) per ray; S the spectrum of a Matern process on the circle (space/basis.py) whose
amplitude and spread of the mean it says per target, and whose lengthscale it has learned. It is
trained by that marginal likelihood, in closed form through the basis x basis matrix
M = diag(1/S) + Phi' diag(1/s^2) Phi (`log_marginal`), and by the Bernoulli likelihood of presence:
the share of readers who drew anything at all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.nets.blocks import Conv, kernel, rectify
from aistat_jax.space.basis import CircleBasis, circle_basis, equal_angles, spectral_variance

RAYS, HARMONICS, NU = 64, 16, 1.5
# Radii at which features are read, relative to the target's rough radius: log-spaced.
POSITIONS = np.linspace(math.log(0.15), math.log(3.0), 32)
WIDTH, SLOPE = 16, 0.1
LEAST_NOISE, LEAST_VARIANCE = 0.01, 1e-7
AMPLITUDE, LENGTHSCALE, MEAN_SD = 0.08, 0.45, 0.08  # where training starts


class Edge(NamedTuple):
    """What the head says of targets, in units of log radius relative to the rough radius.

    Shapes: mean, noise (*batch, ray); amplitude, mean_sd, presence (*batch,), presence as
    log-odds; lengthscale () in radians.
    """

    mean: ArrayLike
    noise: ArrayLike
    amplitude: ArrayLike
    mean_sd: ArrayLike
    lengthscale: ArrayLike
    presence: ArrayLike


class ContourHead(nnx.Module):
    """From unrolled features (target, ray, position, feature) to an `Edge`."""

    def __init__(self, features: int) -> None:
        self.first = Conv(features + 1, WIDTH, (3, 3), (1, 1))
        self.second = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.third = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.score = Linear(WIDTH, 1)
        self.noise = Linear(WIDTH + 1, 1)
        self.spread = Linear(2 * WIDTH + 1, 2)
        self.presence = Linear(2 * WIDTH + 1, 1)
        self.log_lengthscale = nnx.Param(jnp.log(jnp.float32(LENGTHSCALE)))

    def __call__(self, x: Float[Array, "target ray position feature"], log_radius: Array) -> Edge:
        """Shapes: log_radius (target,), of the rough radius in voxels of the working grid."""
        size = jnp.broadcast_to(0.3 * log_radius[:, None, None, None], (*x.shape[:-1], 1))
        h = jnp.concatenate([x, size], axis=-1)
        for conv in (self.first, self.second, self.third):
            h = rectify(_around(conv, h), SLOPE)
        weight = jax.nn.softmax(self.score(h)[..., 0], axis=-1)
        positions = jnp.asarray(POSITIONS, jnp.float32)
        mean = weight @ positions
        width = jnp.sqrt(weight @ jnp.square(positions) - jnp.square(mean) + 1e-4)
        at_edge = jnp.einsum("brt,brtf->brf", weight, h)
        log_noise = self.noise(jnp.concatenate([at_edge, jnp.log(width)[..., None]], axis=-1))
        whole = jnp.concatenate(
            [at_edge.mean(axis=1), h.mean(axis=(1, 2)), 0.3 * log_radius[:, None]], axis=-1
        )
        spread = jnp.clip(self.spread(whole), -4.0, 4.0)
        return Edge(
            mean,
            LEAST_NOISE + 0.05 * jnp.exp(jnp.clip(log_noise[..., 0], -4.0, 4.0)),
            AMPLITUDE * jnp.exp(spread[:, 0]),
            MEAN_SD * jnp.exp(spread[:, 1]),
            jnp.exp(self.log_lengthscale[...]),
            self.presence(whole)[:, 0],
        )


class Linear(nnx.Module):
    """A linear map of the last axis."""

    def __init__(self, features: int, out: int) -> None:
        self.kernel = kernel((features, out), 1.0, features)
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))

    def __call__(self, x: Float[Array, "*batch feature"]) -> Float[Array, "*batch out"]:
        return x @ self.kernel[...] + self.bias[...]


def _around(conv: Conv, x: Array) -> Array:
    """A convolution for which the rays close to a circle."""
    half = conv.kernel.shape[0] // 2
    joined = jnp.concatenate([x[:, -half:], x, x[:, :half]], axis=1)
    return conv(joined)[:, half:-half]


# ---------------------------------------------------------------------- marginal likelihood


def basis() -> CircleBasis:
    """The Fourier functions (ray, basis) of the head's correlated error."""
    return circle_basis(equal_angles(RAYS), HARMONICS)


def variances(edge: Edge) -> Float[Array, "*batch basis"]:
    """Variance of every coefficient of the correlated error; the first is that of the mean."""
    frequency = jnp.asarray(basis().frequency, jnp.float32)
    unit = spectral_variance(frequency, 1.0, edge.lengthscale, NU)
    waves = jnp.square(edge.amplitude)[..., None] * unit
    mean = jnp.square(edge.mean_sd)[..., None] * (frequency == 0)
    return LEAST_VARIANCE + waves + mean


def covariance(edge: Edge) -> Float[np.ndarray, "*batch ray ray"]:
    """Covariance of the log radius at which the edge is said to lie: correlated error and noise."""
    functions = np.asarray(basis().functions)
    correlated = np.einsum("rk,...k,sk->...rs", functions, np.asarray(variances(edge)), functions)
    return correlated + np.square(edge.noise)[..., None] * np.eye(RAYS)


def log_marginal(edge: Edge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch"]:
    """log N(y; mu, Phi diag(S) Phi' + diag(s^2)), through a basis x basis Cholesky factor."""
    functions = jnp.asarray(basis().functions, jnp.float32)
    variance, precision = variances(edge), 1 / jnp.square(edge.noise)
    error = jnp.asarray(y) - edge.mean
    weighted = functions * precision[..., None]
    inner = jnp.einsum("rk,...rl->...kl", functions, weighted)
    inner = inner + jax.vmap(jnp.diag)(1 / variance.reshape(-1, variance.shape[-1])).reshape(
        inner.shape
    )
    factor = jnp.linalg.cholesky(inner)
    pulled = jnp.einsum("...rk,...r->...k", weighted, error)
    # The inverse factor serves all readers of a target at once, where a solve would repeat it.
    identity = jnp.broadcast_to(jnp.eye(factor.shape[-1]), factor.shape)
    inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    half = jnp.einsum("...kl,...l->...k", inverse, pulled)
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    return (
        -0.5 * jnp.sum(precision * jnp.square(error), axis=-1)
        + 0.5 * jnp.sum(jnp.square(half), axis=-1)
        - jnp.sum(jnp.log(diagonal), axis=-1)
        - 0.5 * jnp.sum(jnp.log(variance), axis=-1)
        - jnp.sum(jnp.log(edge.noise), axis=-1)
        - 0.5 * error.shape[-1] * math.log(2 * math.pi)
    )
