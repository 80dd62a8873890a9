"""How are closed contours written as an RTSTRUCT that planning systems read?

Holes are keyholes: the outer contour runs to the hole along a cut of no width, around it, and back,
so that a region is one closed contour whether a reader joins contours or takes their exclusive or.
Nothing of a patient is written but what the series itself says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._errors import InputError
from aistat_jax._files import replaced_file
from aistat_jax._typing import Float
from aistat_jax.dicom.library import library, writing
from aistat_jax.dicom.slices import Slice, origin_of, slices_of
from aistat_jax.dicom.stack import TO_RAS
from aistat_jax.dicom.words import known, left_blank, shortened
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel

LEAST_PIXELS = 0.25  # of which a contour, or a hole, must hold the area
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY = "1.2.840.10008.3.1.2.3.1"


@dataclass(frozen=True, eq=False)
class Structure:
    """One region to write: its closed curves in slices, its name, colour and a description.

    sections: pairs of a plane and the curves in it, in the plane's coordinates; what is inside of
    an odd number of them is the region. colour: red, green and blue, 0 to 255. notes: what it
    lacks, in sentences.
    """

    name: str
    sections: tuple[tuple[Plane, tuple[Curve, ...]], ...]
    colour: tuple[int, int, int] = (255, 0, 0)
    description: str = ""
    notes: tuple[str, ...] = ()


def write_structures(
    path: str | os.PathLike[str],
    drawn: Sequence[Structure],
    channel: Channel,
    label: str = "aistat",
) -> list[str]:
    """Write regions as one RTSTRUCT that refers to the series of a channel; nobody has approved it.

    Returns sentences about what was left out: contours of fewer than three points, or of an area
    under a quarter of a pixel; regions without any; what the series says otherwise than DICOM has
    it; and what regions lack by their own notes. Raises InputError for a channel that is from no
    DICOM series, curves in none of its slices, nothing to write, and what cannot be written.
    """
    target, slices = Path(path), slices_of(channel)
    notes = left_blank(origin_of(channel))
    regions = []
    for each in drawn:
        notes += [f"region {each.name}: {note}" for note in each.notes]
        rings = _region(each, slices, notes)
        if rings:
            regions.append((each, rings))
        else:
            notes.append(f"region {each.name} has no contour on any slice and is left out")
    if not regions:
        raise InputError(f"{target}: there is no contour to write")
    with writing(target):
        file = _structure_set(regions, slices, channel, label)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(target) as temporary:
            file.save_as(temporary, enforce_file_format=True)
    return notes


def _structure_set(
    regions: Sequence[tuple[Structure, list[tuple[np.ndarray, str]]]], slices: Sequence[Slice],
    channel: Channel, label: str,
) -> Any:  # fmt: skip
    """The object that holds regions, each with its rings and their instances."""
    origin = origin_of(channel)
    file = _head(channel, STRUCTURES, "RTSTRUCT", label)
    frame_uid = origin.frame_uid
    file.FrameOfReferenceUID = frame_uid
    file.PositionReferenceIndicator = dict(origin.patient).get("PositionReferenceIndicator", "")
    file.StructureSetLabel = shortened(label, "SH")
    file.StructureSetDate, file.StructureSetTime = file.InstanceCreationDate, file.ContentTime
    file.ApprovalStatus = "UNAPPROVED"
    del file.ContentDate, file.ContentTime
    images = [_item(ReferencedSOPClassUID=origin.class_uid, ReferencedSOPInstanceUID=each.instance)
              for each in slices]  # fmt: skip
    series = _item(SeriesInstanceUID=origin.series_uid, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=STUDY, ReferencedSOPInstanceUID=file.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )  # fmt: skip
    file.ReferencedFrameOfReferenceSequence = [
        _item(FrameOfReferenceUID=frame_uid, RTReferencedStudySequence=[study])
    ]
    named, contoured, observed = [], [], []
    for number, (each, rings) in enumerate(regions, start=1):
        named.append(
            _item(
                ROINumber=number, ReferencedFrameOfReferenceUID=frame_uid,
                ROIName=shortened(each.name, "LO"),
                ROIDescription=shortened(each.description, "ST"),
                ROIGenerationAlgorithm="AUTOMATIC",
            )
        )  # fmt: skip
        one = _item(ROIDisplayColor=list(each.colour), ReferencedROINumber=number)
        one.ContourSequence = [
            _contour(ring, instance, origin.class_uid, n)
            for n, (ring, instance) in enumerate(rings, start=1)
        ]
        contoured.append(one)
        observed.append(
            _item(
                ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="",
                ROIInterpreter="",
            )
        )  # fmt: skip
    file.StructureSetROISequence = named
    file.ROIContourSequence = contoured
    file.RTROIObservationsSequence = observed
    return file


def _head(channel: Channel, class_uid: str, modality: str, label: str) -> Any:
    """A new object of the study that a channel is of, with what the standard wants of every one."""
    uid, dataset = library("pydicom.uid"), library("pydicom.dataset")
    origin, now = origin_of(channel), datetime.now()
    file = dataset.Dataset()
    file.file_meta = dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in known(origin).items():
        setattr(file, keyword, value)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = class_uid
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    file.InstanceCreationDate, file.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    file.ContentDate, file.ContentTime = file.InstanceCreationDate, file.InstanceCreationTime
    file.Modality, file.SeriesInstanceUID = modality, uid.generate_uid()
    file.SeriesNumber, file.InstanceNumber = 9000, 1
    file.SeriesDescription = shortened(f"{label} contours", "LO")
    file.OperatorsName = ""
    file.Manufacturer, file.ManufacturerModelName = "aistat_jax", "aistat_jax"
    file.SoftwareVersions = aistat_jax.__version__
    return file


def _contour(
    points: Float[np.ndarray, "point 3"], instance: str, class_uid: str, number: int
) -> Any:
    image = _item(ReferencedSOPClassUID=class_uid, ReferencedSOPInstanceUID=instance)
    return _item(
        ContourImageSequence=[image], ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points), ContourNumber=number,
        ContourData=[decimal(value) for value in (points * TO_RAS).ravel()],
    )  # fmt: skip


def decimal(value: float) -> str:
    """A coordinate in mm to a tenth of a micrometre, in the 16 characters of a decimal string.

    >>> decimal(-1234.56789), decimal(-0.0), decimal(2.5)
    ('-1234.5679', '0', '2.5')
    """
    return f"{round(float(value), 4) + 0.0:.4f}".rstrip("0").rstrip(".")


def _region(
    each: Structure, slices: Sequence[Slice], notes: list[str]
) -> list[tuple[np.ndarray, str]]:
    """The rings (point, 3) of one region in patient coordinates, and the instance of each."""
    rings, tiny = [], 0
    for plane, curves in each.sections:
        home = next((s for s in slices if s.plane.is_slice(plane)), None)
        if home is None:
            raise InputError(
                f"region {each.name}: a contour at {plane.offset:.2f} mm lies on no slice of the "
                "series; pass the channel that it was drawn on, or a surface"
            )
        least = LEAST_PIXELS * home.plane.pixel_area
        short = sum(len(curve.points) < 3 for curve in curves)
        whole = region_of([curve for curve in curves if len(curve.points) >= 3])
        large = [polygon for polygon in whole.geoms if polygon.area >= least]
        tiny += short + len(whole.geoms) - len(large)
        for polygon in large:
            holes = [ring for ring in polygon.interiors if _area(ring) >= least]
            tiny += len(polygon.interiors) - len(holes)
            ring = keyhole(polygon, holes)
            rings.append((home.plane.to_world(ring) + home.off, home.instance))
    if tiny:
        what = "contours or holes" if tiny > 1 else "contour or hole"
        left = "are" if tiny > 1 else "is"
        notes.append(
            f"region {each.name}: {tiny} {what} under a quarter of a pixel {left} left out"
        )
    return rings


def keyhole(polygon: Any, holes: Sequence[Any] = ()) -> Float[np.ndarray, "point 2"]:
    """The outline of a polygon as one ring that runs around its holes; the first is not repeated.

    The nearest hole is joined first, by the shortest cut, which therefore crosses no other.
    """
    import shapely

    outer = np.asarray(shapely.geometry.polygon.orient(polygon).exterior.coords)[:-1]
    left = [np.asarray(ring.coords)[:-1] for ring in holes]
    while left:
        ring = shapely.LinearRing(outer)
        away = [ring.distance(shapely.LinearRing(hole)) for hole in left]
        hole = left.pop(int(np.argmin(away)))
        cut = np.asarray(shapely.shortest_line(ring, shapely.LinearRing(hole)).coords)
        if shapely.LinearRing(hole).is_ccw:
            hole = hole[::-1]
        start, inner = _from(outer, cut[0]), _from(hole, cut[1])
        outer = np.concatenate([start, start[:1], inner, inner[:1]])
    return outer


def _from(ring: Float[np.ndarray, "point 2"], at: np.ndarray) -> Float[np.ndarray, "start 2"]:
    """A ring that starts at a point on it, which becomes a vertex if it is none."""
    following = np.roll(ring, -1, axis=0)
    along = following - ring
    square = np.maximum((along**2).sum(axis=1), 1e-300)
    share = np.clip(((at - ring) * along).sum(axis=1) / square, 0, 1)
    n = int(np.linalg.norm(ring + share[:, None] * along - at, axis=1).argmin())
    rolled = np.roll(ring, -n - 1, axis=0)
    if np.allclose(ring[n], at, rtol=0, atol=1e-9):
        return np.roll(ring, -n, axis=0)
    if np.allclose(following[n], at, rtol=0, atol=1e-9):
        return rolled
    return np.concatenate([at[None], rolled])


def _area(ring: Any) -> float:
    import shapely

    return float(shapely.Polygon(ring).area)


def _item(**attributes: Any) -> Any:
    item = library("pydicom.dataset").Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
