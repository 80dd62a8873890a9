"""What do contour points with skew-normal errors say? Radii along the contour head's own rays.

After Judge et al. 2023 (Asymmetric contour uncertainty estimation for medical image segmentation,
MICCAI). There a heat map of each of a contour's points gives its mean and covariance, a branch of
its own the skewness, and points are learned by the likelihood of a skew normal each, as if they
were independent. Here a point may move along its ray alone, so that its law is a skew normal of the
log radius: location and scale are mean and spread of a heat map along the ray, times a learned
factor, and the features there give the skewness. The layers, their targets and the budget are those
of the contour head, as are the rays and their centre.

That paper draws no contours. The authors' later sampler (Judge et al. 2025, Uncertainty propagation
for echocardiography clinical metric estimation via contour sampling, IEEE Trans Med Imaging) takes
the correlation of points from a model of training shapes; here it is a Gaussian copula, alike all
around the contour, from the errors of patients that the layers have not learned from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import expit, ndtr, ndtri, owens_t

from aistat_jax._typing import Array, Bool, Float
from aistat_jax.nets.blocks import Conv, rectify
from aistat_jax.nets.contour_head import AMPLITUDE, POSITIONS, SLOPE, WIDTH, Linear, factor
from aistat_jax.nets.edge_law import RAYS
from aistat_jax.nets.edges import unroll
from aistat_jax.nets.head_training import HeadSettings, Unrolled, optimised, targets_in, varied
from aistat_jax.nets.weights import filled
from benchmarks.peers import LEVEL, Band, given_something
from benchmarks.peers.cases import Case
from benchmarks.peers.contours import inside

# Of patients: how many are left out of learning, for the copula.
LEFT_OUT = 5
BAND_DRAWS, MAP_DRAWS = 4000, 400
GRID = np.linspace(-7.0, 7.0, 561)  # where a standard skew normal's distribution function is kept


class Skewed(NamedTuple):
    """Shapes: location, scale, shape (*batch, ray), of log radii; presence (*batch,) log-odds."""

    location: Any
    scale: Any
    shape: Any
    presence: Any


class SkewHead(nnx.Module):
    """From unrolled features (target, ray, position, feature) to `Skewed`."""

    def __init__(self, features: int) -> None:
        self.first = Conv(features + 1, WIDTH, (3, 3), (1, 1))
        self.second = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.third = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.score = Linear(WIDTH, 1)
        self.point = Linear(WIDTH + 1, 2)
        self.whole = Linear(2 * WIDTH + 1, 2 * WIDTH)
        self.said = Linear(2 * WIDTH, 2)

    def __call__(self, x: Float[Array, "target ray position feature"], log_radius: Array) -> Skewed:
        size = jnp.broadcast_to(0.3 * log_radius[:, None, None, None], (*x.shape[:-1], 1))
        h = jnp.concatenate([x, size], axis=-1)
        for conv in (self.first, self.second, self.third):
            joined = jnp.concatenate([h[:, -1:], h, h[:, :1]], axis=1)  # rays close to a circle
            h = rectify(conv(joined)[:, 1:-1], SLOPE)
        weight = jax.nn.softmax(self.score(h)[..., 0], axis=-1)
        positions = jnp.asarray(POSITIONS, jnp.float32)
        mean = weight @ positions
        width = jnp.sqrt(weight @ jnp.square(positions) - jnp.square(mean) + 1e-4)
        at = jnp.einsum("brt,brtf->brf", weight, h)
        point = self.point(jnp.concatenate([at, jnp.log(width)[..., None]], axis=-1))
        pooled = [at.mean(axis=1), h.mean(axis=(1, 2)), 0.3 * log_radius[:, None]]
        said = self.said(rectify(self.whole(jnp.concatenate(pooled, axis=-1)), SLOPE))
        scale = 0.01 + AMPLITUDE * factor(point[..., 0] + said[:, :1])
        return Skewed(mean, scale, point[..., 1], said[:, 1])


def log_density(law: Skewed, y: Any) -> Array:
    """Of log radii, ray by ray: log 2 - log w + log phi(z) + log Phi(a z) (Azzalini 1985)."""
    z = (y - law.location) / law.scale
    normal = -0.5 * jnp.square(z) - 0.5 * np.log(2 * np.pi)
    return np.log(2.0) - jnp.log(law.scale) + normal + jax.scipy.special.log_ndtr(law.shape * z)


def skew_loss(head: SkewHead, batch: Unrolled) -> Array:
    """Minus the log-likelihood a reader and ray, plus the cross-entropy of presence."""
    law = head(jnp.asarray(batch.features, jnp.float32), jnp.asarray(batch.log_radius))
    drew, presence = jnp.asarray(batch.drew), jnp.asarray(batch.presence)
    location, scale, shape = (part[:, None] for part in law[:3])
    rays = Skewed(location, scale, shape, law.presence)
    each = log_density(rays, jnp.asarray(batch.edges)).mean(axis=-1)
    fit = jnp.sum(jnp.where(drew > 0, each, 0.0)) / jnp.maximum(drew.sum(), 1.0)
    return jnp.mean(jax.nn.softplus(law.presence) - presence * law.presence) - fit


@partial(jax.jit, static_argnums=0)
def read(graph: Any, state: Any, features: Any, log_radius: Any) -> Skewed:
    return nnx.merge(graph, state)(features, log_radius)


# ------------------------------------------------------------------------- a law's quantiles


def cumulative(z: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Phi(z) - 2 T(z, a), T being Owen's function: of a standard skew normal."""
    return np.clip(ndtr(z) - 2 * owens_t(z, shape), 0.0, 1.0)


