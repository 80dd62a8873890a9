"""Where are the real patients, and where would one point into their lesions?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from aistat_jax.data.collections import SARCOMA
from aistat_jax.space.image import Channel


def collections() -> Path:
    """The folder of the real collections, $AISTAT_DATA or ../shared/data."""
    named = os.environ.get("AISTAT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def patients() -> list[Path]:
    """Folders of the sarcoma patients; empty when the collection is absent."""
    return sorted(p.parent for p in (collections() / SARCOMA).glob("*/PET_image.nii.gz"))


def starts(mask: np.ndarray, channel: Channel) -> dict[str, np.ndarray]:
    """Voxels inside the lesion: its deepest (the posterior's point), its hottest (thresholds')."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(mask, sampling=channel.grid.spacing)
    hot = np.where(mask, channel.values, -np.inf)
    return {
        name: np.array(np.unravel_index(int(np.argmax(score)), mask.shape))
        for name, score in (("deepest", np.asarray(depth)), ("hottest", hot))
    }
