"""Which law of an edge do the numbers of a contour head stand for?

With y(a) the log radius at which a reader drew the edge, relative to the target's rough radius,

    y = mu + sigma h(Q L (sqrt(w) * z) / sigma),  z ~ N(0, I),  w_g ~ InvGamma(nu_g / 2, nu_g / 2),

    Q L L' Q' = C = Psi diag(S) Psi' + diag(s^2),  Psi = (mean_sd, diag(amplitude) Phi),

mu(a), amplitude(a) and s(a) per ray, the spread of the mean per target; Phi and S the functions and
the spectrum of a Matern process on the circle (space/basis.py) whose lengthscale was learned: an
error is correlated along the boundary, and larger where the edge is vague. Given w = 1 and h the
identity it is a Gaussian process with covariance C. But targets differ by more than the head can
foresee, and one of a size hard to tell may have edges easy to see: size (the mean), form (harmonics
1 to 5) and detail (finer) have an unknown scale each, w_g, for all of a target's errors of that
kind, so that the law is a Student-t process (Shah, Wilson & Ghahramani 2014) in each, its degrees
of freedom nu_g learned too. Q are the orthonormal Fourier functions on the rays, coarse to fine,
and L is lower triangular: form is a t given the size, and detail given both.

h is a margin (space/margin.py), sigma^2 the diagonal of C. The likelihood of whole edges, which a
head learns by, is about how errors hang together; of how they are spread on any one ray it says
little, and what it says is not what other patients show. So h is found afterwards, all else held
fast, from errors on rays alone (`fitted_margin`): the margins are calibrated anew, as Kuleshov,
Fenner & Ermon 2018 do for single numbers (Accurate uncertainties for deep learning, ICML), and how
errors hang together stays as it was learned, as by a copula.
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
# Of how many patients a margin may be believed, and how far from none its numbers may go: errors
# with tails lighter than a normal's would take scale and tail to infinity together.
LEAST_FOR_MARGIN, FARTHEST_BEND = 5, 1.0
MARGIN_SD = 0.3


def _fourier() -> tuple[np.ndarray, np.ndarray]:
    """Q (ray, ray), orthonormal, from the constant to the finest, and which w each goes with."""
    circle = circle_basis(equal_angles(RAYS), RAYS // 2 - 1)
    finest = (-1.0) ** np.arange(RAYS)[:, None]
    functions = np.concatenate([np.asarray(circle.functions), finest], axis=1) / math.sqrt(RAYS)
    frequency = np.append(np.sqrt(circle.eigenvalues), RAYS // 2)
    return functions, np.searchsorted(list(FINEST.values()), frequency)


FOURIER, SCALE = _fourier()


class Edge(NamedTuple):
    """What the head says of targets, in units of log radius relative to the rough radius.

    Shapes: mean, noise, amplitude (*batch, ray); mean_sd, presence (*batch,), presence as
    log-odds; lengthscale () in radians, degrees (scale,) of freedom and margin, the same for all.
    """

    mean: ArrayLike
    noise: ArrayLike
    amplitude: ArrayLike
    mean_sd: ArrayLike
    lengthscale: ArrayLike
    degrees: ArrayLike
    presence: ArrayLike
    margin: Margin = Margin()

    def at(self, index: Any) -> Edge:
        """The edges of some of the targets; what all share stays as it is."""
        shared = {"lengthscale", "degrees", "margin"}
        parts = self._asdict().items()
        return Edge(**{name: part if name in shared else part[index] for name, part in parts})


def covariance(edge: Edge) -> Float[Array, "*batch ray ray"]:
    """C, the covariance of v, the errors in log radius before they are bent, given that w = 1."""
    waves, noise = _waves(edge), jnp.square(jnp.asarray(edge.noise))[..., None] * jnp.eye(RAYS)
    return jnp.einsum("...rk,...sk->...rs", waves, waves) + noise


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


def spread(edge: Edge) -> Float[Array, "*batch ray ray"]:
    """L: what w and z make of the Fourier coefficients Q'(y - mu), coarse to fine."""
    fourier = jnp.asarray(FOURIER)
    return jnp.linalg.cholesky(fourier.T @ covariance(edge) @ fourier)


