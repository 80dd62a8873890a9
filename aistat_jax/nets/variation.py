"""How far, and how often, may an example vary? Ranges with a probability, and draws from them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from aistat_jax._record import record, static
from aistat_jax._typing import Array, Float, Key


class Sometimes(NamedTuple):
    """A number drawn uniformly from [low, high] with a probability; otherwise nothing happens."""

    probability: float
    low: float
    high: float

    def draw(
        self, key: Key, neutral: float, shape: tuple[int, ...] = (), each: float = 1.0
    ) -> Float[Array, "..."]:
        """Uniform numbers, or `neutral` when the whole thing, or one of them, is left alone."""
        value, takes_part, happens = jax.random.uniform(key, (3, *shape), jnp.float32)
        value = self.low + (self.high - self.low) * value
        happens = happens.reshape(-1)[0] < self.probability
        return jnp.where(happens & (takes_part < each), value, neutral)


NEVER = Sometimes(0.0, 0.0, 0.0)


@record
class Settings:
    """How far, and how often, an example is changed. Nothing here is traced by JAX.

    Ranges and probabilities are those of nnU-Net (Isensee et al. 2021, Nature Methods 18, as in
    the `nnUNetTrainer` of its version 2), with these differences: the elastic deformation, which
    nnU-Net switches off, is this project's own choice; zoom is log-uniform; blur has one sd for
    all axes; coarse voxels average over their width and are interpolated linearly, where nnU-Net
    picks the nearest voxel and interpolates cubically.

    rotation_deg: about the axis across the slices, and in 3D about the other two as well.
    zoom: magnification. mirror_axes: None for all; each is mirrored with mirror_probability.
    elastic_sd_mm: root mean square displacement along each axis, of a B-spline with a control
    point every elastic_spacing voxels. planar: the last of three axes is only mirrored, because
    its voxels are too long ("dummy 2D" in nnU-Net). noise_sd: in units of the image. blur_sd: in
    voxels. coarsening: width of a coarse voxel in voxels, at least 1. brightness: factor.
    contrast: factor about the mean, within the old range. gamma, gamma_inverted: exponent for
    the image and for its negative, mean and sd kept. When blur or coarsening happen, each channel
    is in it with channel_probability.
    """

    rotation_deg: Sometimes = static(default=Sometimes(0.2, -30.0, 30.0))
    zoom: Sometimes = static(default=Sometimes(0.2, 0.7, 1.4))
    mirror_axes: tuple[int, ...] | None = static(default=None)
    mirror_probability: float = static(default=0.5)
    elastic_sd_mm: Sometimes = static(default=Sometimes(0.2, 0.5, 3.0))
    elastic_spacing: float = static(default=32.0)
    planar: bool = static(default=False)
    noise_sd: Sometimes = static(default=Sometimes(0.1, 0.0, 0.1))
    blur_sd: Sometimes = static(default=Sometimes(0.2, 0.5, 1.0))
    coarsening: Sometimes = static(default=Sometimes(0.25, 1.0, 2.0))
    channel_probability: float = static(default=0.5)
    brightness: Sometimes = static(default=Sometimes(0.15, 0.75, 1.25))
    contrast: Sometimes = static(default=Sometimes(0.15, 0.75, 1.25))
    gamma_inverted: Sometimes = static(default=Sometimes(0.1, 0.7, 1.5))
    gamma: Sometimes = static(default=Sometimes(0.3, 0.7, 1.5))


NO_AUGMENTATION = Settings(
    rotation_deg=NEVER,
    zoom=NEVER,
    mirror_probability=0.0,
    elastic_sd_mm=NEVER,
    noise_sd=NEVER,
    blur_sd=NEVER,
    coarsening=NEVER,
    brightness=NEVER,
    contrast=NEVER,
    gamma_inverted=NEVER,
    gamma=NEVER,
)


def settings_for(patch: tuple[int, ...]) -> Settings:
    """nnU-Net's rules for a patch: how far to turn it, and whether to leave the third axis alone.

    2D: any angle, or 15 degrees when one side is over 1.5 times the other. 3D: 30 degrees about
    each axis; when the last side is under a third of the longest, any angle in plane only.

    >>> settings_for((64, 64, 16)).planar, settings_for((128, 64)).rotation_deg.high
    (True, 15.0)
    """
    if len(patch) == 2:
        turn = 15.0 if max(patch) > 1.5 * min(patch) else 180.0
        return Settings(rotation_deg=Sometimes(0.2, -turn, turn))
    if max(patch) > 3 * patch[-1]:
        return Settings(rotation_deg=Sometimes(0.2, -180.0, 180.0), planar=True)
    return Settings()
