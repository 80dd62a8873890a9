"""What is the network? A U-Net in two or three dimensions: image in, log-odds and features out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.blocks import (
    Conv,
    PlainBlock,
    ResidualBlock,
    Upsample,
    drop_features,
    max_pool,
)

KINDS = {"plain": PlainBlock, "residual": ResidualBlock}


class Output(NamedTuple):
    """What a U-Net says: logits (batch, *space, class), finest first, and the last features.

    Without deep supervision there is one entry of logits; with it one a decoder stage, each at
    its own resolution. features is (batch, *space, widths[0]).
    """

    logits: tuple[Array, ...]
    features: Array


class UNet(nnx.Module):
    """Encoder, decoder and skips (Ronneberger et al. 2015; Isensee et al. 2021 for its shape).

    The plain form with pooling and widths (32, 32, 64, 128, 256) is MONAI's BasicUNet. Its kernels
    are zero until `drawn` or trained weights are merged in.
    """

    def __init__(self, architecture: Architecture) -> None:
        a = architecture.check()
        block = KINDS[a.block]
        ones = (1,) * a.dims
        pooled = a.downsample == "pool"
        inputs = (a.channels + a.guidance, *a.widths[:-1])
        steps = (ones, *(ones if pooled else s for s in a.strides))
        self.encoder = nnx.List(
            [block(i, o, s, a.slope) for i, o, s in zip(inputs, a.widths, steps, strict=True)]
        )
        coarse_to_fine = range(len(a.strides) - 1, -1, -1)
        self.up = nnx.List(
            [Upsample(a.widths[k + 1], a.widths[k], a.strides[k]) for k in coarse_to_fine]
        )
        self.decoder = nnx.List(
            [block(2 * a.widths[k], a.widths[k], ones, a.slope) for k in coarse_to_fine]
        )
        spoken = coarse_to_fine if a.deep_supervision else coarse_to_fine[-1:]
        self.heads = nnx.List([Conv(a.widths[k], a.classes, ones, ones) for k in spoken])
        self.architecture = a

    def __call__(self, x: Float[Array, "batch *space channel"], key: Key | None = None) -> Output:
        """Logits and features of a batch; with a key, features are dropped at random.

        Shapes: x (batch, *space, channels + guidance), every edge a multiple of
        `architecture.multiple`. Raises InputError for another shape.
        """
        a = self.architecture
        _check_input(a, x.shape)
        skips = []
        for k, block in enumerate(self.encoder):
            if k and a.downsample == "pool":
                x = max_pool(x, a.strides[k - 1])
            x = _dropped(block(x), a.dropout, key, k)
            skips.append(x)
        spoken = []
        for k, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = block(jnp.concatenate([skips[-2 - k], up(x)], axis=-1))
            x = _dropped(x, a.dropout, key, len(skips) + k)
            spoken.append(x)
        heads = list(zip(self.heads, spoken[-len(self.heads) :], strict=True))
        return Output(tuple(head(y).astype(jnp.float32) for head, y in reversed(heads)), x)


def drawn(state: Any, seed: int) -> Any:
    """A network's state with every kernel drawn anew from its normal distribution.

    One call of the random number generator serves all kernels, in the order of the tree: a call
    each compiles anew for every shape (25 shapes took 38 s where one call took 2 s, on two busy
    cores).
    """
    variables = nnx.to_flat_state(state)
    sds = [variable.get_metadata().get("sd", 0.0) for _, variable in variables]
    shapes = [variable.shape for _, variable in variables]
    sizes = [math.prod(shape) if sd else 0 for shape, sd in zip(shapes, sds, strict=True)]
    normal = np.asarray(jax.random.normal(jax.random.key(seed), (sum(sizes),), jnp.float32))
    parts = np.split(normal, np.cumsum(sizes)[:-1])
    return nnx.from_flat_state(
        [
            (path, variable.replace(jnp.asarray(sd * part.reshape(variable.shape))))
            if sd
            else (path, variable)
            for (path, variable), sd, part in zip(variables, sds, parts, strict=True)
        ]
    )


def random_net(architecture: Architecture, seed: int = 0) -> UNet:
    """A U-Net with random weights."""
    graph, state = nnx.split(UNet(architecture))
    return nnx.merge(graph, drawn(state, seed))


def _dropped(x: Array, rate: float, key: Key | None, place: int) -> Array:
    return drop_features(x, rate, None if key is None else jax.random.fold_in(key, place))


def _check_input(a: Architecture, shape: tuple[int, ...]) -> None:
    wanted = a.channels + a.guidance
    if len(shape) != a.dims + 2 or shape[-1] != wanted:
        raise InputError(
            f"the network takes arrays (batch, {a.dims} axes, {wanted} channels), got {shape}"
        )
    if any(n % m for n, m in zip(shape[1:-1], a.multiple, strict=True)):
        raise InputError(
            f"every edge must be a multiple of {a.multiple} for this network, got {shape[1:-1]}; "
            "pad the array"
        )
