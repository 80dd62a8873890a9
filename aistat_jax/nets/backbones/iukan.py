"""What is Implicit U-KAN 2.0? A U-Net of second-order neural ODEs with products in its middle.

Source: Cheng et al. 2025, MICCAI (arXiv 2503.03141), figure 2. The figure in words: a first phase
of SONO blocks (second_order.py) at full, half and a quarter of the resolution, each followed by a
convolution of 1 x 1 and a halving; a second phase at an eighth and a sixteenth, where tokens (as
U-KAN's) go through a MultiKAN block of sum and product nodes (kan.py; Liu et al. 2024, arXiv
2408.10205) and on through a SONO block; a bottleneck of MultiKAN at the same resolution; and the
mirror image of it all on the way up, with skips beside what rose. Features are C, 2C and 4C, 5C in
the tokens and 8C in the bottleneck, with C = 32, and here C / 4 in the finest stage, to which a
convolution of 3 x 3 brings the image (the released code makes twice the image's channels of it).
Batch norms are instance norms, as in ukan.py. How the equation is solved, and whether as released,
are options (`Solver`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import options_of
from aistat_jax.nets.backbones.kan import LayerNorm, MultiKAN, TokenBlock, doubled, refuse_deep
from aistat_jax.nets.backbones.second_order import ONES, SecondOrder, Solver
from aistat_jax.nets.backbones.ukan import TWO, Tokens
from aistat_jax.nets.blocks import Conv, PlainBlock, average_pool
from aistat_jax.nets.network import Output, check_input, dropped


class Mixed(nnx.Module):
    """A convolution of 1 x 1 and a softplus."""

    def __init__(self, features: int, out: int) -> None:
        self.conv = Conv(features, out, ONES, ONES)

    def __call__(self, x: Array) -> Array:
        return jax.nn.softplus(self.conv(x))


class Middle(nnx.Module):
    """A MultiKAN block and a layer norm."""

    def __init__(self, features: int) -> None:
        self.block, self.norm = TokenBlock(features, MultiKAN), LayerNorm(features)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.block(x))


class ImplicitUKAN(nnx.Module):
    """See the head of this file. widths: of the three SONO stages and of the two of tokens."""

    Options = Solver

    def __init__(self, a: Architecture) -> None:
        refuse_deep("iukan", a.deep_supervision)
        how: Solver = options_of(a.backbone, a.options)
        w, middle = a.widths, 2 * a.widths[3]
        self.stem = Conv(a.input_channels, w[0], (3, 3), ONES)
        self.down = nnx.List([SecondOrder(width, how) for width in w])
        self.mixed = nnx.List([Mixed(w[0], w[1]), Mixed(w[1], w[2])])
        self.tokens = nnx.List([Tokens(w[2], w[3]), Tokens(w[3], w[4]), Tokens(w[4], middle, ONES)])
        self.middles = nnx.List([Middle(width) for width in (w[3], w[4], middle)])
        self.bottleneck = PlainBlock(middle, w[4], ONES, 0.0)
        rising = (w[4], *(2 * width for width in reversed(w[:-1])))
        lower = (w[3], w[2], w[1], w[0], w[0])
        self.rise = nnx.List([Mixed(i, o) for i, o in zip(rising, lower, strict=True)])
        self.up = nnx.List([SecondOrder(width, how) for width in lower])
        self.up_middles = nnx.List([Middle(2 * w[3]), Middle(2 * w[2])])
        self.head = Conv(w[0], a.classes, ONES, ONES)
        self.architecture = a

    def __call__(self, x: Float[Array, "batch u v channel"], key: Key | None = None) -> Output:
        """As `UNet`'s; not numbers where an equation does not reach its tolerance."""
        a = self.architecture
        check_input(a, x.shape)
        x, skips = self.stem(x), []
        for k, block in enumerate(self.down):
            x = dropped(block(x), a.dropout, key, k)
            skips.append(x)
            if k < 2:
                x = average_pool(self.mixed[k](x), TWO)
            else:
                x = self.middles[k - 2](self.tokens[k - 2](jax.nn.softplus(x)))
        x = self.bottleneck(x)
        for k, (mix, block) in enumerate(zip(self.rise, self.up, strict=True)):
            x = dropped(block(mix(x)), a.dropout, key, len(skips) + k)
            if k < 4:
                x = jnp.concatenate([doubled(x), skips[3 - k]], axis=-1)
            if k < 2:
                x = self.up_middles[k](x)
        return Output((self.head(x).astype(jnp.float32),), x)
