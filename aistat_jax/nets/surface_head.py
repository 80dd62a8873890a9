"""What does a network say about a surface? From fields read along rays in space, where an expert
would draw it: per ray a position and its sd, and how errors hang together (surface_law.py).

The rays are those of a star in space (an icosahedron's triangles cut up); a layer is a convolution
along the ray and, beside it, one of the mean of the neighbouring rays, so that it is the same in
all directions.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.nets.blocks import kernel, rectify
from aistat_jax.nets.contour_head import SLOPE, Linear, factor
from aistat_jax.nets.surface_law import HIGHEST, RAYS, SITES, SurfaceEdge
from aistat_jax.space.grid import Grid

# Radii at which fields are read, relative to the target's rough radius: log-spaced.
NEAREST, FARTHEST = 0.2, 2.6
POSITIONS = np.linspace(math.log(NEAREST), math.log(FARTHEST), 24)
WIDTH, LAYERS = 12, 3
# Where training starts: sd on a ray, s_0, lengthscale, white noise, degrees of freedom.
SD, SIZE, LENGTHSCALE, WHITE, DEGREES = 0.1, 1.0, 0.6, 0.007, 6.0
# How often the target's middle and rough radius are made anew from the surface found about them.
LOOKS = 3


@record
class SurfaceField:
    """What is read along rays: numbers on a grid. Shapes: values (i, j, k, feature) float32."""

    values: Float[np.ndarray, "i j k feature"]
    grid: Grid


class SurfaceHead(nnx.Module):
    """From unrolled features (target, ray, position, feature) to a `SurfaceEdge`."""

    def __init__(self, features: int) -> None:
        inputs = [features + 2] + (LAYERS - 1) * [WIDTH]
        self.layers = nnx.List([Around(each, WIDTH) for each in inputs])
        self.score = Linear(WIDTH, 1)
        self.error = Linear(WIDTH + 1, 1)
        self.whole = Linear(2 * WIDTH + 1, 2 * WIDTH)
        self.spread = Linear(2 * WIDTH, 2)
        self.log_lengthscale = nnx.Param(jnp.log(jnp.float32(LENGTHSCALE)))
        self.log_white = nnx.Param(jnp.log(jnp.float32(WHITE)))
        self.log_degrees = nnx.Param(jnp.full(len(HIGHEST), math.log(DEGREES), jnp.float32))

    def __call__(
        self, x: Float[Array, "target ray position feature"], log_radius: Array
    ) -> SurfaceEdge:
        """Shapes: log_radius (target,), of the rough radius in voxels."""
        positions = jnp.asarray(POSITIONS, jnp.float32)
        place = jnp.broadcast_to(positions[:, None], (*x.shape[:-1], 1))
        size = jnp.broadcast_to(0.3 * log_radius[:, None, None, None], (*x.shape[:-1], 1))
        h = jnp.concatenate([x, size, place], axis=-1)
        for layer in self.layers:
            h = rectify(layer(h), SLOPE)
        weight = jax.nn.softmax(self.score(h)[..., 0], axis=-1)
        mean = weight @ positions
        width = jnp.sqrt(weight @ jnp.square(positions) - jnp.square(mean) + 1e-4)
        at_edge = jnp.einsum("brt,brtf->brf", weight, h)
        error = self.error(jnp.concatenate([at_edge, jnp.log(width)[..., None]], axis=-1))[..., 0]
        whole = jnp.concatenate(
            [at_edge.mean(axis=1), h.mean(axis=(1, 2)), 0.3 * log_radius[:, None]], axis=-1
        )
        spread = self.spread(rectify(self.whole(whole), SLOPE))
        return SurfaceEdge(
            mean,
            SD * factor(error + spread[:, :1]),
            SIZE * factor(spread[:, 1]),
            jnp.exp(self.log_lengthscale[...]),
            jnp.exp(self.log_white[...]),
            jnp.exp(self.log_degrees[...]),
        )


class Around(nnx.Module):
    """A convolution of 3 positions along each ray and along the mean of the rays beside it."""

    def __init__(self, features: int, out: int) -> None:
        self.kernel = kernel((6 * features, out), 2.0, 6 * features)
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))

    def __call__(self, x: Float[Array, "target ray position feature"]) -> Array:
        beside = (jnp.asarray(_BESIDE) @ x.reshape(len(x), RAYS, -1)).reshape(x.shape)
        h = jnp.concatenate([x, beside], axis=-1)
        h = jnp.pad(h, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge")
        count = x.shape[2]
        three = jnp.concatenate([h[:, :, i : i + count] for i in range(3)], axis=-1)
        return three @ self.kernel[...] + self.bias[...]


def _beside() -> Float[np.ndarray, "ray ray"]:
    """What takes the mean of the rays beside each."""
    meet = np.zeros((RAYS, RAYS), np.float32)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        meet[SITES.triangles[:, i], SITES.triangles[:, j]] = 1
        meet[SITES.triangles[:, j], SITES.triangles[:, i]] = 1
    return meet / meet.sum(axis=1, keepdims=True)


_BESIDE = _beside()


def unroll_in_space(
    field: SurfaceField,
    centre: ArrayLike,
    radius: float,
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> tuple[Float[np.ndarray, "ray position feature"], float]:
    """The field along rays from a centre, and the log of the rough radius in voxels.

    Linear between voxels; zero beyond the grid. `turn` rotates the rays. Shapes: centre (3,), in
    mm as the radius.
    """
    from scipy.ndimage import map_coordinates

    directions = SITES.directions if turn is None else SITES.directions @ turn.T
    along = radius * np.exp(POSITIONS)
    points = np.asarray(centre) + along[:, None] * directions[:, None]
    at = np.moveaxis(field.grid.to_index(points), -1, 0)
    read = [
        map_coordinates(each, at, order=1, mode="constant")
        for each in np.moveaxis(field.values, -1, 0)
    ]
    voxel = float(np.prod(field.grid.spacing) ** (1 / 3))
    return np.stack(read, axis=-1).astype(np.float32), math.log(radius / voxel)


def middle_of(
    log_radii: Float[np.ndarray, " ray"], centre: np.ndarray, radius: float
) -> tuple[Float[np.ndarray, "3"], float]:
    """The centroid of a star in space, and the radius of the ball of its volume.

    log_radii (ray,) are relative to `radius`, about `centre` (3,).
    """
    r = radius * np.exp(log_radii)
    third = SITES.share * r**3
    away = 0.75 * (SITES.share * r**4) @ SITES.directions / third.sum()
    return np.asarray(centre) + away, float(np.cbrt(third.sum()))
