"""What is a U-Net made of? Convolution, up-sampling, instance norm, and blocks of them.

XLA convolves 2D channels-last arrays well on a CPU and 3D ones badly, so that there a 3D
convolution is a 2D one over all slices at once, whose input channels are those of the slices
above, at and below. On an accelerator it is the native one; weights and results are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._typing import Array, Float, Key

EPSILON = 1e-5  # as PyTorch's instance norm
BLOCK = 4096  # outputs a block of the kernel gradient: they stay in the cache


def convolve(
    x: Float[Array, "batch *space feature"],
    kernel: Float[Array, "*window feature out"],
    strides: Sequence[int],
) -> Float[Array, "batch *smaller out"]:
    """Cross-correlation with odd windows and zero padding of half a window on either side.

    Shapes: x (batch, *space, feature); kernel (*window, feature, out), 2D or 3D; strides (dims,).
    """
    strides = tuple(strides)
    on_cpu = by_rows if kernel.ndim == 4 else by_slices
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, w: on_cpu(x, w, strides),
        default=lambda x, w: _native(x, w, strides),
    )


def _native(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    letters = "DHW"[-len(strides) :]
    return jax.lax.conv_general_dilated(
        x, kernel, strides, [(size // 2, size // 2) for size in kernel.shape[:-2]],
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )  # fmt: skip


def by_slices(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """A 3D convolution as one 2D convolution over slices joined with their neighbours."""
    depth, window = x.shape[1], kernel.shape[0]
    half = window // 2
    padded = jnp.pad(x, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0)))
    last = depth + 2 * half - window + 1
    slices = [padded[:, k : k + last : strides[0]] for k in range(window)]
    joined = jnp.concatenate(slices, axis=-1)
    batch, planes = joined.shape[:2]
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    out = jnp.asarray(by_rows(joined.reshape(-1, *joined.shape[2:]), flat, strides[1:]))
    return out.reshape(batch, planes, *out.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def by_rows(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """A 2D convolution whose kernel gradient is summed over blocks of rows.

    XLA's own took three to nine times as long as the forward pass on a CPU, and this about half
    of that (the median of 17 runs at 256^2 and 96^3 on two busy cores).
    """
    return _native(x, kernel, strides)


def _forward(x: Array, kernel: Array, strides: tuple[int, ...]) -> tuple[Array, Any]:
    return _native(x, kernel, strides), (x, kernel)


def _backward(strides: tuple[int, ...], saved: Any, slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    _, pull = jax.vjp(lambda x: _native(x, kernel, strides), x)
    before = pull(slope)[0]
    with jax.named_scope("kernel gradient"):
        if math.prod(slope.shape[:3]) <= BLOCK or math.prod(kernel.shape[:2]) == 1:
            _, pull_kernel = jax.vjp(lambda w: _native(x, w, strides), kernel)
            return before, pull_kernel(slope)[0]
        return before, _kernel_gradient(x, slope, kernel.shape, strides)


by_rows.defvjp(_forward, _backward)


def _kernel_gradient(
    x: Array, slope: Array, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Array:
    """Sum over blocks of about BLOCK outputs of x shifted, transposed, times the slope.

    Where the slope has no more features than x and no steps, it is the slope that is shifted, by
    all columns at once: a third as many products, of matrices three times as wide.
    """
    batch, rows, columns, out = slope.shape
    features = x.shape[-1]
    images = _divisor(batch, BLOCK // (rows * columns))
    height = _divisor(rows, BLOCK // columns)
    reach = [(n - 1) * s + 1 for n, s in zip((height, columns), strides, strict=True)]
    above, beside = (size // 2 for size in shape[:2])
    turned = math.prod(strides) == 1 and out <= features
    in_x, in_slope = (0, beside) if turned else (beside, 0)
    x = jnp.pad(x, ((0, 0), (above, above), (in_x, in_x), (0, 0)))
    slope = jnp.pad(slope, ((0, 0), (0, 0), (in_slope, in_slope), (0, 0)))

    def add(total: Array, place: Array) -> tuple[Array, None]:
        image, row = (place // (rows // height)) * images, (place % (rows // height)) * height
        block = jax.lax.dynamic_slice(
            x, (image, row * strides[0], 0, 0),
            (images, reach[0] + 2 * above, x.shape[2], features),
        )  # fmt: skip
        slopes = jax.lax.dynamic_slice(
            slope, (image, row, 0, 0), (images, height, slope.shape[2], out)
        )
        if turned:
            shifts = [slopes[:, :, j : j + columns] for j in reversed(range(shape[1]))]
            wide = jnp.concatenate(shifts, axis=-1).reshape(-1, shape[1] * out)
            shifted = [block[:, i : i + height] for i in range(shape[0])]
        else:
            wide = slopes.reshape(-1, out)
            shifted = [
                block[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]]
                for i in range(shape[0])
                for j in range(shape[1])
            ]
        return total + jnp.stack([part.reshape(-1, features).T @ wide for part in shifted]), None

    blocks = jnp.arange((batch // images) * (rows // height))
    parts, width = (shape[0], shape[1] * out) if turned else (math.prod(shape[:2]), out)
    total, _ = jax.lax.scan(add, jnp.zeros((parts, features, width), slope.dtype), blocks)
    if turned:
        total = total.reshape(shape[0], features, shape[1], out).transpose(0, 2, 1, 3)
    return total.reshape(shape)


def _divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`, and at least 1."""
    return max(d for d in range(1, count + 1) if count % d == 0 and d <= max(most, 1))


