"""Do image and labels move together, by the stated amounts, and never fold?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage

from aistat_jax._record import replace
from aistat_jax.nets import deform
from aistat_jax.nets.deform import bspline_basis, bspline_field, deformation, sample
from aistat_jax.nets.example import Example
from aistat_jax.nets.variation import NO_AUGMENTATION
from tests.nets.cases import KEY, QUICK, STRONG, always, jitted, make_example


def blobs(rng, space, spacing=None) -> np.ndarray:
    """Smooth regions of three labels."""
    field = ndimage.gaussian_filter(rng.standard_normal(space), 3.0)
    return np.digitize(field, np.quantile(field, [0.6, 0.85])).astype(np.int32)


field = jax.jit(deformation, static_argnums=(1, 2), compiler_options=QUICK)


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
    limit, deform._LARGEST_MOVE = deform._LARGEST_MOVE, 10.0
    try:
        free = jax.jit(lambda key: deformation(key, (40, 40), (1.0, 2.0), violent))
        source = free(KEY)
    finally:
        deform._LARGEST_MOVE = limit
    assert smallest_jacobian(np.asarray(source)) < 0
