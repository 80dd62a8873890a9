"""Which observations of an image does a chart reach, and how many are they worth?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.boundary.discs import Blur
from aistat_jax.boundary.evidence import voxels_around
from aistat_jax.boundary.regions import point_spread
from aistat_jax.boundary.targets import Target
from aistat_jax.boundary.tempering import MAX_LAG, effective_fraction
from aistat_jax.space.chart import Chart
from aistat_jax.space.image import Image

# Noise is taken to be correlated over at most this many blur widths; what is alike further
# apart is anatomy.
NOISE_REACH = 3.0
# Background is looked for outside this multiple of the target's rough radius.
STRIP_FROM = 1.4


class Samples(NamedTuple):
    """Observations in a plane: points (voxel, 2), values and precisions (voxel,), footprint, eta.

    Precisions are relative, with mean one. `footprint` is the side of a voxel, 0 for points; eta
    the effective over the nominal number of observations; `name` the channel's.
    """

    points: np.ndarray
    values: np.ndarray
    precisions: np.ndarray
    footprint: float
    eta: float
    blur: Blur
    name: str = "points"


def channel_samples(
    image: Image,
    name: str,
    target: Target,
    chart: Chart,
    *,
    spread: float | None = None,
    temper: float | str = "auto",
    noise: str = "constant",
) -> Samples:
    """The voxels of one channel that a chart reaches, in the slice nearest to the target's.

    `spread` is the sd of the point spread, by default that of the channel's quantity; a voxel is a
    mean over its volume, which is added to it. See `intensity` for the other arguments.
    """
    voxels = voxels_around(image, name, target, chart)
    plane, width = voxels.slice.plane, voxels.width
    if spread is None:
        spread = point_spread(image[name])
    within, across = (float(np.sqrt(spread**2 + side**2 / 12)) for side in (width, plane.thickness))
    if temper == "auto":
        strip = voxels.inside & (voxels.radius > STRIP_FROM * target.radius)
        reach = int(np.clip(np.ceil(NOISE_REACH * within / width), 3, MAX_LAG))
        eta = effective_fraction(voxels.slice.values, strip, reach)
    else:
        eta = float(temper)
    if noise == "poisson":
        precisions = poisson_precisions(voxels.slice.values)[voxels.inside]
    else:
        precisions = np.ones(len(voxels.values))
    precisions = precisions / precisions.mean()
    blur = Blur(within, across, float(plane.offset - target.plane.offset))
    return Samples(voxels.points, voxels.values, precisions, width, eta, blur, name)


def poisson_precisions(values: Float[np.ndarray, "nu nv"]) -> Float[np.ndarray, "nu nv"]:
    """One over the mean of each pixel, as its smoothed neighbourhood tells it.

    Smoothing keeps a pixel's own noise out of its weight; a floor at a tenth of the mean keeps
    air from counting for everything.
    """
    from scipy import ndimage

    level = ndimage.gaussian_filter(values, 1.0)
    return 1 / np.maximum(level, 0.1 * max(float(level.mean()), 1e-12))
