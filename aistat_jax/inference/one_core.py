"""Why does a fit keep to one core? So that fits run side by side, one on each core.

A contour's programs are too small to share out. Left to themselves, XLA's pool and the threads of
the BLAS behind its factorisations spend more time spinning while they wait for one another than
they save: on two cores a fit then takes half as long again. On a core of its own a fit also cannot
deadlock another, as FFTs can that XLA shares out to the very pool they run in.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any

import jax

# NumPyro's handlers lie on one stack for all threads: whoever traces a program holds this.
TRACING = threading.RLock()

jit = partial(jax.jit, compiler_options={"xla_cpu_multi_thread_eigen": False})


def one_blas_thread() -> AbstractContextManager[Any]:
    """While this lasts BLAS has one thread. The outermost in the first thread decides."""
    return _libraries().limit(limits=1)


@cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401  (JAX's factorisations on a CPU are SciPy's: load it first)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
