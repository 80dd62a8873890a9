"""Which series does a path hold, and which of them is meant?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax.dicom.files import Member, header, parts_of, zips_in

IMAGES = ("PT", "CT", "MR", "NM")
_WANTED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientWeight", "PatientSize",
    "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName", "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID",
    "SeriesInstanceUID", "SeriesDate", "SeriesTime", "SeriesDescription", "Modality", "ImageType",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "Rows",
    "Columns", "NumberOfSlices", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionDateTime", "ActualFrameDuration", "FrameReferenceTime", "TimezoneOffsetFromUTC",
    "Units", "SUVType", "DecayCorrection",
    "CorrectedImage", "RadiopharmaceuticalInformationSequence", "Manufacturer",
    "StructureSetROISequence", "StructureSetLabel", "SegmentSequence", "SegmentationType",
)  # fmt: skip
PRIVATE = {"GE scan": 0x0009100D, "Philips SUV": 0x70531000, "Philips activity": 0x70531009}
CREATORS = {"GE": (0x0009, "GEMS_PETD_01"), "Philips": (0x7053, "Philips PET Private Group")}
_FIRST = 0x10  # the block that PRIVATE has its fields in, which may be any up to FF


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one series, their headers, and where in each the header ends, in no order."""

    headers: tuple[Any, ...]
    members: tuple[Member, ...]
    ends: tuple[int, ...]

    def says(self, keyword: str) -> str:
        """What its first file says, as text; nothing where it has no such attribute."""
        return str(self.headers[0].get(keyword) or "")

    @property
    def modality(self) -> str:
        return self.says("Modality") or "not told"

    @property
    def patient(self) -> str:
        return self.says("PatientID")

    @property
    def is_image(self) -> bool:
        return "Rows" in self.headers[0] and self.modality not in ("SEG", "RTDOSE")

    def words(self) -> str:
        """One series in a sentence: modality, description and size."""
        name = self.says("SeriesDescription")
        count = len(self.members)
        kind = self.modality if self.says("Modality") else "something"
        return f"{kind}{f' “{name}”' if name else ''} of {count} file{'s' * (count != 1)}"


def series_in(members: Sequence[Member]) -> list[Series]:
    """The series that DICOM files belong to, in the order of their first file."""
    found: dict[tuple[str, str], list[tuple[Any, Member, int]]] = {}
    first = [tag for name in PRIVATE for tag in _tags(name, _FIRST)]
    tags: list[Any] = [*_WANTED, *first]
    for member in members:
        if (read := header(member, tags)) is not None:
            said, end = read
            key = str(said.get("PatientID")), str(said.get("SeriesInstanceUID"))
            if key not in found and str(said.get("Modality")) == "PT":
                tags += [tag for tag in _elsewhere(member) if tag not in tags]
                said, end = header(member, tags) or read
            found.setdefault(key, []).append((said, member, end))
    return [Series(*(tuple(each) for each in zip(*files))) for files in found.values()]  # noqa: B905


def blocks_of(said: Any, name: str) -> list[int]:
    """The tags that a private field of a vendor has in one header: one for each of its blocks."""
    group, creator = CREATORS[name.split()[0]]
    return [
        _tags(name, block)[0]
        for block in range(_FIRST, 0x100)
        if group << 16 | block in said and words_of(said[group << 16 | block].value) == creator
    ]


def words_of(value: Any) -> str:
    """Text of a private field, which may be bytes."""
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip("\0 ")


def _tags(name: str, block: int) -> tuple[int, int]:
    """The tags of a private field, and of the creator of its block."""
    tag = PRIVATE[name]
    return tag & 0xFFFF00FF | block << 8, tag & 0xFFFF0000 | block


def _elsewhere(member: Member) -> list[int]:
    """Tags of vendors' private fields in one file, and of their creators, wherever they are."""
    read = header(member)
    found = [(name, tag) for name in PRIVATE for tag in (blocks_of(read[0], name) if read else [])]
    return [each for name, tag in found for each in _tags(name, tag >> 8 & 0xFF)]


def modality_of(name: str) -> str | None:
    """The modality that a channel's name asks for, None where any will do.

    >>> modality_of("PET"), modality_of("ct"), modality_of("T1")
    ('PT', 'CT', None)
    """
    name = name.upper()
    return {"PET": "PT", "PT": "PT", "CT": "CT", "MR": "MR", "MRI": "MR"}.get(name)


def chosen(members: Sequence[Member], name: str, where: str | os.PathLike[str]) -> Series:
    """The one series of some files that the channel of a name can be.

    Of several that could, `where` says which behind a #: part of the description, or the UID.
    Raises InputError for none or several.
    """
    found = series_in(members)
    images = [each for each in found if each.is_image]
    first = {each.patient: each.members[0].name for each in reversed(images)}
    if len(first) > 1:
        files = ", ".join(sorted(first.values()))
        raise InputError(
            f"{where}: the files are of {len(first)} patients (such as {files}); pass the folder "
            "of one"
        )
    wanted = modality_of(name)
    fit = [each for each in images if wanted in (None, each.modality)]
    part = parts_of(where)[1]
    several = len(fit)
    fit = [each for each in fit if is_named(each, part)]
    listed = "; ".join(each.words() for each in images)
    if not images:
        there = "; ".join(each.words() for each in found)
        if not there and (packed := zips_in(members)):
            raise InputError(
                f"{where}: there is no DICOM image in it, but zip archives (such as {packed[0]}); "
                "unpack them and pass the folder of the series, or pass one archive"
            )
        raise InputError(
            f"{where}: there is no DICOM image{f', only {there}' if there else ' in it'}; pass an "
            "image, or the folder of a DICOM series"
        )
    if not fit and several:
        raise InputError(
            f"{where}: no series that could be channel {name} is named like {part!r}; there is "
            f"{listed}"
        )
    if not fit:
        raise InputError(
            f"{where}: channel {name} needs a series of modality {wanted}, and there is {listed}; "
            "pass the folder of that series"
        )
    if len(fit) > 1:
        raise InputError(
            f"{where}: {len(fit)} series could be channel {name} ({listed}); say which by a "
            "part of its description or by its UID, behind the path and a #"
        )
    return fit[0]


def is_named(series: Series, part: str) -> bool:
    """Whether a series has a UID, or words like these in its description."""
    said = series.says("SeriesDescription").casefold()
    return not part or part == series.says("SeriesInstanceUID") or part.casefold() in said
