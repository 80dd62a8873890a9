"""How large is a network? Its kind, dimensions and stages, without any array.

Kept apart from the network itself so that a plan can be read without the libraries that run it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax.nets.backbones import backbone

BLOCKS = ("plain", "residual")


@dataclass(frozen=True)
class Architecture:
    """The shape of a network.

    channels: input channels (in 2.5D image channels times slices); guidance: further input
    channels for prompts (3 of them, prompts.py, or 0); classes: labels, the background included;
    widths: features of every stage, finest first; strides: of every step down, one a pair of
    stages, entries 1 or 2. block and downsample are the U-Net's. backbone: which of `BACKBONES`
    it is; options: what else its own file lets one choose, as pairs of a name and a value.
    """

    dims: int
    channels: int
    classes: int
    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    block: str = "plain"
    downsample: str = "stride"
    slope: float = 0.01
    dropout: float = 0.0
    deep_supervision: bool = True
    guidance: int = 0
    backbone: str = "unet"
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def features(self) -> int:
        """How many last features there are, which a contour head reads."""
        width = dict(self.options).get("decoder_widths", self.widths)[0]
        return backbone(self.backbone).features * width

    @property
    def multiple(self) -> tuple[int, ...]:
        """What every edge of the input must be a multiple of, (dims,)."""
        return tuple(math.prod(s[d] for s in self.strides) for d in range(self.dims))

    def check(self) -> Architecture:
        """Itself. Raises InputError for values that fit no network."""
        if self.dims not in (2, 3):
            raise InputError(f"a network has 2 or 3 dimensions, got {self.dims}")
        kind = backbone(self.backbone)
        if self.dims not in kind.dims:
            raise InputError(f"the `backbone` {self.backbone} exists in {kind.dims[0]}D alone")
        if kind.steps not in (None, len(self.strides)):
            raise InputError(
                f"the backbone {self.backbone} takes {kind.steps} steps down, "
                f"got {len(self.strides)} strides"
            )
        if self.block not in BLOCKS:
            raise InputError(f"unknown block {self.block!r}; use one of {', '.join(BLOCKS)}")
        if self.downsample not in ("stride", "pool"):
            raise InputError(f"unknown way down {self.downsample!r}; use 'stride' or 'pool'")
        if len(self.strides) != len(self.widths) - 1:
            raise InputError(
                f"{len(self.widths)} stages need {len(self.widths) - 1} strides, "
                f"got {len(self.strides)}"
            )
        if any(len(s) != self.dims or not set(s) <= {1, 2} for s in self.strides):
            raise InputError(f"strides must be {self.dims} numbers 1 or 2 each: {self.strides}")
        if self.channels < 1 or self.classes < 2 or min(self.widths) < 1:
            raise InputError("a network needs a channel, two classes and a feature a stage")
        return self

    @property
    def input_channels(self) -> int:
        """Channels of what the network takes: of the image and of what was pointed at."""
        return self.channels + self.guidance
