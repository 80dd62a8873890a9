"""What stands in the record of who has signed what? Lines that are added, and never changed.

`signatures.jsonl` has a line of JSON for each decision of a person: on which lesion, what, who,
when (UTC), why, what an edit has changed, digests of what is the lesion's own and of the others',
and one of every file that holds contours. Lines are added and synced to the disk whole. One that is
cut short (a power cut, a full disk) is said and passed over. A signature is void where what is the
lesion's own has changed since; where nothing is another of any lesion, also where a file is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import aistat_jax
from aistat_jax._errors import InputError, InputWarning
from aistat_jax._files import why
from aistat_jax._signals import undisturbed
from aistat_jax.dicom.approval import digest_less_approval
from aistat_jax.signed_parts import CONTOURS, POLYGONS, POSTERIOR, RTSTRUCT, Parts, others_of

RECORD, SCHEMA = "signatures.jsonl", 2
SIGNED = (
    CONTOURS, POLYGONS, POSTERIOR, "probability.n*", RTSTRUCT, "segmentation.dcm",
    "probability.dcm", "surface*",
)  # fmt: skip
"""The files that hold contours, and so are what is signed."""

Decision = Literal["accept", "edit", "reject"]


@dataclass(frozen=True)
class Change:
    """What an edit has changed: the mean and largest distance between the surface as computed and
    as edited, in `unit`, and the area or volume inside of each, in `content_unit`."""

    mean: float
    largest: float
    unit: str
    content_before: float
    content_after: float
    content_unit: str

    def __str__(self) -> str:
        before, after = (f"{value:.4g}" for value in (self.content_before, self.content_after))
        return (
            f"moved by {self.mean:.2f} {self.unit} on average, {self.largest:.2f} {self.unit} at "
            f"most; from {before} to {after} {self.content_unit}"
        )


@dataclass(frozen=True)
class Signature:
    """One decision of a person on one lesion.

    when: UTC, ISO 8601. digests: SHA-256 of every file that it speaks of, by name; of an RTSTRUCT
    but for who has approved it. own: SHA-256 of what is the lesion's own in each, and others: one
    of what is of the other lesions; none of lines of schema 1. void: why it does not hold any more,
    "" where it does.
    """

    target: str
    decision: Decision
    by: str
    when: str
    reason: str | None = None
    changed: Change | None = None
    digests: tuple[tuple[str, str], ...] = ()
    version: str = aistat_jax.__version__
    own: tuple[tuple[str, str], ...] = ()
    others: str = ""
    void: str = ""

    def __str__(self) -> str:
        words = {"accept": "accepted", "edit": "accepted as edited", "reject": "rejected"}
        what = f"{words[self.decision]} by {self.by}, {self.when}"
        what += f" ({self.changed})" if self.changed else ""
        what += f": {self.reason}" if self.reason else ""
        return f"void, {self.void} ({what})" if self.void else what


def read_signatures(path: Path) -> tuple[Signature, ...]:
    """The decisions of a record, in order; none where there is no such file.

    A line that is not whole is an InputWarning. Raises InputError for a record of a newer version.
    """
    if not path.exists():
        return ()
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            if int(said["schema"]) > SCHEMA:
                raise InputError(
                    f"{path}: written by a newer version (schema {said['schema']}); update"
                )
            found.append(_signature(said))
        except InputError:
            raise
        except (ValueError, KeyError, TypeError):
            warnings.warn(
                f"{path}: line {number} is not whole and counts for nothing",
                InputWarning,
                stacklevel=2,
            )
    return tuple(found)


def add_signatures(path: Path, new: Sequence[Signature]) -> None:
    """Add lines at the end of a record, in one step, and wait until the disk has them."""
    lines = [json.dumps(_plain(one), ensure_ascii=False) + "\n" for one in new]
    data = "".join(lines).encode("utf-8", "backslashreplace")
    try:
        with undisturbed():
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.lseek(number, 0, os.SEEK_END)
                if size and _last_byte(number, size) != b"\n":  # a line that was cut short
                    data = b"\n" + data
                if os.write(number, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(number)
            finally:
                os.close(number)
            _sync(path.parent)
    except OSError as error:
        raise InputError(
            f"{path}: the record cannot be written ({why(error)}), so nothing is signed"
        ) from error


def _last_byte(number: int, size: int) -> bytes:
    os.lseek(number, size - 1, os.SEEK_SET)
    return os.read(number, 1)


def _sync(folder: Path) -> None:
    """Wait until the disk knows the names in a folder, where the system can."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _plain(one: Signature) -> dict[str, Any]:
    content = {"schema": SCHEMA, **asdict(one)}
    content |= {"digests": dict(one.digests), "own": dict(one.own)}
    del content["void"]
    return content


def _signature(said: dict[str, Any]) -> Signature:
    decision = said["decision"]
    if decision not in get_args(Decision):
        raise ValueError(decision)
    changed = None if said["changed"] is None else Change(**said["changed"])
    datetime.fromisoformat(said["when"])
    return Signature(
        str(said["target"]), decision, str(said["by"]), str(said["when"]), said["reason"], changed,
        tuple(dict(said["digests"]).items()), str(said["version"]),
        tuple(dict(said.get("own", {})).items()), str(said.get("others", "")),
    )  # fmt: skip


def digests_in(out: Path) -> tuple[tuple[str, str], ...]:
    """SHA-256 of every file of a folder that holds contours, by name."""
    paths = sorted({path for pattern in SIGNED for path in out.glob(pattern) if path.is_file()})
    if not paths:
        raise InputError(f"{out}: there is no file with contours to sign")
    return tuple((path.name, _digest(path)) for path in paths)


def _digest(path: Path) -> str:
    if path.name == RTSTRUCT:
        return digest_less_approval(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def void_by(one: Signature, files: dict[str, str], parts: Parts) -> str:
    """Why a signature does not hold any more, "" where it does.

    Where another lesion has changed, files were written anew, and what counts is the lesion's own;
    else every file has to be as it was signed.
    """
    names = changed = _unlike(dict(one.digests), files)
    if one.own:
        own = _unlike(dict(one.own), parts.get(one.target, {}))
        names = [name for name in own if name in changed]
        if not names and one.others == others_of(parts, one.target):
            names = changed
    return f"{', '.join(names)} not as signed" if names else ""


def _unlike(signed: dict[str, str], now: dict[str, str]) -> list[str]:
    return sorted(name for name in signed.keys() | now.keys() if signed.get(name) != now.get(name))
