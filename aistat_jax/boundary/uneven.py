"""What does an image say about a boundary if the level inside differs from place to place?

    y_i ~ N(mu (1 - h_i) + h_i (f(a_i) + c(t_i) g(a_i)), sigma^2)

h_i the blurred inside of `families.BlurredStep`. f, the level at the rim, and g, by how much the
core differs from it, are smooth Gaussian processes of direction; c falls from 1 at the centre of
the chart to 0 at the rim. Their coefficients, mu and sigma^2 are integrated out exactly: all that
is needed are sums over rays of the same kind of tables, times products of the fields' functions.
How strong the processes are against the noise is chosen by marginal likelihood at the outline the
target was found as (`fitted_strengths`).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.families import StepPrior, leaves
from aistat_jax.boundary.tables import Table
from aistat_jax.space.chart import LINKS, Bending, Chart

# Harmonics of direction (degrees on a sphere), and their angular lengthscale, as a prior's.
HARMONICS = {2: 4, 3: 3}
LENGTHSCALE = 0.5
# The core, in shares of the rough radius: half of it begins here, over this sd.
CORE_AT, CORE_OVER = 0.5, 0.2
# Variances of the rim's level about its mean, and of the core's step, in units of the noise's.
RIM = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
CORE = (0.0, 0.3, 3.0, 30.0)
# What is as good as known.
NOTHING = 1e-8


@record
class UnevenStep:
    """Collapsed Gaussian regression of intensity on smooth levels inside and one outside.

    Table statistics: sum h, sum c h; sum h^2, sum c h^2, sum c^2 h^2; sum y h, sum y c h.
    totals (3,): n, sum y, sum y^2. Coefficients, all of mean 0: of the rim's fields, of the core's,
    and the level outside; `precision` (level, level) is that of their prior in units of the
    noise's. Shapes: fields (ray, field), the first of them 1; products (ray, pair), those of two
    fields, i <= j. The rest is that of `families.BlurredStep`.
    """

    table: Table
    fields: Float[ArrayLike, "ray field"]
    products: Float[ArrayLike, "ray pair"]
    totals: Float[ArrayLike, "3"]
    eta: Float[ArrayLike, ""]
    mean: Float[ArrayLike, " level"]
    precision: Float[ArrayLike, "level level"]
    shape: Float[ArrayLike, ""]
    rate: Float[ArrayLike, ""]
    constant: Float[ArrayLike, ""]
    blur: Float[ArrayLike, ""]
    section: Float[ArrayLike, "4"]
    core: Float[ArrayLike, "2"]
    bending: Bending | None = None
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return self.table(radii if self.bending is None else self.bending(radii))

    def contract(self, read: Float[Array, "ray stat"]) -> Float[Array, " sum"]:
        """Sums over rays of what the tables say, times products of two fields and times one."""
        pairs = jnp.asarray(self.products).T @ read[:, :5]
        single = jnp.asarray(self.fields).T @ read[:, 5:]
        return jnp.concatenate([pairs.ravel(), single.ravel()])

    def system(self, sums: Float[Array, " sum"]) -> tuple[Array, Array]:
        """Precision (level, level) of the levels given the boundary, and its product with them."""
        count = np.shape(self.fields)[1]
        i, j = np.triu_indices(count)
        place = np.zeros((count, count), dtype=int)
        place[i, j] = place[j, i] = np.arange(len(i))
        split = len(i) * 5
        pairs, single = sums[:split].reshape(len(i), 5), sums[split:].reshape(count, 2)
        h, ch, hh, chh, cchh = (pairs[place, k] for k in range(5))
        n, y, _ = self.totals
        # outside: 1 - h, and with the fields h (1 - h)
        beside = jnp.concatenate([h[0] - hh[0], ch[0] - chh[0]])[:, None]
        out = (n - 2 * h[0, 0] + hh[0, 0])[None, None]
        matrix = jnp.block([[jnp.block([[hh, chh], [chh, cchh]]), beside], [beside.T, out]])
        right = jnp.concatenate([single[:, 0], single[:, 1], (y - single[0, 0])[None]])
        precision, mean = jnp.asarray(self.precision), jnp.asarray(self.mean)
        right = jnp.asarray(self.eta * right + precision @ mean)
        return jnp.asarray(self.eta * matrix + precision), right

    def log_likelihood(self, sums: Float[Array, " sum"]) -> Float[Array, ""]:
        """log p(y | boundary), levels and noise integrated out (Bayesian linear regression)."""
        matrix, right = self.system(sums)
        factor = jnp.linalg.cholesky(matrix)
        half = jax.scipy.linalg.solve_triangular(factor, right, lower=True)
        mean = jnp.asarray(self.mean)
        before = mean @ (jnp.asarray(self.precision) @ mean)
        left = self.eta * self.totals[2] + before - jnp.sum(jnp.square(half))
        shape = self.shape + 0.5 * self.eta * self.totals[0]
        determinant = jnp.sum(jnp.log(jnp.diagonal(factor)))
        rate = jnp.asarray(self.rate + 0.5 * left)
        return jnp.asarray(self.constant - determinant - shape * jnp.log(rate))

    def level_fields(
        self, fields: Float[np.ndarray, "place field"], position: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place level"]:
        """What each level inside counts at places with these fields and positions."""
        from scipy.special import ndtr

        middle, over = np.asarray(self.core)
        return np.concatenate([fields, ndtr((middle - position) / over)[:, None] * fields], axis=1)

    def levels_given(
        self,
        rows: Float[np.ndarray, "place level"],
        y: Float[np.ndarray, " place"],
        weight: Float[np.ndarray, " place"],
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """Of a regression on rows: mean of the levels, rate of the noise, and chol of precision."""
        mean, precision = np.asarray(self.mean), np.asarray(self.precision)
        factor = np.linalg.cholesky(rows.T @ (weight[:, None] * rows) + precision)
        right = rows.T @ (weight * y) + precision @ mean
        half = np.linalg.solve(factor, right)
        left = weight @ y**2 + mean @ precision @ mean - half @ half
        return np.linalg.solve(factor.T, half), float(self.rate + 0.5 * left), factor


def core_share(
    position: Float[np.ndarray, " voxel"], radius: float, chart: Chart
) -> Float[np.ndarray, " voxel"]:
    """c: how far positions belong to the core of a target of a rough radius."""
    from scipy.special import ndtr

    middle = LINKS[chart.link].times(radius, CORE_AT)
    return ndtr((middle - position) / (CORE_OVER * radius))


def level_precision(
    prior: StepPrior, eigenvalues: Float[np.ndarray, " field"], rim: float, core: float
) -> tuple[Float[np.ndarray, " level"], Float[np.ndarray, "level level"]]:
    """Prior mean of the levels, and their precision in units of the noise's.

    The level outside and the mean one at the rim are those of a blurred step with this prior. The
    rim's other harmonics have the variance `rim` together, the core's step `core` and as much.
    """
    spectrum = np.exp(-0.5 * eigenvalues * LENGTHSCALE**2)
    spectrum = spectrum / spectrum[1:].sum()
    varied = np.maximum(rim * spectrum, NOTHING)
    within = np.maximum(min(rim, core) * spectrum, NOTHING)
    within[0] = max(core, NOTHING)
    count = len(eigenvalues)
    precision = np.diag(np.concatenate([1 / varied, 1 / within, [0.0]]))
    (m0, m1), (k0, k1) = np.asarray(prior.mean), np.asarray(prior.precision)
    ends = np.ix_([0, 2 * count], [0, 2 * count])
    precision[ends] = [[k1, -k1], [-k1, k0 + k1]]
    mean = np.zeros(2 * count + 1)
    mean[0], mean[-1] = m0 + m1, m0
    return mean, precision


def uneven_step(
    table: Table,
    totals: np.ndarray,
    eta: float,
    prior: StepPrior,
    blur: float,
    chart: Chart,
    radius: float,
    start: Float[np.ndarray, " ray"],
    bending: Bending | None,
    section: Sequence[float] | None = None,
) -> UnevenStep:
    """The term with its constant, its processes as strong as is likeliest at the boundary `start`.

    `radius` is the target's rough one; the other arguments are those of `families.blurred_step`.
    """
    basis = chart.basis(HARMONICS[chart.dims])
    fields = np.asarray(basis.functions)
    eigenvalues = np.asarray(basis.eigenvalues)
    i, j = np.triu_indices(fields.shape[1])
    core = (float(LINKS[chart.link].times(radius, CORE_AT)), CORE_OVER * radius)
    products = fields[:, i] * fields[:, j]

    def term(rim: float, within: float) -> UnevenStep:
        mean, precision = level_precision(prior, eigenvalues, rim, within)
        constant = _constant(precision, totals, eta, prior)
        cut, middle = leaves(section or np.zeros(4), core)
        law = leaves(eta, mean, precision, prior.shape, prior.rate, constant, blur)
        return UnevenStep(
            table, fields, products, totals, *law, section=cut, core=middle, bending=bending
        )

    with jax.enable_x64(True):
        some = replace(term(0.0, 0.0), precision=np.zeros((2 * fields.shape[1] + 1,) * 2))
        read = some.contract(some.statistics(jnp.asarray(start)))
        matrix, right = (np.asarray(part) for part in some.system(read))
    return max(
        (term(rim, within) for rim in RIM for within in CORE),
        key=lambda one: _evidence(one, matrix, right),
    )


def _evidence(term: UnevenStep, matrix: np.ndarray, right: np.ndarray) -> float:
    """The log-likelihood of the term where the voxels' share of the precision is known."""
    whole = np.linalg.cholesky(matrix + term.precision)
    before = term.precision @ term.mean
    half = np.linalg.solve(whole, right + before)
    left = float(term.eta * term.totals[2] + term.mean @ before - half @ half)
    shape = float(term.shape + 0.5 * term.eta * term.totals[0])
    spread = shape * np.log(float(term.rate) + 0.5 * left)
    return float(term.constant - np.log(np.diag(whole)).sum() - spread)


def _constant(precision: np.ndarray, totals: np.ndarray, eta: float, prior: StepPrior) -> float:
    from scipy.special import gammaln

    half = 0.5 * eta * float(totals[0])
    shape, rate = float(prior.shape), float(prior.rate)
    return float(
        0.5 * np.linalg.slogdet(precision)[1]
        + shape * np.log(rate)
        + gammaln(shape + half)
        - gammaln(shape)
        - half * np.log(2 * np.pi)
    )
