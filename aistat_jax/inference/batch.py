"""How are many contours fitted at once? One compiled call over a batch of equal shapes.

Tables of different lengths are padded to a common one (a table stays at its last value beyond
its end, so padding changes nothing), and the batch to a whole number of `BATCH` contours.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.families import HardStep
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.tables import SmoothTable, SortedTable
from aistat_jax.inference.diagnostics import trustworthy, weight_diagnostics
from aistat_jax.inference.fit import PROPOSALS_PER_DRAW, as_posterior, check, fit
from aistat_jax.inference.laplace import laplace_batch
from aistat_jax.inference.posterior import Posterior

BATCH = 8


def fit_many(
    models: Sequence[BoundaryModel],
    *,
    draws: int = 1000,
    seed: int = 0,
    fallback: bool = True,
    progress: Callable[[int], Any] | None = None,
) -> list[Posterior]:
    """Laplace posteriors of many boundaries, in the order given.

    Models of one program and one kind of evidence share a compiled call. Contour number i gets
    the seed `seed + i`. Those whose weights cannot be trusted are refitted one by one by chains,
    as `fit` does. `progress` is called with the number of contours done.
    """
    for model in models:
        check(model, "laplace", draws, 2)
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, model in enumerate(models):
        groups[_kind(model)].append(i)
    results: dict[int, Posterior] = {}
    for members in groups.values():
        nodes = {id(models[i]): _lengths(models[i]) for i in members}
        target = [max(sizes) for sizes in zip(*nodes.values(), strict=True)]
        target = [_bucket(size) for size in target]
        chunks = [members[first : first + BATCH] for first in range(0, len(members), BATCH)]

        for chunk in chunks:
            posteriors = _fit_chunk([models[i] for i in chunk], chunk, target, draws, seed)
            for i, posterior in zip(chunk, posteriors, strict=True):
                if fallback and not trustworthy(posterior.diagnostics, draws):
                    posterior = fit(models[i], "laplace", draws=draws, seed=seed + i)
                results[i] = posterior
            if progress is not None:
                progress(len(chunk))
    return [results[i] for i in range(len(models))]


def _fit_chunk(
    models: list[BoundaryModel], order: list[int], lengths: list[int], draws: int, seed: int
) -> list[Posterior]:
    start = time.perf_counter()
    filled = models + [models[-1]] * (BATCH - len(models))
    data = [_pad(model.data, lengths) for model in filled]
    with jax.enable_x64(True):
        stacked = _stack(data)
        smoothed = None if stacked.differentiable else _stack([d.smoothed() for d in data])
        seeds = np.array([seed + i for i in order] + [0] * (BATCH - len(order)))
        keys = jax.vmap(jax.random.key)(seeds)
        out = laplace_batch(
            models[0].program, stacked, smoothed, keys, PROPOSALS_PER_DRAW * draws, draws
        )
        sites = {name: np.asarray(value) for name, value in out.sites.items()}
        khat, ess = np.asarray(out.khat), np.asarray(out.ess)
    seconds = (time.perf_counter() - start) / len(models)
    posteriors = []
    for k, model in enumerate(models):
        samples = {name: value[k][None] for name, value in sites.items()}
        diagnostics = weight_diagnostics(
            float(khat[k]), float(ess[k]), samples["radii"], model.chart
        )
        posteriors.append(
            as_posterior(model, samples, diagnostics, "laplace", seed + order[k], seconds)
        )
    return posteriors


def _stack(data: list[Any]) -> Any:
    """Records of equal shapes as one record, every leaf with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *data)


def _tables(data: Any) -> list[SmoothTable | SortedTable]:
    tables = []
    for term in data.terms:
        if hasattr(term, "table"):
            tables.append(term.table)
        if isinstance(term, HardStep):
            tables.append(term.surrogate)
    return tables


def _length(table: SmoothTable | SortedTable) -> int:
    return (table.pieces if isinstance(table, SmoothTable) else table.positions).shape[1]


def _lengths(model: BoundaryModel) -> list[int]:
    return [_length(table) for table in _tables(model.data)]


def _bucket(size: int) -> int:
    """Size rounded up to a quarter of its power of two (at least 64): few sizes, little waste."""
    step = max(64, 2 ** (int(np.ceil(np.log2(size))) - 2))
    return -(-size // step) * step


def _kind(model: BoundaryModel) -> Any:
    """What models must share to be stacked: program, structure, and all shapes but lengths."""
    bare = _pad(model.data, None)
    shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(bare))
    return model.program, jax.tree.structure(bare), shapes


def _pad(data: Any, lengths: list[int] | None) -> Any:
    """Every table padded to its length; to nothing at all when `lengths` is None."""
    remaining = None if lengths is None else list(lengths)

    def padded(table: SmoothTable | SortedTable) -> SmoothTable | SortedTable:
        if remaining is None:
            return _cut(table)
        return _extended(table, remaining.pop(0))

    terms = []
    for term in data.terms:
        if hasattr(term, "table"):
            term = replace(term, table=padded(term.table))
        if isinstance(term, HardStep):
            term = replace(term, surrogate=padded(term.surrogate))
        terms.append(term)
    return replace(data, terms=tuple(terms))


def _cut(table: SmoothTable | SortedTable) -> SmoothTable | SortedTable:
    if isinstance(table, SmoothTable):
        return replace(table, pieces=np.asarray(table.pieces)[:, :0])
    return SortedTable(
        np.asarray(table.positions)[:, :0],  # type: ignore[arg-type]
        np.asarray(table.cumulative)[:, :0],  # type: ignore[arg-type]
    )


def _extended(table: SmoothTable | SortedTable, length: int) -> SmoothTable | SortedTable:
    extra = length - _length(table)
    if extra < 0:
        raise InputError("a table is longer than its batch allows")
    if isinstance(table, SmoothTable):
        pieces = np.asarray(table.pieces)
        last = np.zeros((pieces.shape[0], extra, *pieces.shape[2:]))
        last[..., 0] = pieces[:, -1:].sum(axis=-1)
        return replace(table, pieces=np.concatenate([pieces, last], axis=1))
    positions, cumulative = np.asarray(table.positions), np.asarray(table.cumulative)
    return SortedTable(
        np.pad(positions, ((0, 0), (0, extra)), constant_values=np.inf),  # type: ignore[arg-type]
        np.pad(cumulative, ((0, 0), (0, extra), (0, 0)), mode="edge"),  # type: ignore[arg-type]
    )
