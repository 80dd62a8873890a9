"""How do contoured cases become a data set that a network can be trained on? nnU-Net's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._errors import InputError, InputWarning
from aistat_jax.case import Case
from aistat_jax.inference.posterior import Posterior
from aistat_jax.io.nifti import PathLike
from aistat_jax.io.nnunet import Dataset, LabelledCase
from aistat_jax.io.nnunet_writing import write_labelled_cases
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.probability import probability_map

Labelled = Case | LabelledCase | tuple[Image, Sequence[Posterior]]


def write_dataset(
    folder: PathLike,
    cases: Mapping[str, Labelled] | Iterable[tuple[str, Labelled]],
    *,
    level: float = 0.5,
    channels: Sequence[str] | None = None,
    label: str = "lesion",
    whose: str = "contours of a model, not of a person",
) -> Dataset:
    """Write contoured cases as an nnU-Net v2 dataset into a new folder; returns what it holds.

    `cases` are `Case`s by name, or pairs of a name and a case, which may come one at a time; an
    image with its posteriors, such as those of `load_posterior`, stands for a case as well. A voxel
    of a case has the label where its centre is inside of any target with probability at least
    `level`: of one half it is the inside of the posterior median. That counts that a target may not
    be there at all. A `LabelledCase` is written with its own labels, 0 or 1. `channels` are those
    to write, by default all of a case. All channels are written in the orientation of the first.
    `whose` contours they are stands in the description of dataset.json.

    dataset.json, imagesTr/CASE_0000.nii.gz, ... and labelsTr/CASE.nii.gz appear together or not at
    all; `io.nnunet.read_dataset` and `aistat train` read them. A case without a voxel of the label
    is an InputWarning. Raises InputError for a level outside (0, 1), a channel that is not there,
    and as `write_labelled_cases`: cases of other channels, several grids, names given twice, a
    folder that holds something.
    """
    if not 0 < level < 1:
        raise InputError(f"`level` must lie strictly between 0 and 1, such as 0.5, got {level}")
    if not label or label == "background":
        raise InputError(f"`label` {label!r} cannot name a region; pass a word such as lesion")
    pairs: Any = cases.items() if isinstance(cases, Mapping) else cases
    what = f"inside with probability {level:g} or more, by aistat_jax {aistat_jax.__version__}"
    return write_labelled_cases(
        folder, _labelled(pairs, level, channels), ("background", label), f"{what}; {whose}"
    )


def _labelled(
    pairs: Iterable[tuple[str, Labelled]], level: float, channels: Sequence[str] | None
) -> Iterator[tuple[str, LabelledCase]]:
    for name, case in pairs:
        image = case[0] if isinstance(case, tuple) else case.image
        if channels is not None:
            image = Image.of(*(image[each] for each in channels))
        if isinstance(case, LabelledCase):
            if not image.primary.grid.matches(case.image.primary.grid):
                raise InputError(
                    f"case {name}: its labels are on the grid of {case.image.primary.name}, and "
                    f"not on that of {image.primary.name}; pass `channels` of that grid"
                )
            labels = case.labels
        else:
            posteriors = case[1] if isinstance(case, tuple) else case.posteriors
            inside = probability_map(posteriors, image.primary.grid) >= level
            labels = inside.astype(np.int32)
            if not labels.any():
                warnings.warn(
                    f"case {name}: no voxel is inside with probability {level:g}, so it has no "
                    "label",
                    InputWarning,
                    stacklevel=4,
                )
        yield name, LabelledCase(image, labels)
