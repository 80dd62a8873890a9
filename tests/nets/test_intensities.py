"""Do noise, resolution and tone change as stated, and nothing else?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from aistat_jax._record import replace
from aistat_jax.nets.intensities import vary_intensity
from aistat_jax.nets.variation import NO_AUGMENTATION
from tests.nets.cases import KEY, QUICK, always


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
