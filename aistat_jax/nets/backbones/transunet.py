"""What is TransUNet? A ResNet to a sixteenth of the resolution, a transformer there, a U-Net back.

Source: Chen et al. 2021 (arXiv 2102.04306), figure 1, its R50-ViT-B/16. The figure in words: a
ResNet-50 of three stages (He et al. 2016; weight standardisation, Qiao et al. 2019, and group
norms, Wu & He 2018, as in Dosovitskiy et al. 2021) gives skips at 1/2, 1/4 and 1/8; each voxel at
1/16 is a token, z_0 = x E + E_pos (equation 1); twelve layers z' = MSA(LN(z)) + z and
z = MLP(LN(z')) + z' (equations 2 and 3); the tokens as an image again, and on the way up, four
times, twice as large by interpolation, the skip beside it, two convolutions (the "cascaded
upsampler").

Here: batch norms of the way up are instance norms; interpolation is between voxel centres and not
between corners; and E_pos is learned on a grid of 14 x 14 and interpolated to that of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import options_of
from aistat_jax.nets.backbones.kan import LayerNorm, doubled, refuse_deep
from aistat_jax.nets.blocks import Conv, ConvNormAct, PlainBlock, kernel, rectify
from aistat_jax.nets.convolution import convolve
from aistat_jax.nets.network import Output, check_input, dropped

ONES, TWO = (1, 1), (2, 2)
GROUPS = 32


@dataclass(frozen=True)
class Options:
    """layers and heads of the transformer, and how much wider its inner features are (mlp); units
    of the three ResNet stages; grid: edge of the grid on which places are learned."""

    layers: int = 12
    heads: int = 12
    mlp: int = 4
    units: tuple[int, int, int] = (3, 4, 9)
    grid: int = 14


class Dense(nnx.Module):
    def __init__(self, features: int, out: int) -> None:
        self.kernel = kernel((features, out), 1.0, features)
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class Standardised(nnx.Module):
    """A convolution without bias, the weights of each output of mean 0 and variance 1."""

    def __init__(self, features: int, out: int, window: int, strides: tuple[int, ...]) -> None:
        shape = (window, window, features, out)
        self.kernel = kernel(shape, 2.0, features * window**2)
        self.strides = strides

    def __call__(self, x: Array) -> Array:
        w = self.kernel[...]
        centred = w - w.mean(axis=(0, 1, 2))
        scaled = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=(0, 1, 2)) + 1e-5)
        return convolve(x, scaled.astype(x.dtype), self.strides)


class GroupNorm(nnx.Module):
    """Groups of features of each example to mean 0 and variance 1, then scaled and shifted."""

    def __init__(self, features: int, groups: int = GROUPS) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.shift = nnx.Param(jnp.zeros(features, jnp.float32))
        self.groups = math.gcd(groups, features)

    def __call__(self, x: Float[Array, "batch u v feature"]) -> Float[Array, "batch u v feature"]:
        parts = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
        axes = (1, 2, 4)
        centred = parts - parts.mean(axes, keepdims=True)
        rate = jax.lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + 1e-6)
        y = (centred * rate).reshape(x.shape)
        return (self.scale[...] * y + self.shift[...]).astype(x.dtype)


class Bottleneck(nnx.Module):
    """ResNet's unit: 1 x 1, 3 x 3 and 1 x 1 convolutions beside a short cut."""

    def __init__(self, features: int, out: int, strides: tuple[int, ...]) -> None:
        inner = out // 4
        self.convs = nnx.List(
            [
                Standardised(features, inner, 1, ONES),
                Standardised(inner, inner, 3, strides),
                Standardised(inner, out, 1, ONES),
            ]
        )
        self.norms = nnx.List([GroupNorm(inner), GroupNorm(inner), GroupNorm(out)])
        if features != out:
            self.project, self.norm = Standardised(features, out, 1, strides), GroupNorm(out, out)
        self.same = features == out

    def __call__(self, x: Array) -> Array:
        short = x if self.same else self.norm(self.project(x))
        for n, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = rectify(x, 0.0) if n < 2 else x
        return rectify(short + x, 0.0)


