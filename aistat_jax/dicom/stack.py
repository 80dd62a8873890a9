"""Where do the slices of a series lie, and do they make one volume?

Slices are put in order of their position along the normal; instance numbers and names of files say
nothing. DICOM's patient axes run to the Left, the Posterior and the Head; the project's to the
Right, the Anterior and the Superior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.dicom.files import Member
from aistat_jax.dicom.series import Series

TO_RAS = np.array([-1.0, -1.0, 1.0])
EVEN, TOLD = 0.01, 0.05  # of the spacing: rounding; worth a word
STRAIGHT = 1e-3  # of a right angle between slices and the line through them
SAME = 1e-4
WIDE = 1.5  # times what a slice is thick, from which on the next one may be lost
_PLACED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_THICK = ("SpacingBetweenSlices", "SliceThickness")
COUNTS = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along their normal, as one volume.

    Shapes: affine (4, 4) from (column, row, slice) to RAS mm; shape likewise. off_even: how far
    each slice lies further along the third column of the affine than the affine has it, mm.
    """

    headers: tuple[Any, ...]
    members: tuple[Member, ...]
    ends: tuple[int, ...]
    affine: Float[np.ndarray, "4 4"]
    shape: tuple[int, int, int]
    notes: tuple[str, ...] = ()
    off_even: tuple[float, ...] = ()


def stacked(series: Series, where: object) -> Stack:
    """The volume that a series makes.

    Raises InputError for slices that differ in size or direction, lie in one place, miss a
    neighbour, are unevenly spaced, or are shifted along their plane (a tilted gantry).
    """
    kept, notes = _once(series, where)
    headers = [series.headers[n] for n in kept]
    if any(int(said.get("NumberOfFrames") or 1) > 1 for said in headers):
        raise InputError(
            f"{where}: the series is an enhanced image of several frames a file, which is not "
            "read; export it as one file a slice"
        )
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        if not all(said.get(keyword) for said in headers):
            raise InputError(
                f"{where}: {keyword} is missing, so that nothing says where a voxel is; export "
                "the original images"
            )
    frame = _one(headers, "ImageOrientationPatient", "directions (such as localizers)", where)
    spacing = _one(headers, "PixelSpacing", "pixel spacings", where)
    rows, columns = (int(_one(headers, name, "sizes", where)[0]) for name in ("Rows", "Columns"))
    along, down = frame[:3], frame[3:]
    if (
        not (np.allclose([along @ along, down @ down], 1, atol=1e-2) and abs(along @ down) < 1e-3)
        or not (spacing > 0).all()
    ):
        raise InputError(
            f"{where}: ImageOrientationPatient {frame.tolist()} or PixelSpacing "
            f"{spacing.tolist()} cannot be; export the original images"
        )
    along, down = along / np.linalg.norm(along), down / np.linalg.norm(down)
    normal = np.cross(along, down)
    places = np.array([_numbers(said, "ImagePositionPatient") for said in headers])
    if not np.isfinite(places).all():
        raise InputError(f"{where}: an ImagePositionPatient is not a number; export it again")
    order = np.argsort(places @ normal, kind="stable")
    headers, kept = [headers[n] for n in order], [kept[n] for n in order]
    step, uneven = _step(places[order], normal, headers, where)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along * spacing[1], down * spacing[0], step], axis=1)
    affine[:3, 3] = places[order[0]]
    affine[:3] *= TO_RAS[:, None]
    shape = (columns, rows, len(headers))
    members, ends = (tuple(each[n] for n in kept) for each in (series.members, series.ends))
    lost = _lost(headers, float(np.linalg.norm(step)))
    heights = places[order] @ normal
    off = np.round(heights - np.linspace(heights[0], heights[-1], len(heights)), 6) + 0.0
    return Stack(
        tuple(headers), members, ends, affine, shape, (*notes, *uneven, *lost), tuple(off.tolist())
    )


def _once(series: Series, where: object) -> tuple[list[int], list[str]]:
    """Every instance once: copies of a file go, and that is said."""
    first: dict[str, int] = {}
    for n, said in enumerate(series.headers):
        uid = str(said.get("SOPInstanceUID") or "")
        if not uid:
            raise InputError(
                f"{where}: {series.members[n].name} has no SOPInstanceUID (0008,0018), so that "
                "nothing can refer to it; export the original series"
            )
        other = series.headers[first.setdefault(uid, n)]
        if any(said.get(word) != other.get(word) for word in _PLACED):
            raise InputError(
                f"{where}: {series.members[n].name} and {series.members[first[uid]].name} have one "
                "SOPInstanceUID and differ in place or size; export the original series"
            )
    kept = list(first.values())
    twice = len(series.headers) - len(kept)
    many = "files are there twice and count" if twice > 1 else "file is there twice and counts"
    notes = [f"{twice} {many} once"] if twice else []
    return kept, notes


