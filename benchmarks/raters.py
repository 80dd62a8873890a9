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
from aistat_jax.boundary.drawings import Drawing, read_case
from aistat_jax.inference.raters import RaterModel, fit_raters
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.mesh import surface_from_mask
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
    for part in (nodules, cells, organs):
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
        if _shares_a_point(case):
            together += case
        else:
            lost_cases += 1
    model = fit_raters(together, exchangeable=True, seed=1)
    found, lost = left_out(model, test, named=False)
    rows = coverage_rows("nodules", found, f"{len(test)} slices of other patients, px")
    brier = float(np.mean([(row["presence"] - row["drawn"]) ** 2 for row in found]))
    rate = float(np.mean([row["drawn"] for row in found]))
    rows.append(Row("nodules: Brier score of presence", brier, at_most=rate * (1 - rate)))
    notes = [
        f"Nodules: one slice a nodule, {len(train) - lost_cases} to fit and {len(test)} of other "
        f"patients; {lost} drawings and {lost_cases} slices have no point in common with the "
        f"others. Noise {_said(model.noise['any'])} px, constant share "
        f"{model.samples['constant_share'].mean():.2f}, correlation "
        f"{model.samples['correlation'].mean():.1f} px, log sd of hardness "
        f"{model.samples['hardness'].mean():.2f}; {model.diagnostics}.",
        *against_votes("Nodules", model, test),
    ]
    return rows, notes, []


def nodule_slices(path: Path, most: int) -> list[list[Drawing]]:
    """Of each nodule the middle slice of those in which two readers drew, or more."""
    kept = np.load(path)
    patient, nodule = kept["patient"], kept["nodule"]
    masks = kept["mask"]
    sizes = np.unpackbits(masks, axis=-1).sum(axis=-1)
    plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(128, 128), unit="px")
    found = []
    for pair in dict.fromkeys(zip(patient.tolist(), nodule.tolist(), strict=True)):
        at = np.flatnonzero((patient == pair[0]) & (nodule == pair[1]))
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


def _said(interval: Any) -> str:
    return f"{interval.mean:.2f} ({interval.lower:.2f} to {interval.upper:.2f})"


# ------------------------------------------------------------------------------------ cells


def cells(root: Path, quick: bool) -> tuple[list[Row], list[str], list[dict[str, Any]]]:
    """Five persons with two tools: every other cell to fit, the rest foretold."""
    every = cell_drawings(root / "bubil_cells_5readers_2tools/dataset1/ExpertsAnnotations")
    kept = [case for case in every if _shares_a_point(case)]
    fitted = kept[::2][: 4 if quick else 18]
    test = kept[1::2][: 3 if quick else 17]
    model = fit_raters([each for case in fitted for each in case], habit=False, seed=1)
    found, lost = left_out(model, test, named=True)
    rows = coverage_rows("cells", found, f"{len(test)} cells, ten drawings each, px")
    noise = float(np.mean([each.mean for each in model.noise.values()]))
    for kind, effects in (("person", model.bias), ("tool", model.tool)):
        most = max(abs(each.mean) for each in effects.values())
        rows.append(Row(f"cells: largest effect of a {kind}, in errors", most / noise, "", 0, 0.25))
    details = [
        {"set": "cells", "who": who, "bias": _said(bias), "noise": _said(model.noise[who])}
        for who, bias in model.bias.items()
    ]
    details += [
        {"set": "cells", "who": f"tool {t}", "bias": _said(b)} for t, b in model.tool.items()
    ]
    notes = [
        f"Cells: {len(every) - len(kept)} of {len(every)} have drawings without a point in common, "
        f"{lost} drawings could not be asked; {model.diagnostics}; {model.tails}.",
        *against_votes("Cells", model, test),
    ]
    return rows, notes, details


def cell_drawings(folder: Path) -> list[list[Drawing]]:
    """All drawings of each cell; the cell is what most of the picture is not."""
    from matplotlib.image import imread

    found: dict[str, list[Drawing]] = {}
    for session in sorted(folder.iterdir()):
        person, tool = session.name.split("_")
        for path in sorted(session.glob("*.png")):
            picture = np.asarray(imread(path), dtype=float)
            picture = picture if picture.ndim == 2 else picture[..., :3].mean(axis=-1)
            mask = picture > 0.5
            mask = ~mask if mask.mean() > 0.5 else mask
            plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=mask.shape, unit="px")
            curves = contours_from_mask(mask, plane)
            if not curves:  # an empty picture
                continue
            cell = path.stem.lower().removeprefix("seg_")
            case = found.setdefault(cell, [])
            copied = any(
                each.rater == person and np.array_equal(each.contour.points, curves[0].points)
                for each in case
            )  # one person's second session holds the files of the first
            if not copied:
                case.append(Drawing(cell, person, curves[0], tool))
    return list(found.values())


def _shares_a_point(case: Sequence[Drawing]) -> bool:
    try:
        read_case(case)
    except InputError:
        return False
    return True


