"""What does an image say about two boundaries, one within the other, and three levels?

    y_i ~ N(mu + delta_1 h_i^outer + delta_2 h_i^inner, sigma^2)

with a normal-inverse-gamma prior of (mu, delta_1, delta_2) and sigma^2, integrated out exactly:
`families.BlurredStep` with one more coefficient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.edges import bent, straight
from aistat_jax.boundary.families import StepPrior, leaves
from aistat_jax.boundary.tables import Table
from aistat_jax.space.chart import Bending


@record
class NestedStep:
    """Collapsed Gaussian regression of intensity on the blurred insides of a ring.

    Sites are the outer radii, then the inner ones. Table statistics: sum h, sum h^2, sum y h of
    either; with them goes the sum of (1 - h outer) h inner, which is nothing unless the wall is
    thin: `sector` voxels times an area over the mean radius of a ray's two edges. totals (3,): n,
    sum y, sum y^2. Shapes: mean, precision (3,). The rest is that of `families.BlurredStep`.
    """

    table: Table
    totals: Float[ArrayLike, "3"]
    eta: Float[ArrayLike, ""]
    mean: Float[ArrayLike, "3"]
    precision: Float[ArrayLike, "3"]
    shape: Float[ArrayLike, ""]
    rate: Float[ArrayLike, ""]
    constant: Float[ArrayLike, ""]
    blur: Float[ArrayLike, ""]
    sector: Float[ArrayLike, ""]
    bending: Bending | None = None
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " site"]) -> Float[Array, "site stat"]:
        edges = jnp.asarray(radii if self.bending is None else self.bending(radii))
        read = self.table(edges)
        rays = len(read) // 2
        outer, inner = edges[:rays], edges[rays:]
        spread = jnp.sqrt(2.0) * self.blur
        wall = (outer - inner) / spread
        between = spread * (norm.pdf(wall) - wall * jax.scipy.special.ndtr(-wall))
        lost = 0.5 * self.sector * (outer + inner) * between
        nothing = jnp.zeros_like(read[:rays])
        return jnp.concatenate(
            [
                jnp.concatenate([read[:rays], nothing, lost[:, None]], axis=1),
                jnp.concatenate([nothing, read[rays:], 0.0 * lost[:, None]], axis=1),
            ]
        )

    @property
    def width(self) -> float:
        return float(self.blur)

    def edges(self, radii: Float[np.ndarray, "draw site"]) -> Float[np.ndarray, "draw site"]:
        return bent(self.bending, radii)

    def within(self, position: np.ndarray, edge: np.ndarray, dims: int) -> np.ndarray:
        """Of one of the two boundaries: that of a straight step."""
        return straight(position, edge, self.width)

    def log_likelihood(self, sums: Float[Array, " stat"]) -> Float[Array, ""]:
        """log p(y | boundaries), intensities integrated out (Bayesian linear regression).

        The Schur complements of a precision are never less than the prior's, nor is the rate: an
        approximate product of very thin walls is kept to that.
        """
        ho, hho, yho, hi, hhi, yhi, lost = self.eta * sums
        n, y, yy = self.eta * self.totals
        (m0, m1, m2), (k0, k1, k2) = self.mean, self.precision
        q0, q1, q2 = y + k0 * m0, yho + k1 * m1, yhi + k2 * m2
        p00 = n + k0
        by_outer, by_inner = ho / p00, hi / p00
        p11 = jnp.maximum(hho + k1 - by_outer * ho, k1)
        p12 = (hi - lost) - by_outer * hi
        q1 = q1 - by_outer * q0
        ratio = p12 / p11
        p22 = jnp.maximum(hhi + k2 - by_inner * hi - ratio * p12, k2)
        q2 = q2 - by_inner * q0 - ratio * q1
        explained = q0 * q0 / p00 + q1 * q1 / p11 + q2 * q2 / p22
        prior = k0 * m0 * m0 + k1 * m1 * m1 + k2 * m2 * m2
        rate = jnp.maximum(self.rate + 0.5 * (yy + prior - explained), self.rate)
        shape = self.shape + 0.5 * n
        log_determinant = jnp.log(p00) + jnp.log(p11) + jnp.log(p22)
        return self.constant - 0.5 * log_determinant - shape * jnp.log(rate)


def nested_step(
    table: Table,
    totals: np.ndarray,
    eta: float,
    prior: StepPrior,
    blur: float,
    sector: float,
    bending: Bending | None,
) -> NestedStep:
    """The term with its constant, so that it is the full log marginal likelihood.

    The inner step has mean 0 and the precision of the outer one. `sector` is how many voxels to an
    area there are, times the angle between rays.
    """
    from scipy.special import gammaln

    mean, precision = nested_prior(prior)
    half = 0.5 * eta * float(totals[0])
    shape, rate = float(prior.shape), float(prior.rate)
    constant = (
        0.5 * np.log(precision).sum()
        + shape * np.log(rate)
        + gammaln(shape + half)
        - gammaln(shape)
        - half * np.log(2 * np.pi)
    )
    law = leaves(eta, mean, precision, shape, rate, constant, blur, sector)
    return NestedStep(table, totals, *law, bending=bending)


def nested_prior(prior: StepPrior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision (3,) of the level outside, the outer step and the inner step."""
    mean, precision = np.asarray(prior.mean), np.asarray(prior.precision)
    return np.append(mean, 0.0), np.append(precision, precision[1])
