"""What is U-KAN? A small U-Net whose coarse stages mix features by Kolmogorov-Arnold layers.

Source: Li et al. 2025, AAAI (arXiv 2406.02918), figure 1. The figure in words: three convolution
stages of C/8, C/4 and C features (section 3.3, equation 3: two convolutions, then the largest of
every 2 x 2), then two tokenised KAN stages (equations 4 to 6): a strided convolution makes tokens,
a layer norm, and Z' = Z + DwConv(KAN(LN(Z))) three KAN layers deep. On the way up (equations 8 and
9) two convolutions, twice as large by interpolation, the skip added; the two coarsest with a
tokenised KAN block again; then a convolution to log-odds. C = 128 with 160 and 256 token features
is the paper's U-KAN of 6.35 million parameters. The 14.02 GFLOPs at 256^2 beside them in the paper
are near those of twice the width with splines not counted, as the released code is set by default.

Its batch norms are instance norms here, as everywhere in this package: what is said of an image
must not depend on others, and the number of parameters is the same.
"""

from __future__ import annotations

from itertools import pairwise

import jax.numpy as jnp
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones.kan import LayerNorm, TokenBlock, doubled, refuse_deep
from aistat_jax.nets.blocks import Conv, ConvNormAct, PlainBlock, max_pool, rectify
from aistat_jax.nets.network import Output, check_input, dropped

ONES, TWO = (1, 1), (2, 2)


class Narrowing(nnx.Module):
    """Two convolutions on the way up, the second of which changes the number of features."""

    def __init__(self, features: int, out: int) -> None:
        self.first = ConvNormAct(features, features, ONES, 0.0)
        self.second = ConvNormAct(features, out, ONES, 0.0)

    def __call__(self, x: Array) -> Array:
        return self.second(self.first(x))


class Tokens(nnx.Module):
    """Overlapping patches of 3 x 3 every 2 voxels as tokens, normalised."""

    def __init__(self, features: int, out: int, strides: tuple[int, ...] = TWO) -> None:
        self.project = Conv(features, out, (3, 3), strides)
        self.norm = LayerNorm(out)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.project(x))


class UKAN(nnx.Module):
    """See the head of this file. widths: C/8, C/4, C, C, and of the two token stages."""

    def __init__(self, a: Architecture) -> None:
        refuse_deep("ukan", a.deep_supervision)
        w = a.widths
        if w[2] != w[3]:
            raise InputError(f"ukan pools its third stage, so widths 2 and 3 must agree, got {w}")
        inputs = (a.input_channels, *w[:2])
        self.encoder = nnx.List(
            [PlainBlock(i, o, ONES, 0.0) for i, o in zip(inputs, w[:3], strict=True)]
        )
        self.tokens = nnx.List([Tokens(w[3], w[4]), Tokens(w[4], w[5])])
        self.down = nnx.List([TokenBlock(w[4]), TokenBlock(w[5])])
        self.down_norms = nnx.List([LayerNorm(w[4]), LayerNorm(w[5])])
        rising = (w[5], w[4], w[3], w[1], w[0], w[0])
        self.decoder = nnx.List([Narrowing(i, o) for i, o in pairwise(rising)])
        self.up = nnx.List([TokenBlock(w[4]), TokenBlock(w[3])])
        self.up_norms = nnx.List([LayerNorm(w[4]), LayerNorm(w[3])])
        self.head = Conv(w[0], a.classes, ONES, ONES)
        self.architecture = a

    def __call__(self, x: Float[Array, "batch u v channel"], key: Key | None = None) -> Output:
        """As `UNet`'s."""
        a = self.architecture
        check_input(a, x.shape)
        skips = []
        for k, block in enumerate(self.encoder):
            x = dropped(max_pool(block(x), TWO), a.dropout, key, k)
            skips.append(x)
        for k, (tokens, block, norm) in enumerate(
            zip(self.tokens, self.down, self.down_norms, strict=True)
        ):
            x = dropped(norm(block(tokens(x))), a.dropout, key, 3 + k)
            skips.append(x)
        for k, block in enumerate(self.decoder):
            x = rectify(doubled(block(x)), 0.0)
            if k < 4:
                x = x + skips[3 - k]
            if k < 2:
                x = self.up_norms[k](self.up[k](x))
            x = dropped(x, a.dropout, key, 5 + k)
        return Output((self.head(x).astype(jnp.float32),), x)
