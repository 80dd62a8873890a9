"""Which cases does a manifest for calibration name? A CSV file with a row a case.

The column `id` names the case, `patient` whose it is,
`probability` holds files of what the network says, whatever it is, and `label` files of what an
expert drew; every other column is a channel, such as PT or CT, the primary one first. Paths are
relative to the manifest's own folder.
"""

from __future__ import annotations

from pathlib import Path

from aistat_jax._errors import InputError
from aistat_jax.cohort.cases import check_ids
from aistat_jax.cohort.manifest import rows_of
from aistat_jax.dicom.files import parts_of
from aistat_jax.validation_set import LabelledOutput

WORDS = ("id", "patient", "probability", "label")
"""Columns that are no channel."""


def read_labelled(path: Path) -> tuple[LabelledOutput, ...]:
    """The cases of a manifest. Raises InputError naming the file, and the row where it is one's."""
    rows = rows_of(path)
    head = list(rows[0][1])
    for word in WORDS[1:]:
        if word not in head:
            raise InputError(
                f"{path}: there is no column {word} among {', '.join(head[:6])}; columns that are "
                f"no image are {', '.join(WORDS)}"
            )
    channels = [name for name in head if name not in WORDS]
    if not channels:
        raise InputError(
            f"{path}: there is no column of images; name one by its channel, such as PT"
        )
    check_ids([row["id"] for _, row in rows], str(path))
    for number, row in rows:
        if not row["patient"]:
            raise InputError(
                f"{path}: row {number} ({row['id']}): patient: the cell is empty; say whose image "
                "it is, as patients and not images are counted"
            )
        for column in (*WORDS[2:], *channels):
            file = path.parent / row[column]
            if not row[column] or not parts_of(file)[0].exists():
                there = f"there is no {file}" if row[column] else "the cell is empty"
                raise InputError(
                    f"{path}: row {number} ({row['id']}): {column}: {there}; paths are relative "
                    "to the manifest's folder"
                )
    return tuple(
        LabelledOutput(
            row["id"], {name: path.parent / row[name] for name in channels},
            path.parent / row["probability"], path.parent / row["label"], row["patient"],
        )
        for _, row in rows
    )  # fmt: skip
