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

What is compiled for a Laplace fit is all that is compiled (transport.py); the rest is NumPy's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from aistat_jax._typing import Array, ArrayLike, Float, Int
from aistat_jax.inference.density import Program
from aistat_jax.inference.evidence import log_mean
from aistat_jax.inference.transport import (
    Transport,
    cholesky,
    find_transport,
    log_joint_at,
    sites_at,
    solved,
)

START_SPREAD = 2.0
EFFECTIVE = 0.5
ACCEPTANCE = 0.25
SHRINK = 5.0
# The correlation with the place before the moves, at each temperature and at the last, and the
# most moves made to get there.
REMEMBERED, REMEMBERED_LAST = 0.2, 0.01
MOVES, MOVES_LAST = 60, 300
TEMPERATURES = 200
# By how much b rises is told to within 2^-HALVINGS.
HALVINGS = 60


class ParticleDraws(NamedTuple):
    """Draws of every site (population, particle, ...), and log evidence by each population."""

    sites: dict[str, np.ndarray]
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


@np.errstate(all="ignore")  # what is not a number is said by the draws
def _populations(
    program: Program,
    data: Any,
    transport: Transport,
    key: Array,
    populations: int,
    particles: int,
) -> ParticleDraws:
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    count, dim = populations * particles, transport.size
    shrink = min(1.0, SHRINK * dim / count)

    def log_posterior(eps: np.ndarray) -> np.ndarray:
        u, x, log_det = transport.push_many(program, data, eps)
        value = log_joint_at(program, data, u, x) + log_det
        return np.where(np.isfinite(value), value, -1e100)

    eps = START_SPREAD * rng.standard_normal((count, dim))
    value, b, size, log_evidence = log_posterior(eps), 0.0, 0.5, np.zeros(populations)
    for _ in range(TEMPERATURES):
        ratio = value - _log_start(eps)
        rise = _next_rise(ratio, 1 - b)
        last = b + rise >= 1
        b = 1.0 if last else b + rise
        apart = (rise * ratio).reshape(populations, particles)
        log_evidence += [log_mean(each)[0] for each in apart]
        weight = np.exp(apart - apart.max())
        flat = weight.ravel() / weight.sum()
        mean = flat @ eps
        covariance = (flat[:, None] * (eps - mean)).T @ (eps - mean)
        alone = np.diag(shrink * np.diag(covariance) + 1e-9)
        factor = cholesky((1 - shrink) * covariance + alone)
        chosen = _resample(rng, weight)
        eps, value = eps[chosen], value[chosen]
        normal = solved(factor, (eps - mean).T).T  # eps = mean + factor @ normal

        def tempered(eps: np.ndarray, value: np.ndarray, normal: np.ndarray, b: float = b) -> Any:
            """The tempered log density over that of N(mean, C C')."""
            start = _log_start(eps)
            return start + b * (value - start) + 0.5 * np.square(normal).sum(axis=1)

        enough, most = (REMEMBERED_LAST, MOVES_LAST) if last else (REMEMBERED, MOVES)
        here, remembered, moves = tempered(eps, value, normal), 1.0, 0
        while remembered > enough and moves < most:
            keep = np.sqrt(1 - size**2)
            proposed = keep * normal + size * rng.standard_normal(normal.shape)
            there = mean + proposed @ factor.T
            found = log_posterior(there)
            ahead = tempered(there, found, proposed)
            accepted = np.log(rng.uniform(size=count)) < ahead - here
            eps[accepted], value[accepted] = there[accepted], found[accepted]
            normal[accepted], here[accepted] = proposed[accepted], ahead[accepted]
            rate = float(accepted.mean())
            size = float(np.clip(size * np.exp(0.7 * (rate - ACCEPTANCE)), 0.01, 0.99))
            remembered *= 1 - rate * (1 - keep)
            moves += 1
        if last:
            break
    u, x, _ = transport.push_many(program, data, eps)
    populated = {
        name: each.reshape(populations, particles, *each.shape[1:])
        for name, each in sites_at(program, data, u, x).items()
    }
    return ParticleDraws(populated, log_evidence)


def _log_start(eps: Float[np.ndarray, "particle dim"]) -> Float[np.ndarray, " particle"]:
    return -0.5 * np.square(eps / START_SPREAD).sum(axis=-1)


def _next_rise(ratio: Float[np.ndarray, " particle"], most: float) -> float:
    """How far b can rise, at most so far, before the weights leave too few particles effective."""
    shifted = ratio - ratio.max()

    def enough(rise: float) -> bool:
        weight = np.exp(rise * shifted)
        return bool(weight.sum() ** 2 >= EFFECTIVE * len(weight) * np.square(weight).sum())

    if enough(most):
        return most
    low, high = 0.0, most
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if enough(middle) else (low, middle)
    return high


def _resample(
    rng: np.random.Generator, weight: Float[np.ndarray, "population particle"]
) -> Int[np.ndarray, " chosen"]:
    """Systematic resampling of every population, as flat indices."""
    populations, particles = weight.shape
    total = np.cumsum(weight, axis=1)
    place = (np.arange(particles) + rng.uniform(size=(populations, 1))) / particles * total[:, -1:]
    chosen = [np.searchsorted(*pair) for pair in zip(total, place, strict=True)]
    flat = np.minimum(chosen, particles - 1) + particles * np.arange(populations)[:, None]
    return flat.ravel()
