"""What makes raters' contours of many cases alike, and what not? The program, consensus integrated.

On the eigenfunctions of the chart's base everything is diagonal: given the hyperparameters, the
biases and the habits, coefficient k of a case's drawings is its consensus plus independent errors,
and the consensus is integrated exactly; so is how hard a case is to draw, by Gauss-Hermite nodes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import logsumexp
from numpyro import distributions as dist

from aistat_jax._record import record, static
from aistat_jax._typing import Array
from aistat_jax.space.basis import spectral_variance

# Smoothness of a rater's error and of a shape (Matern), and nodes of what is integrated.
ERROR_SMOOTHNESS, SHAPE_SMOOTHNESS, NODES = 0.5, 1.5, 7
# What drawings differ by at the least, as a share of what they differ by at all: rounding.
LEAST = 0.02
# Degrees of freedom of the prior of an effect.
DEGREES = 2.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(NODES)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
# Of presence: whether a case is drawn may be all but certain, which few nodes would not tell.
_LEVELS, _SHARES = np.polynomial.hermite_e.hermegauss(41)
_LOG_SHARES = np.log(_SHARES / _SHARES.sum())


@record
class DrawnCases:
    """Drawings of cases, padded to as many a case.

    Shapes: coefficients (case, drawing, basis), circle (case, basis), size (case,); drawn and asked
    (case, drawing) 1 or 0; rater, tool (case, drawing) numbers; eigenvalues (basis,). `scale` is
    the root mean square by which drawings of one case differ, `usual` the median size, `habits`
    how many coefficients a rater's local habit has. Without `empties`, presence is not asked for.
    """

    coefficients: Any
    circle: Any
    size: Any
    drawn: Any
    asked: Any
    rater: Any
    tool: Any
    eigenvalues: Any
    scale: Any
    usual: Any
    dims: int = static()
    raters: int = static()
    tools: int = static()
    habits: int = static()
    exchangeable: bool = static()
    empties: bool = static()


def rater_program(data: DrawnCases) -> None:
    """The NumPyro program: hyperparameters, raters and tools; consensus and hardness integrated."""
    scale, usual = data.scale, data.usual
    sample, normal = numpyro.sample, dist.Normal
    sites: dict[str, Any] = {
        "noise": sample("noise", dist.LogNormal(jnp.log(scale), 1.0)),
        "constant_share": sample("constant_share", dist.Beta(2.0, 4.0)),
        "correlation": sample("correlation", dist.LogNormal(jnp.log(0.45 * usual), 0.7)),
        "size_exponent": sample("size_exponent", normal(0.3, 0.3)),
        "hardness": sample("hardness", dist.LogNormal(jnp.log(0.3), 0.7)),
        "shape_sd": sample("shape_sd", dist.LogNormal(jnp.log(0.15), 0.6)),
        "shape_lengthscale": sample("shape_lengthscale", dist.LogNormal(jnp.log(0.45), 0.5)),
    }
    if data.empties:
        sites["presence_level"] = sample("presence_level", normal(1.0, 1.5))
        sites["presence_case_sd"] = sample("presence_case_sd", dist.LogNormal(jnp.log(2.0), 0.4))
    for name, (size, count) in effects(data).items():
        sites[name] = sample(
            name, dist.MultivariateStudentT(DEGREES, jnp.zeros(count), size * jnp.eye(count))
        )
    numpyro.factor("contours", jnp.sum(logsumexp(log_likelihoods(data, sites), axis=0)))
    if data.empties:
        numpyro.factor("presence", log_presence(data, sites))


def effects(data: DrawnCases) -> dict[str, tuple[Any, int]]:
    """By name, the usual size of each kind of effect and how many there are of it.

    Effects of one kind are normal with a variance of its own, whose prior is inverse gamma
    (DEGREES / 2, DEGREES size^2 / 2). It is integrated: they are a multivariate t.
    """
    if data.exchangeable:
        return {}
    scale, raters = data.scale, data.raters
    found = {"bias": (0.2 * scale, raters), "spread": (0.15, raters)}
    if data.empties:
        found["presence_rater"] = (0.5, raters)
    if data.tools > 1:
        found["tool"] = (0.2 * scale, data.tools)
    if data.habits:
        found["habit"] = (0.1 * scale, raters * data.habits)
    return found


def effect_sds(
    data: DrawnCases, samples: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """A draw of each kind's sd, given the draws of its effects: inverse gamma again."""
    found = {}
    for name, (size, count) in effects(data).items():
        squares = DEGREES * np.square(float(size)) + np.square(samples[name]).sum(axis=-1)
        chi_square = rng.chisquare(DEGREES + count, len(squares))
        found[f"{name}_sd"] = np.sqrt(squares / chi_square)
    return found


