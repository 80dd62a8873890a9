"""Which contours did somebody draw, by an RTSTRUCT, and on which slices of an image?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError, InputWarning
from aistat_jax._typing import Bool, Float
from aistat_jax.dicom.files import Member, opened, whole
from aistat_jax.dicom.library import reading
from aistat_jax.dicom.series import series_in
from aistat_jax.dicom.stack import TO_RAS
from aistat_jax.space.curve import Curve, as_polygons, coverage_from_contours
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel

ON = 0.1  # of the distance of slices within which a contour lies on one
FLAT = 0.1  # likewise, the way along the normal within one contour
AGAIN = 0.05  # of a contour's area, in which it differs from one that it repeats
CLEAR = 1e-6  # likewise, in which two that touch may overlap
ALIKE = 1e-2  # mm between contours of one height
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_MOST_NAMES = 30


@dataclass(frozen=True, eq=False)
class Roi:
    """The contours of one region. Shapes: each of contours (point, 3), patient RAS mm.

    frame_uid: the frame of reference that they are drawn in; patient: an id; "" where none is told.
    notes: what was left out, in sentences. exclusive: the numbers of the contours that are
    CLOSEDPLANAR_XOR.
    """

    name: str
    contours: tuple[np.ndarray, ...]
    frame_uid: str = ""
    notes: tuple[str, ...] = ()
    patient: str = ""
    exclusive: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Structures:
    """The regions of one RTSTRUCT, in its order; one by its name: `structures["GTV"]`."""

    rois: tuple[Roi, ...]
    source: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)

    def __getitem__(self, name: str) -> Roi:
        return self.roi(name)

    def roi(self, name: str | None = None) -> Roi:
        """The region of a name, however it is capitalised; without one, the only one there is.

        Raises InputError that says which there are.
        """
        there = ", ".join(self.names[:_MOST_NAMES]) or "none"
        there += ", ..." if len(self.names) > _MOST_NAMES else ""
        if name is None:
            found = [roi for roi in self.rois if roi.contours] if len(self.rois) > 1 else self.rois
            if len(found) != 1:
                raise InputError(
                    f"{self.source}: {len(self.rois)} regions are drawn; say which, by its name as "
                    f"`roi`: {there}"
                )
            return found[0]
        found = [roi for roi in self.rois if roi.name == name]
        found = found or [r for r in self.rois if _plain(r.name) == _plain(name)]
        if len(found) != 1:
            many = "no region" if not found else f"{len(found)} regions"
            raise InputError(f"{self.source}: {many} of the name {name!r}; there are: {there}")
        return found[0]


def read_structures(path: str | os.PathLike[str]) -> Structures:
    """The contours of an RTSTRUCT: a file, or the only one that a folder or a zip holds.

    Contours of fewer than three points are left out, which `Roi.notes` says. Nothing is made of
    the UIDs of images that contours name: they are often wrong.
    Raises InputError for no RTSTRUCT, several, and one that is damaged.
    """
    with opened(path) as members, reading(path):
        return structures_in(only(members, "RTSTRUCT", path), path)


def structures_in(member: Member, where: str | os.PathLike[str] = "") -> Structures:
    """The contours of an RTSTRUCT that is open. InputError where it is damaged."""
    return _parsed(whole(member), str(Path(where or member.name)))


def only(members: Sequence[Member], modality: str, where: object) -> Member:
    """The one file of a modality. Raises InputError for none or several."""
    found = [series for series in series_in(members) if series.modality == modality]
    files = [member for series in found for member in series.members]
    if len(files) != 1:
        count = f"there are {len(files)} files" if files else "there is no file"
        raise InputError(f"{where}: {count} of modality {modality}; pass the one that is meant")
    return files[0]


def curves_of(roi: Roi, like: Channel | Grid) -> dict[int, tuple[Curve, ...]]:
    """The contours of a region in the slices of a grid, by slice number from below.

    A contour belongs to the slice that it lies on, to a tenth of the distance of slices. Where
    contours were drawn on other slices than those of `like`, each slice shows the nearest ones, no
    further than half of their distance, which is an InputWarning. Several curves in one slice
    enclose what is inside of an odd number of them: one inside of another is a hole. Unless they
    are CLOSEDPLANAR_XOR, one that repeats another to a twentieth of its area is left out, and those
    that overlap in part are united; both are an InputWarning, and so are slices that were skipped.

    Raises InputError for a region without contours, or in another frame of reference than the
    series of `like`, and for contours that are turned against the slices or lie beyond them.
    """
    grid = like.grid if isinstance(like, Channel) else like
    name = f"channel {like.name}" if isinstance(like, Channel) else "the image"
    _check(roi, like, name)
    patient = _patient(like)
    notes = list(roi.notes)
    if roi.patient and patient and roi.patient != patient:
        notes.append(f"region {roi.name} is of another patient than {name}, by their ids")
    origin = like.origin if isinstance(like, Channel) else None
    if origin is not None and not (origin.frame_uid and roi.frame_uid):
        notes.append(
            f"region {roi.name} and {name} have no frame of reference alike, so that nothing says "
            "that one lies on the other"
        )
    for note in notes:
        warnings.warn(note, InputWarning, stacklevel=2)
    frame, first = grid.frame, grid.plane(0)
    thick = first.thickness
    heights, spread = _heights(roi, frame)
    if spread.max() > FLAT * thick:
        raise InputError(
            f"region {roi.name}: its contours are turned against the slices of {name}, by up to "
            f"{spread.max():.2g} mm within one; pass the image that they were drawn on"
        )
    place = (heights - first.offset) / thick
    beyond = (place < -0.5 - ON) | (place > grid.shape[2] - 0.5 + ON)
    if beyond.any():
        raise InputError(
            f"region {roi.name}: {int(beyond.sum())} of its {len(place)} contours "
            f"{'lies' if beyond.sum() == 1 else 'lie'} on no slice of {name}, the first at "
            f"{heights[beyond][0]:.2f} mm, where slices run from "
            f"{first.offset:.2f} to {grid.plane(grid.shape[2] - 1).offset:.2f} mm; pass the image "
            "that they were drawn on"
        )
    shown: dict[int, list[int]] = {}
    number = np.rint(place).astype(int)
    if lies_on(roi, grid):
        for n, k in enumerate(number):
            shown.setdefault(int(np.clip(k, 0, grid.shape[2] - 1)), []).append(n)
    else:
        shown = _nearest(heights, grid)
        warnings.warn(
            f"region {roi.name} was drawn on other slices than those of {name}: each shows the "
            "nearest contours",
            InputWarning,
            stacklevel=2,
        )
    found, notes = {}, _skipped(roi, sorted(k for k in shown if shown[k]))
    twice = united = 0
    for k in sorted(shown):
        found[k], again, merged = _enclosing(roi, shown[k], grid)
        twice, united = twice + again, united + merged
    if twice:
        notes.append(f"region {roi.name}: {twice} contours are drawn twice and count once")
    if united:
        notes.append(
            f"region {roi.name}: contours overlap in part on {united} slices, where what is inside "
            "of any of them counts"
        )
    for note in notes:
        warnings.warn(note, InputWarning, stacklevel=2)
    return found


def _skipped(roi: Roi, drawn: Sequence[int]) -> list[str]:
    """What is said of slices without a contour between those that have some."""
    gaps = np.diff(drawn)
    if (gaps == 1).all():
        return []
    first = int(np.argmax(gaps > 1))
    if (every := int(np.median(gaps))) > 1:
        nth = {2: "2nd", 3: "3rd"}.get(every, f"{every}th")
        return [
            f"region {roi.name} is drawn on every {nth} slice of {drawn[0]} to {drawn[-1]}: those "
            "between have none"
        ]
    return [
        f"region {roi.name}: slices {drawn[first] + 1} to {drawn[first + 1] - 1} have no contour, "
        "between others that have"
    ]


def _enclosing(roi: Roi, numbers: Sequence[int], grid: Grid) -> tuple[tuple[Curve, ...], int, bool]:
    """The curves of some contours in one slice, of which those that are inside of an odd number
    make the region; how many were there twice, and whether some were united.

    A contour that is one inside of another is a hole; two that overlap in part are one. Those of
    CLOSEDPLANAR_XOR are taken as they are.
    """
    import shapely

    frame, unit = grid.frame, grid.unit
    curves = {n: Curve((roi.contours[n] @ frame)[:, :2], unit) for n in numbers}
    strict = [n for n in numbers if n in roi.exclusive]
    if len(numbers) - len(strict) < 2:
        return tuple(curves.values()), 0, False
    kept: list[tuple[Any, tuple[Curve, ...]]] = []
    twice, united = 0, False
    for n in numbers:
        if n in strict:
            continue
        area, own = shapely.make_valid(shapely.Polygon(curves[n].points)), (curves[n],)
        if any(area.symmetric_difference(other).area < AGAIN * area.area for other, _ in kept):
            twice += 1
            continue
        apart = []
        for other, several in kept:
            least = min(area.area, other.area)
            if CLEAR * least < area.intersection(other).area < (1 - AGAIN) * least:
                area, united, own = area.union(other), True, ()
            else:
                apart.append((other, several))
        kept = [*apart, (area, own or _outlines(area, unit))]
    whole = [curve for _, several in kept for curve in several]
    return (*whole, *(curves[n] for n in strict)), twice, united


def _outlines(area: Any, unit: str) -> tuple[Curve, ...]:
    rings = [ring for each in as_polygons(area).geoms for ring in (each.exterior, *each.interiors)]
    return tuple(Curve(np.asarray(ring.coords, dtype=float)[:-1], unit) for ring in rings)


def lies_on(roi: Roi, grid: Grid) -> bool:
    """Whether every contour of a region lies on a slice of a grid, to a tenth of their distance."""
    heights, _ = _heights(roi, grid.frame)
    first = grid.plane(0)
    place = (heights - first.offset) / first.thickness
    return bool(np.abs(place - np.rint(place)).max(initial=0.0) <= ON)


def fits(roi: Roi, grid: Grid) -> bool:
    """Whether a region was drawn on slices of a grid, each contour flat on one and none beyond."""
    heights, spread = _heights(roi, grid.frame)
    first = grid.plane(0)
    place = (heights - first.offset) / first.thickness
    inside = (place > -0.5) & (place < grid.shape[2] - 0.5)
    return bool(inside.all() and spread.max() <= FLAT * first.thickness and lies_on(roi, grid))


def mask_of(roi: Roi, like: Channel | Grid) -> Bool[np.ndarray, "i j k"]:
    """Voxels at least half inside the contours of a region; see `curves_of` for what is refused."""
    grid = like.grid if isinstance(like, Channel) else like
    mask = np.zeros(grid.shape, dtype=bool)
    for k, curves in curves_of(roi, like).items():
        mask[:, :, k] = coverage_from_contours(curves, grid.plane(k)) >= 0.5
    if not mask.any():
        raise InputError(
            f"region {roi.name}: its contours hold no voxel of the image; pass the image that "
            "they were drawn on"
        )
    return mask


def _check(roi: Roi, like: Channel | Grid, name: str) -> None:
    if not roi.contours:
        why = f": {roi.notes[0]}" if roi.notes else ""
        raise InputError(f"region {roi.name} has no closed contour{why}")
    if like.unit != "mm":
        raise InputError(f"region {roi.name} is in millimetres and {name} in pixels")
    origin = like.origin if isinstance(like, Channel) else None
    if origin and origin.frame_uid and roi.frame_uid and origin.frame_uid != roi.frame_uid:
        raise InputError(
            f"region {roi.name} was drawn in another frame of reference than that of {name}, so "
            "that nothing says where it lies in it; pass the image that it was drawn on"
        )


def _patient(like: Channel | Grid) -> str:
    origin = like.origin if isinstance(like, Channel) else None
    return dict(origin.patient).get("PatientID", "") if origin else ""


def _heights(
    roi: Roi, frame: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, " contour"], Float[np.ndarray, " contour"]]:
    """Where each contour lies along the normal, and how far it runs along it."""
    along = [contour @ frame[:, 2] for contour in roi.contours]
    return np.array([np.median(w) for w in along]), np.array([np.ptp(w) for w in along])


def _nearest(heights: Float[np.ndarray, " contour"], grid: Grid) -> dict[int, list[int]]:
    """For each slice the contours at the height that is nearest, within half a gap of heights."""
    levels = np.sort(heights)
    levels = levels[np.append(True, np.diff(levels) > ALIKE)]
    reach = (float(np.median(np.diff(levels))) if len(levels) > 1 else grid.spacing[2]) / 2
    shown = {}
    for k in range(grid.shape[2]):
        away = np.abs(levels - grid.plane(k).offset)
        if away.min() <= reach + 1e-3:
            near = np.abs(heights - levels[away.argmin()]) <= ALIKE
            shown[k] = np.flatnonzero(near).tolist()
    return shown


def _parsed(file: Any, where: str) -> Structures:
    drawn = {}
    for item in file.get("ROIContourSequence") or []:
        drawn[str(item.get("ReferencedROINumber"))] = item.get("ContourSequence") or []
    rois = []
    for item in file.get("StructureSetROISequence") or []:
        name = str(item.get("ROIName") or f"ROI {item.get('ROINumber')}")
        items = drawn.get(str(item.get("ROINumber")), [])
        contours, exclusive, notes = _contours(items, name, where)
        frame = str(item.get("ReferencedFrameOfReferenceUID") or "")
        patient = str(file.get("PatientID") or "")
        rois.append(Roi(name, tuple(contours), frame, tuple(notes), patient, exclusive))
    if not rois:
        raise InputError(f"{where}: the structure set names no region")
    return Structures(tuple(rois), where)


def _contours(
    items: Any, name: str, where: str
) -> tuple[list[np.ndarray], frozenset[int], list[str]]:
    """The closed contours of one region in RAS, which are exclusive, and what is said of others."""
    found, exclusive, small, open_ = [], [], [], 0
    for item in items:
        try:
            points = np.asarray(item.get("ContourData") or [], dtype=float)
        except (TypeError, ValueError):
            points = np.array([np.nan])
        if points.size % 3 or not np.isfinite(points).all():
            raise InputError(
                f"{where}: region {name} has a contour that is not triples of numbers; export the "
                "structure set again"
            )
        points = points.reshape(-1, 3) * TO_RAS
        kind = str(item.get("ContourGeometricType", "CLOSED_PLANAR"))
        if kind not in CLOSED:
            open_ += 1
            continue
        if len(points) > 1 and np.array_equal(points[0], points[-1]):
            points = points[:-1]
        if len(points) < 3:
            small.append(points)
        else:
            if kind == "CLOSEDPLANAR_XOR":
                exclusive.append(len(found))
            found.append(points)
    notes = []
    if small:
        at = f", the first at z = {small[0][0, 2]:.2f} mm" if len(small[0]) else ""
        many = len(small) > 1
        count = f"{len(small)} contours have" if many else "a contour has"
        left = "are" if many else "is"
        notes.append(f"region {name}: {count} fewer than three points and {left} left out{at}")
    if open_:
        what = "open contours or points are" if open_ > 1 else "open contour or point is"
        notes.append(f"region {name}: {open_} {what} left out")
    return found, frozenset(exclusive), notes


def _plain(name: str) -> str:
    return name.strip().casefold()
