"""Has a person approved an RTSTRUCT? What it says, and a new instance that says otherwise."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax._files import replaced_file
from aistat_jax.dicom.library import library, reading, writing
from aistat_jax.dicom.structure_file import STRUCTURES

APPROVED, REJECTED, UNAPPROVED = "APPROVED", "REJECTED", "UNAPPROVED"
COMPUTED, EDITED = "AUTOMATIC", "SEMIAUTOMATIC"
_REVIEW = ("ReviewDate", "ReviewTime", "ReviewerName")
_OWN = (
    "ApprovalStatus",
    *_REVIEW,
    "SOPInstanceUID",
    "InstanceCreationDate",
    "InstanceCreationTime",
)
_MOST = 64  # characters of a person's name


def approval_of(path: str | os.PathLike[str]) -> str:
    """ApprovalStatus of an RTSTRUCT, "UNAPPROVED" where it has none. InputError for none."""
    return str(_read(path).get("ApprovalStatus") or UNAPPROVED)


def digest_less_approval(path: str | os.PathLike[str]) -> str:
    """SHA-256 of an RTSTRUCT but for who has approved it, or edited, and which instance says so."""
    file = _read(path)
    for keyword in _OWN:
        if keyword in file:
            delattr(file, keyword)
    for roi in file.get("StructureSetROISequence") or ():
        if roi.get("ROIGenerationAlgorithm") == EDITED:  # as it was written
            roi.ROIGenerationAlgorithm = COMPUTED
    buffer = library("pydicom.filebase").DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = file.original_encoding
    with reading(path):
        library("pydicom.filewriter").write_dataset(buffer, file)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def approve(
    path: str | os.PathLike[str],
    status: str,
    by: str = "",
    when: datetime | None = None,
    *,
    edited: Collection[str] = (),
) -> bool:
    """Say in an RTSTRUCT who has approved or rejected it, as a new instance; False if it says so.

    `edited` names regions that a person has changed: their ROIGenerationAlgorithm is SEMIAUTOMATIC.
    The new file takes the place of the old one in one step. Dates are of this computer's clock, as
    all in the file. Raises InputError for what is no RTSTRUCT, and what cannot be written.
    """
    path, file = Path(path), _read(path)
    review = ("", "", "")
    if status != UNAPPROVED:
        at = (when or datetime.now()).astimezone()
        review = f"{at:%Y%m%d}", f"{at:%H%M%S}", person_name(by)
    before = tuple(str(file.get(keyword) or "") for keyword in ("ApprovalStatus", *_REVIEW))
    named = [
        roi for roi in file.get("StructureSetROISequence") or () if roi.get("ROIName") in edited
    ]
    changed = [roi for roi in named if roi.get("ROIGenerationAlgorithm") != EDITED]
    if before == (status, *review) and not changed:
        return False
    for roi in changed:
        roi.ROIGenerationAlgorithm = EDITED
    now, uid = datetime.now(), library("pydicom.uid").generate_uid()
    file.ApprovalStatus = status
    for keyword, value in zip(_REVIEW, review, strict=True):
        if value:
            setattr(file, keyword, value)
        elif keyword in file:
            delattr(file, keyword)
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = uid
    file.InstanceCreationDate, file.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    with writing(path), replaced_file(path) as temporary:
        file.save_as(temporary, enforce_file_format=True)
    return True


def person_name(text: str) -> str:
    """A name as DICOM has those of persons: without signs that mean something to it, 64 long.

    >>> person_name("Doe^Jane, MD = me")
    'Doe^Jane, MD   me'
    """
    return text.translate(str.maketrans({"\\": "/", "=": " "})).strip()[:_MOST].strip()


def _read(path: str | os.PathLike[str]) -> Any:
    with reading(path):
        try:
            file = library().dcmread(path)
        except library("pydicom.errors").InvalidDicomError as error:
            raise InputError(f"{path}: this is not a DICOM file; write it again") from error
        if file.get("SOPClassUID") != STRUCTURES:
            raise InputError(f"{path}: this is no RTSTRUCT, so nobody can approve it")
        return file
