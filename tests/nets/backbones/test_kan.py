"""Are the splines B-splines, and do nodes add and multiply as written?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.interpolate import BSpline
from scipy.ndimage import correlate

from aistat_jax.nets.backbones import kan
from aistat_jax.nets.network import drawn


def made(module, seed=0):
    graph, state = nnx.split(module)
    return nnx.merge(graph, drawn(state, seed))


def scipys(x, grid, order):
    """Each B-spline from its own knots, 0 outside of them."""
    t = kan.knots(grid, order)
    pieces = [
        BSpline.basis_element(t[i : i + order + 2], extrapolate=False)(x)
        for i in range(grid + order)
    ]
    return np.nan_to_num(np.stack(pieces, axis=-1))


@pytest.mark.parametrize(("grid", "order"), [(5, 3), (4, 2), (7, 1)])
def test_splines_are_scipys(rng, grid, order):
    x = rng.uniform(-2.5, 2.5, (40, 3))
    found = kan.b_splines(jnp.asarray(x, jnp.float32), grid, order)
    np.testing.assert_allclose(found, scipys(x, grid, order), atol=2e-6)
    inside = np.abs(x) < 1
    np.testing.assert_allclose(np.asarray(found).sum(-1)[inside], 1, atol=1e-5)
    assert not np.allclose(found, scipys(x + 0.05, grid, order), atol=1e-2)


def test_a_layer_is_a_sum_of_functions_of_each_input(rng):
    """phi(x) = w_b silu(x) + w_s sum_i c_i B_i(x), with SciPy's splines, summed over inputs."""
    layer = made(kan.KAN(3, 4))
    layer.spline[...] = layer.spline[...] * 100  # as large as the silu
    x = rng.uniform(-1.2, 1.2, (7, 3))
    base, spline, scale = (np.asarray(p[...]) for p in (layer.base, layer.spline, layer.scale))
    bent = np.einsum("nib,ibo->nio", scipys(x, kan.GRID, kan.ORDER), spline)
    silu = x / (1 + np.exp(-x))
    wanted = (silu[..., None] * base + scale * bent).sum(axis=1)
    np.testing.assert_allclose(layer(jnp.asarray(x, jnp.float32)), wanted, atol=2e-5)
    assert not np.allclose((silu[..., None] * base).sum(axis=1), wanted, atol=1e-2)


def test_products_are_of_pairs_of_sums(rng):
    layer = made(kan.MultiKAN(3, 8))
    x = jnp.asarray(rng.uniform(-1, 1, (5, 3)), jnp.float32)
    sums = np.asarray(layer.layer(x))
    assert sums.shape == (5, 2 + 12)
    wanted = np.concatenate([sums[:, :2], sums[:, 2:8] * sums[:, 8:]], axis=1)
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-5)


def test_a_depthwise_convolution_knows_one_feature_each(rng):
    mixer = made(kan.Depthwise(2))
    x = rng.standard_normal((1, 6, 5, 2)).astype(np.float32)
    each = [
        correlate(x[0, ..., f], np.asarray(mixer.kernel[...])[..., f], mode="constant")
        for f in range(2)
    ]
    wanted = np.maximum(np.asarray(mixer.norm(jnp.asarray(np.stack(each, -1))[None])), 0)
    np.testing.assert_allclose(mixer(jnp.asarray(x)), wanted, atol=1e-4)


def test_a_layer_norm_is_of_the_features(rng):
    x = jnp.asarray(3 + 2 * rng.standard_normal((2, 3, 4, 16)), jnp.float32)
    y = np.asarray(kan.LayerNorm(16)(x))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-3)
    assert jax.eval_shape(kan.doubled, x[..., 0:1]).shape == (2, 6, 8, 1)
