"""How does a labelled validation set become a calibration? By heads that leave patients out.

A contour head of few numbers learns where experts drew the edge, given the network's log-odds and
the image along rays. What heads say of patients that they have not seen tells how far bands must be
widened, from where on green holds, and what the card says: either heads that learned without a
fold of the patients each, and the head that is used learns from all; or the very head that is used,
which learned from one half and is held against the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.calibrations import Calibration
from aistat_jax.io.outputs import OUTPUTS
from aistat_jax.left_out import (
    FAILED,
    LEVELS,
    MOST_CONTOURS,
    NOTHING_FOUND,
    TOO_SMALL,
    Judged,
    judged,
    targets_found,
)
from aistat_jax.nets.head_training import Unrolled
from aistat_jax.nets.output_head import OutputHead
from aistat_jax.nets.ray_learning import Crossed, crossed_heads
from aistat_jax.uncertainty.by_patient import patients_needed
from aistat_jax.uncertainty.conformal import ConformalBand, band_scores, conformal_band
from aistat_jax.uncertainty.risk_control import (
    GreenCases,
    GreenRule,
    control_false_green,
    green_cases,
)
from aistat_jax.validation_set import LabelledOutput, Read, read_case, surveyed, unlearned

LEAST_PATIENTS = 10
"""Fewer are refused: some of the folds that a head is judged on would hold fewer than two."""

LIMITS = (
    "This holds for patients exchangeable with those calibrated on: the same scanners, protocol, "
    "readers and version of the network. Of others it says nothing, nor of what the network "
    "misses, which has no contour. {how} For research and teaching; not for clinical use."
)
CROSSED = (
    "Bands and grades were judged with heads that had not learned from the patient, and are used "
    "with one that has learned from all. Their margins (two numbers each) are of errors of the "
    "other folds' heads, which have learned from the patient."
)
SPLIT = (
    "Bands and grades were judged with the head that is used, on patients that it had not learned "
    "from."
)
UNSETTLED = "heads whose search for the mode ended early"


def calibrate(
    cases: Sequence[LabelledOutput],
    *,
    output: str = "probability",
    label: int = 1,
    name: str = "the network",
    coverage: float = 0.95,
    rate: float = 0.05,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    folds: int = 5,
    split: bool = False,
    seed: int = 0,
    progress: Callable[[str, int, int], Any] | None = None,
) -> Calibration:
    """Calibrate a network of any make on patients that it has not learned from.

    output: what it gives ("probability", "log-odds" or "mask"), and label: of which class, in its
    output and in what was drawn. coverage: with which probability a contour of a new patient shall
    lie wholly in its band. rate: of how many new patients' contours green may be wrong, at a
    tolerance which is by default that of the images. A contour is that of one slice, held against
    what one reader drew there; bands are of contours whose centre lies in what was drawn, and the
    card says how many do not. progress is called with what is being done, how much of it is, and
    of how much. split: learn from one half of the patients and judge on the other, so that what is
    promised holds in finite samples; it takes twice as many.

    Raises InputError for fewer patients with something drawn than LEAST_PATIENTS, or than
    `patients_needed` of 1 - coverage and of rate; for arguments that cannot be meant; for images,
    labels or outputs that cannot be used or are unlike each other; and for two cases with one id
    or equal voxels.
    """
    if output not in OUTPUTS:
        raise InputError(f"`output` must be one of {', '.join(OUTPUTS)}, got {output!r}")
    if folds < 2:
        raise InputError(f"a calibration is judged on at least 2 folds, got {folds}")
    _refuse_unmeant(cases, label, coverage, rate, tolerance_mm, tolerance_px)
    tell = progress or (lambda what, done, of: None)
    _refuse_few({case.whose for case in cases}, coverage, rate, split)

    def each(what: str) -> Iterator[tuple[LabelledOutput, Read]]:
        for n, case in enumerate(cases):
            yield case, read_case(case, output, label)
            tell(what, n + 1, len(cases))

    surveys = surveyed(each("reading"))
    drawn_of = {one.patient for one in surveys if one.values}
    _refuse_few(drawn_of, coverage, rate, split)
    rng = np.random.default_rng(seed)
    kept = _other_half({one.patient for one in surveys}, drawn_of, rng) if split else frozenset()
    learning = [one for one in surveys if one.patient not in kept]
    head = unlearned(learning, name, output)
    tolerance = float(np.median([one.tolerance for one in learning]))
    for given, unit in ((tolerance_mm, "mm"), (tolerance_px, "px")):
        if given is not None and head.unit != unit:
            raise InputError(f"the images are in {head.unit}; pass `tolerance_{head.unit}`")
        tolerance = tolerance if given is None else given
    targets: dict[str, list[Unrolled]] = {}
    for case, read in each("looking along rays"):
        if case.whose in kept:
            continue
        targets.setdefault(case.whose, []).extend(targets_found(head, read, rng))
    if not any(np.any(target.drew) for found in targets.values() for target in found):
        raise InputError(
            "what the network finds is nowhere what was drawn; check the label, and that each "
            "output is of its own image"
        )
    learn = partial(tell, "learning")
    crossed = crossed_heads(head, targets, folds=folds, seed=seed, progress=learn)
    left_out: list[Judged] = []
    lost: Counter[str] = Counter()
    for case, read in each("judging patients left out"):
        if case.whose in kept or not kept:
            by = crossed.head if kept else _without(crossed, case.whose)
            found = judged(by, read, case.whose, tolerance, rng)
            left_out += found.contours
            lost += found.lost
    band, rule = _promises(left_out, coverage, rate)
    learned = [case for case in cases if case.whose not in kept]
    settings = {"folds": folds, "split": split, "seed": seed}
    card = _card(learned, left_out, lost, band, rule, SPLIT if split else CROSSED)
    card |= {"settings": settings}
    card["measured"][UNSETTLED] = crossed.unsettled
    digests = tuple(one.digest for one in surveys)
    return Calibration(crossed.head, band, rule, int(label), digests, card)


def _refuse_unmeant(
    cases: Sequence[LabelledOutput], label: int, coverage: float, rate: float,
    tolerance_mm: float | None, tolerance_px: float | None,
) -> None:  # fmt: skip
    """Arguments that cannot be meant, before anything is read."""
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or label < 1:
        raise InputError(f"`label` must be the whole number of a class from 1, got {label}")
    for name, share in (("coverage", coverage), ("rate", rate)):
        if not 0 < share < 1:
            raise InputError(f"`{name}` must lie strictly between 0 and 1, got {share:g}")
    for name, length in (("tolerance_mm", tolerance_mm), ("tolerance_px", tolerance_px)):
        if length is not None and not 0 < length < float("inf"):
            raise InputError(f"`{name}` must be a positive length, got {length:g}")
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise InputError(f"cases must have an id each, and two are called {twice[0]}")


def _other_half(patients: set[str], drawn_of: set[str], rng: np.random.Generator) -> frozenset[str]:
    """Half of the patients of whom something was drawn, and of the others, by chance."""
    parts = (sorted(drawn_of), sorted(patients - drawn_of))
    return frozenset(str(name) for part in parts for name in rng.permutation(part)[1::2])


def _refuse_few(patients: set[str], coverage: float, rate: float, split: bool) -> None:
    """Where the patients, or each half of them, are fewer than it takes."""
    needed = max(LEAST_PATIENTS, patients_needed(1 - coverage), patients_needed(rate))
    there = len(patients) // (1 + split)
    if there >= needed:
        return
    ask, halves = "", " in each half" if split else ""
    if there >= LEAST_PATIENTS:
        least = np.ceil(100 / (there + 1)) / 100
        ask = f", or ask for a `coverage` of {1 - least:.2g} and a `rate` of {least:.2g}"
    why = (
        f"nothing can be promised of {coverage:.3g} or more of new patients, with green wrong in "
        f"{rate:.3g}, from fewer{halves}"
        if needed > LEAST_PATIENTS
        else f"of fewer than {LEAST_PATIENTS}{halves}, some folds would hold fewer than two"
    )
    raise InputError(
        f"a calibration needs {needed * (1 + split)} patients of whom something was drawn, got "
        f"{len(patients)} ({why}); add patients{ask}"
    )


# ------------------------------------------------------------------------ patients left out


def _without(crossed: Crossed, patient: str) -> OutputHead:
    """The head that has not learned from a patient."""
    return next(head for out, head in crossed.folds if patient in out)


def _promises(
    left_out: Sequence[Judged], coverage: float, rate: float
) -> tuple[ConformalBand, GreenRule]:
    there = [one for one in left_out if one.seen]
    if not there:
        raise InputError(
            "what the network finds in the patients that are judged is nowhere what was drawn; "
            "check the label, and that each output is of its own image"
        )
    scores = band_scores(
        [one.contour for one in there], [one.patient for one in there], level=coverage,
        scale="band",
    )  # fmt: skip
    band = conformal_band(scores, coverage=coverage, per="lesion")
    return band, control_false_green(_greens(left_out), rate=rate, per="lesion")


def _greens(left_out: Sequence[Judged]) -> GreenCases:
    """A green contour is wrong, too, where nothing was drawn."""
    there = [one for one in left_out if one.contour.reference is not None]
    none = [one for one in left_out if one.contour.reference is None]
    found = green_cases([one.contour for one in there], [one.patient for one in there])
    grades = [one.contour.grade for one in none]
    sure = [g.expected_surface_dice if g.case == "green" else -np.inf for g in grades]
    return with_absent(found, sure, [one.patient for one in none])


def with_absent(found: GreenCases, sure: Sequence[float], patients: Sequence[str]) -> GreenCases:
    """With contours of what is not there, each of them wrong if it is green."""
    return GreenCases(
        np.concatenate([found.statistic, np.asarray(sure, dtype=float)]),
        np.concatenate([found.wrong, np.ones(len(sure), dtype=bool)]),
        (*found.patients, *patients), found.tolerance, found.unit,
    )  # fmt: skip


def _card(
    cases: Sequence[LabelledOutput], left_out: Sequence[Judged], lost: Counter[str],
    band: ConformalBand, rule: GreenRule, how: str,
) -> dict[str, Any]:  # fmt: skip
    there = [one for one in left_out if one.seen]
    measured = {
        f"rays within their {level:.0%} interval": _by_patient(
            [(one.patient, one.held[n]) for one in there]
        )
        for n, level in enumerate(LEVELS)
    }
    inside = [(o.patient, float(o.contour.band.holds(o.contour.reference))) for o in there]
    wide = [(o.patient, float(np.median(o.contour.band.half_width))) for o in there]
    centred = [(o.patient, (o.contour.posterior.presence - o.seen) ** 2) for o in left_out]
    missed = [(o.patient, float(not o.seen)) for o in left_out if o.contour.reference is not None]
    unit = band.unit
    measured |= {
        "whole boundary within the model's own 95% band": _by_patient(inside),
        f"half-width of that band, median along the boundary, {unit}": _by_patient(wide),
        f"factor on the half-width of the own {band.level:.3g} band, to hold {band.coverage:.3g}": (
            band.margin
        ),
        "share of contours with a reference that the bands leave out, as their centre lies "
        "outside of it": _by_patient(missed),
        "Brier score of presence, for the centre's lying in what was drawn": _by_patient(centred),
        f"share of contours that are green at {rule.tolerance:g} {unit}": rule.green,
        "green and wrong": rule.risk,
        **{figure: lost[figure] for figure in (NOTHING_FOUND, TOO_SMALL, FAILED)},
    }
    return {
        "learned from": f"Learned from {len(cases)} images of {len({c.whose for c in cases})} "
        "patients.",
        "left out": f"{len(there)} contours whose centre lies in what was drawn, of "
        f"{len({o.patient for o in there})} patients, by heads that had not learned from them; "
        "means over patients. A contour is that of one slice, held against one reader; of an image "
        f"at most {MOST_CONTOURS} slices' count, drawn at random.",
        "limits": LIMITS.format(how=how),
        "measured": measured,
    }


def _by_patient(found: Sequence[tuple[str, float]]) -> float:
    """The mean over patients of each one's mean; NaN of none."""
    each: dict[str, list[float]] = {}
    for patient, value in found:
        each.setdefault(patient, []).append(value)
    return float(np.mean([np.mean(values) for values in each.values()])) if each else float("nan")
