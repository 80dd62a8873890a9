"""How does a file, or a run's whole folder, appear complete or not at all? By moving into place.

Everything is written under a hidden name first. Signals that ask to stop (Ctrl-C, SIGTERM, SIGHUP)
are answered before or after files are moved and hidden ones removed, never between. What a process
that was killed hard (SIGKILL, a power cut) left under a hidden name goes when the next one writes
to that place: a folder whose lock nobody holds, a file of an hour ago.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aistat_jax._errors import FolderError
from aistat_jax._signals import undisturbed

HIDDEN = ".aistat-"
OLD_FOLDER_S, OLD_FILE_S = 60.0, 3600.0  # before which a hidden name may be one just being made
WAITED = 250  # times a fiftieth of a second for another process


@contextmanager
def replaced_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that becomes the file `path` when the `with` ends without an error.

    It is in the same folder, hidden, and ends with the same name, for writers that go by it.
    After an error it is removed and an older file at `path` is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f"{HIDDEN}{uuid.uuid4().hex[:12]}-{path.name}")
    for left in _left(path.parent, f"-{path.name}", OLD_FILE_S):
        left.unlink(missing_ok=True)
    try:
        yield temporary
        with undisturbed():
            os.replace(temporary, path)
    finally:
        with undisturbed():
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file under a hidden name and move it into place; its folder is made if need be.

    Text is UTF-8; a name that is not keeps its bytes as a backslash escape, which is JSON's too.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with undisturbed():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as temporary:
            temporary.write_bytes(data)
    return path


@contextmanager
def staged_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A hidden folder on the file system of `out` for files that `move_in` then puts there.

    It is removed when the `with` is over, with all that is still in it, and so are folders that had
    to be made for it and hold nothing. Raises FolderError naming `out` when it cannot be written.
    """
    out = Path(out).expanduser().absolute()
    made: list[Path] = []
    where = _beside(out)
    staging = where / f"{HIDDEN}{uuid.uuid4().hex[:12]}"
    try:
        with _refusing(out), undisturbed():
            made = _make_folders(where)
            _sweep(where)
            staging.mkdir()
        with _held(staging):
            yield staging
    finally:
        with undisturbed():
            shutil.rmtree(staging, ignore_errors=True)
            _remove_empty(made)


def move_in(
    staging: Path, out: Path, old: Collection[str] = (), last: Collection[str] = ()
) -> None:
    """Put all files of a staged folder into `out`, and take away the `old` ones that are not new.

    Names are paths inside `out`, with /. A folder that is not there yet, and one that holds nothing
    but `old` files (where Linux can exchange two folders), becomes the new one in one step. Else
    files are moved one by one, each replacing its namesake in one step, those in `last` last; an
    error puts back those that were moved. Only a process killed hard between two of these moves
    leaves some files new and some old. Other files in `out` are left alone.
    """
    with undisturbed():
        names = files_in(staging)
        if not out.exists() and not out.is_symlink():
            os.rename(staging, out)
        elif not (_only(out, old) and _exchanged(staging, out)):
            order = [name for name in names if name not in last]
            order += [name for name in names if name in last]
            _move_each(staging, out, order, [name for name in old if name not in names])


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time while the `with` lasts, where the system knows locks of folders.

    Waits a few seconds at most: what is done here takes milliseconds, and its owner may be stopped.
    """
    number = None
    try:
        for _ in range(WAITED):
            try:
                number = _lock(folder)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except (ImportError, OSError):
                break
        yield
    finally:
        if number is not None:
            os.close(number)


@contextmanager
def sole_run(out: Path, inner: str) -> Iterator[None]:
    """The only run that fills the folder `inner` of `out` while the `with` lasts.

    Its lock is a hidden file there. Raises FolderError where another run holds it; on a system
    without locks nobody is held off.
    """
    number, lock = None, out / inner / f"{HIDDEN}running"
    made: list[Path] = []
    try:
        with _refusing(out), undisturbed():
            made = _make_folders(lock.parent)
            lock.touch()
        with suppress(ImportError):
            try:
                number = _lock(lock)
            except BlockingIOError as error:
                raise FolderError(
                    f"{out}: another run is writing there; wait for it, or choose another folder"
                ) from error
            except OSError:
                pass
        yield
    finally:
        if number is not None:
            os.close(number)
            lock.unlink(missing_ok=True)
        _remove_empty(made)


def check_writable(out: str | os.PathLike[str]) -> None:
    """Raises FolderError naming `out` when no files can be put there; leaves nothing behind."""
    with staged_folder(out) as folder, _refusing(Path(out)):
        (folder / "probe").write_bytes(b"0")


def files_in(folder: Path) -> list[str]:
    """Every file below a folder as a path inside it, with /, sorted."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Names of files for people, with their folder where two would be alike.

    Bytes that are no UTF-8 are shown as escapes.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.absolute().parts[-2:]) for path in paths]
    return tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in names)


