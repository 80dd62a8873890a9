"""Does an uncertainty survive another backbone? Six networks, one budget, nodules and phantoms.

The networks are those of `python -m benchmarks.backbone_nets` in build/backbones, or in
$AISTAT_BACKBONES. `python -m benchmarks.backbones evaluate` measures each in a process of its own
and keeps its scores beside it; the table is made from those, and missing ones are measured first.
With --quick all networks are trained for two steps, on nodules alone: in phantoms, whose lesions
lie anywhere, a network of two steps finds none that a head could learn from.

Of every case the region is that of the network's most probable voxel among those that someone drew,
as if one had pointed at the lesion.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from aistat_jax._files import write_whole
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.networks import network_prior
from aistat_jax.boundary.targets import Target
from aistat_jax.data.collections import NODULES
from aistat_jax.inference.batch import fit_many
from aistat_jax.nets.backbones import BACKBONES
from aistat_jax.nets.edge_law import HARMONICS, RAYS
from aistat_jax.nets.edges import FeatureField, edge_at, feature_field, region_at
from aistat_jax.nets.predict import gaussian_window, one_pass, window_starts
from aistat_jax.nets.prepare import prepare
from aistat_jax.nets.recipes import Drawn
from aistat_jax.nets.weights import Net, load_net
from aistat_jax.space.basis import circle_basis, equal_angles
from aistat_jax.space.curve import contours_from_mask, last_exits
from aistat_jax.space.star import unit_vectors
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.overlap import dice
from aistat_jax.uncertainty.probability import sample_masks
from aistat_jax.uncertainty.readers import ged_squared
from aistat_jax.uncertainty.scores import score_case
from benchmarks._table import Result, Row
from benchmarks.backbone_nets import BATCH as STEP
from benchmarks.backbone_nets import DATA, SIZES, Budget, all_of, cases, pack, train_one
from benchmarks.patients import collections

NOISE = (0.1, 0.2, 0.4)  # sd of what is added to the normalised input
SAMPLES, DRAWS, LEVEL = 16, 400, 0.95
BATCH = 16
# Standard errors that a difference from the U-Net must be away from 0: five are looked at at once,
# at 5% together (Bonferroni).
APART = 2.58
LEAST_PIXELS = 6
SCORES = ("Dice", "surface Dice", *(f"Dice, noise {sd:g}" for sd in NOISE), "GED^2", "coverage",
          "half-width")  # fmt: skip

Found = dict[str, list[tuple[str, float]]]  # of every score, whose patient's and how much


def run(quick: bool) -> Result:
    folder = Path(os.environ.get("AISTAT_BACKBONES", "build/backbones"))
    there = [collections() / NODULES, folder / "nodules.npz"] if quick else [folder / "nets"]
    if not any(path.exists() for path in there):
        said = "Skipped: there are no networks; see python -m benchmarks.backbone_nets."
        return Result("Six backbones under one budget", [], [said])
    if not quick:
        return table(folder, folder, 0)
    if not (folder / "nodules.npz").is_file():
        pack(folder, "nodules")
    with tempfile.TemporaryDirectory() as scratch:
        for backbone in SIZES:
            train_one(folder, Path(scratch), "nodules", backbone, Budget(2, 101, few=6))
        return table(Path(scratch), folder, 6)


# ------------------------------------------------------------------------------- one network


def evaluate(net: Net, drawn: Sequence[Drawn]) -> Found:
    """Every score of every case: the network's own, and the posterior's under its contour head."""
    found: Found = {name: [] for name in SCORES}
    values = np.stack([prepare(net.plan, case.image).values[:, :, 0] for case in drawn])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(values.shape).astype(np.float32)
    for sd in (0.0, *NOISE):
        regions = log_odds(net, values + np.float32(sd) * noise) > 0
        for case, region in zip(drawn, regions, strict=True):
            agreed = 2 * case.masks[:, :, 0].sum(axis=-1) >= case.masks.shape[-1]
            if sd:
                found[f"Dice, noise {sd:g}"].append((case.patient, dice(region, agreed)))
                continue
            grid = case.image.primary.grid
            (score,) = score_case(
                region[..., None].astype(int), agreed[..., None].astype(int), grid.spacing,
                ["lesion"], tolerance=2.0, unit=grid.unit,
            )  # fmt: skip
            found["Dice"].append((case.patient, score.dice))
            found["surface Dice"].append((case.patient, score.surface_dice))
    for name, pairs in _posteriors(net, drawn).items():
        found[name] += pairs
    return found


def log_odds(net: Net, values: np.ndarray) -> np.ndarray:
    """Log-odds (case, u, v) of prepared cases (case, u, v, channel), by windows as `predict`'s."""
    patch, weight = net.plan.patch, gaussian_window(net.plan.patch)[..., 0]
    sums, weights = np.zeros(values.shape[:3], np.float32), np.zeros(values.shape[1:3], np.float32)
    state = net.state()
    starts = [window_starts(n, p, 0.5) for n, p in zip(values.shape[1:3], patch, strict=True)]
    for u, v in itertools.product(*starts):
        at = np.s_[u : u + patch[0], v : v + patch[1]]
        weights[at] += weight
        for first in range(0, len(values), BATCH):
            cut = values[(slice(first, first + BATCH), *at)]
            full = np.pad(cut, [(0, BATCH - len(cut)), (0, 0), (0, 0), (0, 0)])
            said = np.asarray(one_pass(net.graph, False, state, jnp.asarray(full), None))
            sums[(slice(first, first + BATCH), *at)] += (
                weight * (said[..., 1] - said[..., 0])[: len(cut)]
            )
    return sums / weights


