"""Is the effective number of voxels what the noise's correlation says?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.boundary.tempering import FALLBACK, MIN_PIXELS, effective_fraction
from aistat_jax.data.textures import correlated_noise, correlation_at


def annulus(size: int, inner: float, outer: float) -> np.ndarray:
    place = np.arange(size) - (size - 1) / 2
    radius = np.hypot(place[:, None], place)
    return (radius > inner) & (radius <= outer)


WIDE = annulus(40, 8, 18)  # 812 pixels: a lesion of radius 8 pixels
NARROW = annulus(24, 5, 11)  # 304 pixels


def exact_fraction(correlation: float) -> float:
    """1 / sum over all in-plane lags of the correlation."""
    return 1 / float(correlation_at(np.arange(-60, 61), correlation).sum()) ** 2


def estimates(correlation: float, strip: np.ndarray, count: int = 30, trend=0.0) -> np.ndarray:
    return np.array(
        [
            effective_fraction(
                correlated_noise(np.random.default_rng(seed), strip.shape, correlation) + trend,
                strip,
            )
            for seed in range(count)
        ]
    )


def test_white_noise_is_worth_all_its_voxels():
    """30 seeds: a ring passes its two-sigma test by chance in under 5%."""
    found = estimates(0.0, WIDE)
    assert np.median(found) == 1.0
    assert found.mean() > 0.95
    assert found.min() > 0.6


@pytest.mark.parametrize("strip", [WIDE, NARROW], ids=["812 px", "304 px"])
@pytest.mark.parametrize("correlation", [1.0, 1.5, 2.0])
def test_correlated_noise_is_worth_one_over_the_sum_of_its_correlations(correlation, strip):
    """The mean of 30 estimates, relative sd at most 0.4 each: s.e. 0.07, limit 3.5 of those."""
    ratio = estimates(correlation, strip) / exact_fraction(correlation)
    assert abs(ratio.mean() - 1) < 0.25
    assert ratio.std() < 0.5
    # negative control: half a pixel more correlation is told apart
    other = estimates(correlation + 0.5, strip) / exact_fraction(correlation)
    assert abs(other.mean() - 1) > 0.25


def test_a_quadratic_trend_makes_no_difference():
    u, v = np.meshgrid(np.arange(40.0), np.arange(40.0), indexing="ij")
    trend = 3 + 0.4 * u - 0.1 * v + 0.03 * u * v - 0.02 * v**2
    for correlation in (0.0, 1.5):
        np.testing.assert_allclose(
            estimates(correlation, WIDE, 5, trend), estimates(correlation, WIDE, 5), rtol=1e-9
        )
    # negative control: a wave is no quadratic, and looks like correlated noise
    wave = 2 * np.sin(u / 3)
    assert (estimates(0.0, WIDE, 5, wave) < 0.2).all()


def test_level_and_scale_of_the_image_make_no_difference(rng):
    noise = correlated_noise(rng, WIDE.shape, 1.5)
    assert np.isclose(
        effective_fraction(noise, WIDE), effective_fraction(1e4 + 30 * noise, WIDE), rtol=1e-6
    )


def test_only_the_strip_is_read(rng):
    noise = correlated_noise(rng, WIDE.shape, 1.0)
    lesion = np.where(WIDE, noise, 1e6)
    assert np.isclose(effective_fraction(noise, WIDE), effective_fraction(lesion, WIDE), rtol=1e-12)


def test_a_small_strip_falls_back(rng):
    noise = rng.standard_normal((30, 30))
    strip = np.zeros((30, 30), dtype=bool)
    strip.ravel()[: MIN_PIXELS - 1] = True
    assert effective_fraction(noise, strip) == FALLBACK
    strip.ravel()[: MIN_PIXELS + 60] = True
    assert effective_fraction(noise, strip) != FALLBACK


def test_a_strip_without_noise_is_worth_all_its_voxels():
    assert effective_fraction(np.full((40, 40), 7.3), WIDE) == 1.0


def test_correlation_beyond_the_largest_lag_is_taken_for_anatomy(rng):
    """Of noise correlated over 4 pixels, lags up to 2 pixels tell only a part."""
    noise = correlated_noise(rng, WIDE.shape, 4.0)
    shares = [effective_fraction(noise, WIDE, max_lag) for max_lag in (0, 2, 6)]
    assert shares[0] == 1.0
    assert shares[0] > 5 * shares[1] > 10 * shares[2]
