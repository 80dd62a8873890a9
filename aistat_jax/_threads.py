"""How does BLAS keep to one thread for a while, whoever else asks for it meanwhile?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

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


@cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401  (JAX's factorisations on a CPU are SciPy's: load it first)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
