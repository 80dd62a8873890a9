"""What does an image say about a boundary once its intensities are integrated out?

Every term of the evidence (`Term`) has the same two halves: per-ray `statistics(radii)` read from
tables, and `log_likelihood(sums)` of those statistics summed over the rays. `eta` in (0, 1] tempers
the likelihood: each sum over voxels counts eta times (effective over nominal sample size).

* `BlurredStep`: y_i ~ N(mu_out + delta h_i, sigma^2), h_i = Phi((gamma - t_i) / s), with a
  normal-inverse-gamma prior on (mu_out, delta, sigma^2) integrated out exactly.
* `HardStep`: y_i from one exponential family inside and another member of it outside, Gaussian
  (own mean and variance), Bernoulli or Poisson, conjugate priors integrated out exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.discs import Blur, disc_shares
from aistat_jax.boundary.edges import bent, straight
from aistat_jax.boundary.levels import CountedVoxels, Levels, SideLevels, StepLevels
from aistat_jax.boundary.tables import Table
from aistat_jax.boundary.targets import Taper
from aistat_jax.space.chart import Bending


@runtime_checkable
class Term(Protocol):
    """What one source says of a boundary with the given radii: a log-likelihood in two halves.

    A term is a pytree whose leaves are its data, so that models which differ only in data share
    what is compiled. `differentiable` False keeps the methods that need gradients away.
    """

    @property
    def differentiable(self) -> bool: ...

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]: ...

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]: ...


@runtime_checkable
class Contracted(Protocol):
    """A term whose sums are not plain ones over rays, but weighted in several ways."""

    def contract(self, read: Float[Array, "ray stat"]) -> Float[Array, " sum"]: ...


@runtime_checkable
class Called(Protocol):
    """A term with a name of its own; others are called by their class."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class Tempered(Protocol):
    """A term of which `eta` in (0, 1] is the effective share of its observations."""

    @property
    def eta(self) -> Float[ArrayLike, ""]: ...


@runtime_checkable
class Stepped(Protocol):
    """A term that is not differentiable, with a stand-in that is and places proposals."""

    def smoothed(self) -> Term: ...


@runtime_checkable
class Thick(Protocol):
    """A term of an image whose point spread reaches across its slices: a squared height.

    `height` (in the square of the chart's unit) is the mean square of the heights above the slice
    that its pixels mix; 0 of an image that is not thick.
    """

    @property
    def height(self) -> float: ...


@record
class StepPrior:
    """Normal-inverse-gamma prior of (mu_out, delta) and sigma^2 in a blurred step.

    (mu_out, delta) | sigma^2 ~ N(mean, sigma^2 / precision), sigma^2 ~ InvGamma(shape, rate);
    in units of the standardised intensity (centre and scale of the region's voxels).
    Shapes: mean (2,), precision (2,).
    """

    mean: Float[ArrayLike, "2"]
    precision: Float[ArrayLike, "2"]
    shape: Float[ArrayLike, ""]
    rate: Float[ArrayLike, ""]


class BlurredEdge:
    """What terms of one blurred edge share: where they look for it, and how it looks."""

    bending: Bending | None
    blur: Float[ArrayLike, ""]
    section: Float[ArrayLike, "4"]

    def apparent(self, radii: Float[ArrayLike, " ray"]) -> Float[ArrayLike, " ray"]:
        """Where the edge of a boundary is looked for."""
        return radii if self.bending is None else self.bending(radii)

    @property
    def width(self) -> float:
        return float(self.blur)

    @property
    def height(self) -> float:
        return float(self.section[0] ** 2 + self.section[1] ** 2)

    def edges(self, radii: Float[np.ndarray, "draw ray"]) -> Float[np.ndarray, "draw ray"]:
        return bent(self.bending, radii)

    def within(self, position: np.ndarray, edge: np.ndarray, dims: int) -> np.ndarray:
        """That of a straight step, or of a disc where the table is one's."""
        return step_shares(position, edge, dims, self.width, self.section, self.bending)


