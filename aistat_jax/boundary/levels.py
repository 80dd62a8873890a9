"""Given a boundary, which intensities are on either side, and how likely is each voxel?

The conditionals of the conjugate laws that `families` integrates out, tempered as they are there.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.boundary.edges import Edged
from aistat_jax.space.chart import Shares


class CountedVoxels(NamedTuple):
    """What a term counts: standardised values, and their relative precisions, of shared voxels.

    Shapes: counted, precisions (voxel,).
    """

    counted: Float[np.ndarray, " voxel"]
    precisions: Float[np.ndarray, " voxel"]
    shared: Shares


@runtime_checkable
class Levels(Protocol):
    """The law of the intensities of one image given a boundary.

    Shapes: inside (draw, pair) of voxel and site, of `predict` (draw, voxel); log_density
    (draw, pair), predict (draw, voxel). What `parameters` returns has draws in front.
    """

    def parameters(self, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...

    def log_density(self, inside: np.ndarray, parameters: np.ndarray) -> np.ndarray: ...

    def predict(
        self, inside: np.ndarray, parameters: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray: ...


@runtime_checkable
class Varied(Protocol):
    """`Levels` that differ inside: what voxels that lie inside by a share are expected to be."""

    def expected(self, inside: Float[np.ndarray, " voxel"]) -> Float[np.ndarray, " voxel"]: ...


@runtime_checkable
class Step(Edged, Protocol):
    """An `Edged` term whose levels inside and outside it can draw back (`levels`)."""

    eta: Any

    def levels(self, seen: CountedVoxels) -> Levels: ...


class StepLevels:
    """y_i ~ N(mu + delta h_i, sigma^2 / v_i); parameters (draw, 3): mu, delta, sigma."""

    def __init__(self, prior: Any, eta: float, seen: CountedVoxels) -> None:
        self.prior, self.eta, self.precisions = prior, eta, seen.precisions
        self.y, self.v = (each[seen.shared.voxel] for each in (seen.counted, seen.precisions))
        self.weight = eta * seen.shared.share * self.v

    def parameters(self, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        w, y, count = self.weight, self.y, len(inside)
        mean, precision = np.asarray(self.prior.mean), np.asarray(self.prior.precision)
        p = np.empty((count, 2, 2))
        p[:, 0, 0] = w.sum() + precision[0]
        p[:, 0, 1] = p[:, 1, 0] = inside @ w
        p[:, 1, 1] = inside**2 @ w + precision[1]
        q = np.stack([np.full(count, w @ y), inside @ (w * y)], axis=1) + precision * mean
        best = np.linalg.solve(p, q[..., None])[..., 0]
        spread = w @ y**2 + (precision * mean**2).sum() - (q * best).sum(axis=1)
        # the voxels, not their precisions, are counted: n of the term
        shape = float(self.prior.shape) + 0.5 * self.eta * len(self.precisions)
        rate = float(self.prior.rate) + 0.5 * spread
        sd = np.sqrt(rate / rng.gamma(shape, size=count))
        factor = np.linalg.inv(np.linalg.cholesky(p)).swapaxes(1, 2)
        step = (factor @ rng.standard_normal((count, 2, 1)))[..., 0]
        return np.column_stack([best + sd[:, None] * step, sd])

    def log_density(self, inside: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Of every pair, (draw, pair)."""
        mu, delta, sd = (column[:, None] for column in parameters.T)
        error = (self.y - mu - delta * inside) / sd
        return 0.5 * (np.log(self.v) - np.log(2 * np.pi) - self.v * error**2) - np.log(sd)

    def predict(
        self, inside: np.ndarray, parameters: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """From the share of every voxel inside, (draw, voxel)."""
        mu, delta, sd = (column[:, None] for column in parameters.T)
        noise = rng.standard_normal(inside.shape) / np.sqrt(self.precisions)
        return mu + delta * inside + sd * noise


class SideLevels:
    """Another member of an exponential family on each side; parameters (draw, side, 2).

    Gaussian: mean and sd; Bernoulli: a probability; Poisson: a rate. Side 0 is outside.
    """

    def __init__(self, family: str, hyper: np.ndarray, eta: float, seen: CountedVoxels) -> None:
        self.family, self.hyper = family, hyper
        self.y = seen.counted[seen.shared.voxel]
        self.weight = eta * seen.shared.share

    def parameters(self, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found = np.zeros((len(inside), 2, 2))
        for side, member in enumerate((1 - inside, inside)):
            n, y, yy = (member @ (self.weight * self.y**power) for power in range(3))
            found[:, side] = self._posterior(n, y, yy, rng)
        return found

    def _posterior(
        self, n: np.ndarray, y: np.ndarray, yy: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        a, b = self.hyper[:2]
        if self.family == "bernoulli":
            return np.column_stack([rng.beta(a + y, b + n - y), np.zeros_like(n)])
        if self.family == "poisson":
            return np.column_stack([rng.gamma(a + y) / (b + n), np.zeros_like(n)])
        mean, precision, shape, rate = self.hyper
        p = precision + n
        best = (precision * mean + y) / p
        spread = np.maximum(yy + precision * mean**2 - p * best**2, 0.0)
        sd = np.sqrt((rate + 0.5 * spread) / rng.gamma(shape + 0.5 * n))
        return np.column_stack([best + sd * rng.standard_normal(len(n)) / np.sqrt(p), sd])

    def log_density(self, inside: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        outer, inner = (self._log(parameters[:, side]) for side in (0, 1))
        return np.where(inside > 0, inner, outer)

    def _log(self, parameters: np.ndarray) -> np.ndarray:
        from scipy import stats

        first, second = (column[:, None] for column in parameters.T)
        if self.family == "bernoulli":
            return self.y * np.log(first) + (1 - self.y) * np.log1p(-first)
        if self.family == "poisson":
            return stats.poisson.logpmf(self.y, first)
        return stats.norm.logpdf(self.y, first, second)

    def predict(
        self, inside: np.ndarray, parameters: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        side = (rng.uniform(size=inside.shape) < inside).astype(int)
        draw = np.arange(len(inside))[:, None]
        first, second = (parameters[draw, side, k] for k in (0, 1))
        if self.family == "bernoulli":
            return (rng.uniform(size=inside.shape) < first).astype(float)
        if self.family == "poisson":
            return rng.poisson(first).astype(float)
        return first + second * rng.standard_normal(inside.shape)
