"""How are many contours fitted at once? By one compiled program, on every core.

Tables of different lengths are padded to a common one (a table stays at its last value beyond
its end, so padding changes nothing), so that models of one kind share what is compiled. Each
contour then runs by itself, on one core (one_core.py): it takes its own number of Newton steps
and its tables stay in that core's cache, which stacking all contours into one array would undo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._threads import on_every_core
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.tables import Table
from aistat_jax.inference.finish import check_draws
from aistat_jax.inference.fit import compared, fit
from aistat_jax.inference.methods import Laplace
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
    check_draws(draws)
    report = progress or (lambda count: None)
    kinds = [kind_of(model) for model in models]
    longest = _longest(models, kinds)
    found: dict[int, Posterior] = {}
    everything = range(len(models))

    def alike(i: int) -> BoundaryModel:
        return _padded(models[i], longest[kinds[i]])

    def fitted(i: int) -> Posterior:
        return fit(alike(i), Laplace(fallback), draws=draws, seed=seed + i, compare=False)

    def settled(i: int) -> Posterior:
        return compared(alike(i), found[i])

    first = [kinds.index(kind) for kind in longest]
    rest = [i for i in everything if i not in first]
    fits = chain(map(fitted, first), on_every_core(fitted, rest))
    for i, posterior in zip([*first, *rest], fits, strict=True):
        found[i] = posterior
        report(1)
    return list(on_every_core(settled, everything))


def alike(models: Sequence[BoundaryModel]) -> tuple[list[BoundaryModel], list[int]]:
    """The models, padded so that those of a kind share a compiled program; and where the first
    of each kind is."""
    kinds = [kind_of(model) for model in models]
    longest = _longest(models, kinds)
    padded = [_padded(model, longest[kind]) for model, kind in zip(models, kinds, strict=True)]
    return padded, [kinds.index(kind) for kind in longest]


def _longest(models: Sequence[BoundaryModel], kinds: Sequence[Any]) -> dict[Any, list[int]]:
    """For each kind of model the lengths of its longest tables."""
    longest: dict[Any, list[int]] = {}
    for model, kind in zip(models, kinds, strict=True):
        sizes = _lengths(model)
        longest[kind] = [max(pair) for pair in zip(longest.get(kind, sizes), sizes, strict=True)]
    return longest


def _lengths(model: BoundaryModel) -> list[int]:
    return [
        table.length for table in jax.tree.leaves(model.data, is_leaf=_is_table) if _is_table(table)
    ]


def _is_table(part: Any) -> bool:
    return isinstance(part, Table)


def kind_of(model: BoundaryModel) -> Any:
    """What models must share to be one kind: program, structure, and all shapes but lengths."""
    bare = _pad(model.data, None)
    shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(bare))
    return model.program, jax.tree.structure(bare), shapes


def _padded(model: BoundaryModel, lengths: list[int]) -> BoundaryModel:
    if _lengths(model) == lengths:
        return model
    return replace(model, data=_pad(model.data, lengths))


def _pad(data: Any, lengths: list[int] | None) -> Any:
    """Every table of the data brought to its length; to nothing at all when `lengths` is None."""
    remaining = None if lengths is None else iter(lengths)

    def padded(part: Any) -> Any:
        if not _is_table(part):
            return part
        return part.of_length(0 if remaining is None else _long_enough(part, next(remaining)))

    return jax.tree.map(padded, data, is_leaf=_is_table)


def _long_enough(table: Table, length: int) -> int:
    if length < table.length:
        raise InputError("a table is longer than its batch allows")
    return length
