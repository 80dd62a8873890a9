"""Which DICOM files does a path hold: a file, a folder with its folders, or a zip archive?

Nothing is unpacked to disk, and nothing but numbers and text is taken from a file: private fields
stay bytes, and a file that holds a program where DICOM leaves 128 bytes free is refused.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax.dicom.library import library, quietly

MOST_FILES = 50_000
MOST_BYTES = 16 << 30  # of an archive, unpacked
MOST_MEMBER = 2 << 30
MOST_PACKED = 1000  # times what it is packed into
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_BROKEN = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError,
    IndexError, OverflowError, MemoryError, RecursionError, RuntimeError,
    zlib.error, zipfile.BadZipFile,
)  # fmt: skip
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_NESTED = (".zip", ".7z", ".tar", ".gz", ".tgz", ".rar")


@dataclass(frozen=True, eq=False)
class Member:
    """One file of a folder, or of an archive that is open. name: for people."""

    name: str
    path: Path
    archive: zipfile.ZipFile | None = None

    def open(self) -> Any:
        """A stream of its bytes, which can seek. InputError where an archive is damaged there."""
        if self.archive is None:
            return self.path.open("rb")
        try:
            return io.BytesIO(self.archive.read(self.name))
        except _BROKEN as error:
            raise InputError(
                f"{self.path}: this zip archive is damaged at {self.name}; copy it again"
            ) from error

    @property
    def size(self) -> int:
        if self.archive is None:
            return self.path.stat().st_size
        return self.archive.getinfo(self.name).file_size


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[list[Member]]:
    """The files of a folder (and of its folders), of a zip archive, or the one file itself.

    By name; hidden files and links to folders are left out. Raises InputError for a path that is
    not there, and an archive that is damaged, locked, too large, packed in another one, or has
    names that lead out of it.
    """
    source, _ = parts_of(path)
    if source.is_dir():
        yield [Member(file.relative_to(source).as_posix(), file) for file in _walk(source)]
    elif not source.is_file():
        raise InputError(f"{source}: there is no such file or folder; check the path")
    elif is_zip(source):
        try:
            archive = zipfile.ZipFile(source)
        except _BROKEN as error:
            raise InputError(f"{source}: this zip archive is damaged; copy it again") from error
        with archive:
            yield [Member(name, source, archive) for name in _names(source, archive)]
    else:
        yield [Member(source.name, source)]


def parts_of(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """A path, and what stands behind # in it, unless a file has that very name.

    >>> parts_of("study#PET AC")[1]
    'PET AC'
    """
    whole = os.fspath(path)
    place, mark, series = whole.rpartition("#")
    if not mark or not place or Path(whole).exists():
        return Path(whole), ""
    return Path(place), series


def holds_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one for DICOM: a folder, a zip archive that is no .npz, or such a file."""
    source, _ = parts_of(path)
    if source.is_dir():
        return True
    if not source.is_file() or source.suffix.lower() == ".npz":
        return False
    with source.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM" or is_zip(source)


def is_zip(source: Path) -> bool:
    with source.open("rb") as stream:
        return stream.read(4) in _ZIP


def zips_in(members: Sequence[Member]) -> list[str]:
    """The names of those files that are zip archives themselves, whatever they are called."""
    found = []
    for member in members:
        with member.open() as stream:
            if stream.read(4) in _ZIP:
                found.append(member.name)
    return found


def header(member: Member, tags: Sequence[Any] | None = None) -> tuple[Any, int] | None:
    """What a file says of itself, and where it went on to its pixels; None where it is not DICOM.

    tags: keywords or numbers of those wanted, all unless told. Raises InputError for one that is
    DICOM and damaged.
    """
    return _read(member, stop_before_pixels=True, specific_tags=tags)


def whole(member: Member) -> Any:
    """A file with its pixels. Raises InputError where it is damaged."""
    found = _read(member)
    if found is None:
        raise InputError(f"{member.name}: this is not a DICOM file any more; copy it again")
    return found[0]


def _read(member: Member, **how: Any) -> tuple[Any, int] | None:
    pydicom = library()
    with member.open() as stream:
        first = stream.read(132)
        if first[128:] != b"DICM":
            return None
        if first.startswith(_PROGRAMS):
            raise InputError(
                f"{member.name}: the file holds a program in its first 128 bytes, which DICOM "
                "leaves free; it is not read"
            )
        stream.seek(0)
        try:
            with quietly():
                found = pydicom.dcmread(stream, **how)
                return found, stream.tell()
        except (*_BROKEN, pydicom.errors.InvalidDicomError) as error:
            raise InputError(
                f"{member.name}: the DICOM file is cut short or damaged; copy or export it again"
            ) from error


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where) / name for name in sorted(files) if not name.startswith(".")]
        if len(found) > MOST_FILES:
            raise InputError(
                f"{folder}: the folder holds more than {MOST_FILES} files; pass that of one study"
            )
    return [path for path in found if path.is_file()]


def _names(source: Path, archive: zipfile.ZipFile) -> list[str]:
    """The files of an archive, all of them checked before any is read."""
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in files:
        parts = PurePosixPath(entry.filename.replace("\\", "/"))
        drive = parts.parts[0].endswith(":") if parts.parts else False
        if parts.is_absolute() or drive or ".." in parts.parts:
            raise InputError(
                f"{source}: the archive names {entry.filename!r}, which leads out of it; "
                "it is not read"
            )
        if entry.flag_bits & 1:
            raise InputError(f"{source}: the archive is locked by a password; unpack it first")
        if entry.filename.lower().endswith(_NESTED):
            raise InputError(
                f"{source}: the archive holds another one, {parts.name}; unpack it and pass the "
                "folder of the series"
            )
        absurd = entry.file_size > 1 << 20 and entry.file_size > MOST_PACKED * entry.compress_size
        if absurd or entry.file_size > MOST_MEMBER:
            raise InputError(
                f"{source}: {parts.name} claims to be {entry.file_size:,} bytes, packed into "
                f"{entry.compress_size:,}; such an archive is not read"
            )
    total = sum(entry.file_size for entry in files)
    if len(files) > MOST_FILES or total > MOST_BYTES:
        raise InputError(
            f"{source}: the archive claims {len(files)} files of {total / 1e9:,.0f} GB together; "
            "unpack it and pass the folder of the series"
        )
    return sorted(entry.filename for entry in files)
