"""What does an image say about a boundary if the level inside differs from place to place?

    y_i ~ N(mu (1 - h_i) + f(a_i) h_i + g(a_i) c(t_i), sigma^2)

h_i the blurred inside of `families.BlurredStep`. f, the level at the rim, and g, by how much the
core differs from it, are smooth Gaussian processes of direction; c falls from 1 at the centre of
the chart to 0 at the rim. Their coefficients, mu and sigma^2 are integrated out exactly: all that
is needed are sums over rays of the same kind of tables, times products of the fields' functions.
How strong the processes are against the noise is chosen by marginal likelihood at the outline the
target was found as (`Candidates`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.families import BlurredEdge, StepPrior, leaves
from aistat_jax.boundary.levels import CountedVoxels
from aistat_jax.boundary.tables import Table
from aistat_jax.boundary.uneven_levels import LevelPrior, UnevenLevels, core_fields, level_rows
from aistat_jax.space.chart import LINKS, Bending, Chart

# Harmonics of direction (degrees on a sphere), and their angular lengthscale, as a prior's.
HARMONICS = {2: 4, 3: 3}
LENGTHSCALE = 0.5
# The core, in shares of the rough radius: half of it begins here, over this sd.
CORE_AT, CORE_OVER = 0.5, 0.2
# Variances of the rim's level about its mean, and of the core's step, in units of the noise's.
RIM = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
CORE = (0.0, 1.0, 30.0)
# What is left over inside never makes a voxel worth less than this share of one of the background.
LEAST = 0.25
# Voxels inside and outside that tell how much is left over, and how far they are to lie so; and how
# many independent ones the belief is worth that there is nothing.
FEWEST, EDGE, BELIEF = 20, 0.1, 10.0
# What is as good as known.
NOTHING = 1e-8


@record
class UnevenStep(BlurredEdge):
    """Collapsed Gaussian regression of intensity on smooth levels inside and one outside.

    Table statistics: sum h, sum h^2, sum c h, sum y h. totals (3,): n, sum y, sum y^2. Levels: of
    the rim's fields, of the core's, and outside; `mean` and `precision` are those of their prior,
    the latter in units of the noise's. What no boundary changes: core_gram (field, field), sums of
    c^2, core_sums (field, 2), of c and of y c. Shapes: fields (ray, field), the first of them 1;
    products (ray, pair), those of two fields, i <= j. `core` is where it ends, and over how much.
    The rest is that of `families.BlurredStep`.
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
    core_gram: Float[ArrayLike, "field field"]
    core_sums: Float[ArrayLike, "field 2"]
    bending: Bending | None = None
    differentiable: bool = static(default=True)

    def statistics(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        return self.table(self.apparent(radii))

    def contract(self, read: Float[Array, "ray stat"]) -> Float[Array, " sum"]:
        """Sums over rays of what the tables say, times products of two fields and times one."""
        pairs = jnp.asarray(self.products).T @ read[:, :3]
        single = jnp.asarray(self.fields).T @ read[:, 3:]
        return jnp.concatenate([pairs.ravel(), single.ravel()])

    def system(self, sums: Float[Array, " sum"]) -> tuple[Array, Array]:
        """Precision (level, level) of the levels given the boundary, and its product with them."""
        count = np.shape(self.fields)[1]
        i, j = np.triu_indices(count)
        place = np.zeros((count, count), dtype=int)
        place[i, j] = place[j, i] = np.arange(len(i))
        split = len(i) * 3
        pairs, by_h = sums[:split].reshape(len(i), 3), sums[split:]
        h, hh, ch = (pairs[place, k] for k in range(3))
        c, yc = jnp.asarray(self.core_sums).T
        n, y, _ = self.totals
        beside = jnp.concatenate([h[0] - hh[0], c - ch[0]])[:, None]  # times 1 - h
        out = (n - 2 * h[0, 0] + hh[0, 0])[None, None]
        inside = jnp.block([[hh, ch], [ch, jnp.asarray(self.core_gram)]])
        matrix = jnp.block([[inside, beside], [beside.T, out]])
        right = jnp.concatenate([by_h, yc, (y - by_h[0])[None]])
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

    def levels(self, seen: CountedVoxels) -> UnevenLevels:
        """The law of its levels inside, which differ, and of the one outside."""
        mean, precision = np.asarray(self.mean), np.asarray(self.precision)
        prior = LevelPrior(mean, precision, float(self.shape), float(self.rate))
        at, over = (float(v) for v in np.asarray(self.core))
        return UnevenLevels(prior, float(self.eta), np.asarray(self.fields), (at, over), seen)


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
    seen: SeenAtStart,
    bending: Bending | None,
    section: Sequence[float] | None = None,
) -> UnevenStep:
    """The term with its constant, its processes as strong as is likeliest at a first boundary.

    `radius` is the target's rough one, `seen` what the voxels show if the boundary is the outline
    that it was found as; the other arguments are those of `families.blurred_step`.
    """
    basis = chart.basis(HARMONICS[chart.dims])
    fields, eigenvalues = np.asarray(basis.functions), np.asarray(basis.eigenvalues)
    at, over = float(LINKS[chart.link].times(radius, CORE_AT)), CORE_OVER * radius
    there = core_fields(fields[seen.site], seen.core)
    rows = level_rows(seen.share, there)
    weighted = seen.weight[:, None] * rows
    gram, right = weighted.T @ rows, weighted.T @ seen.y
    levels = Candidates(
        *(np.array(part) for part in zip(*_candidates(prior, eigenvalues), strict=True))
    )
    mean, precision, constant = levels.likeliest(gram, right, totals, eta, prior)
    best = np.linalg.solve(eta * gram + precision, eta * right + precision @ mean)
    eta *= lump_share(seen, seen.y - rows @ best, eta)
    mean, precision, constant = levels.likeliest(gram, right, totals, eta, prior)
    i, j = np.triu_indices(fields.shape[1])
    law = leaves(eta, mean, precision, prior.shape, prior.rate, constant, blur)
    cut, ends = leaves(section or np.zeros(4), (at, over))
    within = there[:, fields.shape[1] :]
    counted = seen.weight[:, None] * within
    core_sums = np.stack([counted.sum(axis=0), counted.T @ seen.y], axis=1)
    return UnevenStep(
        table, fields, fields[:, i] * fields[:, j], totals, *law,
        section=cut, core=ends, core_gram=counted.T @ within, core_sums=core_sums, bending=bending,
    )  # fmt: skip


