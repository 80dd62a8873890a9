"""Where are the real patients, where would one point into their lesions, and who is at work?"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from aistat_jax.data.collections import SARCOMA, lung_nodules
from aistat_jax.nets.recipes import Drawn
from aistat_jax.space.image import Channel, Image

Case = TypeVar("Case")
Found = TypeVar("Found")
WORKERS = "AISTAT_BENCHMARK_WORKERS"


def collections() -> Path:
    """The folder of the real collections, $AISTAT_DATA or ../shared/data."""
    named = os.environ.get("AISTAT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def patients() -> list[Path]:
    """Folders of the sarcoma patients; empty when the collection is absent."""
    return sorted(p.parent for p in (collections() / SARCOMA).glob("*/PET_image.nii.gz"))


def more_nodules() -> Iterator[Drawn]:
    """Slices of the second part of the lung nodules, 256 patients that no shipped network knows."""
    found = lung_nodules(collections(), "train2")
    for grey, masks, patient in zip(found.images, found.masks, found.patients, strict=True):
        image = Image.from_arrays(CT=grey[..., None].astype(float))
        yield Drawn(image, np.moveaxis(masks, 0, -1)[:, :, None], f"lidc{patient}")


def starts(mask: np.ndarray, channel: Channel) -> dict[str, np.ndarray]:
    """Voxels inside the lesion: its deepest (the posterior's point), its hottest (thresholds')."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(mask, sampling=channel.grid.spacing)
    hot = np.where(mask, channel.values, -np.inf)
    return {
        name: np.array(np.unravel_index(int(np.argmax(score)), mask.shape))
        for name, score in (("deepest", np.asarray(depth)), ("hottest", hot))
    }


def workers() -> int:
    """How many processes share a benchmark's patients: `python -m benchmarks --workers N`."""
    return int(os.environ.get(WORKERS, "1"))


def of_each(work: Callable[[Case], Found], cases: Iterable[Case]) -> list[Found]:
    """`work(case)` of all cases in order, here or shared among `workers()` processes.

    `work` is a function of a module, and cases and findings can be pickled.
    """
    if workers() == 1:
        return [work(case) for case in cases]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers(), mp_context=context) as pool:
        return list(pool.map(work, cases))
