"""How good are label maps? Scores of every case and label, and means with intervals over cases.

One rule for labels that are not there: where neither map holds a label there is nothing to
score, and the case stays out of that label's means (`absent`). Where only one of them holds it,
Dice and surface Dice are 0 and there are no distances, so those means are over fewer cases
(`missed` when the reference holds it, `invented` when the prediction does).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Int
from aistat_jax.uncertainty.overlap import dice, stray_volume
from aistat_jax.uncertainty.surface_distance import SurfaceDistances, surface_distances

METRICS = (
    "dice", "surface_dice", "hd95", "assd", "volume_error", "false_positive_volume",
    "false_negative_volume",
)  # fmt: skip
RULE = (
    "A label that neither map holds is not scored. Where only one of them holds it, Dice and "
    "surface Dice are 0 and there is no distance. The relative volume error needs a reference "
    "that holds it. Volumes of false positives are those of the predicted pieces that touch no "
    "reference, of false negatives those of the pieces of a reference that no prediction touches "
    "(autoPET; 18 neighbours); the latter need a reference that holds the label. The aggregated "
    "Dice is twice the sum of common volumes over the sum of both volumes (HECKTOR)."
)
RESAMPLES = 10_000


@dataclass(frozen=True)
class LabelScore:
    """One label of one case. Lengths are in `unit` ("mm" or "px"), volumes in its cube.

    surface_dice: the share of both surfaces within `tolerance` of the other; hd95: the larger of
    the two directed 95% points; assd: the mean over both surfaces (definitions of
    surface-distance, Nikolov et al. 2021; in a single slice its outlines). volume_error: the
    predicted volume over the reference's, less 1. false_positive_volume, false_negative_volume:
    of whole pieces that the other map does not touch (`stray_volume`). NaN stands for what is not
    defined.
    """

    case: str
    label: str
    dice: float
    surface_dice: float
    hd95: float
    assd: float
    volume_error: float
    predicted_volume: float
    reference_volume: float
    tolerance: float
    unit: str
    patient: str = ""
    false_positive_volume: float = math.nan
    false_negative_volume: float = math.nan


@dataclass(frozen=True)
class Mean:
    """A mean over `count` scores with its interval; NaN where there is none."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases: a mean for each of `METRICS`, and the cases without a score.

    aggregated_dice: twice the sum over cases of the common volume, over the sum of both volumes
    (Andrearczyk et al. 2023, Overview of the HECKTOR challenge at MICCAI 2022, LNCS 13626, 1-30).
    Cases without the label, for which Dice is not defined, count for what was invented there.
    """

    label: str
    means: dict[str, Mean]
    aggregated_dice: Mean
    cases: int
    absent: int
    missed: int
    invented: int


def score_case(
    predicted: Int[np.ndarray, "i j k"],
    reference: Int[np.ndarray, "x y z"],
    spacing: Sequence[float] | np.ndarray,
    labels: Sequence[str],
    *,
    tolerance: float,
    unit: str = "mm",
    case: str = "case",
    patient: str = "",
) -> tuple[LabelScore, ...]:
    """Scores of labels 1, 2, ... of two label maps on one grid; `labels` are their names.

    Shapes: predicted and reference of one shape (i, j, k); spacing (3,) and tolerance in `unit`.
    Raises InputError for maps of different shapes, or a tolerance that is not positive.
    """
    if predicted.shape != reference.shape:
        raise InputError(
            f"case {case}: label maps of shape {predicted.shape} and {reference.shape} differ; "
            "resample one to the other"
        )
    if not 0 < tolerance < math.inf:
        raise InputError(f"the tolerance {tolerance:g} must be a positive length")
    voxel = float(np.prod(spacing))
    found = []
    for value, label in enumerate(labels, 1):
        a, b = predicted == value, reference == value
        sizes = float(a.sum()) * voxel, float(b.sum()) * voxel
        overlap, near, hd95, assd = dice(a, b), math.nan, math.nan, math.nan
        if all(sizes):
            distances = _distances(a, b, spacing, unit)
            near, hd95, assd = distances.surface_dice(tolerance), distances.hd95, distances.assd
        elif any(sizes):
            near = 0.0
        invented, missed = stray_volume(a, b, voxel), stray_volume(b, a, voxel)
        error = sizes[0] / sizes[1] - 1 if sizes[1] else math.nan
        found.append(
            LabelScore(
                case, label, overlap, near, hd95, assd, error, *sizes, float(tolerance), unit,
                patient or case, invented, missed if sizes[1] else math.nan,
            )
        )  # fmt: skip
    return tuple(found)


def _distances(
    a: np.ndarray, b: np.ndarray, spacing: Sequence[float] | np.ndarray, unit: str
) -> SurfaceDistances:
    """Of two volumes; those of a slice alone by its outlines, as it has nothing above and below."""
    flat = a.shape[2] == 1
    first, second, sides = (a[..., 0], b[..., 0], spacing[:2]) if flat else (a, b, spacing)
    return surface_distances(first, second, sides, unit=unit)


def summarise(
    scores: Sequence[LabelScore], *, seed: int = 0, level: float = 0.95
) -> tuple[LabelSummary, ...]:
    """Every label's means over cases, with bootstrap intervals over patients."""
    found = []
    for label in dict.fromkeys(score.label for score in scores):
        own = [score for score in scores if score.label == label]
        patients = [score.patient for score in own]
        means = {
            name: bootstrap_mean([getattr(s, name) for s in own], patients, seed=seed, level=level)
            for name in METRICS
        }
        both = [s.predicted_volume + s.reference_volume for s in own]
        common = [0.0 if math.isnan(s.dice) else s.dice * v for s, v in zip(own, both, strict=True)]
        overall = bootstrap_ratio(common, both, patients, seed=seed, level=level)
        held = [(s.predicted_volume > 0, s.reference_volume > 0) for s in own]
        found.append(
            LabelSummary(
                label, means, overall, len(own), held.count((False, False)),
                held.count((False, True)), held.count((True, False)),
            )
        )  # fmt: skip
    return tuple(found)


