"""What ends when, of work that is shared out? Tasks as they end, whatever becomes of workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from aistat_jax.cohort.workers import Crew

_LOOK_S = 0.05
T = TypeVar("T")


def finished(
    crew: Crew, futures: dict[Any, T], folder: Path, say: Callable[[str], None]
) -> Generator[tuple[T, Any], None, None]:
    """What futures stand for, and each of them, as they end: with a result or an exception.

    Where no worker is there, that is said. Those that have not ended when this ends are cancelled.
    Raises OSError, naming the folder of results, where the scheduler is lost.
    """
    from distributed import as_completed

    try:
        watch, coming = _watch(crew, say), as_completed(list(futures))
        while not coming.is_empty():
            if not coming.has_ready():
                next(watch)
                time.sleep(_LOOK_S)
                continue
            future = next(coming)
            if future.status not in ("finished", "error"):
                raise OSError(None, "the scheduler of the workers was lost", str(folder))
            yield futures.pop(future), future
            future.release()
    finally:
        crew.client.cancel(list(futures), force=True)


def _watch(crew: Crew, say: Callable[[str], None]) -> Iterator[None]:
    """Says that no worker is there, each time that this has lasted for as long again.

    Asked for the next, it looks, at most once in a quarter of the crew's patience.
    """
    since = looked = time.monotonic()
    patience, words = crew.patience_s, "no worker has come yet"
    while True:
        yield
        now = time.monotonic()
        if now - looked < crew.patience_s / 4:
            continue
        looked = now
        try:
            there = crew.client.nthreads()
        except (OSError, AttributeError):  # of a scheduler that is lost, its futures tell
            continue
        if there:
            since, patience, words = now, crew.patience_s, "no worker is left"
        elif now - since >= patience:
            say(f"{words}, after {now - since:.0f} s; {crew.advice}")
            patience *= 2
