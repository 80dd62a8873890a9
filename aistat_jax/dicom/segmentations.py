"""How do masks and maps of probability become DICOM SEG, and come back?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._errors import InputError, InputWarning
from aistat_jax._files import replaced_file
from aistat_jax._typing import Float
from aistat_jax.dicom.files import opened, whole
from aistat_jax.dicom.library import library, reading, writing
from aistat_jax.dicom.slices import origin_of
from aistat_jax.dicom.stack import TO_RAS
from aistat_jax.dicom.structures import only
from aistat_jax.dicom.words import known, left_blank, shortened
from aistat_jax.space.grid import Grid, canonical_axes, canonical_grid, from_canonical, to_canonical
from aistat_jax.space.image import Channel

STEPS = 255  # of a probability
NEAR = 1e-2  # voxels


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment: its name, and a mask or a probability for each voxel.

    Shapes: values (i, j, k), bool or in [0, 1], on the grid of a channel.
    """

    name: str
    values: np.ndarray
    description: str = ""


def write_segmentation(
    path: str | os.PathLike[str], segments: Sequence[Segment], channel: Channel
) -> Path:
    """Write segments as one DICOM SEG on the slices of a channel's series.

    BINARY where all are masks, else FRACTIONAL: probabilities in steps of 1/255. Slices that hold
    nothing are left out. What the series says otherwise than DICOM has it is left blank, which is
    an InputWarning. Raises InputError for a channel that is from no DICOM series, values of another
    shape or outside [0, 1], segments that are all empty, and what cannot be written.
    """
    highdicom = library("highdicom")
    uid, origin = library("pydicom.uid"), origin_of(channel)
    target = Path(path)
    for each in segments:
        if each.values.shape != channel.grid.shape:
            raise InputError(
                f"{target}: values of shape {each.values.shape} do not match channel "
                f"{channel.name}'s {channel.grid.shape}"
            )
        low, high = float(each.values.min()), float(each.values.max())
        if not 0 <= low <= high <= 1:
            raise InputError(f"{target}: values from {low:g} to {high:g} must lie in [0, 1]")
    if not any(each.values.any() for each in segments):
        raise InputError(f"{target}: there is nothing to write: every voxel is outside")
    binary = all(each.values.dtype == bool for each in segments)
    assert channel.storage is not None
    stored = [from_canonical(each.values, channel.storage.axes).T for each in segments]
    voxels = np.stack(stored, axis=-1)
    voxels = voxels.astype(np.uint8) if binary else voxels.astype(np.float32)
    for note in left_blank(origin):
        warnings.warn(f"{target.name}: {note}", InputWarning, stacklevel=2)
    with writing(target):
        file = highdicom.seg.Segmentation(
            source_images=_images(channel),
            pixel_array=np.ascontiguousarray(voxels),
            segmentation_type="BINARY" if binary else "FRACTIONAL",
            max_fractional_value=STEPS,
            segment_descriptions=[_described(n + 1, each) for n, each in enumerate(segments)],
            series_instance_uid=uid.generate_uid(),
            series_number=9001 if binary else 9002,
            sop_instance_uid=uid.generate_uid(),
            instance_number=1,
            manufacturer="aistat_jax",
            manufacturer_model_name="aistat_jax",
            software_versions=aistat_jax.__version__,
            device_serial_number="0",
            content_label="AISTAT",
            content_description=shortened(segments[0].description, "LO"),
            series_description="aistat estimate" if binary else "aistat probability",
        )
        file.StudyDescription = known(origin).get("StudyDescription", "")
        if not file.StudyDescription:
            del file.StudyDescription
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(target) as temporary:
            file.save_as(temporary, enforce_file_format=True)
    return target


def read_segmentation(
    path: str | os.PathLike[str], like: Channel | Grid, roi: str | int | None = None
) -> Float[np.ndarray, "i j k"]:
    """One segment of a DICOM SEG on the grid of `like`: 0 and 1, or probabilities.

    `roi` is its label or its number; without one it is the only one there is. Probabilities are
    those of a FRACTIONAL SEG, in its steps. Shapes: (i, j, k) on the canonical grid. Raises
    InputError for a file that is no SEG, a segment that is not there, another frame of reference,
    and voxels that are not those of `like`.
    """
    highdicom = library("highdicom")
    grid = like.grid if isinstance(like, Channel) else like
    with opened(path) as members, reading(path):
        file = whole(only(members, "SEG", path))
        labels = _labels(file)
        chosen = [n for n, label in labels.items() if roi in (None, label, n)]
        if len(chosen) != 1:
            numbered = isinstance(roi, int)
            named = (f"{n} {label}" if numbered else label for n, label in labels.items())
            there = ", ".join(named) or "none"
            what = "say which segment is meant, as `roi`"
            what = what if roi is None else f"no one segment {roi!r}"
            raise InputError(f"{path}: {what}; there are: {there}")
        origin = like.origin if isinstance(like, Channel) else None
        frame = str(file.get("FrameOfReferenceUID") or "")
        if origin and origin.frame_uid and frame and frame != origin.frame_uid:
            raise InputError(
                f"{path}: the segmentation is in another frame of reference than the image; pass "
                "the image that it was drawn on"
            )
        found = highdicom.seg.Segmentation.from_dataset(file, copy=False)
        volume = found.get_volume(segment_numbers=chosen)
        values = np.asarray(volume.array, dtype=float)[..., 0]
        affine = np.asarray(volume.affine, dtype=float).copy()
    affine[:3] *= TO_RAS[:, None]
    return _placed(values, affine, grid, path)


