"""Which axes are there? The one vocabulary of their names, used in annotations.

In `Float[Array, "ray basis"]` the words are axes, in order:

    site     places of a chart, with one value each that makes a boundary
    ray      the sites of a star: its directions, in order of angle
    basis    coefficients of the boundary's eigenfunctions
    node     radial positions at which tables are stored
    voxel    observations (voxels, pixels)
    channel  image channels (PT, CT, ...)
    chain, draw   posterior samples
    vertex   points of a closed curve
    u, v     the two in-plane axes of a slice; xyz patient axes
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

Array = jax.Array
ArrayLike = jax.Array | np.ndarray
Key = jax.Array

__all__ = ["Array", "ArrayLike", "Bool", "Float", "Int", "Key", "Shaped", "UInt8"]
