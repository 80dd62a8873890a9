"""How were the shipped networks made? `python -m aistat_jax.nets.recipes NAME --out FOLDER`.

A recipe names its data, splits them by patient into three parts (the U-Net learns from the first,
the contour head from the second, and nothing from the third, on which the scores are measured)
and sizes a network that two CPU cores train within about an hour.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from aistat_jax._errors import InputError
from aistat_jax.data.collections import data_root, lung_nodules, sarcoma_patients
from aistat_jax.data.phantoms import Phantom, pet_ct_phantom
from aistat_jax.data.shapes import KINDS
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.batches import Learnable, learnable
from aistat_jax.nets.checkpoints import Point
from aistat_jax.nets.domain import Domain, Measured, measured_for, save_domain
from aistat_jax.nets.domain_fitting import fit_domain
from aistat_jax.nets.edges import edge_and_look, feature_field
from aistat_jax.nets.head_training import (
    HeadSettings,
    Unrolled,
    seen_place,
    slices_in,
    train_head,
)
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.nets.train import TrainSettings, train
from aistat_jax.nets.variation import Sometimes, settings_for
from aistat_jax.nets.weights import Net, load_net, save_net
from aistat_jax.space.image import Image

PARTS = ("unet", "head", "validation")
# Of a patient's images, of an image's slices, and of patients that are looked at through a network:
# so many tell what it was trained on.
MOST, LOOKED_AT = 6, 300


@dataclass(frozen=True, eq=False)
class Drawn:
    """One image and what was drawn on it.

    masks (i, j, k, reader): one reader, or several; a reader's may be empty. patient names who
    it is of.
    """

    image: Image
    masks: np.ndarray
    patient: str


@dataclass(frozen=True)
class Recipe:
    """A network: its plan, how it learns, and where its cases come from.

    cases(root, part) yields the cases of one of PARTS; root is the folder of the collections.
    members: how many U-Nets learn, alike but from seeds of their own.
    """

    name: str
    plan: Plan
    settings: TrainSettings
    head: HeadSettings
    cases: Callable[[Path | None, str], Iterable[Drawn]]
    data: str
    licence: str
    members: int = 1


def part_of(patient: str, shares: tuple[float, float, float]) -> str:
    """The part of PARTS a patient belongs to, by a hash of the name: it never moves."""
    place = int(hashlib.sha256(patient.encode()).hexdigest()[:8], 16) / 16**8
    edges = np.cumsum(shares) / sum(shares)
    return PARTS[int(np.searchsorted(edges, place, side="right"))]


def _plan(
    name: str, channels: tuple[str, ...], quantities: tuple[str, ...],
    normalisations: tuple[Normalisation, ...], patch: int, batch: int, spacing_mm: float,
    unit: str = "mm",
) -> Plan:  # fmt: skip
    widths = (16, 32, 64, 96)
    architecture = Architecture(
        dims=2, channels=len(channels), classes=2, widths=widths,
        strides=((2, 2),) * (len(widths) - 1),
    )  # fmt: skip
    return Plan(
        name, architecture, channels, quantities, ("background", "lesion"), normalisations,
        (spacing_mm, spacing_mm, spacing_mm), (patch, patch), batch, unit=unit,
    ).check()  # fmt: skip


# --------------------------------------------------------------------------------- phantoms


def varied_phantom(seed: int) -> Phantom:
    """A 2D PET/CT lesion of random size, form, contrast, noise and resolution in a pelvis."""
    for attempt in range(20):
        rng = np.random.default_rng([seed, attempt])
        try:
            return pet_ct_phantom(
                seed + 1_000_000 * attempt, shape=(64, 64), spacing_mm=(4.0, 4.0),
                ct_spacing_mm=2.0,
                kind=str(rng.choice(KINDS)) if rng.random() < 0.25 else "gp",
                radius_mm=float(np.exp(rng.uniform(math.log(8), math.log(36)))),
                amplitude=float(np.clip(0.15 * np.exp(0.5 * rng.standard_normal()), 0.03, 0.3)),
                contrast=float(np.exp(rng.uniform(math.log(2), math.log(10)))),
                ct_contrast_hu=float(rng.uniform(-40, 40)),
                pet_fwhm_mm=float(rng.uniform(5, 9)),
                noise=float(rng.uniform(0.08, 0.3)),
                noise_correlation_mm=float(rng.uniform(0, 6)),
                heterogeneity=float(rng.uniform(0, 0.3)),
                necrosis=bool(rng.random() < 0.15),
                scene="body",
            )  # fmt: skip
        except InputError:  # a lesion too large for its place: draw again
            continue
    raise InputError(f"seed {seed} makes no phantom")


PHANTOMS = {
    "unet": range(0, 600),
    "head": range(10_000, 10_400),
    "validation": range(20_000, 20_300),
}


def _phantoms(root: Path | None, part: str) -> Iterable[Drawn]:
    for seed in PHANTOMS[part]:
        phantom = varied_phantom(seed)
        yield Drawn(phantom.image, phantom.mask[..., None], f"phantom{seed}")


# ---------------------------------------------------------------------------------- sarcoma


def _sarcomas(root: Path | None, part: str) -> Iterable[Drawn]:
    for folder in sarcoma_patients(data_root(root)):
        if part_of(folder.name, (0.5, 0.2, 0.3)) == part:
            image = read_image(PT=folder / "PET_image.nii.gz")
            mask = read_mask(folder / "PET_mask.nii.gz", image.primary)
            yield Drawn(image, mask[..., None], folder.name)


# ----------------------------------------------------------------------------------- nodules


def _nodules(root: Path | None, part: str) -> Iterable[Drawn]:
    found = lung_nodules(data_root(root), "val" if part == "validation" else "train")
    for grey, masks, patient in zip(found.images, found.masks, found.patients, strict=True):
        name = f"lidc{patient}"
        if part != "validation" and part_of(name, (0.7, 0.3, 0.0)) != part:
            continue
        image = Image.from_arrays(CT=grey[..., None].astype(float))
        yield Drawn(image, np.moveaxis(masks, 0, -1)[:, :, None], name)


# 190 patients are soon learned by heart. So varied, patients left out were read better at 2000
# steps and no worse at the end.
_VARIED = replace(
    settings_for((64, 64)),
    rotation_deg=Sometimes(1.0, -180.0, 180.0),
    zoom=Sometimes(0.5, 0.7, 1.4),
    elastic_sd_mm=Sometimes(0.5, 0.5, 3.0),
    noise_sd=Sometimes(0.3, 0.0, 0.2),
)
_SUV = Normalisation("suv", 0.0, 40.0, 0.0, 4.0)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "phantom-petct-2d",
            _plan("phantom-petct-2d", ("PT", "CT"), ("SUV", "HU"),
                  (_SUV, Normalisation("ct", -160.0, 240.0, 40.0, 60.0)), 64, 16, 4.0),
            TrainSettings(steps=1200, learning_rate=2e-3, dtype="float32"),
            HeadSettings(),
            _phantoms,
            "600 synthetic PET/CT lesions (aistat_jax.data.phantoms), 400 more for the contour "
            "head, 300 for validation",
            "Apache-2.0",
        ),
        Recipe(
            "lesion-pet-2d",
            _plan("lesion-pet-2d", ("PT",), ("SUV",), (_SUV,), 64, 16, 4.0),
            TrainSettings(steps=1500, learning_rate=2e-3, dtype="float32"),
            HeadSettings(),
            _sarcomas,
            "FDG-PET of the soft-tissue sarcoma collection (Vallieres et al. 2015), NIfTI of the "
            "Image Biomarker Standardisation Initiative, 40 patients split by name",
            "CC BY 3.0",
        ),
        Recipe(
            "nodule-ct-2d",
            _plan("nodule-ct-2d", ("CT",), ("HU",), (Normalisation("zscore"),), 64, 16, 1.0, "px"),
            TrainSettings(steps=6000, learning_rate=2e-3, dtype="float32", augmentation=_VARIED),
            HeadSettings(absent=0.0),  # every slice has a nodule that someone drew
            _nodules,
            "CT slices of lung nodules with four readers (LIDC-IDRI), 271 patients to learn "
            "from and 63 for validation",
            "CC BY 3.0",
            members=2,
        ),
    )
}  # fmt: skip


def train_unet(recipe: Recipe, root: Path | None, folder: Path) -> Net:
    """The U-Nets of a recipe, judged during training on cases of the head's part."""
    learned, held_out = (learnable_cases(recipe, root, part) for part in ("unet", "head"))
    nets = []
    for n in range(recipe.members):
        settings = replace(recipe.settings, seed=recipe.settings.seed + n)
        with tqdm(total=settings.steps, desc=f"{recipe.name} {n}", unit="step") as bar:

            def show(point: Point, bar: Any = bar) -> None:
                bar.update(point.step - bar.n)
                if point.validation_dice:
                    dice = f"{point.validation_dice[0]:.3f}"
                    bar.set_postfix(loss=f"{point.loss:.3f}", dice=dice)

            at = folder / f"training-{n}"
            nets.append(train(recipe.plan, learned, held_out, settings, at, progress=show).net)
    return replace(nets[0], members=tuple(net.members[0] for net in nets))


