"""Which contours should a person look at first, and why?

A grade is a verdict on one contour by itself. What no grade can know is whether slices of one
lesion go together, so neighbours that contradict each other come first here, then contours that
a check refused, then those of which most is in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._record import record, static
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Plane
from aistat_jax.space.outlines import region_in
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.grading import CASE_CUTS, GRADES, PRESENCE_CUTS, CaseGrade, Grade

# By how much two slices must overlap less than those around them do. Slices of a convex body, and
# of one that tapers, overlap the more the nearer they are: they reach neither.
ODD_BY, STEP_BY = 0.10, 0.20
_NEIGHBOURS, _REFUSED, _ABSENT, _WIDTH = range(4)


@record
class Concern:
    """A contour to look at: its target's id, its place among those given, and a short reason."""

    target_id: str = static()
    place: int = static()
    grade: CaseGrade = static()
    reason: str = static()

    def __str__(self) -> str:
        return f"{self.target_id} ({self.grade}): {self.reason}"


def triage(contours: Sequence[Contour]) -> tuple[Concern, ...]:
    """The contours that a person should look at, the most urgent first, with one reason each.

    In this order: contours that do not go with the slices next to them (a slice that overlaps both
    its neighbours by over 10% less, in Dice, than they overlap each other; a step between two
    slices that overlap by over 20% less than those on either side of them); contours that a check
    refused, or that something else than their width speaks against; targets that may not be
    there; and all other amber and red ones, by the area between the edges of their band. Green
    contours that go with their neighbours are not named. Of several targets in a slice the
    neighbour is the one that overlaps most.
    """
    contradictions = _contradictions(contours)
    ranked = []
    for place, contour in enumerate(contours):
        posterior, grade, band = contour.posterior, contour.grade, contour.band
        rank, weight, reason = _WIDTH, _in_doubt(band), _by_width(band)
        if place in contradictions:
            rank, (weight, reason) = _NEIGHBOURS, contradictions[place]
        elif not posterior.diagnostics.converged:
            rank, reason = _REFUSED, _refusal(posterior)
        elif posterior.diagnostics.findings:
            rank, reason = _REFUSED, _phrase(posterior.diagnostics.findings[0][1])
        elif posterior.presence < PRESENCE_CUTS[0]:
            rank, weight = _ABSENT, 1 - posterior.presence
            reason = f"there may be nothing here: present with probability {posterior.presence:.0%}"
        elif GRADES.index(grade.case) > _by_agreement(grade) and not _of_width(grade.reasons[0]):
            rank, reason = _REFUSED, _phrase(grade.reasons[0])
        elif grade.case == "green":
            continue
        order = (rank, -GRADES.index(grade.case) if rank == _WIDTH else 0, -weight, place)
        ranked.append((order, Concern(contour.id, place, grade.case, reason)))
    return tuple(concern for _, concern in sorted(ranked, key=lambda pair: pair[0]))


def count_grades(grades: Sequence[Grade | str], what: str = "contour") -> str:
    """How many contours have which grade, in words, the worst first.

    >>> count_grades(["red", "amber", "red"])
    '3 contours: 2 red, 1 amber, none green'
    """
    cases = [one.case if isinstance(one, Grade) else one for one in grades]
    each = [f"{cases.count(name) or 'none'} {name}" for name in GRADES[::-1]]
    return f"{len(cases)} {what}{'s' * (len(cases) != 1)}: {', '.join(each)}"


def _contradictions(contours: Sequence[Contour]) -> dict[int, tuple[float, str]]:
    """Places whose contour does not go with the slices next to it: by how much, and a reason."""
    flat = [n for n, contour in enumerate(contours) if contour.chart.dims == 2]
    planes = {n: contours[n].posterior.chart.plane for n in flat}
    shapes = {n: region_in(contours[n].chart, contours[n].posterior.estimate, None) for n in flat}

    def overlap(one: int | None, other: int | None) -> float:
        """Dice of two contours; NaN where one of them is not there."""
        if one is None or other is None:
            return np.nan
        a, b = shapes[one], shapes[other]
        return 2 * a.intersection(b).area / max(a.area + b.area, 1e-12)

    def beside(n: int, side: int) -> int | None:
        """The contour in the slice below (-1) or above (1) that goes with one; None for none."""
        there = [m for m in flat if _steps(planes[n], planes[m]) == side]
        if len(there) > 1 or any(m != n and _steps(planes[n], planes[m]) == 0 for m in flat):
            there = [m for m in there if overlap(n, m) > 0]
        return max(there, key=lambda m: overlap(n, m), default=None)

    below, above = ({n: beside(n, side) for n in flat} for side in (-1, 1))
    found: dict[int, tuple[float, str]] = {}
    for n in flat:
        low, high = below[n], above[n]
        near = max(overlap(low, n), overlap(n, high))
        around = overlap(low, high)
        if around - near > ODD_BY and low is not None and high is not None:
            found[n] = (
                around - near,
                f"does not lie between its neighbours: {contours[low].id} and {contours[high].id} "
                f"overlap by {around:.0%}, this one with them by {near:.0%} at most",
            )
    for n in flat:
        m = above[n]
        if m is None:
            continue
        here = overlap(n, m)
        step = min(overlap(below[n], n), overlap(m, above[m])) - here
        for one, other in ((n, m), (m, n)):
            if step > STEP_BY and one not in found:
                found[one] = (
                    step,
                    f"jumps against {contours[other].id}: the two overlap by {here:.0%}, the "
                    f"slices on either side by {here + step:.0%} or more",
                )
    return found


def _steps(plane: Plane, other: Plane) -> int | None:
    """-1, 0 or 1 for a slice just below, the same, or just above; None for any other."""
    steps = (other.offset - plane.offset) / plane.thickness
    near = abs(steps) < 1.1 and abs(steps - round(steps)) < 0.1
    alike = abs(plane.thickness - other.thickness) < 1e-3 * plane.thickness
    if near and alike and np.allclose(plane.frame, other.frame, atol=1e-3):
        return round(steps)
    return None


def _in_doubt(band: Band) -> float:
    """The area between the edges of a band."""
    return float(band.chart.content(band.largest) - band.chart.content(band.smallest))


def _by_width(band: Band) -> str:
    worst = int(band.half_width.argmax())
    towards = band.chart.words(band.chart.directions[worst])
    return (
        f"{100 * band.level:g}% band ± {np.median(band.half_width):.1f} {band.unit}, "
        f"± {band.half_width[worst]:.1f} {towards}"
    )


def _refusal(posterior: Posterior) -> str:
    reasons = posterior.diagnostics.reasons
    return "its fit did not pass its own checks" + (f": {reasons[0]}" if reasons else "")


def _by_agreement(grade: Grade) -> int:
    """The grade that the expected surface Dice alone would give."""
    return sum(grade.expected_surface_dice < cut for cut in CASE_CUTS)


def _of_width(sentence: str) -> bool:
    """Whether a grade's first reason is the one that every grade has, so that it has no other."""
    return sentence.startswith("A contour drawn from the posterior")


def _phrase(sentence: str) -> str:
    first = sentence[:1] if sentence[1:2].isupper() else sentence[:1].lower()  # PT stays PT
    return first + sentence[1:].rstrip(".")
