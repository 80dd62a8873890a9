"""Which way to put uncertainty on a segmentation says most of a boundary? Peers on one network.

`uncertainty:nodule-ct-2d` and `uncertainty:phantom-petct-2d`. The backbone is the shipped U-Net,
frozen: all peers read its log-odds and last features. Those that learn do so on the recipe's second
part, which the contour head has learned from and the U-Net has not seen, within one budget
of steps; all are judged on the third, which none has seen. Where several readers drew, one of them
at random is learned from each time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.nets.head_training import LEAST_PIXELS
from aistat_jax.nets.recipes import RECIPES
from aistat_jax.nets.weights import load_net
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.uncertainty.overlap import dice
from aistat_jax.uncertainty.readers import ged_squared, matched_iou, pairwise_iou
from aistat_jax.uncertainty.representatives import nearest_to
from aistat_jax.uncertainty.selective import risk_coverage
from aistat_jax.uncertainty.surface_distance import surface_distances
from aistat_jax.uncertainty.voxel_scores import BINS, boundary_band, voxel_scores
from aistat_jax.views.style import save_figure
from benchmarks._table import Result, Row
from benchmarks.foreign import few
from benchmarks.patients import collections
from benchmarks.peers import DRAWS, Claim, Fitted, Method
from benchmarks.peers.cases import Case, cases_of
from benchmarks.peers.contours import ContourHeads
from benchmarks.peers.layers import Dropout, Ensemble, Stochastic
from benchmarks.peers.levels import KernelSmoothed, Probabilities
from benchmarks.peers.skewed import SkewNormal
from benchmarks.uncertainty_figure import Point, plot_peers

METHODS: tuple[Method, ...] = (
    ContourHeads(), Probabilities(), Dropout(), Ensemble(), Stochastic(), KernelSmoothed(),
    SkewNormal(),
)  # fmt: skip
HEAD, LEVELS = "contour head", "probability level sets"
PIXELS, PLAIN = "control: independent pixels", "control: plain mask"
MEDIAN = "half-width, median"
SAMPLES, RESAMPLES, TIMED = 16, 2000, 20
# Slices of a patient at random that are judged; steps in which a peer learns.
SLICES, STEPS = 4, 600
# A probability below this, or as near to 1, is held there: what DRAWS masks cannot tell.
LEAST = 0.5 / DRAWS
BAND_PX, TOLERANCE = 3.0, 2.0  # of pixels about a boundary; of surface Dice, in the image's unit
QUICK_STEPS, QUICK_PATIENTS, QUICK_TESTED = 101, 44, 10
# Whether less is better, and what is asked of the contour head on nodules.
COLUMNS = {
    "GED^2": True, "matched IoU": False, "GED^2, representatives": True,
    "matched IoU, representatives": False, "Dice": False, "surface Dice": False,
    "surface Dice of samples": False, "NLL": True, "ECE": True, "coverage": False,
    "half-width": True, MEDIAN: True, "AURC": True, "Brier, presence": True,
}  # fmt: skip
ASKED: dict[str, dict[str, float]] = {
    "GED^2": {"at_most": 0.195}, "matched IoU": {"at_least": 0.61},
    "GED^2, representatives": {"at_most": 0.175},
    "matched IoU, representatives": {"at_least": 0.63}, "Brier, presence": {"at_most": 0.18},
}  # fmt: skip
SECONDS = 0.05


class Scores(NamedTuple):
    """Of one peer, case by case. Shapes: values[column] (case,), NaN where there is none; off
    (case, bin), probability less what was drawn, summed, of `count` (case,) pixels near a boundary;
    loss and sure (case,), of the middle."""

    values: dict[str, Float[np.ndarray, " case"]]
    off: Float[np.ndarray, "case bin"]
    count: Float[np.ndarray, " case"]
    loss: Float[np.ndarray, " case"]
    sure: Float[np.ndarray, " case"]

    def at(self, chosen: np.ndarray) -> Scores:
        values = {name: each[chosen] for name, each in self.values.items()}
        return Scores(values, *(part[chosen] for part in self[1:]))


def run(quick: bool, name: str, out: Path = Path("benchmarks/results")) -> Result:
    recipe, net = RECIPES[name], load_net(name)
    from_head, unseen = (recipe.cases(collections(), part) for part in ("head", "validation"))
    learned = cases_of(net, few(from_head, 1, QUICK_PATIENTS) if quick else from_head)
    judged = cases_of(net, few(unseen, *((1, QUICK_TESTED) if quick else (SLICES, None))))
    cases, steps = (list(learned), list(judged)), QUICK_STEPS if quick else STEPS
    measured = [one for method in METHODS for one in measure(method, *cases, name, steps)]
    return result_of(measured, *cases, name, steps, out)


class Measured(NamedTuple):
    """One peer: what it is worth, and how long 100 samples take."""

    name: str
    scores: Scores
    seconds: float


def measure(
    method: Method, learned: Sequence[Case], judged: Sequence[Case], name: str, steps: int
) -> list[Measured]:
    """The peers of a method, learned on some cases and judged on those of others."""
    few_of_them = judged[:: max(1, len(judged) // TIMED)]
    fitted = method.fit(learned, replace(RECIPES[name].head, steps=steps), seed=0)
    return [
        Measured(peer.name, scores_of(peer, judged), seconds_of(peer, few_of_them))
        for peer in fitted
    ]


def result_of(
    measured: Sequence[Measured], learned: Sequence[Case], judged: Sequence[Case], name: str,
    steps: int, out: Path,
) -> Result:  # fmt: skip
    """The table of all peers, and its figure in the folder of results."""
    found = {one.name: one.scores for one in measured}
    seconds = {one.name: one.seconds for one in measured}
    several = len(judged[0].masks) > 1
    strata = {"all": np.ones(len(judged), bool)}
    if several:
        everyone = np.array([case.drew.all() for case in judged])
        strata |= {"all readers drew": everyone, "some did not": ~everyone}
    patients = [case.patient for case in judged]
    tables = {
        stratum: compared(
            {peer: scores.at(chosen) for peer, scores in found.items()},
            [who for who, there in zip(patients, chosen, strict=True) if there],
        )
        for stratum, chosen in strata.items() if chosen.any()
    }  # fmt: skip
    rows = rows_of(tables, seconds, several)
    details = [
        {"cases": stratum, "peer": peer} | {c: table[peer][c].words for c in COLUMNS}
        | ({"s for 100 samples": f"{seconds[peer]:.3f}"} if stratum == "all" else {})
        for stratum, table in tables.items() for peer in table
    ]  # fmt: skip
    head = RECIPES[name].head
    points = {
        peer: {c: Point(cell.value, cell.error) for c, cell in row.items()}
        for peer, row in tables["all"].items()
    }  # fmt: skip
    figure = plot_peers(list(points), points, HEAD, judged[0].grid.unit, (PIXELS, PLAIN))
    save_figure(figure, out / f"uncertainty-{name}.pdf")
    save_figure(figure, out / f"uncertainty-{name}.png")
    notes = notes_of(tables, learned, judged, steps, head.steps, head.batch)
    return Result(f"Uncertainty of peers on one network: {name}", rows, notes, details)


# --------------------------------------------------------------------------------- one case


def scores_of(peer: Fitted, cases: Sequence[Case]) -> Scores:
    each = [scored(peer.at(case), case, np.random.default_rng(n)) for n, case in enumerate(cases)]
    values = {name: np.array([one[0][name] for one in each]) for name in each[0][0]}
    return Scores(values, *(np.array([one[k] for one in each]) for k in range(1, 5)))


def scored(
    claim: Claim, case: Case, rng: np.random.Generator
) -> tuple[dict[str, float], np.ndarray, float, float, float]:
    """What a peer says of one case against its readers; as `Scores` holds it."""
    masks, drew, spacing = case.masks, case.drew, case.grid.spacing[:2]
    samples, many = claim.samples(rng, SAMPLES), claim.samples(rng, DRAWS)
    chosen = representatives_of(many, SAMPLES)
    drawn, few_in, sampled = in_box(masks, chosen, samples)
    middle, band, probability = claim.middle, claim.band, claim.probability
    near = partial(surface_dice, spacing=spacing)
    edges = [mask for mask in masks if mask.sum() >= LEAST_PIXELS]
    lengths = [length_of(mask, case) for mask in edges]
    voxels = [
        voxel_scores(probability, mask, boundary_band(mask, BAND_PX, (1.0, 1.0)), least=LEAST)
        for mask in masks[drew]
    ]  # fmt: skip
    pairs = [(s, m) for s, m in zip(samples, masks, strict=False) if s.any() and m.any()]
    closeness = mean_of([near(middle, mask) for mask in masks[drew]])
    values = {
        "GED^2": ged_squared(sampled, drawn),
        "matched IoU": matched_iou(sampled, drawn),
        "GED^2, representatives": ged_squared(few_in, drawn),
        "matched IoU, representatives": matched_iou(few_in, drawn),
        "Dice": mean_of([dice(middle, mask) for mask in masks[drew]]),
        "surface Dice": closeness,
        "surface Dice of samples": mean_of([near(sample, mask) for sample, mask in pairs]),
        "NLL": mean_of([voxel.nll for voxel in voxels]),
        "coverage": mean_of([float(band.holds(mask)) for mask in edges]),
        "half-width": half_width(band.outer & ~band.inner, spacing, mean_of(lengths)),
        "Brier, presence": float(np.mean((claim.presence - drew) ** 2)),
    }  # fmt: skip
    off, count = np.zeros(BINS), 0.0
    for mask in masks[drew]:
        at = boundary_band(mask, BAND_PX, (1.0, 1.0))
        p = probability[at]
        place = np.minimum((p * BINS).astype(int), BINS - 1)
        off += np.bincount(place, p - mask[at], BINS)
        count += len(p)
    sure = float(pairwise_iou(*in_box(many, middle[None])).mean())
    return values, off, count, 1 - closeness, sure


def representatives_of(
    masks: Bool[np.ndarray, "n i j"], count: int
) -> Bool[np.ndarray, "count i j"]:
    """The few that are closest to all in energy; the same rule for every peer (`nearest_to`)."""
    (inside,) = in_box(masks)
    distance = 1 - pairwise_iou(inside, inside)
    return masks[nearest_to(np.full(len(masks), 1 / len(masks)), distance, count)]


def in_box(*masks: Bool[np.ndarray, "n i j"]) -> list[Bool[np.ndarray, "n u v"]]:
    """All of them in the smallest box that holds them, outside of which none differs."""
    anywhere = np.any([each.any(axis=0) for each in masks], axis=0)
    box = tuple(
        slice(at.min(initial=anywhere.shape[n]), at.max(initial=0) + 1)
        for n, at in enumerate(np.nonzero(anywhere))
    )
    return [each[:, *box] for each in masks]


def surface_dice(a: np.ndarray, b: np.ndarray, spacing: np.ndarray) -> float:
    """Within TOLERANCE; 0 where one of them is empty."""
    if not (a.any() and b.any()):
        return 0.0
    return surface_distances(a, b, spacing).surface_dice(TOLERANCE)


def length_of(mask: np.ndarray, case: Case) -> float:
    return sum(curve.perimeter for curve in contours_from_mask(mask, case.plane))


def half_width(ring: np.ndarray, spacing: np.ndarray, length: float) -> float:
    """Of a band of masks: half of its area over the length of the boundary that was drawn."""
    return float(0.5 * ring.sum() * np.prod(spacing) / length) if length > 0 else float("nan")


def mean_of(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def seconds_of(peer: Fitted, cases: Sequence[Case]) -> float:
    """Median of drawing 100 masks of a case, from the network's maps on; the first is not timed."""
    taken = []
    for case in cases:
        start = time.perf_counter()
        peer.at(case).samples(np.random.default_rng(0), 100)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