def expected(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """What raters and tools add to the consensus. Shapes: (case, drawing, basis)."""
    shift = jnp.zeros(data.coefficients.shape)
    if data.exchangeable:
        return shift
    constant = sites["bias"][data.rater]
    if data.tools > 1:
        constant = constant + sites["tool"][data.tool]
    shift = shift.at[..., 0].add(constant)
    if data.habits:
        habit = jnp.reshape(sites["habit"], (data.raters, data.habits))
        shift = shift.at[..., 1 : 1 + data.habits].add(habit[data.rater])
    return shift


def error_variance(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """Variance of each coefficient of a rater's error, of noise 1. Shapes: (case, basis)."""
    share = sites["constant_share"]

    def one(size: Array) -> Array:
        spectrum = spectral_variance(
            data.eigenvalues, 1.0, sites["correlation"] / size, ERROR_SMOOTHNESS, data.dims
        )
        return (1 - share) * spectrum.at[0].set(share / (1 - share))

    return jax.vmap(one)(data.size)


def shape_variance(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """Prior variance of each coefficient of a consensus. Shapes: (case, basis)."""
    spectrum = spectral_variance(
        data.eigenvalues, sites["shape_sd"], sites["shape_lengthscale"], SHAPE_SMOOTHNESS, data.dims
    )
    return jnp.square(data.size)[:, None] * spectrum.at[0].set(1.0)


def case_scale(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """By what factor errors are larger in each case, at each node. Shapes: (node, case)."""
    hard = sites["hardness"] * jnp.asarray(_NODES)[:, None]
    return jnp.exp(hard + sites["size_exponent"] * jnp.log(data.size / data.usual))


def precisions(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """Of each drawn coefficient; 0 where nothing is. Shapes: (node, case, drawing, basis)."""
    noise = sites["noise"] * jnp.ones(data.rater.shape)
    if not data.exchangeable:
        noise = noise * jnp.exp(sites["spread"][data.rater])
    sd = case_scale(data, sites)[..., None] * noise
    least = jnp.square(LEAST * data.scale) / data.coefficients.shape[-1]
    variance = jnp.square(sd)[..., None] * error_variance(data, sites)[:, None] + least
    return data.drawn[..., None] / variance


def log_likelihoods(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """log weight of each node plus log density of each case's contours. Shapes: (node, case)."""
    weight, variance = precisions(data, sites), shape_variance(data, sites)
    off = data.coefficients - expected(data, sites) - data.circle[:, None]
    total = weight.sum(axis=2)
    pulled = (weight * off).sum(axis=2)
    square = (weight * jnp.square(off)).sum(axis=2) - jnp.square(pulled) / (total + 1 / variance)
    drawn = data.drawn[..., None] > 0
    volume = jnp.where(drawn, jnp.log(jnp.where(drawn, weight, 1.0)), 0.0).sum(axis=2)
    density = 0.5 * (volume - square - jnp.log1p(variance * total))
    return density.sum(axis=-1) + jnp.asarray(_LOG_WEIGHTS)[:, None]


def consensus(data: DrawnCases, sites: dict[str, Any], key: Array) -> tuple[Array, Array]:
    """A draw of each case's consensus (case, basis) and of its factor of error (case,)."""
    pick, noise = jax.random.split(key)
    node = jax.random.categorical(pick, log_likelihoods(data, sites), axis=0)
    cases = jnp.arange(len(data.size))
    weight = precisions(data, sites)[node, cases]
    variance = shape_variance(data, sites)
    off = data.coefficients - expected(data, sites) - data.circle[:, None]
    precision = weight.sum(axis=1) + 1 / variance
    mean = (weight * off).sum(axis=1) / precision
    z = jax.random.normal(noise, mean.shape)
    return jnp.asarray(data.circle + mean + z / jnp.sqrt(precision)), case_scale(data, sites)[
        node, cases
    ]


def presence_logits(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """Log-odds that each drawing is not empty, at each node. Shapes: (node, case, drawing)."""
    case = sites["presence_level"] + sites["presence_case_sd"] * jnp.asarray(_LEVELS)
    logits = jnp.broadcast_to(case[:, None, None], (len(_LEVELS), *data.rater.shape))
    if data.exchangeable:
        return logits
    return logits + sites["presence_rater"][data.rater]


def log_pattern(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """log weight of each node plus that of who drew in each case. Shapes: (node, case)."""
    logits = presence_logits(data, sites)
    each = log_sigmoid(jnp.where(data.drawn > 0, logits, -logits))
    return (data.asked * each).sum(axis=-1) + jnp.asarray(_LOG_SHARES)[:, None]


def log_presence(data: DrawnCases, sites: dict[str, Any]) -> Array:
    """log probability of who drew, given that somebody did: of other cases nobody would know."""
    nobody = (data.asked * log_sigmoid(-presence_logits(data, sites))).sum(axis=-1)
    log_nobody = logsumexp(nobody + jnp.asarray(_LOG_SHARES)[:, None], axis=0)
    pattern = logsumexp(log_pattern(data, sites), axis=0)
    # in padding cases nobody was asked, and nothing is learned
    known = data.asked.sum(axis=-1) > 0
    somebody = jnp.log1p(-jnp.exp(jnp.where(known, jnp.minimum(log_nobody, -1e-9), -1.0)))
    return jnp.where(known, pattern - somebody, 0.0).sum()


def probability_drawn(data: DrawnCases, sites: dict[str, Any], effect: Array) -> Array:
    """That one more rater, of log-odds `effect` above the mean, draws in each case (case,)."""
    weight = jax.nn.softmax(log_pattern(data, sites), axis=0)
    case = sites["presence_level"] + sites["presence_case_sd"] * jnp.asarray(_LEVELS)
    return (weight * sigmoid(case + effect)[:, None]).sum(axis=0)