def why(error: OSError) -> str:
    """An error of the system in the words of a sentence."""
    return (error.strerror or type(error).__name__).lower()


# ------------------------------------------------------------------------------------- moving


def _move_each(staging: Path, out: Path, names: list[str], stale: list[str]) -> None:
    aside = staging / f"{HIDDEN}before"
    undo: list[Callable[[], None]] = []
    made: list[Path] = []
    try:
        for name in [*stale, *names]:
            target, kept = out / name, aside / name
            there = target.exists() or target.is_symlink()
            if there:
                kept.parent.mkdir(parents=True, exist_ok=True)
                _keep(target, kept, both=name not in stale)
                undo.append(lambda kept=kept, target=target: os.replace(kept, target))
            elif name not in stale:
                made += _make_folders(target.parent)
                undo.append(lambda target=target: target.unlink(missing_ok=True))
            if name not in stale:
                os.replace(staging / name, target)
    except BaseException:
        for step in reversed(undo):
            step()
        _remove_empty(made)
        raise
    _remove_empty([out / name for name in {os.path.dirname(name) for name in stale} if name])


def _keep(target: Path, kept: Path, both: bool) -> None:
    """Give a file another name, beside its own or (`both` is not wanted, or impossible) instead."""
    try:
        if both:
            os.link(target, kept, follow_symlinks=False)
            return
    except (OSError, NotImplementedError):
        pass  # a file system without such links
    os.rename(target, kept)


def _remove_empty(folders: Collection[Path]) -> None:
    for folder in sorted(folders, reverse=True):
        with suppress(OSError):  # there is something in it
            folder.rmdir()


def _only(out: Path, old: Collection[str]) -> bool:
    """Whether a folder holds `old` files and nothing else, and is nobody's place to stand in."""
    if out.is_symlink() or out.is_mount() or out.resolve() in (cwd := Path.cwd(), *cwd.parents):
        return False
    there = {path for path in out.rglob("*") if path.is_dir()}
    return set(files_in(out)) <= set(old) and all(any(folder.iterdir()) for folder in there)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system has a call for it (Linux 3.15)."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    one.chmod(other.stat().st_mode & 0o7777)
    at_cwd, exchange = -100, 2
    return call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


# --------------------------------------------------------------------------------- hidden names


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Marks a folder as in use while the `with` lasts, where the system knows such locks."""
    number = None
    try:
        with suppress(ImportError, OSError):
            number = _lock(folder)
        yield
    finally:
        if number is not None:
            os.close(number)


def _sweep(where: Path) -> None:
    """Remove hidden folders of those that were killed; a folder whose owner lives is locked."""
    for path in _left(where, "", OLD_FOLDER_S):
        with suppress(ImportError, OSError):
            number = _lock(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(number)


def _lock(folder: Path) -> int:
    """A descriptor that holds a lock; OSError where another one does, or there are no locks."""
    import fcntl

    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        raise
    return number


def _left(where: Path, ending: str, age_s: float) -> list[Path]:
    """Hidden files that end so, or (no ending) hidden folders, of at least that age."""
    name, before = re.compile(f"{re.escape(HIDDEN)}[0-9a-f]{{12}}{re.escape(ending)}"), time.time()
    found = []
    with suppress(OSError):
        for path in where.iterdir():
            if name.fullmatch(path.name) and path.is_dir() == (not ending):
                with suppress(OSError):
                    found += [path] if before - path.stat().st_mtime > age_s else []
    return found


def _beside(out: Path) -> Path:
    """The folder to stage in: that of `out`, or `out` where it is on another file system."""
    if not out.is_dir():
        return out.parent
    same = out.stat().st_dev == out.parent.stat().st_dev and not out.is_symlink()
    return out.parent if same and os.access(out.parent, os.W_OK) else out


@contextmanager
def _refusing(out: Path) -> Iterator[None]:
    out = out.expanduser().absolute()
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise FolderError(
                f"{out}: {folder} is a file, so no folder can be made there; choose another folder"
            )
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"{out}: the output folder cannot be written ({why(error)}); choose another folder"
        ) from error


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in missing:
        path.mkdir(exist_ok=True)
    return missing
