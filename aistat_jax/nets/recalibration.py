"""What do errors on patients left out say of the law of an edge that a head has learned?

The likelihood of whole edges, which a head learns by, is about how errors hang together; of how
they are spread on any one ray it says little, and what it says is not what other patients show. So
once a head has learned, the margin h of its law (edge_law.py) is found from errors on rays alone,
of patients left out: margins are calibrated anew, as Kuleshov, Fenner & Ermon 2018 do for single
numbers (Accurate uncertainties for deep learning, ICML). What is common to a target's errors, c_g
and nu_g, is found from whole edges straightened by h, as a copula is once margins are known (Joe
1997, Multivariate models and dependence concepts, sec. 10.1): errors that are far off on a few rays
are the margin's, and said to be a target's own they would make bands of whole boundaries far too
wide. Each is found in turn, ROUNDS times (`recalibrated`). Of few patients scale and tail of the
margin alone are found, shrunk to none (`spread_margin`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.nets.edge_law import (
    FINEST,
    SCALE,
    Edge,
    inflations,
    kinds_of,
    log_t,
    margin_of,
    on_rays,
    ray_sd,
    spread,
)

# Of how many patients a margin may be believed, and how far from none its numbers may go: errors
# with tails lighter than a normal's would take scale and tail to infinity together.
LEAST_FOR_MARGIN, FARTHEST_BEND = 5, 1.0
MARGIN_SD = 0.3
# Of its rays a margin is told every so many, for its neighbours say the same; under so many w; and
# how often it is found in turn with what is common. Between which degrees of freedom are found.
EVERY, POINTS, ROUNDS, FREEDOM = 4, 128, 3, (1.5, 200.0)


class Errors(NamedTuple):
    """How far off a head is on edges that were drawn, of patients that it has not learned from.

    Shapes: error (edge, ray) in units of sigma; parts (edge, ray, kind), the share of its variance
    that each kind of error has; inverse (edge, basis, ray), what makes sqrt(w) * z of such an error
    that is not bent; degrees (edge, kind); patient and fold (edge,), whose edge it is and which
    fold of patients was left out when the head learned.
    """

    error: Float[np.ndarray, "edge ray"]
    parts: Float[np.ndarray, "edge ray kind"]
    inverse: Float[np.ndarray, "edge basis ray"]
    degrees: Float[np.ndarray, "edge kind"]
    patient: np.ndarray
    fold: np.ndarray

    def at(self, chosen: Any) -> Errors:
        return Errors(*(part[chosen] for part in self))

    def under(self, scale: np.ndarray, degrees: np.ndarray) -> Errors:
        """The same errors in units of what sigma is under other scales, with other degrees."""
        sigma = self.unit(scale)
        return self._replace(
            error=self.error / sigma,
            parts=self.parts * np.square(scale / sigma[..., None]),
            inverse=self.inverse * (sigma[:, None] / scale[SCALE][:, None]),
            degrees=np.broadcast_to(degrees, self.degrees.shape),
        )

    def unit(self, scale: np.ndarray) -> Float[np.ndarray, "edge ray"]:
        """What sigma is under other scales, in units of what it is."""
        return np.sqrt(self.parts @ np.square(scale))

    @property
    def few(self) -> tuple[Float[np.ndarray, "edge few"], Float[np.ndarray, "edge few point"]]:
        """Errors on every few rays, and what their variance is under some quasi-random w."""
        kinds, which = np.unique(self.degrees, axis=0, return_inverse=True)
        inflation = np.stack([inflations(degrees, POINTS) for degrees in kinds]).astype(np.float32)
        parts = self.parts[:, ::EVERY].astype(np.float32)
        return self.error[:, ::EVERY], parts @ np.swapaxes(inflation, 1, 2)[which.ravel()]


class Recalibration(NamedTuple):
    """What is found anew about errors: margin (4,), see `margin_of`; scale and degrees (kind,)."""

    margin: Float[np.ndarray, "4"]
    scale: Float[np.ndarray, " kind"]
    degrees: Float[np.ndarray, " kind"]


def errors_of(
    edge: Edge, y: Float[ArrayLike, "edge ray"], patient: np.ndarray, fold: int
) -> Errors:
    """Of edges of these patients."""
    factor, degrees = np.asarray(spread(edge), np.float64), np.asarray(edge.degrees, np.float64)
    error = (np.asarray(y) - np.asarray(edge.mean)) / np.asarray(ray_sd(factor))
    waves, here = on_rays(factor), np.broadcast_to(degrees, (len(error), len(degrees)))
    inverse = np.linalg.inv(waves).astype(np.float32)
    return Errors(error, kinds_of(waves), inverse, here, patient, np.full(len(patient), fold))


def joined(found: Sequence[Errors]) -> Errors:
    """The errors of several heads as one."""
    return Errors(*map(np.concatenate, zip(*found, strict=True)))


def recalibrated(found: Errors) -> Recalibration | None:
    """Margin, scales and degrees of freedom under which errors are likeliest; None where none pays.

    The margin by a composite likelihood: rays count as if they were independent (Varin, Reid &
    Firth 2011, An overview of composite likelihood methods). Fitted without a fold of the patients
    it must make the rays of that fold likelier, by more than two standard errors over at least
    LEAST_FOR_MARGIN: of few it is better not to believe it. No number goes further than
    FARTHEST_BEND. The level is the margin's to tell: scales have a geometric mean of 1.
    """
    names = np.unique(found.patient)
    if len(names) < LEAST_FOR_MARGIN:
        return None
    gain = np.zeros(len(found.error))
    for k in np.unique(found.fold):
        out = found.at(found.fold == k)
        new = _likeliest(found.at(found.fold != k))
        error, variance = out.few
        there, unit = out.under(new.scale, new.degrees).few, out.unit(new.scale)[:, ::EVERY]
        better = _log_density(new.margin, *there) - np.log(unit)
        gain[found.fold == k] = np.mean(better - _log_density(np.zeros(4), error, variance), -1)
    each = np.array([gain[found.patient == name].mean() for name in names])
    if not each.mean() > 2 * each.std(ddof=1) / math.sqrt(len(each)):
        return None
    return _likeliest(found)


def _likeliest(found: Errors) -> Recalibration:
    """Margin from rays and what is common from whole edges in turn, ROUNDS times."""
    scale, degrees, new = np.ones(len(FINEST)), found.degrees, found
    for _ in range(ROUNDS):
        margin = margin_of(_likeliest_margin(*new.few))
        standard = np.asarray(margin.straighten(new.error)[0], np.float64)
        whole = np.einsum("ekr,er->ek", new.inverse, standard, optimize=True)
        common = [_likeliest_t(whole[:, g == SCALE]) for g in range(len(FINEST))]
        more, degrees = np.exp(np.array(common)).T
        scale = scale * more / np.exp(np.mean(np.log(more)))
        new = found.under(scale, degrees)
    return Recalibration(_likeliest_margin(*new.few), scale, degrees)


def _likeliest_t(part: Float[np.ndarray, "edge basis"]) -> Float[np.ndarray, "2"]:
    """Log scale and log degrees of freedom of a multivariate t about 0."""
    from scipy.optimize import minimize

    square = jnp.asarray(np.square(part).sum(axis=1), jnp.float32)
    bounds = [(-2 * FARTHEST_BEND, 2 * FARTHEST_BEND), tuple(np.log(FREEDOM))]
    loss = _in_double(partial(_t_loss, square=square, count=part.shape[1]))
    return minimize(loss, np.log([1.0, 5.0]), jac=True, method="L-BFGS-B", bounds=bounds).x


@jax.jit
@jax.value_and_grad
def _t_loss(numbers: Array, square: Array, count: Array) -> Array:
    log_scale, log_degrees = numbers
    each = log_t(square * jnp.exp(-2 * log_scale), count, jnp.exp(log_degrees))
    return count * log_scale - jnp.mean(each)


def spread_margin(found: Errors) -> Float[np.ndarray, "4"]:
    """The margin of scale and tail alone under which errors on rays are likeliest, shrunk.

    Patients count alike, each as one observation beside the prior, normal about no margin with sd
    MARGIN_SD, so that of few patients little is believed and of none nothing.
    """
    from scipy.optimize import minimize

    _, whose, count = np.unique(found.patient, return_inverse=True, return_counts=True)
    share = jnp.asarray(1 / count[whose], jnp.float32)
    there = tuple(jnp.asarray(part, jnp.float32) for part in found.few)
    free = jnp.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

    @jax.jit
    @jax.value_and_grad
    def loss(numbers: Array) -> Array:
        fit = jnp.sum(share * jnp.mean(_log_density(numbers @ free, *there), axis=-1))
        return 0.5 * jnp.sum(jnp.square(numbers / MARGIN_SD)) - fit

    numbers = minimize(_in_double(loss), np.zeros(2), jac=True, method="L-BFGS-B").x
    return np.asarray(numbers @ np.asarray(free), np.float32)


def _likeliest_margin(error: np.ndarray, variance: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    there = jnp.asarray(error, jnp.float32), jnp.asarray(variance, jnp.float32)
    loss = _in_double(lambda numbers: _margin_loss(numbers, *there))
    bounds = 4 * [(-FARTHEST_BEND, FARTHEST_BEND)]
    found = minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, np.float32)


@jax.jit
@jax.value_and_grad
def _margin_loss(numbers: Array, error: Array, variance: Array) -> Array:
    return -jnp.mean(_log_density(numbers, error, variance))


def _in_double(loss: Any) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """A loss with its slope as scipy's searches want it."""

    def value_and_slope(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(jnp.asarray(numbers, jnp.float32))
        return float(value), np.asarray(slope, np.float64)

    return value_and_slope


def _log_density(numbers: ArrayLike, error: ArrayLike, variance: ArrayLike) -> Array:
    """Of single errors, but for a constant: a mixture of normals over w, bent."""
    standard, log_slope = margin_of(numbers).straighten(error)
    variance = jnp.asarray(variance)
    exponent = -0.5 * (jnp.log(variance) + jnp.square(standard)[..., None] / variance)
    return log_slope + jax.scipy.special.logsumexp(exponent, axis=-1)
