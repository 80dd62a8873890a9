"""Which law of an edge do the numbers of a contour head stand for?

With y(a) the log radius at which a reader drew the edge, relative to the target's rough radius,

    y = mu + sigma h(Q L (sqrt(w) * z) / sigma),  z ~ N(0, I),  w_g ~ InvGamma(nu_g / 2, nu_g / 2),

    L = K diag(c),  Q K K' Q' = Psi diag(S) Psi' + diag(s^2),  Psi = (mean_sd, diag(amplitude) Phi),

mu(a), amplitude(a) and s(a) per ray, the spread of the mean per target; Phi and S the functions and
the spectrum of a Matern process on the circle (space/basis.py) whose lengthscale was learned: an
error is correlated along the boundary, and larger where the edge is vague. Given w = c = 1 and h
the identity it is a Gaussian process with that covariance. But targets differ by more than the head
can foresee, and one of a size hard to tell may have edges easy to see: size (the mean), form
(harmonics 1 to 5) and detail (finer) have an unknown scale each, w_g, for all its errors of that
kind, so that the law is a Student-t process (Shah, Wilson & Ghahramani 2014) in each, its degrees
of freedom nu_g learned too. Q are the orthonormal Fourier functions on the rays, coarse to fine,
and K is lower triangular: form is a t given the size, and detail given both.

h is a margin (space/margin.py), sigma^2 the diagonal of Q L L' Q'. A head learns by the likelihood
of whole edges; h, c and nu are found anew from errors on patients left out (recalibration.py).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from aistat_jax._typing import Array, ArrayLike, Bool, Float
from aistat_jax.space.basis import circle_basis, equal_angles, spectral_variance
from aistat_jax.space.margin import Margin

RAYS, HARMONICS, NU = 64, 16, 1.5
# What has a scale of its own about each target, with its finest harmonic.
FINEST = {"size": 0, "form": 5, "detail": RAYS // 2}


def _fourier() -> tuple[np.ndarray, np.ndarray]:
    """Q (ray, ray), orthonormal, from the constant to the finest, and which w each goes with."""
    circle = circle_basis(equal_angles(RAYS), RAYS // 2 - 1)
    finest = (-1.0) ** np.arange(RAYS)[:, None]
    functions = np.concatenate([np.asarray(circle.functions), finest], axis=1) / math.sqrt(RAYS)
    frequency = np.append(np.sqrt(circle.eigenvalues), RAYS // 2)
    return functions, np.searchsorted(list(FINEST.values()), frequency)


FOURIER, SCALE = _fourier()
OF_KIND = np.equal.outer(np.arange(len(FINEST)), SCALE).astype(np.float32)


class Edge(NamedTuple):
    """What the head says of targets, in units of log radius relative to the rough radius.

    Shapes: mean, noise, amplitude (*batch, ray); mean_sd, presence (*batch,), presence as
    log-odds; the same for all are lengthscale () in radians, degrees (kind,) of freedom, margin and
    c as scale, (kind,) or ().
    """

    mean: ArrayLike
    noise: ArrayLike
    amplitude: ArrayLike
    mean_sd: ArrayLike
    lengthscale: ArrayLike
    degrees: ArrayLike
    presence: ArrayLike
    margin: Margin = Margin()
    scale: ArrayLike | float = 1.0

    def at(self, index: Any) -> Edge:
        """The edges of some of the targets; what all share stays as it is."""
        shared = {"lengthscale", "degrees", "margin", "scale"}
        parts = self._asdict().items()
        return Edge(**{name: part if name in shared else part[index] for name, part in parts})


def covariance(edge: Edge) -> Float[Array, "*batch ray ray"]:
    """Q L L' Q', of the errors in log radius before they are bent, given that w = 1."""
    waves = jnp.asarray(FOURIER) @ spread(edge)
    return jnp.einsum("...rk,...sk->...rs", waves, waves)


def _waves(edge: Edge) -> Float[Array, "*batch ray basis"]:
    """Psi times the root of S."""
    circle = circle_basis(equal_angles(RAYS), HARMONICS)
    functions, constant = jnp.asarray(circle.functions), jnp.asarray(circle.eigenvalues) == 0
    spectrum = spectral_variance(circle.eigenvalues, 1.0, edge.lengthscale, NU)
    scale = jnp.where(
        constant, jnp.asarray(edge.mean_sd)[..., None, None],
        jnp.asarray(edge.amplitude)[..., None],
    )  # fmt: skip
    return scale * functions * jnp.sqrt(jnp.where(constant, 1.0, spectrum))


def spread(edge: Edge) -> Float[Array, "*batch basis basis"]:
    """L: what w and z make of the Fourier coefficients Q'(y - mu), coarse to fine."""
    waves, fourier = _waves(edge), jnp.asarray(FOURIER)
    noise = jnp.square(jnp.asarray(edge.noise))[..., None] * jnp.eye(RAYS)
    whole = jnp.einsum("...rk,...sk->...rs", waves, waves) + noise
    scale = jnp.broadcast_to(jnp.asarray(edge.scale), (len(FINEST),))
    # By ones and zeros: an index is of another type in double precision than in single.
    return jnp.linalg.cholesky(fourier.T @ whole @ fourier) * (scale @ jnp.asarray(OF_KIND))


