"""Are the networks as large as their papers say, and where not, why?"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import BACKBONES
from aistat_jax.nets.network import build


def planned(name: str, base: int = 32, classes: int = 2, channels: int = 3, **more) -> Architecture:
    """The network of a backbone at a base width, as `plan_for` sizes it."""
    widths = tuple(int(base * share) for share in BACKBONES[name].widths)
    strides = ((2, 2),) * (len(widths) - 1)
    return Architecture(
        2, channels, classes, widths, strides, backbone=name, deep_supervision=False, **more
    )


def parameters(a: Architecture) -> int:
    net = nnx.eval_shape(lambda: build(a))
    return sum(math.prod(v.shape) for v in jax.tree.leaves(nnx.state(net)))


def products(a: Architecture, edge: int) -> dict[str, int]:
    """Multiplications of one forward pass of an image of edge x edge, by kind."""
    graph, state = nnx.split(nnx.eval_shape(lambda: build(a)))
    x = jax.ShapeDtypeStruct((1, edge, edge, a.channels), jnp.float32)
    traced = jax.make_jaxpr(lambda s, x: nnx.merge(graph, s)(x).logits)(state, x)
    found = {"conv_general_dilated": 0, "dot_general": 0}
    _count(traced.jaxpr, found)
    return found


def _count(jaxpr: Any, found: dict[str, int]) -> None:
    for step in jaxpr.eqns:
        made = math.prod(step.outvars[0].aval.shape) if step.outvars else 0
        name = step.primitive.name
        if name == "conv_general_dilated":
            kernel = step.invars[1].aval.shape
            out = step.params["dimension_numbers"].rhs_spec[0]
            found[name] += made * math.prod(kernel) // kernel[out]
        elif name == "dot_general":
            ((summed, _), _) = step.params["dimension_numbers"]
            found[name] += made * math.prod(step.invars[0].aval.shape[i] for i in summed)
        for value in step.params.values():
            for inner in value[-1:] if isinstance(value, tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    _count(inner, found)


def test_the_counter_counts_a_convolution_and_a_product():
    a = Architecture(2, 3, 2, (4, 8), ((2, 2),), deep_supervision=False)
    n = 32 * 32
    wanted = 9 * (3 * 4 + 4 * 4) * n + 9 * (4 * 8 + 8 * 8) * n // 4 + 9 * (8 * 4 + 4 * 4) * n
    found = products(a, 32)
    assert found["conv_general_dilated"] == wanted
    assert found["dot_general"] == 8 * 16 * n // 4 + 4 * 2 * n  # up-sampling and head


def test_ukan_has_the_papers_size():
    """6.35 million parameters, of a network with one class; a second class is 16 more and a bias.

    The 14.02 GFLOPs at 256 x 256 that stand beside them are not of that network: its convolutions
    take 1.72 billion multiplications, its splines another 0.92. They are what the network of twice
    the width (C = 256, 25.36 million parameters, the released code's default) takes in its
    convolutions, a multiplication and an addition counted as two and splines not counted, to 3%:
    norms and rectifiers are not counted here.
    """
    assert parameters(planned("ukan")) - 17 == pytest.approx(6.35e6, rel=2e-3)
    assert parameters(planned("ukan", 64)) - 33 == pytest.approx(25.36e6, rel=1e-3)
    small, large = (products(planned("ukan", base), 256) for base in (32, 64))
    assert 2e-9 * large["conv_general_dilated"] == pytest.approx(14.02, rel=0.03)
    assert 2e-9 * small["conv_general_dilated"] == pytest.approx(3.44, rel=0.01)
    assert 1e-9 * small["dot_general"] == pytest.approx(0.92, rel=0.3)


def test_transunet_has_the_papers_size():
    """105.28 million for nine organs (the figure of the released network), at 224 x 224."""
    assert parameters(planned("transunet", classes=9)) == pytest.approx(105.28e6, rel=1e-4)


def test_the_released_implicit_ukan_is_larger():
    """Its f makes a derivative of the whole state where the paper's makes that of the velocity."""
    stated = parameters(planned("iukan"))
    released = parameters(planned("iukan", options=(("released", True),)))
    assert stated == pytest.approx(13.27e6, rel=1e-3)
    assert released / stated == pytest.approx(1.11, abs=0.01)


def test_vnet_has_the_papers_stages():
    """Its convolutions alone, from figure 2: 16 to 256 features and 5 x 5 x 5 voxels."""
    a = Architecture(
        3, 1, 2, (16, 32, 64, 128, 256), ((2, 2, 2),) * 4, backbone="vnet", deep_supervision=False
    )
    down = [(1, 16), (32, 32), (32, 32), *[(64, 64)] * 3, *[(128, 128)] * 3, *[(256, 256)] * 3]
    up = [*[(256, 256)] * 3, *[(128, 128)] * 3, *[(64, 64)] * 2, (32, 32)]
    steps = [(16, 32), (32, 64), (64, 128), (128, 256), (256, 128), (256, 64), (128, 32), (64, 16)]
    wanted = 125 * sum(i * o for i, o in down + up) + 8 * sum(i * o for i, o in steps) + 32 * 2
    net = nnx.eval_shape(lambda: build(a))
    kernels = [v.shape for v in jax.tree.leaves(nnx.state(net)) if len(v.shape) > 1]
    assert sum(map(math.prod, kernels)) == wanted
