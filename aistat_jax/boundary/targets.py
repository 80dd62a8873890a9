"""What is to be contoured? A target: a slice, a centre in it and a rough radius."""

from __future__ import annotations

import numpy as np

from aistat_jax._record import record, static
from aistat_jax._typing import Float
from aistat_jax.space.grid import Plane


@record
class Target:
    """Where a contour is sought.

    Shapes: centre (2,) in-plane coordinates, radius a scalar; unit of the plane.
    """

    centre: Float[np.ndarray, "2"]
    radius: float
    plane: Plane
    id: str = static(default="target")

    @property
    def unit(self) -> str:
        return self.plane.unit
