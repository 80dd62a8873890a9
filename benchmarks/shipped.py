"""How good are the shipped networks on patients none of their parts has seen?

The third part of every recipe (aistat_jax.nets.recipes). Where a lesion is must be told: the
network and the fixed threshold both keep the component of the hottest voxel of the expert's mask
(the network: of its most probable voxel there). The contour head then starts from the network's
own region, slice by slice.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from aistat_jax._files import write_whole
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.networks import network_prior
from aistat_jax.boundary.targets import Target
from aistat_jax.inference.batch import fit_many
from aistat_jax.nets.edge_law import HARMONICS, RAYS, median, within
from aistat_jax.nets.edges import FeatureField, edge_at, feature_field, region_at
from aistat_jax.nets.predict import predict
from aistat_jax.nets.recipes import RECIPES, Drawn
from aistat_jax.nets.weights import SHIPPED, Net, load_net
from aistat_jax.space.basis import circle_basis, equal_angles
from aistat_jax.space.chart import interpolated
from aistat_jax.space.curve import contours_from_mask, last_exits
from aistat_jax.space.star import star_chart, unit_vectors
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.overlap import dice
from aistat_jax.uncertainty.probability import draw_masks, sample_masks
from aistat_jax.uncertainty.readers import ged_squared, matched_iou
from aistat_jax.uncertainty.representatives import representatives
from aistat_jax.uncertainty.scores import bootstrap_mean, score_case
from benchmarks._table import Result, Row
from benchmarks.patients import collections
from benchmarks.real_pet import components

LEVELS = (0.5, 0.8, 0.95)
SAMPLES = 16
THRESHOLD = 0.41
MIDDLE_SD = 6.0  # px; in the training part 95% of nodules lie within 10 px of the middle


class Outlined(NamedTuple):
    """A posterior to come, and the radii (ray,) at which an expert drew the boundary."""

    model: BoundaryModel
    exits: np.ndarray
    patient: str


def run(quick: bool, name: str) -> Result:
    recipe, net = RECIPES[name], load_net(name)
    cases = list(recipe.cases(collections(), "validation"))
    if quick:
        cases = cases[:: max(1, len(cases) // 8)]
    rows = readers(net, cases) if name == "nodule-ct-2d" else lesions(net, cases)
    notes = [
        f"{len(cases)} cases of {len({case.patient for case in cases})} patients, none of them "
        "seen in training; 95% intervals by bootstrap over patients. " + recipe.data + ".",
    ]
    if not quick:
        write_card(name, rows, notes)
    return Result(f"The shipped network {name}", rows, notes)


def write_card(name: str, rows: list[Row], notes: list[str]) -> None:
    """The scores into the network's model card, as JSON and as a page to read."""
    folder = SHIPPED / name
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["scores"] = {row.figure: {"value": row.measured, "note": row.note} for row in rows}
    card["scores on"] = notes
    write_whole(folder / "card.json", json.dumps(card, indent=1, default=float) + "\n")
    members = card["parameters"]["members"]
    table = "\n".join(f"| {row.figure} | {row.measured:.3g} | {row.note} |" for row in rows)
    write_whole(
        folder / "MODEL_CARD.md",
        f"# {name}\n\n{card['data']}. Licence of the data: {card['licence']}; {card['limits']}.\n\n"
        f"Made by `{card['command']}`: {card['parts']}. "
        f"{card['parameters']['unet']:,} parameters in {'each' if members > 1 else 'the'} U-Net "
        f"{f'of {members} ' if members > 1 else ''}and "
        f"{card['parameters']['contour head']:,} in the contour head.\n\n"
        f"## Scores\n\n{' '.join(notes)}\n\n| score | value | |\n|---|---|---|\n{table}\n",
    )


# ------------------------------------------------------------------------- PET and phantoms


def lesions(net: Net, cases: list[Drawn]) -> list[Row]:
    """Regions against the expert's, and against a fixed threshold's; edges slice by slice."""
    table: dict[str, list[tuple[str, float]]] = {}

    def note(figure: str, patient: str, value: float) -> None:
        table.setdefault(figure, []).append((patient, value))

    held: dict[float, list[tuple[str, float]]] = {level: [] for level in LEVELS}
    drawn: list[Outlined] = []
    for case in cases:
        channel, expert = case.image.primary, case.masks[..., 0]
        odds = predict(net, case.image).log_odds[..., 0]
        found = {
            "network": _component(odds > 0, _best(odds, expert)),
            "41% of SUVmax": _threshold(channel.values, expert),
        }
        for who, region in found.items():
            (score,) = score_case(
                region.astype(int), expert.astype(int), channel.grid.spacing, ["lesion"],
                tolerance=2.0, unit=channel.unit,
            )  # fmt: skip
            note(f"{who}: Dice", case.patient, score.dice)
            note(f"{who}: surface Dice at 2 mm", case.patient, score.surface_dice)
            note(f"{who}: HD95, mm", case.patient, score.hd95)
        drawn += _edges(net, case, found["network"], expert, note, held)
    rows = [_mean_row(figure, found) for figure, found in table.items()] + _held_rows(held)
    return rows + _band_rows(drawn)


