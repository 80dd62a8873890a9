"""What do all networks share? What they say, how they are built, and how they start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Key
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import class_of
from aistat_jax.nets.blocks import drop_features


class Output(NamedTuple):
    """What a network says: logits (batch, *space, class), finest first, and the last features.

    Without deep supervision there is one entry of logits; with it one a decoder stage, each at
    its own resolution. features is (batch, *space, architecture.features).
    """

    logits: tuple[Array, ...]
    features: Array


def build(architecture: Architecture) -> Any:
    """The network of an architecture, its kernels zero until `drawn` or trained weights are put in.

    Raises InputError for an architecture that fits no network, and for a package it needs that
    is not installed.
    """
    a = architecture.check()
    return class_of(a.backbone)(a)


def random_net(architecture: Architecture, seed: int = 0) -> Any:
    """A network with random weights."""
    graph, state = nnx.split(build(architecture))
    return nnx.merge(graph, drawn(state, seed))


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


def ascend(
    a: Architecture, up: Any, decoder: Any, heads: Any, skips: Sequence[Array], key: Key | None
) -> Output:
    """The way up of a U-Net: each up-sampling beside its skip through a block, then the heads.

    up and decoder are coarse to fine, skips finest first, the coarsest features last. heads speak
    of the last so many blocks.
    """
    x, spoken = skips[-1], []
    for k, (rise, block) in enumerate(zip(up, decoder, strict=True)):
        x = block(jnp.concatenate([skips[-2 - k], rise(x)], axis=-1))
        x = dropped(x, a.dropout, key, len(skips) + k)
        spoken.append(x)
    pairs = list(zip(heads, spoken[-len(heads) :], strict=True))
    return Output(tuple(head(y).astype(jnp.float32) for head, y in reversed(pairs)), x)


def dropped(x: Array, rate: float, key: Key | None, place: int) -> Array:
    """Features dropped at a place of the network, each place by its own part of the key."""
    return drop_features(x, rate, None if key is None else jax.random.fold_in(key, place))


def check_input(a: Architecture, shape: tuple[int, ...]) -> None:
    """Raises InputError for an array that the network cannot take."""
    wanted = a.input_channels
    if len(shape) != a.dims + 2 or shape[-1] != wanted:
        raise InputError(
            f"the network takes arrays (batch, {a.dims} axes, {wanted} channels), got {shape}"
        )
    if any(n % m for n, m in zip(shape[1:-1], a.multiple, strict=True)):
        raise InputError(
            f"every edge must be a multiple of {a.multiple} for this network, got {shape[1:-1]}; "
            "pad the array"
        )
