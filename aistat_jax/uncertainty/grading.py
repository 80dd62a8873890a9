"""Can this contour be trusted, and where can it not?

Green, amber and red are this project's own definition, not a clinical standard: the cut-offs
below are meant to be read, argued with and calibrated on held-out cases.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float, Int
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.probability import area_posterior

CaseGrade = Literal["green", "amber", "red"]
GRADES: tuple[CaseGrade, ...] = ("green", "amber", "red")
LOCAL_CUTS = (0.05, 0.25)  # probability of being off by more than the tolerance
CASE_CUTS = (0.95, 0.80)  # posterior expected surface Dice at the tolerance
PRESENCE_CUTS = (0.95, 0.50)  # probability that there is anything to contour
ROOM = 1.5  # tolerances: with less room than so many, a boundary says little of where it might be
SIZE_CUTS = (0.25, 0.75)  # half the 95% interval of the area, as a share of its median
FINEST_TOLERANCE = 0.5  # pixels: below it no contour read off an image is green
DEFAULT_TOLERANCE_MM = 2.0
_DRAWS = 200  # draws in the expected surface Dice
# Pairs of a point and an edge measured at once, few enough to stay in a core's cache; and about how
# many edges a point is compared with.
_BLOCK, _BESIDE = 65_000, 6


@record
class Grade:
    """A traffic light for the case and for every place on its boundary, with reasons.

    local is 0 (green), 1 (amber) or 2 (red) along each ray; exceedance is the posterior
    probability that the boundary is off by more than the tolerance along that ray; fraction
    is the share of the estimate's length with each local grade. trusted_to is the smallest
    tolerance at which the case would be green, None where there is none: whatever it is then not
    green for stands first among the reasons. local_trusted_to is the same of every place, infinite
    where there is none. Neither is finer than what any contour of the image can be green at.

    Shapes: local, exceedance, local_trusted_to (ray,). Tolerances in `unit`.
    """

    local: Int[np.ndarray, " ray"]
    exceedance: Float[np.ndarray, " ray"]
    local_trusted_to: Float[np.ndarray, " ray"]
    case: CaseGrade = static()
    fraction: dict[str, float] = static()
    expected_surface_dice: float = static()
    reasons: tuple[str, ...] = static()
    tolerance: float = static()
    unit: str = static(default="mm")
    trusted_to: float | None = static(default=None)

    @property
    def sites(self) -> int:
        return len(self.local)

    @property
    def tolerance_mm(self) -> float:
        if self.unit != "mm":
            raise InputError(
                f"this grade's tolerance is {self.tolerance} {self.unit}, not millimetres"
            )
        return self.tolerance

    @property
    def trust(self) -> str:
        """Up to where the contour can be trusted, in words."""
        return trust_in_words(self.trusted_to, self.unit)


def trust_in_words(trusted_to: float | None, unit: str) -> str:
    """The smallest tolerance at which something is green, as it is said; never rounded down.

    >>> trust_in_words(4.02, "mm"), trust_in_words(None, "mm")
    ('trusted to 4.1 mm', 'trusted at no tolerance')
    """
    if trusted_to is None or not np.isfinite(trusted_to):
        return "trusted at no tolerance"
    return f"trusted to {_rounded_up(trusted_to)} {unit}"


def grade(
    posterior: Posterior, tolerance_mm: float | None = None, tolerance_px: float | None = None
) -> Grade:
    """Grade a contour against a tolerance: 2 mm unless told otherwise, whatever the image was.

    `default_tolerance` says what suits an image, and what a case is graded at.


    Locally: green when P(|gamma - estimate| > tolerance) is below 5%, amber up to 25%, red
    above, measured along the ray, which is never shorter than the distance at right angles
    to the boundary. The case: green when the posterior expected surface Dice of a draw
    against the estimate, at the tolerance, is at least 0.95, amber from 0.80, red below; it
    uses true distances between the two contours. Whatever the band, a case is amber at best, or
    red, where it is doubtful that there is a target at all (presence below 0.95, and 0.5), where
    the image or other evidence has something against the model (`Diagnostics.findings`; the whole
    boundary then has no better colour), where half the 95% interval of the area is more than 25%,
    and 75%, of its median, and where the tolerance is below half a pixel. Places where a chart
    has room for less than ROOM times the tolerance are amber at best and trusted to nothing, since
    boundaries that cannot go farther say little of whether they should, and so is a case with more
    than 5% of them. A posterior whose diagnostics refuse is red everywhere. The cut-offs are the
    project's own.

    Raises InputError for a tolerance that is not positive, a tolerance in another unit than
    the image's, or fewer than 100 draws.
    """
    tolerance = _tolerance(posterior.unit, tolerance_mm, tolerance_px)
    return grades_of(posterior)(tolerance)


def grades_of(posterior: Posterior) -> Callable[[float], Grade]:
    """`grade` as a function of the tolerance: the distances between draws are measured once."""
    return partial(
        _grade_at,
        posterior,
        _distances(posterior),
        _local_trusted_to(posterior),
        simultaneous_band(posterior, 0.95).half_width,
        _cautions(posterior),
    )


def _grade_at(
    posterior: Posterior,
    apart: tuple[np.ndarray, np.ndarray],
    local_trusted_to: np.ndarray,
    half_width: np.ndarray,
    cautions: Any,
    tolerance: float,
) -> Grade:
    unit = posterior.unit
    estimate = np.asarray(posterior.estimate, dtype=float)
    exceedance = np.mean(np.abs(posterior.draws - estimate) > tolerance, axis=0)
    local = (exceedance >= LOCAL_CUTS[0]).astype(int) + (exceedance > LOCAL_CUTS[1])
    local = np.maximum(local, int(tolerance < _at_best(posterior)))
    room = _room(posterior)
    confined = room < ROOM * tolerance
    local_trusted_to = np.where(room < ROOM * local_trusted_to, np.inf, local_trusted_to)
    local = np.maximum(local, confined.astype(int))
    distance, weight = apart
    agreement = float(weight[distance <= tolerance].sum())
    share = posterior.chart.weights(estimate)
    share = share / share.sum()

    case = int(agreement < CASE_CUTS[0]) + int(agreement < CASE_CUTS[1])
    along = _LENGTHS[posterior.chart.dims]
    reasons = (
        f"A contour drawn from the posterior is expected to agree with the estimate within "
        f"{tolerance:.1f} {unit} along {_percent(agreement)} of its {along} "
        f"(green from {CASE_CUTS[0]:.0%}, amber from {CASE_CUTS[1]:.0%}).",
        _sentence(_where(posterior, half_width, exceedance, local, share, tolerance)),
    )
    trusted_to = _trusted_to(posterior, distance, weight)
    never = float(share[room < ROOM * trusted_to].sum()) > 1 - CASE_CUTS[0]
    least = max(tolerance, trusted_to) if never else tolerance
    cramped = float(share[room < ROOM * least].sum())
    if cramped > 1 - CASE_CUTS[0]:
        case = max(case, 1)
        reasons = (
            f"Along {_percent(cramped)} of its {along} the outline that it started from leaves "
            f"less room than {ROOM * least:.1f} {unit}: there it is believed as drawn.",
            *reasons,
        )
    everywhere = max((c.code for c in cautions if c.everywhere), default=0)
    if everywhere:
        local_trusted_to = np.full_like(local_trusted_to, np.inf)
    local = np.maximum(local, everywhere)
    case = max(case, *(c.code for c in cautions), 0)
    reasons = (*(_sentence(c.text) for c in cautions), *reasons)
    trusted_to = None if cautions or never else trusted_to
    if trusted_to is not None and tolerance < trusted_to:
        at_best = _at_best(posterior)
        case = max(case, int(tolerance < at_best))
        reasons = (*reasons, _from_where_on(tolerance, trusted_to, at_best, unit))
    if not posterior.diagnostics.converged:
        case, local, trusted_to = 2, np.full_like(local, 2), None
        local_trusted_to = np.full_like(local_trusted_to, np.inf)
        reasons = (
            "The fit did not pass its own checks, so nothing about this contour is trusted.",
            *(_sentence(reason) for reason in posterior.diagnostics.reasons),
        )
    return Grade(
        local=local,
        exceedance=exceedance,
        local_trusted_to=local_trusted_to,
        case=GRADES[case],
        fraction={name: float(share[local == code].sum()) for code, name in enumerate(GRADES)},
        expected_surface_dice=agreement,
        reasons=reasons,
        tolerance=tolerance,
        unit=unit,
        trusted_to=trusted_to,
    )


def _room(posterior: Posterior) -> Float[np.ndarray, " site"]:
    """How far a boundary may leave the estimate, at sites with ends of their own; else infinite."""
    low, high = posterior.chart.ends
    estimate = np.asarray(posterior.estimate, dtype=float)
    if not (np.ptp(low) > 0 or np.ptp(high) > 0):
        return np.full(len(estimate), np.inf)
    return np.minimum(estimate - low, high - estimate)


_SIZES, _LENGTHS = {2: "area", 3: "volume"}, {2: "length", 3: "surface"}


class _Caution(NamedTuple):
    """The best grade that is left, as a code, and why; `everywhere`: along the boundary too."""

    code: int
    text: str
    everywhere: bool = False


def _cautions(posterior: Posterior) -> list[_Caution]:
    """What speaks against a green case whatever its band, worst first."""
    codes: dict[str, int] = {name: code for code, name in enumerate(GRADES)}
    found = [_Caution(codes[f.cap], f.text, True) for f in posterior.diagnostics.findings]
    presence = posterior.presence
    if doubt := sum(presence < cut for cut in PRESENCE_CUTS):
        there = f"There is a target here with probability {_percent(presence)} only."
        found.append(_Caution(doubt, there))
    low, middle, high = area_posterior(posterior).quantiles.values()
    unsure = (high - low) / (2 * middle) if middle > 0 else np.inf
    if doubt := sum(unsure > cut for cut in SIZE_CUTS):
        found.append(
            _Caution(
                doubt,
                f"The {_SIZES[posterior.chart.dims]} is known to within {unsure:.0%} only (half "
                f"its 95% interval; green up to {SIZE_CUTS[0]:.0%}, amber up to "
                f"{SIZE_CUTS[1]:.0%}).",
            )
        )
    return sorted(found, key=lambda caution: -caution.code)


def _at_best(posterior: Posterior) -> float:
    """The tolerance below which no contour read off such pixels is green; 0 without an image."""
    return FINEST_TOLERANCE * (posterior.diagnostics.voxel or 0.0)


def _trusted_to(posterior: Posterior, distance: np.ndarray, weight: np.ndarray) -> float:
    """The smallest tolerance at which the posterior expected surface Dice is that of a green.

    It is one of the distances: of the pairs of a draw and the estimate, by their weights, the
    quantile of the share that a green asks for.
    """
    order = np.argsort(distance)
    ranked, last = distance[order], len(order) - 1
    at = min(int(np.searchsorted(np.cumsum(weight[order]), CASE_CUTS[0])), last)
    while at < last and weight[distance <= ranked[at]].sum() < CASE_CUTS[0]:  # sums round
        at += 1
    return max(float(ranked[at]), _at_best(posterior))


def _local_trusted_to(posterior: Posterior) -> Float[np.ndarray, " ray"]:
    """The smallest tolerance at which each place is green, as its draws have it.

    So many draws may be off by more as are less than the share that a green allows; the furthest
    off of the others is the tolerance.
    """
    off = np.sort(np.abs(posterior.draws - np.asarray(posterior.estimate, dtype=float)), axis=0)
    count = len(off)
    may = int(np.flatnonzero(np.arange(count) / count < LOCAL_CUTS[0])[-1])
    return np.maximum(off[count - 1 - may], _at_best(posterior))


def _rounded_up(length: float) -> str:
    """A length as it is said, to tenths, or below one of them to two figures, never too small."""
    digits = 1 if length >= 0.1 or length <= 0 else 1 - int(np.floor(np.log10(length)))
    said = round(length, digits)
    return f"{said if said >= length else said + 10.0**-digits:.{digits}f}"


def _from_where_on(tolerance: float, trusted_to: float, at_best: float, unit: str) -> str:
    needed = _rounded_up(trusted_to)
    if tolerance < at_best:
        return (
            f"At {tolerance:.1f} {unit} no contour of this image can be green, since its pixels "
            f"are {at_best / FINEST_TOLERANCE:.1f} {unit} wide; at {needed} {unit} this one is."
        )
    return f"At a tolerance of {needed} {unit} this contour is green."


def expected_surface_dice(posterior: Posterior, tolerance: float) -> float:
    """Posterior mean of the surface Dice at `tolerance` between a draw and the estimate.

    Up to 200 draws, spread evenly. Each site carries the length (in space the area) that it stands
    for, and distances are to the other boundary (`Chart.gap`), in both directions.
    """
    distance, weight = _distances(posterior)
    return float(weight[distance <= tolerance].sum())


def _distances(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Distances between draws and estimate, both ways, and the weight of each (they sum to 1)."""
    chosen = np.linspace(0, len(posterior.draws) - 1, min(_DRAWS, len(posterior.draws)))
    chart, drawn = posterior.chart, posterior.draws[chosen.round().astype(int)]
    estimate, sites = posterior.estimate, chart.sites
    estimate_length = chart.weights(estimate)
    distances, weights = [], []
    parts = min(len(drawn), 1 + len(drawn) * sites * _BESIDE // _BLOCK)
    for values in np.array_split(drawn, parts):
        length, estimates = chart.weights(values), np.broadcast_to(estimate, values.shape)
        distances += [chart.gap(values, estimates), chart.gap(estimates, values)]
        whole = len(drawn) * (length.sum(axis=1, keepdims=True) + estimate_length.sum())
        weights += [length / whole, estimate_length / whole]
    return np.concatenate(distances).ravel(), np.concatenate(weights).ravel()


def _tolerance(unit: str, tolerance_mm: float | None, tolerance_px: float | None) -> float:
    if unit == "px":
        if tolerance_mm is not None or tolerance_px is None:
            raise InputError(
                "this image has no spacing, so a tolerance in millimetres means nothing; "
                "pass `tolerance_px`, or give the image a spacing"
            )
        tolerance = tolerance_px
    elif tolerance_px is not None:
        raise InputError("this image is in millimetres; pass `tolerance_mm`, not `tolerance_px`")
    else:
        tolerance = DEFAULT_TOLERANCE_MM if tolerance_mm is None else tolerance_mm
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise InputError(f"the tolerance must be a positive length, got {tolerance} {unit}")
    return float(tolerance)


def _where(
    posterior: Posterior,
    half_width: np.ndarray,
    exceedance: np.ndarray,
    local: np.ndarray,
    share: np.ndarray,
    tolerance: float,
) -> str:
    """How much of the boundary is in doubt, and where it is worst."""
    worst = int(np.lexsort((half_width, exceedance))[-1])
    towards = posterior.chart.words(posterior.chart.directions[worst])
    width = f"95% band half-width {half_width[worst]:.1f} {posterior.unit}"
    doubtful = float(share[local > 0].sum())
    if doubtful == 0:
        return (
            f"No part of the boundary has a {LOCAL_CUTS[0]:.0%} chance of being off by more "
            f"than {tolerance:.1f} {posterior.unit}; it is least certain {towards} ({width})."
        )
    return (
        f"{_percent(doubtful)} of the boundary may be off by more than "
        f"{tolerance:.1f} {posterior.unit} (a chance of {LOCAL_CUTS[0]:.0%} or more), "
        f"worst {towards} ({width})."
    )


def _percent(share: float) -> str:
    """A share as a percentage that does not round to 0% or 100% unless it is that."""
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return f"{np.floor(share * 1000) / 10:.1f}%"
    return f"{share:.0%}"


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
