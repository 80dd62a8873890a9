"""Which public collections are the shipped networks and the benchmarks made from?

Two are read where they lie, under `$AISTAT_DATA` or a folder of one's own choice; the data cards
say where they come from and under which licence. Nothing here downloads.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Bool, Int, UInt8

SARCOMA = Path("sts_petctmr_nifti") / "nifti"
NODULES = Path("lidc_slices_4readers")


def data_root(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the collections. Raises InputError when there is none."""
    named = folder or os.environ.get("AISTAT_DATA")
    if not named or not Path(named).is_dir():
        raise InputError(
            f"there is no data folder {str(named or '$AISTAT_DATA')!r}; pass the folder that "
            "holds the collections, or set AISTAT_DATA to it"
        )
    return Path(named)


def sarcoma_patients(root: Path) -> tuple[Path, ...]:
    """Folders of the soft-tissue sarcoma patients, each with PET_image and PET_mask.

    Raises InputError when the collection is not there.
    """
    found = sorted(path.parent for path in (root / SARCOMA).glob("*/PET_image.nii.gz"))
    if not found:
        raise InputError(f"{root / SARCOMA}: no sarcoma patients; see data_cards for the source")
    return tuple(found)


@record
class Nodules:
    """Slices of lung nodules with four readers.

    Shapes: images (slice, 128, 128) grey, scaled slice by slice; masks (slice, 4, 128, 128);
    patients (slice,). Pixels are of unknown size in millimetres.
    """

    images: UInt8[np.ndarray, "slice u v"]
    masks: Bool[np.ndarray, "slice reader u v"]
    patients: Int[np.ndarray, " slice"]

    def of(self, chosen: np.ndarray) -> Nodules:
        """The slices chosen by a boolean or index array."""
        return Nodules(self.images[chosen], self.masks[chosen], self.patients[chosen])


def lung_nodules(root: Path, part: str) -> Nodules:
    """The "train" or the "val" part of the lung-nodule slices; no patient is in both.

    Axes are (column, row), so that u runs to the right. Raises InputError when they are not there.
    """
    file = root / NODULES / f"{part}.npz"
    if not file.is_file():
        raise InputError(f"{file}: no lung-nodule slices; see data_cards for the source")
    with np.load(file) as stored:
        images = stored["image"]
        masks = np.unpackbits(stored["mask"], axis=-1).reshape(len(images), 4, *images.shape[1:])
        patients = stored["patient"].astype(np.int32)
    return Nodules(
        np.ascontiguousarray(images.swapaxes(1, 2)),
        np.ascontiguousarray(masks.swapaxes(2, 3)).astype(bool),
        patients,
    )