def kernel(shape: Sequence[int], gain: float, inputs: int) -> nnx.Param:
    """A kernel of zeros that says with which sd it is to be drawn; see `unet.drawn`.

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


class InstanceNorm(nnx.Module):
    """Each feature of each example to mean 0 and variance 1 over space, then scaled and shifted.

    Statistics are taken in float32 whatever the input. Source: Ulyanov et al. 2016.
    """

    def __init__(self, features: int) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.shift = nnx.Param(jnp.zeros(features, jnp.float32))

    @jax.named_scope("norm")
    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *space f"]:
        axes = tuple(range(1, x.ndim - 1))
        wide = x.astype(jnp.float32)
        mean = wide.mean(axis=axes, keepdims=True)
        variance = jnp.square(wide - mean).mean(axis=axes, keepdims=True)
        gain = self.scale[...] * jax.lax.rsqrt(variance + EPSILON)
        return (wide * gain + (self.shift[...] - mean * gain)).astype(x.dtype)


class ConvNormAct(nnx.Module):
    """Convolution, instance norm, leaky rectifier (slope 1: none)."""

    def __init__(
        self,
        features: int,
        out: int,
        strides: Sequence[int],
        slope: float,
        window: int = 3,
    ) -> None:
        self.conv = Conv(features, out, (window,) * len(strides), strides)
        self.norm = InstanceNorm(out)
        self.slope = slope

    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        # The norm takes away whatever a bias adds.
        return rectify(self.norm(self.conv.without_bias(x)), self.slope)


class PlainBlock(nnx.Module):
    """Two convolutions, the first of which may step."""

    def __init__(self, features: int, out: int, strides: Sequence[int], slope: float) -> None:
        self.first = ConvNormAct(features, out, strides, slope)
        self.second = ConvNormAct(out, out, (1,) * len(strides), slope)

    def __call__(self, x: Float[Array, "batch *space feature"]) -> Float[Array, "batch *small out"]:
        return self.second(self.first(x))


class ResidualBlock(nnx.Module):
    """Two convolutions beside a short cut, which is averaged and projected where shapes differ.

    Source: He et al. 2016 with the average-pooled short cut of He et al. 2019 (ResNet-D).
    """

    def __init__(self, features: int, out: int, strides: Sequence[int], slope: float) -> None:
        ones = (1,) * len(strides)
        self.first = ConvNormAct(features, out, strides, slope)
        self.second = ConvNormAct(out, out, ones, 1.0)
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