# -------------------------------------------------------------------------------- the table


class Cell(NamedTuple):
    """A mean, its standard error, and whether the 95% interval of the paired difference from the
    contour head is without 0."""

    value: float
    error: float
    apart: bool

    @property
    def words(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}{' *' if self.apart else ''}"


def compared(found: dict[str, Scores], patients: Sequence[str]) -> dict[str, dict[str, Cell]]:
    """Every column of every peer; patients are resampled, the same ones for all."""
    names, whose = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    weights = np.vstack([np.ones(len(names), int), drawn])
    measured = {peer: columns_of(scores, whose, weights) for peer, scores in found.items()}
    table: dict[str, dict[str, Cell]] = {}
    for peer, columns in measured.items():
        table[peer] = {}
        for name, values in columns.items():
            low, high = np.nanquantile(values[1:] - measured[HEAD][name][1:], [0.025, 0.975])
            apart = bool(low > 0 or high < 0)
            table[peer][name] = Cell(float(values[0]), float(np.nanstd(values[1:])), apart)
    return table


def columns_of(
    scores: Scores, whose: np.ndarray, weights: np.ndarray
) -> dict[str, Float[np.ndarray, " resample"]]:
    """Every column under weights (resample, patient) of patients, each with all of its cases."""
    found, count = {}, weights.shape[1]
    for name, values in scores.values.items():
        there = ~np.isnan(values)
        sums = np.bincount(whose[there], values[there], count)
        with np.errstate(invalid="ignore"):
            found[name] = (weights @ sums) / (weights @ np.bincount(whose[there], minlength=count))
    off = np.stack([np.bincount(whose, column, count) for column in scores.off.T], axis=1)
    pixels = np.bincount(whose, scores.count, count)
    found["ECE"] = np.abs(weights @ off).sum(axis=1) / (weights @ pixels)
    repeated = [times[whose] for times in weights]
    found[MEDIAN] = np.array(
        [np.nanmedian(np.repeat(scores.values["half-width"], times)) for times in repeated]
    )
    found["AURC"] = np.array(
        [
            risk_coverage(np.repeat(scores.loss, times), np.repeat(scores.sure, times)).aurc
            for times in repeated
        ]
    )
    return found


