"""What is a Kolmogorov-Arnold layer? Each output is a sum of learned functions of each input.

Source: Liu et al. 2024, KAN (arXiv 2404.19756): phi(x) = w_b silu(x) + w_s sum_i c_i B_i(x)
(equations 2.10 to 2.12), B_i the B-splines of an order on a uniform grid over [-1, 1], with as many
knots more on either side as the order. Beyond the outermost knots the splines are 0 and what is
left is the silu. Products: Liu et al. 2024, KAN 2.0 (arXiv 2408.10205), section 2, MultKAN: a layer
makes n_s + 2 n_m sums, n_s of which stay and 2 n_m of which are multiplied in pairs.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float
from aistat_jax.nets.blocks import InstanceNorm, kernel, rectify

GRID, ORDER = 5, 3  # intervals over [-1, 1], and the order of the splines
NOISE = 0.1 / GRID / math.sqrt(12)  # sd of the coefficients that splines start with


def knots(grid: int = GRID, order: int = ORDER) -> np.ndarray:
    """Where the pieces of the splines meet, (grid + 2 order + 1,), evenly spread."""
    return np.arange(-order, grid + order + 1) * (2 / grid) - 1


def b_splines(
    x: Float[Array, "*shape"], grid: int = GRID, order: int = ORDER
) -> Float[Array, "*shape basis"]:
    """The grid + order B-splines at x, by the recursion of Cox and de Boor on uniform knots."""
    t, step = knots(grid, order).astype(np.float32), 2 / grid
    x = x[..., None]
    basis = ((x >= t[:-1]) & (x < t[1:])).astype(x.dtype)
    for k in range(1, order + 1):
        rising = (x - t[: -k - 1]) * basis[..., :-1]
        falling = (t[k + 1 :] - x) * basis[..., 1:]
        basis = (rising + falling) / (k * step)
    return basis


class KAN(nnx.Module):
    """From features to sums of learned functions of each: a silu and a spline, each scaled."""

    def __init__(self, features: int, out: int) -> None:
        basis = GRID + ORDER
        self.base = kernel((features, out), 1 / 3, features)
        self.spline = kernel((features, basis, out), NOISE**2, 1)
        self.scale = kernel((features, out), 1 / 3, features)

    @jax.named_scope("kan")
    def __call__(self, x: Float[Array, "*batch feature"]) -> Float[Array, "*batch out"]:
        base, spline, scale = (p[...].astype(x.dtype) for p in (self.base, self.spline, self.scale))
        curves = (spline * scale[:, None]).reshape(-1, spline.shape[-1])
        basis = b_splines(x).astype(x.dtype)
        return jax.nn.silu(x) @ base + basis.reshape(*x.shape[:-1], -1) @ curves


class MultiKAN(nnx.Module):
    """A Kolmogorov-Arnold layer with a quarter of sum nodes; others are products of two sums."""

    def __init__(self, features: int, out: int) -> None:
        self.sums = out // 4
        self.layer = KAN(features, self.sums + 2 * (out - self.sums))

    def __call__(self, x: Float[Array, "*batch feature"]) -> Float[Array, "*batch out"]:
        y = self.layer(x)
        sums, left, right = jnp.split(y, [self.sums, (self.sums + y.shape[-1]) // 2], axis=-1)
        return jnp.concatenate([sums, left * right], axis=-1)


class LayerNorm(nnx.Module):
    """The features of every place to mean 0 and variance 1, then scaled and shifted."""

    def __init__(self, features: int, epsilon: float = 1e-5) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.shift = nnx.Param(jnp.zeros(features, jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: Array) -> Array:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        rate = jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + self.epsilon)
        return (self.scale[...] * rate * centred + self.shift[...]).astype(x.dtype)


class Depthwise(nnx.Module):
    """Each feature convolved with 3 x 3 weights of its own, then a norm and a rectifier.

    A sum of shifted copies: XLA on a CPU runs grouped convolutions slowly.
    """

    def __init__(self, features: int) -> None:
        self.kernel = kernel((3, 3, features), 2.0, 9)
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.norm = InstanceNorm(features)

    def __call__(self, x: Float[Array, "batch u v feature"]) -> Float[Array, "batch u v feature"]:
        weights = self.kernel[...].astype(x.dtype)
        rows, columns = x.shape[1:3]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        total = jnp.broadcast_to(self.bias[...].astype(x.dtype), x.shape)
        for i in range(3):
            for j in range(3):
                total = total + weights[i, j] * padded[:, i : i + rows, j : j + columns]
        return rectify(self.norm(total), 0.0)


class TokenBlock(nnx.Module):
    """Tok-KAN: a norm, three times (KAN layer, depth-wise convolution), and a short cut."""

    def __init__(self, features: int, layer: type = KAN) -> None:
        self.norm = LayerNorm(features)
        self.layers = nnx.List([layer(features, features) for _ in range(3)])
        self.mixers = nnx.List([Depthwise(features) for _ in range(3)])

    def __call__(self, x: Float[Array, "batch u v feature"]) -> Float[Array, "batch u v feature"]:
        y = self.norm(x)
        for layer, mixer in zip(self.layers, self.mixers, strict=True):
            y = mixer(layer(y))
        return x + y


def doubled(x: Float[Array, "batch u v feature"]) -> Float[Array, "batch large wide feature"]:
    """Twice as large, interpolated linearly between voxel centres."""
    batch, rows, columns, features = x.shape
    shape = (batch, 2 * rows, 2 * columns, features)
    return jax.image.resize(x, shape, "linear").astype(x.dtype)


def refuse_deep(name: str, deep: bool) -> None:
    """Raises InputError for a network that speaks once and is to speak at every stage."""
    if deep:
        raise InputError(f"the backbone {name} speaks at its finest stage alone; plan it so")
