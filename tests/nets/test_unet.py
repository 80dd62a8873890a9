"""Is the U-Net what it says: the same convolution everywhere, and PyTorch's network when asked?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.nets import blocks
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.network import random_net

SMALL = Architecture(2, 1, 2, (4, 6, 8), ((2, 2), (2, 2)))


def test_upsampling_is_the_adjoint_of_a_stepping_convolution(rng):
    """<up(x), y> = <x, conv(y)> with the same kernel and stride: what a transpose is."""
    for strides in ((2, 2), (1, 2), (2, 2, 1)):
        up = blocks.Upsample(3, 5, strides)
        up.kernel[...] = jnp.asarray(rng.standard_normal(up.kernel.shape), jnp.float32)
        space = (4, 6, 2)[: len(strides)]
        x = jnp.asarray(rng.standard_normal((2, *space, 3)), jnp.float32)
        large = up(x)
        y = jnp.asarray(rng.standard_normal(large.shape), jnp.float32)
        letters = "DHW"[-len(strides) :]
        kernel = jnp.moveaxis(up.kernel[...], 0, -1)  # (*strides, out, feature)
        back = jax.lax.conv_general_dilated(
            y, kernel, strides, "VALID",
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )  # fmt: skip
        np.testing.assert_allclose(jnp.sum(large * y), jnp.sum(x * back), rtol=1e-4)


def test_pools_take_the_largest_and_the_mean_of_every_box(rng):
    x = rng.standard_normal((1, 4, 6, 2)).astype(np.float32)
    boxes = np.array([[x[0, i : i + 2, j : j + 3] for j in (0, 3)] for i in (0, 2)])
    np.testing.assert_allclose(blocks.max_pool(jnp.asarray(x), (2, 3))[0], boxes.max((2, 3)))
    np.testing.assert_allclose(
        blocks.average_pool(jnp.asarray(x), (2, 3))[0], boxes.mean((2, 3)), rtol=1e-5, atol=1e-6
    )


def test_instance_norm_leaves_mean_zero_and_variance_one(rng):
    norm = blocks.InstanceNorm(3)
    x = jnp.asarray(5 + 3 * rng.standard_normal((2, 16, 16, 3)), jnp.float32)
    y = np.asarray(norm(x))
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2)), 1, rtol=1e-3)


@pytest.mark.parametrize("slope", [1.0, 0.1, 0.0])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_gradient_of_a_norm_is_that_of_its_formula(rng, slope, dims):
    """Written down as Ulyanov et al. have it, with a rectifier, and differentiated by JAX."""
    shape, axes = (2, *(5, 6, 4)[:dims], 3), tuple(range(1, dims + 1))
    x, out = (jnp.asarray(2 + 3 * rng.standard_normal(shape), jnp.float32) for _ in range(2))
    scale, shift = (jnp.asarray(rng.standard_normal(3), jnp.float32) for _ in range(2))

    def formula(x, scale, shift):
        centred = x - x.mean(axes, keepdims=True)
        standard = centred / jnp.sqrt(jnp.square(centred).mean(axes, keepdims=True) + 1e-5)
        y = scale * standard + shift
        return jnp.where(y >= 0, y, slope * y)

    def norm(x, scale, shift):
        return blocks._normalise(x, scale, shift, slope)

    found, pull = jax.vjp(norm, x, scale, shift)
    wanted, pull_formula = jax.vjp(formula, x, scale, shift)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    for a, b in zip(pull(out), pull_formula(out), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))
    # negative control: as if the moments did not depend on x
    frozen = scale * (jnp.where(wanted >= 0, 1, slope) * out) / x.std(axes, keepdims=True)
    assert not np.allclose(pull(out)[0], frozen, atol=0.1)


def test_a_norm_in_half_precision_keeps_its_statistics_in_float32(rng):
    x = jnp.asarray(100 + rng.standard_normal((1, 16, 16, 2)), jnp.bfloat16)
    norm = blocks.InstanceNorm(2)
    y, pull = jax.vjp(lambda x: norm(x, 0.1), x)
    wide = norm(x.astype(jnp.float32), 0.1)
    assert (y.dtype, pull(y)[0].dtype) == (jnp.bfloat16, jnp.bfloat16)
    np.testing.assert_allclose(y.astype(jnp.float32), wide, atol=0.02)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("downsample", ["stride", "pool"])
def test_logits_come_finest_first_at_every_resolution(rng, dims, block, downsample):
    strides = ((1,) + (2,) * (dims - 1), (2,) * dims)
    a = Architecture(dims, 2, 3, (4, 6, 8), strides, block=block, downsample=downsample)
    net = random_net(a)
    edge = tuple(4 * m for m in a.multiple)
    x = jnp.asarray(rng.standard_normal((2, *edge, 2)), jnp.float32)
    logits, features = net(x)
    assert [v.shape for v in logits] == [
        (2, *edge, 3), (2, *(n // s for n, s in zip(edge, strides[0], strict=True)), 3)
    ]  # fmt: skip
    assert features.shape == (2, *edge, 4)
    silent = Architecture(**{**vars(a), "deep_supervision": False})
    assert len(random_net(silent)(x).logits) == 1


def test_every_weight_matters(rng):
    """The gradient of the loss reaches every parameter (a wrong list of skips would not)."""
    net = random_net(SMALL)
    x = jnp.asarray(rng.standard_normal((1, 16, 16, 1)), jnp.float32)
    graph, state = nnx.split(net)

    def loss(state: Any) -> jax.Array:
        logits = nnx.merge(graph, state)(x).logits
        return sum((jnp.sum(jnp.square(v[..., 0])) for v in logits), jnp.zeros(()))

    slopes = jax.tree.leaves(jax.grad(loss)(state))
    # the bias of a convolution before a norm is the one thing that cannot matter
    large = [float(jnp.abs(s).max()) for s in slopes if s.ndim > 1]
    assert len(large) == 6 + 4 + 2 + 2
    assert min(large) > 1e-4


def test_dropout_needs_a_key_and_keeps_the_mean(rng):
    x = jnp.ones((4, 3, 3, 2000))
    assert blocks.drop_features(x, 0.3, None) is x
    dropped = blocks.drop_features(x, 0.3, jax.random.key(0))
    whole = np.asarray(dropped).reshape(4, 9, 2000)
    assert (whole == whole[:, :1]).all()  # a feature goes as a whole
    assert (whole == 0).mean() == pytest.approx(0.3, abs=4.5 * np.sqrt(0.21 / 8000))
    assert whole.mean() == pytest.approx(1, abs=4.5 * np.sqrt(0.3 / 0.7 / 8000))
    net = random_net(Architecture(**{**vars(SMALL), "dropout": 0.5}))
    y = jnp.asarray(rng.standard_normal((1, 8, 8, 1)), jnp.float32)
    one, two = (net(y, jax.random.key(k)).logits[0] for k in (1, 2))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(net(y).logits[0], net(y).logits[0])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dims": 4}, "2 or 3 dimensions"),
        ({"block": "dense"}, "unknown block 'dense'"),
        ({"downsample": "crop"}, "unknown way down"),
        ({"strides": ((2, 2),)}, "3 stages need 2 strides, got 1"),
        ({"strides": ((2, 2), (3, 3))}, "numbers 1 or 2"),
        ({"classes": 1}, "two classes"),
    ],
)
def test_an_impossible_architecture_is_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        random_net(Architecture(**{**vars(SMALL), **changes}))


def test_an_array_that_does_not_fit_is_refused():
    net = random_net(SMALL)
    with pytest.raises(InputError, match=r"multiple of \(4, 4\)"):
        net(jnp.zeros((1, 18, 16, 1)))
    with pytest.raises(InputError, match="1 channels"):
        net(jnp.zeros((1, 16, 16, 2)))


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_monais_basic_unet_when_given_its_weights(rng, dims):
    pytest.importorskip("torch", reason="the bench extra is not installed")
    pytest.importorskip("monai", reason="the bench extra is not installed")
    from benchmarks.networks import matched_pair

    ours, theirs = matched_pair(dims, widths=(4, 4, 8, 16, 32), seed=1)
    x = rng.standard_normal((2, *(32,) * dims, 1)).astype(np.float32)
    wanted = theirs(x)
    np.testing.assert_allclose(ours(x), wanted, atol=1e-4 * np.abs(wanted).max())
    others, _ = matched_pair(dims, widths=(4, 4, 8, 16, 32), seed=2)
    assert not np.allclose(others(x), wanted, atol=1e-2)


def test_a_convolution_without_overlap_is_one(rng):
    """Space to depth and a product are the strided convolution; its transpose is up-sampling."""
    for strides in ((2, 2), (1, 2), (2, 2, 1)):
        down = blocks.Downsample(3, 5, strides)
        down.kernel[...] = jnp.asarray(rng.standard_normal(down.kernel.shape), jnp.float32)
        x = jnp.asarray(rng.standard_normal((2, *(4, 6, 2)[: len(strides)], 3)), jnp.float32)
        letters = "DHW"[-len(strides) :]
        wanted = jax.lax.conv_general_dilated(
            x, down.kernel[...], strides, "VALID",
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )  # fmt: skip
        np.testing.assert_allclose(down(x), wanted, rtol=1e-4, atol=1e-5)
