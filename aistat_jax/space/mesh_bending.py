"""Where does a surface seem to lie once it is blurred, told from the modes of a mesh?"""

from __future__ import annotations

import jax.numpy as jnp

from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Float


@record
class OffsetMeshBending:
    """Where a surface seems to lie once a Gaussian point spread of sd b has blurred it.

    Mean-curvature flow for a time b^2 / 2, linear about the reference: d v / d tau = Laplacian of v
    + (sum of squared curvatures) v - (sum of curvatures). What is finer than the modes stays.

    Shapes: change (mode, site), modes (site, mode), shift (site,).
    """

    change: Float[ArrayLike, "mode site"]
    modes: Float[ArrayLike, "site mode"]
    shift: Float[ArrayLike, " site"]
    shrinkage: Float[ArrayLike, ""]

    def __call__(self, values: Float[ArrayLike, " site"]) -> Float[Array, " site"]:
        values = jnp.asarray(values)
        return values + jnp.asarray(self.modes) @ (jnp.asarray(self.change) @ values) - self.shift
