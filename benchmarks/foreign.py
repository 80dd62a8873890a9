"""Are contours of a network that is known by its probabilities alone as honest as it takes?

The U-Nets of nodule-ct-2d stand in for a foreign network: what is used of them is a probability map
a slice. It is calibrated on the patients that its own contour head learned from, and held against
the four readers of patients that no part has seen, beside that head, which reads features too, and
beside the probabilities as they come and by temperature scaling (Guo et al. 2017). Then what fewer
patients buy, over calibrations by some drawn at random; and, over random splits of the patients,
how often bands whose factor comes of 20 or 30 hold the boundaries of the others. Asked is no more
than docs/mathematics.md claims: that intervals and bands of 95% hold so much or more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from aistat_jax._record import replace as recorded
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.networks import network_prior
from aistat_jax.boundary.targets import Target
from aistat_jax.calibrating import LEVELS, SHOWN, LabelledOutput, calibrate
from aistat_jax.inference.batch import fit_many
from aistat_jax.nets.edge_law import RAYS, within
from aistat_jax.nets.edges import FeatureField, edge_at, feature_field, output_field, unroll
from aistat_jax.nets.head_training import Unrolled, slices_in
from aistat_jax.nets.output_head import OutputHead
from aistat_jax.nets.ray_head import ray_signs
from aistat_jax.nets.ray_learning import crossed_heads, law_of
from aistat_jax.nets.recipes import RECIPES, Drawn
from aistat_jax.nets.weights import load_net
from aistat_jax.space.basis import circle_basis, equal_angles
from aistat_jax.space.curve import contours_from_mask, last_exits
from aistat_jax.space.star import unit_vectors
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.conformal import BandScores, ConformalBand, conformal_band
from aistat_jax.uncertainty.scores import bootstrap_mean
from benchmarks._table import Result, Row
from benchmarks.patients import collections
from benchmarks.shipped import target_of

NAME = "nodule-ct-2d"
SLACK = 0.03
# Slices of a patient, spread evenly.
SLICES, QUICK_SLICES = 6, 2
# Calibrations by so many patients, and how many of each; splits, and patients to calibrate on.
NUMBERS, REPLICATES, QUICK_REPLICATES = (10, 20, 30, 50), 6, 2
SPLITS, SPLIT_PATIENTS, COVERAGES = 200, (20, 30), (0.9, 0.95)
HARMONICS = 16


class Told(NamedTuple):
    """A slice with what both heads read of it, and where its target is."""

    case: Drawn
    shipped: FeatureField
    foreign: FeatureField
    target: Target


def run(quick: bool) -> Result:
    slices = QUICK_SLICES if quick else SLICES
    cases = {
        part: few(list(RECIPES[NAME].cases(collections(), part)), slices)
        for part in ("head", "validation")
    }
    fields = {part: [read(case) for case in found] for part, found in cases.items()}
    calibration = calibrate(
        [
            LabelledOutput(
                f"{case.patient}-{n}", case.image, expit(odds_of(field).astype(float)),
                case.masks.astype(int), case.patient,
            )
            for n, (case, field) in enumerate(zip(cases["head"], fields["head"], strict=True))
        ],
        name=NAME,
    )  # fmt: skip
    told = [
        Told(
            case,
            field,
            output_field(calibration.head, case.image, odds_of(field)),
            target_of(field, case),
        )
        for case, field in zip(cases["validation"], fields["validation"], strict=True)
    ]
    temperature = temperature_of(cases["head"], fields["head"])
    readers = [edges_of(each) for each in told]
    rows, scores = head_rows("calibrated on probabilities", told, readers, calibration.band)
    rows += head_rows("shipped head", told, readers, None)[0]
    rows += own_rows("probabilities as they come", told, readers, 1.0)
    rows += own_rows(f"temperature {temperature:.2f}", told, readers, temperature)
    ours, theirs = (row.measured for row in rows if "half-width of its own" in row.figure)
    rows.append(Row("half-width of the own bands: calibrated over shipped", ours / theirs))
    fields_of = zip(cases["head"], fields["head"], strict=True)
    targets = targets_of(calibration.head, fields_of)
    replicates = QUICK_REPLICATES if quick else REPLICATES
    rows += number_rows(calibration.head, targets, told, readers, replicates)
    rows += split_rows(scores)
    patients = {part: len({case.patient for case in found}) for part, found in cases.items()}
    notes = [
        f"Calibrated on {len(cases['head'])} slices of {patients['head']} patients, tested on "
        f"{len(told)} of {patients['validation']} others; 95% intervals by bootstrap over "
        "patients.",
        f"On patients left out, the calibration's card says: {calibration.card['measured']}.",
    ]
    return Result("A network that is known by its probabilities alone", rows, notes)


def few(cases: list[Drawn], count: int) -> list[Drawn]:
    """Some slices of every patient."""
    by_patient: dict[str, list[Drawn]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    return [c for v in by_patient.values() for c in v[:: max(1, len(v) // count)][:count]]


def read(case: Drawn) -> FeatureField:
    return feature_field(load_net(NAME), case.image)


def odds_of(field: FeatureField) -> np.ndarray:
    """All that is used of the foreign network."""
    return field.values[..., -1]


def temperature_of(cases: list[Drawn], fields: list[FeatureField]) -> float:
    """That of the likeliest voxels of the calibration's patients, each as its readers say."""
    odds = np.stack([odds_of(field) for field in fields]).astype(float)
    share = np.stack([case.masks.mean(axis=-1) for case in cases])

    def loss(log_t: float) -> float:
        scaled = odds / np.exp(log_t)
        return float(np.mean(np.logaddexp(0.0, scaled) - share * scaled))

    found: Any = minimize_scalar(loss, bounds=(-2, 4), method="bounded")
    return float(np.exp(found.x))