def train_recipe_head(recipe: Recipe, net: Net, root: Path | None) -> Net:
    """The network with its contour head, which learns from the second part of the cases."""
    rng = np.random.default_rng(recipe.head.seed)
    targets: dict[str, list[Unrolled]] = {}
    for case in tqdm(recipe.cases(root, "head"), desc="unrolling", unit="case"):
        field, grid = feature_field(net, case.image), case.image.primary.grid
        found = slices_in(field, case.masks, grid, rng, recipe.head)
        targets.setdefault(case.patient, []).extend(found)
    heads = 1 + recipe.head.folds
    with tqdm(total=heads * recipe.head.steps, desc=f"{recipe.name} head", unit="step") as bar:

        def show(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{loss:.3f}")

        return train_head(net, targets, recipe.head, show)


def domain_of(recipe: Recipe, net: Net, root: Path | None) -> Domain:
    """What a recipe's network was trained on: the cases of its first two parts.

    At most MOST images of each patient are measured, evenly spread, and the first of them is looked
    at through the network, of at most LOOKED_AT patients.
    """
    plan = recipe.plan
    images: list[tuple[str, Measured]] = []
    inverted: list[tuple[str, Measured]] = []
    edges: list[tuple[str, np.ndarray]] = []
    looked: set[str] = set()
    cases = (case for part in PARTS[1::-1] for case in recipe.cases(root, part))
    for case in tqdm(_few(cases), desc=f"{recipe.name} domain", unit="case"):
        who = case.patient
        images.append((who, measured_for(plan, case.image)))
        if any(how.kind.startswith("zscore") for how in plan.normalisations):
            inverted.append((who, measured_for(plan, case.image, inverted=True)))
        if who not in looked and len(looked) < LOOKED_AT:
            looked.add(who)
            edges += [(who, look) for look in looks_at(net, case)]
    units = {
        name: "sd" if how.kind.startswith("zscore") else quantity
        for name, quantity, how in zip(
            plan.channels, plan.quantities, plan.normalisations, strict=True
        )
    }
    return fit_domain(recipe.name, images, edges, inverted=inverted, unit=plan.unit, units=units)


def _few(cases: Iterable[Drawn]) -> Iterable[Drawn]:
    """At most MOST cases of each patient, whose cases lie next to each other."""
    for _, of_it in itertools.groupby(cases, lambda case: case.patient):
        all_of_it = list(of_it)
        yield from all_of_it[:: math.ceil(len(all_of_it) / MOST)]


def looks_at(net: Net, case: Drawn) -> list[np.ndarray]:
    """What the features show about the edges of what was drawn, in at most MOST slices."""
    drawn = [k for k in range(case.masks.shape[2]) if case.masks[:, :, k].any()]
    if not drawn:
        return []
    field, grid, found = feature_field(net, case.image), case.image.primary.grid, []
    for k in drawn[:: math.ceil(len(drawn) / MOST)]:
        plane = grid.plane(k)
        middle, radius = seen_place(field, np.asarray(case.masks[:, :, k].any(axis=-1)), plane)
        found.append(edge_and_look(field, plane, middle, radius)[1])
    return found


def learnable_cases(recipe: Recipe, root: Path | None, part: str) -> list[Learnable]:
    """The cases of a part as the network learns from them, one with several readers or one."""
    found = []
    for n, case in enumerate(recipe.cases(root, part)):
        drawn = case.masks.astype(np.int32)
        several = drawn.shape[-1] > 1
        found.append(
            learnable(
                recipe.plan, case.image, None if several else drawn[..., 0],
                drawn if several else None, name=f"{case.patient}-{n}",
            )
        )  # fmt: skip
    return found


def card_of(recipe: Recipe, net: Net) -> dict[str, Any]:
    """The model card of a recipe's network, without the scores that a benchmark adds."""
    return {
        "name": recipe.name,
        "data": recipe.data,
        "licence": recipe.licence,
        "parts": "the U-Net, its contour head and the validation each have patients of their own",
        "command": f"python -m aistat_jax.nets.recipes {recipe.name} --out FOLDER",
        "parameters": {
            "unet": net.parameters,
            "members": len(net.members),
            "contour head": sum(w.size for w in (net.head or {}).values()),
        },
        "settings": {"unet": asdict(recipe.settings), "contour head": asdict(recipe.head)},
        "limits": "for research and teaching; not for clinical use",
        "training": net.card,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aistat_jax.nets.recipes", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="folder of the collections (or $AISTAT_DATA)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="folder for the network")
    where.add_argument("--domain", type=Path, help="a network's folder: what was it trained on?")
    given = parser.parse_args()
    recipe = RECIPES[given.name]
    if given.domain is not None:
        save_domain(domain_of(recipe, load_net(given.domain), given.data), given.domain)
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    net = train_unet(recipe, given.data, given.out)
    net = train_recipe_head(recipe, net, given.data)
    net = replace(net, card=card_of(recipe, net), domain=domain_of(recipe, net, given.data))
    print(save_net(net, given.out / recipe.name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
