"""What does a labelled validation set hold? Images, what a network says of them, what was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError, about
from aistat_jax.calibrations import digest_of
from aistat_jax.io.nifti import PathLike, read_drawn, read_image
from aistat_jax.io.nnunet import patient_of
from aistat_jax.io.outputs import output_log_odds, read_output
from aistat_jax.nets.output_head import OutputHead, normalisation_of
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.tolerance import default_tolerance


@dataclass(frozen=True)
class LabelledOutput:
    """An image, what a network says of it, and what an expert drew.

    image is an `Image`, or files by channel, the primary one first. output and drawn are files, or
    arrays on the canonical grid of the primary channel: what `output_log_odds` reads, and whole
    numbers (i, j, k), or (i, j, k, reader) where several drew. An empty patient is told from the id
    (`patient_of`).
    """

    id: str
    image: Any
    output: Any
    drawn: Any
    patient: str = ""

    @property
    def whose(self) -> str:
        return self.patient or patient_of(self.id)


class Read(NamedTuple):
    """A case that was read. Shapes: log_odds (i, j, k), masks (i, j, k, reader)."""

    image: Image
    log_odds: np.ndarray
    masks: np.ndarray


def read_case(case: LabelledOutput, output: str, label: int) -> Read:
    """A case with its log-odds and what was drawn. Raises InputError naming it."""
    with about(f"case {case.id}"):
        given = case.image
        image = given if isinstance(given, Image) else read_image(**given)
        like = image.primary
        if isinstance(case.output, np.ndarray):
            log_odds = output_log_odds(case.output, like, output, label)
        else:
            log_odds = read_output(case.output, like, output, label)
        return Read(image, log_odds, _drawn(case.drawn, image, label))


def _drawn(given: np.ndarray | PathLike, image: Image, label: int) -> np.ndarray:
    like = image.primary
    drawn = given if isinstance(given, np.ndarray) else read_drawn(given, like, "label")
    where = "the label" if isinstance(given, np.ndarray) else f"{Path(given)}"
    drawn = drawn[..., None] if drawn.ndim == 3 else drawn
    if drawn.ndim != 4 or drawn.shape[:3] != like.grid.shape:
        raise InputError(
            f"the label's grid {drawn.shape[:3]} does not match channel {like.name}'s "
            f"{like.grid.shape}; resample the label onto the image"
        )
    values = drawn.astype(float)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise InputError(f"{where}: labels must be whole numbers; save one label a voxel")
    masks = values == label
    if masks.all():
        raise InputError(f"{where}: every voxel is label {label}, so nothing has an edge")
    return masks


class Survey(NamedTuple):
    """What a case is like. values: of every channel near what was drawn, none where nothing is."""

    patient: str
    digest: str
    kind: tuple[Any, ...]
    tolerance: float
    values: dict[str, np.ndarray]


def surveyed(read: Iterator[tuple[LabelledOutput, Read]]) -> list[Survey]:
    seen: dict[str, LabelledOutput] = {}
    first: Image | None = None
    found: list[Survey] = []
    finds = False
    for case, (image, log_odds, masks) in read:
        digest = digest_of(image)
        other = seen.setdefault(digest, case)
        if other is not case:
            raise InputError(
                f"cases {other.id} (patient {other.whose}) and {case.id} (patient {case.whose}) "
                "hold equal voxels; leave one of them out"
            )
        first = first or image
        if _kind(image) != _kind(first):
            raise InputError(
                f"case {case.id} has {_words(image)}, and those before it {_words(first)}; "
                "calibrate on images of one kind"
            )
        finds |= bool((log_odds > 0).any())
        values: dict[str, np.ndarray] = {}
        for channel in image.names if masks.any() else ():
            near = image[channel].values
            if image[channel].grid.matches(image.primary.grid):
                near = near[_around(np.asarray(masks.any(axis=-1)))]
            values[channel] = near.ravel()[:: max(1, near.size // 20_000)]
        usual = default_tolerance(image).value
        found.append(Survey(case.whose, digest, _kind(image), usual, values))
    if not any(one.values for one in found):
        raise InputError("nothing is drawn in any case; pass labels of what is to be contoured")
    if not finds:
        raise InputError(
            "the network finds nothing in any case: its probability is nowhere above one half; "
            "check the label, and what its output is"
        )
    return found


def unlearned(cases: Sequence[Survey], name: str, output: str) -> OutputHead:
    """The head that is to learn from these cases, with how it normalises what it reads."""
    unit, *channels = cases[0].kind
    how = tuple(
        normalisation_of(quantity, np.concatenate([one.values[n] for one in cases if one.values]))
        for n, quantity in channels
    )
    names, quantities = zip(*channels, strict=True)
    return OutputHead(name, output, names, quantities, how, unit)


def _around(mask: np.ndarray) -> tuple[slice, ...]:
    """The box of a mask, half as wide again on every side."""
    found = []
    for axis in range(3):
        met = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        wide = 1 + len(met) // 2
        found.append(slice(max(0, int(met[0]) - wide), int(met[-1]) + wide + 1))
    return tuple(found)


def _kind(image: Image) -> tuple[Any, ...]:
    return image.unit, *((name, image[name].quantity) for name in image.names)


def _words(image: Image) -> str:
    return " and ".join(f"{n} in {image[n].quantity} and {image.unit}" for n in image.names)