def rows_of(
    tables: dict[str, dict[str, dict[str, Cell]]], seconds: dict[str, float], several: bool
) -> list[Row]:
    """What is asked of the contour head, with its strata; and controls, which must fail."""
    whole, rows = tables["all"], []
    for name in COLUMNS:
        for stratum, table in tables.items():
            if stratum != "all" and name not in ASKED:
                continue
            where = "" if stratum == "all" else f", {stratum}"
            cell = table[HEAD][name]
            asked: dict[str, Any] = ASKED.get(name, {}) if several and not where else {}
            rows.append(
                Row(f"{HEAD}: {name}{where}", cell.value, note=f"± {cell.error:.3f}", **asked)
            )
    rows.append(Row(f"{HEAD}: 100 samples", seconds[HEAD], "s", at_most=SECONDS))
    control, sets = whole[PIXELS], whole[LEVELS]
    rows += [
        Row(f"{PIXELS}: half-width, median (must be wider than the contour head's)",
            control[MEDIAN].value, at_least=whole[HEAD][MEDIAN].value),
        Row(f"{PIXELS}: surface Dice of samples (must be worse than of level sets of the same map)",
            control["surface Dice of samples"].value,
            at_most=sets["surface Dice of samples"].value),
        Row(f"{PIXELS}: GED^2{' (must be worse than theirs)' if several else ''}",
            control["GED^2"].value, note=f"theirs is {sets['GED^2'].words}",
            at_least=sets["GED^2"].value if several else None),
        Row(f"{PLAIN}: coverage (must be nil)", whole[PLAIN]["coverage"].value, at_most=0.02),
    ]  # fmt: skip
    return rows


