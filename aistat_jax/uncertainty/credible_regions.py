"""Which closed contours in the slices of a DICOM series stand for posteriors?

The curves are the posterior's own, or the sections of its surfaces; nothing is drawn in voxels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.dicom.slices import slices_of
from aistat_jax.dicom.structure_file import Drawn
from aistat_jax.space.chart import LINKS
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel
from aistat_jax.uncertainty.contour import Contour

COLOURS = {"green": (0, 158, 115), "amber": (230, 159, 0), "red": (213, 94, 0)}
INNER, OUTER, LEVEL = (86, 180, 233), (0, 114, 178), (204, 121, 167)
WORST = ("red", "amber", "green")
Values = Callable[[Contour], Float[np.ndarray, " site"]]


def regions_of(
    contours: Sequence[Contour],
    channel: Channel,
    levels: Sequence[float] = (),
    label: str = "aistat",
) -> list[Drawn]:
    """Median, inner and outer credible contours, and contours of probability, as regions.

    All contours in slices are one lesion, each surface is one of its own. Within the contour of a
    level every point is inside with at least that probability; the median is that of one half; the
    inner and outer ones are the edges of the simultaneous band. Surfaces are cut by the slices of
    the series that `channel` is from. Names are `label` and what it is, 16 characters where the
    label is short: some planning systems show no more.

    Raises InputError for a level outside (0, 1), a channel that is from no DICOM series, and images
    without spacing.
    """
    for level in levels:
        if not 0 < level < 1:
            raise InputError(f"a probability level must lie strictly between 0 and 1, got {level}")
    if not contours:
        raise InputError("there is no contour to make regions of")
    flat = [contour for contour in contours if contour.chart.dims == 2]
    solid = [contour for contour in contours if contour.chart.dims == 3]
    groups = ([flat] if flat else []) + [[contour] for contour in solid]
    planes = [each.plane for each in slices_of(channel)]
    found = []
    for number, group in enumerate(groups, start=1):
        name = label if len(groups) == 1 else f"{label}{number}"
        found += _lesion(group, planes, levels, name)
    return found


def _lesion(
    group: Sequence[Contour], planes: Sequence[Plane], levels: Sequence[float], name: str
) -> list[Drawn]:
    counts = Counter(contour.grade.case for contour in group)
    worst = next(case for case in WORST if counts[case])
    grades = (
        f"grade {worst}"
        if len(group) == 1
        else "grades " + ", ".join(f"{counts[case]} {case}" for case in WORST if counts[case])
    )
    made = f"{grades}; aistat_jax {aistat_jax.__version__}; not approved"
    percent = f"{100 * group[0].band.level:g}"
    band = f"edge of the simultaneous {percent}% band"
    wanted: list[tuple[str, tuple[int, int, int], str, Values]] = [
        ("median", COLOURS[worst], "posterior median contour", _quantile(0.5)),
        (f"in{percent}", INNER, f"inner {band}", lambda c: _edge(c, c.band.lower, c.band.upper)),
        (f"out{percent}", OUTER, f"outer {band}", lambda c: _edge(c, c.band.upper, c.band.lower)),
    ]
    wanted += [
        (f"p{100 * level:g}", LEVEL, f"inside with probability {level:g} or more", _quantile(level))
        for level in levels
    ]
    return [
        Drawn(f"{name}_{what}", _sections(group, values, planes), colour, f"{words}; {made}")
        for what, colour, words, values in wanted
    ]


def _quantile(level: float) -> Values:
    """The contour within which every point is inside with at least a probability."""

    def values(contour: Contour) -> Float[np.ndarray, " site"]:
        draws = contour.posterior.draws
        near, far = np.quantile(draws, [1 - level, level], axis=0)
        return _edge(contour, near, far)

    return values


def _edge(
    contour: Contour, outer: Float[np.ndarray, " site"], inner: Float[np.ndarray, " site"]
) -> Float[np.ndarray, " site"]:
    """Values of the outer boundary, and of the inner one of a ring from the other side."""
    chart = contour.chart
    layers = LINKS[chart.link].layers
    values = np.array(outer, dtype=float)
    if layers == 2:
        half = len(values) // 2
        values[half:] = inner[half:]
    if chart.link == "log":
        values = np.maximum(values, 1e-3 * contour.posterior.estimate)
    return values


def _sections(
    group: Sequence[Contour], values: Values, planes: Sequence[Plane]
) -> tuple[tuple[Plane, tuple[Curve, ...]], ...]:
    cut: list[tuple[Plane, tuple[Curve, ...]]] = []
    for contour in group:
        chart: Any = contour.chart
        if chart.dims == 2:
            cut.append((chart.plane, tuple(chart.sections(values(contour), chart.plane))))
            continue
        mesh = chart.surface(values(contour))
        for plane in planes:
            if curves := mesh.section(plane):
                cut.append((plane, tuple(curves)))
    cut.sort(key=lambda pair: pair[0].offset)
    return tuple(_joined(cut))


def _joined(
    cut: Sequence[tuple[Plane, tuple[Curve, ...]]],
) -> list[tuple[Plane, tuple[Curve, ...]]]:
    """What lies in one plane as one region: where several targets overlap, they are one."""
    found: list[tuple[Plane, tuple[Curve, ...]]] = []
    for plane, curves in cut:
        if not (found and found[-1][0].is_slice(plane)):
            found.append((plane, curves))
            continue
        before = region_of(found[-1][1])
        whole = before.union(region_of(curves))
        polygons = [each for each in getattr(whole, "geoms", [whole]) if not each.is_empty]
        rings = [ring for each in polygons for ring in (each.exterior, *each.interiors)]
        unit = plane.unit
        joined = tuple(Curve(np.asarray(ring.coords, dtype=float)[:-1], unit) for ring in rings)
        found[-1] = (found[-1][0], joined)
    return found