def _lost(headers: list[Any], spacing: float) -> list[str]:
    """What is said of slices that may be missing where those that are there are evenly spaced."""
    notes = []
    told = [_numbers(said, "NumberOfSlices")[0] for said in headers]
    if (most := max((n for n in told if np.isfinite(n)), default=0.0)) > len(headers):
        notes.append(
            f"NumberOfSlices (0054,0081) says {most:.0f} and there are {len(headers)}: "
            "slices may be missing, copy the whole series"
        )
    keyword = next((k for k in _THICK if _numbers(headers[0], k)[0] > 0), None)
    if len(headers) > 1 and keyword is not None:
        thick = _numbers(headers[0], keyword)[0]
        if spacing >= WIDE * thick:
            notes.append(
                f"one slice lies every {spacing:.3g} mm and {keyword} says {thick:.3g}: slices "
                "may be missing between, copy the whole series if so"
            )
    return notes


def _step(
    places: Float[np.ndarray, "slice 3"], normal: np.ndarray, headers: list[Any], where: object
) -> tuple[Float[np.ndarray, "3"], list[str]]:
    """The way from one slice to the next, and what is to be said of it."""
    if len(places) == 1:
        thick = headers[0].get("SpacingBetweenSlices") or headers[0].get("SliceThickness")
        if not thick or not abs(float(thick)) > 0:
            raise InputError(
                f"{where}: one slice without a SliceThickness is no volume; pass more slices"
            )
        return abs(float(thick)) * normal, []
    heights = places @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if usual <= 0 or (gaps < SAME + 0.01 * usual).any():
        n = int(gaps.argmin())
        raise InputError(
            f"{where}: several slices lie at {heights[n]:.2f} mm along the normal; the series "
            "holds time frames, gates or two reconstructions: pass the files of one"
        )
    if (gaps > 1.5 * usual).any():
        n, lost = int(gaps.argmax()), int(np.rint(gaps / usual - 1).sum())
        many = f"{lost} slice{'s are' if lost > 1 else ' is'}"
        raise InputError(
            f"{where}: about {many} missing: between {heights[n]:.2f} and "
            f"{heights[n + 1]:.2f} mm along the normal there is none, and elsewhere one every "
            f"{usual:.3g} mm; copy the whole series"
        )
    number = np.arange(len(places))
    fitted = np.polynomial.polynomial.polyfit(number, places, 1)
    step = fitted[1]
    across = step - (step @ normal) * normal
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(across), step @ normal)))
    if np.radians(tilt) > STRAIGHT:
        raise InputError(
            f"{where}: the gantry was tilted: slices shift by {np.linalg.norm(across):.3g} mm "
            f"along their plane from one to the next ({tilt:.2g} degrees); resample the series "
            "to upright slices first"
        )
    off = float(np.abs(places - fitted[0] - number[:, None] * step).max()) / usual
    if off > TOLD:
        raise InputError(
            f"{where}: slices are unevenly spaced, from {gaps.min():.3g} to {gaps.max():.3g} mm; "
            "resample the series to even slices first"
        )
    # the whole way shared out, so that the first and last slice lie where they say
    step = normal * float(heights[-1] - heights[0]) / (len(places) - 1)
    told = f"slices are up to {off * usual:.2g} mm off even spacing"
    return step, [told] if off > EVEN else []


def _one(headers: list[Any], keyword: str, what: str, where: object) -> Float[np.ndarray, " n"]:
    """The value that all slices share."""
    values = np.array([_numbers(said, keyword) for said in headers])
    if not np.isfinite(values).all():
        raise InputError(f"{where}: a slice has a {keyword} that is no number; export it again")
    if np.ptp(values, axis=0).max() > SAME * max(1.0, float(np.abs(values).max())):
        raise InputError(
            f"{where}: slices of one series differ in {keyword}: it mixes {what}; pass the files "
            "of one volume"
        )
    return values[0]


def _numbers(said: Any, keyword: str) -> list[float]:
    """A value as numbers, none of which is one where there are fewer or more than there must be."""
    value, count = said.get(keyword), COUNTS.get(keyword, 1)
    try:
        found = [float(each) for each in (value if hasattr(value, "__iter__") else [value])]
    except (TypeError, ValueError):
        found = []
    return found if len(found) == count else [float("nan")] * count
