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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError, about
from aistat_jax.boundary.networks import Seen, seen_in_output
from aistat_jax.calibrations import Calibration, digest_of, held_to_size
from aistat_jax.inference.batch import fit_many
from aistat_jax.io.nifti import PathLike, read_drawn, read_image
from aistat_jax.io.nnunet import patient_of
from aistat_jax.io.outputs import OUTPUTS, output_log_odds, read_output
from aistat_jax.nets.edge_law import RAYS, Edge, within
from aistat_jax.nets.edges import edge_at, output_field
from aistat_jax.nets.head_training import HeadSettings, Unrolled, slices_in
from aistat_jax.nets.output_head import OutputHead, normalisation_of
from aistat_jax.nets.ray_learning import Crossed, crossed_heads
from aistat_jax.space.basis import equal_angles
from aistat_jax.space.curve import Curve, last_exits
from aistat_jax.space.image import Image
from aistat_jax.space.star import unit_vectors
from aistat_jax.uncertainty.by_patient import patients_needed
from aistat_jax.uncertainty.conformal import ConformalBand, band_scores, conformal_band
from aistat_jax.uncertainty.contour import Contour, contour_of
from aistat_jax.uncertainty.reference import with_references
from aistat_jax.uncertainty.risk_control import (
    GreenCases,
    GreenRule,
    control_false_green,
    green_cases,
)
from aistat_jax.uncertainty.tolerance import default_tolerance

LEAST_PATIENTS = 10
"""Fewer are refused: some of the folds that a head is judged on would hold fewer than two."""