def edges_of(told: Told) -> list[np.ndarray]:
    """Radii (ray,) of every reader's edge that the target's centre lies inside of."""
    found = []
    for mask in np.moveaxis(told.case.masks[:, :, 0], -1, 0):
        curves = contours_from_mask(mask, told.target.plane) if mask.sum() >= 6 else []
        if curves:
            outline = max(curves, key=lambda c: c.area).points
            directions = unit_vectors(equal_angles(RAYS))
            exits = last_exits(outline, told.target.centre, directions)
            found += [exits] if (exits > 0).all() else []
    return found


def head_rows(
    who: str, told: list[Told], readers: list[list[np.ndarray]], promised: ConformalBand | None
) -> tuple[list[Row], BandScores]:
    """Of the shipped head, or with `promised` of the calibrated one: rays, and both kinds of band.

    A posterior's own band is of the harmonics it has, so that readers' edges are taken as far as
    these; the calibrated one is held against them as they were drawn. Beside the rows, by how much
    its own band would have to be widened for each reader's boundary as drawn.
    """
    held: dict[float, list[tuple[str, float]]] = {level: [] for level in LEVELS}
    own, drawn, widths, factors = [], [], [], []
    seen = [each.shipped if promised is None else each.foreign for each in told]
    models = [
        boundary_model(each.target, prior=network_prior(field.net, field, each.target), rays=RAYS)
        for field, each in zip(seen, told, strict=True)
    ]
    posteriors = fit_many(models, draws=500)
    circle = np.asarray(circle_basis(equal_angles(RAYS), HARMONICS).functions)
    for field, each, edges, posterior in zip(seen, told, readers, posteriors, strict=True):
        target, patient = each.target, each.case.patient
        edge = edge_at(field, target.plane, target.centre, target.radius)
        bands = [simultaneous_band(posterior, 0.95)]
        bands += [] if promised is None else [promised.band(posterior)]
        widths.append([float(np.median(band.half_width)) / target.radius for band in bands])
        for exits in edges:
            y = np.log(exits / target.radius)
            for level in LEVELS:
                held[level].append((patient, float(within(edge, y, level).mean())))
            smooth = np.exp(circle @ (circle.T @ np.log(exits) / RAYS))
            own.append((patient, float(bands[0].contains(smooth))))
            drawn.append((patient, float(bands[-1].contains(exits))))
            low, middle, high = (
                np.asarray(getattr(bands[0], e)) for e in ("lower", "centre", "upper")
            )
            room = np.where(exits > middle, high - middle, middle - low)
            factors.append(float(np.max(np.abs(exits - middle) / room)))
    rows = ray_rows(who, held, asked=promised is not None)
    rows.append(share_row(f"{who}: its own 95% band holds a reader's boundary", own))
    if promised is not None:
        figure = f"{who}: calibrated 95% band holds a reader's boundary as drawn"
        rows.append(share_row(figure, drawn, at_least=0.95 - SLACK))
    wide = np.median(widths, axis=0)
    rows.append(Row(f"{who}: half-width of its own band over the rough radius", float(wide[0])))
    if promised is not None:
        figure = f"{who}: half-width of the calibrated band over the rough radius"
        rows.append(Row(figure, float(wide[1]), note=f"{promised.margin:.2f} of its own"))
    scores = BandScores(np.array(factors), tuple(name for name, _ in drawn), 0.95, "band", "px")
    return rows, scores


