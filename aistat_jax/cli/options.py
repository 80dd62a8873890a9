"""What do commands share? The folder they write to, the seed, and how a refusal names things."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from aistat_jax._errors import FolderError, InputError, renamed
from aistat_jax._files import names_of as names_of
from aistat_jax.cli.terminal import keep, say

if TYPE_CHECKING:
    from aistat_jax._folders import Claim
    from aistat_jax.cohort.workers import Workers

ARGUMENTS: ContextVar[tuple[str, ...]] = ContextVar("arguments", default=())
"""What `aistat` was called with, for files that say how they were made."""

T = TypeVar("T")
OUT = "Output"
ENDINGS = (".nii.gz", ".nii", ".hdr", ".img", ".png", ".npz", ".dcm", ".zip")
Seed = Annotated[
    int, typer.Option(help="The same seed gives the same figures.", rich_help_panel=OUT)
]


def check_seed(seed: int) -> None:
    """Raises InputError for a seed below 0."""
    if seed < 0:
        raise InputError(f"--seed {seed} must be 0 or a positive whole number")


def check_devices() -> None:
    """Raises InputError where JAX cannot use the device that it is told to."""
    from aistat_jax._doctor import devices

    devices()


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


def corners_of(option: str, text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Six numbers as two corners; four, for a picture, are corners in its one slice."""
    parts = text.split(",")
    half = len(parts) // 2
    if len(parts) not in (4, 6):
        raise InputError(
            f"{option} {text} is not two corners; write {option} X,Y,Z,X,Y,Z without spaces, "
            f"such as {option}=-30,10,90,5,50,120"
        )
    return point_of(option, ",".join(parts[:half])), point_of(option, ",".join(parts[half:]))


def stem_of(path: Path) -> str:
    """A file's name less a known ending and leading dots.

    >>> [stem_of(Path(name)) for name in ("1.2.3.45.nii.gz", "a.v2.png", "b.c", ".nii.gz")]
    ['1.2.3.45', 'a.v2', 'b.c', 'image']
    """
    name = path.name
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    return name.strip().lstrip(".") or "image"


def write_results(
    place: Claim, write: Callable[[Path], T], last: Sequence[str] = (), kept: str = ""
) -> tuple[Path, T]:
    """Let `write` fill a folder and put its files where they belong: that folder, and what it says.

    last: files that appear after all others. kept: what is there from then on, in words. A folder
    with a number, because the one without is taken, is said.
    """
    from aistat_jax._folders import filled

    def done(out: Path) -> None:
        keep(kept or f"the results in {out} are whole")

    try:
        with filled(place, last, done) as filling:
            found = write(filling.folder)
    except (OSError, InputError) as error:  # which may name a file in a folder that is hidden
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and not isinstance(error, FolderError):
            raise OSError(cause.errno, cause.strerror, str(place.out)) from error
        raise
    if filling.taken:
        say(f"{place.out}: {filling.taken}, so these results have a folder of their own")
    return filling.out, found


def say_written(out: Path, names: Sequence[str]) -> None:
    say(f"wrote to {out}{os.sep}")
    for name in names:
        say(f"  {name}")


@contextmanager
def in_flags(*arguments: str, **flags: str) -> Iterator[None]:
    """Gives the arguments that a refusal marks, such as `tolerance_mm`, their names as options."""
    own = {name: "--" + name.replace("_", "-") for name in arguments}
    with renamed(own | flags):
        yield


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


def workers_of(
    count: int | None,
    scheduler: str | None,
    memory_gib: float | None = None,
    *,
    slurm: bool = False,
) -> Workers:
    """Who works, by --workers, --scheduler, --memory-gib and --slurm."""
    from aistat_jax.cohort.workers import LocalWorkers, Scheduler, Slurm

    if scheduler is not None:
        given: dict[str, Any] = {"--workers": count, "--memory-gib": memory_gib}
        given["--slurm"] = slurm or None
        for flag, value in given.items():
            if value is not None:
                raise InputError(
                    f"--scheduler has workers of its own, so {flag} means nothing; drop one"
                )
        return Scheduler(scheduler)
    if slurm and (count is None or memory_gib is None):
        raise InputError("--slurm needs --workers and --memory-gib, of each job")
    with in_flags("workers", "memory_gib"):
        if slurm and count is not None and memory_gib is not None:
            return Slurm(count, memory_gib)
        return LocalWorkers(count, memory_gib)
