"""Whose pixel is it? Many objects in one slice, one of which is meant."""

from __future__ import annotations

import numpy as np

from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float, Int
from aistat_jax.space.grid import Plane


@record
class Neighbours:
    """The objects of a slice, one of which is meant: `labels` (nu, nv) on `plane`, 0 for none."""

    labels: Int[np.ndarray, "nu nv"]
    plane: Plane
    own: int = static()

    def hold(self, points: Float[np.ndarray, "*batch 2"]) -> Bool[np.ndarray, "*batch"]:
        """Whether each point lies in the pixel of another object."""
        index = np.rint(self.plane.to_index(points)).astype(int)
        within = np.all((index >= 0) & (index < np.array(self.plane.shape)), axis=-1)
        u, v = np.moveaxis(np.where(within[..., None], index, 0), -1, 0)
        found = self.labels[u, v]
        return np.asarray(within & (found != 0) & (found != self.own))
