"""When is a wish to stop answered? At once, but not while files are being moved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that ask to stop are answered when the `with` is over, as they would have been."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal is answered in this thread
        return
    waiting: list[int] = []
    before: dict[int, Any] = {}
    try:
        for kind in STOPS:
            if signal.getsignal(kind) is not None:  # None: it was not set from Python
                before[kind] = signal.signal(kind, lambda number, _frame: waiting.append(number))
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        if waiting:
            signal.raise_signal(waiting[0])
