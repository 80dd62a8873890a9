"""What reads the output of a network of any make? A contour head for log-odds beside the image.

Of a network that was trained elsewhere nothing is known but what it says of an image. The head is
that of ray_head.py; it reads the image's channels, normalised, and the log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.io.outputs import OUTPUTS
from aistat_jax.nets.plan import Normalisation
from aistat_jax.nets.ray_head import ray_skeleton
from aistat_jax.nets.weights import Weights, filled
from aistat_jax.space.image import Image

# Of the channels near what was drawn, the shares of values below and above which they are clipped.
CLIPPED = 0.5, 99.5
# How a channel may be normalised.
KINDS = ("ct", "suv", "zscore")
SUV = Normalisation("suv", 0.0, 40.0, 0.0, 4.0)


@dataclass(frozen=True, eq=False)
class OutputHead:
    """A contour head for the output of one network, and what it reads.

    output: one of `io.outputs.OUTPUTS`. channels, the primary one first, with the quantity of each
    and how its values are normalised; unit of the images, "mm" or "px". head: the weights, None
    before there are any.
    """

    name: str
    output: str
    channels: tuple[str, ...]
    quantities: tuple[str, ...]
    normalisations: tuple[Normalisation, ...]
    unit: str = "mm"
    head: Weights | None = None

    @property
    def domain(self) -> None:
        """What it was learned from is not kept (`nets.domain`); other quantities are refused."""

    @property
    def head_inputs(self) -> int:
        """How many numbers a voxel the head reads: every channel's, and one log-odds."""
        return len(self.channels) + 1

    @property
    def head_graph(self) -> Any:
        """The head without its weights. Raises InputError where there are none yet."""
        if self.head is None:
            raise InputError(f"the calibration of {self.name} has no contour head yet")
        return ray_skeleton(self.head_inputs)[0]

    def head_state(self) -> Any:
        """The weights as an nnx state that goes with `head_graph`."""
        return filled(ray_skeleton(self.head_inputs)[1], self.head or {})


def check_fits(head: OutputHead, image: Image) -> None:
    """Refuse an image that a head has not learned to read: other channels, quantities or units."""
    if image.unit != head.unit:
        raise InputError(
            f"the calibration of {head.name} is for images in {head.unit}, and this one is in "
            f"{image.unit}; calibrate on images like it"
        )
    if image.names[0] != head.channels[0] or set(image.names) != set(head.channels):
        raise InputError(
            f"the calibration of {head.name} is for images of {' and '.join(head.channels)}, and "
            f"this one has {' and '.join(image.names)}; pass those channels, or calibrate on "
            "images like it"
        )
    for name, quantity in zip(head.channels, head.quantities, strict=True):
        if image[name].quantity != quantity:
            raise InputError(
                f"the calibration of {head.name} is for {name} in {quantity}, and this one is in "
                f"{image[name].quantity}; calibrate on images like it"
            )


def normalisation_of(quantity: str, values: np.ndarray) -> Normalisation:
    """How a channel is normalised, told from its quantity and values near what was drawn."""
    if quantity == "SUV":
        return SUV
    if quantity != "HU":
        return Normalisation("zscore")
    low, high = np.percentile(values, CLIPPED)
    within = np.clip(values, low, high)
    return Normalisation(
        "ct", float(low), float(high), float(within.mean()), float(max(within.std(), 1e-6))
    )


def head_content(head: OutputHead) -> dict[str, Any]:
    """All of a head but its weights, as JSON has it."""
    return {
        "name": head.name, "output": head.output, "channels": list(head.channels),
        "quantities": list(head.quantities), "unit": head.unit,
        "normalisations": [vars(each) for each in head.normalisations],
    }  # fmt: skip


def head_from(content: Mapping[str, Any], head: Weights | None) -> OutputHead:
    """The head that `head_content` told of; KeyError, TypeError or ValueError for another."""
    if content["output"] not in OUTPUTS or content["unit"] not in ("mm", "px"):
        raise ValueError(content["output"])
    found = OutputHead(
        str(content["name"]), content["output"], tuple(map(str, content["channels"])),
        tuple(map(str, content["quantities"])),
        tuple(Normalisation(**each) for each in content["normalisations"]), content["unit"], head,
    )  # fmt: skip
    if not len(found.channels) == len(found.quantities) == len(found.normalisations) > 0:
        raise ValueError("channels")
    for how in found.normalisations:
        numbers = np.array([how.low, how.high, how.centre, how.scale], dtype=float)
        if how.kind not in KINDS or not np.isfinite(numbers).all():
            raise ValueError(how.kind)
    return found
