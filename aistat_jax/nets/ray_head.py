"""Where would an expert draw the edge, given what a network says? A head of few numbers.

A validation set is some tens of patients, too few for a network of features to learn from. So the
law of edge_law.py has here a mean that starts from where the log-odds along a ray cross zero, and
moves by a linear function of what is seen about that place; the logs of its spreads are linear in
what is seen as well. Of all coefficients there are about fifty, and each has a prior
(`log_prior`): of few patients the law stays near the network's own edge with errors of 8%.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._typing import Array, Float
from aistat_jax.nets.contour_head import (
    AMPLITUDE,
    DEGREES,
    LEAST_NOISE,
    LENGTHSCALE,
    MEAN_SD,
    NOISE,
    POSITIONS,
    factor,
)
from aistat_jax.nets.edge_law import FINEST, Edge, margin_of
from aistat_jax.space.basis import circle_basis, equal_angles

STEP = float(POSITIONS[1] - POSITIONS[0])
# Steps to either side of the network's edge that are looked at, and how near to it an inside or
# outside begins; harmonics of the edge that count as coarse.
REACH, NEAR, COARSE = 6, 3, 3
# Log-odds are read at this temperature (sharp ones say nothing of their width), contrast and
# steepness as against these, in units of a normalised channel.
TEMPERATURE, LEAST_CONTRAST, LEAST_SLOPE = 3.0, 0.2, 0.05
# Prior sd of coefficients: of shifts by what the image shows, and of the constant and the rest
# of shifts and log spreads.
SHOWN_SD, FIRST_SD, SHIFT_SD, SPREAD_SD, PRESENCE_SD = 1.0, 1.0, 0.1, 0.3, 2.0


class RaySigns(NamedTuple):
    """What is seen about the network's edge.

    edge is a log radius; shape are deviations of the edge and of the image's edges from their
    means, size those means; whole is of the target, the first 1; vague what makes edges uncertain.
    """

    edge: Float[Any, "target ray"]
    shape: Float[Any, "target ray s"]
    size: Float[Any, "target m"]
    whole: Float[Any, "target w"]
    vague: Float[Any, "target ray v"]


def ray_signs(x: Float[Any, "target ray position feature"], log_radius: Any) -> RaySigns:
    """Signs of unrolled channels and log-odds, the last feature; see `unroll`.

    A channel has two edges: where its mass between the levels inside and outside would end, and
    where it falls most steeply from one to the other.
    """
    odds = x[..., -1]
    edge, first = _crossing(odds)
    steps = np.arange(-REACH, REACH + 1)
    place = jnp.clip(first[..., None] + steps, 0, len(POSITIONS) - 1.001)
    low = place.astype(int)
    share = (place - low)[..., None]
    below = jnp.take_along_axis(x, low[..., None], axis=2)
    around = below + share * (jnp.take_along_axis(x, low[..., None] + 1, axis=2) - below)
    around = (jnp.roll(around, 1, 1) + around + jnp.roll(around, -1, 1)) / 3
    p = jax.nn.sigmoid(around[..., -1] / TEMPERATURE)
    width = jnp.log(0.1 + STEP * jnp.sum(4 * p * (1 - p), axis=-1)) + 1.0
    shape, size, whole, vague = [], [], [], []
    centred = edge - edge.mean(axis=1, keepdims=True)
    circle = jnp.asarray(circle_basis(equal_angles(x.shape[1]), COARSE).functions, x.dtype)
    coarse = centred @ circle @ circle.T / x.shape[1]
    shape += [coarse, centred - coarse]
    inside = jnp.minimum(jnp.where(odds > 0, odds, 0.0).max(axis=(1, 2)), 10.0) / 5
    whole += [jnp.ones_like(log_radius), log_radius - 2.0, width.mean(axis=1), inside - 1.0]
    vague += [width - width.mean(axis=1, keepdims=True), jnp.abs(centred - coarse) / 0.1]
    for c in range(x.shape[-1] - 1):
        level = around[..., c]
        within = level[..., : REACH - NEAR + 1].mean(axis=(1, 2), keepdims=True)
        beyond = level[..., REACH + NEAR :].mean(axis=(1, 2), keepdims=True)
        contrast = within - beyond
        square = jnp.square(contrast) + LEAST_CONTRAST**2
        certain = jnp.square(contrast) / square
        filled = (level - beyond) * contrast / jnp.maximum(jnp.square(contrast), 1e-4)
        mass = jnp.clip(filled, 0.0, 1.0) - (steps < 0) - 0.5 * (steps == 0)
        mass = certain[..., 0] * STEP * jnp.sum(mass, axis=-1)
        slope = (level[..., :-2] - level[..., 2:]) * contrast / jnp.sqrt(square)
        weight = jnp.square(jnp.maximum(slope, 0.0))
        steep = STEP * (weight @ steps[1:-1].astype(np.float32))
        steep = steep / (weight.sum(axis=-1) + LEAST_SLOPE**2)
        for found in (mass, steep):
            mean = found.mean(axis=1)
            shape.append(found - mean[:, None])
            size.append(mean)
            whole.append(jnp.abs(mean) / 0.1)
            vague.append(jnp.abs(found - mean[:, None]) / 0.1)
        whole.append(0.5 * jnp.log(square[:, 0, 0]))
    return RaySigns(
        edge, jnp.stack(shape, -1), jnp.stack([*size, 0 * log_radius], -1),
        jnp.stack(whole, -1), jnp.stack(vague, -1),
    )  # fmt: skip


def _crossing(odds: Float[Array, "target ray position"]) -> tuple[Array, Array]:
    """Where log-odds fall below 0, as a log radius, and in steps.

    The first time after they are first above 0, if that is within the rough radius: the centre of a
    region that is no star, or of a faint one, may lie outside of it. On a ray without, the rough
    radius.
    """
    number = jnp.arange(odds.shape[-1])
    positive = odds > 0
    starts = positive & (jnp.asarray(POSITIONS) <= 0)
    first = jnp.argmax(starts, axis=-1)[..., None]
    count = jnp.cumprod(positive | (number < first), axis=-1).sum(axis=-1)
    before = jnp.clip(count - 1, 0, len(POSITIONS) - 2)
    inner = jnp.take_along_axis(odds, before[..., None], axis=-1)[..., 0]
    outer = jnp.take_along_axis(odds, before[..., None] + 1, axis=-1)[..., 0]
    crosses = (inner > 0) & (outer <= 0)
    share = jnp.where(crosses, inner / jnp.where(crosses, inner - outer, 1.0), 0.5)
    place = jnp.where(starts.any(axis=-1), before + share, -POSITIONS[0] / STEP)
    return POSITIONS[0] + STEP * place, place


class RayHead(nnx.Module):
    """From unrolled features (target, ray, position, feature) to an `Edge`."""

    def __init__(self, features: int) -> None:
        x = jnp.zeros((1, 8, len(POSITIONS), features))
        signs = jax.eval_shape(ray_signs, x, jnp.zeros(1))
        shape, size, whole, vague = (part.shape[-1] for part in signs[1:])
        self.shift_shape = nnx.Param(jnp.zeros(shape))
        self.shift_size = nnx.Param(jnp.zeros(size))
        self.shift = nnx.Param(jnp.zeros(whole))
        self.amplitude = nnx.Param(jnp.zeros(whole))
        self.vague = nnx.Param(jnp.zeros(vague))
        self.mean_sd = nnx.Param(jnp.zeros(whole))
        self.noise = nnx.Param(jnp.zeros(whole))
        self.presence = nnx.Param(jnp.zeros(whole))
        self.log_lengthscale = nnx.Param(jnp.zeros(()))
        self.log_degrees = nnx.Param(jnp.zeros(len(FINEST)))
        self.margin = nnx.Param(jnp.zeros(4))

    def __call__(self, x: Float[Array, "target ray position feature"], log_radius: Array) -> Edge:
        """Shapes: log_radius (target,), of the rough radius in voxels of the grid."""
        return self.law(ray_signs(x, log_radius))

    def law(self, signs: RaySigns) -> Edge:
        """The law of the edges of targets of which these signs are seen."""
        size = signs.size @ self.shift_size[...] + signs.whole @ self.shift[...]
        mean = signs.edge + signs.shape @ self.shift_shape[...] + size[:, None]
        amplitude = (signs.whole @ self.amplitude[...])[:, None] + signs.vague @ self.vague[...]
        noise = jnp.broadcast_to((signs.whole @ self.noise[...])[:, None], mean.shape)
        return Edge(
            mean,
            LEAST_NOISE + NOISE * factor(noise),
            AMPLITUDE * factor(amplitude),
            MEAN_SD * factor(signs.whole @ self.mean_sd[...]),
            LENGTHSCALE * jnp.exp(self.log_lengthscale[...]),
            DEGREES * jnp.exp(self.log_degrees[...]),
            signs.whole @ self.presence[...],
            margin_of(jax.lax.stop_gradient(self.margin[...])),
        )


def log_prior(head: RayHead) -> Array:
    """Log density of a head's coefficients, all of them normal about 0, but for a constant."""

    def normal(values: Array, sd: float, first: float | None = None) -> Array:
        scale = jnp.full(values.shape, sd)
        scale = scale if first is None else scale.at[0].set(first)
        return -0.5 * jnp.sum(jnp.square(values / scale))

    spreads = (head.amplitude, head.mean_sd, head.noise)
    return (
        normal(head.shift_shape[...], SHOWN_SD) + normal(head.shift_size[...], SHOWN_SD)
        + normal(head.shift[...], SHIFT_SD)
        + sum(normal(each[...], SPREAD_SD, FIRST_SD) for each in spreads)
        + normal(head.vague[...], SPREAD_SD) + normal(head.presence[...], PRESENCE_SD)
        + normal(head.log_lengthscale[...], 0.5) + normal(head.log_degrees[...], 0.5)
    )  # fmt: skip


@lru_cache(maxsize=32)
def ray_skeleton(inputs: int) -> tuple[Any, Any]:
    """The graph and the shapes of a head's state; nothing is computed."""
    return nnx.split(nnx.eval_shape(lambda: RayHead(inputs)))
