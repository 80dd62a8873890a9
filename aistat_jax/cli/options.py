"""What do commands share? The folder they write to, the seed, and what they say when cut short."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from aistat_jax._errors import InputError

ARGUMENTS: ContextVar[tuple[str, ...]] = ContextVar("arguments", default=())
"""What `aistat` was called with, for files that say how they were made."""

OUT = "Output"
Seed = Annotated[
    int, typer.Option(help="The same seed gives the same figures.", rich_help_panel=OUT)
]


def check_seed(seed: int) -> None:
    """Raises InputError for a seed below 0."""
    if seed < 0:
        raise InputError(f"--seed {seed} must be 0 or a positive whole number")


def point_of(option: str, text: str) -> tuple[float, float, float]:
    """Three numbers; two, for a picture, stand for its one slice."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 2:
        numbers.append(0.0)
    if len(numbers) != 3 or not all(abs(number) < float("inf") for number in numbers):
        raise InputError(
            f"{option} {text} is not three numbers; write {option} X,Y,Z without spaces, "
            f"such as {option}=-12.5,30,104"
        )
    return numbers[0], numbers[1], numbers[2]


@contextmanager
def about(path: Path | str) -> Iterator[None]:
    """Names the file, or the network, in a refusal that does not know it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


@contextmanager
def written_to(out: Path) -> Iterator[Path]:
    """A folder to write to that becomes `out`, or leaves nothing, when the work is over."""
    from aistat_jax._files import staged_folder

    with staged_folder(out) as folder:
        yield folder


@contextmanager
def within_memory(advice: str) -> Iterator[None]:
    """Turns running out of memory into a sentence that says what to lower."""
    try:
        yield
    except MemoryError as error:
        raise InputError(f"there is not enough memory; {advice}") from error
    except RuntimeError as error:  # JAX's own is one
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(f"there is not enough memory on the device; {advice}") from error


@contextmanager
def kept(what: str) -> Iterator[None]:
    """Says what is kept when work is stopped, or files cannot be written."""
    try:
        yield
    except KeyboardInterrupt as error:
        print(f"aistat: stopped; {what}", file=sys.stderr)
        raise typer.Exit(1) from error
    except OSError as error:
        print(f"aistat: {error}; {what}", file=sys.stderr)
        raise typer.Exit(1) from error
