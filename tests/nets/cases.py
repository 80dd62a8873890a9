"""Small plans and images that several tests of networks share."""

from __future__ import annotations

import numpy as np

from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.space.image import Image


def tiny_plan(
    dims: int = 2,
    *,
    widths: tuple[int, ...] = (4, 6, 8),
    channels: tuple[str, ...] = ("PT",),
    slices: int = 1,
    patch: int = 16,
    classes: int = 2,
    dropout: float = 0.0,
    guidance: int = 0,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
) -> Plan:
    """A network that works on PET (SUV up to 10, divided by 2 and logged)."""
    strides = ((2,) * dims,) * (len(widths) - 1)
    architecture = Architecture(
        dims, len(channels) * slices, classes, widths, strides, dropout=dropout, guidance=guidance
    )
    return Plan(
        "tiny", architecture, channels, ("SUV",) * len(channels),
        ("background", "lesion", "organ")[:classes],
        (Normalisation("suv", 0.0, 10.0, 0.0, 2.0),) * len(channels),
        spacing_mm, (patch,) * dims, 2, slices,
    ).check()  # fmt: skip


def pet(
    rng: np.random.Generator,
    shape: tuple[int, int, int] = (37, 26, 9),
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
) -> Image:
    """A PET channel of noise from 0 to 6 SUV."""
    return Image.from_arrays(PT=rng.uniform(0, 6, shape), spacing_mm=spacing_mm)
