"""Do windows, mirrors and voices add up to what the network says?"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax.nets import predict as module
from aistat_jax.nets.predict import (
    LARGEST_ODDS,
    features,
    gaussian_window,
    predict,
    prediction_bytes,
    window_starts,
)
from aistat_jax.nets.prepare import prepare
from aistat_jax.nets.prompts import prompts
from aistat_jax.nets.weights import Net, untrained
from tests.nets.cases import pet, tiny_plan


def local(graph: Any, want: bool, state: Any, x: jax.Array, key: Any) -> jax.Array:
    """A network that looks at one voxel (the middle plane's): log-odds 3 x - 1, and no more."""
    middle = x[..., x.shape[-1] // 2]
    return jnp.stack([jnp.zeros_like(middle), 3 * middle - 1], axis=-1)


def sided(graph: Any, want: bool, state: Any, x: jax.Array, key: Any) -> jax.Array:
    """A network that looks at the voxel before along the first axis."""
    return local(graph, want, state, jnp.roll(x, 1, axis=1), key)


@pytest.mark.parametrize(("dims", "slices"), [(2, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(37, 26, 19), (10, 12, 5)])
def test_windows_leave_no_seam_and_come_back_to_their_place(
    rng, monkeypatch, dims, slices, mirror, shape
):
    monkeypatch.setattr(module, "one_pass", local)
    net = untrained(tiny_plan(dims, slices=slices))
    image = pet(rng, shape)
    found = predict(net, image, mirror=mirror)
    wanted = 3 * prepare(net.plan, image).values[..., 0] - 1
    np.testing.assert_allclose(found.log_odds[..., 0], wanted, atol=2e-5)
    assert found.labels == ("lesion",)
    assert found.voices == (2**dims if mirror else 1)
    assert found.spread.max() < 1e-5
    # negative control: a network that leans to one side is not the same in the mirror
    monkeypatch.setattr(module, "one_pass", sided)
    leaning = predict(net, image, mirror=mirror)
    assert (leaning.spread.max() > 0.1) == mirror
    assert not np.allclose(leaning.log_odds[..., 0], wanted, atol=0.1)


@pytest.mark.parametrize(("axes", "voices"), [(None, 4), ((), 1), ((0,), 2), ((1,), 2)])
def test_only_the_plans_axes_are_mirrored(rng, monkeypatch, axes, voices):
    """A network that leans along its first axis is spread only by mirror images along that one."""
    monkeypatch.setattr(module, "one_pass", sided)
    net = untrained(replace(tiny_plan(), mirror_axes=axes).check())
    found = predict(net, pet(rng, (16, 16, 2)))
    assert found.voices == voices
    assert (found.spread.max() > 0.1) == (axes in (None, (0,)))


def test_one_window_is_the_network_itself(rng):
    net = untrained(tiny_plan(), 5)
    image = pet(rng, (16, 16, 3))
    x = jnp.moveaxis(jnp.asarray(prepare(net.plan, image).values), 2, 0)
    out = nnx.merge(net.graph, net.state())(x)
    found = predict(net, image, mirror=False)
    wanted = np.moveaxis(np.asarray(out.logits[0][..., 1] - out.logits[0][..., 0]), 0, 2)
    np.testing.assert_allclose(found.log_odds[..., 0], wanted, atol=1e-4)
    np.testing.assert_allclose(
        features(net, image), np.moveaxis(np.asarray(out.features), 0, 2), atol=1e-4
    )


def test_voices_average_their_probabilities_and_spread_is_their_sd(rng):
    nets = [untrained(tiny_plan(), seed) for seed in (1, 2, 3)]
    together = Net(nets[0].plan, tuple(net.members[0] for net in nets))
    image = pet(rng, (20, 16, 2))
    each = np.stack([predict(net, image, mirror=False).log_odds for net in nets])
    found = predict(together, image, mirror=False)
    assert found.voices == 3
    mean = (1 / (1 + np.exp(-each))).mean(axis=0)
    np.testing.assert_allclose(found.log_odds, np.log(mean / (1 - mean)), atol=1e-3)
    np.testing.assert_allclose(found.spread, each.std(axis=0), atol=1e-3)


def test_dropout_draws_differ_and_follow_the_seed(rng):
    net = untrained(tiny_plan(dropout=0.3))
    image = pet(rng, (16, 16, 2))
    one, again, other = (
        predict(net, image, mirror=False, dropout_draws=3, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.log_odds, again.log_odds)
    assert not np.allclose(one.log_odds, other.log_odds)
    assert one.spread.mean() > 0.01
    with pytest.raises(InputError, match="has no dropout"):
        predict(untrained(tiny_plan()), image, dropout_draws=2)


def test_the_answer_is_on_the_images_own_grid_whatever_its_spacing(rng, monkeypatch):
    monkeypatch.setattr(module, "one_pass", local)
    net = untrained(tiny_plan())
    image = pet(rng, (21, 17, 4), (3.0, 2.5, 4.0))
    found = predict(net, image, mirror=False)
    assert found.log_odds.shape == (21, 17, 4, 1)
    assert found.grid is image.primary.grid


def test_three_classes_and_extreme_logits_stay_finite(rng, monkeypatch):
    def sure(graph: Any, want: bool, state: Any, x: jax.Array, key: Any) -> jax.Array:
        high = 1e4 * (x[..., 0] > 1)
        return jnp.stack([1e4 - high, high, jnp.zeros_like(high)], axis=-1)

    monkeypatch.setattr(module, "one_pass", sure)
    found = predict(untrained(tiny_plan(classes=3)), pet(rng, (16, 16, 2)), mirror=False)
    assert found.log_odds.shape[-1] == 2
    assert np.abs(found.log_odds).max() == pytest.approx(LARGEST_ODDS)
    assert (found.log_odds[..., 1] == -LARGEST_ODDS).all()


def test_prompts_go_in_beside_the_image(rng):
    net = untrained(tiny_plan(guidance=1))
    image = pet(rng, (16, 16, 2))
    click = np.zeros((16, 16, 2, 1), np.float32)
    silent = predict(net, image, mirror=False)
    np.testing.assert_array_equal(
        silent.log_odds, predict(net, image, mirror=False, guidance=click).log_odds
    )
    click[8, 8, 1] = 1
    asked = predict(net, image, mirror=False, guidance=click)
    assert np.array_equal(asked.log_odds[:, :, 0], silent.log_odds[:, :, 0])
    assert not np.allclose(asked.log_odds[:, :, 1], silent.log_odds[:, :, 1])
    with pytest.raises(InputError, match="takes prompts of shape"):
        predict(net, image, guidance=np.concatenate([click, click], axis=-1))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_click_is_asked_only_of_the_windows_that_see_it(rng, monkeypatch, dims):
    monkeypatch.setattr(module, "one_pass", lambda g, w, s, x, k: local(g, w, s, x[..., :1], k))
    net = untrained(tiny_plan(dims, guidance=3))
    image = pet(rng, (64, 20, 19))
    prepared = prepare(net.plan, image)
    point = prepared.grid.to_world(np.array([4, 10, 9]))
    everything = predict(net, image, mirror=False)
    asked, against = (
        predict(
            net, image, mirror=False, guidance=prompts(net.plan, prepared.grid, **{name: point})
        )
        for name in ("foreground_mm", "background_mm")
    )
    seen = (slice(0, 16), slice(0, 20), 9 if dims == 2 else slice(3, 16))
    np.testing.assert_allclose(asked.log_odds[seen], everything.log_odds[seen], atol=1e-5)
    assert (asked.log_odds[32:] == -LARGEST_ODDS).all()
    assert (asked.log_odds[:, :, 0] == -LARGEST_ODDS).all() == (dims == 2)
    # negative controls: without a click, and with one that asks for nothing, all is answered
    assert everything.log_odds.min() > -LARGEST_ODDS
    np.testing.assert_array_equal(against.log_odds, everything.log_odds)
    boxed = prompts(net.plan, prepared.grid, box_mm=[point, point])
    np.testing.assert_array_equal(
        asked.log_odds, predict(net, image, mirror=False, guidance=boxed).log_odds
    )


def test_windows_cover_evenly():
    for size in (16, 17, 40, 131):
        starts = window_starts(size, 16, 0.5)
        assert starts[0] == 0
        assert starts[-1] == size - 16
        assert max(np.diff(starts), default=0) <= 8
    assert window_starts(9, 16, 0.5) == (0,)
    weight = gaussian_window((16, 8))
    assert weight.shape == (16, 8, 1)
    np.testing.assert_allclose(weight, weight[::-1, ::-1])
    with pytest.raises(InputError, match="overlap must be"):
        predict(untrained(tiny_plan()), pet(np.random.default_rng(0)), overlap=1.0)


def test_progress_ends_at_its_total(rng):
    net = untrained(tiny_plan())
    seen: list[tuple[int, int]] = []
    predict(net, pet(rng, (20, 16, 3)), progress=lambda done, of: seen.append((done, of)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("spacing", [2.0, 4.0])
def test_memory_is_at_most_what_is_stated(rng, spacing):
    """Arrays of NumPy, which on a working grid as fine as the native one are most of a voice and
    on a coarser one most of the answer; buffers of JAX are not seen here. Two in a hundred are
    left for Python's own objects, in the least of three passes: a trace that JAX has dropped from
    its caches is made again. Without the restored arrays the coarser case would fail."""
    net = untrained(tiny_plan(classes=3, patch=32, spacing_mm=(spacing, spacing, 2.0)))
    image = pet(rng, (128, 128, 24))
    predict(net, image, mirror=False, overlap=0.0)  # compiled
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        try:
            predict(net, image, mirror=False, overlap=0.0)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    stated = prediction_bytes(net, image.primary.grid)
    assert 0.75 * stated < min(peaks) < 1.02 * stated
