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
from aistat_jax.inference.fit import (
    as_posterior,
    better,
    check,
    restarted,
    sampled_instead,
)
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
    the seed `seed + i`. Those whose weights cannot be trusted are started again from their best
    draw and, if that does not help, sampled one by one, as `fit` does. `progress`
    is called with the number of contours done.
    """
    for model in models:
        check(model, "laplace", draws, 2)
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, model in enumerate(models):
        groups[_kind(model)].append(i)
    results: dict[int, Posterior] = {}
    for members in groups.values():
        each = zip(*(_lengths(models[i]) for i in members), strict=True)
        lengths = [_bucket(max(sizes)) for sizes in each]
        group = {i: _padded(models[i], lengths) for i in members}
        report = progress or (lambda count: None)
        found = _fit_group(group, draws, seed, report)
        if fallback:
            refused = [i for i in members if not trustworthy(found[i].diagnostics, draws)]
            report(-len(refused))
            again = {i: restarted(group[i], found[i]) for i in refused}
            for i, posterior in _fit_group(again, draws, seed, lambda count: None).items():
                found[i] = better(found[i], posterior)
                if not trustworthy(found[i].diagnostics, draws):
                    found[i] = sampled_instead(again[i], found[i], draws=draws, seed=seed + i)
                report(1)
        results |= found
    return [results[i] for i in range(len(models))]


def _fit_group(
    group: dict[int, BoundaryModel], draws: int, seed: int, report: Callable[[int], Any]
) -> dict[int, Posterior]:
    """Laplace fits of padded models of one kind, keyed by number, BATCH of them to a call."""
    found: dict[int, Posterior] = {}
    numbers = list(group)
    chunks = [numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH)]
    for chunk in chunks:
        fitted = _fit_chunk({i: group[i] for i in chunk}, draws, seed)
        found |= fitted
        report(len(fitted))
    return found


def _fit_chunk(chunk: dict[int, BoundaryModel], draws: int, seed: int) -> dict[int, Posterior]:
    start = time.perf_counter()
    models = list(chunk.values())
    blank = BATCH - len(models)
    with jax.enable_x64(True):
        members = [model.data for model in models + models[-1:] * blank]
        data = _stack(members)
        smoothed = None if data.differentiable else _stack([d.smoothed() for d in members])
        keys = jax.vmap(jax.random.key)(np.array([seed + i for i in chunk] + [0] * blank))
        out = laplace_batch(models[0].program, data, smoothed, keys, draws)
        sites = {name: np.asarray(value) for name, value in out.sites.items()}
        khat, ess = np.asarray(out.khat), np.asarray(out.ess)
    seconds = (time.perf_counter() - start) / len(models)
    posteriors = {}
    for k, (i, model) in enumerate(chunk.items()):
        samples = {name: value[k][None] for name, value in sites.items()}
        diagnostics = weight_diagnostics(
            float(khat[k]), float(ess[k]), samples["radii"], model.chart
        )
        posteriors[i] = as_posterior(model, samples, diagnostics, "laplace", seed + i, seconds)
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


def _padded(model: BoundaryModel, lengths: list[int]) -> BoundaryModel:
    if _lengths(model) == lengths:
        return model
    return replace(model, data=_pad(model.data, lengths))


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
