"""Does a surface head draw what an expert would, and is it right about its own errors?

The 40 scans of the soft-tissue sarcoma collection, three points in each (benchmarks/readings.py).
Patients are left out: the head has learned from four fifths of the others, how large its errors
are from how far off such heads are on patients left out, and the weights of the readings from all
other patients.

`python -m benchmarks.surface_head` learns from all, and keeps the head that ships;
`python -m benchmarks.surface_head domain` only keeps what it was trained on.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from typing import Any

import numpy as np

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax.boundary.experts import (
    FIELDS,
    QUANTITY,
    VARIES,
    expert_read,
    fields_of,
    measured_in_space,
)
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.meant import chosen
from aistat_jax.boundary.readings import weighed_by
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.nets.domain import Domain, save_domain
from aistat_jax.nets.domain_fitting import fit_domain
from aistat_jax.nets.surface_net import SurfaceNet, load_surface_net, save_surface_net
from aistat_jax.nets.surface_training import SETTINGS, CrossFitted, Lesion, train_surface
from aistat_jax.nets.weights import SHIPPED
from aistat_jax.space.image import Image
from benchmarks._table import Result, Row
from benchmarks.patients import patients, starts
from benchmarks.readings import Asked, asked, weights_without

NAME, POOR = "lesion-pet-3d", 0.5
EMPTY = SurfaceNet(NAME, QUANTITY, FIELDS, {})
# A surface is held whole where the expert's leaves the band by no more than this share of a voxel.
SLACK = 0.5


@cache
def picture(patient: str) -> tuple[Image, np.ndarray]:
    (folder,) = [each for each in patients() if each.name == patient]
    image = read_image(PT=folder / "PET_image.nii.gz")
    return image, read_mask(folder / "PET_mask.nii.gz", image.primary)


def lesion(point: Asked, few: int | None) -> Lesion | None:
    """What a head learns from one point; None where it is taken for what is cut off."""
    image, mask = picture(point.patient)
    channel, readings = image.primary, point.read(np.array(weights_without(point.patient, few)))
    region = chosen(channel, point.index, readings)
    try:
        (target,) = find_targets(image, mask=region.mask, dims=3).found
    except (InputError, ValueError):
        return None
    field = fields_of(channel, point.index, readings, region.mask)
    return Lesion(point.patient, field, mask[readings.box], target.centre, target.radius)


@cache
def learned(few: int | None = None) -> CrossFitted:
    """Heads that have learned from all patients (the first `few`), and from all but a fifth."""
    lesions = [one for each in asked(few) if (one := lesion(each, few)) is not None]
    return train_surface(EMPTY, lesions, VARIES)


def contoured(point: Asked, net: SurfaceNet, few: int | None) -> dict[str, Any]:
    """One point through `aj.contour`, beside the expert."""
    image, mask = picture(point.patient)
    grid = image.primary.grid
    place = [float(x) for x in grid.to_world(point.index)]
    row: dict[str, Any] = {"patient": point.patient, "point": point.index.tolist()}
    with weighed_by(np.array(weights_without(point.patient, few))):
        try:
            case = aj.contour(image, point_mm=place, net=net, reference=mask)
        except InputError as error:
            return row | {"Dice": 0.0, "refused": str(error)}
    assert case.agreement is not None
    (one,) = case
    row |= {"Dice": case.agreement.dice, "grade": one.grade.case}
    band, content = one.band, one.content
    volume = float(mask.sum() * np.prod(grid.spacing))
    low, middle, high = np.quantile(content.draws, [0.025, 0.5, 0.975])
    radius = np.cbrt(0.75 * middle / np.pi)
    row |= {
        "volume held": bool(low <= volume <= high),
        "volume, half-width": (high - low) / 2 / middle,
        "half-width": float(np.median(band.half_width) / radius),
    }
    try:
        radii = one.chart.values_of(one.reference)
    except (InputError, TypeError):
        return row | {"points held": 0.0, "surface held": False, "pointwise half-width": np.inf}
    slack = SLACK * float(grid.spacing.min())
    place, share = aj.pointwise_band(one.posterior), one.chart.weights(radii)
    inside = (radii >= place.lower) & (radii <= place.upper)
    loosely = (radii >= band.lower - slack) & (radii <= band.upper + slack)
    held = {"points held": float(share @ inside / share.sum()), "surface held": bool(loosely.all())}
    return row | held | {"pointwise half-width": float(np.median(place.half_width) / radius)}


def run(quick: bool) -> Result:
    title = "A surface head on 40 sarcomas from one point, patients left out"
    if not patients():
        said = "Skipped: the sarcoma collection was not found; set AISTAT_DATA to its folder."
        return Result(title, [], [said])
    few = 5 if quick else None
    nets = learned(few).left_out
    details = [
        contoured(each, nets[each.patient], few) for each in asked(few) if each.patient in nets
    ]
    deepest = details[::3]
    rows = []
    for name, some in (("deepest point", deepest), ("all points", details)):
        dices = np.array([row["Dice"] for row in some])
        rows += [
            Row(f"{name}: Dice, median", float(np.median(dices)), at_least=0.8),
            Row(f"{name}: Dice, mean", float(dices.mean()), at_least=0.77),
            Row(f"{name}: share below {POOR}", float((dices < POOR).mean()), at_most=0.05),
        ]
        there = [row for row in some if "points held" in row]

        def share(figure: str, rows: list[dict[str, Any]] = there) -> float:
            return float(np.mean([row[figure] for row in rows]))

        halves = [row["half-width"] for row in there]
        places = [row["pointwise half-width"] for row in there]
        volumes = [row["volume, half-width"] for row in there]
        rows += [
            Row(f"{name}, pointwise 95% band: points of the expert's surface held",
                share("points held"), at_least=0.93, at_most=0.97),
            Row(f"{name}, pointwise 95% band: half-width over the radius, median",
                float(np.median(places)), at_most=0.5),
            Row(f"{name}, 95% band of the whole surface: expert's surfaces held",
                share("surface held"), at_least=0.85, note=f"within {SLACK:g} of a voxel"),
            Row(f"{name}, 95% band of the whole surface: half-width over the radius, median",
                float(np.median(halves)), at_most=0.5),
            Row(f"{name}: 95% interval of the volume holds", share("volume held"), at_least=0.85),
            Row(f"{name}: half of that interval over the volume, median",
                float(np.median(volumes))),
        ]  # fmt: skip
    refused = sum("refused" in row for row in details)
    notes = [
        f"{len(details)} points in {len(nets)} patients, {refused} refused in a sentence (Dice 0, "
        "left out of the other figures). Heads learn without a fifth of the patients; a patient's "
        "points are read by weights learned without this patient (those that a head learned from "
        "without their own: six numbers that have seen who is left out). Fields and form of the "
        "head were chosen with a look at two of the fifths.",
        "In the mean over three points of a patient; the three are not independent.",
    ]
    return Result(title, rows, notes, details)


def domain_of(net: SurfaceNet) -> Domain:
    """What a head was trained on: all patients, each looked at from its deepest point."""
    images, edges = [], []
    for folder in patients():
        image, mask = picture(folder.name)
        channel = image.primary
        images.append((folder.name, measured_in_space(net, channel)))
        point = channel.grid.to_world(starts(mask, channel)["deepest"])
        edges.append((folder.name, expert_read(net, image, point.tolist()).seen))
    return fit_domain(net.name, images, edges, units={net.quantity: net.quantity})


def main() -> None:
    """Learn from all patients, and keep the head with what is known of it."""
    if sys.argv[1:] == ["domain"]:
        save_domain(domain_of(load_surface_net(NAME)), SHIPPED / NAME)
        return
    rows = run(False).rows
    net = learned().net
    card = {
        "name": NAME,
        "data": "FDG-PET of the soft-tissue sarcoma collection (Vallieres et al. 2015), NIfTI of "
        "the Image Biomarker Standardisation Initiative, 40 patients, three points in each",
        "licence": "CC BY 3.0",
        "command": "python -m benchmarks.surface_head",
        "parameters": net.parameters,
        "settings": dataclasses.asdict(SETTINGS),
        "limits": "for research and teaching; not for clinical use",
        "patients left out": {row.figure: round(row.measured, 3) for row in rows},
    }
    net = dataclasses.replace(net, card=card, domain=domain_of(net))
    folder = save_surface_net(net, SHIPPED / NAME)
    write_whole(folder / "MODEL_CARD.md", page_of(card))


def page_of(card: dict[str, Any]) -> str:
    """A model card to read."""
    table = "\n".join(
        f"| {name} | {value:g} |" for name, value in card["patients left out"].items()
    )
    return (
        f"# {card['name']}\n\n{card['data']}. Licence of the data: {card['licence']}; "
        f"{card['limits']}.\n\nMade by `{card['command']}`: a surface head of "
        f"{card['parameters']:,} parameters, which reads log uptake and the vote of all readings "
        "of a point along rays in space, and says where the expert would draw the lesion, and how "
        "far off that is.\n\n## Patients left out\n\nFor each fifth of the patients a head that "
        f"has learned from the others.\n\n| figure | value |\n|---|---|\n{table}\n"
    )


if __name__ == "__main__":
    main()
