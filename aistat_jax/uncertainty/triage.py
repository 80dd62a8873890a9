"""Which contours should a person look at first, and why?

A grade is a verdict on one contour by itself. What no grade can know is whether slices of one
lesion go together, so neighbours that contradict each other come first here, then contours that
a check refused, then those of which most is in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.bands import Band, simultaneous_band
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


def triage(
    posteriors: Sequence[Posterior], grades: Sequence[Grade], bands: Sequence[Band] | None = None
) -> tuple[Concern, ...]:
    """The contours that a person should look at, the most urgent first, with one reason each.

    In this order: contours that do not go with the slices next to them (a slice that overlaps both
    its neighbours by over 10% less, in Dice, than they overlap each other; a step between two
    slices that overlap by over 20% less than those on either side of them); contours that a check
    refused, or that something else than their width speaks against; targets that may not be
    there; and all other amber and red ones, by the area between the edges of their 95% band. Green
    contours that go with their neighbours are not named.

    `bands` saves computing them again. Raises InputError for lists of different lengths.
    """
    found = [simultaneous_band(p, 0.95) for p in posteriors] if bands is None else bands
    if not len(posteriors) == len(grades) == len(found):
        raise InputError(
            f"{len(posteriors)} posteriors need as many grades and bands, got {len(grades)} and "
            f"{len(found)}"
        )
    contradictions = _contradictions(posteriors)
    ranked = []
    for place, (posterior, grade, band) in enumerate(zip(posteriors, grades, found, strict=True)):
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
        ranked.append((order, Concern(posterior.target_id, place, grade.case, reason)))
    return tuple(concern for _, concern in sorted(ranked, key=lambda pair: pair[0]))


def count_grades(grades: Sequence[Grade | str]) -> str:
    """How many contours have which grade, in words, the worst first.

    >>> count_grades(["red", "amber", "red"])
    '3 contours: 2 red, 1 amber, none green'
    """
    cases = [one.case if isinstance(one, Grade) else one for one in grades]
    each = [f"{cases.count(name) or 'none'} {name}" for name in GRADES[::-1]]
    return f"{len(cases)} contour{'s' * (len(cases) != 1)}: {', '.join(each)}"


def _contradictions(posteriors: Sequence[Posterior]) -> dict[int, tuple[float, str]]:
    """Places whose contour does not go with the slices next to it: by how much, and a reason."""
    import shapely

    shapes = [shapely.make_valid(shapely.Polygon(p.chart.points(p.estimate))) for p in posteriors]
    slices: dict[int, list[int]] = {}
    for place, posterior in enumerate(posteriors):
        slices.setdefault(posterior.chart.plane.index, []).append(place)
    # several targets in one slice: which goes with which is not known here
    alone = {index: places[0] for index, places in slices.items() if len(places) == 1}

    def overlap(a: int, b: int) -> float:
        """Dice of the contours of two slices; NaN where one of them has none."""
        if a not in alone or b not in alone:
            return np.nan
        one, other = shapes[alone[a]], shapes[alone[b]]
        return 2 * one.intersection(other).area / max(one.area + other.area, 1e-12)

    def name(index: int) -> str:
        return posteriors[alone[index]].target_id

    found: dict[int, tuple[float, str]] = {}
    for k in alone:
        below, above, around = overlap(k - 1, k), overlap(k, k + 1), overlap(k - 1, k + 1)
        odd = around - max(below, above)
        if odd > ODD_BY:
            found[alone[k]] = (
                odd,
                f"does not lie between its neighbours: {name(k - 1)} and {name(k + 1)} overlap by "
                f"{around:.0%}, this one with them by {max(below, above):.0%} at most",
            )
    for k in alone:
        here = overlap(k, k + 1)
        step = min(overlap(k - 1, k), overlap(k + 1, k + 2)) - here
        for one, other in ((k, k + 1), (k + 1, k)):
            if step > STEP_BY and alone[one] not in found:
                found[alone[one]] = (
                    step,
                    f"jumps against {name(other)}: the two overlap by {here:.0%}, the slices on "
                    f"either side by {here + step:.0%} or more",
                )
    return found


def _in_doubt(band: Band) -> float:
    """The area between the edges of a band."""
    return float(band.chart.content(band.upper) - band.chart.content(band.lower))


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
