"""What does a prediction leave behind? Label maps, log-odds and their spread, on the image's grid.

labels/CASE.nii.gz, log_odds/CASE_LABEL.nii.gz and spread/CASE_LABEL.nii.gz; arrays (.npz) for
images without spacing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._files import replaced_file
from aistat_jax.io.nifti import write_nifti
from aistat_jax.nets.predict import Prediction, label_map
from aistat_jax.nets.weights import Net
from aistat_jax.space.image import Channel

SCHEMA = 1
CARD = "prediction.json"


def write_prediction(
    folder: Path, case: str, prediction: Prediction, like: Channel
) -> tuple[list[str], np.ndarray]:
    """Write one case, its label map last, so that a case with a label map is whole.

    like: the image's primary channel, whose stored orientation and affine the files take.
    Returns the files' names and the volume of every label, (label,), in the cube of its unit.
    """
    drawn = label_map(prediction)
    written = []
    for n, label in enumerate(_file_words(prediction.labels)):
        for what, values in (("log_odds", prediction.log_odds), ("spread", prediction.spread)):
            written.append(_write(folder / what / f"{case}_{label}", values[..., n], like))
    written.append(_write(folder / "labels" / case, drawn, like))
    counts = np.bincount(drawn.ravel(), minlength=len(prediction.labels) + 1)[1:]
    names = [path.relative_to(folder).as_posix() for path in written]
    return names, counts * np.prod(like.grid.spacing)


def prediction_files(case: str, labels: tuple[str, ...]) -> list[str]:
    """Every file that a case may be written to, as paths inside the folder."""
    stems = [f"labels/{case}"]
    stems += [
        f"{what}/{case}_{word}" for what in ("log_odds", "spread") for word in _file_words(labels)
    ]
    return [stem + ending for stem in stems for ending in (".nii.gz", ".npz")]


def earlier_cards(path: Path, done: Sequence[str]) -> dict[str, Any]:
    """What a card that is there already said of cases not in `done`: "earlier", a list of cards."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        cards = [card, *card.pop("earlier", ())]
        left = [
            one | {"cases": [name for name in one["cases"] if name not in done]} for one in cards
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    left = [one for one in left if one["cases"]]
    return {"earlier": left} if left else {}


def prediction_card(net: Net, about: Mapping[str, Any]) -> str:
    """What a folder of predictions says of itself, as JSON: the network, its labels, and more."""
    content = {
        "schema": SCHEMA, "kind": "prediction", "version": aistat_jax.__version__,
        "network": net.plan.name, "members": len(net.members),
        "labels": {label: value for value, label in enumerate(net.plan.labels)}, **about,
    }  # fmt: skip
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _file_words(labels: tuple[str, ...]) -> list[str]:
    """Labels as parts of file names, told apart even where they differ in signs alone."""
    words = [re.sub(r"\W+", "-", label) for label in labels]
    if len(set(words)) < len(words):
        words = [f"{value}-{word}" for value, word in enumerate(words, 1)]
    return [os.fsdecode(word.encode("utf-8")) for word in words]  # UTF-8 in any locale


def _write(path: Path, values: np.ndarray, like: Channel) -> Path:
    if like.unit == "mm":
        return write_nifti(path.with_name(path.name + ".nii.gz"), values, like)
    path = path.with_name(path.name + ".npz")
    stored = values if like.storage is None else values.reshape(like.storage.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        np.savez_compressed(temporary, values=stored)
    return path
