"""Do image and labels move together, by the stated amounts, and is nothing else changed?"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.nets.augment import (
    NEVER,
    NO_AUGMENTATION,
    Example,
    Settings,
    Sometimes,
    augment,
    augment_batch,
    bspline_basis,
    bspline_field,
    deformation,
    sample,
    settings_for,
    vary_intensity,
)

KEY = jax.random.key(0)
STRONG = Settings(
    rotation_deg=Sometimes(1.0, -180.0, 180.0),
    zoom=Sometimes(1.0, 0.8, 1.3),
    elastic_sd_mm=Sometimes(1.0, 3.0, 3.0),
    elastic_spacing=12.0,
)


def always(value: float) -> Sometimes:
    return Sometimes(1.0, value, value)


def make_example(rng, space=(24, 20), channels=2, raters=None) -> Example:
    return Example(
        image=rng.standard_normal((*space, channels)).astype(np.float32),
        labels=rng.integers(0, 4, space, dtype=np.int32),
        raters=None if raters is None else rng.random((*space, raters), dtype=np.float32),
    )


def blobs(rng, space, spacing=None) -> np.ndarray:
    """Smooth regions of three labels."""
    field = ndimage.gaussian_filter(rng.standard_normal(space), 3.0)
    return np.digitize(field, np.quantile(field, [0.6, 0.85])).astype(np.int32)


# Compiles five times faster; the results are those of the default but for rounding.
QUICK = {"xla_backend_optimization_level": 0}
field = jax.jit(deformation, static_argnums=(1, 2), compiler_options=QUICK)


def jitted(settings: Settings, spacing, options=QUICK, **where):
    def run(key, example):
        return augment(key, example, spacing, settings, **where)

    return jax.jit(run, compiler_options=options)


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


@pytest.mark.parametrize(("turn", "size"), [(90, 20), (-90, 21), (180, 20)])
def test_right_angles_are_rot90(rng, turn, size):
    example = make_example(rng, (size, size), raters=2)
    out = jitted(replace(NO_AUGMENTATION, rotation_deg=always(turn)), (2.0, 2.0))(KEY, example)
    for name in ("image", "labels", "raters"):
        expected = np.rot90(getattr(example, name), turn // 90)
        np.testing.assert_allclose(getattr(out, name), expected, atol=2e-5)
    wrong = np.rot90(example.image, -turn // 90 if turn != 180 else 1)
    assert np.abs(out.image - wrong).max() > 0.1


@pytest.mark.parametrize(("space", "axes"), [((9, 12), (0,)), ((9, 12), (1,)), ((6, 7, 8), (0, 2))])
def test_mirroring_is_flip(rng, space, axes):
    example = make_example(rng, space)
    settings = replace(NO_AUGMENTATION, mirror_axes=axes, mirror_probability=1.0)
    out = jitted(settings, (1.1, 2.3, 0.7)[: len(space)])(KEY, example)
    np.testing.assert_array_equal(out.image, np.flip(example.image, axes))
    np.testing.assert_array_equal(out.labels, np.flip(example.labels, axes))


def test_each_axis_is_mirrored_half_of_the_time():
    """False alarm rate 1e-4: binomial, 400 draws of three axes."""
    keys = jax.random.split(KEY, 400)
    settings = replace(NO_AUGMENTATION, mirror_probability=0.5)
    draw = jax.vmap(lambda key: deformation(key, (3, 3, 3), (1.0, 1.0, 1.0), settings))
    fields = jax.jit(draw, compiler_options=QUICK)(keys)
    first = np.stack([fields[:, a, 0, 0, 0] for a in range(3)], axis=1) > 1
    assert np.all(np.abs(first.mean(axis=0) - 0.5) < 4.2 * 0.5 / np.sqrt(400))
    assert np.all(np.abs(np.corrcoef(first.T) - np.eye(3)) < 4.2 / np.sqrt(400))


@pytest.mark.parametrize("space", [(48, 40), (20, 18, 16)])
def test_image_and_labels_move_together(rng, space):
    """An image that is the indicator of a label crosses one half where the labels change."""
    labels = blobs(rng, space)
    image = (labels[..., None] == np.arange(3)).astype(np.float32)
    settings = replace(
        NO_AUGMENTATION,
        mirror_probability=0.5,
        **{n: getattr(STRONG, n) for n in ("rotation_deg", "zoom", "elastic_sd_mm")},
    )
    spacing = (2.0, 2.5, 3.0)[: len(space)]
    example = Example(image, labels, raters=image)
    out = jitted(settings, spacing)(KEY, example)
    shown = out.image.argmax(axis=-1)
    inside = out.image.sum(axis=-1) > 1 - 1e-5
    clear = inside & (np.sort(out.image, axis=-1)[..., -2:] @ [-1.0, 1.0] > 1e-4)
    assert clear.mean() > 0.4
    np.testing.assert_array_equal(out.labels[clear], shown[clear])
    np.testing.assert_allclose(out.raters, out.image, atol=1e-6)

    other = jitted(settings, spacing)(jax.random.key(1), example)
    assert (other.labels[clear] != shown[clear]).mean() > 0.1


def test_label_of_a_cell_is_the_largest_linear_indicator(rng):
    labels = rng.integers(0, 5, (7, 6), dtype=np.int32)
    source = rng.uniform([[0], [0]], [[6], [5]], (2, 300)).astype(np.float32)
    example = Example(np.zeros((7, 6, 1), np.float32), labels)
    out = jax.jit(sample, compiler_options=QUICK)(example, jnp.asarray(source.reshape(2, 30, 10)))
    indicators = np.stack(
        [ndimage.map_coordinates((labels == n).astype(float), source, order=1) for n in range(5)]
    )
    np.testing.assert_array_equal(np.ravel(out.labels), indicators.argmax(axis=0))
    nearest = labels[tuple(np.rint(source).astype(int))]
    assert (nearest != indicators.argmax(axis=0)).any()


def test_image_is_read_as_scipy_reads_it(rng):
    example = make_example(rng, (9, 8, 7))
    source = rng.uniform(0, 6, (3, 5, 5, 5)).astype(np.float32)
    out = jax.jit(sample, compiler_options=QUICK)(example, jnp.asarray(source))
    for channel in range(2):
        expected = ndimage.map_coordinates(example.image[..., channel], source, order=1)
        np.testing.assert_allclose(out.image[..., channel], expected, atol=1e-5)


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


@pytest.mark.parametrize("spacing", [(1.0, 3.0), (1.0, 1.5, 3.0)])
def test_turning_in_mm_keeps_a_ball_a_ball(spacing):
    """The negative control turns in voxels, so that the ball becomes an ellipsoid."""
    dim = len(spacing)
    reach = 15.0 if dim == 2 else 9.0
    space = tuple(int(2 * round(1.3 * reach / s) + 1) for s in spacing)
    axes = [s * (np.arange(n) - n // 2) for s, n in zip(spacing, space, strict=True)]
    distance = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    example = Example(np.clip(reach - distance, -9, 9)[..., None], (distance < reach).astype("i4"))
    settings = replace(NO_AUGMENTATION, rotation_deg=always(37))

    def worst(assumed) -> float:
        out = jitted(settings, assumed, outside=-9.0)(KEY, example)
        error = np.abs(np.asarray(out.image) - example.image)[..., 0]
        return float(error[np.abs(distance - reach) < 0.2 * reach].max())

    assert worst(spacing) < 0.3
    assert worst((1.0,) * dim) > 2.0


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_zoom_is_magnification(zoom):
    settings = replace(NO_AUGMENTATION, zoom=always(zoom))
    source = field(KEY, (11, 11, 11), (1.0, 2.0, 3.0), settings)
    along = np.asarray(source[0, :, 5, 5])
    np.testing.assert_allclose(np.diff(along), 1 / zoom, rtol=1e-5)
    assert along[5] == pytest.approx(5.0)


def test_planar_settings_leave_the_slices_alone():
    settings = replace(STRONG, planar=True, mirror_axes=(0, 1))
    source = np.asarray(field(KEY, (16, 14, 5), (1.0, 1.0, 5.0), settings))
    np.testing.assert_array_equal(source[2], np.broadcast_to(np.arange(5.0), (16, 14, 5)))
    np.testing.assert_array_equal(source[:2], np.repeat(source[:2, ..., :1], 5, axis=-1))
    free = np.asarray(field(KEY, (16, 14, 5), (1.0, 1.0, 5.0), STRONG))
    assert np.ptp(free[2], axis=(0, 1)).min() > 0.1


@pytest.mark.parametrize("spacing", [5.0, 7.5])
def test_bspline_field_is_scipys(rng, spacing):
    space = (31, 23)
    bases = [bspline_basis(n, spacing) for n in space]
    coefficients = rng.standard_normal((2, *(b.shape[1] for b in bases))).astype(np.float32)
    field = np.asarray(bspline_field(coefficients, bases))
    value = coefficients.astype(float)
    for axis, n in enumerate(space):
        knots = (np.arange(value.shape[1 + axis] + 4) - 3) * spacing
        spline = interpolate.BSpline(knots, np.moveaxis(value, 1 + axis, 0), 3)
        value = np.moveaxis(spline(np.arange(float(n))), 0, 1 + axis)
    np.testing.assert_allclose(field, value, atol=2e-6)
    for basis in bases:
        np.testing.assert_allclose(basis.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 2.0), (2.0, 2.0, 4.0)])
def test_displacement_has_the_stated_size(spacing):
    """Root mean square along each axis, in mm, within 4.5 Monte-Carlo sds over 600 keys: false
    alarm rate 1e-5. The negative control states 10 % more."""
    dim, sd = len(spacing), 0.3
    patch = (32,) * dim if dim == 2 else (16,) * dim
    settings = replace(NO_AUGMENTATION, elastic_sd_mm=always(sd), elastic_spacing=8.0)
    identity = field(KEY, patch, spacing, NO_AUGMENTATION)
    many = jax.jit(
        jax.vmap(lambda key: deformation(key, patch, spacing, settings)), compiler_options=QUICK
    )
    moved = many(jax.random.split(KEY, 600)) - identity
    squares = np.square(np.asarray(moved)).mean(axis=tuple(range(2, 2 + dim))) * np.square(spacing)
    error = squares.std(axis=0) / np.sqrt(600)
    assert np.all(np.abs(squares.mean(axis=0) - sd**2) < 4.5 * error)
    assert np.all(np.abs(squares.mean(axis=0) - (1.1 * sd) ** 2) > 4.5 * error)


def test_deformations_never_fold():
    """However large the setting; the negative control lifts the limit on the control points."""
    violent = replace(
        STRONG, elastic_sd_mm=always(60.0), mirror_probability=0.0, elastic_spacing=8.0
    )

    def smallest_jacobian(source: np.ndarray) -> float:
        grads = np.stack([np.stack(np.gradient(s), axis=-1) for s in source], axis=-2)
        return float(np.linalg.det(grads)[1:-1, 1:-1].min())

    for n in range(5):
        source = field(jax.random.key(n), (40, 40), (1.0, 2.0), violent)
        assert smallest_jacobian(np.asarray(source)) > 0
    from aistat_jax.nets import augment as module

    limit, module._LARGEST_MOVE = module._LARGEST_MOVE, 10.0
    try:
        free = jax.jit(lambda key: deformation(key, (40, 40), (1.0, 2.0), violent))
        source = free(KEY)
    finally:
        module._LARGEST_MOVE = limit
    assert smallest_jacobian(np.asarray(source)) < 0


def tone(rng, name: str, value: float, image=None, **more) -> tuple[np.ndarray, np.ndarray]:
    image = rng.gamma(2.0, size=(40, 36, 2)).astype(np.float32) if image is None else image
    settings = replace(NO_AUGMENTATION, **{name: always(value)}, channel_probability=1.0, **more)
    return image, np.asarray(
        jax.jit(vary_intensity, compiler_options=QUICK)(KEY, jnp.asarray(image), settings)
    )


@pytest.mark.parametrize("name", ["gamma", "gamma_inverted"])
def test_gamma_keeps_mean_and_sd(rng, name):
    before, after = tone(rng, name, 1.4)
    np.testing.assert_allclose(after.mean((0, 1)), before.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(after.std((0, 1)), before.std((0, 1)), rtol=1e-4)
    sign = 1 if name == "gamma" else -1
    unit = sign * before - (sign * before).min((0, 1))
    curved = sign * (unit / unit.max((0, 1))) ** 1.4
    for channel in range(2):
        correlation = np.corrcoef(after[..., channel].ravel(), curved[..., channel].ravel())[0, 1]
        assert correlation > 1 - 1e-5
    linear = np.corrcoef(after[..., 0].ravel(), before[..., 0].ravel())[0, 1]
    assert linear < 1 - 1e-3


def test_gamma_of_a_constant_channel_is_that_channel():
    flat = np.full((6, 6, 1), 3.0, np.float32)
    _, after = tone(None, "gamma", 0.7, image=flat)
    np.testing.assert_allclose(after, flat, rtol=1e-6)


def test_brightness_and_contrast(rng):
    before, after = tone(rng, "brightness", 1.2)
    np.testing.assert_allclose(after, 1.2 * before, rtol=1e-6)
    before, after = tone(rng, "contrast", 0.8)
    mean = before.mean((0, 1))
    np.testing.assert_allclose(after, mean + 0.8 * (before - mean), atol=1e-5)
    before, after = tone(rng, "contrast", 1.3)
    assert np.all(after.max((0, 1)) <= before.max((0, 1)))
    assert np.all(after.min((0, 1)) >= before.min((0, 1)))


def test_noise_has_the_stated_sd(rng):
    """False alarm rate 1e-5 for 80,000 normal numbers."""
    image = np.zeros((200, 200, 2), np.float32)
    _, after = tone(rng, "noise_sd", 0.3, image=image)
    assert abs(after.std() / 0.3 - 1) < 4.5 / np.sqrt(2 * after.size)


def test_blur_is_scipys_gaussian_filter(rng):
    before, after = tone(rng, "blur_sd", 1.0)
    expected = ndimage.gaussian_filter(before, (1.0, 1.0, 0.0), mode="nearest", truncate=3.0)
    np.testing.assert_allclose(after, expected, atol=1e-5)


def test_coarser_voxels_average_and_stay_in_place():
    """A ramp is kept but for its ends, where part of a coarse voxel is missing; picking the
    nearest voxel would move it by up to half of one."""
    u = np.arange(33.0, dtype=np.float32)
    ramp = np.repeat(u[:, None], 30, axis=1)[..., None]
    for width, error in ((1.37, 0.06), (2.0, 1e-4)):
        _, after = tone(None, "coarsening", width, image=ramp)
        np.testing.assert_allclose(after[3:-3], ramp[3:-3], atol=error)
        assert abs((after - ramp)[3:-3].mean()) < error / 20
    checks = np.float32((u[:, None] + u) % 2)[..., None]
    _, after = tone(None, "coarsening", 2.0, image=checks)
    np.testing.assert_allclose(after[3:-3, 3:-3], 0.5, atol=1e-5)
    np.testing.assert_array_equal(tone(None, "coarsening", 1.0, image=checks)[1], checks)


def test_probabilities_are_kept(rng):
    """Share of examples, and of channels in them; false alarm rate 1e-4 each, binomial."""
    image = jnp.asarray(rng.random((6, 6, 3)), jnp.float32)
    settings = replace(NO_AUGMENTATION, blur_sd=Sometimes(0.4, 0.8, 1.0))
    keys = jax.random.split(KEY, 1000)
    out = jax.jit(
        jax.vmap(lambda key: vary_intensity(key, image, settings)), compiler_options=QUICK
    )(keys)
    changed = np.any(np.asarray(out) != np.asarray(image), axis=(1, 2))
    assert abs(changed.mean() - 0.4 * 0.5) < 4 * np.sqrt(0.4 * 0.25 / 1000)
    assert abs(changed.any(axis=1).mean() - 0.4 * (1 - 0.5**3)) < 4 * np.sqrt(0.25 / 1000)


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


def test_settings_for_a_patch():
    assert settings_for((64, 64)).rotation_deg.high == 180
    assert settings_for((64, 32)).rotation_deg.high == 15
    assert settings_for((64, 64, 48)).rotation_deg.high == 30
    assert not settings_for((64, 64, 48)).planar
    assert settings_for((96, 96, 24)).planar
    assert NO_AUGMENTATION.zoom == NEVER


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