class Layer(nnx.Module):
    """Attention and a perceptron, each after a layer norm and beside a short cut."""

    def __init__(self, features: int, of: Options) -> None:
        self.norms = nnx.List([LayerNorm(features, 1e-6), LayerNorm(features, 1e-6)])
        self.seen = nnx.List([Dense(features, features) for _ in range(3)])
        self.out = Dense(features, features)
        self.widen, self.narrow = (
            Dense(features, of.mlp * features),
            Dense(of.mlp * features, features),
        )
        self.heads = of.heads

    def __call__(
        self, z: Float[Array, "batch token feature"]
    ) -> Float[Array, "batch token feature"]:
        y = self.norms[0](z)
        query, key, value = (dense(y).reshape(*z.shape[:2], self.heads, -1) for dense in self.seen)
        z = z + self.out(jax.nn.dot_product_attention(query, key, value).reshape(z.shape))
        y = jax.nn.gelu(self.widen(self.norms[1](z)), approximate=False)
        return z + self.narrow(y)


class TransUNet(nnx.Module):
    """See the head of this file. widths: of the way up, (16, 64, 128, 256), and of the tokens."""

    Options = Options

    def __init__(self, a: Architecture) -> None:
        refuse_deep("transunet", a.deep_supervision)
        of: Options = options_of(a.backbone, a.options)
        w, tokens = a.widths, a.widths[4]
        if len(of.units) != 3:
            raise InputError(f"units must be those of three stages, got {of.units}")
        if tokens % of.heads:
            raise InputError(f"{of.heads} heads cannot share {tokens} features of a token")
        self.root = Standardised(a.input_channels, w[1], 7, TWO)
        self.root_norm = GroupNorm(w[1])
        stages, before = [], w[1]
        for k, count in enumerate(of.units):
            out = w[1] * 4 * 2**k
            units = [
                Bottleneck(before if n == 0 else out, out, TWO if k and n == 0 else ONES)
                for n in range(count)
            ]
            stages.append(nnx.List(units))
            before = out
        self.stages = nnx.List(stages)
        self.embed = Dense(before, tokens)
        self.places = kernel((of.grid, of.grid, tokens), 0.02**2, 1)
        self.layers = nnx.List([Layer(tokens, of) for _ in range(of.layers)])
        self.norm = LayerNorm(tokens, 1e-6)
        self.more = ConvNormAct(tokens, 2 * w[3], ONES, 0.0)
        inputs = (2 * w[3] + 8 * w[1], w[3] + 4 * w[1], w[2] + w[1], w[1])
        self.decoder = nnx.List(
            [PlainBlock(i, o, ONES, 0.0) for i, o in zip(inputs, w[3::-1], strict=True)]
        )
        self.head = Conv(w[0], a.classes, (3, 3), ONES)
        self.architecture = a

    def __call__(self, x: Float[Array, "batch u v channel"], key: Key | None = None) -> Output:
        """As `UNet`'s."""
        a = self.architecture
        check_input(a, x.shape)
        x = rectify(self.root_norm(self.root(x)), 0.0)
        skips = [x]
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
        ).astype(x.dtype)
        for k, stage in enumerate(self.stages):
            for unit in stage:
                x = unit(x)
            skips.append(dropped(x, a.dropout, key, k))
        x = self.embed(skips.pop())
        places = self.places[...].astype(x.dtype)
        z = (x + jax.image.resize(places, x.shape[1:], "linear")).reshape(len(x), -1, x.shape[-1])
        for layer in self.layers:
            z = layer(z)
        x = dropped(self.more(self.norm(z).reshape(x.shape)), a.dropout, key, 3)
        for k, block in enumerate(self.decoder):
            x = doubled(x)
            x = block(jnp.concatenate([x, skips[-1 - k]], axis=-1) if k < 3 else x)
            x = dropped(x, a.dropout, key, 4 + k)
        return Output((self.head(x).astype(jnp.float32),), x)
