"""Is anything green that should not be, and do intervals of size hold the true size?

Balls and discs seen through a point spread, whose boundary is known, in noise that neighbouring
voxels share. Some are what the model thinks (alarms are then false); others have a cold core, a hot
focus, a neighbour that touches, or next to no size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.data.phantoms import pet_ct_phantom
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.predictive import ALARM
from aistat_jax.space.curve import Curve
from aistat_jax.uncertainty.grading import DEFAULT_TOLERANCE_MM, grade
from aistat_jax.uncertainty.probability import area_posterior
from benchmarks._table import Result, Row, share_interval

SPHERES, DISCS = (12.0, 20.0), (4.0, 6.0, 10.0)
NOISE = 0.14
FLAT = {"shape": (32, 32, 3), "spacing_mm": (4.0, 4.0, 3.0)}
WITHIN = 0.9


class Seen(NamedTuple):
    """A model of one slice, and the boundary that is really there."""

    model: BoundaryModel
    truth: Curve


def run(quick: bool) -> Result:
    few = 4 if quick else 1
    rows, details = [], []
    for radius, tall in [(r, False) for r in SPHERES] + [(r, True) for r in DISCS]:
        for grows in (False, True):
            row, detail = _sizes(100 // (few * 5 if quick else 1), radius, tall, grows)
            rows.append(row)
            details.append(detail)
    rows += _rough(80 // (few * 5 if quick else 1), 2) + _rough(10 // (few if quick else 1), 3)
    rows += _alarms(500 // (few * 10 if quick else 1), quick)
    more, tables = _wrong(50 // (few * 3 if quick else 1))
    notes = [
        "Balls and discs of uptake 8 in 1, point spread 3 mm, voxels of 2.5 x 3 x 4 mm (discs: "
        "4 x 4 x 3), noise alike among neighbours, of sd 0.14 for sizes where nothing else is "
        "said and of 0.1 sqrt(mean) elsewhere (the model takes noise to be even); contoured from "
        "a point in the middle, in the slice of that point. A contour is wrong here when less than "
        f"{WITHIN:.0%} of its length lies within {DEFAULT_TOLERANCE_MM:g} mm of the truth. In "
        "pixels of more than 4 mm none is green at that tolerance.",
    ]
    return Result("Trust: sizes, false alarms, and greens that are wrong", [*rows, *more], notes,
                  details + tables)  # fmt: skip


def _seen(balls: list[Ball], seed: int, truth: Ball, **settings: Any) -> Seen | None:
    """None where the target finder refuses the image, or looks in a slice that misses the ball."""
    image = image_of_balls(balls, seed=seed, **settings)
    try:
        target = find_targets(image, point_mm=truth.centre, slices="point")[0]
        return Seen(boundary_model(target, intensity(image)), truth.section(target.plane))
    except InputError:
        return None


def _middle(rng: np.random.Generator, flat: bool) -> tuple[float, float, float]:
    """Somewhere in the middle voxel of the field of view."""
    shape, spacing = (np.array(v) for v in FLAT.values()) if flat else ((44, 40, 16), (2.5, 3, 4))
    spacing = np.asarray(spacing, dtype=float)
    shift = rng.uniform(-0.5, 0.5, 3) * (1, 1, 0 if flat else 1)
    x, y, z = spacing * ((np.asarray(shape) - 1) / 2 + shift)
    return float(x), float(y), float(z)


def _sizes(count: int, radius: float, tall: bool, grows: bool) -> tuple[Row, dict[str, Any]]:
    """Noise is 2% of the step, or grows with uptake, of which the model knows nothing."""
    seen = []
    noise: dict[str, Any] = {"grows": grows, "noise": 0.1 if grows else NOISE}
    for seed in range(count):
        ball = Ball(_middle(np.random.default_rng(seed), tall), radius, 7.0, tall)
        seen.append(_seen([ball], seed, ball, **noise, **(FLAT if tall else {})))
    seen = [each for each in seen if each is not None]
    posteriors = fit_many([each.model for each in seen])
    truth = np.array([each.truth.area for each in seen])
    found = [area_posterior(posterior) for posterior in posteriors]
    low, middle, high = np.array([list(area.quantiles.values()) for area in found]).T
    held = (low <= truth) & (truth <= high)
    grades = [grade(posterior) for posterior in posteriors]
    name = f"{'disc' if tall else 'ball'} of {radius:g} mm"
    name += " in noise that grows" if grows else ""
    interval = share_interval(int(held.sum()), len(held))
    row = Row(
        f"95% interval of the area holds that of a {name}", float(held.mean()),
        at_least=None if grows else 0.9, at_most=None if grows else 0.98,
        note=f"{len(held)} images; {interval[0]:.3f} to {interval[1]:.3f}",
    )  # fmt: skip
    return row, {
        "what": name,
        "median error %": float(100 * np.median(middle / truth - 1)),
        "half-width %": float(100 * np.median((high - low) / (2 * middle))),
        "green/amber/red": _counts(grades),
        "green and wrong": _wrong_greens(posteriors, grades, seen),
        "by chains": sum(posterior.method != "laplace" for posterior in posteriors),
    }


def _rough(count: int, dims: int) -> list[Row]:
    """How far off sizes are of lesions whose edges are rougher than the scanner can show."""
    models, truth = [], []
    for seed in range(3000, 3000 + count):
        phantom = pet_ct_phantom(seed, dims=dims)
        curves = [curve for curves in phantom.slices for curve in curves]
        side = 1.0 if dims == 2 else phantom.image["PT"].grid.spacing[2]
        truth.append(side * sum(curve.area for curve in curves))
        point = np.append(phantom.centre, 0.0)[:3]
        target = find_targets(phantom.image, point_mm=point, dims=dims)[0]
        models.append(boundary_model(target, intensity(phantom.image, "PT")))
    found = [area_posterior(posterior) for posterior in fit_many(models)]
    off = np.array([size.mean - true for size, true in zip(found, truth, strict=True)])
    z = off / np.array([size.sd for size in found])
    error = off / np.array(truth)
    name = {2: "areas of rough lesions in a slice", 3: "volumes of rough lesions"}[dims]
    note = (
        f"{count} phantoms; standard error {100 * error.std() / np.sqrt(count):.2f}%; in posterior "
        f"sds {z.mean():.2f} in the mean, sd {z.std():.2f}"
    )
    return [Row(f"{name}: mean error", 100 * float(error.mean()), "%", note=note)]


def _alarms(count: int, quick: bool) -> list[Row]:
    """How often images from the model are found fault with."""
    models = []
    for seed in range(count // 2):
        rng = np.random.default_rng(seed)
        ball = Ball(_middle(rng, False), float(rng.uniform(9, 24)), 7.0)
        each = _seen([ball], 5000 + seed, ball, noise=float(rng.uniform(0.1, 0.5)))
        models += [] if each is None else [each.model]
    pairs = []
    for seed in range(count - len(models)):
        phantom = pet_ct_phantom(5000 + seed)
        point = (float(phantom.centre[0]), float(phantom.centre[1]), 0.0)
        target = find_targets(phantom.image, point_mm=point)[0]
        models.append(boundary_model(target, intensity(phantom.image, "PT")))
        if seed < (4 if quick else 100):
            pairs.append(boundary_model(target, intensity(phantom.image)))
    rows = []
    alone, together = fit_many(models), fit_many(pairs)
    for words, asked, word, posteriors in (
        ("of one image, its own misfit", ALARM, "does not look", alone),
        ("of one image, uneven uptake by the region found", None, "may be uneven", alone),
        ("of one image, two lesions that touch", None, "narrows to", alone),
        ("of PET and CT, a contradiction", None, "contradict", together),
    ):
        hits = sum(
            any(word in finding.text for finding in p.diagnostics.findings) for p in posteriors
        )
        low, high = share_interval(hits, len(posteriors))
        rows.append(
            Row(f"false alarms: {words}", hits / len(posteriors), at_most=asked,
                note=f"{hits} of {len(posteriors)}; {low:.4f} to {high:.4f}")
        )  # fmt: skip
    return rows


def _ring(rng: np.random.Generator) -> tuple[list[Ball], Ball, dict[str, Any]]:
    centre = _middle(rng, False)
    ball = Ball(centre, float(rng.uniform(14, 24)), 7.0)
    core = Ball(centre, ball.radius * float(rng.uniform(0.35, 0.75)), -float(rng.uniform(3, 7)))
    return [ball, core], ball, {}


def _focus(rng: np.random.Generator) -> tuple[list[Ball], Ball, dict[str, Any]]:
    """A lesion that takes up 1.5 to 2.5 times as much in one place as elsewhere."""
    ball = Ball(_middle(rng, False), float(rng.uniform(14, 24)), float(rng.uniform(3, 6)))
    inner = ball.radius * float(rng.uniform(0.35, 0.65))
    off = (ball.radius - inner) * rng.uniform(0.2, 1.0)
    turn = rng.uniform(0, 2 * np.pi)
    x, y, z = ball.centre
    place = (x + off * float(np.cos(turn)), y + off * float(np.sin(turn)), z)
    return [ball, Ball(place, inner, ball.uptake * float(rng.uniform(0.5, 1.5)))], ball, {}


def _neighbour(rng: np.random.Generator) -> tuple[list[Ball], Ball, dict[str, Any]]:
    ball = Ball(_middle(rng, False), float(rng.uniform(10, 18)), 7.0)
    other = float(rng.uniform(8, 16))
    away = ball.radius + other + float(rng.uniform(-1, 5))
    turn = rng.uniform(0, 2 * np.pi)
    x, y, z = ball.centre
    place = (x + away * float(np.cos(turn)), y + away * float(np.sin(turn)), z)
    return [ball, Ball(place, other, float(rng.uniform(3, 9)))], ball, {}


def _tiny(rng: np.random.Generator) -> tuple[list[Ball], Ball, dict[str, Any]]:
    ball = Ball(_middle(rng, True), float(rng.uniform(3, 8)), 7.0, True)
    return [ball], ball, dict(FLAT)


KINDS: dict[str, Callable[[np.random.Generator], tuple[list[Ball], Ball, dict[str, Any]]]] = {
    "a cold core": _ring,
    "two levels": _focus,
    "a neighbour that touches": _neighbour,
    "next to no size": _tiny,
}


def _wrong(count: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """How many contours are green and wrong, of lesions that are not what the model thinks."""
    rows, tables, total = [], [], 0
    for name, draw in KINDS.items():
        seen, refused = [], 0
        for seed in range(count):
            balls, truth, settings = draw(np.random.default_rng(seed))
            each = _seen(balls, seed, truth, **settings)
            refused += each is None
            seen += [] if each is None else [each]
        posteriors = fit_many([each.model for each in seen])
        grades = [grade(posterior) for posterior in posteriors]
        bad = _wrong_greens(posteriors, grades, seen)
        total += bad
        right = [_near(p, s.truth) >= WITHIN for p, s in zip(posteriors, seen, strict=True)]
        alarmed = [bool(p.diagnostics.findings) for p in posteriors]
        caught = sum(a for a, r in zip(alarmed, right, strict=True) if not r)
        tables.append(
            {
                "what": f"a lesion with {name}",
                "images": len(seen),
                "refused": refused,
                "contours right": sum(right),
                "found fault with, of those wrong": f"{caught} of {right.count(False)}",
                "green/amber/red": _counts(grades),
                "green and wrong": bad,
            }
        )
    rows.append(
        Row(f"contours green and wrong, of {4 * count} lesions of four kinds", float(total),
            at_most=0)
    )  # fmt: skip
    return rows, tables


def _near(posterior: Posterior, truth: Curve) -> float:
    """The share of the estimate's length within the tolerance of the truth."""
    points = posterior.chart.points(posterior.estimate)
    step = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    length = 0.5 * (step + np.roll(step, 1))
    near = truth.distance_to(points) <= DEFAULT_TOLERANCE_MM
    return float(length[near].sum() / length.sum())


def _wrong_greens(posteriors: list[Posterior], grades: list[Any], seen: list[Seen]) -> int:
    each = zip(posteriors, grades, seen, strict=True)
    return sum(g.case == "green" and _near(p, s.truth) < WITHIN for p, g, s in each)


def _counts(grades: list[Any]) -> str:
    counted = Counter(each.case for each in grades)
    return "/".join(str(counted[name]) for name in ("green", "amber", "red"))