def _posteriors(net: Net, drawn: Sequence[Drawn]) -> Found:
    """Samples against all readers, and their whole boundaries in the band, harmonics as it has."""
    fields = [feature_field(net, case.image) for case in drawn]
    # What follows is small, and many of it; for all threads, as `jax.default_device` is not.
    jax.config.update("jax_default_device", jax.devices("cpu")[0])
    try:
        return _fitted(net, drawn, fields)
    finally:
        jax.config.update("jax_default_device", None)


def _fitted(net: Net, drawn: Sequence[Drawn], fields: Sequence[FeatureField]) -> Found:
    targets, models = [], []
    for case, field in zip(drawn, fields, strict=True):
        plane, masks = case.image.primary.grid.plane(0), case.masks[:, :, 0]
        probability = expit(field.values[:, :, 0, -1])
        place = np.where(masks.any(axis=-1), probability, -1.0).argmax()
        voxel = tuple(int(n) for n in np.unravel_index(place, probability.shape))
        target = Target.from_mask(region_at(probability, voxel), plane)
        there = float(expit(edge_at(field, plane, target.centre, target.radius).presence))
        targets.append(target)
        models.append(
            boundary_model(
                target, prior=network_prior(net, field, target), rays=RAYS,
                radius_max=4 * target.radius, presence=max(there, 1e-6),
            )
        )  # fmt: skip
    posteriors = fit_many(models, draws=DRAWS)
    circle = np.asarray(circle_basis(equal_angles(RAYS), HARMONICS).functions)
    found: Found = {"GED^2": [], "coverage": [], "half-width": []}
    for n, (case, target, posterior) in enumerate(zip(drawn, targets, posteriors, strict=True)):
        masks = np.moveaxis(case.masks[:, :, 0], -1, 0)
        samples = sample_masks(posterior, SAMPLES, seed=n)
        found["GED^2"].append((case.patient, ged_squared(samples, masks)))
        band = simultaneous_band(posterior, LEVEL)
        width = float(np.median(band.half_width)) / target.radius
        found["half-width"].append((case.patient, width))
        for mask in masks:
            curves = contours_from_mask(mask, target.plane) if mask.sum() >= LEAST_PIXELS else []
            if not curves:
                continue
            outline = max(curves, key=lambda curve: curve.area).points
            exits = last_exits(outline, target.centre, unit_vectors(equal_angles(RAYS)))
            held = bool((exits > 0).all()) and band.contains(
                np.exp(circle @ (circle.T @ np.log(exits) / RAYS))
            )
            found["coverage"].append((case.patient, float(held)))
    return found


