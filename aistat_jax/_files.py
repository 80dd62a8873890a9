"""How does a file, or a run's whole folder, appear complete or not at all? By moving into place."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aistat_jax._errors import InputError


@contextmanager
def replaced_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that becomes the file `path` when the `with` ends without an error.

    It is in the same folder, hidden, and ends with the same name, for writers that go by it.
    After an error it is removed and an older file at `path` is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder whose files appear in `out` when the `with` ends without an error.

    The temporary folder is on the same file system as `out` (inside it where `out` exists,
    else beside it), and making it is the test that `out` can be written, before any work.
    Files of the same name are replaced, others are left alone. After an error nothing is left,
    not even the folders that had to be made.

    Raises InputError naming `out` when it cannot be written.
    """
    out = Path(out).expanduser().absolute()
    made: list[Path] = []
    staging = (out if out.is_dir() else out.parent) / f".aistat-{uuid.uuid4().hex[:12]}"
    try:
        try:
            _refuse_a_file(out)
            made = _make_folders(staging.parent)
            staging.mkdir()
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise InputError(
                f"{out}: the output folder cannot be written ({why}); choose another one with --out"
            ) from error
        yield staging
        if out.is_dir():
            for path in sorted(staging.iterdir()):
                os.replace(path, out / path.name)
        else:
            os.rename(staging, out)
        made = []
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in reversed(made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def check_writable(out: str | os.PathLike[str]) -> None:
    """Raises InputError naming `out` when no files can be put there; leaves nothing behind."""

    class Enough(Exception):
        """Leaves the staging folder before anything is moved into place."""

    with suppress(Enough), staged_folder(out):
        raise Enough


def write_whole(path: Path, text: str) -> Path:
    """Write a text to a temporary name and move it into place; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _refuse_a_file(out: Path) -> None:
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"{out}: {folder} is a file, so no folder can be made there; "
                "choose another one with --out"
            )


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in missing:
        path.mkdir(exist_ok=True)
    return missing
