"""What does a network say about an edge? Per ray a position and its noise; and whether it is there.

The head reads a U-Net's last features and log-odds along the rays of a star (edges.py). With y(a)
the log radius at which a reader drew the edge, relative to the target's rough radius, it says

    y = mu + Q L (sqrt(w) * z),  z ~ N(0, I),  w_g ~ InvGamma(nu_g / 2, nu_g / 2),

    Q L L' Q' = C = Psi diag(S) Psi' + diag(s^2),  Psi = (mean_sd, diag(amplitude) Phi),

mu(a), amplitude(a) and s(a) per ray, the spread of the mean per target; Phi and S the functions and
the spectrum of a Matern process on the circle (space/basis.py) whose lengthscale it has learned: an
error is correlated along the boundary, and larger where the edge is vague. Given w = 1 it is a
Gaussian process with covariance C. But targets differ by more than the head can foresee, and one of
a size hard to tell may have edges easy to see: size (the mean), form (harmonics 1 to 5) and detail
(finer) have an unknown scale each, w_g, for all of a target's errors of that kind, so that the law
is a Student-t process (Shah, Wilson & Ghahramani 2014) in each, its degrees of freedom nu_g learned
too. Q are the orthonormal Fourier functions on the rays, coarse to fine, and L is lower triangular:
form is a t given the size, and detail given both. The head is trained by that marginal likelihood,
in closed form (`log_marginal`), and by the Bernoulli likelihood of presence: the share of readers
who drew anything at all.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import gammaln

from aistat_jax._typing import Array, ArrayLike, Bool, Float
from aistat_jax.nets.blocks import Conv, kernel, rectify
from aistat_jax.space.basis import circle_basis, equal_angles, spectral_variance

RAYS, HARMONICS, NU = 64, 16, 1.5
# What has a scale of its own about each target, with its finest harmonic.
FINEST = {"size": 0, "form": 5, "detail": RAYS // 2}
# Radii at which features are read, relative to the target's rough radius: log-spaced.
NEAREST, FARTHEST = 0.15, 3.0
POSITIONS = np.linspace(math.log(NEAREST), math.log(FARTHEST), 32)
WIDTH, SLOPE = 16, 0.1
LEAST_NOISE = 0.01
# Where training starts.
NOISE, AMPLITUDE, LENGTHSCALE, MEAN_SD, DEGREES = 0.05, 0.08, 0.45, 0.08, 6.0
# How far, as a log, a spread may go from there. 0.08 exp(2) = 0.59 is the spread of the mean of a
# head which knows nothing (over targets to learn from, the mean has sd 0.43); where nothing is
# drawn no likelihood holds a spread down, and without a bound it reached 2.5.
LEAST_FACTOR, MOST_FACTOR = -4.0, 2.0


def _fourier() -> tuple[np.ndarray, np.ndarray]:
    """Q (ray, ray), orthonormal, from the constant to the finest, and which w each goes with."""
    circle = circle_basis(equal_angles(RAYS), RAYS // 2 - 1)
    finest = (-1.0) ** np.arange(RAYS)[:, None]
    functions = np.concatenate([np.asarray(circle.functions), finest], axis=1) / math.sqrt(RAYS)
    frequency = np.append(circle.frequency, RAYS // 2)
    return functions, np.searchsorted(list(FINEST.values()), frequency)


FOURIER, SCALE = _fourier()


class Edge(NamedTuple):
    """What the head says of targets, in units of log radius relative to the rough radius.

    Shapes: mean, noise, amplitude (*batch, ray); mean_sd, presence (*batch,), presence as
    log-odds; lengthscale () in radians and degrees (scale,) of freedom, the same for all.
    """

    mean: ArrayLike
    noise: ArrayLike
    amplitude: ArrayLike
    mean_sd: ArrayLike
    lengthscale: ArrayLike
    degrees: ArrayLike
    presence: ArrayLike

    def at(self, index: Any) -> Edge:
        """The edges of some of the targets; lengthscale and degrees are those of all."""
        shared = {"lengthscale", "degrees"}
        parts = self._asdict().items()
        return Edge(**{name: part if name in shared else part[index] for name, part in parts})


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
        self.log_degrees = nnx.Param(jnp.full(len(FINEST), math.log(DEGREES), jnp.float32))

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
            jnp.exp(self.log_degrees[...]),
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


def covariance(edge: Edge) -> Float[Array, "*batch ray ray"]:
    """C, the covariance of the log radius at which the edge is said to lie, given that w = 1."""
    circle = circle_basis(equal_angles(RAYS), HARMONICS)
    functions, frequency = jnp.asarray(circle.functions), jnp.asarray(circle.frequency)
    spectrum = spectral_variance(frequency, 1.0, edge.lengthscale, NU)
    scale = jnp.where(
        frequency == 0, jnp.asarray(edge.mean_sd)[..., None, None],
        jnp.asarray(edge.amplitude)[..., None],
    )  # fmt: skip
    waves = scale * functions * jnp.sqrt(jnp.where(frequency == 0, 1.0, spectrum))
    noise = jnp.square(edge.noise)[..., None] * jnp.eye(RAYS)
    return jnp.einsum("...rk,...sk->...rs", waves, waves) + noise


def spread(edge: Edge) -> Float[Array, "*batch ray ray"]:
    """L: what w and z make of the Fourier coefficients Q'(y - mu), coarse to fine."""
    fourier = jnp.asarray(FOURIER)
    return jnp.linalg.cholesky(fourier.T @ covariance(edge) @ fourier)


