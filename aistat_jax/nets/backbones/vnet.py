"""What is the V-Net? A U-Net whose every stage learns what to add to what it was given.

Source: Milletari, Navab & Ahmadi 2016, 3DV (arXiv 1606.04797), figure 2. The figure in words: five
stages of 1, 2, 3, 3 and 3 convolutions of 5 voxels along every axis, with 16 features in the
finest and twice as many in each further one; a stage's input is added to the output of its last
convolution (section 2: "learns a residual function"), and a parametric rectifier (PReLU, He et
al. 2015, equation 1) follows every convolution. Steps down and up are convolutions of 2 voxels
with stride 2. On the way up the skip stands beside what rose, half of the features each, so that
the last stage has twice the features of the first; 3, 3, 2 and 1 convolutions. The image itself is
added, its channels repeated, in the first stage.

The paper has no norm. Here an instance norm precedes every rectifier (option `norm`), without
which small batches learn unreliably; its Dice loss (section 3) is part of this package's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx

from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import options_of
from aistat_jax.nets.blocks import Conv, Downsample, InstanceNorm, PReLU, Upsample
from aistat_jax.nets.network import Output, check_input, dropped

CONVOLUTIONS = 3  # of every stage but the finest two, which have 1 and 2


@dataclass(frozen=True)
class Options:
    """window: of its convolutions along every axis; norm: instance norms before the rectifiers."""

    window: int = 5
    norm: bool = True


class Layer(nnx.Module):
    """What follows a convolution: a norm, or not, and a parametric rectifier."""

    def __init__(self, conv: nnx.Module, features: int, norm: bool) -> None:
        self.conv, self.act = conv, PReLU(features)
        self.norm = InstanceNorm(features) if norm else None

    def __call__(self, x: Array, add: Array | None = None) -> Array:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return self.act(x if add is None else x + add)


class Stage(nnx.Module):
    """Convolutions, and what the stage was given added before the last rectifier."""

    def __init__(self, features: int, out: int, dims: int, count: int, of: Options) -> None:
        window, ones = (of.window,) * dims, (1,) * dims
        self.layers = nnx.List(
            [
                Layer(Conv(out if n else features, out, window, ones), out, of.norm)
                for n in range(count)
            ]
        )

    def __call__(self, x: Array, add: Array) -> Array:
        *first, last = self.layers
        for layer in first:
            x = layer(x)
        return last(x, add)


class VNet(nnx.Module):
    """See the head of this file."""

    Options = Options

    def __init__(self, a: Architecture) -> None:
        of: Options = options_of(a.backbone, a.options)
        stages, ones = len(a.widths), (1,) * a.dims
        counts = [min(k + 1, CONVOLUTIONS) for k in range(stages)]
        self.encoder = nnx.List(
            [
                Stage(w if k else a.input_channels, w, a.dims, n, of)
                for k, (w, n) in enumerate(zip(a.widths, counts, strict=True))
            ]
        )
        self.down = nnx.List(
            [
                Layer(Downsample(i, o, s), o, of.norm)
                for i, o, s in zip(a.widths, a.widths[1:], a.strides, strict=False)
            ]
        )
        coarse_to_fine = range(stages - 2, -1, -1)
        below = [a.widths[-1], *(2 * a.widths[k] for k in coarse_to_fine)]
        self.up = nnx.List(
            [
                Layer(Upsample(i, a.widths[k], a.strides[k]), a.widths[k], of.norm)
                for i, k in zip(below, coarse_to_fine, strict=False)
            ]
        )
        self.decoder = nnx.List(
            [Stage(2 * a.widths[k], 2 * a.widths[k], a.dims, counts[k], of) for k in coarse_to_fine]
        )
        spoken = coarse_to_fine if a.deep_supervision else coarse_to_fine[-1:]
        self.heads = nnx.List([Conv(2 * a.widths[k], a.classes, ones, ones) for k in spoken])
        self.architecture = a

    def __call__(self, x: Float[Array, "batch *space channel"], key: Key | None = None) -> Output:
        """As `UNet`'s; the last features are 2 widths[0]."""
        a = self.architecture
        check_input(a, x.shape)
        skips = []
        for k, stage in enumerate(self.encoder):
            if k:
                x = self.down[k - 1](x)
            add = x if k else x[..., jnp.arange(a.widths[0]) % x.shape[-1]]
            x = dropped(stage(x, add), a.dropout, key, k)
            skips.append(x)
        spoken = []
        for k, (up, stage) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = jnp.concatenate([skips[-2 - k], up(x)], axis=-1)
            x = dropped(stage(x, x), a.dropout, key, len(skips) + k)
            spoken.append(x)
        pairs = list(zip(self.heads, spoken[-len(self.heads) :], strict=True))
        return Output(tuple(head(y).astype(jnp.float32) for head, y in reversed(pairs)), x)
