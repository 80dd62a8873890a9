"""How is a posterior computed in milliseconds? Nested Laplace, corrected by importance weights.

Proposals are pushed through the transport map (transport.py) from two multivariate t, weighted
by the exact posterior over the proposal density, Pareto-smoothed (PSIS, Vehtari et al. 2024),
and resampled to equal weights. khat says whether the correction can be trusted. The
hyperparameters and the first harmonics have the heavier tails: what is left of the posterior's
skewness is there, and a heavy tail over every direction wastes half of the proposals.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aistat_jax._typing import Array
from aistat_jax.inference import one_core
from aistat_jax.inference.transport import COARSE, Density, Program, Transport, find_transport

PROPOSALS_PER_DRAW = 1.5
# Degrees of freedom, both even: hyperparameters and first harmonics, and everything finer.
DEGREES = 12, 40


class LaplaceDraws(NamedTuple):
    """Equally weighted draws of every site (draw, ...), with khat and the PSIS sample size."""

    sites: dict[str, Array]
    khat: Array
    ess: Array
    transport: Transport


def laplace_one(program: Program, data: Any, smoothed: Any, key: Array, draws: int) -> LaplaceDraws:
    """One contour.

    The map comes from `smoothed`, the weights from `data`; the two are the same except for hard
    steps. `smoothed` None means the same.
    """
    smoothed = data if smoothed is None else smoothed
    kinds = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(data)]
    kind = program, jax.tree.structure(data), tuple(kinds), draws
    if kind not in _COMPILED:
        _compile(program, data, smoothed, key, draws)
        _COMPILED.add(kind)
    return weighted_draws(program, data, find_transport(program, smoothed), key, draws)


_COMPILED: set[Any] = set()


def _compile(program: Program, data: Any, smoothed: Any, key: Array, draws: int) -> None:
    """Both halves of a fit, compiled side by side; a program is traced in one thread only."""
    with ThreadPoolExecutor(1) as other:
        with one_core.TRACING:
            expansion = find_transport.lower(program, smoothed)
            compiling = other.submit(expansion.compile)
            weighing = weighted_draws.lower(program, data, expansion.out_info, key, draws)
        weighing.compile()
        compiling.result()


@partial(one_core.jit, static_argnames=("program", "draws"))
def weighted_draws(
    program: Program, data: Any, transport: Transport, key: Array, draws: int
) -> LaplaceDraws:
    """Proposals through the map, weighed against the exact posterior and resampled."""
    density = Density(program, data)
    proposal_key, resample_key = jax.random.split(key)
    eps, log_proposal = propose(proposal_key, int(PROPOSALS_PER_DRAW * draws), transport)
    u, x, log_det = jax.vmap(lambda e: transport.push(density, e))(eps)
    log_target = jax.vmap(density.log_joint)(u, x) + log_det
    weight, khat, ess = smoothed_weights(log_target - log_proposal)
    chosen = systematic(resample_key, weight, draws)
    return LaplaceDraws(jax.vmap(density.sites)(u[chosen], x[chosen]), khat, ess, transport)


def propose(key: Array, count: int, transport: Transport) -> tuple[Array, Array]:
    """Proposals eps (count, dim) and their log density up to a constant, (count,)."""
    normal_key, *scale_keys = jax.random.split(key, 3)
    normal = jax.random.normal(normal_key, (count, transport.size))
    rough = len(transport.hyper_mean) + min(COARSE, len(transport.mode))
    blocks, log_density = [], jnp.zeros(count)
    parts = (normal[:, :rough], normal[:, rough:])
    for z, degrees, scale_key in zip(parts, DEGREES, scale_keys, strict=True):
        # chi-squared with an even number of degrees of freedom is a sum of exponentials
        half = jax.random.exponential(scale_key, (count, degrees // 2))
        block = z * jnp.sqrt(0.5 * degrees / jnp.sum(half, axis=1, keepdims=True))
        tail = jnp.log1p(jnp.sum(block**2, axis=1) / degrees)
        log_density -= 0.5 * (degrees + z.shape[1]) * tail
        blocks.append(block)
    return jnp.concatenate(blocks, axis=1), log_density


def smoothed_weights(log_ratio: Array) -> tuple[Array, Array, Array]:
    """Pareto-smoothed weights (proposal,) summing to one, khat and effective sample size."""
    from blackjax.diagnostics import psis_weights

    log_weight, khat = psis_weights(jnp.where(jnp.isfinite(log_ratio), log_ratio, -jnp.inf))
    return jnp.exp(log_weight), khat, 1 / jnp.sum(jnp.exp(2 * log_weight))


def systematic(key: Array, weight: Array, count: int) -> Array:
    """Systematic resampling; the draws stay in the (exchangeable) order of the proposals."""
    place = (jnp.arange(count) + jax.random.uniform(key)) / count
    chosen = jnp.searchsorted(jnp.cumsum(weight), place * jnp.sum(weight))
    return jnp.minimum(chosen, len(weight) - 1)
