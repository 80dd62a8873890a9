"""How is a posterior computed in milliseconds? Nested Laplace, corrected by importance weights.

Proposals are pushed through the transport map (transport.py) from two multivariate t, weighted
by the exact posterior over the proposal density, Pareto-smoothed (PSIS, Vehtari et al. 2024),
and resampled to equal weights. khat says whether the correction can be trusted. The
hyperparameters and the first harmonics have the heavier tails: what is left of the posterior's
skewness is there, and a heavy tail over every direction wastes half of the proposals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array
from aistat_jax.inference import one_core
from aistat_jax.inference.transport import (
    CANDIDATES,
    COARSE,
    ROWS,
    Program,
    Transport,
    find_mode,
    find_start,
    find_transport,
    log_joint_at,
    log_joints,
    prior_moments,
    prior_splits,
    sites_at,
    sites_of,
)

PROPOSALS_PER_DRAW = 1.5
# Degrees of freedom, all even: of hyperparameters and first harmonics, and of everything finer. A t
# of nu in d dimensions is off a normal by a log ratio of about d / 2 nu: more of them need more.
DEGREES, PER_DIMENSION = (12, 40), 1.5


class LaplaceDraws(NamedTuple):
    """Equally weighted draws of every site (draw, ...), with khat and the PSIS sample size.

    log_ratio (proposal,) are the raw log weights, up to the constants of map and proposals.
    """

    sites: dict[str, np.ndarray]
    khat: np.ndarray
    ess: np.ndarray
    transport: Transport
    log_ratio: np.ndarray


def laplace_one(
    program: Program,
    data: Any,
    smoothed: Any,
    key: Array,
    draws: int,
    near: np.ndarray | None = None,
) -> LaplaceDraws:
    """One contour, `near` as `find_transport` takes it.

    The map comes from `smoothed`, the weights from `data`; the two are the same except for hard
    steps. `smoothed` None means the same.
    """
    smoothed = data if smoothed is None else smoothed
    compile_fit_once(program, data, smoothed, key, draws)
    return weighted_draws(program, data, find_transport(program, smoothed, near), key, draws)


def compile_fit_once(program: Program, data: Any, smoothed: Any, key: Array, draws: int) -> None:
    """`compile_fit` for the first of fits of a kind, which may then run in any thread."""
    given = program, data, smoothed, key, draws
    one_core.compile_once(lambda: compile_fit(*given), "laplace", program, data, draws)


def compile_fit(program: Program, data: Any, smoothed: Any, key: Array, draws: int) -> None:
    """Everything that a fit runs, compiled side by side; a program is traced in one thread only."""
    with ThreadPoolExecutor(2) as cores:
        with one_core.TRACING:
            lowered = _lowered(program, data, smoothed, key, draws)
            compiling = [cores.submit(part.compile) for part in lowered]
        for part in compiling:
            part.result()


def _lowered(program: Program, data: Any, smoothed: Any, key: Array, draws: int) -> Iterator[Any]:
    """The programs of a fit, traced one after another and not yet compiled; the longest first."""
    first = prior_moments.lower(program, smoothed)
    mean, _, variance = first.out_info

    def rows(count: int, like: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *like.shape), like.dtype)

    us, xs = rows(ROWS, mean), rows(ROWS, variance)
    x, u = np.zeros(variance.shape), np.zeros(mean.shape)
    some_map = Transport(x, np.diag(x), x, u, np.diag(u), np.zeros(()))
    count = int(PROPOSALS_PER_DRAW * draws)
    yield find_mode.lower(program, smoothed, mean, variance)
    yield log_joints.lower(program, data, us, xs, 0)
    yield find_start.lower(program, smoothed, mean, variance, rows(CANDIDATES, variance))
    yield first
    yield propose.lower(key, count, some_map)
    yield weigh.lower(jax.ShapeDtypeStruct((count,), mean.dtype), key, draws)
    for terms in (smoothed, data) if smoothed is not data else (data,):
        yield prior_splits.lower(program, terms, us, 0)
    yield sites_of.lower(program, data, us, xs, 0)


def weighted_draws(
    program: Program, data: Any, transport: Transport, key: Array, draws: int
) -> LaplaceDraws:
    """Proposals through the map, weighed against the exact posterior and resampled."""
    proposal_key, resample_key = jax.random.split(key)
    eps, log_proposal = propose(proposal_key, int(PROPOSALS_PER_DRAW * draws), transport)
    u, x, log_det = transport.push_many(program, data, eps)
    log_target = log_joint_at(program, data, u, x) + log_det
    log_ratio = log_target - np.asarray(log_proposal)
    weighed = weigh(log_ratio, resample_key, draws)
    chosen, khat, ess = (np.asarray(part) for part in weighed)
    sites = sites_at(program, data, u[chosen], x[chosen])
    return LaplaceDraws(sites, khat, ess, transport, log_ratio)


@partial(one_core.quick, level=0, static_argnames="draws")
def weigh(log_ratio: Array, key: Array, draws: int) -> tuple[Array, Array, Array]:
    """Which proposals are drawn (draw,) by their log density over that proposed, khat and ess."""
    weight, khat, ess = smoothed_weights(log_ratio)
    return systematic(key, weight, draws), khat, ess


@partial(one_core.quick, level=1, static_argnames="count")
def propose(key: Array, count: int, transport: Transport) -> tuple[Array, Array]:
    """Proposals eps (count, dim) and their log density less `proposal_constant`, (count,)."""
    normal_key, *scale_keys = jax.random.split(key, 3)
    normal = jax.random.normal(normal_key, (count, transport.size))
    rough = len(transport.hyper_mean) + min(COARSE, len(transport.mode))
    blocks, log_density = [], jnp.zeros(count)
    parts = (normal[:, :rough], normal[:, rough:])
    for z, degrees, scale_key in zip(parts, _degrees(transport), scale_keys, strict=True):
        # chi-squared with an even number of degrees of freedom is a sum of exponentials
        half = jax.random.exponential(scale_key, (count, degrees // 2))
        block = z * jnp.sqrt(0.5 * degrees / jnp.sum(half, axis=1, keepdims=True))
        tail = jnp.log1p(jnp.sum(block**2, axis=1) / degrees)
        log_density -= 0.5 * (degrees + z.shape[1]) * tail
        blocks.append(block)
    return jnp.concatenate(blocks, axis=1), log_density


def proposal_constant(transport: Transport) -> float:
    """The log normalising constant of what `propose` draws from, two multivariate t."""
    from scipy.special import gammaln

    rough = len(transport.hyper_mean) + min(COARSE, len(transport.mode))
    constant = 0.0
    for dim, degrees in zip((rough, transport.size - rough), _degrees(transport), strict=True):
        constant += gammaln(0.5 * (degrees + dim)) - gammaln(0.5 * degrees)
        constant -= 0.5 * dim * np.log(degrees * np.pi)
    return float(constant)


def _degrees(transport: Transport) -> tuple[int, int]:
    fine = max(len(transport.mode) - COARSE, 0)
    return DEGREES[0], max(DEGREES[1], 2 * math.ceil(PER_DIMENSION * fine / 2))


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