@record
class BlurredStep(BlurredEdge):
    """Collapsed Gaussian regression of intensity on the blurred inside.

    Table statistics: sum h, sum h^2, sum y h. totals (3,): n, sum y, sum y^2. constant holds
    what no boundary changes (see `blurred_step`). With `bending` the edge is read where it
    appears through a point spread of as many dimensions as the chart has; its `shrinkage` is 1
    for tables of a straight step, and 0 for those of a disc (discs.py), which have it in them.
    `section` (blur across slices, height, slope and bend of the taper) is the disc's, else zeros.
    """

    table: Table
    totals: Float[ArrayLike, "3"]
    eta: Float[ArrayLike, ""]
    prior: StepPrior
    constant: Float[ArrayLike, ""]
    blur: Float[ArrayLike, ""]
    section: Float[ArrayLike, "4"]
    bending: Bending | None = None
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return self.table(self.apparent(radii))

    def levels(self, seen: CountedVoxels) -> Levels:
        return StepLevels(self.prior, float(self.eta), seen)

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]:
        """log p(y | boundary), intensities integrated out (Bayesian linear regression)."""
        h, hh, yh = self.eta * sums
        n, y, yy = self.eta * self.totals
        (m0, m1), (k0, k1) = self.prior.mean, self.prior.precision
        p00, p01, p11 = n + k0, h, hh + k1
        determinant = p00 * p11 - p01 * p01
        q0, q1 = y + k0 * m0, yh + k1 * m1
        explained = (p11 * q0 * q0 - 2 * p01 * q0 * q1 + p00 * q1 * q1) / determinant
        rate = self.prior.rate + 0.5 * (yy + k0 * m0 * m0 + k1 * m1 * m1 - explained)
        shape = self.prior.shape + 0.5 * n
        return self.constant - 0.5 * jnp.log(determinant) - shape * jnp.log(rate)


def blurred_step(
    table: Table,
    totals: np.ndarray,
    eta: float,
    prior: StepPrior,
    blur: float,
    bending: Bending | None,
    section: Sequence[float] | None = None,
) -> BlurredStep:
    """The term with its constant, so that it is the full log marginal likelihood.

    `section` is that of a disc, None for tables of a straight step.
    """
    from scipy.special import gammaln

    half = 0.5 * eta * float(totals[0])
    shape, rate = float(prior.shape), float(prior.rate)
    constant = (
        0.5 * np.log(np.prod(np.asarray(prior.precision)))
        + shape * np.log(rate)
        + gammaln(shape + half)
        - gammaln(shape)
        - half * np.log(2 * np.pi)
    )
    weight, whole, spread, cut = leaves(eta, constant, blur, section or np.zeros(4))
    return BlurredStep(table, totals, weight, prior, whole, spread, cut, bending)


@record
class HardStep:
    """Collapsed exponential family with its own parameters inside and outside.

    Table statistics: count, sum y, and for the Gaussian sum y^2. totals: the same over all
    voxels. hyper (4,): the conjugate prior, Gaussian (mean, precision, shape, rate),
    Bernoulli (alpha, beta, -, -), Poisson (shape, rate, -, -). The smooth surrogate of the
    same statistics only ever shapes proposals; the posterior uses the exact table.
    """

    table: Table
    surrogate: Table
    totals: Float[ArrayLike, " stat"]
    eta: Float[ArrayLike, ""]
    hyper: Float[ArrayLike, "4"]
    family: str = static()
    differentiable: bool = static(default=False)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return self.table(radii)

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]:
        """log p(y | boundary), up to the base measure, which no boundary changes."""
        inside = jnp.asarray(self.eta * sums)
        outside = jnp.asarray(self.eta * (self.totals - sums))
        marginal = _MARGINALS[self.family]
        return marginal(inside, self.hyper) + marginal(outside, self.hyper)

    def smoothed(self) -> HardStep:
        """The differentiable stand-in used to place proposals."""
        return replace(self, table=self.surrogate, differentiable=True)

    @property
    def width(self) -> float:
        return 0.0

    def edges(self, radii: Float[np.ndarray, "draw ray"]) -> Float[np.ndarray, "draw ray"]:
        return radii

    def within(self, position: np.ndarray, edge: np.ndarray, dims: int) -> np.ndarray:
        """0 or 1."""
        return (position < edge).astype(float)

    def levels(self, seen: CountedVoxels) -> Levels:
        return SideLevels(self.family, np.asarray(self.hyper), float(self.eta), seen)


def _gaussian(s: Float[Array, " stat"], hyper: Float[ArrayLike, "4"]) -> Float[Array, ""]:
    n, y, yy = s
    mean, precision, shape, rate = hyper
    p = precision + n
    post = shape + 0.5 * n
    spread = yy + precision * mean**2 - (precision * mean + y) ** 2 / p
    return (
        0.5 * (jnp.log(precision) - jnp.log(p))
        + shape * jnp.log(rate)
        - post * jnp.log(rate + 0.5 * jnp.maximum(spread, 0.0))
        + gammaln(post)
        - gammaln(shape)
        - 0.5 * n * jnp.log(2 * jnp.pi)
    )


def _bernoulli(s: Float[Array, " stat"], hyper: Float[ArrayLike, "4"]) -> Float[Array, ""]:
    n, y = jnp.maximum(s, 0.0)
    alpha, beta = hyper[0], hyper[1]
    return _log_beta(alpha + y, beta + jnp.maximum(n - y, 0.0)) - _log_beta(alpha, beta)


def _log_beta(a: Any, b: Any) -> Array:
    # jax.scipy.special.betaln is good to only 1e-7 in double precision.
    return gammaln(a) + gammaln(b) - gammaln(a + b)


