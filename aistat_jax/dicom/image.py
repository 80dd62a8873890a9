"""How does a DICOM series become a channel: HU, body-weight SUV, or what it says it is?"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from aistat_jax._errors import InputError, InputWarning
from aistat_jax._typing import Float
from aistat_jax.dicom.files import opened
from aistat_jax.dicom.library import reading
from aistat_jax.dicom.pixels import pixels_of, room_for
from aistat_jax.dicom.series import Series, chosen
from aistat_jax.dicom.stack import Stack, stacked
from aistat_jax.dicom.suv import body_weight, kind_of, said_of
from aistat_jax.space.grid import canonical_axes, canonical_grid, check_affine, from_canonical
from aistat_jax.space.image import Channel, Storage, quantity_of
from aistat_jax.space.origin import Origin, Words

PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
    "PositionReferenceIndicator",
)  # fmt: skip


def read_series(path: str | os.PathLike[str], name: str) -> Channel:
    """One channel from a folder, a file or a zip of DICOM: the series that its name asks for.

    PT and PET are SUV by body weight, CT is HU; of other names the values are what the series
    says, such as "SUV lean body mass" or "Bq/ml". What is noteworthy about a series is an
    InputWarning. Raises InputError for whatever cannot be used as it is.
    """
    with opened(path) as members, reading(path):
        series = chosen(members, name, path)
        stack = stacked(series, path)
        factor, quantity, used, notes = _quantity(stack, series, name, path)
        notes = (*stack.notes, *notes)
        channel = _channel(series, stack, name, path, factor, quantity, used, notes)
    for note in notes:
        warnings.warn(f"{path}: {note}", InputWarning, stacklevel=2)
    return channel


def _quantity(
    stack: Stack, series: Series, name: str, where: object
) -> tuple[Float[np.ndarray, " slice"], str, Words, tuple[str, ...]]:
    """The factor of each slice, what it makes of the values, from what, and what to say of it."""
    first, wanted, ones = stack.headers[0], quantity_of(name), np.ones(len(stack.headers))
    if series.modality == "PT":
        if wanted == "SUV":
            suv = body_weight(stack.headers, where)
            return suv.factor, "SUV", suv.used, suv.notes
        return ones, kind_of(first), said_of(first), ()
    if series.modality == "CT":
        kind = str(first.get("RescaleType") or "HU").upper()
        if kind not in ("HU", "US"):  # US: unspecified, which is HU for an original CT
            raise InputError(f"{where}: values of this CT are {kind} (RescaleType), not HU")
        return ones, "HU", (), ()
    return ones, wanted, (), ()


def _channel(
    series: Series, stack: Stack, name: str, where: Any, factor: np.ndarray, quantity: str,
    used: Words, notes: tuple[str, ...],
) -> Channel:  # fmt: skip
    check_affine(stack.affine, str(where))
    axes = canonical_axes(stack.affine)
    # slice by slice in memory, as they come: five times as fast as canonical order
    values = room_for(stack).transpose([2 - axis for axis, _ in axes])
    stored = from_canonical(values, axes)  # the same memory, seen as the series has it
    needed = series.modality in ("CT", "PT")
    for n, said in enumerate(stack.headers):
        slope, intercept = _rescale(said, needed, where)
        place = stored[:, :, n]
        np.multiply(pixels_of(stack, n).T, slope * factor[n], out=place)
        place += intercept * factor[n]
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{where}: voxels are not finite; export the series again")
    if low == high:
        raise InputError(f"{where}: every voxel is {low:g}, so there is nothing to contour")
    said = stack.headers[0]
    origin = Origin(
        patient=tuple((word, str(said.get(word))) for word in PATIENT if said.get(word)),
        modality=series.modality,
        series_uid=str(said.get("SeriesInstanceUID", "")),
        frame_uid=str(said.get("FrameOfReferenceUID") or ""),
        class_uid=str(said.get("SOPClassUID", "")),
        instances=tuple(str(each.get("SOPInstanceUID", "")) for each in stack.headers),
        quantity=used,
        notes=notes,
        off_even=stack.off_even,
    )
    return Channel(
        values=values,
        grid=canonical_grid(stack.affine, stack.shape, axes),
        name=name,
        quantity=quantity,
        source=str(where),
        storage=Storage(axes, stack.shape, tuple(map(tuple, stack.affine.tolist()))),
        origin=origin,
    )


def _rescale(said: Any, needed: bool, where: object) -> tuple[float, float]:
    slope, intercept = said.get("RescaleSlope"), said.get("RescaleIntercept")
    if slope is None and needed:
        raise InputError(f"{where}: RescaleSlope (0028,1053) is missing, so values mean nothing")
    try:
        found = float(1 if slope is None else slope), float(intercept or 0)
    except (TypeError, ValueError):
        found = float("nan"), 0.0
    if not np.isfinite(found).all() or found[0] == 0:
        raise InputError(f"{where}: the rescale slope and intercept {slope}, {intercept} cannot be")
    return found