def log_marginal(edge: Edge, y: Float[ArrayLike, "*batch ray"]) -> Float[Array, "*batch"]:
    """log p(y): a t of the size, times one of the form given it, times one of the detail.

    All of the straightened errors, times the slope of straightening them.
    """
    factor = spread(edge)
    # The inverse factor serves all readers of a target at once, where a solve would repeat it.
    identity = jnp.broadcast_to(jnp.eye(RAYS), factor.shape)
    inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    sd = _sd(edge)
    standard, log_slope = edge.margin.straighten((jnp.asarray(y) - edge.mean) / sd)
    whitened = jnp.einsum("...kl,...l->...k", inverse, (sd * standard) @ jnp.asarray(FOURIER))
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    total = jnp.sum(log_slope, axis=-1) - jnp.sum(jnp.log(diagonal), axis=-1)
    for g, degrees in enumerate(jnp.asarray(edge.degrees)):
        part = whitened[..., g == SCALE]
        total = total + _log_t(jnp.sum(jnp.square(part), axis=-1), part.shape[-1], degrees)
    return total


def median(edge: Edge) -> Float[np.ndarray, "*batch ray"]:
    """The log radius that the edge is as likely beyond as within, on every ray."""
    return np.asarray(edge.mean + _sd(edge) * edge.margin.bend(jnp.zeros(())))


def _sd(edge: Edge) -> Float[Array, "*batch ray"]:
    """The root of the diagonal of C."""
    waves = _waves(edge)
    return jnp.sqrt(jnp.sum(jnp.square(waves), axis=-1) + jnp.square(jnp.asarray(edge.noise)))


def _log_t(square: Array, count: int, degrees: Array) -> Array:
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

    standard, _ = edge.margin.straighten((np.asarray(y) - edge.mean) / _sd(edge))
    error, parts = np.abs(np.asarray(standard, np.float64)), _parts(edge)
    content = np.zeros(error.shape)
    inflation = _inflation(edge, 1024)
    for w in inflation:
        content += 2 * ndtr(error / np.sqrt(parts @ w)) - 1
    return content <= level * len(inflation)


class RayErrors(NamedTuple):
    """How far off a head is on single rays of edges that were drawn.

    Shapes: error (edge, few) in units of its sd; variance (edge, few, point), what it would be
    under each of some quasi-random w; patient and fold (edge,), whose edge it is and which fold
    of patients was left out when the head learned.
    """

    error: Float[np.ndarray, "edge few"]
    variance: Float[np.ndarray, "edge few point"]
    patient: np.ndarray
    fold: np.ndarray


def ray_errors(
    edge: Edge, y: Float[ArrayLike, "edge ray"], patient: np.ndarray, fold: int
) -> RayErrors:
    """Of edges of these patients, on every fourth ray; its neighbours say the same."""
    error, few = np.asarray((np.asarray(y) - edge.mean) / _sd(edge)), np.s_[:, ::4]
    variance = (_parts(edge)[few] @ _inflation(edge, 256).T).astype(np.float32)
    return RayErrors(error[few], variance, patient, np.full(len(patient), fold))


def fitted_margin(found: RayErrors) -> Float[np.ndarray, "4"]:
    """The margin (`margin_of`) under which errors on rays are likeliest; none where none pays.

    By a composite likelihood: rays count as if they were independent (Varin, Reid & Firth 2011, An
    overview of composite likelihood methods). Fitted without a fold of the patients it must make
    the rays of that fold likelier, by more than two standard errors over at least LEAST_FOR_MARGIN:
    of few it is better not to believe it. No number goes further than FARTHEST_BEND.
    """
    names = np.unique(found.patient)
    if len(names) < LEAST_FOR_MARGIN:
        return np.zeros(4, np.float32)
    gain = np.zeros(len(found.error))
    for k in np.unique(found.fold):
        out, rest = found.fold == k, found.fold != k
        there = found.error[out], found.variance[out]
        numbers = _likeliest_margin(found.error[rest], found.variance[rest])
        gain[out] = np.mean(_log_density(numbers, *there) - _log_density(np.zeros(4), *there), -1)
    each = np.array([gain[found.patient == name].mean() for name in names])
    if not each.mean() > 2 * each.std(ddof=1) / math.sqrt(len(each)):
        return np.zeros(4, np.float32)
    return _likeliest_margin(found.error, found.variance)


