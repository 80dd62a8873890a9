"""In what order are edits carried out? One at a time, as they were made, behind what compiles.

A click must not be lost, nor land elsewhere, because the computer is busy: whatever changes a
session is an `Order`, bound to its target when it is made. One thread carries the orders out, and
compiles ahead while there are none.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from aistat_jax import editing
from aistat_jax.boundary.opinions import CLICK_BUCKET
from aistat_jax.editing import Session
from aistat_jax.edits import Click

TICK = 1.0  # seconds between two looks at what is being done
SPARE = 2  # clicks before a bucket is full when the next one is compiled


@dataclass(eq=False)
class Order:
    """One thing to be done to a session, in `words`; `work` gives the new one, and what is said.

    `target` is the one in sight when it was made, and `found` says where that is in a session of
    later (None: gone). `click` is one that it puts; `then` is done once it is carried out. `error`
    is why it was not.
    """

    target: int
    words: str
    work: Callable[[Session, bool], tuple[Session, str]]
    click: Click | None = None
    sample: bool = False
    then: Callable[[], None] = lambda: None
    said: str = ""
    error: BaseException | None = None
    found: Callable[[Session], int | None] = lambda session: None
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


class EditQueue:
    """A session, and the orders that change it. `heard` is told of each order that was carried
    out or refused, `ticked` every second while something is done; both by the queue's own thread.
    The session changes, and that is heard, under one `lock`.
    """

    def __init__(
        self,
        session: Session,
        heard: Callable[[Order], None],
        ticked: Callable[[], None],
        lock: AbstractContextManager[Any],
    ) -> None:
        self.session, self._lock = session, lock
        self._heard, self._ticked = heard, ticked
        self._orders: deque[Order] = deque()
        self._ahead: deque[tuple[object, int, int]] = deque()  # kind, target, buckets
        self._asked: set[tuple[object, int]] = set()
        self._changes = threading.Lock()
        self._worker: threading.Thread | None = None
        self._doing: tuple[str, float] | None = None
        self.compiled: float | None = None  # seconds that compiling ahead has taken

    def put(self, order: Order) -> Order:
        """Add an order; it is carried out after all that were made before it."""
        with self._changes:
            self._orders.append(order)
            self._start()
        return order

    def compile_ahead(self, target: int) -> None:
        """Compile every kind of refit that a first click may need, that of `target` first.

        Near the end of a bucket of clicks, the next one too.
        """
        kinds = editing.kinds(self.session)
        clicks = len(self.session[target].clicks)
        wanted = [(kind, of, 1) for kind, of in kinds.items()]
        own = editing.kind_of_target(self.session, target)
        wanted.sort(key=lambda each: each[0] != own)
        if -clicks % CLICK_BUCKET <= SPARE and clicks:
            wanted.append((own, target, editing.buckets(clicks) + 1))
        with self._changes:
            new = [each for each in wanted if (each[0], each[2]) not in self._asked]
            self._asked.update((kind, count) for kind, _, count in new)
            self._ahead.extend(new)
            if new:
                self._start()

    @property
    def waiting(self) -> tuple[Order, ...]:
        """Orders not yet carried out, the one that is being done first."""
        with self._changes:
            return tuple(self._orders)

    @property
    def busy(self) -> bool:
        with self._changes:
            return self._worker is not None

    @property
    def state(self) -> str:
        """What is being done and for how long, in words; measured, not guessed."""
        with self._changes:
            doing, orders = self._doing, len(self._orders)
        if doing is None:
            if self.compiled is None:
                return ""
            return f"ready: a click is refitted at once (compiled in {self.compiled:.0f} s)"
        words, since = doing
        waits = orders - (words != COMPILING)
        wait = f"; {waits} edit{'s wait' if waits > 1 else ' waits'}" if waits > 0 else ""
        return f"{words}, {time.perf_counter() - since:.0f} s so far{wait}"

    def join(self) -> None:
        """Wait until nothing is left to be done."""
        while (worker := self._worker) is not None:
            worker.join()

    def _start(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="aistat edits")
            self._worker.start()
            threading.Thread(target=self._watch, daemon=True, name="aistat clock").start()

    def _watch(self) -> None:
        """Say every second what is being done."""
        while (worker := self._worker) is not None:
            worker.join(TICK)
            self._ticked()

    def _work(self) -> None:
        while True:
            with self._changes:
                order = self._orders[0] if self._orders else None
                ahead = self._ahead.popleft() if order is None and self._ahead else None
                if order is None and ahead is None:
                    self._worker = self._doing = None
                    return
                words = COMPILING if order is None else order.words
                self._doing = (words, time.perf_counter())
            if order is not None:
                self._carry_out(order)
            elif ahead is not None:
                self._compile(*ahead)

    def _carry_out(self, order: Order) -> None:
        start = time.perf_counter()
        after = self.session
        try:
            after, order.said = order.work(after, order.sample)
        except BaseException as error:
            order.error = error
        order.seconds = time.perf_counter() - start
        try:
            with self._lock:
                with self._changes:
                    self._orders.popleft()
                self.session = after
                self._heard(order)
        finally:
            order.done.set()

    def _compile(self, _kind: object, target: int, count: int) -> None:
        start = time.perf_counter()
        try:
            editing.warm_up(self.session, target, (count - 1) * CLICK_BUCKET + 1)
        except Exception:  # the click that needs it will say why
            return
        self.compiled = (self.compiled or 0.0) + time.perf_counter() - start


COMPILING = "compiling ahead"
