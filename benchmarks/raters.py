"""Does a model of raters foretell the contour that was left out? And how do experts differ?

Lung nodules with four anonymous readers, head-and-neck organs with two observers and cells with
five persons and two tools. A drawing is left out of a case of which nothing was fitted, and
foretold from the others: whether its rays, and the whole of it, lie within the bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.drawings import Drawing
from aistat_jax.inference.raters import RaterModel, fit_raters
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.uncertainty.bands import simultaneous_band
from benchmarks._table import Result, Row
from benchmarks.patients import collections

LEVELS = (0.5, 0.8, 0.95)
LEAST_PIXELS = 20
# Organs of which a star in space holds nearly all (the mandible, the cord and nerves are none).
ORGANS = ("Brainstem", "Parotid-Lt", "Parotid-Rt", "Submandibular-Lt", "Submandibular-Rt",
          "Orbit-Lt", "Orbit-Rt")  # fmt: skip


def run(quick: bool) -> Result:
    root = collections()
    if not (root / "lidc_slices_4readers").is_dir():
        said = "Skipped: the collections with several raters were not found; set AISTAT_DATA."
        return Result("Raters", (), (said,))
    rows, notes, details = [], [], []
    for part in (nodules,):
        for found, more in zip((rows, notes, details), part(root, quick), strict=True):
            found.extend(more)
    return Result("Raters: a contour left out is foretold from the others", rows, notes, details)


# ------------------------------------------------------------------------------ leave one out


def left_out(
    model: RaterModel, cases: Iterable[Sequence[Drawing]], named: bool
) -> tuple[list[dict[str, Any]], int]:
    """For each drawing of each case what share of its rays, and whether all of it, are in bands.

    `rank` is the share of draws below it at every fourth ray. Returns also how many could not be
    asked: those who share no point with the others.
    """
    found, lost = [], 0
    for case in cases:
        for n, drawing in enumerate(case):
            others = [*case[:n], *case[n + 1 :]]
            if all(each.contour is None for each in others):
                continue
            who = {"rater": drawing.rater, "tool": drawing.tool} if named else {}
            try:
                posterior = model.predict(others, **who, seed=n)
                row: dict[str, Any] = {"presence": posterior.presence}
                row["drawn"] = drawing.contour is not None
                if row["drawn"]:
                    row |= _within(posterior, posterior.chart.values_of(drawing.contour))
            except InputError:
                lost += 1
                continue
            found.append(row | {"case": drawing.case, "rater": drawing.rater})
    return found, lost


def _within(posterior: Any, truth: np.ndarray) -> dict[str, Any]:
    draws = posterior.draws
    rank = (draws < truth).mean(axis=0)
    row: dict[str, Any] = {"half": float(draws.std(axis=0).mean())}
    row["error"] = float(np.sqrt(np.square(truth - draws.mean(axis=0)).mean()))
    for level in LEVELS:
        low = (1 - level) / 2
        row[f"rays {level:.0%}"] = float(((rank >= low) & (rank <= 1 - low)).mean())
        row[f"whole {level:.0%}"] = float(simultaneous_band(posterior, level).contains(truth))
    return row


def coverage_rows(name: str, found: Sequence[dict[str, Any]], note: str) -> list[Row]:
    """Coverage of rays and whole contours beside what is nominal, asked within 4 points."""
    drawn = [row for row in found if row["drawn"]]
    rows = []
    for kind in ("rays", "whole"):
        for level in LEVELS:
            share = 100 * float(np.mean([row[f"{kind} {level:.0%}"] for row in drawn]))
            rows.append(
                Row(f"{name}: {kind} within the {level:.0%} band", share, "%",
                    100 * level - 4, min(100.0, 100 * level + 4), note)
            )  # fmt: skip
    return rows


# ---------------------------------------------------------------------------------- nodules


def nodules(root: Path, quick: bool) -> tuple[list[Row], list[str], list[dict[str, Any]]]:
    folder = root / "lidc_slices_4readers"
    train = nodule_slices(folder / "train.npz", 40 if quick else 160)
    test = nodule_slices(folder / "val.npz", 20 if quick else 120)
    together, lost_cases = [], 0
    for case in train:
        try:
            fit_check(case)
            together += case
        except InputError:
            lost_cases += 1
    model = fit_raters(together, exchangeable=True, seed=1)
    found, lost = left_out(model, test, named=False)
    rows = coverage_rows("nodules", found, f"{len(test)} slices of other patients, px")
    asked = [row for row in found]
    brier = float(np.mean([(row["presence"] - row["drawn"]) ** 2 for row in asked]))
    rate = float(np.mean([row["drawn"] for row in asked]))
    rows.append(Row("nodules: Brier score of presence", brier, at_most=rate * (1 - rate)))
    notes = [
        f"Nodules: one slice a nodule, {len(train) - lost_cases} to fit and {len(test)} of other "
        f"patients; {lost} drawings and {lost_cases} slices have no point in common with the "
        f"others. Noise {_said(model.noise['any'])} px, constant share "
        f"{model.samples['constant_share'].mean():.2f}, correlation "
        f"{model.samples['correlation'].mean():.1f} px, log sd of hardness "
        f"{model.samples['hardness'].mean():.2f}; {model.diagnostics}."
    ]
    return rows, notes, []


def nodule_slices(path: Path, most: int) -> list[list[Drawing]]:
    """The slice of each nodule that most readers drew, with two drawings or more."""
    kept = np.load(path)
    patient, nodule = kept["patient"], kept["nodule"]
    masks = kept["mask"]
    sizes = np.unpackbits(masks, axis=-1).sum(axis=-1)
    plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(128, 128), unit="px")
    found = []
    for pair in dict.fromkeys(zip(patient.tolist(), nodule.tolist(), strict=True)):
        at = np.flatnonzero((patient == pair[0]) & (nodule == pair[1]))
        # any slice of a nodule, whoever drew it: the middle one of those that two readers drew
        twice = at[(sizes[at] >= LEAST_PIXELS).sum(axis=1) >= 2]
        if not len(twice):
            continue
        i = twice[len(twice) // 2]
        case = []
        for reader in range(4):
            mask = np.unpackbits(masks[i, reader]).reshape(128, 128).astype(bool)
            large = mask.sum() >= LEAST_PIXELS
            curve = contours_from_mask(mask, plane)[0] if large else None
            case.append(Drawing(f"{path.stem} {i}", f"reader {reader}", curve))
        found.append(case)
    step = max(1, len(found) // most)
    return found[::step][:most]


def fit_check(case: Sequence[Drawing]) -> None:
    from aistat_jax.boundary.drawings import read_case

    read_case(case)


def _said(interval: Any) -> str:
    return f"{interval.mean:.2f} ({interval.lower:.2f} to {interval.upper:.2f})"
