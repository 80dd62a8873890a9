"""Are contours of a network that is known by its probabilities alone as honest as it takes?

`foreign:monai` trains a BasicUNet of MONAI on lung nodules; `foreign:nodule-ct-2d` and
`foreign:phantom-petct-2d` take the shipped U-Nets for one. What is used of a network is a
probability map a slice. It is calibrated on the patients that the shipped contour head learned
from, and held against what was drawn of patients that no part has seen, from targets that it finds
itself; beside it that head, which reads features too, and the probabilities as they come and by
temperature scaling (Guo et al. 2017). Then what fewer patients buy, over calibrations by some drawn
at random; and, over random splits of the patients by 20 or 30, the risk of bands and of a rule for
green that were calibrated on these, in the others, with its negative control: a rule without the
patient to come. Contours that count as if each were a patient's are reported beside; with one slice
a patient they differ by readers alone, and nothing is asked of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from aistat_jax._record import replace as recorded
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.networks import network_prior
from aistat_jax.boundary.targets import Target
from aistat_jax.calibrating import calibrate
from aistat_jax.inference.batch import fit_many
from aistat_jax.left_out import LEVELS, found_in, log_exits, targets_found
from aistat_jax.nets.edge_law import RAYS, within
from aistat_jax.nets.edges import FeatureField, edge_at, feature_field, unroll
from aistat_jax.nets.head_training import Unrolled
from aistat_jax.nets.output_head import OutputHead
from aistat_jax.nets.ray_head import ray_signs
from aistat_jax.nets.ray_learning import crossed_heads, law_of
from aistat_jax.nets.recipes import RECIPES, Drawn
from aistat_jax.nets.weights import load_net
from aistat_jax.space.basis import circle_basis, equal_angles
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.conformal import BandScores, ConformalBand, conformal_band
from aistat_jax.uncertainty.grading import CASE_CUTS, expected_surface_dice
from aistat_jax.uncertainty.risk_control import GreenCases
from aistat_jax.uncertainty.scores import bootstrap_mean
from aistat_jax.uncertainty.surface_distance import surface_distances
from aistat_jax.uncertainty.tolerance import RADIUS_SHARE
from aistat_jax.validation_set import LabelledOutput, Read, read_case
from benchmarks import monai_net
from benchmarks._table import Result, Row
from benchmarks.foreign_splits import band_split_rows, by_patient, green_split_rows
from benchmarks.patients import collections, more_nodules
from benchmarks.shipped import target_of

MONAI, NODULES = "monai", "nodule-ct-2d"
SLACK, BAND = 0.03, (0.93, 0.97)
# Slices of a patient at random; patients to calibrate on, and to test on.
SLICES = 1
CALIBRATED, TESTED, QUICK_TESTED = 80, 160, 40
# Calibrations by so many patients, and how many of each, none of a single one.
NUMBERS, REPLICATES, QUICK_REPLICATES = (10, 20, 30, 50), 3, 2
HARMONICS = 16
Says = Callable[[Drawn], np.ndarray]
Edges = dict[tuple[int, int], np.ndarray]


class Told(NamedTuple):
    """A target that the network finds in a slice, and the shipped head's own there.

    drawn: what each reader drew in the slice.
    """

    case: Drawn
    odds: np.ndarray
    field: FeatureField
    target: Target
    shipped: FeatureField
    own: Target
    drawn: list[list[Curve]]


def run(quick: bool, which: str, replicates: int = REPLICATES) -> Result:
    name = NODULES if which == MONAI else which
    learned_from = RECIPES[name].cases(collections(), "head")
    parts = {
        "head": few(learned_from, SLICES, CALIBRATED),
        "validation": few(unseen(name), SLICES, QUICK_TESTED if quick else TESTED),
    }
    says = monai_says(quick) if which == MONAI else shipped_says(name)
    labelled = {
        part: [
            LabelledOutput(f"{c.patient}-{n}", c.image, says(c), c.masks.astype(int), c.patient)
            for n, c in enumerate(cases)
        ]
        for part, cases in parts.items()
    }  # fmt: skip
    calibration = calibrate(labelled["head"], name=which)
    reads = {
        part: [read_case(case, "probability", 1) for case in cs] for part, cs in labelled.items()
    }
    told, missed = looked_at(calibration.head, parts["validation"], reads["validation"], name)
    temperature = temperature_of(
        np.stack([read.log_odds for read in reads["head"]]),
        np.stack([read.masks.mean(axis=-1) for read in reads["head"]]),
    )
    whose = [each.case.patient for each in told]
    edges = {part: edges_of(told, part) for part in ("target", "own")}
    models = {part: models_of(told, part) for part in edges}
    posteriors = {part: fit_many(models[part], draws=500) for part in edges}
    who = "calibrated on probabilities"
    rows, widths, scores = head_rows(
        who, told, "target", edges["target"], posteriors["target"], calibration.band
    )
    rows.append(
        Row(f"{who}: readers' contours that its targets miss, of all that were drawn", missed)
    )
    more, shipped, shipped_scores = head_rows(
        "shipped head", told, "own", edges["own"], posteriors["own"], None
    )
    rows += more
    both = sorted(widths.keys() & shipped.keys())
    ours, theirs = (np.array([found[at] for at in both]) for found in (widths, shipped))
    needed = [
        conformal_band(each, coverage=0.95, per="lesion").margin
        for each in (scores, shipped_scores)
    ]
    note = f"medians over {len(both)} contours that both see"
    over = "half-width over that of the shipped head"
    rows += [
        Row(f"{over}: calibrated band", ratio(ours[:, 0], theirs[:, 1]), at_most=1.0, note=note),
        Row(f"{over}: both heads' own bands", ratio(ours[:, 1], theirs[:, 1]), note=note),
        Row(
            f"{over}: both widened to hold 95% of the patients tested on",
            ratio(needed[0] * ours[:, 1], needed[1] * theirs[:, 1]),
            note=f"{note}; to {needed[0]:.2f} and {needed[1]:.2f} of their own",
        ),
    ]
    rows += own_rows("probabilities as they come", told, edges["target"], 1.0)
    rows += own_rows(f"temperature {temperature:.2f}", told, edges["target"], temperature)
    targets: dict[str, list[Unrolled]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for case, read in zip(parts["head"], reads["head"], strict=True):
        targets[case.patient] += targets_found(calibration.head, read, rng)
    replicates = QUICK_REPLICATES if quick else replicates
    rows += band_split_rows(scores)
    rows += green_split_rows(greens_of(told, edges["target"], posteriors["target"]))
    if replicates > 1:
        rows += number_rows(calibration.head, dict(targets), told, edges["target"], replicates)
    count = {part: len({case.patient for case in found}) for part, found in parts.items()}
    notes = [
        f"Calibrated on {len(parts['head'])} slices of {count['head']} patients, tested on "
        f"{len(told)} targets of {len(set(whose))} others, of {len(parts['validation'])} slices of "
        f"{count['validation']}; 95% intervals by bootstrap over patients.",
        f"On patients left out, the calibration's card says: {calibration.card['measured']}.",
    ]
    return Result(f"A network that is known by its probabilities alone: {which}", rows, notes)


def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.median(ours) / np.median(theirs))


def unseen(name: str) -> Iterable[Drawn]:
    """Slices of patients from whom no part of a shipped network has learned."""
    yield from RECIPES[name].cases(collections(), "validation")
    if name == NODULES:
        yield from more_nodules()


def few(cases: Iterable[Drawn], count: int, patients: int | None) -> list[Drawn]:
    """Slices at random, so many of each patient at most, of all or the first so many patients.

    All slices of a patient follow each other.
    """
    rng, found = np.random.default_rng(0), []
    for _, of_it in islice(groupby(cases, lambda case: case.patient), patients):
        slices = list(of_it)
        chosen = rng.permutation(len(slices))[:count]
        found += [slices[n] for n in np.sort(chosen)]
    return found


def shipped_says(name: str) -> Says:
    """The probabilities of a shipped network's U-Nets, of which nothing else is used."""
    net = load_net(name)
    return lambda case: expit(feature_field(net, case.image).values[..., -1].astype(float))


