"""How are many contours fitted at once? By one compiled program, whatever their tables' lengths.

Tables of different lengths are padded to a common one (a table stays at its last value beyond
its end, so padding changes nothing), so that models of one kind share what is compiled. The
contours then run one after another: each takes its own number of Newton steps, its tables stay
in the cache, and stacking them into one array was measured to be no faster.
"""

from __future__ import annotations

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
from aistat_jax.inference.fit import check, fit
from aistat_jax.inference.posterior import Posterior


def fit_many(
    models: Sequence[BoundaryModel],
    *,
    draws: int = 1000,
    seed: int = 0,
    fallback: bool = True,
    progress: Callable[[int], Any] | None = None,
) -> list[Posterior]:
    """Laplace posteriors of many boundaries, in the order given.

    Models of one program and one kind of evidence share a compiled program. Contour number i
    gets the seed `seed + i`. Those whose weights cannot be trusted are fitted again, or sampled,
    as `fit` does. `progress` is called with the number of contours just done.

    Raises InputError, before anything is fitted, for fewer than 100 draws.
    """
    for model in models:
        check(model, "laplace", draws, 2)
    posteriors = []
    for i, model in enumerate(_alike(models)):
        posteriors.append(fit(model, draws=draws, seed=seed + i, fallback=fallback))
        if progress is not None:
            progress(1)
    return posteriors


def _alike(models: Sequence[BoundaryModel]) -> list[BoundaryModel]:
    """The same models, those of one kind with tables of the same lengths."""
    longest: dict[Any, list[int]] = defaultdict(list)
    for model in models:
        sizes, kind = _lengths(model), _kind(model)
        known = longest[kind] or sizes
        longest[kind] = [max(pair) for pair in zip(known, sizes, strict=True)]
    return [_padded(m, [_bucket(size) for size in longest[_kind(m)]]) for m in models]


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
    """What models must share to be one kind: program, structure, and all shapes but lengths."""
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