def notes_of(
    tables: dict[str, dict[str, dict[str, Cell]]],
    learned: Sequence[Case], judged: Sequence[Case], steps: int, own: int, batch: int,
) -> list[str]:  # fmt: skip
    count = [len({case.patient for case in part}) for part in (learned, judged)]
    unit = judged[0].grid.unit
    notes = [
        f"Learned from {len(learned)} slices of {count[0]} patients, judged on {len(judged)} of "
        f"{count[1]} others; neither part was seen by the U-Net, whose maps are frozen. Peers that "
        f"learn have {steps} steps of {batch} slices; the contour head, as shipped, has had "
        f"{own}, and its margin heads beside it.",
        f"Means over cases ± standard errors by bootstrap over patients ({RESAMPLES}). A star: the "
        f"95% interval of the paired difference from the contour head is without 0. Every peer has "
        f"learned once (seed 0): how far two trainings differ is not in the errors.",
        f"Of {SAMPLES} samples; representatives are the {SAMPLES} of {DRAWS} samples that are "
        "closest to all in energy, by one rule for all peers. Dice and surface Dice "
        f"({TOLERANCE:g} {unit}) are of the middle: what is likelier inside than not if there is "
        "anything; against readers who drew. NLL and ECE (15 bins, pooled) are of pixels within "
        f"{BAND_PX:g} px of one on the other side. Coverage: the whole mask of a reader, of "
        f"{LEAST_PIXELS} pixels or more, lies between the two masks of a 95% band, as drawn; "
        f"half-width ({unit}): half of the area between these over the length of what was drawn. "
        "AURC: of 1 - surface Dice, by the mean IoU of samples and middle.",
    ]
    for name, less in COLUMNS.items():
        notes += lead_note(name, less, tables["all"])
    return notes


def lead_note(name: str, less: bool, table: dict[str, dict[str, Cell]]) -> list[str]:
    """Who is ahead of the contour head in a column as it is printed, controls aside, if anybody.

    A band is no better for being narrower, nor for holding more, alone.
    """
    if name in ("coverage", "half-width", MEDIAN):
        return []
    sign = 1 if less else -1
    mine = table[HEAD][name]
    ahead = sorted(
        (sign * cells[name].value, peer) for peer, cells in table.items()
        if sign * round(cells[name].value, 3) < sign * round(mine.value, 3)
        and peer not in (PIXELS, PLAIN)
    )  # fmt: skip
    if not ahead:
        return []
    words = ", ".join(f"{peer} {table[peer][name].words}" for _, peer in ahead)
    return [f"{name}: the contour head ({mine.value:.3f} ± {mine.error:.3f}) is behind {words}."]