def _poisson(s: Float[Array, " stat"], hyper: Float[ArrayLike, "4"]) -> Float[Array, ""]:
    n, y = jnp.maximum(s, 0.0)
    shape, rate = hyper[0], hyper[1]
    return (
        shape * jnp.log(rate)
        - gammaln(shape)
        + gammaln(shape + y)
        - (shape + y) * jnp.log(rate + n)
    )


_MARGINALS = {"gaussian": _gaussian, "bernoulli": _bernoulli, "poisson": _poisson}
STATISTICS = {"gaussian": 3, "bernoulli": 2, "poisson": 2}


@record
class LinearTable:
    """A term that is itself a sum over voxels: log-odds of the voxels inside."""

    table: Table
    eta: Float[ArrayLike, ""]
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return self.table(radii)

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]:
        return jnp.asarray(self.eta * sums[0])


@record
class ContourTerm:
    """Contours drawn by raters: radius = boundary + correlated Gaussian error.

    Shapes: mean (ray,) average of the raters' radii; whiten (stat, ray) with
    whiten.T @ whiten the precision of one rater's error; count of raters; constant so that
    the value is the full log density of all raters' radii.
    """

    mean: Float[ArrayLike, " ray"]
    whiten: Float[ArrayLike, "stat ray"]
    count: Float[ArrayLike, ""]
    constant: Float[ArrayLike, ""]
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return jnp.asarray((self.mean - radii)[:, None] * self.whiten.T)

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]:
        return jnp.asarray(self.constant - 0.5 * self.count * jnp.sum(jnp.square(sums)))


@record
class AnchorTerm:
    """Clicks of an expert: on the edge, inside or outside.

    Shapes: weights (stat, ray) interpolate the radius at each click's angle; radius (stat,)
    and sd (stat,) of the clicks; side (stat,): 0 edge, +1 inside, -1 outside; heavy (): 1 where
    errors are sd times a Student t of two degrees of freedom, 0 for a standard normal.
    """

    weights: Float[ArrayLike, "stat ray"]
    radius: Float[ArrayLike, " stat"]
    sd: Float[ArrayLike, " stat"]
    side: Float[ArrayLike, " stat"]
    heavy: Float[ArrayLike, ""]
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return jnp.asarray(radii[:, None] * self.weights.T)

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]:
        z = (sums - self.radius) / self.sd
        heavy = jnp.asarray(self.heavy) > 0
        answer = jnp.where(self.side == 0, 0.0, self.side * z)
        normal = -0.5 * jnp.square(z) - 0.5 * jnp.log(2 * jnp.pi)
        edge = jnp.where(heavy, -1.5 * jnp.log(2 + jnp.square(z)), normal) - jnp.log(self.sd)
        below = jax.scipy.special.log_ndtr(jnp.where(heavy, 0.0, answer))
        side = jnp.where(heavy, _log_t2_below(answer), below)
        return jnp.sum(jnp.where(self.side == 0, edge, side))


def _log_t2_below(z: Float[Array, " stat"]) -> Float[Array, " stat"]:
    """Log of the share of Student's t of two degrees of freedom that lies below z."""
    root = jnp.sqrt(2 + jnp.square(z))
    tail = 1 / (root * (root + jnp.abs(z)))  # beyond |z|
    return jnp.where(z > 0, jnp.log1p(-tail), jnp.log(tail))


@record
class FunctionTerm:
    """A log-likelihood of one's own, function(radii, *values); see `opinions.term`."""

    values: tuple[Any, ...]
    function: Callable[..., Any] = static()
    differentiable: bool = static(default=True)

    @property
    def name(self) -> str:
        """What the function is called, also one that is partly applied."""
        return function_name(self.function)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return jnp.diag(jnp.asarray(radii))  # whose sums over the rays are the radii

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Any:
        """Whatever the function returns, which `doors.value_of` holds to be one number."""
        return self.function(sums, *self.values)


def step_shares(
    position: np.ndarray,
    edge: np.ndarray,
    dims: int,
    blur: float,
    section: Float[ArrayLike, "4"],
    bending: Bending | None,
) -> np.ndarray:
    """The share of a step at positions, of edges: of a straight one, or of a disc's section."""
    if bending is None or float(bending.shrinkage) > 0:
        return straight(position, edge, blur)
    across, offset, slope, bend = (float(v) for v in np.asarray(section))
    taper = Taper(slope, bend) if slope or bend else None
    return disc_shares(position, edge, Blur(blur, across, offset), taper, dims)


def function_name(function: Any) -> str:
    """What a function is called, also one that is partly applied."""
    inner = getattr(function, "func", function)
    return getattr(inner, "__name__", type(inner).__name__)


def leaves(*values: object) -> tuple[Any, ...]:
    """The values as float64 arrays, ready to be the leaves of a record."""
    return tuple(np.asarray(v, dtype=np.float64) for v in values)