def segment_names(path: str | os.PathLike[str]) -> dict[int, str]:
    """The labels of the segments of a DICOM SEG, by number. Raises InputError for no SEG."""
    with opened(path) as members, reading(path):
        return _labels(whole(only(members, "SEG", path)))


def _labels(file: Any) -> dict[int, str]:
    items = file.get("SegmentSequence") or []
    return {int(each.SegmentNumber): str(each.SegmentLabel) for each in items}


def _placed(
    values: np.ndarray, affine: np.ndarray, grid: Grid, path: object
) -> Float[np.ndarray, "i j k"]:
    """Voxels of a part of a grid, in any order of axes, in the whole of it."""
    axes = canonical_axes(affine)
    shape = (values.shape[0], values.shape[1], values.shape[2])
    part, own = to_canonical(values, axes), canonical_grid(affine, shape, axes)
    ends = np.array([[0, 0, 0], np.asarray(own.shape) - 1])
    low, high = (grid.to_index(point) for point in own.to_world(ends))
    first = np.rint(low).astype(int)
    same = np.abs(low - first).max() < NEAR and np.abs(high - first - ends[1]).max() < NEAR
    last = first + np.asarray(own.shape)
    if not same or grid.unit != "mm":
        raise InputError(
            f"{path}: the voxels of the segmentation are not those of the image; pass the image "
            "that it was drawn on"
        )
    found = np.zeros(grid.shape)
    inside = [slice(max(a, 0), min(b, n)) for a, b, n in zip(first, last, grid.shape, strict=True)]
    there = [slice(s.start - a, s.stop - a) for s, a in zip(inside, first, strict=True)]
    outside = part.copy()
    outside[tuple(there)] = 0
    if outside.any():
        raise InputError(f"{path}: the segmentation reaches beyond the image; pass its own image")
    found[tuple(inside)] = part[tuple(there)]
    return found


def _images(channel: Channel) -> list[Any]:
    """What has to be known of every image of the series, and no more."""
    dataset, origin, storage = library("pydicom.dataset"), origin_of(channel), channel.storage
    assert storage is not None
    affine = np.array(storage.affine) * np.append(TO_RAS, 1.0)[:, None]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    along, down = (affine[:3, :3] / spacing).T[:2]
    said, images = known(origin), []
    for n, instance in enumerate(origin.instances):
        one = dataset.Dataset()
        one.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in said.items():
            setattr(one, keyword, value)
        one.SOPClassUID, one.SOPInstanceUID = origin.class_uid, instance
        one.SeriesInstanceUID, one.FrameOfReferenceUID = origin.series_uid, origin.frame_uid
        one.Modality = origin.modality
        one.PositionReferenceIndicator = dict(origin.patient).get("PositionReferenceIndicator", "")
        one.Columns, one.Rows = storage.shape[:2]
        one.ImageOrientationPatient = [round(float(c), 10) for c in (*along, *down)]
        one.ImagePositionPatient = [round(float(c), 6) for c in affine[:3, 3] + n * affine[:3, 2]]
        one.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        one.SliceThickness = one.SpacingBetweenSlices = float(spacing[2])
        images.append(one)
    return images


def _described(number: int, each: Segment) -> Any:
    highdicom = library("highdicom")
    code, part = highdicom.sr.CodedConcept, aistat_jax
    one = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=shortened(each.name, "LO"),
        segmented_property_category=code(
            value="49755003", scheme_designator="SCT", meaning="Morphologically Abnormal Structure"
        ),
        segmented_property_type=code(value="52988006", scheme_designator="SCT", meaning="Lesion"),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="aistat_jax",
            family=code(value="123103", scheme_designator="DCM", meaning="Edge Detection"),
            version=part.__version__,
        ),
    )
    if each.description:
        one.SegmentDescription = shortened(each.description, "ST")
    return one