def spread_margin(found: RayErrors) -> Float[np.ndarray, "4"]:
    """The margin of scale and tail alone under which errors on rays are likeliest, shrunk.

    Patients count alike, each as one observation beside the prior, normal about no margin with sd
    MARGIN_SD, so that of few patients little is believed and of none nothing.
    """
    from scipy.optimize import minimize

    _, whose, count = np.unique(found.patient, return_inverse=True, return_counts=True)
    share = jnp.asarray(1 / count[whose], jnp.float32)
    there = jnp.asarray(found.error, jnp.float32), jnp.asarray(found.variance, jnp.float32)
    free = jnp.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

    @jax.jit
    @jax.value_and_grad
    def loss(numbers: Array) -> Array:
        fit = jnp.sum(share * jnp.mean(_log_density(numbers @ free, *there), axis=-1))
        return 0.5 * jnp.sum(jnp.square(numbers / MARGIN_SD)) - fit

    def in_double(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(jnp.asarray(numbers, jnp.float32))
        return float(value), np.asarray(slope, np.float64)

    numbers = minimize(in_double, np.zeros(2), jac=True, method="L-BFGS-B").x
    return np.asarray(numbers @ np.asarray(free), np.float32)


def _likeliest_margin(error: np.ndarray, variance: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    loss = jax.jit(jax.value_and_grad(lambda numbers: -jnp.mean(_log_density(numbers, *there))))
    there = jnp.asarray(error, jnp.float32), jnp.asarray(variance, jnp.float32)

    def in_double(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(jnp.asarray(numbers, jnp.float32))
        return float(value), np.asarray(slope, np.float64)

    bounds = 4 * [(-FARTHEST_BEND, FARTHEST_BEND)]
    found = minimize(in_double, np.zeros(4), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, np.float32)


def _log_density(numbers: ArrayLike, error: ArrayLike, variance: ArrayLike) -> Array:
    """Of single errors, but for a constant: a mixture of normals over w, bent."""
    standard, log_slope = margin_of(numbers).straighten(error)
    variance = jnp.asarray(variance)
    exponent = -0.5 * (jnp.log(variance) + jnp.square(standard)[..., None] / variance)
    return log_slope + jax.scipy.special.logsumexp(exponent, axis=-1)


def margin_of(numbers: Float[ArrayLike, "4"]) -> Margin:
    """From location, log scale, skew and log tail."""
    location, log_scale, skew, log_tail = jnp.asarray(numbers)
    return Margin(location, jnp.exp(log_scale), skew, jnp.exp(log_tail))


def _parts(edge: Edge) -> Float[np.ndarray, "*batch ray scale"]:
    """How much of the variance on a ray, as a share, each scale has to it."""
    on_rays = np.square(FOURIER @ np.asarray(spread(edge), np.float64))
    parts = np.stack([on_rays[..., g == SCALE].sum(axis=-1) for g in range(len(FINEST))], axis=-1)
    return parts / parts.sum(axis=-1, keepdims=True)


def _inflation(edge: Edge, count: int) -> Float[np.ndarray, "count scale"]:
    """Quasi-random w."""
    from scipy.stats import invgamma, qmc

    points = qmc.Sobol(len(FINEST), scramble=False).random(count) + 0.5 / count
    half = 0.5 * np.asarray(edge.degrees, np.float64)
    return invgamma.ppf(points, half, scale=half)
