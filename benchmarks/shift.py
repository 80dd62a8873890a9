"""Is an image unlike those a network was trained on found out, for the right reason, and no other?

Doubled pixels (means over blocks; and a header that is wrong), bright and dark exchanged, a CT in
the place of a PET, a pelvis or thigh in the place of a thorax: each must be red and say why. What
is said of images of patients that no part of the network has seen, as they are, is a false alarm.
The limits were made from the first two parts of a recipe's cases (`nets.domain_fitting`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.experts import measured_in_space
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.nets.domain import ANATOMY, INTENSITY, INVERTED, SPACING, WIDTH, measured_for
from aistat_jax.nets.predict import predict
from aistat_jax.nets.prepare import prepare
from aistat_jax.nets.recipes import PARTS, RECIPES, Drawn, looks_at
from aistat_jax.nets.surface_net import SurfaceNet, load_surface_net
from aistat_jax.nets.weights import Net, load_net
from aistat_jax.space.image import Image
from benchmarks._table import Result, Row, share_interval
from benchmarks.patients import collections, more_nodules, patients

SIDE, BLOCK = 128, 8  # pixels of a crop, and slices of a block
DOOR = "refused"


class Shift(NamedTuple):
    """Images to be found out, for one of some reasons; `look`: also through the network."""

    name: str
    cases: Iterable[Drawn]
    reasons: frozenset[str]
    look: bool = False


def run(quick: bool, name: str) -> Result:
    net = load_surface_net(name) if name == "lesion-pet-3d" else load_net(name)
    title = f"Images unlike those {name} was trained on"
    if net.domain is None:
        return Result(title, [], ["Skipped: what it was trained on is not kept with it."])
    make: dict[str, Callable[[bool], tuple[Iterable[Drawn], list[Shift]]]] = {
        "lesion-pet-2d": _lesions,
        "lesion-pet-3d": _lesions,
        "nodule-ct-2d": _nodules,
        "phantom-petct-2d": _phantoms,
    }
    usual, shifts = make[name](quick)
    limits = 4 if quick else None
    rows, notes = [], []
    found = _found(net, _some(usual, limits), True)
    red = [bool(why) for _, why in found]
    rows.append(_row("as they are: red (false alarms)", red, found, at_most=0.05))
    alarmed = {patient for patient, why in found if why}
    notes.append(f"As they are: red somewhere in {len(alarmed)} of {len({p for p, _ in found})}.")
    for shift in shifts:
        found = _found(net, _some(shift.cases, limits), shift.look)
        right = [bool(why & shift.reasons) for _, why in found]
        rows.append(_row(f"{shift.name}: red for the right reason", right, found, at_least=0.95))
        told = sorted({each for _, why in found for each in why})
        shares = ", ".join(
            f"{each} {np.mean([each in why for _, why in found]):.0%}" for each in told
        )
        notes.append(f"{shift.name}: {shares or 'nothing is said'}.")
    if isinstance(net, Net):
        rows.append(_cost(net, next(iter(make[name](True)[0]))))
    if name == "lesion-pet-3d":
        notes.append(
            "All 40 patients were learned from: as they are, the limits know them. Only what is "
            "measured of an image is looked at, not what a head sees about a surface."
        )
    return Result(title, rows, notes)


def _row(
    figure: str,
    hits: list[bool],
    found: list[tuple[str, set[str]]],
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    low, high = share_interval(sum(hits), len(hits))
    who = len({patient for patient, _ in found})
    note = (
        f"{len(hits)} contours of {who} patients, 95% interval of a share {low:.2f} to {high:.2f}"
    )
    return Row(figure, float(np.mean(hits)), at_least=at_least, at_most=at_most, note=note)


def _some(cases: Iterable[Drawn], count: int | None) -> Iterator[Drawn]:
    return itertools.islice(cases, count)


def _found(net: Net | SurfaceNet, cases: Iterable[Drawn], look: bool) -> list[tuple[str, set[str]]]:
    return [(case.patient, why) for case in cases for why in _reasons(net, case, look)]


def _reasons(net: Net | SurfaceNet, case: Drawn, look: bool) -> list[set[str]]:
    """In what respects contours of a case are found out: one for all, or with `look` each."""
    assert net.domain is not None
    if isinstance(net, SurfaceNet):
        measured = measured_in_space(net, case.image.primary)
        return [{each.respect for each in net.domain.of_image(measured)}]
    try:
        prepare(net.plan, case.image)
    except InputError:
        return [{DOOR}]
    found = {each.respect for each in net.domain.of_image(measured_for(net.plan, case.image))}
    if not look:
        return [found]
    seen = looks_at(net, case)
    return [found | {each.respect for each in net.domain.of_edge(one)} for one in seen]


def _cost(net: Net, case: Drawn) -> Row:
    """What it takes to measure an image, over what it takes to predict it."""
    seconds = []
    for call in (lambda: measured_for(net.plan, case.image), lambda: predict(net, case.image)):
        call()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Row("time to measure an image, over the network's own", seconds[0] / seconds[1],
               at_most=0.05)  # fmt: skip


# ------------------------------------------------------------------------------------------ cases


def _remade(case: Drawn, masks: np.ndarray, factor: float = 1.0, **values: np.ndarray) -> Drawn:
    channel = case.image.primary
    spacing = None if channel.unit == "px" else (factor * channel.grid.spacing).tolist()
    image = Image.from_arrays(**values, spacing_mm=spacing)
    return Drawn(image, masks, case.patient)


def _halved(values: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """Means over two voxels along each axis."""
    for axis in axes:
        rows = np.moveaxis(values, axis, 0)
        rows = rows[: len(rows) // 2 * 2]
        values = np.moveaxis(rows.reshape(-1, 2, *rows.shape[1:]).mean(axis=1), 0, axis)
    return values


def _doubled(case: Drawn) -> Drawn:
    channel = case.image.primary
    axes = (0, 1, 2) if channel.grid.shape[2] > 1 else (0, 1)
    masks = _halved(case.masks.astype(float), axes) >= 0.5
    return _remade(case, masks, 2.0, **{channel.name: _halved(channel.values, axes)})


def _mislabelled(case: Drawn) -> Drawn:
    channel = case.image.primary
    return _remade(case, case.masks, 2.0, **{channel.name: channel.values})


def _inverted(case: Drawn) -> Drawn:
    channel = case.image.primary
    return _remade(case, case.masks, **{channel.name: channel.values.max() - channel.values})


def _lesions(quick: bool) -> tuple[Iterable[Drawn], list[Shift]]:
    recipe, root = RECIPES["lesion-pet-2d"], collections()

    def every() -> Iterator[Drawn]:
        return (case for part in PARTS for case in recipe.cases(root, part))

    return recipe.cases(root, "validation"), [
        Shift("doubled spacing", map(_doubled, every()), frozenset({SPACING})),
        Shift("a header of twice the spacing", map(_mislabelled, every()), frozenset({SPACING})),
        Shift("inverted", map(_inverted, every()), frozenset({DOOR, INTENSITY, INVERTED})),
        Shift("a CT in HU, called a PET", _blocks(1.0, 0.0), frozenset({DOOR, INTENSITY})),
        Shift("a CT scaled to 0 and above, called a PET", _blocks(0.01, 1000.0),
              frozenset({DOOR, INTENSITY})),
    ]  # fmt: skip


def _scans() -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """CT of sarcoma patients: patient, HU, mask, spacing."""
    for folder in patients():
        file = folder / "CT_image.nii.gz"
        if file.is_file():
            channel = read_image(CT=file).primary
            mask = read_mask(folder / "CT_mask.nii.gz", channel)
            yield folder.name, channel.values, mask, channel.grid.spacing


def _blocks(scale: float, offset: float) -> Iterator[Drawn]:
    """Blocks of slices of CT as if they were SUV."""
    for patient, hu, mask, spacing in _scans():
        for k in range(0, hu.shape[2] - BLOCK + 1, BLOCK):
            part = scale * (hu[:, :, k : k + BLOCK] + offset)
            image = Image.from_arrays(PT=part, spacing_mm=spacing.tolist())
            yield Drawn(image, mask[:, :, k : k + BLOCK, None], patient)


def _nodules(quick: bool) -> tuple[Iterable[Drawn], list[Shift]]:
    root = collections()
    nodules = RECIPES["nodule-ct-2d"]

    def one_each(cases: Iterable[Drawn]) -> Iterator[Drawn]:
        for _, of_it in itertools.groupby(cases, lambda case: case.patient):
            yield next(iter(of_it))

    def judged() -> Iterator[Drawn]:
        return one_each(nodules.cases(root, "validation"))

    usual = itertools.chain(judged(), itertools.islice(one_each(more_nodules()), 0, None, 3))
    return usual, [
        Shift("doubled spacing", map(_doubled, judged()), frozenset({WIDTH, SPACING})),
        Shift("inverted", map(_inverted, judged()), frozenset({INTENSITY, INVERTED})),
        Shift("a pelvis or thigh", _pelvis(), frozenset({ANATOMY}), True),
    ]


def _pelvis(each: int = 6) -> Iterator[Drawn]:
    """Crops about sarcomas of pelvis and thigh, grey as those of the nodules are."""
    for patient, hu, mask, _ in _scans():
        there = np.flatnonzero(mask.any(axis=(0, 1)))
        half = SIDE // 2
        for k in there[:: -(-len(there) // each)]:
            i, j = np.argwhere(mask[:, :, k]).mean(axis=0).round().astype(int)
            beyond = np.pad(hu[:, :, k], half, constant_values=-1000)[i : i + SIDE, j : j + SIDE]
            drawn = np.pad(mask[:, :, k], half)[i : i + SIDE, j : j + SIDE]
            grey = 255 * (np.maximum(beyond, -1000) + 1000) / (beyond.max() + 1000)
            image = Image.from_arrays(CT=np.round(grey)[..., None])
            yield Drawn(image, drawn[:, :, None, None], patient)


def _phantoms(quick: bool) -> tuple[Iterable[Drawn], list[Shift]]:
    def some(count: int = 100) -> Iterator[Drawn]:
        return itertools.islice(RECIPES["phantom-petct-2d"].cases(None, "validation"), count)

    def changed(how: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]], factor: float = 1):
        for case in some(60):
            pet, ct = (case.image[name].values for name in ("PT", "CT"))
            fine = _halved(ct, (0, 1))  # onto the PET's grid
            yield _remade(case, case.masks, factor, **how(pet, fine))

    return some(), [
        Shift("a header of twice the spacing", changed(lambda p, c: {"PT": p, "CT": c}, 2.0),
              frozenset({SPACING})),
        Shift("PET inverted", changed(lambda p, c: {"PT": p.max() - p, "CT": c}),
              frozenset({INTENSITY, INVERTED})),
        Shift("CT inverted", changed(lambda p, c: {"PT": p, "CT": -c}),
              frozenset({INTENSITY, INVERTED, DOOR})),
        Shift("a CT in HU, called a PET", changed(lambda p, c: {"PT": c, "CT": c}),
              frozenset({DOOR, INTENSITY})),
    ]  # fmt: skip