def against_votes(name: str, model: RaterModel, cases: Sequence[Sequence[Drawing]]) -> list[str]:
    """Dice of a drawing left out with the others' consensus, majority vote and STAPLE."""
    try:
        import SimpleITK as sitk
    except ImportError:
        sitk = None
    scores: dict[str, list[float]] = {}
    for case in cases:
        drawn = [each for each in case if each.contour is not None]
        if len(drawn) < 3:
            continue
        left, others = drawn[0], drawn[1:]
        consensus = model.consensus(others)
        points = np.concatenate([each.contour.points for each in drawn])
        low, high = points.min(axis=0) - 3, points.max(axis=0) + 3
        axes = [np.arange(a, b) for a, b in zip(np.floor(low), np.ceil(high), strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        masks = np.stack([each.contour.contains(grid) for each in others])
        guesses = {
            "consensus": consensus.chart.surface(consensus.estimate).contains(grid),
            "majority vote": masks.mean(axis=0) > 0.5,
        }
        if sitk is not None:
            images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
            guesses["STAPLE"] = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)) > 0.5
        truth = left.contour.contains(grid)
        for kind, guess in guesses.items():
            common = 2 * (guess & truth).sum() / max(guess.sum() + truth.sum(), 1)
            scores.setdefault(kind, []).append(float(common))
    said = ", ".join(f"{kind} {np.mean(each):.3f}" for kind, each in scores.items())
    missing = "" if sitk is not None else " (SimpleITK is not installed: no STAPLE)"
    count = len(next(iter(scores.values()), []))
    return [f"{name}: mean Dice with a drawing left out, {count} cases: {said}{missing}."]


# ----------------------------------------------------------------------------------- organs


def organs(root: Path, quick: bool) -> tuple[list[Row], list[str], list[dict[str, Any]]]:
    """Two observers: organs of half of the patients to fit, those of the others foretold."""
    folder = root / "deepmind_han_organs_2observers"
    names = ORGANS[:2] if quick else ORGANS
    every = {name: organ_drawings(folder, name) for name in names}
    found, lost, patients = [], 0, sorted({case[0].case.split()[0] for case in every[names[0]]})
    for fold in range(1 if quick else 2):
        held = patients[fold::2]
        cases = [case for name in names for case in every[name]]
        fitted = [each for case in cases if case[0].case.split()[0] not in held for each in case]
        model = fit_raters(fitted, habit=False, seed=1)
        test = [case for case in cases if case[0].case.split()[0] in held]
        more, missed = left_out(model, test, named=True)
        found, lost = found + more, lost + missed
    rows = coverage_rows("organs", found, f"{len(names)} organs of {len(patients)} patients, mm")
    details = []
    for name in names:
        model = fit_raters([each for case in every[name] for each in case], habit=False, seed=1)
        first, second = model.raters
        details.append(
            {"set": name, "who": f"{first} less {second}",
             "bias": f"{2 * model.bias[first].mean:.2f}",
             "noise": "; ".join(f"{who} {_said(n)}" for who, n in model.noise.items())}
        )  # fmt: skip
    notes = [f"Organs: as surfaces, one other observer known; {lost} could not be asked."]
    return rows, notes, details


def organ_drawings(folder: Path, organ: str) -> list[list[Drawing]]:
    found = []
    for patient in sorted(path.name for path in (folder / "oncologist").iterdir()):
        case = []
        for observer in ("oncologist", "radiographer"):
            at = folder / observer / patient / "segmentations"
            paths = [at / f"{organ}.nrrd", at / f"{organ.replace('-', '_')}.nrrd"]
            for path in paths:
                if path.exists():
                    mask, grid = read_nrrd(path)
                    case.append(Drawing(f"{patient} {organ}", observer, _surface(mask, grid)))
        if len(case) == 2:
            found.append(case)
    return found


def _surface(mask: np.ndarray, grid: Grid) -> Any:
    """The surface of the largest part of a mask, cut out with room around it."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count > 1 else mask > 0
    box = ndimage.find_objects(largest.astype(int))[0]
    low = np.array([max(part.start - 4, 0) for part in box])
    high = np.array([part.stop + 4 for part in box])
    cut = largest[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = grid.affine.copy()
    affine[:3, 3] = (grid.affine @ np.append(low, 1.0))[:3]
    return surface_from_mask(cut, Grid(affine, cut.shape, unit="mm"))


def read_nrrd(path: Path) -> tuple[np.ndarray, Grid]:
    """A gzipped mask of unsigned bytes, its axes and origin in LPS turned to RAS."""
    import gzip

    head, _, data = path.read_bytes().partition(b"\n\n")
    fields = dict(
        line.split(": ", 1)
        for line in head.decode().splitlines()
        if ": " in line and line[0] != "#"
    )
    sizes = [int(n) for n in fields["sizes"].split()]
    numbers = fields["space directions"].replace("(", "").replace(")", " ").split()
    axes = np.array([[float(x) for x in each.split(",")] for each in numbers])
    affine = np.eye(4)
    affine[:3, :3] = axes.T
    affine[:3, 3] = [float(x) for x in fields["space origin"].strip("()").split(",")]
    values = np.frombuffer(gzip.decompress(data), dtype=np.uint8).reshape(sizes, order="F")
    return values > 0, Grid(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, tuple(sizes), unit="mm")