def log_marginal(edge: Edge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch"]:
    """log p(y): a t of the size, times one of the form given it, times one of the detail."""
    factor = spread(edge)
    # The inverse factor serves all readers of a target at once, where a solve would repeat it.
    identity = jnp.broadcast_to(jnp.eye(RAYS), factor.shape)
    inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    error = (jnp.asarray(y) - edge.mean) @ jnp.asarray(FOURIER)
    whitened = jnp.einsum("...kl,...l->...k", inverse, error)
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    total = -jnp.sum(jnp.log(diagonal), axis=-1)
    for g, degrees in enumerate(jnp.asarray(edge.degrees)):
        part = whitened[..., g == SCALE]
        total = total + _log_t(jnp.sum(jnp.square(part), axis=-1), part.shape[-1], degrees)
    return total


def _log_t(square: Array, count: int, degrees: Array) -> Array:
    """Log density of a standard multivariate t at a point with that squared length."""
    return (
        gammaln(0.5 * (degrees + count))
        - gammaln(0.5 * degrees)
        - 0.5 * count * jnp.log(math.pi * degrees)
        - 0.5 * (degrees + count) * jnp.log1p(square / degrees)
    )


def within(
    edge: Edge, y: Float[ArrayLike, "*batch ray"], level: float
) -> Bool[np.ndarray, "*batch ray"]:
    """Which rays of an edge lie within the central interval of that level at each.

    A ray's error is a sum of three t; its distribution function is the mean over 1,024
    quasi-random w of the normal one given w, good to about .001.
    """
    from scipy.special import ndtr
    from scipy.stats import invgamma, qmc

    points = qmc.Sobol(len(FINEST), scramble=False).random(1024) + 0.5 / 1024
    half = 0.5 * np.asarray(edge.degrees, np.float64)
    inflation = invgamma.ppf(points, half, scale=half)
    on_rays = np.square(FOURIER @ np.asarray(spread(edge), np.float64))
    parts = np.stack([on_rays[..., g == SCALE].sum(axis=-1) for g in range(len(FINEST))], axis=-1)
    error = np.abs(np.asarray(y) - edge.mean)
    content = np.zeros(error.shape)
    for w in inflation:
        content += 2 * ndtr(error / np.sqrt(parts @ w)) - 1
    return content <= level * len(inflation)
