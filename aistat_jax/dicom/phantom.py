"""How does a synthetic image become DICOM series, as if a scanner had made them of nobody?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import move_in, staged_folder
from aistat_jax.dicom.library import library, writing
from aistat_jax.space.image import Channel, Image

CLASSES = {"PT": "1.2.840.10008.5.1.4.1.1.128", "CT": "1.2.840.10008.5.1.4.1.1.2"}
WEIGHT_KG, DOSE_BQ, HALF_LIFE_S, WAIT_S = 70.0, 350e6, 6586.2, 3600.0
# From Bq/ml to SUV of a PET that is corrected to its start, an hour after the injection.
SUV = WEIGHT_KG * 1000 / (DOSE_BQ * 2 ** (-WAIT_S / HALF_LIFE_S))
HU = -1024.0


def phantom_dicom(folder: str | os.PathLike[str], image: Image) -> dict[str, Path]:
    """Write the PT (SUV) and CT (HU) of an image as axial DICOM series of one study, in PT and CT.

    One file a slice, in millimetres, with what `read_image` needs: units of Bq/ml with weight,
    dose and times for the PET, whole HU for the CT; values are kept to their 16 bits (a PET to
    1/32767 of its largest). The patient is called Phantom, and who reads them gets the image back,
    so that tests and tutorials need no patient's data. Returns the folders by channel.

    Raises InputError for an image without spacing, channels of other names or off the patient's
    axes, and a folder that holds any of it already.
    """
    home = Path(folder).expanduser().absolute()
    uid = library("pydicom.uid")
    for name in image.names:
        if name not in CLASSES:
            raise InputError(f"channel {name} has no kind of DICOM here; name channels PT and CT")
        grid = image[name].grid
        if grid.unit != "mm" or not np.allclose(grid.frame, np.eye(3)):
            raise InputError(f"channel {name} must be in mm, along the patient's axes")
        if (home / name).exists():
            raise InputError(f"{home / name} is there already; choose another folder")
    study, frame = uid.generate_uid(), uid.generate_uid()
    for name in image.names:
        with staged_folder(home / name) as staging, writing(home / name):
            for number, file in enumerate(_files(image[name], study, frame), start=1):
                file.save_as(staging / f"{name}{number:03d}.dcm", enforce_file_format=True)
            move_in(staging, home / name)
    return {name: home / name for name in image.names}


def _files(channel: Channel, study: str, frame: str) -> list[Any]:
    """The files of a series from below, rows from the patient's front, columns from the right."""
    uid, dataset = library("pydicom.uid"), library("pydicom.dataset")
    series, grid = uid.generate_uid(), channel.grid
    if channel.name == "PT":
        slope, intercept = max(float(channel.values.max()), 1e-6) / SUV / 32767, 0.0
        stored = channel.values / SUV / slope
    else:
        slope, intercept = 1.0, HU
        stored = channel.values - HU
    stored = np.rint(stored[::-1, ::-1]).clip(-32768, 32767).astype("<i2")
    found = []
    for k in range(grid.shape[2]):
        file = dataset.Dataset()
        file.file_meta = dataset.FileMetaDataset()
        file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = CLASSES[channel.name]
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
        file.StudyInstanceUID, file.SeriesInstanceUID = study, series
        file.FrameOfReferenceUID, file.Modality = frame, channel.name
        file.PatientID = file.PatientName = "Phantom"
        file.PatientBirthDate, file.PatientSex = "", ""
        file.StudyID, file.AccessionNumber, file.ReferringPhysicianName = "1", "", ""
        file.SeriesDescription, file.InstanceNumber = f"synthetic {channel.name}", k + 1
        file.StudyDate = file.SeriesDate = file.AcquisitionDate = "20260101"
        file.StudyTime = file.SeriesTime = file.AcquisitionTime = "110000.00"
        last = np.array([grid.shape[0] - 1, grid.shape[1] - 1, k])
        file.ImagePositionPatient = [round(v, 6) for v in grid.to_world(last) * [-1, -1, 1]]
        file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        file.PixelSpacing = [float(grid.spacing[1]), float(grid.spacing[0])]
        file.SliceThickness = float(grid.spacing[2])
        file.Rows, file.Columns = grid.shape[1], grid.shape[0]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
        file.PixelRepresentation = 1
        file.RescaleSlope, file.RescaleIntercept = f"{slope:.10g}", intercept
        if channel.name == "PT":
            _doses(file, dataset.Dataset())
        file.PixelData = stored[:, :, k].T.tobytes()
        found.append(file)
    return found


def _doses(file: Any, tracer: Any) -> None:
    """What makes SUV of a PET."""
    file.Units, file.DecayCorrection, file.CorrectedImage = "BQML", "START", ["ATTN", "DECY"]
    file.PatientWeight, file.ActualFrameDuration = WEIGHT_KG, 180000
    tracer.Radiopharmaceutical = "FDG"
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = DOSE_BQ, HALF_LIFE_S
    tracer.RadiopharmaceuticalStartTime = "100000.00"
    file.RadiopharmaceuticalInformationSequence = [tracer]
