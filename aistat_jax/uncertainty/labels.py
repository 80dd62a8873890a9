"""Which of many targets does each voxel belong to?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._typing import Int
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.image import Channel

# So many draws tell a probability to 3% where it is one half.
DRAWS = 250


def label_map(posteriors: Sequence[Posterior], channel: Channel) -> Int[np.ndarray, "i j k"]:
    """The number of the target, from 1 in the order given, that each voxel of a channel belongs to.

    That which holds the voxel's centre most probably, if it does so with a probability of at least
    a half; 0 where none does. Contours fill the slices nearest to theirs, surfaces all that they
    meet, as far as their charts reach.

    Raises InputError for a target in a slice, or in a place, that the channel does not have.
    """
    labels = np.zeros(channel.values.shape, dtype=np.int32)
    highest = np.full(channel.values.shape, np.nextafter(0.5, 0.0))
    for number, posterior in enumerate(posteriors, start=1):
        chart, draws = posterior.chart, posterior.draws
        chosen = draws[np.linspace(0, len(draws) - 1, min(DRAWS, len(draws))).round().astype(int)]
        edge = chart.points(np.minimum(draws.max(axis=0), chart.ends[1]))
        middle = 0.5 * (edge.min(axis=0) + edge.max(axis=0))
        reach = float(np.linalg.norm(edge - middle, axis=-1).max())
        if chart.dims == 3:
            part = channel.block_at(middle, reach)
        else:
            part = channel.slice_at(chart.plane).around(middle, reach)
        inside = posterior.presence * chart.inside_share(chosen, part.points())
        box = channel.place_of(part)
        more = inside > highest[box]
        labels[box] = np.where(more, number, labels[box])
        highest[box] = np.where(more, inside, highest[box])
    return labels
