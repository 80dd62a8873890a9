"""Small DICOM series, made for one test: a lesion in a box, of nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
}
Change = Callable[[Any, int], None]
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STUDY, FRAME = "1.2.3.1", "1.2.3.2"
SHAPE, SPACING = (20, 16, 12), (3.0, 4.0, 5.0)  # columns, rows, slices; mm


def lesion(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Stored values (column, row, slice): a bright ball off the middle, and one corner of its own,
    so that no turn of the volume is the volume."""
    index = np.moveaxis(np.indices(shape), 0, -1) * SPACING
    centre = np.array([33.0, 27.0, 26.0])
    depth = 14.0 - np.linalg.norm(index - centre, axis=-1)
    values = 1000 + 4000 / (1 + np.exp(-depth)) + 20 * np.sin(index.sum(axis=-1))
    values[0, 0, 0] = 100
    return np.rint(values).astype(np.int16)


def pet_words(said: Any) -> None:
    """What makes SUV: 350 MBq at 10:00, 70 kg, a scan that is corrected to 11:00."""
    said.Units, said.DecayCorrection, said.CorrectedImage = "BQML", "START", ["ATTN", "DECY"]
    said.PatientWeight = 70
    tracer = pydicom.Dataset()
    tracer.Radiopharmaceutical = "FDG"
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 350e6, 6586.2
    tracer.RadiopharmaceuticalStartTime = "100000.00"
    said.RadiopharmaceuticalInformationSequence = [tracer]
    said.ActualFrameDuration = 180000


FACTOR = 70_000 / 350e6 * 2 ** (3600 / 6586.2)  # from Bq/ml to SUV of `pet_words`


def save_series(
    folder: Path,
    modality: str = "PT",
    values: np.ndarray | None = None,
    *,
    frame: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-30.0, -20.0, 100.0),
    change: Change = lambda said, n: None,
    series: str = "",
) -> Path:
    """Write a series of lesion() with one file a slice, named in no order of place.

    Shapes: values (column, row, slice); frame as ImageOrientationPatient, LPS.
    """
    values = lesion() if values is None else values
    folder.mkdir(parents=True, exist_ok=True)
    series = series or f"1.2.3.{100 + list(CLASSES).index(modality)}"
    along, down = np.array(frame[:3]), np.array(frame[3:])
    normal = np.cross(along, down)
    for n in range(values.shape[2]):
        said = pydicom.Dataset()
        said.file_meta = pydicom.dataset.FileMetaDataset()
        said.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        said.SOPClassUID = said.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
        said.SOPInstanceUID = said.file_meta.MediaStorageSOPInstanceUID = f"{series}.{n + 1}"
        said.PatientID, said.PatientName, said.PatientSex = "P1", "Nobody^None", "O"
        said.PatientBirthDate = "19000101"
        said.StudyInstanceUID, said.SeriesInstanceUID, said.FrameOfReferenceUID = (
            STUDY, series, FRAME,
        )  # fmt: skip
        said.StudyDate = said.SeriesDate = said.AcquisitionDate = "20250102"
        said.StudyTime = said.SeriesTime = said.AcquisitionTime = "110000.00"
        said.StudyID, said.AccessionNumber, said.ReferringPhysicianName = "1", "", ""
        said.Modality, said.SeriesDescription = modality, f"made {modality}"
        said.InstanceNumber = values.shape[2] - n
        said.ImageOrientationPatient = list(frame)
        said.ImagePositionPatient = list(np.array(origin) + n * SPACING[2] * normal)
        said.PixelSpacing, said.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        said.Rows, said.Columns = values.shape[1], values.shape[0]
        said.SamplesPerPixel, said.PhotometricInterpretation = 1, "MONOCHROME2"
        said.BitsAllocated, said.BitsStored, said.HighBit = 16, 16, 15
        said.PixelRepresentation = 1
        said.RescaleSlope, said.RescaleIntercept = 1, -1024 if modality == "CT" else 0
        if modality == "PT":
            pet_words(said)
        said.PixelData = values[:, :, n].T.astype("<i2").tobytes()
        change(said, n)
        said.save_as(
            folder / f"{(7 * n) % 101:03d}{n // 101 or ''}{modality}.dcm",
            enforce_file_format=True,
        )
    return folder


def save_structures(
    path: Path, regions: dict[str, list[np.ndarray]], *, frame: str = FRAME, kind: str = ""
) -> Path:
    """An RTSTRUCT as another program may write it. Shapes: contours (point, 3), LPS mm."""
    said = pydicom.Dataset()
    said.file_meta = pydicom.dataset.FileMetaDataset()
    said.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    said.SOPClassUID = said.file_meta.MediaStorageSOPClassUID = CLASSES["RTSTRUCT"]
    said.SOPInstanceUID = said.file_meta.MediaStorageSOPInstanceUID = "1.2.3.900.1"
    said.SeriesInstanceUID, said.StudyInstanceUID = "1.2.3.900", STUDY
    said.PatientID, said.Modality, said.StructureSetLabel = "P1", "RTSTRUCT", "drawn"
    named, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        one, lines = pydicom.Dataset(), pydicom.Dataset()
        one.ROINumber, one.ROIName, one.ReferencedFrameOfReferenceUID = number, name, frame
        lines.ReferencedROINumber, lines.ContourSequence = number, []
        for points in contours:
            item = pydicom.Dataset()
            item.ContourGeometricType = kind or "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points)
            item.ContourData = [f"{value:.3f}" for value in np.ravel(points)]
            lines.ContourSequence.append(item)
        named.append(one)
        drawn.append(lines)
    said.StructureSetROISequence, said.ROIContourSequence = named, drawn
    path.parent.mkdir(parents=True, exist_ok=True)
    said.save_as(path, enforce_file_format=True)
    return path
