"""What does a folder of DICOM hold, and what can be done with it?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aistat_jax._errors import InputError
from aistat_jax.dicom.files import Member, header, holds_dicom, opened
from aistat_jax.dicom.library import reading
from aistat_jax.dicom.series import Series, series_in
from aistat_jax.dicom.stack import stacked
from aistat_jax.dicom.suv import body_weight, kind_of

_MOST_NAMES = 20


@dataclass(frozen=True)
class Holding:
    """One series: what it is, whether it can be used, and for what or why not, in words."""

    name: str
    usable: bool
    text: str


def inventory(path: str | os.PathLike[str]) -> Iterator[Holding]:
    """The series of a folder, a file or a zip, one after the other; pixels are not read.

    Raises InputError for a path that is not there, and files that are damaged.
    """
    with opened(path) as members, reading(path):
        found = series_in(members)
        patients = {series.patient for series in found}
        if len(patients) > 1:
            text = "an image is of one patient; pass the folder of each"
            yield Holding(f"{len(patients)} patients", False, text)
        for series in found:
            yield _holding(series)
        other = len(members) - sum(len(series.members) for series in found)
        if other or not found:
            many = f"{other} other file{'s' * (other != 1)}"
            yield Holding(many, bool(found), "no DICOM, and left alone")


def modalities_in(folder: Path) -> dict[str, Path]:
    """Where below a folder there is a series of each modality: its own folder, if it has one.

    One header is read of each folder whose files are of one kind, and all where they are not told
    apart so; where several folders hold a modality, it is in what holds them all.
    """
    found: dict[str, Path] = {}
    for where, _, names in sorted(os.walk(folder)):
        members = [Member(n, Path(where) / n) for n in sorted(names) if not n.startswith(".")]
        for modality in _modalities(members):
            found[modality] = folder if modality in found else Path(where)
    return found


def _modalities(members: Sequence[Member]) -> set[str]:
    """Of the first and the last DICOM file in a folder, and of all where these differ."""
    ends = {_modality(each) for each in (*members[:1], *members[-1:])}
    return (ends if len(ends) < 2 else {_modality(each) for each in members}) - {""}


def _modality(member: Member) -> str:
    try:
        read = header(member, ["Modality"]) if holds_dicom(member.path) else None
    except (InputError, OSError):
        return ""  # said when the case is read
    return "" if read is None else str(read[0].get("Modality") or "")


def _holding(series: Series) -> Holding:
    name = series.words()
    if series.modality == "RTSTRUCT":
        return Holding(name, True, f"regions {_names(series, 'StructureSetROISequence')}: "
                       "a reference or a rough mask")  # fmt: skip
    if series.modality == "SEG":
        return Holding(name, True, f"segments {_names(series, 'SegmentSequence', 'SegmentLabel')}")
    if not series.is_image:
        return Holding(name, True, "is no image and is left alone")
    try:
        stack = stacked(series, "series")
        voxels = " x ".join(str(n) for n in stack.shape)
        spacing = ((stack.affine[:3, :3] ** 2).sum(axis=0) ** 0.5).tolist()
        size = f"{voxels} voxels of {' x '.join(f'{s:.3g}' for s in spacing)} mm"
        said = "; ".join((size, *stack.notes))
        if series.modality == "PT":
            suv = body_weight(stack.headers, "series")
            used = ", ".join(f"{key} {value}" for key, value in suv.used)
            return Holding(name, True, f"{said}; SUV body weight from {used}")
        if series.modality == "CT":
            return Holding(name, True, f"{said}; HU")
        return Holding(name, True, f"{said}; values of no unit")
    except InputError as error:
        kind = f"holds {kind_of(series.headers[0])}: " if series.modality == "PT" else ""
        return Holding(name, False, kind + str(error).removeprefix("series: "))


def _names(series: Series, sequence: str, keyword: str = "ROIName") -> str:
    items = [item for said in series.headers for item in said.get(sequence) or []]
    names = [str(item.get(keyword)) for item in items]
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "none") + more
