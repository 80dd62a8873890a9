"""How much dose does a probability of being tumour ask for? A map for painting by numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.io.nifti import write_nifti
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel
from aistat_jax.uncertainty.probability import probability_map


def dose_prescription(
    posterior: Posterior | Sequence[Posterior], grid: Grid, *, low_gy: float, high_gy: float
) -> Float[np.ndarray, "i j k"]:
    """The dose that each voxel is prescribed, in Gy: low + (high - low) p where p > 0, else 0.

    p is the probability that the voxel's centre is inside of any of the targets
    (`probability_map`), so that what is surely tumour is prescribed `high_gy` and what hardly is
    `low_gy`; nothing is prescribed where no boundary drawn reaches. A prescription, not a plan: no
    beam, and no organ, is in it. Shapes: (i, j, k) on the grid.

    Raises InputError unless 0 <= low <= high. Source: dose painting by numbers, Bentzen 2005,
    Lancet Oncol 6(2), with the probability in place of an image's value.
    """
    if not (math.isfinite(high_gy) and 0 <= low_gy <= high_gy):
        raise InputError(f"doses must be 0 <= low_gy <= high_gy, got {low_gy:g} and {high_gy:g} Gy")
    several = [posterior] if isinstance(posterior, Posterior) else posterior
    chance = probability_map(several, grid)
    return np.where(chance > 0, low_gy + (high_gy - low_gy) * chance, 0.0)


def write_dose(
    path: str | os.PathLike[str],
    posterior: Posterior | Sequence[Posterior],
    channel: Channel,
    *,
    low_gy: float,
    high_gy: float,
) -> Path:
    """Write `dose_prescription` on the voxels of a channel as NIfTI, in Gy.

    Raises InputError as there, and for images without spacing.
    """
    dose = dose_prescription(posterior, channel.grid, low_gy=low_gy, high_gy=high_gy)
    return write_nifti(Path(path), dose, channel)
