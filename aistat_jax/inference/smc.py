"""How is a posterior without gradients sampled? By tempered sequential Monte Carlo.

A hard step's log-likelihood jumps by several nats at every pixel, so a single chain is soon
stuck. Instead populations of particles are carried from a wide normal q, in the coordinates eps
of the transport map (transport.py), to the posterior p along

    q(eps)^(1 - b) p(eps)^b,  b from 0 to 1

(Del Moral, Doucet & Jasra 2006). Each step raises b until the weights leave half of the
particles effective, resamples every population for itself, and moves all particles by
autoregressive Metropolis steps about their common mean and covariance,

    eps' = mean + sqrt(1 - s^2) (eps - mean) + s C xi,  C C' the covariance, xi ~ N(0, I),

which N(mean, C C') accepts always, with s tuned to an acceptance of a quarter, until they have
forgotten where they were. A covariance that n particles tell in d dimensions is too noisy for that
when d is not far below n, and the map has made them nearly independent, so it is shrunk towards its
diagonal by a share of SHRINK d / n (without that, 1,024 particles were 23% too narrow in 171
dimensions). The populations share only that tuning: where they end up is compared
like chains.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp

from aistat_jax._typing import Array, ArrayLike
from aistat_jax.inference import one_core
from aistat_jax.inference.density import Density, Program
from aistat_jax.inference.transport import Transport, find_transport

START_SPREAD = 2.0
EFFECTIVE = 0.5
ACCEPTANCE = 0.25
SHRINK = 5.0
# The correlation with the place before the moves, at each temperature and at the last, and the
# most moves made to get there.
REMEMBERED, REMEMBERED_LAST = 0.2, 0.01
MOVES, MOVES_LAST = 60, 300
TEMPERATURES = 200
CHUNK = 32


class ParticleDraws(NamedTuple):
    """Draws of every site (population, particle, ...), and log evidence by each population."""

    sites: dict[str, Array]
    log_evidence: ArrayLike


def smc_populations(
    program: Program,
    data: Any,
    smoothed: Any,
    key: Array,
    populations: int,
    particles: int,
    near: np.ndarray | None = None,
) -> ParticleDraws:
    """Populations of particles from the posterior.

    The map comes from the smoothed evidence, the posterior from the exact one; for hard steps
    the two differ. The map keeps the hyperparameters as wide as their prior. Narrowed to what the
    smoothed evidence says of them they can start all populations in one wrong mode, a star of
    spikes at a short lengthscale, from which none returns; that populations agree would not show
    it.
    """
    transport = find_transport(program, smoothed, near, wide=True)
    found = _populations(program, data, transport, key, populations, particles)
    # the start has density exp(log_start) / (2 pi START_SPREAD^2)^(dim / 2)
    start_volume = 0.5 * transport.size * np.log(2 * np.pi * START_SPREAD**2)
    return found._replace(
        log_evidence=np.asarray(found.log_evidence) + start_volume + transport.log_volume
    )


@partial(one_core.jit, static_argnames=("program", "populations", "particles"))
def _populations(
    program: Program,
    data: Any,
    transport: Transport,
    key: Array,
    populations: int,
    particles: int,
) -> ParticleDraws:
    density = Density(program, data)
    count, dim = populations * particles, transport.size
    shrink = min(1.0, SHRINK * dim / count)

    def log_posterior(eps: Array) -> Array:
        value = jax.lax.map(
            lambda e: transport.log_target(density, e), eps, batch_size=min(CHUNK, count)
        )
        return jnp.where(jnp.isfinite(value), value, -1e100)

    def log_start(eps: Array) -> Array:
        return -0.5 * jnp.sum(jnp.square(eps / START_SPREAD), axis=-1)

    def going(state: tuple[Array, ...]) -> Array:
        return (state[2] < 1) & (state[5] < TEMPERATURES)

    def raise_temperature(state: tuple[Array, ...]) -> tuple[Array, ...]:
        eps, value, b, size, key, steps, log_evidence = state
        key, resample_key, move_key = jax.random.split(key, 3)
        ratio = value - log_start(eps)
        rise = _next_rise(ratio, b)
        last = b + rise >= 1
        b = jnp.where(last, 1.0, b + rise)
        weight = jax.nn.softmax(rise * ratio)
        gain = logsumexp((rise * ratio).reshape(populations, particles), axis=1)
        log_evidence = log_evidence + gain - jnp.log(particles)
        mean = weight @ eps
        covariance = (weight[:, None] * (eps - mean)).T @ (eps - mean)
        alone = jnp.diag(shrink * jnp.diag(covariance) + 1e-9)
        factor = jnp.linalg.cholesky((1 - shrink) * covariance + alone)
        chosen = _resample(resample_key, weight.reshape(populations, particles))

        def log_tempered(eps: Array, value: Array) -> Array:
            """The tempered log density over that of N(mean, C C')."""
            normal = solve_triangular(factor, (eps - mean).T, lower=True)
            start = log_start(eps)
            return start + b * (value - start) + 0.5 * jnp.sum(jnp.square(normal), axis=0)

        def move(state: tuple[Array, ...]) -> tuple[Array, ...]:
            eps, value, size, key, remembered, moves = state
            key, noise_key, accept_key = jax.random.split(key, 3)
            keep = jnp.sqrt(1 - size**2)
            noise = jax.random.normal(noise_key, eps.shape) @ factor.T
            proposal = mean + keep * (eps - mean) + size * noise
            proposed = log_posterior(proposal)
            gain = log_tempered(proposal, proposed) - log_tempered(eps, value)
            accepted = jnp.log(jax.random.uniform(accept_key, (count,))) < gain
            rate = accepted.mean()
            return (
                jnp.where(accepted[:, None], proposal, eps),
                jnp.where(accepted, proposed, value),
                jnp.clip(size * jnp.exp(0.7 * (rate - ACCEPTANCE)), 0.01, 0.99),
                key,
                remembered * (1 - rate * (1 - keep)),
                moves + 1,
            )

        def restless(state: tuple[Array, ...]) -> Array:
            remembered, moves = state[4:]
            enough = jnp.where(last, REMEMBERED_LAST, REMEMBERED)
            return (remembered > enough) & (moves < jnp.where(last, MOVES_LAST, MOVES))

        start = (eps[chosen], value[chosen], size, move_key, jnp.ones(()), jnp.asarray(0))
        eps, value, size, *_ = jax.lax.while_loop(restless, move, start)
        return eps, value, b, size, key, steps + 1, log_evidence

    start_key, key = jax.random.split(key)
    eps = START_SPREAD * jax.random.normal(start_key, (count, dim))
    state = (eps, log_posterior(eps), jnp.zeros(()), jnp.asarray(0.5), key, jnp.asarray(0))
    eps, *_, log_ratio = jax.lax.while_loop(
        going, raise_temperature, (*state, jnp.zeros(populations))
    )

    def sites(e: Array) -> dict[str, Array]:
        u, x, _ = transport.push(density, e)
        return density.sites(u, x)

    flat = jax.lax.map(sites, eps, batch_size=min(CHUNK, count))
    populated = {
        name: value.reshape(populations, particles, *value.shape[1:])
        for name, value in flat.items()
    }
    return ParticleDraws(populated, log_ratio)


def _next_rise(ratio: Array, b: Array) -> Array:
    """How far b can rise before the weights leave too few particles effective."""
    from blackjax.smc.ess import ess_solver
    from blackjax.smc.solver import dichotomy

    shifted = ratio - ratio.max()
    return jnp.asarray(ess_solver(lambda _: shifted, shifted, EFFECTIVE, 1 - b, dichotomy))


def _resample(key: Array, weight: Array) -> Array:
    """Systematic resampling of every population (population, particle), as flat indices."""
    from blackjax.smc.resampling import systematic

    populations, particles = weight.shape
    keys = jax.random.split(key, populations)
    chosen = jax.vmap(partial(systematic, num_samples=particles))(
        keys, weight / weight.sum(axis=1, keepdims=True)
    )
    return (chosen + particles * jnp.arange(populations)[:, None]).ravel()
