"""What is a U-Net made of? Convolution, up-sampling, instance norm, and blocks of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.convolution import convolve

EPSILON = 1e-5  # as PyTorch's instance norm


def kernel(shape: Sequence[int], gain: float, inputs: int) -> nnx.Param:
    """A kernel of zeros that says with which sd it is to be drawn; see `network.drawn`.

    gain 2 is He et al. 2015's for rectifiers, gain 1 keeps the variance of a linear map.
    """
    return nnx.Param(jnp.zeros(tuple(shape), jnp.float32), sd=math.sqrt(gain / inputs))


class Conv(nnx.Module):
    """A convolution with bias; kernel (*window, feature, out)."""

    def __init__(
        self, features: int, out: int, window: Sequence[int], strides: Sequence[int]
    ) -> None:
        self.kernel = kernel((*window, features, out), 2.0, features * math.prod(window))
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))
        self.strides = tuple(strides)

    @jax.named_scope("convolution")
    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        return self.without_bias(x) + self.bias[...].astype(x.dtype)

    @jax.named_scope("convolution")
    def without_bias(self, x: Array) -> Array:
        return convolve(x, self.kernel[...].astype(x.dtype), self.strides)


class Upsample(nnx.Module):
    """A transposed convolution whose window is its stride: a matrix product, then depth to space.

    kernel (feature, *strides, out): no two outputs share an input, so nothing is summed.
    """

    def __init__(self, features: int, out: int, strides: Sequence[int]) -> None:
        self.kernel = kernel((features, *strides, out), 1.0, features)
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))
        self.strides = tuple(strides)

    @jax.named_scope("up-sampling")
    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *large out"]:
        kernel = self.kernel[...].astype(x.dtype)
        dims, out = len(self.strides), kernel.shape[-1]
        batch, *space, features = x.shape
        y = (x.reshape(-1, features) @ kernel.reshape(features, -1)).reshape(
            batch, *space, *self.strides, out
        )
        order = [0, *(axis for d in range(dims) for axis in (1 + d, 1 + dims + d)), 1 + 2 * dims]
        large = [size * step for size, step in zip(space, self.strides, strict=True)]
        return y.transpose(order).reshape(batch, *large, out) + self.bias[...].astype(x.dtype)


class Downsample(nnx.Module):
    """A convolution whose window is its stride: space to depth, then a matrix product.

    kernel (*strides, feature, out): no two outputs share an input.
    """

    def __init__(self, features: int, out: int, strides: Sequence[int]) -> None:
        self.kernel = kernel((*strides, features, out), 2.0, features * math.prod(strides))
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))
        self.strides = tuple(strides)

    @jax.named_scope("convolution")
    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        kernel, dims = self.kernel[...].astype(x.dtype), len(self.strides)
        boxes = _boxes(x, self.strides)
        order = [0, *(1 + 2 * d for d in range(dims)), *_box_axes(self.strides), 1 + 2 * dims]
        boxes = boxes.transpose(order)
        y = boxes.reshape(*boxes.shape[: 1 + dims], -1) @ kernel.reshape(-1, kernel.shape[-1])
        return y + self.bias[...].astype(x.dtype)


class PReLU(nnx.Module):
    """x where positive and a learned slope times x elsewhere, one slope a feature."""

    def __init__(self, features: int) -> None:
        self.slope = nnx.Param(jnp.full(features, 0.25, jnp.float32))

    def __call__(self, x: Array) -> Array:
        return jnp.where(x >= 0, x, self.slope[...].astype(x.dtype) * x)


class InstanceNorm(nnx.Module):
    """Each feature of each example to mean 0 and variance 1 over space, then scaled and shifted.

    A leaky rectifier of the given slope follows (1: none). Statistics are taken in float32
    whatever the input. Source: Ulyanov et al. 2016.
    """

    def __init__(self, features: int) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.shift = nnx.Param(jnp.zeros(features, jnp.float32))

    @jax.named_scope("norm")
    def __call__(
        self, x: Float[Array, "batch *space feature"], slope: float = 1.0
    ) -> Float[Array, "batch *space feature"]:
        return _normalise(x, self.scale[...], self.shift[...], slope)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise(x: Array, scale: Array, shift: Array, slope: float) -> Array:
    """Instance norm and rectifier in one, so that a step keeps nothing but x and its moments."""
    return _normalise_forward(x, scale, shift, slope)[0]


def _normalise_forward(x: Array, scale: Array, shift: Array, slope: float) -> tuple[Array, Any]:
    axes = tuple(range(1, x.ndim - 1))
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=axes, keepdims=True)
    variance = jnp.square(wide - mean).mean(axis=axes, keepdims=True)
    rate = jax.lax.rsqrt(variance + EPSILON)
    out = rectify(_affine(wide, mean, scale * rate, shift), slope)
    return out.astype(x.dtype), (x, mean, rate, scale, shift)


def _normalise_backward(slope: float, saved: Any, out: Array) -> tuple[Array, Array, Array]:
    x, mean, rate, scale, shift = saved
    axes = tuple(range(1, x.ndim - 1))
    wide, gain = x.astype(jnp.float32), scale * rate
    centred, after = wide - mean, out.astype(jnp.float32)
    if slope != 1.0:
        after = jnp.where(_affine(wide, mean, gain, shift) >= 0, after, slope * after)
    sums = [v.sum(axis=axes, keepdims=True) for v in (after * centred, after)]
    along, level = sums[0] * rate, sums[1]
    of_scale, of_shift = (v.sum(axis=(0, *axes)) for v in (along, level))
    # gain * (after - mean of after - standardised x * mean of their product), with as little as
    # can be at each voxel
    share = gain / math.prod(x.shape[1:-1])
    before = gain * after - _affine(wide, mean, share * along * rate, share * level)
    return before.astype(x.dtype), of_scale, of_shift


_normalise.defvjp(_normalise_forward, _normalise_backward)


def _affine(x: Array, mean: Array, gain: Array, shift: Array) -> Array:
    return x * gain + (shift - mean * gain)


class ConvNormAct(nnx.Module):
    """Convolution, instance norm, leaky rectifier (slope 1: none)."""

    def __init__(
        self,
        features: int,
        out: int,
        strides: Sequence[int],
        slope: float,
        window: int | Sequence[int] = 3,
    ) -> None:
        sizes = (window,) * len(strides) if isinstance(window, int) else window
        self.conv = Conv(features, out, sizes, strides)
        self.norm = InstanceNorm(out)
        self.slope = slope

    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        # The norm takes away whatever a bias adds.
        return self.norm(self.conv.without_bias(x), self.slope)


class PlainBlock(nnx.Module):
    """Two convolutions, or another number of them, the first of which may step."""

    def __init__(
        self,
        features: int,
        out: int,
        strides: Sequence[int],
        slope: float,
        window: int | Sequence[int] = 3,
        convolutions: int = 2,
    ) -> None:
        ones = (1,) * len(strides)
        self.first = ConvNormAct(features, out, strides, slope, window)
        if convolutions > 1:
            self.second = ConvNormAct(out, out, ones, slope, window)
        if convolutions > 2:
            self.more = nnx.List(
                [ConvNormAct(out, out, ones, slope, window) for _ in range(convolutions - 2)]
            )
        self.convolutions = convolutions

    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        x = self.first(x)
        if self.convolutions > 1:
            x = self.second(x)
        if self.convolutions > 2:
            for conv in self.more:
                x = conv(x)
        return x


class ResidualBlock(nnx.Module):
    """Two convolutions beside a short cut, which is averaged and projected where shapes differ.

    Source: He et al. 2016 with the average-pooled short cut of He et al. 2019 (ResNet-D).
    """

    def __init__(
        self,
        features: int,
        out: int,
        strides: Sequence[int],
        slope: float,
        window: int | Sequence[int] = 3,
        convolutions: int = 2,
    ) -> None:
        if convolutions != 2:
            raise InputError(f"a residual block has 2 convolutions, got {convolutions}")
        ones = (1,) * len(strides)
        self.first = ConvNormAct(features, out, strides, slope, window)
        self.second = ConvNormAct(out, out, ones, 1.0, window)
        same = features == out
        self.short = None if same else ConvNormAct(features, out, ones, 1.0, window=1)
        self.strides, self.slope = tuple(strides), slope

    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        short = average_pool(x, self.strides)
        if self.short is not None:
            short = self.short(short)
        return rectify(short + self.second(self.first(x)), self.slope)


@jax.named_scope("rectifier")
def rectify(x: Array, slope: float) -> Array:
    """Leaky rectifier: x where positive, slope * x elsewhere."""
    return x if slope == 1.0 else jnp.where(x >= 0, x, slope * x)


@jax.named_scope("pooling")
def max_pool(x: Float[Array, "batch *space feature"], strides: Sequence[int]) -> Array:
    """The largest value of every box of `strides` voxels, which tile the array.

    Taken axis by axis: a maximum of many has a slope that costs a pass for each of them.
    """
    boxes = _boxes(x, strides)
    for axis in reversed(_box_axes(strides)):
        parts = [jax.lax.index_in_dim(boxes, k, axis, False) for k in range(boxes.shape[axis])]
        boxes = reduce(jnp.maximum, parts)
    return boxes


def average_pool(x: Float[Array, "batch *space feature"], strides: Sequence[int]) -> Array:
    """The mean of every box of `strides` voxels, which tile the array."""
    if math.prod(strides) == 1:
        return x
    return _boxes(x, strides).mean(axis=_box_axes(strides))


def _boxes(x: Array, strides: Sequence[int]) -> Array:
    batch, *space, features = x.shape
    split = np.ravel([(n // s, s) for n, s in zip(space, strides, strict=True)])
    return x.reshape(batch, *(int(n) for n in split), features)


def _box_axes(strides: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 + 2 * d for d in range(len(strides)))


def drop_features(
    x: Float[Array, "batch *space feature"], rate: float, key: Key | None
) -> Float[Array, "batch *space feature"]:
    """Whole features set to zero with probability `rate` and the rest scaled up; no key, no drop.

    Source: Tompson et al. 2015 (spatial dropout); with a key at prediction, Gal & Ghahramani 2016.
    """
    if key is None or rate == 0:
        return x
    shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return x * (jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)).astype(x.dtype)