def _edges(
    net: Net, case: Drawn, region: np.ndarray, expert: np.ndarray, note: Any, held: Any
) -> Iterator[Outlined]:
    """The contour head on every slice that both the network and the expert see the lesion in."""
    if not region.any():
        return
    field, grid = feature_field(net, case.image), case.image.primary.grid
    for k in range(grid.shape[2]):
        if min(region[:, :, k].sum(), expert[:, :, k].sum()) < 6:
            continue
        plane = grid.plane(k)
        target = Target.from_mask(region[:, :, k], plane)
        edge = edge_at(field, plane, target.centre, target.radius)
        curve = max(contours_from_mask(expert[:, :, k], plane), key=lambda c: c.area)
        exits = last_exits(curve.points, target.centre, unit_vectors(equal_angles(RAYS)))
        if not (exits > 0).all():
            continue
        _count_held(edge, np.log(exits / target.radius), case.patient, held)
        prior = network_prior(net, field, target)
        yield Outlined(boundary_model(target, prior=prior, rays=RAYS), exits, case.patient)
        drawn = _inside(target, target.radius * np.exp(median(edge)), plane)
        note("contour head, slices both see: Dice", case.patient, dice(drawn, expert[:, :, k]))
        note(
            "network, the same slices: Dice", case.patient,
            dice(region[:, :, k], expert[:, :, k]),
        )  # fmt: skip


def _band_rows(drawn: list[Outlined]) -> list[Row]:
    """Whether whole boundaries lie in their band, as far as the harmonics that a posterior has."""
    posteriors = fit_many([outlined.model for outlined in drawn], draws=1000)
    circle = np.asarray(circle_basis(equal_angles(RAYS), HARMONICS).functions)
    held, widths, who = [], [], [outlined.patient for outlined in drawn]
    for posterior, outlined in zip(posteriors, drawn, strict=True):
        band = simultaneous_band(posterior, 0.95)
        truth = np.exp(circle @ (circle.T @ np.log(outlined.exits) / RAYS))
        held.append(float(band.contains(truth)))
        widths.append(float(np.median(band.half_width)) / outlined.model.target.radius)
    mean = bootstrap_mean(held, who)
    trusted = np.mean([posterior.diagnostics.converged for posterior in posteriors])
    return [
        Row("contour head: 95% band holds the expert's whole boundary", mean.value,
            note=f"95% interval {mean.low:.3f} to {mean.high:.3f}, {len(held)} slices, "
                 f"{trusted:.0%} of which pass their diagnostics"),
        Row("contour head: half-width of that band over the rough radius, median",
            float(np.median(widths))),
    ]  # fmt: skip


def _count_held(edge: Any, truth: np.ndarray, patient: str, held: Any) -> None:
    for level in LEVELS:
        held[level].append((patient, float(within(edge, truth, level).mean())))


def _held_rows(held: dict[float, list[tuple[str, float]]]) -> list[Row]:
    """Coverage of the per-ray intervals, which is to be within 3 points of nominal."""
    rows = []
    for level, found in held.items():
        mean = bootstrap_mean([value for _, value in found], [who for who, _ in found])
        rows.append(
            Row(f"contour head: rays within their {level:.0%} interval", mean.value,
                at_least=level - 0.03, at_most=level + 0.03,
                note=f"95% interval {mean.low:.3f} to {mean.high:.3f}, {len(found)} contours")
        )  # fmt: skip
    return rows


def _mean_row(figure: str, found: list[tuple[str, float]], **asked: Any) -> Row:
    patients, values = zip(*found, strict=True)
    mean = bootstrap_mean(list(values), list(patients))
    note = f"95% interval {mean.low:.3f} to {mean.high:.3f}"
    return Row(f"{figure}, mean", mean.value, note=note, **asked)


def _best(odds: np.ndarray, expert: np.ndarray) -> tuple[int, ...]:
    place = int(np.argmax(np.where(expert, odds, -np.inf)))
    return tuple(int(n) for n in np.unravel_index(place, odds.shape))


def _threshold(values: np.ndarray, expert: np.ndarray) -> np.ndarray:
    hottest = _best(values, expert)
    return _component(values >= THRESHOLD * values[hottest], hottest)


def _component(mask: np.ndarray, voxel: tuple[int, ...]) -> np.ndarray:
    labels = components(mask)
    return (labels == labels[voxel]) & mask


def _inside(target: Target, radii: np.ndarray, plane: Any) -> np.ndarray:
    """Pixels whose centres lie within a star of radii on the head's rays."""
    chart = star_chart(target.centre, 4 * target.radius, plane, RAYS)
    points = plane.points().reshape(-1, 2)
    return (chart.position(points) <= interpolated(chart, radii, points)).reshape(plane.shape)


# ------------------------------------------------------------------------- several readers


