"""Which of the regions around a point does an expert mean, in patients left out of the learning?

The 40 scans of the soft-tissue sarcoma collection, with three points in each lesion: its deepest
voxel, and two at random of at least half that depth. The weights of the readings are learned by
maximising the expected Dice, with a weak ridge; each patient is read with weights of the others.

`python -m benchmarks.readings` learns from all, and keeps the weights in aistat_jax/boundary; with
the name of a file it draws there how often second readings are right (odds.py).
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax.boundary import readings as module
from aistat_jax.boundary.meant import chosen
from aistat_jax.boundary.readings import FEATURES, Readings, readings_at
from aistat_jax.boundary.regions import region_at
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.uncertainty.overlap import dice
from aistat_jax.views.reliability import plot_reliability
from aistat_jax.views.style import save_figure
from benchmarks._table import Result, Row
from benchmarks.odds import Judged, choice_at, odds_of, rows_of
from benchmarks.patients import of_each, patients, starts

POOR = 0.5
RIDGE = 0.003  # of features of sd one
KEPT = Path(module.__file__).parent / "readings.json"


class Asked(NamedTuple):
    """A point in a lesion, its readings (masks packed) and each one's Dice with the expert's mask.

    Beside them the Dice of the region of the steepest level (`region_at`).
    """

    patient: str
    index: np.ndarray
    readings: Readings
    dice: np.ndarray
    steepest: float

    @property
    def features(self) -> np.ndarray:
        return self.readings.features

    def read(self, weights: np.ndarray) -> Readings:
        sides = tuple(side.stop - side.start for side in self.readings.box)
        flat = np.unpackbits(self.readings.masks, axis=1, count=int(np.prod(sides))).astype(bool)
        masks = flat.reshape(-1, *sides)
        return self.readings._replace(masks=masks).weighed(weights)


@cache
def asked(few: int | None) -> list[Asked]:
    """Three points in each of the patients (the first `few`)."""
    return [each for found in of_each(_asked, patients()[:few]) for each in found]


def _asked(folder: Path) -> list[Asked]:
    channel = read_image(PT=folder / "PET_image.nii.gz").primary
    mask = read_mask(folder / "PET_mask.nii.gz", channel)
    found = []
    for index in _points(mask, channel):
        each = readings_at(channel, index)
        both = 2 * (each.masks & mask[each.box]).sum(axis=(1, 2, 3))
        likeness = both / (each.masks.sum(axis=(1, 2, 3)) + mask.sum())
        packed: Any = np.packbits(each.masks.reshape(len(each.masks), -1), axis=1)
        level = dice(region_at(channel, index).mask, mask)
        found.append(Asked(folder.name, index, each._replace(masks=packed), likeness, level))
    return found


def _points(mask: np.ndarray, channel: Any) -> list[np.ndarray]:
    from scipy.ndimage import distance_transform_edt

    depth = np.asarray(distance_transform_edt(mask, sampling=channel.grid.spacing))
    rng, inner = np.random.default_rng(0), np.argwhere(depth >= 0.5 * depth.max())
    return [starts(mask, channel)["deepest"], *inner[rng.integers(len(inner), size=2)]]


def learned(cases: list[Asked]) -> np.ndarray:
    """Weights of FEATURES under which the expected Dice of a reading is largest."""
    from scipy.optimize import minimize

    sd = np.concatenate([each.features for each in cases]).std(axis=0) + 1e-9

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.5 * RIDGE * weights @ weights, RIDGE * weights
        for each in cases:
            features = each.features / sd
            score = features @ weights
            share = np.exp(score - score.max())
            share /= share.sum()
            expected = share @ each.dice
            value -= expected / len(cases)
            slope = slope - ((share * (each.dice - expected)) @ features) / len(cases)
        return float(value), slope

    return minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B").x / sd


@cache
def weights_without(patient: str, few: int | None = None) -> tuple[float, ...]:
    """Weights of FEATURES learned from all patients (the first `few`) but one."""
    return tuple(learned([each for each in asked(few) if each.patient != patient]))


def run(quick: bool) -> Result:
    return measured(quick)[0]


def measured(quick: bool) -> tuple[Result, dict[str, Judged], dict[str, Any]]:
    """The result, how the odds of second readings are judged, and what is kept of them."""
    title = "One point in 40 sarcomas: which region is meant"
    if not patients():
        said = "Skipped: the sarcoma collection was not found; set AISTAT_DATA to its folder."
        return Result(title, [], [said]), {}, {}
    few = 3 if quick else None
    folders = patients()[:few]
    details, choices = [], []
    for folder in folders:
        channel = read_image(PT=folder / "PET_image.nii.gz").primary
        mask = read_mask(folder / "PET_mask.nii.gz", channel)
        points = [each for each in asked(few) if each.patient == folder.name]
        weights = np.array(weights_without(folder.name, few))
        for each in points:
            readings = each.read(weights)
            region = chosen(channel, each.index, readings)
            choices.append(choice_at(folder.name, channel, each.index, readings, mask))
            details.append({
                "patient": folder.name,
                "vote": dice(region.mask, mask),
                "largest share": float(each.dice[readings.share.argmax()]),
                "steepest level": each.steepest,
                "best of all": float(each.dice.max()),
                "said to be doubtful": bool(region.doubts),
                "readings": len(each.dice),
            })  # fmt: skip
    rows = []
    for name in ("vote", "largest share", "steepest level", "best of all"):
        found = np.array([row[name] for row in details])
        rows += [
            Row(f"{name}: Dice, median", float(np.median(found))),
            Row(f"{name}: Dice, mean", float(found.mean())),
            Row(f"{name}: share below {POOR}", float((found < POOR).mean())),
        ]
    poor = np.array([row["vote"] < POOR for row in details])
    doubted = np.array([row["said to be doubtful"] for row in details])
    rows += [
        Row(f"votes below {POOR} that are said to be doubtful", float(doubted[poor].mean()),
            note=f"{poor.sum()} of {len(poor)} points"),
        Row("other votes that are", float(doubted[~poor].mean())),
    ]  # fmt: skip
    sets, odds = odds_of(choices, quick)
    rows += [row for name, one in sets.items() for row in rows_of(name, one)]
    notes = [
        f"{len(details)} points in {len(folders)} patients. “Best of all” knows the expert's "
        "mask; "
        "“steepest level” is how all images but PETs of some depth are read.",
        "Dice is that of the region, before a boundary is fitted. The features, and all "
        "constants of readings.py, falls.py and regions.py, were chosen on these same patients; "
        "only the weights were not.",
        "A second reading is right if no other reading is nearer to the truth by Dice. Its weights "
        "were learned without the patient, but from shares whose weights had seen it. ± is the sd "
        "over patients, or phantoms, drawn anew.",
    ]
    return Result(title, rows, notes, details), sets, odds


def main() -> None:
    """Learn from all patients, and keep the weights with what is known of them."""
    weights = learned(asked(None))
    result, sets, odds = measured(False)
    KEPT.write_text(json.dumps({
        "weights": dict(zip(FEATURES, (round(float(w), 3) for w in weights), strict=True)),
        "learned from": "40 soft-tissue sarcoma PETs (data_cards/soft_tissue_sarcoma_pet.md), "
        "three points in each",
        "by": "expected Dice, ridge " + str(RIDGE) + " (benchmarks/readings.py)",
        "patients left out": {
            row.figure: round(row.measured, 3)
            for row in result.rows
            if not row.figure.startswith(tuple(sets))
        },
        "odds": odds,
    }, indent=2) + "\n")  # fmt: skip
    for figure in sys.argv[1:]:
        panels = {
            name: {"probability": one.found, "share of the vote": one.control}
            for name, one in sets.items()
        }
        save_figure(plot_reliability(panels), Path(figure))


if __name__ == "__main__":
    main()