def monai_says(quick: bool) -> Says:
    steps = monai_net.QUICK_STEPS if quick else monai_net.STEPS
    net = monai_net.trained(list(RECIPES[NODULES].cases(collections(), "unet")), steps)
    return lambda case: monai_net.probability(net, case)


def looked_at(
    head: OutputHead, cases: Sequence[Drawn], reads: Sequence[Read], name: str
) -> tuple[list[Told], float]:
    """All targets whose centre lies in what a reader drew, and the share of contours without."""
    net, found, there, missed = load_net(name), [], [], []
    for case, read in zip(cases, reads, strict=True):
        seen, plane = found_in(head, read), case.image.primary.grid.plane(0)
        drawn = [
            contours_from_mask(mask, plane) for mask in np.moveaxis(case.masks[:, :, 0], -1, 0)
        ]
        shipped = feature_field(net, case.image)
        own, met = target_of(shipped, case), np.zeros(len(drawn), bool)
        for target in () if seen is None else seen.targets:
            in_it = np.array([log_exits(curves, target) is not None for curves in drawn])
            met |= in_it
            if seen is not None and in_it.any():
                found.append(Told(case, read.log_odds, seen.field, target, shipped, own, drawn))
        drew = np.array([len(curves) > 0 for curves in drawn])
        there += [case.patient] * int(drew.sum())
        missed += (~met[drew]).tolist()
    return found, by_patient(np.array(missed, float), there)


