"""Is a patch read where it should be, changed by what is drawn alone, and refused if it cannot?"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.nets.augment import augment, augment_batch
from aistat_jax.nets.example import Example
from aistat_jax.nets.variation import NO_AUGMENTATION, Settings, Sometimes
from tests.nets.cases import KEY, QUICK, STRONG, always, jitted, make_example

SPATIAL = ("rotation_deg", "zoom", "mirror_probability", "elastic_sd_mm")
LOUD = Settings(noise_sd=always(0.5), blur_sd=always(0.8), brightness=always(1.2))


@pytest.mark.parametrize("space", [(24, 19), (10, 8, 7)])
def test_no_augmentation_gives_the_input_back_exactly(rng, space):
    example = make_example(rng, space, raters=3)
    spacing = (0.7, 1.3, 3.1)[: len(space)]
    out = jitted(NO_AUGMENTATION, spacing, options=None)(KEY, example)
    np.testing.assert_array_equal(out.image, example.image)
    np.testing.assert_array_equal(out.labels, example.labels)
    np.testing.assert_array_equal(out.raters, example.raters)
    changed = jitted(STRONG, spacing)(KEY, example)
    assert np.abs(changed.image - example.image).max() > 0.1


def test_guidance_moves_with_the_image_and_keeps_its_values(rng):
    example = make_example(rng, guidance=3)
    example = replace(example, image=example.guidance)
    moved = jitted(STRONG, (2.0, 2.0))(KEY, replace(example, raters=example.guidance))
    still = {name: never for name, never in vars(NO_AUGMENTATION).items() if name in SPATIAL}
    changed = jitted(replace(LOUD, **still), (2.0, 2.0))(KEY, example)
    np.testing.assert_array_equal(moved.guidance, moved.raters)
    np.testing.assert_array_equal(changed.guidance, example.guidance)
    # negative controls: something has moved, and an image does not keep its values
    assert np.abs(moved.guidance - example.guidance).max() > 0.1
    assert np.abs(changed.image - example.image).max() > 0.1
    assert moved.labels.shape == example.labels.shape


def test_changes_that_are_not_drawn_leave_the_image_exactly_as_it_was(rng):
    rare = {
        name: value._replace(probability=1e-12)
        for name, value in vars(Settings()).items()
        if isinstance(value, Sometimes)
    }
    settings = Settings(**rare, mirror_probability=0.0)
    example = make_example(rng, (24, 19))
    out = jitted(settings, (2.0, 3.0))(KEY, example)
    np.testing.assert_array_equal(out.image, example.image)
    np.testing.assert_array_equal(out.labels, example.labels)


def test_outside_is_padding_and_background(rng):
    example = make_example(rng, (6, 6), raters=1)
    labels = np.maximum(example.labels, 1)
    beyond = np.array([-5.0, 7.0], np.float32)
    where = {"patch": (4, 4), "centre": np.array([0, 3]), "outside": beyond}
    crop = jitted(NO_AUGMENTATION, (1.0, 1.0), **where)
    out = crop(KEY, replace(example, labels=labels))
    np.testing.assert_array_equal(out.image[:2], np.broadcast_to(beyond, (2, 4, 2)))
    np.testing.assert_allclose(out.image[2:], example.image[:2, 1:5], atol=2e-6)
    assert np.all(out.labels[:2] == 0)
    assert np.all(out.raters[:2] == 0)
    np.testing.assert_array_equal(out.labels[2:], labels[:2, 1:5])


@pytest.mark.parametrize("patch", [(12, 9), (11, 10)])
def test_a_patch_is_a_crop_and_turns_about_its_own_middle(rng, patch):
    example = make_example(rng, (40, 44))
    centre = np.array([21, 19])
    start = centre - np.array(patch) // 2
    crop = tuple(slice(a, a + n) for a, n in zip(start, patch, strict=True))
    out = jitted(NO_AUGMENTATION, (1.0, 2.0), patch=patch, centre=centre)(KEY, example)
    np.testing.assert_array_equal(out.image, example.image[crop])
    half_turn = replace(NO_AUGMENTATION, rotation_deg=always(180))
    out = jitted(half_turn, (1.0, 2.0), patch=patch, centre=centre)(KEY, example)
    np.testing.assert_allclose(out.image, example.image[crop][::-1, ::-1], atol=1e-4)


def test_no_border_is_seen_while_the_array_reaches_beyond_the_patch():
    whole = Example(np.ones((60, 60, 1), np.float32), np.ones((60, 60), np.int32))
    cut = Example(np.ones((24, 24, 1), np.float32), np.ones((24, 24), np.int32))
    settings = replace(NO_AUGMENTATION, rotation_deg=always(45))
    out = jitted(settings, (1.0, 1.0), patch=(24, 24))(KEY, whole)
    assert np.all(out.labels == 1)
    assert np.allclose(out.image, 1.0)
    assert not np.all(jitted(settings, (1.0, 1.0))(KEY, cut).labels == 1)


def test_a_batch_is_its_examples_and_a_key_is_a_result(rng):
    examples = Example(
        rng.standard_normal((3, 30, 28, 2)).astype(np.float32),
        rng.integers(0, 3, (3, 30, 28), dtype=np.int32),
    )
    centres = np.array([[10, 12], [15, 9], [20, 20]])
    where = {"patch": (16, 16), "centres": centres}
    batch = jax.jit(
        lambda key, e: augment_batch(key, e, (2.0, 2.0), STRONG, **where), compiler_options=QUICK
    )
    out, again, other = (
        batch(KEY, examples),
        batch(KEY, examples),
        batch(jax.random.key(1), examples),
    )
    np.testing.assert_array_equal(out.image, again.image)
    assert np.abs(out.image - other.image).max() > 0.1
    assert out.image.shape == (3, 16, 16, 2)
    assert out.labels.shape == (3, 16, 16)
    single = jitted(STRONG, (2.0, 2.0), patch=(16, 16), centre=centres[1])
    one = single(jax.random.split(KEY, 3)[1], jax.tree.map(lambda x: x[1], examples))
    np.testing.assert_allclose(one.image, out.image[1], atol=1e-4)
    assert (one.labels == out.labels[1]).mean() > 0.99


def test_settings_are_static_and_do_not_recompile():
    count = 0

    @partial(jax.jit, compiler_options=QUICK)
    def run(key, example, settings):
        nonlocal count
        count += 1
        return augment(key, example, (1.0, 1.0), settings).labels

    example = Example(np.zeros((8, 8, 1), np.float32), np.zeros((8, 8), np.int32))
    for n in range(3):
        run(jax.random.key(n), example, replace(NO_AUGMENTATION, zoom=always(1.1)))
    assert count == 1
    run(KEY, example, NO_AUGMENTATION)
    assert count == 2


def everything() -> Settings:
    """Every change, always."""
    drawn = {
        name: value._replace(probability=1.0)
        for name, value in vars(Settings()).items()
        if isinstance(value, Sometimes)
    }
    return Settings(**drawn)


def test_everything_has_a_finite_gradient(rng):
    example = make_example(rng, (16, 14))

    def total(image):
        moved = augment(KEY, replace(example, image=image), (2.0, 2.0), everything())
        return jnp.sum(jnp.square(moved.image))

    gradient = jax.jit(jax.grad(total), compiler_options=QUICK)(jnp.asarray(example.image))
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() > 0


def test_results_do_not_depend_on_the_x64_flag(rng):
    """On image and raters alike; every change of intensity is drawn somewhere."""
    example = make_example(rng, (16, 14), raters=2)
    with jax.enable_x64(True):
        wide = jitted(everything(), (2.0, 2.0))(KEY, example)
    out = jitted(everything(), (2.0, 2.0))(KEY, example)
    assert wide.image.dtype == wide.raters.dtype == jnp.float32
    assert wide.labels.dtype == jnp.int32
    np.testing.assert_allclose(wide.image, out.image, atol=1e-5)
    np.testing.assert_allclose(wide.raters, out.raters, atol=1e-5)


def test_refusals(rng, monkeypatch):
    from jaxtyping import config

    monkeypatch.setattr(config, "jaxtyping_disable", True)  # as in production
    example = make_example(rng, (8, 9))
    with pytest.raises(InputError, match="image of shape"):
        augment(KEY, replace(example, image=example.image[:, :8]), (1.0, 1.0), STRONG)
    with pytest.raises(InputError, match="raters of shape"):
        augment(KEY, replace(example, raters=example.image[:, :8]), (1.0, 1.0), STRONG)
    with pytest.raises(InputError, match="of 2 numbers"):
        augment(KEY, example, (1.0, 1.0, 1.0), STRONG)
    with pytest.raises(InputError, match="of 2 numbers"):
        augment(KEY, example, (1.0, 1.0), STRONG, patch=(4, 4, 4))
    batch = jax.tree.map(lambda x: x[None, None], example)
    with pytest.raises(InputError, match="vmap a batch"):
        augment(KEY, batch, (1.0, 1.0), STRONG)