LEVELS = (0.5, 0.8, 0.95)
# Targets as the network finds them, and as many places where nothing was drawn.
SHOWN = HeadSettings(copies=1, absent=1.0)
# From twice as many contours of a case, spread evenly, a head learns, and so many, drawn at random,
# tell how far off it is; draws of each.
MOST_CONTOURS, DRAWS = 10, 400
LIMITS = (
    "This holds for patients exchangeable with those calibrated on: the same scanners, protocol, "
    "readers and version of the network. Of others it says nothing. {how} On slices of small lung "
    "nodules (median radius 4 voxels) intervals of 50% held .59 to .67 of the rays of new "
    "patients, and bands, 1.6 to 2.0 in log radius to either side, were too wide to be of use. For "
    "research and teaching; not for clinical use."
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
# What the card counts beside contours.
NOTHING_FOUND = "images with something drawn in which the network finds nothing"
TOO_SMALL = "images in which all that it finds is too small for a contour"
FAILED = "contours left out because their fit failed"
UNSETTLED = "heads whose search for the mode ended early"


@dataclass(frozen=True)
class LabelledOutput:
    """An image, what a network says of it, and what an expert drew.

    image is an `Image`, or files by channel, the primary one first. output and drawn are files, or
    arrays on the canonical grid of the primary channel: what `output_log_odds` reads, and whole
    numbers (i, j, k), or (i, j, k, reader) where several drew. An empty patient is told from the id
    (`patient_of`).
    """

    id: str
    image: Any
    output: Any
    drawn: Any
    patient: str = ""

    @property
    def whose(self) -> str:
        return self.patient or patient_of(self.id)


class Read(NamedTuple):
    """A case that was read. Shapes: log_odds (i, j, k), masks (i, j, k, reader)."""

    image: Image
    log_odds: np.ndarray
    masks: np.ndarray


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

    surveys = _surveyed(each("reading"))
    drawn_of = {one.patient for one in surveys if one.values}
    _refuse_few(drawn_of, coverage, rate, split)
    rng = np.random.default_rng(seed)
    kept = _other_half({one.patient for one in surveys}, drawn_of, rng) if split else frozenset()
    learning = [one for one in surveys if one.patient not in kept]
    head = _unlearned(learning, name, output)
    tolerance = float(np.median([one.tolerance for one in learning]))
    for given, unit in ((tolerance_mm, "mm"), (tolerance_px, "px")):
        if given is not None and head.unit != unit:
            raise InputError(f"the images are in {head.unit}; pass `tolerance_{head.unit}`")
        tolerance = tolerance if given is None else given
    targets: dict[str, list[Unrolled]] = {}
    for case, read in each("looking along rays"):
        if case.whose in kept:
            continue
        seen, grid = output_field(head, read.image, read.log_odds), read.image.primary.grid
        found = slices_in(seen, read.masks, grid, rng, SHOWN)
        few = found[:: -(-len(found) // (2 * MOST_CONTOURS)) or 1]
        targets.setdefault(case.whose, []).extend(few)
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


def read_case(case: LabelledOutput, output: str, label: int) -> Read:
    """A case with its log-odds and what was drawn. Raises InputError naming it."""
    with about(f"case {case.id}"):
        given = case.image
        image = given if isinstance(given, Image) else read_image(**given)
        like = image.primary
        if isinstance(case.output, np.ndarray):
            log_odds = output_log_odds(case.output, like, output, label)
        else:
            log_odds = read_output(case.output, like, output, label)
        return Read(image, log_odds, _drawn(case.drawn, image, label))


def _drawn(given: np.ndarray | PathLike, image: Image, label: int) -> np.ndarray:
    like = image.primary
    drawn = given if isinstance(given, np.ndarray) else read_drawn(given, like, "label")
    where = "the label" if isinstance(given, np.ndarray) else f"{Path(given)}"
    drawn = drawn[..., None] if drawn.ndim == 3 else drawn
    if drawn.ndim != 4 or drawn.shape[:3] != like.grid.shape:
        raise InputError(
            f"the label's grid {drawn.shape[:3]} does not match channel {like.name}'s "
            f"{like.grid.shape}; resample the label onto the image"
        )
    values = drawn.astype(float)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise InputError(f"{where}: labels must be whole numbers; save one label a voxel")
    masks = values == label
    if masks.all():
        raise InputError(f"{where}: every voxel is label {label}, so nothing has an edge")
    return masks


class Survey(NamedTuple):
    """What a case is like. values: of every channel near what was drawn, none where nothing is."""

    patient: str
    digest: str
    kind: tuple[Any, ...]
    tolerance: float
    values: dict[str, np.ndarray]


def _surveyed(read: Iterator[tuple[LabelledOutput, Read]]) -> list[Survey]:
    seen: dict[str, LabelledOutput] = {}
    first: Image | None = None
    found: list[Survey] = []
    finds = False
    for case, (image, log_odds, masks) in read:
        digest = digest_of(image)
        other = seen.setdefault(digest, case)
        if other is not case:
            raise InputError(
                f"cases {other.id} (patient {other.whose}) and {case.id} (patient {case.whose}) "
                "hold equal voxels; leave one of them out"
            )
        first = first or image
        if _kind(image) != _kind(first):
            raise InputError(
                f"case {case.id} has {_words(image)}, and those before it {_words(first)}; "
                "calibrate on images of one kind"
            )
        finds |= bool((log_odds > 0).any())
        values: dict[str, np.ndarray] = {}
        for channel in image.names if masks.any() else ():
            near = image[channel].values
            if image[channel].grid.matches(image.primary.grid):
                near = near[_around(np.asarray(masks.any(axis=-1)))]
            values[channel] = near.ravel()[:: max(1, near.size // 20_000)]
        usual = default_tolerance(image).value
        found.append(Survey(case.whose, digest, _kind(image), usual, values))
    if not any(one.values for one in found):
        raise InputError("nothing is drawn in any case; pass labels of what is to be contoured")
    if not finds:
        raise InputError(
            "the network finds nothing in any case: its probability is nowhere above one half; "
            "check the label, and what its output is"
        )
    return found


def _unlearned(cases: Sequence[Survey], name: str, output: str) -> OutputHead:
    """The head that is to learn from these cases, with how it normalises what it reads."""
    unit, *channels = cases[0].kind
    how = tuple(
        normalisation_of(quantity, np.concatenate([one.values[n] for one in cases if one.values]))
        for n, quantity in channels
    )
    names, quantities = zip(*channels, strict=True)
    return OutputHead(name, output, names, quantities, how, unit)


def _around(mask: np.ndarray) -> tuple[slice, ...]:
    """The box of a mask, half as wide again on every side."""
    found = []
    for axis in range(3):
        met = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        wide = 1 + len(met) // 2
        found.append(slice(max(0, int(met[0]) - wide), int(met[-1]) + wide + 1))
    return tuple(found)


def _kind(image: Image) -> tuple[Any, ...]:
    return image.unit, *((name, image[name].quantity) for name in image.names)


def _words(image: Image) -> str:
    return " and ".join(f"{n} in {image[n].quantity} and {image.unit}" for n in image.names)


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


class Judged(NamedTuple):
    """A contour of a patient left out. held: how many of its rays lie in intervals of LEVELS.

    seen: whether its centre lies in what was drawn, so that rays and band can be held against it.
    """

    patient: str
    contour: Contour
    seen: bool
    held: tuple[float, ...]


class LeftOut(NamedTuple):
    """The contours of a case that was left out, and of what there are none, counted."""

    contours: list[Judged]
    lost: Counter[str]


def judged(
    head: OutputHead, read: Read, patient: str, tolerance: float,
    rng: np.random.Generator | None = None,
) -> LeftOut:  # fmt: skip
    """Contours of the network's targets of a case, once for every reader, held against theirs.

    Of more than MOST_CONTOURS targets so many, drawn at random.
    """
    if not (read.log_odds > 0).any():
        return LeftOut([], Counter({NOTHING_FOUND: int(read.masks.any())}))
    try:
        seen = seen_in_output(head, read.image, read.log_odds)
    except InputError:  # nothing of it is large enough for a contour
        return LeftOut([], Counter({TOO_SMALL: 1}))
    rng, count = rng or np.random.default_rng(0), len(seen.targets)
    few = np.sort(rng.choice(count, min(MOST_CONTOURS, count), replace=False))
    targets = [seen.targets[int(n)] for n in few]
    posteriors = fit_many([seen.by_network(target) for target in targets], draws=DRAWS)
    given: dict[str, Any] = {f"tolerance_{read.image.unit}": tolerance}
    contours = [held_to_size(contour_of(posterior, **given)) for posterior in posteriors]
    sound = [bool(np.isfinite(contour.posterior.draws).all()) for contour in contours]
    found = [
        _held(seen, target, contour, patient)
        for reader in np.moveaxis(read.masks, -1, 0)
        for target, contour, good in zip(
            targets, with_references(contours, reader, read.image.primary), sound, strict=True
        )
        if good
    ]
    return LeftOut(found, Counter({FAILED: sound.count(False)}))


def _held(seen: Seen, target: Any, contour: Contour, patient: str) -> Judged:
    reference = contour.reference
    if not (isinstance(reference, Curve) and contour.chart.sees(reference)):
        return Judged(patient, contour, False, ())
    edge: Edge = edge_at(seen.field, target.plane, target.centre, target.radius)
    exits = last_exits(reference.points, target.centre, unit_vectors(equal_angles(RAYS)))
    y = np.log(np.maximum(exits, 1e-6) / target.radius)
    return Judged(patient, contour, True, tuple(float(within(edge, y, p).mean()) for p in LEVELS))


def _without(crossed: Crossed, patient: str) -> OutputHead:
    """The head that has not learned from a patient."""
    return next(head for out, head in crossed.folds if patient in out)


def _promises(
    left_out: Sequence[Judged], coverage: float, rate: float
) -> tuple[ConformalBand, GreenRule]:
    there = [one for one in left_out if one.seen]
    if not there:
        raise InputError(
            "what the network finds is nowhere what was drawn; check the label, and that each "
            "output is of its own image"
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