def quantiles(
    shape: Float[np.ndarray, " ray"], u: Float[np.ndarray, "draw ray"]
) -> Float[np.ndarray, "draw ray"]:
    """Of standard skew normals, linear between points of GRID."""
    table = cumulative(GRID[:, None], shape)
    return np.stack(
        [np.interp(u[:, n], np.maximum.accumulate(table[:, n]), GRID) for n in range(len(shape))],
        axis=1,
    )


def circulant_root(z: Float[np.ndarray, "edge ray"]) -> Float[np.ndarray, " frequency"]:
    """Square roots of the spectrum of a correlation that is alike all around, of scores z.

    The correlation of two rays is the mean product at their distance over the mean square; of
    means of products its spectrum has no negative part.
    """
    power = np.square(np.abs(np.fft.fft(z, axis=1))).mean(axis=0)
    return np.sqrt(power / power.mean())


def correlated(
    root: Float[np.ndarray, " frequency"], rng: np.random.Generator, count: int
) -> Float[np.ndarray, "count ray"]:
    """Standard normals around a contour with that correlation."""
    white = np.fft.fft(rng.standard_normal((count, len(root))), axis=1)
    return np.fft.ifft(white * root, axis=1).real


def band_level(root: Float[np.ndarray, " frequency"], level: float = LEVEL) -> float:
    """How far from one half, in probability, central intervals must reach on every ray, so that a
    share `level` of whole contours lies within them."""
    u = ndtr(correlated(root, np.random.default_rng(0), BAND_DRAWS))
    worst = np.abs(u - 0.5).max(axis=1)
    return float(np.quantile(worst, level, method="inverted_cdf"))


# ----------------------------------------------------------------------------------- the peer


@dataclass(frozen=True, eq=False)
class SkewClaim:
    """Contours along the rays of a case's target."""

    case: Case
    fitted: SkewFitted

    @cached_property
    def law(self) -> Skewed:
        target = self.case.target
        features, log_radius = unroll(self.case.field, target.plane, target.centre, target.radius)
        law = read(self.fitted.graph, self.fitted.state, features[None], jnp.float32([log_radius]))
        return Skewed(*(np.asarray(part[0], float) for part in law))

    @cached_property
    def chart(self) -> Any:
        return self.case.target.chart(4 * self.case.target.radius, RAYS)

    def _inside(self, u: Float[np.ndarray, "draw ray"]) -> Bool[np.ndarray, "draw i j"]:
        """Of contours by their place, in probability, on every ray."""
        y = self.law.location + self.law.scale * quantiles(self.law.shape, u)
        relative = np.exp(np.minimum(y, np.log(4.0)))
        return inside(self.chart, self.case, relative)

    def _drawn(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        return self._inside(ndtr(correlated(self.fitted.root, rng, count)))

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        there = rng.random(count) < self.presence
        return self._drawn(rng, count) & there[:, None, None]

    @cached_property
    def probability(self) -> Float[np.ndarray, "i j"]:
        return self.presence * self._drawn(np.random.default_rng(0), MAP_DRAWS).mean(axis=0)

    @property
    def presence(self) -> float:
        return float(expit(self.law.presence))

    @property
    def middle(self) -> Bool[np.ndarray, "i j"]:
        return given_something(self.probability, self.presence)

    @property
    def band(self) -> Band:
        reach = np.full(RAYS, self.fitted.reach)
        return Band(*self._inside(np.stack([0.5 - reach, 0.5 + reach])))


@dataclass(frozen=True, eq=False)
class SkewFitted:
    graph: Any
    state: Any
    root: Float[np.ndarray, " frequency"]
    name: str = "skew-normal contour points"

    @cached_property
    def reach(self) -> float:
        return band_level(self.root)

    def at(self, case: Case) -> SkewClaim:
        return SkewClaim(case, self)


class SkewNormal:
    """See the head of this file."""

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        targets: dict[str, list[Unrolled]] = defaultdict(list)
        for case in cases:
            masks = np.moveaxis(case.masks, 0, -1)
            targets[case.patient] += targets_in(case.field, masks, case.plane, rng, budget)
        names = rng.permutation(sorted(targets))
        out = set(names[:: min(LEFT_OUT, len(names))].tolist())
        pool = [t for name, found in targets.items() if name not in out for t in found]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pool)

        def batches() -> Iterator[Unrolled]:
            while True:
                chosen = rng.integers(len(pool), size=budget.batch)
                yield varied(jax.tree.map(lambda leaf, at=chosen: leaf[at], stacked), rng)

        inputs = cases[0].features.shape[-1] + 1
        weights = optimised(
            SkewHead(inputs), skew_loss, batches(), replace(budget, seed=seed),
            lambda step, loss: None,
        )  # fmt: skip
        graph, shapes = nnx.split(nnx.eval_shape(lambda: SkewHead(inputs)))
        state = filled(shapes, weights)
        left = [t for name in sorted(out) for t in targets[name] if not t.astray]
        return [SkewFitted(graph, state, circulant_root(_errors(graph, state, left)))]


def _errors(graph: Any, state: Any, targets: Sequence[Unrolled]) -> Float[np.ndarray, "edge ray"]:
    """Normal scores of drawn edges under their laws."""
    found = []
    for target in targets:
        features = np.asarray(target.features, np.float32)[None]
        law = read(graph, state, features, np.asarray(target.log_radius)[None])
        location, scale, shape = (np.asarray(part[0], float) for part in law[:3])
        edges = np.asarray(target.edges, float)[np.asarray(target.drew) > 0]
        u = cumulative((edges - location) / scale, shape)
        found.append(ndtri(np.clip(u, 1e-6, 1 - 1e-6)))
    return np.concatenate(found)
