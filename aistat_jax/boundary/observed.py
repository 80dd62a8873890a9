"""Which observations does a term count, and how likely is each, given a boundary?

The collapsed likelihood of an image is a function of sums over its voxels. Here it is taken apart
again: the intensities are drawn back from their conjugate conditional given the boundary, and with
them the likelihood, tempered as in the fit, is a product over voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from aistat_jax._record import replace
from aistat_jax._typing import Float, Int
from aistat_jax.boundary.discs import Blur, disc_shares
from aistat_jax.boundary.families import BlurredStep, HardStep, Term
from aistat_jax.boundary.intensity import Intensity
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.nested import NestedStep
from aistat_jax.boundary.targets import Taper
from aistat_jax.boundary.uneven import UnevenStep, level_rows
from aistat_jax.space.chart import Shares

# Pairs of voxel and ray, times draws, that are held in memory at once.
CHUNK = 4_000_000


@dataclass(frozen=True)
class Voxels:
    """The voxels, or scattered points, that one intensity term counts.

    `values` are those of the image; the term counts (values - centre) / scale, with relative
    `precisions`. `side` is that of a voxel, 0 for points. Shapes: points (voxel, dims), values,
    precisions (voxel,).
    """

    name: str
    term: BlurredStep | HardStep | UnevenStep
    shared: Shares
    points: Float[np.ndarray, "voxel dims"]
    values: Float[np.ndarray, " voxel"]
    precisions: Float[np.ndarray, " voxel"]
    side: float
    centre: float
    scale: float

    @property
    def counted(self) -> Float[np.ndarray, " voxel"]:
        return (self.values - self.centre) / self.scale

    @cached_property
    def position(self) -> Float[np.ndarray, " voxel"]:
        """That of each voxel's centre."""
        found = np.zeros(len(self.values))
        found[self.shared.voxel] = self.shared.position
        return found

    def at(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch voxel"]:
        """Values of sites at each voxel: the mean over those that it meets."""
        from scipy.sparse import csr_array

        size = (values.shape[-1], len(self.values))
        shares = (self.shared.share, (self.shared.site, self.shared.voxel))
        return values @ csr_array(shares, size)

    @cached_property
    def block(self) -> Int[np.ndarray, " voxel"]:
        """Numbers of the squares (cubes) of voxels that are worth about one observation each."""
        side = self.side * np.ceil(1 / np.sqrt(float(self.term.eta)))
        return _blocks(self.points, float(side))


@dataclass(frozen=True)
class Given:
    """Draws given draws of the boundary, in the image's units.

    Shapes: block_log_likelihood (draw, block), in the term's units; predicted (draw, voxel).
    """

    block_log_likelihood: np.ndarray
    predicted: np.ndarray


def pieces_with_terms(model: BoundaryModel) -> Iterator[tuple[Any, tuple[Term, ...]]]:
    """Each piece of a model's evidence beside the terms that were made of it."""
    terms = list(model.data.terms)
    for piece in model.evidence.pieces:
        if isinstance(piece, Intensity):
            count = len(piece.channels) if piece.image is not None else 1
        else:
            count = len(piece.tabulate(model.target, model.chart))
        yield piece, tuple(terms[:count])
        del terms[:count]


def voxels_of(model: BoundaryModel) -> list[Voxels]:
    """What every intensity term of a model counts, read again from its image.

    Rings are left out: their voxels have three levels, and no one share inside.
    """
    found = []
    for piece, terms in pieces_with_terms(model):
        if not isinstance(piece, Intensity):
            continue
        for name, term in zip(piece.channels or ("points",), terms, strict=True):
            if isinstance(term, NestedStep):
                continue
            assert isinstance(term, BlurredStep | HardStep | UnevenStep)
            # how many voxels count is known already, and dear to find out
            known = replace(piece, temper=float(term.eta))
            samples = known.samples(name, model.target, model.chart)
            values = np.asarray(samples.values, dtype=float)
            centre, scale = piece.standard(values)
            found.append(
                Voxels(
                    name,
                    term,
                    model.chart.share(samples.points, samples.footprint),
                    samples.points,
                    values,
                    samples.precisions,
                    samples.footprint,
                    centre,
                    scale,
                )
            )
    return found


def _blocks(points: np.ndarray, side: float) -> np.ndarray:
    """Numbers of the squares of a side that hold the points; each its own where they have none."""
    if side <= 0:
        return np.arange(len(points))
    cell = np.floor((points - points.min(axis=0)) / side + 1e-6).astype(int)
    return np.unique(cell, axis=0, return_inverse=True)[1].ravel()


def inside_shares(
    term: BlurredStep | HardStep | NestedStep | UnevenStep,
    shared: Shares,
    radii: Float[np.ndarray, "draw ray"],
    dims: int = 2,
) -> Float[np.ndarray, "draw pair"]:
    """How far each pair of voxel and ray lies inside each boundary: h, or 0 and 1."""
    return _shares_within(term, shared.position, seen_edges(term, radii)[:, shared.site], dims)


def voxels_inside(
    voxels: Voxels, radii: Float[np.ndarray, "draw ray"]
) -> Float[np.ndarray, "draw voxel"]:
    """How far each voxel lies inside each boundary, at the mean of the rays that it meets."""
    edges = voxels.at(seen_edges(voxels.term, radii))
    return _shares_within(voxels.term, voxels.position, edges, voxels.points.shape[1])


def seen_edges(
    term: BlurredStep | HardStep | NestedStep | UnevenStep, radii: Float[np.ndarray, "draw ray"]
) -> Float[np.ndarray, "draw ray"]:
    """Where a term looks for the edge of each boundary."""
    if isinstance(term, HardStep) or term.bending is None:
        return radii
    with jax.enable_x64(True):
        return np.asarray(_bent(term.bending, radii))


@jax.jit
def _bent(bending: Any, radii: Any) -> Any:
    return jax.vmap(bending)(radii)


def _shares_within(
    term: BlurredStep | HardStep | NestedStep | UnevenStep,
    position: np.ndarray,
    edge: np.ndarray,
    dims: int,
) -> np.ndarray:
    """The share of the step at positions (place,), of edges (draw, place) that are there."""
    from scipy.special import ndtr

    if isinstance(term, HardStep):
        return (position < edge).astype(float)
    blur = float(term.blur)
    if isinstance(term, NestedStep) or term.bending is None or float(term.bending.shrinkage) > 0:
        return ndtr((edge - position) / blur)
    across, offset, slope, bend = (float(v) for v in np.asarray(term.section))
    taper = Taper(slope, bend) if slope or bend else None
    return disc_shares(position, edge, Blur(blur, across, offset), taper, dims)


def given_boundaries(
    voxels: Voxels, radii: Float[np.ndarray, "draw ray"], rng: np.random.Generator
) -> Given:
    """Log-likelihoods of blocks and predicted voxels, the intensities drawn given each boundary."""
    from scipy.sparse import csr_array

    shared, eta = voxels.shared, float(voxels.term.eta)
    pairs = np.arange(len(shared.voxel))
    blocks = int(voxels.block.max()) + 1
    by_block = csr_array(
        (eta * shared.share, (pairs, voxels.block[shared.voxel])), (len(pairs), blocks)
    )
    by_voxel = csr_array((shared.share, (pairs, shared.voxel)), (len(pairs), len(voxels.values)))
    law = _LAWS[type(voxels.term)](voxels)
    logs, predicted = [], []
    for part in np.array_split(radii, max(1, len(radii) * len(pairs) // CHUNK)):
        inside = inside_shares(voxels.term, shared, part, voxels.points.shape[1])
        parameters = law.parameters(inside, rng)
        logs.append(law.log_density(inside, parameters) @ by_block)
        predicted.append(law.predict(inside @ by_voxel, parameters, rng))
    values = voxels.centre + voxels.scale * np.concatenate(predicted)
    return Given(np.concatenate(logs), values)


class _Blurred:
    """y_i ~ N(mu + delta h_i, sigma^2 / v_i); parameters (draw, 3): mu, delta, sigma."""

    def __init__(self, voxels: Voxels) -> None:
        self.term = voxels.term
        assert isinstance(self.term, BlurredStep)
        self.prior, self.eta = self.term.prior, float(self.term.eta)
        self.precisions = voxels.precisions
        self.y, self.v = voxels.counted[voxels.shared.voxel], voxels.precisions[voxels.shared.voxel]
        self.weight = self.eta * voxels.shared.share * self.v

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


class _Uneven:
    """y_i ~ N(level at i, sigma^2 / v_i); parameters (draw, level + 1), the last of them sigma."""

    def __init__(self, voxels: Voxels) -> None:
        assert isinstance(voxels.term, UnevenStep)
        self.voxels, self.term = voxels, voxels.term
        shared = voxels.shared
        self.y, self.v = voxels.counted[shared.voxel], voxels.precisions[shared.voxel]
        self.weight = float(self.term.eta) * shared.share * self.v
        fields = np.asarray(self.term.fields)
        there = voxels.position[shared.voxel]
        self.of_pair = self.term.level_fields(fields[shared.site], there)
        self.of_voxel = self.term.level_fields(voxels.at(fields.T).T, voxels.position)

    def parameters(self, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = len(self.voxels.values)
        drawn = []
        for share in inside:
            best, rate, factor = self.term.levels_given(
                level_rows(share, self.of_pair), self.y, self.weight
            )
            shape = float(self.term.shape) + 0.5 * float(self.term.eta) * count
            sd = np.sqrt(rate / rng.gamma(shape))
            step = np.linalg.solve(factor.T, rng.standard_normal(len(best)))
            drawn.append(np.append(best + sd * step, sd))
        return np.array(drawn)

    def _mean(self, inside: np.ndarray, fields: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        (rim, core), (of_rim, of_core) = (
            np.split(part, 2, axis=1) for part in (parameters[:, :-2], fields)
        )
        outside = (1 - inside) * parameters[:, -2:-1]
        return inside * (rim @ of_rim.T) + core @ of_core.T + outside

    def log_density(self, inside: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        sd = parameters[:, -1:]
        error = (self.y - self._mean(inside, self.of_pair, parameters)) / sd
        return 0.5 * (np.log(self.v) - np.log(2 * np.pi) - self.v * error**2) - np.log(sd)

    def predict(
        self, inside: np.ndarray, parameters: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        noise = rng.standard_normal(inside.shape) / np.sqrt(self.voxels.precisions)
        return self._mean(inside, self.of_voxel, parameters) + parameters[:, -1:] * noise


def expected(
    voxels: Voxels, share: Float[np.ndarray, " voxel"]
) -> Float[np.ndarray, " voxel"] | None:
    """What uneven levels would have voxels be that lie inside by a share; None for even ones."""
    if not isinstance(voxels.term, UnevenStep):
        return None
    law = _Uneven(voxels)
    rows = level_rows(share, law.of_voxel)
    weight = float(voxels.term.eta) * voxels.precisions
    best, _, _ = voxels.term.levels_given(rows, voxels.counted, weight)
    return voxels.centre + voxels.scale * (rows @ best)


class _Hard:
    """Another member of an exponential family on each side; parameters (draw, side, 2).

    Gaussian: mean and sd; Bernoulli: a probability; Poisson: a rate. Side 0 is outside.
    """

    def __init__(self, voxels: Voxels) -> None:
        term = voxels.term
        assert isinstance(term, HardStep)
        self.family, self.hyper, self.eta = term.family, np.asarray(term.hyper), float(term.eta)
        self.y = voxels.counted[voxels.shared.voxel]
        self.weight = self.eta * voxels.shared.share

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


_LAWS: dict[type, Any] = {BlurredStep: _Blurred, UnevenStep: _Uneven, HardStep: _Hard}