def targets_of(
    head: OutputHead, cases: Iterable[tuple[Drawn, FeatureField]]
) -> dict[str, list[Unrolled]]:
    """What a head learns from, by patient."""
    found: dict[str, list[Unrolled]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for case, field in cases:
        seen, grid = output_field(head, case.image, odds_of(field)), case.image.primary.grid
        found[case.patient] += slices_in(seen, case.masks, grid, rng, SHOWN)
    return dict(found)


def number_rows(
    head: OutputHead,
    targets: dict[str, list[Unrolled]],
    told: list[Told],
    readers: list[list[np.ndarray]],
    replicates: int,
) -> list[Row]:
    """Rays of those who are tested, after calibrations by some of the patients at random."""
    looks = [
        unroll(each.foreign, each.target.plane, each.target.centre, each.target.radius)
        for each in told
    ]
    x, log_radius = (np.stack(part).astype(np.float32) for part in zip(*looks, strict=True))
    signs = ray_signs(x, log_radius)
    which = np.repeat(np.arange(len(told)), [len(edges) for edges in readers])
    y = np.log([
        exits / each.target.radius
        for each, edges in zip(told, readers, strict=True) for exits in edges
    ])  # fmt: skip
    rows = []
    for number in (n for n in NUMBERS if n <= len(targets)):
        shares = []
        for replicate in range(replicates):
            rng = np.random.default_rng([number, replicate])
            some = rng.permutation(sorted(targets))[:number]
            one = crossed_heads(head, {name: targets[name] for name in some}, seed=replicate).head
            edge = law_of(one, signs).at(which)
            held = [within(edge, y, level).mean(axis=-1) for level in LEVELS]
            whose = [told[n].case.patient for n in which]
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


def by_patient(values: np.ndarray, patients: list[str]) -> float:
    """The mean over patients of each one's mean."""
    _, whose = np.unique(patients, return_inverse=True)
    return float(np.mean(np.bincount(whose, values) / np.bincount(whose)))


def split_rows(scores: BandScores) -> list[Row]:
    """How many boundaries of patients left out bands hold, with factors of others at random."""
    names, whose = np.unique(scores.patients, return_inverse=True)
    rows = []
    for count in (n for n in SPLIT_PATIENTS if n < len(names)):
        for coverage in COVERAGES:
            held, plain = [], []
            for split in range(SPLITS):
                rng = np.random.default_rng([count, split])
                chosen = np.isin(whose, rng.permutation(len(names))[:count])
                some = recorded(
                    scores, scores=scores.scores[chosen],
                    patients=tuple(np.asarray(scores.patients)[chosen]),
                )  # fmt: skip
                factor = conformal_band(some, coverage=coverage, per="lesion").margin
                rest = list(np.asarray(scores.patients)[~chosen])
                for found, at in ((held, factor), (plain, 1.0)):
                    found.append(by_patient(scores.scores[~chosen] <= at, rest))
            error = np.std(held, ddof=1) / np.sqrt(SPLITS)
            figure = f"{SPLITS} splits, {count} patients to calibrate on, {coverage:.0%} asked for"
            rows.append(Row(
                f"{figure}: boundaries of the others held", float(np.mean(held)),
                at_least=coverage - 2 * float(error), note=f"Monte-Carlo error {error:.3f}",
            ))  # fmt: skip
            rows.append(Row(f"{figure}: held by bands as they come", float(np.mean(plain))))
    return rows


def share_row(figure: str, found: list[tuple[str, float]], **asked: Any) -> Row:
    mean = bootstrap_mean([value for _, value in found], [name for name, _ in found])
    note = f"95% interval {mean.low:.3f} to {mean.high:.3f}, {len(found)} contours"
    return Row(figure, mean.value, note=note, **asked)


def own_rows(
    who: str, told: list[Told], readers: list[list[np.ndarray]], temperature: float
) -> list[Row]:
    """A probability along a ray as that of the edge lying further out: its central intervals."""
    held: dict[float, list[tuple[str, float]]] = {level: [] for level in LEVELS}
    whole: list[tuple[str, float]] = []
    for each, edges in zip(told, readers, strict=True):
        chart = each.target.chart(4 * each.target.radius, RAYS)
        plane = each.target.plane
        odds = recorded(each.case.image.primary, values=odds_of(each.shipped).astype(float))
        for exits in edges:
            p = expit(odds.slice_at(plane).at(chart.points(exits)) / temperature)
            off = np.abs(np.nan_to_num(p, nan=0.0) - 0.5)
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
    return [
        share_row(
            f"{who}: rays within their {level:.0%} interval", found,
            **({"at_least": level - SLACK} if asked and level == max(LEVELS) else {}),
        )
        for level, found in held.items()
    ]  # fmt: skip
