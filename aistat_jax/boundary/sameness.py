"""When are two functions one? When they have the same code, and it can mean only one thing.

What is compiled is kept by function, and a function written inside a loop or a notebook cell is
another one each time. Where it closes over nothing, has no defaults and names no global but modules
of JAX and the like, the first of them can stand for all: nothing that it reads can have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakValueDictionary

# Packages whose modules are the same whenever they are read.
FIXED = {"jax", "numpy", "scipy", "math", "numpyro", "aistat_jax"}
_FIRST: WeakValueDictionary[Any, FunctionType] = WeakValueDictionary()


def first_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The first function that was the same as this one, or else this one."""
    if not isinstance(function, FunctionType):
        return function
    if function.__closure__ or function.__defaults__ or function.__kwdefaults__:
        return function
    read = {name: function.__globals__.get(name) for name in set(_names(function.__code__))}
    modules = []
    for name, value in sorted(read.items()):
        if value is None and name not in function.__globals__:
            continue  # a builtin, or an attribute of something else
        if not isinstance(value, ModuleType) or value.__name__.split(".")[0] not in FIXED:
            return function
        modules.append((name, value.__name__))
    return _FIRST.setdefault((function.__code__, tuple(modules)), function)


def _names(code: CodeType) -> Iterator[str]:
    """Every name that code may look up among the globals, functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
