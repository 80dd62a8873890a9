"""What is a record? A frozen dataclass that JAX can walk through.

Array fields are leaves; fields made with `static()` are part of the tree's structure.
Unflattening does not run `__init__`, so records survive the placeholder leaves that
`vmap`, `jit` and shape checkers put in them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

_T = TypeVar("_T")


def static(**kwargs: Any) -> Any:
    """A field that is compared and hashed, not traced (names, units, shapes)."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
def record(cls: type[_T]) -> type[_T]:
    """Make `cls` a frozen dataclass registered as a pytree.

    >>> @record
    ... class Pair:
    ...     value: float
    ...     name: str = static(default="")
    >>> jax.tree.map(lambda x: 2 * x, Pair(1.5, "a"))
    Pair(value=3.0, name='a')
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    frozen = tuple(f.name for f in fields if f.metadata.get("static"))

    def flatten_with_keys(obj: Any) -> tuple[list[Any], tuple[Any, ...]]:
        pairs = [(jax.tree_util.GetAttrKey(name), getattr(obj, name)) for name in leaves]
        return pairs, tuple(getattr(obj, name) for name in frozen)

    def flatten(obj: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(obj, n) for n in leaves], tuple(getattr(obj, n) for n in frozen)

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        obj = object.__new__(cls)
        for name, value in zip(leaves, children, strict=True):
            object.__setattr__(obj, name, value)
        for name, value in zip(frozen, aux, strict=True):
            object.__setattr__(obj, name, value)
        return obj

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def replace(obj: _T, **changes: Any) -> _T:
    """A copy of a record with some fields changed."""
    return dataclasses.replace(obj, **changes)  # type: ignore[type-var]