def evaluate_one(folder: Path, packed: Path, data: str, backbone: str, few: int) -> Path:
    """Measure one network of the folder and keep its scores beside it."""
    begun, at = time.perf_counter(), folder / "nets" / f"{backbone}-{data}"
    net, drawn = load_net(at), list(cases(packed, data, "validation", few))
    content = {"parameters": net.parameters, "cases": len(drawn), "budget": net.card["budget"],
               "scores": evaluate(net, drawn)}  # fmt: skip
    print(f"{at.name}: {len(drawn)} cases, {time.perf_counter() - begun:.0f} s", flush=True)
    write_whole(at / "scores.json", json.dumps(content) + "\n")
    return at / "scores.json"


# ---------------------------------------------------------------------------------- the table


def table(folder: Path, packed: Path, few: int) -> Result:
    """All networks of a folder; of each its scores as far as they are there, or measured now."""
    rows, details, notes = [], [], []
    timed = folder / "nets" / "seconds.json"
    seconds = json.loads(timed.read_text(encoding="utf-8")) if timed.is_file() else {}
    for data in DATA:
        known: dict[str, dict[str, Any]] = {}
        for backbone in SIZES:
            at = folder / "nets" / f"{backbone}-{data}"
            if not at.is_dir():
                notes.append(f"No network {at.name}: it was not trained.")
                continue
            if not (at / "scores.json").is_file():
                evaluate_one(folder, packed, data, backbone, few)
            known[backbone] = json.loads((at / "scores.json").read_text(encoding="utf-8"))
        if known:
            rows += _rows(data, known)
            details += [_line(data, name, known, seconds) for name in known]
    notes += _notes(folder, seconds)
    return Result("Six backbones under one budget", rows, notes, details)


def mean_and_error(pairs: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """The mean over patients of their own means, and its standard error."""
    each = np.array(list(by_patient(pairs).values()))
    if len(each) < 2:
        return float(each.mean()) if len(each) else math.nan, math.nan
    return float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))