def readers(net: Net, cases: list[Drawn]) -> list[Row]:
    """Samples of the posterior against four readers, and the readers against each other."""
    table: dict[str, list[tuple[str, float]]] = {}
    held: dict[float, list[tuple[str, float]]] = {level: [] for level in LEVELS}
    for case, masks, samples, chosen, edge, target in _sampled(net, cases):
        drew = masks.any(axis=(1, 2))
        values = {
            "GED^2, 16 samples": ged_squared(samples, masks),
            "Hungarian-matched IoU": matched_iou(samples, masks),
            "GED^2, 16 representatives": ged_squared(chosen, masks),
            "Hungarian-matched IoU of representatives": matched_iou(chosen, masks),
            "Brier score of presence": float(np.mean((expit(edge.presence) - drew) ** 2)),
        }
        middle = _inside(target, target.radius * np.exp(median(edge)), target.plane)
        present = masks[drew]
        compared = {
            "contour head against a reader who drew": [(middle, mask) for mask in present],
            "reader against reader, both drew": list(itertools.combinations(present, 2)),
        }
        for who, pairs in compared.items():
            values |= {f"{who}: {what}": value for what, value in _mean_scores(pairs).items()}
        for figure, value in values.items():
            table.setdefault(figure, []).append((case.patient, value))
        for mask in present:
            curves = contours_from_mask(mask, target.plane) if mask.sum() >= 6 else []
            if not curves:
                continue
            outline = max(curves, key=lambda c: c.area).points
            exits = last_exits(outline, target.centre, unit_vectors(equal_angles(RAYS)))
            if (exits > 0).all():
                _count_held(edge, np.log(exits / target.radius), case.patient, held)
    asked = {
        "GED^2, 16 samples": {"at_most": 0.20},
        "Hungarian-matched IoU": {"at_least": 0.61},
        "GED^2, 16 representatives": {"at_most": 0.20},
        "Hungarian-matched IoU of representatives": {"at_least": 0.61},
    }
    rows = [_mean_row(figure, found, **asked.get(figure, {})) for figure, found in table.items()]
    return rows + _held_rows(held)


def _sampled(net: Net, cases: list[Drawn], batch: int = 64) -> Iterator[tuple[Any, ...]]:
    """Each case with its readers' masks, samples and representatives, edge and target."""
    for first in range(0, len(cases), batch):
        chunk, targets, found, models = cases[first : first + batch], [], [], []
        for case in chunk:
            field = feature_field(net, case.image)
            target = target_of(field, case)
            edge = edge_at(field, target.plane, target.centre, target.radius)
            targets.append(target)
            found.append(edge)
            prior, there = network_prior(net, field, target), float(expit(edge.presence))
            models.append(
                boundary_model(
                    target, prior=prior, rays=RAYS, radius_max=4 * target.radius,
                    presence=max(there, 1e-6),
                )
            )  # fmt: skip
        posteriors = fit_many(models, draws=200, seed=first)
        for n, case in enumerate(chunk):
            masks = np.moveaxis(case.masks[:, :, 0], -1, 0)
            samples = sample_masks(posteriors[n], SAMPLES, seed=first + n)
            few = representatives(posteriors[n], SAMPLES)
            chosen = np.zeros_like(samples)
            there = round(few.presence * SAMPLES)
            chosen[:there] = draw_masks(few)[:there]
            yield case, masks, samples, chosen, found[n], targets[n]


def target_of(field: FeatureField, case: Drawn) -> Target:
    """The region of the most probable pixel (`likeliest_pixel`)."""
    odds = field.values[:, :, 0, -1]
    region = region_at(expit(odds), likeliest_pixel(odds))
    return Target.from_mask(region, case.image.primary.grid.plane(0))


def likeliest_pixel(odds: np.ndarray) -> tuple[int, ...]:
    """The most probable pixel of a crop, by log-odds (i, j).

    A pixel d from the middle of the crop counts exp(-d^2 / (2 MIDDLE_SD^2)) as much: the crops are
    centred on a nodule, which methods that are trained on whole crops learn by themselves.
    """
    offset = np.moveaxis(np.indices(odds.shape), 0, -1) - (np.array(odds.shape) - 1) / 2
    middle = np.exp(-0.5 * np.square(offset).sum(axis=-1) / MIDDLE_SD**2)
    place = np.unravel_index(int((expit(odds) * middle).argmax()), odds.shape)
    return tuple(int(n) for n in place)


def _mean_scores(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means over pairs of masks in pixels; a distance only over those that both hold something."""
    found = [
        score_case(
            one[..., None].astype(int), other[..., None].astype(int), np.ones(3), ["nodule"],
            tolerance=2.0, unit="px",
        )[0]
        for one, other in pairs
    ]  # fmt: skip
    scores = {
        "Dice": [score.dice for score in found],
        "surface Dice at 2 px": [score.surface_dice for score in found],
        "HD95, px": [score.hd95 for score in found],
    }
    finite = {what: [v for v in each if np.isfinite(v)] for what, each in scores.items()}
    return {what: float(np.mean(each)) for what, each in finite.items() if each}
