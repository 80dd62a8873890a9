"""Which observations of an image does a chart reach, and how many are they worth?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.discs import Blur
from aistat_jax.boundary.evidence import BACKGROUND, Voxels, voxels_around
from aistat_jax.boundary.regions import point_spread
from aistat_jax.boundary.tempering import MAX_LAG, effective_fraction
from aistat_jax.space.chart import LINKS, Chart
from aistat_jax.space.image import ChannelSlice, Image

# Noise is taken to be correlated over at most this many blur widths; what is alike further
# apart is anatomy.
NOISE_REACH = 3.0
# Background is looked for outside this multiple of the target's rough radius: in the chart, and
# where that holds fewer pixels than tell how alike they are, as far as the image is read.
STRIP_FROM = 1.4
ENOUGH = 400


class Samples(NamedTuple):
    """Observations: points (voxel, dims), values and precisions (voxel,), footprint, eta.

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
    target: Any,
    chart: Chart,
    *,
    spread: float | None = None,
    temper: float | str = "auto",
    noise: str = "constant",
) -> Samples:
    """The voxels of one channel that a chart reaches; of a planar one, in the slice nearest to it.

    `spread` is the sd of the point spread, by default that of the channel's quantity; a voxel is a
    mean over its volume, which is added to it. See `intensity` for the other arguments.
    """
    voxels = voxels_around(image, name, target, chart)
    part, width = voxels.part, voxels.width
    if spread is None:
        spread = point_spread(image[name])
    within = float(np.sqrt(spread**2 + np.square(part.sides).mean() / 12))
    if temper == "auto":
        start = LINKS[chart.link].times(target.radius, STRIP_FROM)
        strip = _background(voxels, start, chart.reach[1])
        reach = int(np.clip(np.ceil(NOISE_REACH * within / part.sides.min()), 3, MAX_LAG))
        eta = effective_fraction(part.values, strip, reach, part.sides)
    else:
        eta = float(temper)
    if noise == "poisson":
        precisions = poisson_precisions(part.values)[voxels.inside]
    else:
        precisions = np.ones(len(voxels.values))
    precisions = precisions / precisions.mean()
    blur = Blur(within)
    if isinstance(part, ChannelSlice):
        across = float(np.sqrt(spread**2 + part.plane.thickness**2 / 12))
        blur = Blur(within, across, float(part.plane.offset - target.plane.offset))
    return Samples(voxels.points, voxels.values, precisions, width, eta, blur, name)


def _background(voxels: Voxels, start: float, reach: float) -> Bool[np.ndarray, "*grid"]:
    """Pixels outside the target: those of the chart, or else the ENOUGH nearest to it."""
    outside = np.sort(voxels.radius[voxels.radius > start])
    if len(outside) > 0:
        wanted = outside[min(ENOUGH, len(outside)) - 1]
        reach = max(reach, min(float(wanted), BACKGROUND[2] * reach))
    return (voxels.radius > start) & (voxels.radius <= reach)


def poisson_precisions(values: Float[np.ndarray, "*grid"]) -> Float[np.ndarray, "*grid"]:
    """One over the mean of each voxel, as its smoothed neighbourhood tells it.

    Smoothing keeps a pixel's own noise out of its weight; a floor at a tenth of the mean keeps
    air from counting for everything.
    """
    from scipy import ndimage

    level = ndimage.gaussian_filter(values, 1.0)
    return 1 / np.maximum(level, 0.1 * max(float(level.mean()), 1e-12))
