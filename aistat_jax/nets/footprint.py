"""How much does a training step keep in memory? Read off the network itself, as JAX traces it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.network import build


@lru_cache(maxsize=64)
def footprint(a: Architecture, patch: tuple[int, ...]) -> tuple[int, int]:
    """Numbers that one example of a patch leaves for the backward pass, and weights.

    What is kept is what reverse-mode differentiation hands from the forward to the backward pass;
    nothing is computed. Gradients on their way are taken as 8 features of the finest stage, and
    log-odds as 3 numbers a class, as for the U-Net (`plan.memory_bytes`). A solver of a
    differential equation keeps what its checkpoints do. Raises InputError for a patch that the
    network cannot take.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: build(a)))
    weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))
    x = jax.ShapeDtypeStruct((1, *patch, a.input_channels), jnp.float32)

    def backward(state: Any, x: Any) -> Any:
        return jax.vjp(lambda s: nnx.merge(graph, s)(x).logits, state)[1]

    shapes = {id(leaf): leaf for leaf in jax.tree.leaves(jax.eval_shape(backward, state, x))}
    kept = sum(math.prod(leaf.shape) for leaf in shapes.values()) - weights
    voxels = math.prod(patch)
    return max(0, kept) + (8 * a.widths[0] + 3 * a.classes) * voxels, weights
