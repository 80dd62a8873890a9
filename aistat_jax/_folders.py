"""Whose results does a folder hold? A record beside them, and the right to write there.

`aistat.json` in a folder of results says which command wrote which files about which input. An
input is known by a digest of where it lies, so that the record gives no paths away. A run may
replace what the same command wrote about the same input, and nothing else: not another input's
results, and not a file of that name which somebody else put there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aistat_jax._errors import FolderError
from aistat_jax._files import (
    alone,
    check_writable,
    files_in,
    move_in,
    staged_folder,
)
from aistat_jax._signals import undisturbed

RECORD, SCHEMA = "aistat.json", 1
_MOST_NUMBERS = 10_000
CASE_FILES = (
    "summary.json", "posterior.nc", "probability.nii.gz", "probability.npz", "contours.csv",
    "contours.geojson", "dose_painting.nii.gz", "figure.png", "report.html", "surface.surf.gii",
    "surface.shape.gii",
    "surface.lower.surf.gii", "surface.upper.surf.gii", "surface.ply", "surface.lower.ply",
    "surface.upper.ply", "rtstruct.dcm", "segmentation.dcm", "probability.dcm", "fhir.json",
    "contributions.csv", "contributions.png",
)  # fmt: skip
"""What a case may leave behind; of several surfaces surface-ID... too."""


@dataclass(frozen=True)
class Run:
    """What one command wrote about one input.

    part: the case, where a folder holds several. input: its name, for people; of: its digest; at:
    a digest of the place in it that was asked for. files: paths inside the folder, with /.
    """

    command: str
    of: str
    input: str = ""
    part: str = ""
    at: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """The right to write a run into a folder; see `claim`."""

    out: Path
    run: Run
    numbered: bool = False
    known: tuple[str, ...] = ()


def digest(*words: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits that stand for paths, by where they lie, and other words."""
    whole = hashlib.sha256()
    for word in words:
        text = word if isinstance(word, str) else os.path.realpath(word)
        whole.update(os.fsencode(text) + b"\0")
    return whole.hexdigest()[:16]


def claim(
    out: Path,
    run: Run,
    names: Collection[str] = (),
    *,
    numbered: bool = False,
    known: Collection[str] = (),
) -> Claim:
    """The right to write a run's files into `out`, before any work; leaves nothing behind.

    names: what it may write. known: files in `out` that are this run's own without a record.
    numbered: where `out` is taken by another input, or another place in the same one, it becomes
    the first of `out`-2, `out`-3, ... that is not, in place of a refusal.
    Raises FolderError when `out` cannot be written, holds results of another input, or a file
    that would be replaced and is not of this command about this input.
    """
    wanted = Claim(Path(out).expanduser(), run, numbered, tuple(known))
    free, _ = _free(wanted, names)
    check_writable(free)
    return wanted


@contextmanager
def filled(
    wanted: Claim, last: Collection[str] = (), done: Callable[[Path], Any] = lambda out: None
) -> Iterator[Filling]:
    """A hidden folder whose files are moved to the place claimed when the `with` is over.

    What the run wrote there before and did not write again is removed; `move_in` says what holds
    when this is cut short, and which files are the `last`. `done` is called with the folder that
    they are in before a signal is answered again. Raises FolderError as `claim` does.
    """
    with staged_folder(wanted.out) as folder:
        filling = Filling(folder, wanted.out)
        yield filling
        names = files_in(folder)
        with undisturbed(), alone(folder.parent):
            out, filling.taken = _free(wanted, names)
            own = _own(wanted, out)
            old = [RECORD, *wanted.known, *(name for run in own for name in run.files)]
            others = [run for run in runs_in(out) if run not in own]
            runs = [*others, replace(wanted.run, files=tuple(names))]
            (folder / RECORD).write_bytes(_written(runs))
            move_in(folder, out, old, (*last, RECORD))
            filling.out = out
            done(out)


class Filling:
    """A folder to write to; when done, the folder its files are in, and why it is not the first."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out, self.taken = folder, out, ""


def runs_in(folder: Path) -> tuple[Run, ...]:
    """What a folder's record says; nothing where there is none, or it is not whole."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if content["kind"] != "folder" or content["schema"] != SCHEMA:
            return ()
        return tuple(_run_of(each) for each in content["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _run_of(content: dict[str, Any]) -> Run:
    texts = {name: str(content[name]) for name in ("command", "of", "input", "part", "at")}
    return Run(**texts, files=tuple(str(name) for name in content["files"]))


def _written(runs: list[Run]) -> bytes:
    content = {"schema": SCHEMA, "kind": "folder", "runs": [asdict(run) for run in runs]}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _free(wanted: Claim, names: Collection[str]) -> tuple[Path, str]:
    """The folder to write to, and why it is not the first of its name."""
    first = ""
    for number in range(1, _MOST_NUMBERS):
        out = wanted.out
        out = out if number == 1 else out.with_name(f"{out.name}-{number}")
        reason = _taken(wanted, out, names)
        if reason is None:
            return out, first
        first = first or reason
        if not wanted.numbered:
            break
    raise FolderError(f"{wanted.out}: {first}; choose another folder")


def _own(wanted: Claim, out: Path) -> list[Run]:
    """Earlier runs of the same command on the same input."""
    run = wanted.run
    return [
        each
        for each in runs_in(out)
        if (each.command, each.part, each.of) == (run.command, run.part, run.of)
    ]


def _taken(wanted: Claim, out: Path, names: Collection[str]) -> str | None:
    """Why a run may not be written to a folder, or None."""
    run, own = wanted.run, _own(wanted, out)
    for each in runs_in(out):
        if (each.command, each.part) == (run.command, run.part):
            if each.of != run.of:
                another = "another " if each.input == run.input else ""
                return f"the folder holds results of {another}{each.input or 'another input'}"
            if wanted.numbered and each.at != run.at:
                return f"the folder holds results of another place in {each.input}"
    files = {*wanted.known, *(name for each in own for name in each.files)}
    for name in names:
        if name not in files and os.path.lexists(out / name):
            return f"{name} there is not from an earlier run on this input and would be replaced"
    if os.path.lexists(out / RECORD) and not runs_in(out):
        return f"{RECORD} there is not a record of results, or of a newer version"
    return None
