"""How many independent voxels is an image worth?

Neighbouring voxels of PET and CT share noise. A likelihood that multiplies them as independent
is too sure by the factor n / n_eff; raising it to the power eta = n_eff / n restores the width of
its posterior to first order. For stationary noise with autocorrelation rho the mean of n voxels
has variance sigma^2 / n * sum_lags rho(lag), so eta = 1 / sum_lags rho(lag).
"""

from __future__ import annotations

import numpy as np

from aistat_jax._typing import Bool, Float

MAX_LAG = 6
MIN_PIXELS = 60
# Where the strip is too small to tell: the middle of what PET slices show.
FALLBACK = 0.2


def effective_fraction(
    values: Float[np.ndarray, "u v"], strip: Bool[np.ndarray, "u v"], max_lag: int = MAX_LAG
) -> float:
    """Effective over nominal sample size of the noise in a background strip.

    The strip is detrended by a quadratic surface; its autocorrelation at all in-plane lags up to
    `max_lag` pixels is summed over the connected ring of lags around zero whose ring average
    stays above twice its standard error. Returns a number in (0, 1]; FALLBACK when the strip
    holds fewer than MIN_PIXELS pixels.

    Shapes: values (u, v) of one slice, strip (u, v) true where only background is expected.
    """
    count = int(strip.sum())
    if count < MIN_PIXELS:
        return FALLBACK
    u, v = np.nonzero(strip)
    x, y = (u - u.mean()) / max(np.ptp(u), 1), (v - v.mean()) / max(np.ptp(v), 1)
    trend = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    observed = values[u, v]
    noise = observed - trend @ np.linalg.lstsq(trend, observed, rcond=None)[0]
    variance = float(np.mean(noise**2))
    if variance <= 0:
        return 1.0
    field = np.zeros(values.shape)
    field[u, v] = noise
    shape = tuple(n + max_lag + 1 for n in values.shape)

    def autocovariance(a: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft2(a, shape)) ** 2
        full = np.fft.irfft2(spectrum, shape)
        lags = np.arange(-max_lag, max_lag + 1)
        return full[np.ix_(lags, lags)]

    pairs = np.maximum(np.rint(autocovariance(strip.astype(float))), 1.0)
    rho = autocovariance(field) / pairs / variance
    lag_u, lag_v = np.meshgrid(*[np.arange(-max_lag, max_lag + 1)] * 2, indexing="ij")
    ring = np.rint(np.hypot(lag_u, lag_v)).astype(int)
    total = 1.0
    for radius in range(1, max_lag + 1):
        on = ring == radius
        mean = rho[on].mean()
        error = 2.0 / np.sqrt(pairs[on].mean() * on.sum() / 2)
        if mean < error:
            break
        total += rho[on].sum()
    return float(1.0 / max(total, 1.0))
