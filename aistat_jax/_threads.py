"""How does work share the cores? BLAS keeps to one thread, and each core takes its own pieces."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_lock = threading.Lock()
_asked, _limit = 0, ExitStack()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """While this lasts, in any thread, BLAS has one thread; after the last it has what it had."""
    global _asked
    with _lock:
        if _asked == 0:
            _limit.enter_context(_libraries().limit(limits=1))
        _asked += 1
    try:
        yield
    finally:
        with _lock:
            _asked -= 1
            if _asked == 0:
                _limit.close()


def on_every_core(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """`function` of each item, in their order, so many at a time as there are cores.

    An error is raised where its item's turn comes; what had not begun by then is not begun.
    """
    with one_blas_thread(), ThreadPoolExecutor(os.cpu_count()) as cores:
        yield from cores.map(function, items)


@cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401  (JAX's factorisations on a CPU are SciPy's: load it first)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
