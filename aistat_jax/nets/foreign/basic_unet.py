"""What is a BasicUNet of MONAI here? A U-Net with pooling; what it works on must be said.

Its checkpoint holds weights alone: widths follow from their shapes, and channels, labels, grid and
intensities from the person who trained it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aistat_jax._errors import InputError
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.foreign.reading import Checkpoint
from aistat_jax.nets.foreign.translation import (
    Sources,
    block,
    convolution,
    normed,
    translated,
)
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.nets.weights import Weights

FIRST = "conv_0.conv_0.conv.weight"
STEPS = 4


@dataclass(frozen=True)
class Inputs:
    """What a network of MONAI works on, which its checkpoint does not tell.

    channels: names and quantities, such as {"CT": "HU"}, in their order; labels: without the
    background; patch: voxels along the network's axes, multiples of 16; spacing_mm: of the grid
    it works on, (i, j, k), or None for images without spacing. window: the two values that became
    0 and 1 (ScaleIntensityRange with clipping), or None for a z-score of the image
    (NormalizeIntensity). slope: of its leaky rectifier. Axes are those of an image in RAS.
    """

    channels: Mapping[str, str]
    labels: tuple[str, ...]
    patch: tuple[int, ...]
    spacing_mm: tuple[float, float, float] | None = None
    window: tuple[float, float] | None = None
    slope: float = 0.1
    batch: int = 2


def plan_of(given: Checkpoint, inputs: Inputs) -> Plan:
    """The plan of a BasicUNet. Raises InputError for weights that are no BasicUNet's, or inputs
    that do not go with them."""
    weights = given.weights
    names = ["conv_0", *(f"down_{k}.convs" for k in range(1, STEPS + 1))]
    ups = [f"upcat_{k}" for k in range(1, STEPS + 1)]
    needed = [f"{name}.conv_0.conv.weight" for name in names]
    needed += [
        f"{up}.{part}.weight" for up in ups for part in ("upsample.deconv", "convs.conv_0.conv")
    ]
    absent = [name for name in (*needed, "final_conv.weight") if name not in weights]
    if absent:
        raise InputError(
            f"{given.file}: this BasicUNet has no weight {absent[0]}; only those that rise by "
            "transposed convolutions (upsample 'deconv') can be converted, as a whole"
        )
    dims = weights[FIRST].ndim - 2
    widths = tuple(int(weights[name].shape[0]) for name in needed[: STEPS + 1])
    out = tuple(int(weights[f"{up}.convs.conv_0.conv.weight"].shape[0]) for up in ups)
    risen = tuple(int(weights[f"{up}.upsample.deconv.weight"].shape[1]) for up in ups)
    low, high = inputs.window or (0.0, 0.0)
    how = (
        Normalisation("ct", low, high, low, high - low)
        if inputs.window
        else Normalisation("zscore")
    )
    if inputs.window and not low < high:
        raise InputError(f"window must be two numbers, the lower one first, got {inputs.window}")
    architecture = Architecture(
        dims=dims, channels=int(weights[FIRST].shape[1]),
        classes=int(weights["final_conv.weight"].shape[0]), widths=widths,
        strides=((2,) * dims,) * STEPS, downsample="pool", slope=inputs.slope,
        deep_supervision=False,
        options=tuple((k, v) for k, v in (("decoder_widths", out), ("up_widths", risen))
                      if v != widths[:-1]),
    )  # fmt: skip
    return Plan(
        name=given.file.stem, architecture=architecture, channels=tuple(inputs.channels),
        quantities=tuple(inputs.channels.values()), labels=("background", *inputs.labels),
        normalisations=(how,) * len(inputs.channels),
        spacing_mm=inputs.spacing_mm or (1.0, 1.0, 1.0), patch=inputs.patch, batch=inputs.batch,
        unit="px" if inputs.spacing_mm is None else "mm",
    ).check()  # fmt: skip


def weights_of(given: Checkpoint, plan: Plan) -> Weights:
    """The weights of a plan's U-Net from those of a BasicUNet."""
    sources: Sources = {}
    for k in range(STEPS + 1):
        sources |= _pair(f"encoder.{k}", "conv_0" if k == 0 else f"down_{k}.convs")
    for k in range(STEPS):
        theirs = f"upcat_{STEPS - k}"
        sources |= _pair(f"decoder.{k}", f"{theirs}.convs")
        sources |= convolution(f"up.{k}", f"{theirs}.upsample.deconv", "up")
    sources |= convolution("heads.0", "final_conv")
    return translated(plan.architecture, sources, given, range(plan.architecture.dims))


def _pair(ours: str, theirs: str) -> Sources:
    found: Sources = {}
    for n in (0, 1):
        name = f"{theirs}.conv_{n}"
        found |= normed(f"{ours}.{block(n)}", f"{name}.conv", f"{name}.adn.N")
    return found