class SeenAtStart(NamedTuple):
    """Pairs of voxel and site at a first boundary: how far each lies inside, and what it shows.

    Shapes: all (pair,); `core` how far its voxel belongs to the core, `part` the share of that
    voxel, `weight` its part times its precision; `zero` what no uptake is in units of y.
    """

    site: np.ndarray
    core: np.ndarray
    share: np.ndarray
    y: np.ndarray
    part: np.ndarray
    weight: np.ndarray
    zero: float


def lump_share(seen: SeenAtStart, residual: Float[np.ndarray, " pair"], eta: float) -> float:
    """How much a voxel is worth where lumps finer than the fields are left over, at most 1.

    Residuals inside should vary as much as outside, or, as counts do, in proportion to the level
    where that is higher inside. What they vary by in addition is alike over a lump, of which a
    voxel tells its part alone. What is in the core is far from the edge, and left out. Few voxels
    tell it: against them stands the belief that it is nothing.
    """
    rim = (seen.share > 1 - EDGE) & (seen.core < 0.5)
    variance, level = np.ones(2), np.zeros(2)
    for k, side in enumerate((seen.share < EDGE, rim)):
        weight = seen.weight[side]
        if seen.part[side].sum() < FEWEST:
            return 1.0
        variance[k] = np.average(np.square(residual[side]), weights=weight)
        level[k] = np.average(seen.y[side], weights=weight) - seen.zero
    counts = level[1] / level[0] if level[0] > 0 else np.inf
    excess = variance[1] / max(variance[0], 1e-300) / max(1.0, counts)
    told = eta * seen.part[rim].sum()
    return float(np.clip((told + BELIEF) / (told * excess + BELIEF), LEAST, 1.0))


class Candidates(NamedTuple):
    """Candidates for the prior of the levels: mean (candidate, level) and precision."""

    mean: Float[np.ndarray, "candidate level"]
    precision: Float[np.ndarray, "candidate level level"]

    def likeliest(
        self, gram: np.ndarray, right: np.ndarray, totals: np.ndarray, eta: float, prior: StepPrior
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean and precision that the voxels find likeliest, and the constant of their term."""
        from scipy.special import gammaln

        shape, rate, half = float(prior.shape), float(prior.rate), 0.5 * eta * float(totals[0])
        constant = 0.5 * np.linalg.slogdet(self.precision)[1] + (
            shape * np.log(rate) + gammaln(shape + half) - gammaln(shape) - half * np.log(2 * np.pi)
        )
        before = np.einsum("cij,cj->ci", self.precision, self.mean)
        whole, pull = eta * gram + self.precision, eta * right + before
        best = np.linalg.solve(whole, pull[..., None])[..., 0]
        left = eta * totals[2] + (self.mean * before - pull * best).sum(axis=1)
        value = constant - 0.5 * np.linalg.slogdet(whole)[1]
        value -= (shape + half) * np.log(rate + 0.5 * np.maximum(left, 0.0))
        k = int(np.argmax(value))
        return self.mean[k], self.precision[k], float(constant[k])


def _candidates(
    prior: StepPrior, eigenvalues: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for rim in RIM:
        for core in CORE:
            yield level_precision(prior, eigenvalues, rim, core)
