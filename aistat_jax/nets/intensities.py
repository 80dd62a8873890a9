"""How may an image look different where nothing has moved? Noise, resolution and tone."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array, Float, Key
from aistat_jax.nets.variation import Settings, Sometimes

_DARKEST = 1e-7
_EXACT = jax.lax.Precision.HIGHEST  # in the TF32 of a GPU the identity would not be exact


def vary_intensity(
    key: Key, image: Float[Array, "*space channel"], settings: Settings
) -> Float[Array, "*space channel"]:
    """The image with other noise, resolution, brightness, contrast and gamma; same shape.

    Settings of probability 0 cost nothing, and a change that is not drawn leaves the image
    exactly as it was.
    """
    keys = jax.random.split(key, 8)
    # Channel first: XLA on CPU reduces over contiguous axes six times faster.
    image = jnp.moveaxis(image, -1, 0)
    space = tuple(range(1, image.ndim))

    def drawn(key: Key, sometimes: Sometimes, neutral: float, each: float = 1.0) -> Array:
        values = sometimes.draw(key, neutral, image.shape[:1], each)
        return values.reshape(-1, *[1] * len(space))

    softened = space[:2] if settings.planar else space
    if settings.noise_sd.probability > 0:
        sd = settings.noise_sd.draw(keys[0], 0.0)
        image = image + sd * jax.random.normal(keys[1], image.shape, jnp.float32)
    if settings.blur_sd.probability > 0:
        sd = drawn(keys[2], settings.blur_sd, 0.0, settings.channel_probability)
        image = _blur(image, sd, softened, reach=int(np.ceil(3 * settings.blur_sd.high)))
    if settings.brightness.probability > 0:
        image = image * drawn(keys[3], settings.brightness, 1.0)
    if settings.contrast.probability > 0:
        factor = drawn(keys[4], settings.contrast, 1.0)
        stretched = image + (factor - 1) * (image - image.mean(space, keepdims=True))
        image = jnp.clip(stretched, *_range(image, space))
    if settings.coarsening.probability > 0:
        width = drawn(keys[5], settings.coarsening, 1.0, settings.channel_probability)
        image = _coarsen(image, width.reshape(-1), softened)
    if settings.gamma_inverted.probability > 0:
        image = -_gamma(-image, drawn(keys[6], settings.gamma_inverted, 1.0), space)
    if settings.gamma.probability > 0:
        image = _gamma(image, drawn(keys[7], settings.gamma, 1.0), space)
    return jnp.moveaxis(image, 0, -1)


def _blur(
    image: Float[Array, "channel ..."],
    sd: Float[Array, "channel ..."],
    axes: Sequence[int],
    reach: int,
) -> Float[Array, "channel ..."]:
    """Convolution with a Gaussian of sd voxels along each axis, cut at `reach`; as it is for 0.

    Sums of shifted copies: XLA on CPU fuses them, and runs grouped convolutions slowly.
    """
    lags = range(-reach, reach + 1)
    weights = [jnp.exp(-0.5 * jnp.square(lag / jnp.maximum(sd, 1e-3))) for lag in lags]
    total = sum(weights)
    for axis in axes:
        count = image.shape[axis]
        ends = [(reach, reach) if axis == n else (0, 0) for n in range(image.ndim)]
        padded = jnp.pad(image, ends, mode="edge")
        image = sum(
            (
                weight / total * jax.lax.slice_in_dim(padded, n, n + count, axis=axis)
                for n, weight in enumerate(weights)
            ),
            jnp.zeros_like(image),
        )
    return image


def _coarsen(
    image: Float[Array, "channel ..."], width: Float[Array, " channel"], axes: Sequence[int]
) -> Float[Array, "channel ..."]:
    """Means over coarse voxels `width` voxels wide, interpolated linearly back to the old grid.

    Separable, so a matrix product along each axis.
    """
    matrices = {n: jax.vmap(_coarsening, (None, 0))(n, width) for n in {*image.shape[1:]}}
    for axis in axes:
        rows = jnp.moveaxis(image, axis, 1)
        matrix = matrices[image.shape[axis]]
        rows = jnp.einsum("cxy,cy...->cx...", matrix, rows, precision=_EXACT)
        image = jnp.moveaxis(rows, 1, axis)
    return image


def _coarsening(count: int, width: Float[Array, ""]) -> Float[Array, "voxel voxel"]:
    """What each voxel reads of the others along one axis; the identity for width 1."""
    x = np.arange(count, dtype=np.float32) - count // 2  # a coarse voxel on a fine one
    place = x[:, None] / width
    below = jnp.floor(place)

    def overlap(coarse: Array) -> Array:
        left, right = (coarse - 0.5) * width, (coarse + 0.5) * width
        return jnp.maximum(0, jnp.minimum(right, x + 0.5) - jnp.maximum(left, x - 0.5))

    weights = (1 - place + below) * overlap(below) + (place - below) * overlap(below + 1)
    return weights / weights.sum(axis=1, keepdims=True)


def _range(image: Float[Array, "channel ..."], space: Sequence[int]) -> tuple[Array, Array]:
    """Smallest and largest value of each channel, taken as constants by gradients: XLA may work
    an image out twice, not to the last bit, and then no voxel is found to be the smallest."""
    low, high = (f(image, space, keepdims=True) for f in (jnp.min, jnp.max))
    return jax.lax.stop_gradient(low), jax.lax.stop_gradient(high)


def _gamma(
    image: Float[Array, "channel ..."], gamma: Float[Array, "channel ..."], space: Sequence[int]
) -> Float[Array, "channel ..."]:
    """Raise each channel, scaled to [0, 1], to a power, and give it back its mean and sd."""

    def moments(x: Array) -> tuple[Array, Array]:
        mean = x.mean(space, keepdims=True)
        return mean, jnp.sqrt(jnp.square(x - mean).mean(space, keepdims=True) + 1e-14)

    low, high = _range(image, space)
    unit = (image - low) / jnp.maximum(high - low, _DARKEST)
    # Six times faster than the power, and its gradient is finite at the darkest voxel.
    curved = jnp.exp(gamma * jnp.log(jnp.maximum(unit, _DARKEST)))
    (mean, sd), (new_mean, new_sd) = moments(image), moments(curved)
    return jnp.where(gamma == 1, image, (curved - new_mean) * (sd / new_sd) + mean)
