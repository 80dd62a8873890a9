"""Small plans, images and ways to vary them that several tests of networks share."""

from __future__ import annotations

import jax
import numpy as np

from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.augment import augment
from aistat_jax.nets.batches import Learnable
from aistat_jax.nets.example import Example
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.nets.variation import Settings, Sometimes
from aistat_jax.space.image import Image

KEY = jax.random.key(0)
STRONG = Settings(
    rotation_deg=Sometimes(1.0, -180.0, 180.0),
    zoom=Sometimes(1.0, 0.8, 1.3),
    elastic_sd_mm=Sometimes(1.0, 3.0, 3.0),
    elastic_spacing=12.0,
)
# Compiles five times faster; the results are those of the default but for rounding.
QUICK = {"xla_backend_optimization_level": 0}


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


def always(value: float) -> Sometimes:
    return Sometimes(1.0, value, value)


def make_example(rng, space=(24, 20), channels=2, raters=None, guidance=None) -> Example:
    return Example(
        image=rng.standard_normal((*space, channels)).astype(np.float32),
        labels=rng.integers(0, 4, space, dtype=np.int32),
        raters=None if raters is None else rng.random((*space, raters), dtype=np.float32),
        guidance=None if guidance is None else rng.random((*space, guidance), dtype=np.float32),
    )


def jitted(settings: Settings, spacing, options=QUICK, **where):
    def run(key, example):
        return augment(key, example, spacing, settings, **where)

    return jax.jit(run, compiler_options=options)


def disc_plan(
    patch: tuple[int, ...] = (16, 16),
    widths=(4, 8),
    *,
    slices=1,
    classes=2,
    batch=4,
    guidance=0,
    **changes,
) -> Plan:
    dims = len(patch)
    strides = ((2,) * dims,) * (len(widths) - 1)
    a = Architecture(dims, slices, classes, widths, strides, guidance=guidance)
    labels = ("background", *(f"disc{n}" for n in range(1, classes)))
    return Plan(
        "discs", a, ("image",), ("a.u.",), labels, (Normalisation("zscore"),), (1.0, 1.0, 1.0),
        patch, batch, slices, unit="px", **changes,
    ).check()  # fmt: skip


def disc(number: int, size: int = 64) -> Learnable:
    """A bright disc at a random place in noise."""
    rng = np.random.default_rng([7, number])
    radius = size * rng.uniform(0.1, 0.22)
    centre = rng.uniform(radius, size - radius, 2)
    i, j = np.mgrid[:size, :size]
    labels = (np.hypot(i - centre[0], j - centre[1]) < radius).astype(np.int32)[..., None]
    values = 1.5 * labels + rng.standard_normal(labels.shape) - 0.2
    return Learnable(values[..., None].astype(np.float32), labels, name=f"disc{number}")


DISCS = tuple(disc(n, 24) for n in range(4))
