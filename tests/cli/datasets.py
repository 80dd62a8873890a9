"""A small nnU-Net dataset of bright balls in noise, and the options of a short training on it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
SHAPE = (24, 20, 4)
PATIENTS = ("P1_visit1", "P1_visit2", "P2", "P3", "P4")
QUICK = (
    "--folds", "2", "--steps", "6", "--every", "2", "--base-width", "4", "--memory-gib", "0.003",
    "--learning-rate", "3e-3", "--no-augmentation",
)  # fmt: skip


def ball(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """PET of 5 SUV inside a ball and 1 outside, with noise of 0.5; and where the ball is."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform((8, 8, 1), (16, 12, 2))
    where = np.stack(np.indices(SHAPE), axis=-1)
    inside = np.linalg.norm((where - centre) * (3.0, 3.0, 4.0), axis=-1) < rng.uniform(10, 14)
    return 1 + 4 * inside + rng.normal(0, 0.5, SHAPE), inside.astype(np.uint8)


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values if values.dtype == np.uint8 else values.astype(np.float32)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def write_balls(folder: Path, cases: tuple[str, ...] = PATIENTS, **changes: object) -> Path:
    """The dataset; the first case of P1 has nothing on it."""
    for seed, case in enumerate(cases):
        values, inside = ball(seed)
        save(folder / "imagesTr" / f"{case}_0000.nii.gz", values)
        save(folder / "labelsTr" / f"{case}.nii.gz", inside * (case != PATIENTS[0]))
    content = {
        "channel_names": {"0": "PT"}, "labels": {"background": 0, "tumour": 1},
        "numTraining": len(cases), "file_ending": ".nii.gz", "name": "Balls",
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content | changes))
    return folder
