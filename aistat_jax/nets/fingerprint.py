"""What is in a dataset? Its fingerprint: sizes, spacings and intensities, read once.

Source: Isensee et al. 2021, Nature Methods 18:203.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.io.nnunet import Dataset, LabelledCase, read_case
from aistat_jax.nets._json import broken, read_json, write_json

SAMPLE = 10_000  # foreground voxels a case

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Intensity:
    """One channel inside the foreground: mean, sd and percentiles, in the channel's quantity."""

    mean: float
    sd: float
    p0_5: float
    p50: float
    p99_5: float
    p99_9: float


@dataclass(frozen=True)
class Fingerprint:
    """What sizing a network needs to know of a dataset. Axes are canonical (i, j, k).

    One entry a case, in the order of `cases`: shapes in voxels; spacings_mm (1 for images in
    px); fractions, the part of voxels in the foreground; boxes_mm, the edges of the box round
    the foreground (0 where there is none). One entry a channel: quantities and intensities,
    over at most 10,000 foreground voxels a case. empty: cases without foreground.
    """

    name: str
    cases: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    spacings_mm: tuple[Triple, ...]
    channels: tuple[str, ...]
    quantities: tuple[str, ...]
    labels: tuple[str, ...]
    intensities: tuple[Intensity, ...]
    fractions: tuple[float, ...]
    boxes_mm: tuple[Triple, ...]
    empty: int
    unit: str = "mm"


def fingerprint(
    dataset: Dataset,
    progress: Callable[[int], Any] | None = None,
    *,
    seed: int = 0,
    at_least: int = 2,
) -> Fingerprint:
    """Read every case once and measure it. `progress` is called with 1 after each.

    at_least: how many cases there must be; one alone leaves none to hold out, so pass 1 only to
    size a network that will be judged elsewhere.
    Raises InputError for fewer, for a dataset without any foreground, and for cases that
    cannot be read.
    """
    if len(dataset.cases) < at_least:
        raise InputError(
            f"{dataset.folder}: {len(dataset.cases)} case is too few, at least {at_least} are "
            "needed to hold one out; add labelled cases"
        )
    measured = []
    for number, case in enumerate(dataset.cases):
        measured.append(_measure(read_case(dataset, case), np.random.default_rng([seed, number])))
        if progress is not None:
            progress(1)
    shapes, spacings, fractions, boxes, samples, quantities, units = zip(*measured, strict=True)
    if not any(fractions):
        raise InputError(
            f"{dataset.folder}: all {len(dataset.cases)} label maps are empty; label at least one "
            "case"
        )
    return Fingerprint(
        name=dataset.name, cases=dataset.cases, shapes=shapes, spacings_mm=spacings,
        channels=dataset.channels, quantities=quantities[0], labels=dataset.labels,
        intensities=tuple(_intensity(values) for values in np.concatenate(samples, axis=1)),
        fractions=fractions, boxes_mm=boxes, empty=sum(f == 0 for f in fractions), unit=units[0],
    )  # fmt: skip


def _measure(case: LabelledCase, rng: np.random.Generator) -> tuple[Any, ...]:
    grid, inside = case.image.primary.grid, case.labels > 0
    spacing = tuple(float(s) for s in grid.spacing)
    where = np.flatnonzero(inside)
    box = (0.0, 0.0, 0.0)
    if where.size:
        spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
        box = tuple(float((n[-1] - n[0] + 1) * s) for n, s in zip(spans, spacing, strict=True))
    fraction = where.size / inside.size
    if where.size > SAMPLE:
        where = rng.choice(where, SAMPLE, replace=False)
    channels = [case.image[name] for name in case.image.names]
    sample = np.stack([channel.values.ravel()[where] for channel in channels])
    quantities = tuple(channel.quantity for channel in channels)
    return grid.shape, spacing, fraction, box, sample, quantities, grid.unit


def _intensity(values: np.ndarray) -> Intensity:
    percentiles = np.percentile(values, (0.5, 50.0, 99.5, 99.9))
    return Intensity(float(values.mean()), float(values.std()), *map(float, percentiles))


def save_fingerprint(fingerprint: Fingerprint, path: str | os.PathLike[str]) -> Path:
    """Write a fingerprint as JSON, to a temporary name and then moved into place."""
    return write_json("fingerprint", asdict(fingerprint), Path(path))


def load_fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Read a fingerprint. Raises InputError for damaged JSON or another schema."""
    content = read_json("fingerprint", Path(path))
    try:
        content["intensities"] = tuple(Intensity(**found) for found in content["intensities"])
        return Fingerprint(**content)
    except (KeyError, TypeError) as error:
        raise broken("fingerprint", path) from error
