"""How is an nnU-Net v2 dataset written? As `nnunet.read_dataset` reads it, whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import move_in, staged_folder, write_whole
from aistat_jax.io.nifti import PathLike, describe, write_nifti
from aistat_jax.io.nnunet import Dataset, LabelledCase, read_dataset

ENDING = ".nii.gz"
_NAME = re.compile(r"\w[\w.-]*")


def write_labelled_cases(
    folder: PathLike,
    cases: Iterable[tuple[str, LabelledCase]],
    labels: Sequence[str],
    description: str = "",
) -> Dataset:
    """Write images with labels as an nnU-Net v2 dataset into a new folder; returns what it holds.

    dataset.json; imagesTr/CASE_0000.nii.gz, ... for each channel in its order; and
    labelsTr/CASE.nii.gz, in the orientation of each case's primary channel. `labels` are names in
    the order of their value, the background first. `cases` are pairs of a name and a case, taken
    one at a time. The folder appears whole or not at all.

    Raises InputError for a folder that holds something, no case, two of one name or of two that
    differ by capitals alone, a name that is no file's, other channels than the first case's,
    channels on several grids, images without spacing, and values that are no label.
    """
    out = Path(folder).expanduser().absolute()
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out}: there is something there already; choose a new folder")
    seen: dict[str, str] = {}
    channels: tuple[str, ...] = ()
    with staged_folder(out) as staging:
        for name, case in cases:
            _check_name(name, seen)
            channels = channels or tuple(case.image.names)
            _check_case(name, case, channels, len(labels))
            for n, channel in enumerate(case.image.channels.values()):
                path = staging / "imagesTr" / f"{name}_{n:04d}{ENDING}"
                write_nifti(path, np.asarray(channel.values, dtype=np.float32), case.image.primary)
            path = staging / "labelsTr" / f"{name}{ENDING}"
            write_nifti(path, case.labels.astype(np.uint8), case.image.primary)
        if not seen:
            raise InputError(f"{out}: there is no case to write; pass at least one")
        content = {
            "name": out.name, "description": description,
            "channel_names": {str(n): name for n, name in enumerate(channels)},
            "labels": {name: value for value, name in enumerate(labels)},
            "numTraining": len(seen), "file_ending": ENDING,
        }  # fmt: skip
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_whole(staging / "dataset.json", text + "\n")
        move_in(staging, out)
    return read_dataset(out)


def _check_name(name: str, seen: dict[str, str]) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"the case's name {name!r} cannot be a file's; use letters, digits, - _ and ."
        )
    other = seen.get(name.casefold())
    if other is not None:
        raise InputError(
            f"the case {name} is given twice; give every case a name of its own"
            if other == name
            else f"the cases {other} and {name} differ by capitals alone; give every case its own"
        )
    seen[name.casefold()] = name


def _check_case(name: str, case: LabelledCase, channels: tuple[str, ...], count: int) -> None:
    """Refuse a case that does not go with the others."""
    image = case.image
    if tuple(image.names) != channels:
        raise InputError(
            f"case {name} has the channels {', '.join(image.names)} and the first one "
            f"{', '.join(channels)}; pass cases of the same channels, or say which as `channels`"
        )
    for channel in image.channels.values():
        if not channel.grid.matches(image.primary.grid):
            raise InputError(
                f"case {name}: the grid of channel {channel.name} {describe(channel.grid)} is not "
                f"that of {image.primary.name} {describe(image.primary.grid)}, and nnU-Net wants "
                "one; resample them, or say as `channels` which of them to write"
            )
    if image.unit != "mm":
        raise InputError(f"case {name} has no spacing, which NIfTI needs; pass images that have")
    if case.labels.shape != image.primary.grid.shape:
        raise InputError(
            f"case {name}: labels of shape {case.labels.shape} do not match the image's "
            f"{image.primary.grid.shape}"
        )
    if not 0 <= int(case.labels.min()) <= int(case.labels.max()) < count:
        raise InputError(f"case {name}: the labels hold values that are none of 0 to {count - 1}")
