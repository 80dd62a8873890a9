"""What is an edit by clicks: which clicks can be obeyed, and what is said of it?

A click is a point in the coordinates of its chart: (u, v) in the slice of a contour, (x, y, z) in
the patient for a surface. Nothing else here depends on which of the two a target is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.opinions import SIDES, anchors
from aistat_jax.inference.diagnostics import chart_reasons
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import Chart, interpolated
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior

# Two clicks contradict each other where the boundary between them would have to be steeper than
# this (radial over tangential), beyond so many standard deviations of a click.
STEEPEST, SLACK = 4.0, 4.0
# A click and the posterior disagree when they are so many standard deviations apart.
TENSION = 3.0
# A click is far from what was believed when it is so many standard deviations off.
FAR = 5.0
# A contour is drawn out to a click when the radius there sticks out from what it is this many
# degrees to either side by so large a share of itself, beyond what it did before.
BESIDE, SPIKE = 20.0, 0.12
# The band is wider elsewhere when it is so by this share of its median, along so much of itself.
WIDER, ALONG = 0.15, 0.1


@dataclass(frozen=True)
class Click:
    """A place that an expert points at, in the coordinates of the chart, and what is said of it."""

    point: tuple[float, ...]
    kind: str = "edge"


@dataclass(frozen=True)
class Edit:
    """One target after an edit: all its clicks, its posterior and grade, and what changed.

    `sampled` says that the fit was let go on where its first try did not do (`fit`'s fallback).
    """

    target: int
    clicks: tuple[Click, ...]
    posterior: Posterior
    grade: Grade
    sampled: bool = False
    said: str = ""


def clicks_as_evidence(clicks: Sequence[Click], sd: float) -> Evidence:
    """The clicks as a piece of evidence that adds to any other."""
    points = [click.point for click in clicks]
    return anchors(points, kind=[click.kind for click in clicks], sd=sd)


def refusal(
    before: Edit, found: Posterior, clicks: Sequence[Click], sd: float, sampled: bool
) -> InputError:
    """Why an edit was refused whose fit cannot be trusted, and what to do; numbers as notes."""
    unit = found.unit
    new = [click for click in clicks if click not in before.clicks]
    away = {click: _distance(before.posterior, click, sd) for click in new}
    far = max(away, key=lambda click: away[click][1], default=None)
    if far is not None and away[far][1] > FAR:
        side = "outside" if _beyond(before.posterior, far) > 0 else "inside"
        why = (
            f"this click and the image contradict each other: it lies {away[far][0]:.1f} {unit} "
            f"{side} the contour, {away[far][1]:.0f} times as far as the image leaves open, and no "
            "contour follows both"
        )
    elif runs_out := chart_reasons(found.radii, found.chart):
        why = f"with this click {runs_out[0]}"
    else:
        why = "with this click the image can be read in more than one way, and none is found surely"
    instead = (
        "the last good contour is kept; click nearer to the contour, or lead it there by several"
        if sampled
        else "click nearer to the contour, lead it there by several clicks, or press “sample” to "
        "let it be settled slowly"
    )
    error = InputError(f"{why}; {instead}")
    for reason in found.diagnostics.reasons:
        error.add_note(reason)
    return error


def check_clicks(clicks: Sequence[Click], chart: Any, sd: float) -> None:
    """Refuse clicks that no boundary could obey, with the reason in a sentence.

    Whether a point in space lies in the image is for who has the image to say: a chart in space
    knows how far it was read.
    """
    for click in clicks:
        place = f"{where(click.point)} {chart.unit}"
        if click.kind not in SIDES:
            raise InputError(f"unknown kind of click {click.kind!r}; use {', '.join(SIDES)}")
        if len(click.point) != chart.dims:
            raise InputError(
                f"the click at {place} has {len(click.point)} coordinates and the boundary lives "
                f"in {chart.dims} dimensions; give as many"
            )
        if not (np.isfinite(click.point).all() and _on_the_slice(click.point, chart)):
            raise InputError(f"the click at {place} lies outside the image; click on the image")
        position, site = float(chart.position(click.point)), int(chart.nearest(click.point))
        nearest, farthest = (float(end[site]) for end in chart.ends)
        star = chart.link == "log"  # positions of others are offsets, and no centre is special
        if not nearest <= position <= farthest:
            origin = "the centre" if star else "the outline"
            raise InputError(
                f"the click at {place} lies {abs(position):.0f} {chart.unit} from {origin}, beyond "
                f"the {farthest:.0f} {chart.unit} that were read; click nearer, or fit with a "
                "larger radius_max"
            )
        if star and position < sd and click.kind != "inside":
            raise InputError(
                f"the click at {place} is the centre itself, from which no direction leads; "
                "click nearer to the boundary"
            )
    for n, one in enumerate(clicks):
        for other in clicks[:n]:
            if _contradict(one, other, chart, sd) or _contradict(other, one, chart, sd):
                raise InputError(
                    f"the click “{one.kind}” at {where(one.point)} "
                    f"contradicts “{other.kind}” at {where(other.point)}: "
                    "no boundary that each ray meets once obeys both; move or remove one"
                )


def where(point: Sequence[float]) -> str:
    """A point in words: (12.3, 4.5)."""
    return f"({', '.join(f'{value:.1f}' for value in point)})"


def _on_the_slice(point: Sequence[float], chart: Any) -> bool:
    """Whether a point lies on the slice of its chart; in space there is none."""
    if chart.dims == 3:
        return True
    u_min, u_max, v_min, v_max = chart.plane.extent
    return u_min <= point[0] <= u_max and v_min <= point[1] <= v_max


def _contradict(lower: Click, upper: Click, chart: Chart, sd: float) -> bool:
    """Whether one click keeps the boundary further out than the other one lets it go."""
    if lower.kind == "outside" or upper.kind == "inside":
        return False
    near, far = chart.position(upper.point), chart.position(lower.point)
    arc = chart.apart(upper.point, lower.point)
    return bool(far - near > SLACK * sd + STEEPEST * arc)


def remarks(before: Edit, after: Edit, sd: float) -> list[str]:
    """What an expert should know of an edit beside what changed, a sentence each."""
    new = [(n, c) for n, c in enumerate(after.clicks, start=1) if c not in before.clicks]
    said = tensions(after, sd)
    for n, click in new:
        away, times = _distance(before.posterior, click, sd)
        if times > FAR and not said:
            said.append(
                f"Click {n} lies {away:.1f} {after.posterior.unit} from where the contour could "
                "be: the image, or the click, is wrong about this place."
            )
        out = _sticks_out(after.posterior, click) - _sticks_out(before.posterior, click)
        if abs(out) > SPIKE * float(after.posterior.estimate.mean()):
            said.append(
                f"The contour bends sharply at click {n} (a spike of {abs(out):.1f} "
                f"{after.posterior.unit}): if it is not so narrow, click beside it too."
            )
    return [*said, *_wider(before, after)]


def _wider(before: Edit, after: Edit) -> list[str]:
    """A sentence where an edit makes the band wider, for more than a little of its length."""
    old, new = (simultaneous_band(edit.posterior).half_width for edit in (before, after))
    wider = new - old > WIDER * float(np.median(old))
    if not after.clicks or wider.mean() <= ALONG:
        return []
    chart, most = after.posterior.chart, int((new - old).argmax())
    towards = chart.words(chart.directions[most])
    return [
        f"It costs certainty: the band is wider along {wider.mean():.0%} of the boundary, "
        f"most {towards} ({old[most]:.1f} to {new[most]:.1f} {after.posterior.unit})."
    ]


def _beyond(posterior: Posterior, click: Click) -> float:
    """How far outside of the estimate a click lies."""
    at = np.array([click.point])
    return float(posterior.chart.position(at)[0] - values_at(posterior, at).mean())


def _distance(posterior: Posterior, click: Click, sd: float) -> tuple[float, float]:
    """How far a posterior is from obeying a click, in its unit and in standard deviations."""
    beyond = _beyond(posterior, click)
    past = {"edge": abs(beyond), "inside": beyond, "outside": -beyond}[click.kind]
    spread = float(np.hypot(sd, values_at(posterior, np.array([click.point])).std()))
    return past, past / spread


def _sticks_out(posterior: Posterior, click: Click) -> float:
    """By how much the estimate at a click sticks out from what it is beside it."""
    beside = posterior.chart.beside(click.point, np.radians(BESIDE))
    middle, *sides = values_at(posterior, np.stack([click.point, *beside])).mean(axis=0)
    return float(middle - np.mean(sides))


def tensions(edit: Edit, sd: float) -> list[str]:
    """A sentence for each click that the posterior does not follow."""
    unit = edit.posterior.unit
    sentences = []
    for n, click in enumerate(edit.clicks, start=1):
        past, times = _distance(edit.posterior, click, sd)
        if times > TENSION:
            sentences.append(
                f"Click {n} ({click.kind}) and the other evidence disagree: the contour stays "
                f"{past:.1f} {unit} from it."
            )
    return sentences


def values_at(posterior: Posterior, points: Float[np.ndarray, "point dims"]) -> np.ndarray:
    """Every draw's value (draw, point) at the places of points, interpolated between sites."""
    return interpolated(posterior.chart, posterior.draws, points)


def what_changed(before: Edit, after: Edit) -> str:
    """Area (volume), half-width of the band and grade before and after, in a sentence."""
    unit = after.posterior.unit
    widths = [
        float(np.median(simultaneous_band(edit.posterior).half_width)) for edit in (before, after)
    ]
    grades = [edit.grade.case for edit in (before, after)]
    same = (
        f"grade stays {grades[0]}"
        if grades[0] == grades[1]
        else " to ".join([f"grade from {grades[0]}", grades[1]])
    )
    return (
        f"{_sizes(before.posterior, after.posterior)}, "
        f"half-width of the band {widths[0]:.2f} to {widths[1]:.2f} {unit} (median), {same}."
    )


def _sizes(before: Posterior, after: Posterior) -> str:
    """Median area, or volume, before and after; what is small in millilitres is said in mm³."""
    sizes = [area_posterior(posterior) for posterior in (before, after)]
    first, second = (size.quantile(0.5) for size in sizes)
    if after.chart.dims == 2:
        return f"Area {first:,.0f} to {second:,.0f} {after.unit}² ({second - first:+,.0f})"
    return (
        f"Volume {sizes[0].middle} to {sizes[1].middle} "
        f"({second - first:+,.0f} {after.unit}³, {(second - first) / first:+.1%})"
    )
