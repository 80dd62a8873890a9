"""What does a network say about an edge? Per ray a position and its noise; and whether it is there.

The head reads a U-Net's last features and log-odds along the rays of a star (edges.py) and says
where a reader would draw the edge as the law of edge_law.py. It is trained (head_training.py) by
the marginal likelihood of that law, in closed form, and by the Bernoulli likelihood of presence:
the share of readers who drew anything at all.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._typing import Array, Float
from aistat_jax.nets.blocks import Conv, kernel, rectify
from aistat_jax.nets.edge_law import FINEST, Edge, margin_of

# Radii at which features are read, relative to the target's rough radius: log-spaced.
NEAREST, FARTHEST = 0.15, 3.0
POSITIONS = np.linspace(math.log(NEAREST), math.log(FARTHEST), 32)
WIDTH, SLOPE = 16, 0.1
LEAST_NOISE = 0.01
# Where training starts.
NOISE, AMPLITUDE, LENGTHSCALE, MEAN_SD, DEGREES = 0.05, 0.08, 0.45, 0.08, 6.0
# How far, as a log, a spread may go from there. 0.08 exp(2) = 0.59 is the spread of the mean of a
# head which knows nothing (over targets to learn from, the mean has sd 0.43); where nothing is
# drawn no likelihood holds a spread down, and without a bound it reached 2.5.
LEAST_FACTOR, MOST_FACTOR = -4.0, 2.0


class ContourHead(nnx.Module):
    """From unrolled features (target, ray, position, feature) to an `Edge`."""

    def __init__(self, features: int) -> None:
        self.first = Conv(features + 1, WIDTH, (3, 3), (1, 1))
        self.second = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.third = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.score = Linear(WIDTH, 1)
        self.errors = Linear(WIDTH + 1, 2)
        self.whole = Linear(2 * WIDTH + 1, 2 * WIDTH)
        self.spread = Linear(2 * WIDTH, 2)
        self.presence = Linear(2 * WIDTH, 1)
        self.log_lengthscale = nnx.Param(jnp.log(jnp.float32(LENGTHSCALE)))
        self.log_degrees = nnx.Param(jnp.full(len(FINEST), math.log(DEGREES), jnp.float32))
        self.margin = nnx.Param(jnp.zeros(4, jnp.float32))
        self.log_scale = nnx.Param(jnp.zeros(len(FINEST), jnp.float32))

    def __call__(self, x: Float[Array, "target ray position feature"], log_radius: Array) -> Edge:
        """Shapes: log_radius (target,), of the rough radius in voxels of the working grid."""
        size = jnp.broadcast_to(0.3 * log_radius[:, None, None, None], (*x.shape[:-1], 1))
        h = jnp.concatenate([x, size], axis=-1)
        for conv in (self.first, self.second, self.third):
            h = rectify(_around(conv, h), SLOPE)
        weight = jax.nn.softmax(self.score(h)[..., 0], axis=-1)
        positions = jnp.asarray(POSITIONS, jnp.float32)
        mean = weight @ positions
        width = jnp.sqrt(weight @ jnp.square(positions) - jnp.square(mean) + 1e-4)
        at_edge = jnp.einsum("brt,brtf->brf", weight, h)
        errors = self.errors(jnp.concatenate([at_edge, jnp.log(width)[..., None]], axis=-1))
        whole = jnp.concatenate(
            [at_edge.mean(axis=1), h.mean(axis=(1, 2)), 0.3 * log_radius[:, None]], axis=-1
        )
        whole = rectify(self.whole(whole), SLOPE)
        spread = self.spread(whole)
        return Edge(
            mean,
            LEAST_NOISE + NOISE * factor(errors[..., 0]),
            AMPLITUDE * factor(errors[..., 1] + spread[:, :1]),
            MEAN_SD * factor(spread[:, 1]),
            jnp.exp(self.log_lengthscale[...]),
            jnp.exp(self.log_degrees[...]),
            self.presence(whole)[:, 0],
            margin_of(jax.lax.stop_gradient(self.margin[...])),
            jnp.exp(jax.lax.stop_gradient(self.log_scale[...])),
        )


class Linear(nnx.Module):
    """A linear map of the last axis."""

    def __init__(self, features: int, out: int) -> None:
        self.kernel = kernel((features, out), 1.0, features)
        self.bias = nnx.Param(jnp.zeros(out, jnp.float32))

    def __call__(self, x: Float[Array, "*batch feature"]) -> Float[Array, "*batch out"]:
        return x @ self.kernel[...] + self.bias[...]


def factor(log: Array) -> Array:
    """exp(log) within its bounds."""
    return jnp.exp(_bounded(log))


@jax.custom_vjp
def _bounded(log: Array) -> Array:
    """`log` within its bounds. From beyond one a slope still leads back, and none further out."""
    return jnp.clip(log, LEAST_FACTOR, MOST_FACTOR)


def _bounded_forward(log: Array) -> tuple[Array, Array]:
    return _bounded(log), log


def _bounded_backward(log: Array, slope: Array) -> tuple[Array]:
    outward = ((log > MOST_FACTOR) & (slope < 0)) | ((log < LEAST_FACTOR) & (slope > 0))
    return (jnp.where(outward, 0.0, slope),)


_bounded.defvjp(_bounded_forward, _bounded_backward)


def _around(conv: Conv, x: Array) -> Array:
    """A convolution for which the rays close to a circle."""
    half = conv.kernel.shape[0] // 2
    joined = jnp.concatenate([x[:, -half:], x, x[:, :half]], axis=1)
    return conv(joined)[:, half:-half]
