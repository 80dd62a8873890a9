"""Why does a fit keep to one core? So that fits run side by side, one on each core.

A contour's programs are too small to share out. Left to themselves, XLA's pool and the threads of
the BLAS behind its factorisations spend more time spinning while they wait for one another than
they save: on two cores a fit then takes half as long again. On a core of its own a fit also cannot
deadlock another, as FFTs can that XLA shares out to the very pool they run in.

They are also so small that compiling them is most of a first fit: `quick` asks for less of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, cached_property, partial, update_wrapper
from typing import Any

import jax

# NumPyro's handlers lie on one stack for all threads: whoever traces a program holds this.
TRACING = threading.RLock()

_COMPILED: set[Any] = set()

ONE_CORE = {"xla_cpu_multi_thread_eigen": False}
jit = partial(jax.jit, compiler_options=ONE_CORE)


class Quick:
    """A jitted function whose compiler's options are chosen when it is first called.

    That is when there is a compiler to ask which of them it knows.
    """

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], **settings: Any
    ) -> None:
        update_wrapper(self, function)
        self.function, self.options, self.settings = function, options, settings

    @cached_property
    def jitted(self) -> Any:
        known = {name: value for name, value in self.options.items() if _is_known(name, value)}
        return jax.jit(self.function, compiler_options=known, **self.settings)

    def __call__(self, *arguments: Any) -> Any:
        return self.jitted(*arguments)

    def lower(self, *arguments: Any) -> Any:
        return self.jitted.lower(*arguments)

    def versions(self) -> int:
        """For how many kinds of arguments this has been compiled."""
        return self.jitted._cache_size()


def quick(function: Callable[..., Any], *, level: int = 3, **settings: Any) -> Quick:
    """A jitted function that compiles in a third to two thirds of the time.

    By XLA's plain kernels in place of those made by MLIR, which need half as long again to make
    and run no faster where arrays are small. `level` is how far kernels are then optimised: 0
    for what runs but once a fit, which halves the time again.
    """
    plain = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": level}
    return Quick(function, ONE_CORE | plain, **settings)


@cache
def _is_known(option: str, value: Any) -> bool:
    """Whether this version of XLA has an option of its compiler."""
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except Exception as error:
        if "No such compile option" in str(error):
            return False
        raise
    return True


def compile_once(compiling: Callable[[], Any], *kind: Any) -> None:
    """Compile for the first of some calls, which then run in any thread at once.

    `kind` is what tells calls apart: names, sizes, programs, and the shapes and types of arrays.
    """
    leaves, tree = jax.tree.flatten(kind)
    told = tuple((each.shape, each.dtype) if hasattr(each, "shape") else each for each in leaves)
    with TRACING:
        if (tree, told) not in _COMPILED:
            compiling()
            _COMPILED.add((tree, told))
