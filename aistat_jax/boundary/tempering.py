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

    The strip is detrended by a quadratic surface. Its autocovariance, one value for each ring of
    in-plane lags up to `max_lag` pixels, is estimated without bias: what the detrending takes
    away is put back by solving E[residual products] = A C for C (see `_expectation`). Rings are
    summed outwards until one does not exceed twice its standard error. Returns a number in
    (0, 1]; FALLBACK when the strip holds fewer than MIN_PIXELS pixels.

    Shapes: values (u, v) of one slice, strip (u, v) true where only background is expected.
    """
    if int(strip.sum()) < MIN_PIXELS:
        return FALLBACK
    u, v = np.nonzero(strip)
    x, y = (u - u.mean()) / max(np.ptp(u), 1), (v - v.mean()) / max(np.ptp(v), 1)
    trend = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    trend = np.linalg.qr(trend)[0]
    observed = values[u, v] - values[u, v].mean()
    noise = observed - trend @ (trend.T @ observed)
    if not np.mean(noise**2) > 1e-20 * np.mean(values[u, v] ** 2):
        return 1.0
    fields = np.vstack([noise, np.ones_like(noise), trend.T])
    lags, summed = _ring_sums(fields, u - u.min(), v - v.min(), max_lag)
    products, pairs = summed[:, 0] @ noise, np.rint(summed[:, 1].sum(axis=-1))
    expectation = _expectation(summed[:, 2:], trend, pairs)

    covariance = products[:1] / expectation[0, 0]
    for rings in range(2, max_lag + 2):
        wider = np.linalg.solve(expectation[:rings, :rings], products[:rings])
        if wider[-1] < wider[0] * 2.0 / np.sqrt(pairs[rings - 1] / 2):
            break
        covariance = wider
    total = float(covariance @ lags[: len(covariance)] / covariance[0])
    return 1.0 / max(total, 1.0)


def _ring_sums(
    fields: np.ndarray, u: np.ndarray, v: np.ndarray, max_lag: int
) -> tuple[np.ndarray, np.ndarray]:
    """B_k f: at each pixel the sum of f over the strip's pixels one ring k of lags away.

    Shapes: fields (field, pixel). Returns the number of lags (ring,) and sums (ring, field, pixel).
    """
    from scipy.fft import next_fast_len

    lag = np.arange(-max_lag, max_lag + 1)
    lag_u, lag_v = np.meshgrid(lag, lag, indexing="ij")
    ring = np.rint(np.hypot(lag_u, lag_v)).astype(int)
    shape = tuple(int(next_fast_len(int(n.max()) + 1 + max_lag, real=True) or 1) for n in (u, v))
    rings = np.zeros((max_lag + 1, *shape))
    for k in range(max_lag + 1):
        rings[k, lag_u[ring == k], lag_v[ring == k]] = 1.0
    maps = np.zeros((len(fields), *shape))
    maps[:, u, v] = fields
    spectra = np.fft.rfft2(rings)[:, None] * np.fft.rfft2(maps)
    sums = np.fft.irfft2(spectra, shape)[..., u, v]
    return rings.sum(axis=(1, 2)), sums


def _expectation(
    summed: np.ndarray, trend: np.ndarray, pairs: np.ndarray
) -> Float[np.ndarray, "ring ring"]:
    """A with A_kl = tr(M B_k M B_l), M = I - Q Q' the detrending and Q the trend.

    Residuals r = M e of noise with covariance sum_l C_l B_l give E[r' B_k r] = sum_l A_kl C_l.
    Shapes: summed (ring, trend, pixel), the B_k Q; trend (pixel, trend); pairs (ring,).
    """
    inner = np.einsum("kpn,lpn->kl", summed, summed, optimize=True)
    shared = np.einsum("kpn,nq->kpq", summed, trend, optimize=True)
    return np.diag(pairs) - 2 * inner + np.einsum("kpq,lqp->kl", shared, shared)
