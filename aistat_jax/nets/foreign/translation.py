"""How does a weight of PyTorch become one of ours? Renamed, its axes moved, nothing lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.foreign.reading import Checkpoint
from aistat_jax.nets.network import build
from aistat_jax.nets.weights import Weights


class Source(NamedTuple):
    """Where a weight of ours comes from.

    kind: "conv" (out, in, *window), "up" (in, out, *window), or "vector". halves: the number of
    input features that come second there and first here, in a convolution of joined features.
    spare: zeros may stand in (a bias before a norm, which takes it away).
    """

    name: str
    kind: str = "vector"
    halves: int = 0
    spare: bool = False


Sources = dict[str, Source]


def convolution(ours: str, theirs: str, kind: str = "conv", halves: int = 0) -> Sources:
    """The kernel and bias of a convolution."""
    return {
        f"{ours}.kernel": Source(f"{theirs}.weight", kind, halves),
        f"{ours}.bias": Source(f"{theirs}.bias"),
    }


def normed(ours: str, conv: str, norm: str, halves: int = 0) -> Sources:
    """A `ConvNormAct`: its convolution, whose bias is spare, and its norm."""
    return {
        f"{ours}.conv.kernel": Source(f"{conv}.weight", "conv", halves),
        f"{ours}.conv.bias": Source(f"{conv}.bias", spare=True),
        f"{ours}.norm.scale": Source(f"{norm}.weight"),
        f"{ours}.norm.shift": Source(f"{norm}.bias"),
    }


def block(n: int) -> str:
    """The name of the n-th convolution of a `PlainBlock`."""
    return ("first", "second")[n] if n < 2 else f"more.{n - 2}"


def translated(
    a: Architecture, sources: Sources, given: Checkpoint, axes: Sequence[int]
) -> Weights:
    """The weights of our network from those of theirs.

    axes: for each of our axes theirs. Raises InputError for weights that are missing, left over,
    or of another shape.
    """
    state = nnx.state(nnx.eval_shape(lambda: build(a)))
    shapes = {".".join(map(str, p)): v.get_value().shape for p, v in nnx.to_flat_state(state)}
    if shapes.keys() != sources.keys():
        differ = sorted(shapes.keys() ^ sources.keys())
        raise InputError(f"{given.file}: the weights of {differ[0]} have no place in the network")
    theirs = without_copies(given.weights)
    wanted = {s.name for s in sources.values() if not s.spare}
    missing = sorted(wanted - theirs.keys())
    extra = sorted(theirs.keys() - {s.name for s in sources.values()})
    for names, what in ((missing, "missing"), (extra, "more than its network has")):
        if names:
            raise InputError(
                f"{given.file}: {_counted(names)} {what}, such as {names[0]}; pass the whole "
                "checkpoint of the network that its plan describes"
            )
    found = {}
    for name, source in sources.items():
        if source.name not in theirs:
            found[name] = np.zeros(shapes[name], np.float32)
            continue
        array = _turned(theirs[source.name], source, axes)
        if array.shape != shapes[name]:
            raise InputError(
                f"{given.file}: {source.name} has shape {theirs[source.name].shape}, and its "
                f"network has {math.prod(shapes[name])} numbers there; pass the plan it was "
                "trained with"
            )
        found[name] = np.ascontiguousarray(array, dtype=np.float32)
    return found


def without_copies(weights: Weights) -> Weights:
    """Weights that have one name alone: nnU-Net's networks keep each under two or more."""

    def original(name: str) -> str:
        name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
        for part, plain in (
            (".all_modules.0.", ".conv."),
            (".all_modules.1.", ".norm."),
            (".all_modules.2.", ".norm."),
        ):
            name = name.replace(part, plain)
        return name

    return {
        name: array
        for name, array in weights.items()
        if original(name) == name
        or original(name) not in weights
        or not np.array_equal(weights[original(name)], array)
    }


def _turned(array: np.ndarray, source: Source, axes: Sequence[int]) -> np.ndarray:
    space = [2 + axis for axis in axes]
    if source.kind == "vector" or array.ndim != 2 + len(axes):
        return array
    if source.kind == "up":
        return array.transpose(0, *space, 1)
    if source.halves:
        array = np.roll(array, source.halves, axis=1)
    return array.transpose(*space, 1, 0)


def _counted(names: Sequence[Any]) -> str:
    return f"{len(names)} weight{' is' if len(names) == 1 else 's are'}"
