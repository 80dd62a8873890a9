"""How does a command speak and end? Streams that may be closed, signals, and exit status."""

from __future__ import annotations

import codecs
import errno
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from aistat_jax._errors import InputWarning
from aistat_jax._signals import STOPS

DONE, FAILED, REFUSED, SIGNALLED = 0, 1, 2, 128  # exit status; to the last a signal's number
NOTHING = "nothing was written"
KEPT: ContextVar[str] = ContextVar("kept", default=NOTHING)
"""What is there, in words, when a command ends before its time."""

WRITTEN: ContextVar[bool] = ContextVar("written", default=False)
"""Whether this command has written anything that stays."""

_UNSAID: ContextVar[OSError | None] = ContextVar("unsaid", default=None)
_PLAIN = {"±": "+-", "²": "^2", "³": "^3", "·": "-", "×": "x", "…": "...", "–": "-", "→": "->"}


class Stopped(KeyboardInterrupt):
    """A signal asked to stop, and which."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def keep(what: str, written: bool = True) -> None:
    """From now on this is what there is, in words, should the command end before its time."""
    KEPT.set(what)
    WRITTEN.set(written)


def say(text: str) -> None:
    """Print a line; nobody need be there to read it.

    A closed pipe (`| head -1`) is not a fault. Any other, such as a full disk, is kept for the end.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno != errno.EPIPE:
            _UNSAID.set(error)
        _hush(sys.stdout)
    except ValueError:  # closed by ourselves
        pass


def complain(sentence: str) -> None:
    """Print a sentence for people to standard error."""
    try:
        print(f"aistat: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        _hush(sys.stderr)
    except ValueError:
        pass


def unsaid() -> OSError | None:
    """Why something that was said could not be written, if it could not."""
    return _UNSAID.get()


@contextmanager
def terminal() -> Iterator[list[int]]:
    """A command's own streams, signals and warnings while the `with` lasts.

    Signals that ask to stop raise `Stopped`, once: while that unwinds, more of them change nothing.
    What is yielded holds those that came.
    What a stream cannot encode is written in ASCII, and a file name as the bytes it has. Warnings
    and log lines of libraries are not shown; an InputWarning is, as a sentence.
    """
    with _streams(), _warnings(), _signals() as stopped:
        keep(NOTHING, written=False)
        _UNSAID.set(None)
        yield stopped


@contextmanager
def _signals() -> Iterator[list[int]]:
    before: dict[int, Any] = {}
    stopped: list[int] = []
    again: list[threading.Timer] = []
    otherwise = sys.unraisablehook

    def stop(number: int, _frame: Any) -> None:
        stopped.append(number)
        if len(stopped) == 1:
            raise Stopped(number)

    def unheard(what: Any) -> None:
        """Raised while an object was being destroyed, it goes nowhere: it is raised once more."""
        if not isinstance(what.exc_value, Stopped):
            otherwise(what)
            return
        stopped.clear()
        again.append(threading.Timer(0.02, os.kill, (os.getpid(), what.exc_value.number)))
        again[-1].start()

    try:
        if threading.current_thread() is threading.main_thread():
            sys.unraisablehook = unheard
            for kind in STOPS:  # those that are ignored, as under nohup, stay so
                if signal.getsignal(kind) not in (signal.SIG_IGN, None):
                    before[kind] = signal.signal(kind, stop)
        yield stopped
    finally:
        for timer in again:
            timer.cancel()
            timer.join()
        for kind, handler in before.items():
            signal.signal(kind, handler)
        sys.unraisablehook = otherwise


@contextmanager
def _streams() -> Iterator[None]:
    codecs.register_error("aistat", _plainly)
    before = []
    with ExitStack() as opened:
        for name in ("stdout", "stderr"):
            stream: Any = getattr(sys, name)
            if stream is None:  # closed by the caller, `>&-`
                nothing = opened.enter_context(open(os.devnull, "w", encoding="utf-8"))
                setattr(sys, name, nothing)
                opened.callback(setattr, sys, name, None)
            elif hasattr(stream, "reconfigure"):
                before.append((stream, stream.errors))
                stream.reconfigure(errors="aistat")
        try:
            yield
        finally:
            for stream, errors in before:
                with suppress(OSError, ValueError):
                    stream.reconfigure(errors=errors)


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a stream's encoding lacks: the byte of a file name, else the nearest signs of ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if 0xDC80 <= ord(sign) <= 0xDCFF:
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    return _PLAIN.get(sign, f"\\u{ord(sign):04x}"), error.start + 1


@contextmanager
def _warnings() -> Iterator[None]:
    def shown(message: Warning | str, category: type[Warning], *_place: Any) -> None:
        if issubclass(category, InputWarning):
            complain(str(message))

    before, level = warnings.showwarning, logging.root.manager.disable
    warnings.showwarning = shown
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        warnings.showwarning = before
        logging.disable(level)


def _hush(stream: Any) -> None:
    """Let a stream that nobody reads end in nothing, so that no later flush of it fails."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
