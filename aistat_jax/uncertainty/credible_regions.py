"""Which closed contours in the slices of a DICOM series stand for posteriors?

The curves are the posterior's own, or the sections of its surfaces; nothing is drawn in voxels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import aistat_jax
from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.dicom.slices import slices_of
from aistat_jax.dicom.structure_file import Structure
from aistat_jax.space.chart import LINKS
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.probability import values_within

COLOURS = {"green": (0, 158, 115), "amber": (230, 159, 0), "red": (213, 94, 0)}
INNER, OUTER, LEVEL = (86, 180, 233), (0, 114, 178), (204, 121, 167)
OTHER = (240, 228, 66)
WORST = ("red", "amber", "green")
Sections = tuple[tuple[Plane, tuple[Curve, ...]], ...]
Values = Callable[[Contour], Float[np.ndarray, " site"]]


class Other(NamedTuple):
    """One more region: its name, what it is in words, and the values of each target's contour."""

    name: str
    words: str
    values: Mapping[str, Float[np.ndarray, " site"]]


def regions_of(
    contours: Sequence[Contour],
    channel: Channel,
    levels: Sequence[float] = (),
    label: str = "aistat",
    others: Sequence[Other] = (),
) -> list[Structure]:
    """Median, inner and outer credible contours, and contours of probability, as regions.

    All contours in slices are one lesion, each surface is one of its own. Within the contour of a
    level every point is inside with at least that probability, which counts that a target may not
    be there at all: one that is less likely there than the level has no such contour. Median and
    band are given that it is there; the median is the contour of one half, the inner and outer ones
    are the edges of the simultaneous band. Of a ring, a level p holds for each edge alone, and for
    both at once what two of them leave: 2 p less the probability that it is there. What a region
    lacks is in its notes and its description. Surfaces are cut by the slices of the series that
    `channel` is from. Names are `label` and what it is, 16 characters where the label is short:
    some planning systems show no more. `others` follow, for the targets that they have values of.

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
        found += _lesion(group, planes, levels, name, others)
    return found


def _lesion(
    group: Sequence[Contour],
    planes: Sequence[Plane],
    levels: Sequence[float],
    name: str,
    others: Sequence[Other],
) -> list[Structure]:
    counts = Counter(contour.grade.case for contour in group)
    worst = next(case for case in WORST if counts[case])
    grades = (
        f"grade {worst}"
        if len(group) == 1
        else "grades " + ", ".join(f"{counts[case]} {case}" for case in WORST if counts[case])
    )
    made = f"; {grades}; aistat_jax {aistat_jax.__version__}"
    percent = f"{100 * group[0].band.level:g}"
    band = f"edge of the {group[0].band.kind} {percent}% band"
    there = [contour.posterior.presence for contour in group]
    given, some = "", ""
    if min(there) < 1:
        low, high = (f"{100 * share:.3g}" for share in (min(there), max(there)))
        some = f"; present with probability {low if low == high else f'{low} to {high}'}%"
        given = ", given that it is there"
    wanted: list[tuple[str, tuple[int, int, int], str, Values]] = [
        ("median", COLOURS[worst], f"posterior median contour{given}", _quantile(0.5)),
        (f"in{percent}", INNER, f"inner {band}{given}",
         lambda c: _kept(c, c.band.smallest)),
        (f"out{percent}", OUTER, f"outer {band}{given}",
         lambda c: _kept(c, c.band.largest)),
    ]  # fmt: skip
    found = []
    for what, colour, words, values in wanted:
        sections, notes = _sections(group, values, planes)
        found.append((what, colour, words, sections, notes))
    for level in levels:
        # without a target nothing is inside, so that more of the draws must agree
        likely = [contour for contour in group if contour.posterior.presence > level]
        sections, notes = _sections(likely, _probable(level), planes)
        if less := len(group) - len(likely):
            are = "targets are" if less > 1 else "target is"
            gone = f"{less} {are} present with probability {level:g} or less and left out"
            notes = (gone, *notes)
        words = f"inside with probability {level:g} or more"
        if rings := [c for c in likely if LINKS[c.chart.link].layers == 2]:
            both = max(0.0, 2 * level - max(c.posterior.presence for c in rings))
            words += f" of each edge of a ring, {both:.3g} or more of both"
        found.append((f"p{100 * level:g}", LEVEL, words, sections, notes))
    for other in others:
        those = [contour for contour in group if contour.id in other.values]
        if not those:
            continue
        sections, notes = _sections(those, lambda c, o=other: o.values[c.id], planes)
        if less := len(group) - len(those):
            notes = (f"{less} of {len(group)} targets have none", *notes)
        found.append((other.name, OTHER, f"{other.words}{given}", sections, notes))
    return [
        Structure(
            f"{name}_{what}", sections, colour, "; ".join((words, *notes)) + some + made, notes
        )
        for what, colour, words, sections, notes in found
    ]


def _probable(level: float) -> Values:
    """The contour within which every point is inside of a target that is there, with at least a
    probability."""
    return lambda contour: _quantile(level / contour.posterior.presence)(contour)


def _quantile(level: float) -> Values:
    """The contour within which every point is inside with at least a probability, given that there
    is a target."""

    return lambda contour: _kept(contour, values_within(contour.posterior, level))


def _kept(contour: Contour, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, " site"]:
    """Values that keep a thousandth of a star's radii, so that it has a section."""
    if contour.chart.link == "log":
        return np.maximum(values, 1e-3 * contour.posterior.estimate)
    return values


def _sections(
    group: Sequence[Contour], values: Values, planes: Sequence[Plane]
) -> tuple[Sections, tuple[str, ...]]:
    """The curves of contours in slices, and what is said of surfaces that run out of these."""
    cut: list[tuple[Plane, tuple[Curve, ...]]] = []
    beyond = 0.0
    for contour in group:
        chart: Any = contour.chart
        if chart.dims == 2:
            cut.append((chart.plane, tuple(chart.sections(values(contour), chart.plane))))
            continue
        mesh = chart.surface(values(contour))
        beyond = max(beyond, _beyond(mesh.points, planes))
        for plane in planes:
            if curves := mesh.section(plane):
                cut.append((plane, tuple(curves)))
    cut.sort(key=lambda pair: pair[0].offset)
    notes = (f"cut off: it reaches {beyond:.3g} mm beyond the slices",) if beyond > 0 else ()
    return tuple(_joined(cut)), notes


def _beyond(points: Float[np.ndarray, "vertex 3"], planes: Sequence[Plane]) -> float:
    """How far points lie outside of slices and half of their distance; 0 for those within."""
    heights = points @ planes[0].frame[:, 2]
    offsets, half = [plane.offset for plane in planes], planes[0].thickness / 2
    over = max(float(heights.max()) - max(offsets), min(offsets) - float(heights.min())) - half
    return over if over > 1e-3 * half else 0.0


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
