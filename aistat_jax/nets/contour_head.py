"""What does a network say about an edge? Per ray a position and its noise; and whether it is there.

The head reads a U-Net's last features and log-odds along the rays of a star (edges.py). With y(a)
the log radius at which a reader drew the edge, relative to the target's rough radius, it says

    y ~ N(mu, Psi diag(S) Psi' + diag(s^2)),  Psi = (mean_sd, diag(amplitude) Phi),

mu(a), amplitude(a) and s(a) per ray, the spread of the mean per target; Phi and S the functions and
the spectrum of a Matern process on the circle (space/basis.py) whose lengthscale it has learned. An
error is correlated along the boundary, and larger where the edge is vague. It is trained by that
marginal likelihood, in closed form through the basis x basis matrix
M = diag(1/S) + Psi' diag(1/s^2) Psi (`log_marginal`), and by the Bernoulli likelihood of presence:
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
from aistat_jax.space.basis import circle_basis, equal_angles, spectral_variance

RAYS, HARMONICS, NU = 64, 16, 1.5
# Radii at which features are read, relative to the target's rough radius: log-spaced.
POSITIONS = np.linspace(math.log(0.15), math.log(3.0), 32)
WIDTH, SLOPE = 16, 0.1
LEAST_NOISE, LEAST_VARIANCE = 0.01, 1e-7
NOISE, AMPLITUDE, LENGTHSCALE, MEAN_SD = 0.05, 0.08, 0.45, 0.08  # where training starts
# How far, as a log, a spread may go from there. 0.08 exp(2) = 0.59 is the spread of the mean of a
# head which knows nothing (over targets to learn from, the mean has sd 0.43); where nothing is
# drawn no likelihood holds a spread down, and without a bound it reached 2.5.
LEAST_FACTOR, MOST_FACTOR = -4.0, 2.0


class Edge(NamedTuple):
    """What the head says of targets, in units of log radius relative to the rough radius.

    Shapes: mean, noise, amplitude (*batch, ray); mean_sd, presence (*batch,), presence as
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
        self.errors = Linear(WIDTH + 1, 2)
        self.whole = Linear(2 * WIDTH + 1, 2 * WIDTH)
        self.spread = Linear(2 * WIDTH, 2)
        self.presence = Linear(2 * WIDTH, 1)
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
        errors = self.errors(jnp.concatenate([at_edge, jnp.log(width)[..., None]], axis=-1))
        whole = jnp.concatenate(
            [at_edge.mean(axis=1), h.mean(axis=(1, 2)), 0.3 * log_radius[:, None]], axis=-1
        )
        whole = rectify(self.whole(whole), SLOPE)
        spread = self.spread(whole)
        return Edge(
            mean,
            LEAST_NOISE + NOISE * _factor(errors[..., 0]),
            AMPLITUDE * _factor(errors[..., 1] + spread[:, :1]),
            MEAN_SD * _factor(spread[:, 1]),
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


def _factor(log: Array) -> Array:
    return jnp.exp(_bounded(log))


@jax.custom_vjp
def _bounded(log: Array) -> Array:
    """`log` within its bounds. From beyond one a slope still leads back, and none further out."""
    return jnp.clip(log, LEAST_FACTOR, MOST_FACTOR)


def _bounded_forward(log: Array) -> tuple[Array, Array]:
    return _bounded(log), log


def _bounded_backward(log: Array, slope: Array) -> tuple[Array]:
    outward = ((log > MOST_FACTOR) & (slope < 0)) | ((log < LEAST_FACTOR) & (slope > 0))
    return (jnp.where(outward, 0.0, slope),)


_bounded.defvjp(_bounded_forward, _bounded_backward)


def _around(conv: Conv, x: Array) -> Array:
    """A convolution for which the rays close to a circle."""
    half = conv.kernel.shape[0] // 2
    joined = jnp.concatenate([x[:, -half:], x, x[:, :half]], axis=1)
    return conv(joined)[:, half:-half]


# ---------------------------------------------------------------------- marginal likelihood


def correlated(edge: Edge) -> tuple[Float[Array, "*batch ray basis"], Float[Array, " basis"]]:
    """The correlated error as Psi c, c ~ N(0, diag(S)): Psi and S."""
    circle = circle_basis(equal_angles(RAYS), HARMONICS)
    functions = jnp.asarray(circle.functions, jnp.float32)
    frequency = jnp.asarray(circle.frequency, jnp.float32)
    spectrum = spectral_variance(frequency, 1.0, edge.lengthscale, NU)
    scale = jnp.where(
        frequency == 0, jnp.asarray(edge.mean_sd)[..., None, None],
        jnp.asarray(edge.amplitude)[..., None],
    )  # fmt: skip
    return scale * functions, LEAST_VARIANCE + jnp.where(frequency == 0, 1.0, spectrum)


def covariance(edge: Edge) -> Float[np.ndarray, "*batch ray ray"]:
    """Covariance of the log radius at which the edge is said to lie: correlated error and noise."""
    psi, variance = (np.asarray(part, np.float64) for part in correlated(edge))
    waves = np.einsum("...rk,k,...sk->...rs", psi, variance, psi)
    return waves + np.square(edge.noise)[..., None] * np.eye(RAYS)


def log_marginal(edge: Edge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch"]:
    """log N(y; mu, Psi diag(S) Psi' + diag(s^2)), through a basis x basis Cholesky factor."""
    psi, variance = correlated(edge)
    precision = 1 / jnp.square(edge.noise)
    error = jnp.asarray(y) - edge.mean
    weighted = psi * precision[..., None]
    inner = jnp.einsum("...rk,...rl->...kl", psi, weighted) + jnp.diag(1 / variance)
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