def edges_of(told: Sequence[Told], which: str) -> Edges:
    """Log radii (ray,) of every reader's edge around a target, by target and reader.

    The shipped head's own target of a slice counts once, with the first that the network finds.
    """
    found: Edges = {}
    for n, each in enumerate(told):
        if which == "own" and n > 0 and each.own is told[n - 1].own:
            continue
        for reader, curves in enumerate(each.drawn):
            y = log_exits(curves, getattr(each, which))
            if y is not None:
                found[n, reader] = y
    return found


def field_of(each: Told, which: str) -> FeatureField:
    return each.field if which == "target" else each.shipped


def models_of(told: Sequence[Told], which: str) -> list[Any]:
    found = []
    for each in told:
        field, target = field_of(each, which), getattr(each, which)
        found.append(
            boundary_model(target, prior=network_prior(field.net, field, target), rays=RAYS)
        )
    return found


def head_rows(
    who: str, told: Sequence[Told], which: str, edges: Edges, posteriors: Sequence[Any],
    promised: ConformalBand | None,
) -> tuple[list[Row], dict[tuple[int, int], tuple[float, float]], BandScores]:  # fmt: skip
    """Of the shipped head, or with `promised` of the calibrated one: rays, and both kinds of band.

    A posterior's own band is of the harmonics it has, so that readers' edges are taken as far as
    these; the calibrated one is held against them as they were drawn. Beside the rows, the
    half-widths of both on every contour, and by how much its own band would have to be widened
    for each reader's boundary as drawn.
    """
    held: dict[float, list[tuple[str, float]]] = {level: [] for level in LEVELS}
    own, drawn, factors, names = [], [], [], []
    widths: dict[tuple[int, int], tuple[float, float]] = {}
    circle = np.asarray(circle_basis(equal_angles(RAYS), HARMONICS).functions)
    laws = [
        edge_at(field_of(each, which), (t := getattr(each, which)).plane, t.centre, t.radius)
        for each in told
    ]
    bands = [simultaneous_band(posterior, 0.95) for posterior in posteriors]
    wider = bands if promised is None else [promised.band(posterior) for posterior in posteriors]
    for (n, reader), y in edges.items():
        target, patient, band = getattr(told[n], which), told[n].case.patient, bands[n]
        for level in LEVELS:
            held[level].append((patient, float(within(laws[n], y, level).mean())))
        exits, smooth = (
            target.radius * np.exp(y),
            target.radius * np.exp(circle @ (circle.T @ y) / RAYS),
        )
        own.append((patient, float(band.contains(smooth))))
        drawn.append((patient, float(wider[n].contains(exits))))
        widths[n, reader] = (
            float(np.median(wider[n].half_width)), float(np.median(band.half_width))
        )  # fmt: skip
        low, middle, high = (np.asarray(getattr(band, e)) for e in ("lower", "centre", "upper"))
        room = np.where(exits > middle, high - middle, middle - low)
        factors.append(float(np.max(np.abs(exits - middle) / room)))
        names.append(patient)
    rows = ray_rows(who, held, asked=promised is not None)
    rows.append(share_row(f"{who}: its own 95% band holds a reader's boundary", own))
    if promised is not None:
        figure = f"{who}: calibrated 95% band holds a reader's boundary as drawn"
        rows.append(share_row(figure, drawn, at_least=BAND[0], at_most=BAND[1]))
    for kind, n in (("calibrated", 0), ("own", 1))[promised is None :]:
        radii = [getattr(told[at[0]], which).radius for at in widths]
        wide = float(
            np.median([found[n] / r for found, r in zip(widths.values(), radii, strict=True)])
        )
        note = f"{promised.margin:.2f} of its own" if promised and n == 0 else ""
        rows.append(
            Row(f"{who}: half-width of the {kind} band over the rough radius", wide, note=note)
        )
    return rows, widths, BandScores(np.array(factors), tuple(names), 0.95, "band", "px")


