"""Which part of the files of a case is of which lesion? A digest of what is each one's own.

Its rows of contours.csv, its polygons in contours.geojson, its draws in posterior.nc, its surfaces,
the closed contours of rtstruct.dcm that lie nearest to it, and its Observations in fhir.json. What
is of no lesion in these files is of all of them, so that nothing is added that nobody has signed.
Files of voxels hold all lesions at once and have no parts; nor have report and ImagingStudy of
fhir.json, and how its Observations were made.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.dicom.structures import read_structures
from aistat_jax.fhir_status import FHIR, resources_of_lesions
from aistat_jax.inference.store import posterior_digests

CONTOURS, POLYGONS = "contours.csv", "contours.geojson"
POSTERIOR, RTSTRUCT = "posterior.nc", "rtstruct.dcm"
FAR_MM = 10.0  # from every lesion, beyond which a closed contour is of none
_COORDINATE = re.compile(r"(?:lower_|upper_)?([xyz])_mm")
Parts = dict[str, dict[str, str]]


def parts_in(out: Path, lesions: Sequence[str]) -> Parts:
    """Of each lesion of a folder the SHA-256 of what is its own in each file, by file name."""
    found: Parts = {each: {} for each in lesions}
    rows = _rows(out / CONTOURS)
    if rows:
        _add(found, CONTOURS, ((row[0], "\x1f".join(row)) for row in rows if row))
    if (out / POLYGONS).is_file():
        _add(found, POLYGONS, _polygons(out / POLYGONS))
    if (out / POSTERIOR).is_file():
        try:
            drawn = posterior_digests(out / POSTERIOR)
        except InputError:  # damaged, and so as nobody has signed it
            drawn = [("", "damaged")]
        _add(found, POSTERIOR, drawn)
    for path in sorted(out.glob("surface*")):
        owners = [each for each in lesions if path.name.startswith(f"surface-{each}.")]
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        _add(found, path.name, [(max(owners, key=len, default=""), digest)])
    if (out / RTSTRUCT).is_file():
        drawn = _drawn(out / RTSTRUCT, boxes_of(rows, lesions))
        _add(found, RTSTRUCT, ((owner, f"{name} {points}") for owner, name, points in drawn))
    if (out / FHIR).is_file():
        _add(found, FHIR, resources_of_lesions(out / FHIR))
    return found


def regions_of_lesions(out: Path, lesions: Sequence[str], some: Collection[str]) -> set[str]:
    """Names of the regions of rtstruct.dcm in a folder that hold contours of some of its lesions.

    By the same rule as their digests: a closed contour is of the lesions that it lies nearest to.
    """
    drawn = _drawn(out / RTSTRUCT, boxes_of(_rows(out / CONTOURS), lesions))
    return {name for owner, name, _ in drawn if owner in some}


def others_of(parts: Parts, lesion: str) -> str:
    """One digest of what is of all lesions but one."""
    rest = {each: own for each, own in parts.items() if each != lesion}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def boxes_of(
    rows: Sequence[Sequence[str]], lesions: Sequence[str]
) -> dict[str, Float[np.ndarray, "2 3"]]:
    """The least and largest coordinates of each lesion's contours and band, patient RAS mm."""
    if not rows:
        return {}
    axes = [_COORDINATE.fullmatch(name) for name in rows[0]]
    found: dict[str, list[list[float]]] = {each: [[], [], []] for each in lesions}
    for row in rows[1:]:
        if row and row[0] in found and len(row) == len(axes):
            for axis, text in zip(axes, row, strict=True):
                if axis is not None:
                    found[row[0]]["xyz".index(axis[1])].append(_number(text))
    return {
        each: np.array([[min(values) for values in own], [max(values) for values in own]])
        for each, own in found.items()
        if all(own) and np.isfinite(np.concatenate(own)).all()
    }


def _add(found: Parts, name: str, items: Iterable[tuple[str, str]]) -> None:
    """Digest what is of each lesion in a file, and of each what is of none."""
    said: dict[str, list[str]] = {each: [] for each in found}
    for owner, text in items:
        for each in (owner,) if owner in said else said:
            said[each].append(text)
    for each, texts in said.items():
        if texts:
            found[each][name] = hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return list(csv.reader(text.splitlines(keepends=True)))
    except FileNotFoundError:
        return []
    except csv.Error:
        return [["", "damaged"]]


def _polygons(path: Path) -> list[tuple[str, str]]:
    """The features of a GeoJSON file as text, each with its target, and the rest with none."""
    try:
        whole = json.loads(path.read_bytes())
        features = whole.pop("features")
        found = [(str(each["properties"]["target"]), json.dumps(each)) for each in features]
        return [("", json.dumps(whole)), *found]
    except (ValueError, KeyError, TypeError, AttributeError):  # and so as nobody has signed it
        return [("", "damaged")]


def _drawn(
    path: Path, boxes: Mapping[str, Float[np.ndarray, "2 3"]]
) -> Iterable[tuple[str, str, str]]:
    """Of closed contours of an RTSTRUCT each lesion that they are nearest to, region, points."""
    try:
        rois = read_structures(path).rois
    except InputError:  # damaged, and so as nobody has signed it
        yield "", "", "damaged"
        return
    for roi in rois:
        for points in roi.contours:
            centre = points.mean(axis=0)
            away = {
                each: float(np.linalg.norm(centre - np.clip(centre, *box)))
                for each, box in boxes.items()
            }
            least = min(away.values(), default=np.inf)
            near = [each for each, gap in away.items() if gap <= least + 1e-3 and least <= FAR_MM]
            text = str(np.round(points, 4).tolist())
            yield from ((each, roi.name, text) for each in near or [""])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