def by_patient(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The mean of every patient's values that are numbers."""
    kept: dict[str, list[float]] = {}
    for patient, value in pairs:
        if not math.isnan(value):
            kept.setdefault(patient, []).append(value)
    return {patient: float(np.mean(values)) for patient, values in kept.items()}


def difference(a: Sequence[tuple[str, float]], b: Sequence[tuple[str, float]]) -> float:
    """How many standard errors the mean of a is from that of b, in the patients of both."""
    one, other = by_patient(a), by_patient(b)
    apart = np.array([one[patient] - other[patient] for patient in one if patient in other])
    if len(apart) < 2 or not apart.std():
        return 0.0
    return float(apart.mean() / (apart.std(ddof=1) / math.sqrt(len(apart))))


def _line(data: str, name: str, known: dict[str, dict[str, Any]], seconds: Any) -> dict[str, Any]:
    """One line of the table; a star where a score differs from the U-Net's by more than chance."""
    mine, base = known[name]["scores"], known.get("unet", known[name])["scores"]
    line: dict[str, Any] = {
        "data": data,
        "backbone": BACKBONES[name].title,
        "parameters": f"{known[name]['parameters'] / 1e6:.2f} M",
    }
    if f"{name}-{data}" in seconds:
        line["ms a step"] = f"{1000 * seconds[f'{name}-{data}']:.1f}"
    for score in SCORES:
        mean, error = mean_and_error(mine[score])
        star = " *" if abs(difference(mine[score], base[score])) > APART else ""
        line[score] = f"{mean:.3f} ± {error:.3f}{star}"
    return line


def _rows(data: str, known: dict[str, dict[str, Any]]) -> list[Row]:
    """Of every score how far the backbones are apart, and how many are told from the U-Net."""
    rows = []
    for score in SCORES:
        means = {name: mean_and_error(each["scores"][score])[0] for name, each in known.items()}
        others = [name for name in known if name != "unet"] if "unet" in known else []
        told = [
            BACKBONES[name].title
            for name in others
            if abs(difference(known[name]["scores"][score], known["unet"]["scores"][score])) > APART
        ]
        low, high = min(means, key=lambda n: means[n]), max(means, key=lambda n: means[n])
        rows.append(
            Row(f"{data}: {score}, largest less smallest", means[high] - means[low],
                note=f"from {means[low]:.3f} ({BACKBONES[low].title}) to {means[high]:.3f} "
                     f"({BACKBONES[high].title}); beyond chance from the U-Net: "
                     f"{', '.join(told) or 'none'}")
        )  # fmt: skip
    return rows


def _notes(folder: Path, seconds: Any) -> list[str]:
    found = [json.loads(p.read_text()) for p in sorted((folder / "nets").glob("*/scores.json"))]
    budgets = {tuple(sorted(each["budget"].items())) for each in found}
    words = [
        "Every network learned from the same batches: "
        + "; ".join(
            f"{dict(b)['steps']} steps of {STEP} patches of 64 x 64 pixels, at a rate of "
            f"{dict(b)['learning_rate']:g}, and {dict(b)['head_steps']} of its contour head"
            for b in budgets
        )
        + ". "
        + (
            "A few cases only, to see that it runs."
            if any(dict(b).get("few") for b in budgets)
            else "Nodules: 527 patients to learn from, up to 5 slices each, 30% of them for the "
            "head, and 58 others to judge on, up to 4 slices each in which half of the readers "
            "agree. Phantoms: 450, 250 and 150."
        ),
        f"Means over patients and their standard errors. A star: the paired difference from the "
        f"U-Net is more than {APART} standard errors from 0, which of five differences in truth "
        "all 0 happens to any in 5%; without one a difference is within its error. Each network "
        "was trained once: how far two trainings of one network differ is not in these errors.",
        f"Dice and surface Dice (2 px or 2 mm) are the network's own, against what half of the "
        f"readers drew. Noise: its sd, added to the normalised input. GED^2 of {SAMPLES} samples, "
        f"coverage of whole boundaries by the {LEVEL:.0%} band, and its half-width over the "
        "rough radius are those of the posterior under the contour head.",
    ]
    if "device" in seconds:
        words.append(
            f"Steps were timed one network at a time on {seconds['device']}, float32, median."
        )
    return words


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__)
    parser.add_argument("what", choices=("evaluate", "one"))
    parser.add_argument("job", nargs="*", help="for one: a kind of data and a backbone")
    parser.add_argument("--data", type=Path, default=Path("build/backbones"))
    parser.add_argument("--out", type=Path, default=Path("build/backbones"))
    parser.add_argument("--few", type=int, default=0, help="cases (default all)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--deadline-s", type=float, default=1e9)
    given = parser.parse_args()
    nets, deadline = given.out / "nets", time.monotonic() + given.deadline_s
    shared = ["--data", str(given.data), "--out", str(given.out), "--few", str(given.few)]
    if given.what == "one":
        data, backbone = given.job
        evaluate_one(given.out, given.data, data, backbone, given.few)
        return 0

    def done(data: str, backbone: str) -> bool:
        at = nets / f"{backbone}-{data}"
        return not at.is_dir() or (at / "scores.json").is_file()

    all_of(
        lambda data, backbone: ["benchmarks.backbones", "one", data, backbone, *shared],
        done, given.out, given.workers, deadline,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