def number_rows(
    head: OutputHead,
    targets: dict[str, list[Unrolled]],
    told: Sequence[Told],
    edges: Edges,
    replicates: int,
) -> list[Row]:
    """Rays of those who are tested, after calibrations by some of the patients at random.

    Their targets are those that the calibration by all patients finds.
    """
    looks = [unroll(t.field, t.target.plane, t.target.centre, t.target.radius) for t in told]
    x, log_radius = (np.stack(part).astype(np.float32) for part in zip(*looks, strict=True))
    signs = ray_signs(x, log_radius)
    which, y = np.array([n for n, _ in edges]), np.stack(list(edges.values()))
    whose = [told[n].case.patient for n in which]
    names = sorted(name for name, found in targets.items() if any(np.any(t.drew) for t in found))
    rows = []
    for number in (n for n in NUMBERS if n <= len(names)):
        shares = []
        for replicate in range(replicates):
            some = np.random.default_rng([number, replicate]).permutation(names)[:number]
            one = crossed_heads(head, {name: targets[name] for name in some}, seed=replicate).head
            edge = law_of(one, signs).at(which)
            held = [within(edge, y, level).mean(axis=-1) for level in LEVELS]
            shares.append([by_patient(share, whose) for share in held])
        rows += [
            Row(
                f"calibrated on {number} patients: rays within their {level:.0%} interval",
                float(mean), note=f"mean of {replicates} calibrations, sd {sd:.3f}",
            )
            for level, mean, sd in zip(
                LEVELS, np.mean(shares, axis=0), np.std(shares, axis=0, ddof=1), strict=True
            )
        ]  # fmt: skip
    return rows


def greens_of(told: Sequence[Told], edges: Edges, posteriors: Sequence[Any]) -> GreenCases:
    """How sure every contour is, and whether it is off, by a quarter of the median radius."""
    tolerance = RADIUS_SHARE * float(np.median([each.target.radius for each in told]))
    sure = [expected_surface_dice(posterior, tolerance) for posterior in posteriors]
    wrong = []
    for n, reader in edges:
        drawn = next(c for c in told[n].drawn[reader] if log_exits([c], told[n].target) is not None)
        estimate = posteriors[n].chart.surface(posteriors[n].estimate)
        wrong.append(surface_distances(estimate, drawn).surface_dice(tolerance) < CASE_CUTS[1])
    whose = tuple(told[n].case.patient for n, _ in edges)
    return GreenCases(np.array([sure[n] for n, _ in edges]), np.array(wrong), whose)


# ------------------------------------------------------------------- the network's own word


def temperature_of(odds: np.ndarray, share: np.ndarray) -> float:
    """That under which voxels are likeliest, each as this share of its readers says."""
    odds = odds.astype(float)

    def loss(log_t: float) -> float:
        scaled = odds / np.exp(log_t)
        return float(np.mean(np.logaddexp(0.0, scaled) - share * scaled))

    found: Any = minimize_scalar(loss, bounds=(-2, 4), method="bounded")
    return float(np.exp(found.x))


def own_rows(who: str, told: Sequence[Told], edges: Edges, temperature: float) -> list[Row]:
    """A probability along a ray as that of the edge lying further out: its central intervals."""
    held: dict[float, list[tuple[str, float]]] = {level: [] for level in LEVELS}
    whole: list[tuple[str, float]] = []
    for (n, _), y in edges.items():
        each = told[n]
        chart = each.target.chart(4 * each.target.radius, RAYS)
        odds = recorded(each.case.image.primary, values=each.odds.astype(float))
        there = odds.slice_at(each.target.plane).at(chart.points(each.target.radius * np.exp(y)))
        off = np.abs(np.nan_to_num(expit(there / temperature), nan=0.0) - 0.5)
        for level in LEVELS:
            held[level].append((each.case.patient, float((off <= level / 2).mean())))
        whole.append((each.case.patient, float((off <= LEVELS[-1] / 2).all())))
    rows = ray_rows(who, held, asked=False)
    worst = max(abs(row.measured - level) for row, level in zip(rows, LEVELS, strict=True))
    return [
        *rows,
        share_row(f"{who}: 95% intervals hold a reader's whole boundary", whole),
        Row(f"{who}: furthest from nominal on rays (the test must fail)", worst, at_least=SLACK),
    ]


def ray_rows(who: str, held: dict[float, list[tuple[str, float]]], asked: bool) -> list[Row]:
    """Coverage of the intervals on single rays, which is to be within 3 points of nominal."""
    return [
        share_row(
            f"{who}: rays within their {level:.0%} interval", found,
            **({"at_least": level - SLACK, "at_most": level + SLACK} if asked else {}),
        )
        for level, found in held.items()
    ]  # fmt: skip


def share_row(figure: str, found: list[tuple[str, float]], **asked: Any) -> Row:
    mean = bootstrap_mean([value for _, value in found], [name for name, _ in found])
    note = f"95% interval {mean.low:.3f} to {mean.high:.3f}, {len(found)} contours"
    return Row(figure, mean.value, note=note, **asked)
