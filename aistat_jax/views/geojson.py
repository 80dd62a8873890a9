"""How do contours become GeoJSON? Polygons with holes, in the patient's millimetres."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.case import Case
from aistat_jax.planning.margins import SafetyMargin
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.grid import Plane
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.views.summary import place_of

FRAMES = {
    "mm": "millimetres in the patient's RAS+ frame: x to the Right, y to the Anterior, z to the "
    "Superior; not WGS84",
    "px": "indices of pixels; not WGS84",
}
DECIMALS = 4
_BAND = ("estimate", "lower", "upper")
Margins = Mapping[str, Sequence[SafetyMargin]]


def contours_geojson(case: Case, margins: Margins | None = None) -> dict[str, Any]:
    """The contours of a case as a GeoJSON FeatureCollection (RFC 7946), by target and slice.

    A feature is the region inside of one contour in one slice, a Polygon or a MultiPolygon with
    holes as inner rings; contours that enclose nothing have none. Its properties are target, kind
    ("estimate", "lower" and "upper" for the edges of the band, and the name of each of `margins`,
    with _in for inner contours), channel and slice (from 0 along the canonical third axis; None in
    no slice), offset of the plane along its normal (z of an axial one), grade of the target, and
    level of the band's edges.

    Coordinates are (x, y, z), not longitude and latitude, as the foreign members "frame" and "unit"
    say: millimetres in the patient's RAS+ frame, or pixel indices without spacing. Outer rings run
    counter-clockwise as seen from the tip of the plane's normal.
    """
    features = [feature for contour in case for feature in _features(contour, case, margins or {})]
    unit = case.image.unit
    return {
        "type": "FeatureCollection", "frame": FRAMES[unit], "unit": unit, "features": features,
    }  # fmt: skip


def geojson_text(case: Case, margins: Margins | None = None) -> str:
    """The same as text, a line a feature."""
    whole = contours_geojson(case, margins)
    features = whole.pop("features")
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in features)
    return f'{json.dumps(whole, ensure_ascii=False)[:-1]}, "features": [\n{lines}\n]}}\n'


def _features(contour: Contour, case: Case, margins: Margins) -> list[dict[str, Any]]:
    found, said = [], {"target": contour.id, "grade": contour.grade.case}
    for kind, values in _kinds(contour, margins).items():
        for place, plane, curves in _cut(contour, case, values):
            if (geometry := _geometry(curves, plane)) is None:
                continue
            properties = {**said, "kind": kind, **place}
            properties[f"offset_{plane.unit}"] = round(float(plane.offset), DECIMALS) + 0.0
            if kind in ("lower", "upper"):
                properties["level"] = contour.band.level
            found.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return found


def _checked(name: str) -> str:
    if name in _BAND:
        raise InputError(f"a margin cannot be named {name}, which a contour has; call it otherwise")
    return name


def _kinds(contour: Contour, margins: Margins) -> dict[str, Float[np.ndarray, " site"]]:
    """The values of each contour of a target, by what it is."""
    estimate, lower = np.asarray(contour.posterior.estimate, dtype=float), contour.band.smallest
    if contour.chart.dims == 3 and contour.chart.link == "log":
        lower = np.maximum(lower, 1e-3 * estimate)  # as `band_surfaces` has it
    found = {"estimate": estimate, "lower": lower, "upper": contour.band.largest}
    for name, several in margins.items():
        for margin in several:
            if margin.target_id == contour.id:
                found[_checked(name)] = margin.outer
                found |= {} if margin.inner is None else {f"{name}_in": margin.inner}
    return found


def _cut(
    contour: Contour, case: Case, values: Float[np.ndarray, " site"]
) -> list[tuple[dict[str, Any], Plane, Sequence[Curve]]]:
    """Channel and slice, plane and closed curves of one contour, slice by slice."""
    chart: Any = contour.chart
    if chart.dims == 2:
        found = place_of(contour, case.image)
        place = {"channel": found.get("channel"), "slice": found.get("slice")}
        return [(place, chart.plane, chart.sections(values, chart.plane))]
    mesh, channel = chart.surface(values), case.image.primary
    height = mesh.points @ channel.grid.frame[:, 2]
    planes = (channel.grid.plane(k) for k in range(channel.grid.shape[2]))
    return [
        ({"channel": channel.name, "slice": plane.index}, plane, mesh.section(plane))
        for plane in planes
        if height.min() < plane.offset < height.max()
    ]


def _geometry(curves: Sequence[Curve], plane: Plane) -> dict[str, Any] | None:
    """What closed curves enclose, by the even-odd rule; None for nothing."""
    from shapely.geometry.polygon import orient

    polygons = []
    for polygon in map(orient, region_of([each for each in curves if len(each.points) > 2]).geoms):
        rings = [polygon.exterior, *polygon.interiors]
        world = [plane.to_world(np.asarray(ring.coords, dtype=float)[:, :2]) for ring in rings]
        polygons.append([(np.round(points, DECIMALS) + 0.0).tolist() for points in world])
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons} if polygons else None
