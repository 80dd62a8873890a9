"""Is a convolution the same however it is computed, in value and in both gradients?"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aistat_jax.nets import convolution
from aistat_jax.nets.convolution import FEWEST, FOUR, TWO, by_filtering, by_rows, by_slices

DEPTHS = (2, 3, 5, 6, 8, 9, 12, 13)


def _arrays(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def _close(found: Any, wanted: Any, tolerance: float = 2e-5) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance * scale)


def _agree(rng: np.random.Generator, ours: Any, strides: Any, x: Any, w: Any, least: float) -> None:
    native = partial(convolution._native, strides=strides)
    _close(ours(x, w), native(x, w), least)
    (out,) = _arrays(rng, native(x, w).shape)
    _close(jax.vjp(ours, x, w)[1](out), jax.vjp(native, x, w)[1](out), least)


@pytest.mark.parametrize("features", [3, FEWEST])
@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1)])
@pytest.mark.parametrize("window", [(3, 3, 3), (1, 3, 3), (1, 1, 1), (3, 3, 1)])
def test_slices_and_the_native_3d_convolution_agree(rng, strides, window, features):
    x, w = _arrays(rng, (2, 6, 8, 10, features), (*window, features, 5))
    ours = partial(by_slices, strides=strides)
    _agree(rng, ours, strides, x, w, 2e-5)
    # negative control: the neighbours in the wrong order
    if window[0] == 3:
        wrong = convolution._native(x, w, strides)
        assert not np.allclose(ours(x, w[::-1]), wrong, atol=1e-2)


def test_only_what_filtering_is_made_for_is_filtered(rng):
    """float32, since half precision would lose what the sums cancel; three slices; every slice."""

    def filtered(x: Any, w: Any, strides: Any = (1, 1, 1)) -> bool:
        program = jax.make_jaxpr(partial(by_slices, strides=strides))(x, w)
        return "by_filtering" in str(program)

    x, w = _arrays(rng, (1, 4, 6, 7, FEWEST), (3, 3, 3, FEWEST, 4))
    assert filtered(x, w)
    half = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    assert not filtered(*half)
    assert not filtered(x, w, (2, 1, 1))
    assert not filtered(x[:, :1], w)
    assert not filtered(x, w[:1])
    found = by_slices(*half, (1, 1, 1))
    assert found.dtype == jnp.bfloat16
    _close(found.astype(jnp.float32), by_slices(x, w, (1, 1, 1)), 2e-2)


@pytest.mark.parametrize("depth", DEPTHS)
def test_filtering_and_the_native_3d_convolution_agree_at_any_depth(rng, depth):
    x, w = _arrays(rng, (2, depth, 6, 7, 9), (3, 3, 3, 9, 4))
    _agree(rng, by_filtering, (1, 1, 1), x, w, 5e-5)


def test_filtering_takes_the_fewest_products():
    """Against the count by hand: 4 for each 2 slices or 6 for each 4, and 3 a slice at worst."""
    for depth in range(2, 40):
        filtering, groups = convolution._filtering(depth)
        products = groups * len(filtering.outputs)
        assert products == min(4 * -(-depth // 2), 6 * -(-depth // 4)) < 3 * depth
        assert groups * filtering.outputs.shape[1] >= depth


@pytest.mark.parametrize("filtering", [TWO, FOUR])
def test_a_filtering_is_the_sum_it_stands_for(rng, filtering):
    """In float64 and in one dimension, and with any one number of a matrix changed it is not."""
    count, n = filtering.outputs.shape
    kernel, x = rng.standard_normal(3), rng.standard_normal(count)
    wanted = np.correlate(x, kernel, "valid")

    def filtered(inputs: np.ndarray, of_kernel: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return outputs.T @ ((of_kernel @ kernel) * (inputs @ x))

    assert len(wanted) == n
    np.testing.assert_allclose(filtered(*filtering), wanted, atol=1e-12)
    for which, matrix in enumerate(filtering):
        for place in np.ndindex(matrix.shape):
            wrong = [m.copy() for m in filtering]
            wrong[which][place] += 0.5
            assert np.abs(filtered(*wrong) - wanted).max() > 1e-6


@pytest.mark.parametrize(
    ("shape", "strides", "window"),
    [((1, 64, 48, 2), (1, 1), (3, 3)), ((1, 132, 82, 2), (2, 2), (3, 3)),
     ((9, 20, 24, 6), (1, 1), (3, 3)), ((12, 24, 24, 2), (2, 1), (3, 3)),
     ((1, 97, 43, 4), (1, 1), (3, 3)), ((1, 64, 48, 6), (1, 1), (5, 3)),
     ((1, 2, 1500, 4), (1, 1), (3, 3))],
)  # fmt: skip
def test_the_kernel_gradient_by_blocks_is_the_native_one(rng, shape, strides, window):
    """Blocks of rows, of images, of single rows; at the edges of the array there are zeros."""
    x, w = _arrays(rng, shape, (*window, shape[-1], 4))
    out = convolution._native(x, w, strides)
    assert out[..., 0].size > convolution.BLOCK
    _agree(rng, partial(by_rows, strides=strides), strides, x, w, 1e-5)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("features", [2, 6])
def test_so_it_is_in_a_single_block(rng, features, strides):
    x, w = _arrays(rng, (2, 6, 8, features), (3, 3, features, 4))
    _agree(rng, partial(by_rows, strides=strides), strides, x, w, 1e-5)
    # negative control: an edge that counts twice
    native = partial(convolution._native, strides=strides)
    (out,) = _arrays(rng, native(x, w).shape)
    found, wrong = (
        jax.vjp(f, w)[1](out)[0]
        for f in (partial(by_rows, x, strides=strides), lambda w: native(x.at[:, 0].mul(2), w))
    )
    assert float(jnp.abs(found - wrong).max()) > 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_a_window_of_one_is_a_matrix_product(rng, dims):
    x, w = _arrays(rng, (2, *(6,) * dims, 5), (*(1,) * dims, 5, 3))
    ours = partial(convolution.convolve, strides=(1,) * dims)
    _agree(rng, ours, (1,) * dims, x, w, 2e-5)
    assert "conv" not in str(jax.make_jaxpr(ours)(x, w))