def log_marginal(edge: Edge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch"]:
    """log p(y): a t of the size, times one of the form given it, times one of the detail.

    All of the straightened errors, times the slope of straightening them.
    """
    factor = spread(edge)
    # The inverse factor serves all readers of a target at once, where a solve would repeat it.
    identity = jnp.broadcast_to(jnp.eye(RAYS), factor.shape)
    inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    sd = ray_sd(factor)
    standard, log_slope = edge.margin.straighten((jnp.asarray(y) - edge.mean) / sd)
    whitened = jnp.einsum("...kl,...l->...k", inverse, (sd * standard) @ jnp.asarray(FOURIER))
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    total = jnp.sum(log_slope, axis=-1) - jnp.sum(jnp.log(diagonal), axis=-1)
    for g, degrees in enumerate(jnp.asarray(edge.degrees)):
        part = whitened[..., g == SCALE]
        total = total + log_t(jnp.sum(jnp.square(part), axis=-1), part.shape[-1], degrees)
    return total


def median(edge: Edge) -> Float[np.ndarray, "*batch ray"]:
    """The log radius that the edge is as likely beyond as within, on every ray."""
    return np.asarray(edge.mean + ray_sd(spread(edge)) * edge.margin.bend(jnp.zeros(())))


def ray_sd(factor: Float[ArrayLike, "*batch basis basis"]) -> Float[Array, "*batch ray"]:
    """sigma, of L."""
    return jnp.sqrt(jnp.sum(jnp.square(jnp.asarray(FOURIER) @ factor), axis=-1))


def log_t(square: Array, count: int | Array, degrees: Array) -> Array:
    """Log density of a standard multivariate t at a point with that squared length."""
    return (
        gammaln(0.5 * (degrees + count))
        - gammaln(0.5 * degrees)
        - 0.5 * count * jnp.log(math.pi * degrees)
        - 0.5 * (degrees + count) * jnp.log1p(square / degrees)
    )


# ---------------------------------------------------------------------- one ray at a time


def within(
    edge: Edge, y: Float[ArrayLike, "*batch ray"], level: float
) -> Bool[np.ndarray, "*batch ray"]:
    """Which rays of an edge lie within the central interval of that level at each.

    A ray's straightened error is a sum of three t; its distribution function is the mean over
    1,024 quasi-random w of the normal one given w, good to about .001.
    """
    from scipy.special import ndtr

    factor = spread(edge)
    standard, _ = edge.margin.straighten((np.asarray(y) - edge.mean) / ray_sd(factor))
    error, parts = np.abs(np.asarray(standard, np.float64)), kinds_of(on_rays(factor))
    content = np.zeros(error.shape)
    inflation = inflations(edge.degrees, 1024)
    for w in inflation:
        content += 2 * ndtr(error / np.sqrt(parts @ w)) - 1
    return content <= level * len(inflation)


def margin_of(numbers: Float[ArrayLike, "4"]) -> Margin:
    """From location, log scale, skew and log tail."""
    location, log_scale, skew, log_tail = jnp.asarray(numbers)
    return Margin(location, jnp.exp(log_scale), skew, jnp.exp(log_tail))


def on_rays(
    factor: Float[ArrayLike, "*batch basis basis"],
) -> Float[np.ndarray, "*batch ray basis"]:
    """What sqrt(w) * z is multiplied with to give errors on rays, in units of sigma."""
    waves = FOURIER @ np.asarray(factor, np.float64)
    return waves / np.linalg.norm(waves, axis=-1, keepdims=True)


def kinds_of(
    waves: Float[np.ndarray, "*batch ray basis"],
) -> Float[np.ndarray, "*batch ray kind"]:
    """The variance on a ray that each kind of error has to it, if w = 1."""
    square = np.square(waves)
    return np.stack([square[..., g == SCALE].sum(axis=-1) for g in range(len(FINEST))], axis=-1)


def inflations(degrees: ArrayLike, count: int) -> Float[np.ndarray, "count kind"]:
    """Quasi-random w."""
    from scipy.stats import invgamma, qmc

    points = qmc.Sobol(len(FINEST), scramble=False).random(count) + 0.5 / count
    half = 0.5 * np.asarray(degrees, np.float64)
    return invgamma.ppf(points, half, scale=half)
