"""How is a posterior computed in milliseconds? Nested Laplace, corrected by importance weights.

Proposals are pushed through the transport map (transport.py) from a multivariate t, weighted by
the exact posterior over the proposal density, Pareto-smoothed (PSIS, Vehtari et al. 2024), and
resampled to equal weights. khat says whether the correction can be trusted.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aistat_jax._typing import Array
from aistat_jax.inference.transport import Density, Program, Transport, find_transport

DEGREES = 12


class LaplaceDraws(NamedTuple):
    """Equally weighted draws of every site (draw, ...), with khat and the PSIS sample size."""

    sites: dict[str, Array]
    khat: Array
    ess: Array
    transport: Transport


def laplace_one(
    program: Program, data: Any, smoothed: Any, key: Array, proposals: int, draws: int
) -> LaplaceDraws:
    """One contour; written for a single one and vmapped over many.

    The map comes from `smoothed`, the weights from `data`; the two are the same except for hard
    steps. `smoothed` None means the same.
    """
    transport = find_transport(program, data if smoothed is None else smoothed)
    return weighted_draws(program, data, transport, key, proposals, draws)


@partial(jax.jit, static_argnames=("program", "draws", "proposals"))
def weighted_draws(
    program: Program, data: Any, transport: Transport, key: Array, proposals: int, draws: int
) -> LaplaceDraws:
    """Proposals through the map, weighed against the exact posterior and resampled."""
    from blackjax.diagnostics import psis_weights

    density = Density(program, data)
    normal_key, resample_key = jax.random.split(key)
    dim = transport.size
    normal = jax.random.normal(normal_key, (proposals, dim + DEGREES))
    chi2 = jnp.sum(normal[:, dim:] ** 2, axis=1, keepdims=True)
    eps = normal[:, :dim] * jnp.sqrt(DEGREES / chi2)
    log_proposal = -0.5 * (DEGREES + dim) * jnp.log1p(jnp.sum(eps**2, axis=1) / DEGREES)
    log_ratio = jax.vmap(transport.log_target, (None, 0))(density, eps) - log_proposal
    log_ratio = jnp.where(jnp.isfinite(log_ratio), log_ratio, -jnp.inf)
    log_weight, khat = psis_weights(log_ratio)
    ess = 1 / jnp.sum(jnp.exp(2 * log_weight))
    chosen = systematic(resample_key, jnp.exp(log_weight), draws)
    u, x, _ = jax.vmap(lambda e: transport.push(density, e))(eps[chosen])
    return LaplaceDraws(jax.vmap(density.sites)(u, x), khat, ess, transport)


def systematic(key: Array, weight: Array, count: int) -> Array:
    """Systematic resampling; the draws stay in the (exchangeable) order of the proposals."""
    place = (jnp.arange(count) + jax.random.uniform(key)) / count
    chosen = jnp.searchsorted(jnp.cumsum(weight), place * jnp.sum(weight))
    return jnp.minimum(chosen, len(weight) - 1)


@partial(jax.jit, static_argnames=("program", "proposals", "draws"))
def laplace_batch(
    program: Program, data: Any, smoothed: Any, keys: Array, proposals: int, draws: int
) -> LaplaceDraws:
    """The same for a batch: every leaf of `data`, `smoothed` and `keys` has a leading axis.

    Contours run one after another in one compiled loop: each takes its own number of Newton
    steps, and its tables stay in the cache (batching them in lockstep is twice as slow).
    """

    def one(batch: tuple[Any, Any, Array]) -> LaplaceDraws:
        d, s, k = batch
        return laplace_one(program, d, s, k, proposals, draws)

    return jax.lax.map(one, (data, smoothed, keys))
