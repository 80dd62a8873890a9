"""How large is a U-Net? Its dimensions, stages and kinds of block, without any array.

Kept apart from the network itself so that a plan can be read without the libraries that run it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aistat_jax._errors import InputError

BLOCKS = ("plain", "residual")


@dataclass(frozen=True)
class Architecture:
    """The shape of a U-Net.

    channels: input channels (in 2.5D image channels times slices); guidance: further input
    channels for prompts (3 of them, prompts.py, or 0); classes: labels, the background included;
    widths: features of every stage, finest first; strides: of every step down, one a pair of
    stages, entries 1 or 2.
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

    @property
    def multiple(self) -> tuple[int, ...]:
        """What every edge of the input must be a multiple of, (dims,)."""
        return tuple(math.prod(s[d] for s in self.strides) for d in range(self.dims))

    def check(self) -> Architecture:
        """Itself. Raises InputError for values that fit no network."""
        if self.dims not in (2, 3):
            raise InputError(f"a network has 2 or 3 dimensions, got {self.dims}")
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