def means_content(scores: Sequence[LabelScore], seed: int = 0) -> dict[str, Any]:
    """`summarise` as it goes into JSON: what is not defined is None, lengths name their unit.

    Raises InputError for no scores, or scores of several tolerances or units.
    """
    kinds = {(score.tolerance, score.unit) for score in scores}
    if len(kinds) != 1:
        raise InputError(f"scores must be of one tolerance and unit, got {sorted(kinds)}")
    tolerance, unit = kinds.pop()
    return {
        f"tolerance_{unit}": tolerance,
        "rule": RULE,
        "cases": len({score.case for score in scores}),
        "patients": len({score.patient for score in scores}),
        "labels": {
            one.label: {
                "cases": one.cases,
                "absent": one.absent,
                "missed": one.missed,
                "invented": one.invented,
                **{column(name, unit): _mean_content(one.means[name]) for name in METRICS},
                "aggregated_dice": _mean_content(one.aggregated_dice),
            }
            for one in summarise(scores, seed=seed)
        },
    }


def column(name: str, unit: str) -> str:
    """A metric's name with its unit.

    >>> column("hd95", "mm"), column("dice", "mm"), column("reference_volume", "px")
    ('hd95_mm', 'dice', 'reference_volume_px3')
    """
    if name in ("hd95", "assd", "tolerance"):
        return f"{name}_{unit}"
    return f"{name}_{unit}3" if name.endswith("_volume") else name


def _mean_content(mean: Mean) -> dict[str, float | int | None]:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "mean": known(mean.value), "low": known(mean.low), "high": known(mean.high),
        "cases": mean.count,
    }  # fmt: skip


def bootstrap_mean(
    values: Sequence[float], patients: Sequence[str], *, seed: int = 0, level: float = 0.95
) -> Mean:
    """The mean of the values that are numbers, with a percentile interval of the bootstrap.

    Patients are drawn with replacement, each with all of its values, since the cases of one
    patient are alike; the mean is over values. With few patients (under about 20) such an
    interval is somewhat too narrow. With one patient there is none. The same seed gives the
    same interval. Raises InputError for a level outside (0, 1).

    >>> bootstrap_mean([0.5, 0.7, float("nan")], ["a", "b", "c"]).value
    0.6
    """
    kept = [(v, p) for v, p in zip(values, patients, strict=True) if not math.isnan(v)]
    return bootstrap_ratio(
        [value for value, _ in kept], [1.0] * len(kept), [patient for _, patient in kept],
        seed=seed, level=level,
    )  # fmt: skip


def bootstrap_ratio(
    parts: Sequence[float],
    wholes: Sequence[float],
    patients: Sequence[str],
    *,
    seed: int = 0,
    level: float = 0.95,
) -> Mean:
    """The sum of `parts` over that of `wholes`, with an interval as of `bootstrap_mean`.

    NaN where the wholes sum to nothing; draws of patients of whom that is so are left out.

    >>> bootstrap_ratio([1.0, 6.0], [4.0, 10.0], ["a", "b"]).value
    0.5
    """
    if not 0 < level < 1:
        raise InputError(f"the level {level:g} must lie strictly between 0 and 1, such as 0.95")
    if not sum(wholes) > 0:
        return Mean(math.nan, math.nan, math.nan, 0)
    value, count = float(np.sum(parts) / np.sum(wholes)), len(parts)
    names, whose = np.unique(list(patients), return_inverse=True)
    sums, counts = np.bincount(whose, parts), np.bincount(whose, wholes)
    if len(names) < 2:
        return Mean(value, math.nan, math.nan, count)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    below = drawn @ counts
    means = (drawn @ sums)[below > 0] / below[below > 0]
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Mean(value, float(low), float(high), count)
