"""How many independent voxels is an image worth?

Neighbouring voxels of PET and CT share noise. A likelihood that multiplies them as independent
is too sure by the factor n / n_eff; raising it to the power eta = n_eff / n restores the width of
its posterior to first order. For stationary noise with autocorrelation rho the mean of n voxels
has variance sigma^2 / n * sum_lags rho(lag), so eta = 1 / sum_lags rho(lag).
"""

from __future__ import annotations

import numpy as np

from aistat_jax._typing import Bool, Float, Int

MAX_LAG = 6
MIN_PIXELS = 60
# More voxels than these tell no more.
MOST_PIXELS = 30_000
# Where the strip is too small to tell: the middle of what PET slices show.
FALLBACK = 0.2


def effective_fraction(
    values: Float[np.ndarray, "*grid"],
    strip: Bool[np.ndarray, "*grid"],
    max_lag: int = MAX_LAG,
    sides: Float[np.ndarray, " axis"] | None = None,
) -> float:
    """Effective over nominal sample size of the noise in a background strip.

    The strip is detrended by a quadratic surface. Its autocovariance, one value for each ring (in
    space: shell) of lags up to `max_lag` pixels, is estimated without bias: what the detrending
    takes away is put back by solving E[residual products] = A C for C (see `_expectation`). Rings
    are summed outwards until one does not exceed twice its standard error. Returns a number in
    (0, 1]; FALLBACK when the strip holds fewer than MIN_PIXELS pixels.

    Shapes: values of one slice (u, v) or of a volume (i, j, k), strip alike, true where only
    background is expected. `sides` (axis,) of a voxel tell lags along longer ones: they are counted
    in the shortest.
    """
    if int(strip.sum()) < MIN_PIXELS:
        return FALLBACK
    places = np.argwhere(strip)
    places = places[_some(places)]
    shape = np.ones(values.ndim) if sides is None else np.asarray(sides) / np.min(sides)
    x = (places - places.mean(axis=0)) / np.maximum(np.ptp(places, axis=0), 1)
    squares = [x[:, a] * x[:, b] for a in range(values.ndim) for b in range(a, values.ndim)]
    trend = np.column_stack([np.ones(len(x)), x, *squares])
    trend = np.linalg.qr(trend)[0]
    seen = values[tuple(places.T)]
    observed = seen - seen.mean()
    noise = observed - trend @ (trend.T @ observed)
    if not np.mean(noise**2) > 1e-20 * np.mean(seen**2):
        return 1.0
    fields = np.vstack([noise, np.ones_like(noise), trend.T])
    lags, summed = _ring_sums(fields, places - places.min(axis=0), max_lag, shape)
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


def _some(places: Int[np.ndarray, "pixel axis"]) -> np.ndarray:
    """Of very many voxels those in the slices nearest to the middle one, whole slices together."""
    if len(places) <= MOST_PIXELS:
        return np.arange(len(places))
    across = np.abs(places[:, -1] - np.median(places[:, -1]))
    return np.argsort(across, kind="stable")[:MOST_PIXELS]


def _ring_sums(
    fields: np.ndarray, places: Int[np.ndarray, "pixel axis"], max_lag: int, sides: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """B_k f: at each pixel the sum of f over the strip's pixels one ring k of lags away.

    Shapes: fields (field, pixel), sides (axis,) of a voxel in the shortest one. Returns the number
    of lags (ring,) and sums (ring, field, pixel).
    """
    from scipy.fft import next_fast_len

    most = np.floor(max_lag / sides).astype(int)
    lag = np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij")
    ring = np.rint(np.sqrt(sum((n * side) ** 2 for n, side in zip(lag, sides, strict=True))))
    sizes = places.max(axis=0) + 1 + most
    shape = tuple(int(next_fast_len(int(n), real=True) or 1) for n in sizes)
    rings = np.zeros((max_lag + 1, *shape))
    for k in range(max_lag + 1):
        rings[(k, *(n[ring == k] for n in lag))] = 1.0
    maps = np.zeros((len(fields), *shape))
    maps[(slice(None), *places.T)] = fields
    axes = tuple(range(1, maps.ndim))
    spectra = np.fft.rfftn(maps, axes=axes)
    sums = np.stack(
        [
            np.fft.irfftn(np.fft.rfftn(one) * spectra, shape, axes=axes)[(slice(None), *places.T)]
            for one in rings
        ]
    )
    return rings.sum(axis=axes), sums


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
