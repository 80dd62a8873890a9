"""How are hyperparameters and effects of raters sampled? About their mode, by weights or by HMC."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import constrain_fn, potential_energy

from aistat_jax._typing import Array
from aistat_jax.inference import one_core
from aistat_jax.inference.diagnostics import KHAT_LIMIT, WEIGHT_SHARE, chain_summary
from aistat_jax.inference.laplace import smoothed_weights, systematic
from aistat_jax.inference.posterior import Diagnostics
from aistat_jax.inference.rater_program import DrawnCases, effect_sds, rater_program

# Proposals a draw, degrees of freedom of their t, and the step of second differences.
PROPOSALS, DEGREES, STEP = 3, 8, 1e-4
# Chains where these proposals do not fit, their first step, and what is asked of them: they tell of
# hyperparameters, from which contours are then drawn one by one.
CHAINS, FIRST_STEP, LEAST_ACCEPTED, LEAST_EFFECTIVE, MOST_RHAT = 2, 0.35, 0.6, 50.0, 1.05


def sample_raters(
    data: DrawnCases, draws: int, seed: int
) -> tuple[dict[str, np.ndarray], Diagnostics]:
    """Draws of all sites by importance sampling about the posterior mode, and how far they fit."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True), one_core.TRACING:
        starts = prior_means(data)
        mode, spread, unravel = around_mode(data, starts)
        size, each = len(mode), jax.vmap(unravel)
        degrees = DEGREES + size  # of few degrees a t is far from a normal in many dimensions
        z = rng.standard_normal((PROPOSALS * draws, size))
        z *= np.sqrt(degrees / rng.chisquare(degrees, (len(z), 1)))
        points = mode + z @ spread.T
        log_density = -0.5 * (degrees + size) * np.log1p((z**2).sum(axis=1) / degrees)
        weight = -np.asarray(_energies(data, each(jnp.asarray(points)))) - log_density
        weight = np.where(np.isfinite(weight), weight, -np.inf)
        smooth, khat, ess = smoothed_weights(jnp.asarray(weight))
        if khat <= KHAT_LIMIT and ess >= WEIGHT_SHARE * draws:
            found = points[np.asarray(systematic(jax.random.key(seed), smooth, draws))]
            diagnostics = Diagnostics(True, float(ess), float(khat))
        else:  # many raters are many dimensions
            chains = _chains(data, starts, mode, spread, draws, seed)
            diagnostics = _agreement(chains)
            found = chains.reshape(-1, size)
        sites = _constrained(data, each(jnp.asarray(found)))
    samples = {name: np.asarray(value) for name, value in sites.items()}
    samples |= effect_sds(data, samples, rng)
    if data.habits:
        samples["habit"] = samples["habit"].reshape(-1, data.raters, data.habits)
    return samples, diagnostics


def around_mode(data: DrawnCases, starts: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """The posterior mode (dim,), a root of the covariance about it (dim, dim), and what takes
    places (dim,) to sites like `starts`, unconstrained.
    """
    from scipy.optimize import minimize

    start, unravel = ravel_pytree(starts)

    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _energy(data, unravel(jnp.asarray(x)))
        return float(value), np.asarray(ravel_pytree(slope)[0])

    mode = np.asarray(minimize(down, np.asarray(start), jac=True, method="L-BFGS-B").x)
    columns = [
        (down(mode + STEP * e)[1] - down(mode - STEP * e)[1]) / (2 * STEP)
        for e in np.eye(len(mode))
    ]
    values, vectors = np.linalg.eigh((np.array(columns) + np.array(columns).T) / 2)
    # along no direction wider than a prior's unit scale, whatever the curvature says
    return mode, vectors / np.sqrt(np.maximum(values, 0.3)), unravel


def _chains(
    data: DrawnCases, like: Any, mode: np.ndarray, spread: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """HMC in the coordinates in which the mode's surroundings are N(0, I) (chain, draw, dim)."""
    rng = np.random.default_rng(seed)
    each, step, starts = -(-draws // CHAINS), FIRST_STEP, rng.standard_normal((CHAINS, len(mode)))
    key = jax.random.key(seed)
    for _ in range(3):
        keys = jax.random.split(key, CHAINS)
        many = [
            _hmc(data, like, mode, spread, jnp.asarray(start), step, k, each)
            for start, k in zip(starts, keys, strict=True)
        ]
        places, accepted = (
            np.stack([np.asarray(part) for part in parts]) for parts in zip(*many, strict=True)
        )
        if accepted.mean() > LEAST_ACCEPTED:
            break
        step = step / 2
    return mode + places @ spread.T


@partial(one_core.quick, static_argnames="draws")
def _hmc(
    data: DrawnCases, like: Any, mode: Any, spread: Any, start: Array, step: Any, key: Array,
    draws: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Places (draw, dim) after a warm-up of a quarter as many, and the share of accepted moves."""
    import blackjax

    _, unravel = ravel_pytree(like)

    def target(z: Array) -> Array:
        return -_potential(data, unravel(mode + spread @ z))

    kernel: Any = blackjax.dynamic_hmc(target, step, jnp.ones(len(start)))
    begin, run = jax.random.split(key)

    def move(state: Any, key: Array) -> tuple[Any, tuple[Array, Array]]:
        state, info = kernel.step(key, state)
        return state, (state.position, info.acceptance_rate)

    keys = jax.random.split(run, draws + draws // 4)
    _, (places, accepted) = jax.lax.scan(move, kernel.init(start, begin), keys)
    return places[draws // 4 :], accepted[draws // 4 :].mean()


def _agreement(chains: np.ndarray) -> Diagnostics:
    """Whether the chains (chain, draw, dim) tell the same of every coordinate."""
    ess, rhat = np.array([chain_summary(chains[..., k]) for k in range(chains.shape[-1])]).T
    least, most, reasons = float(ess.min()), float(rhat.max()), []
    if not least >= LEAST_EFFECTIVE:
        reasons.append(f"only {least:.0f} effective draws of what is said of raters")
    if not most <= MOST_RHAT:
        reasons.append(f"the chains disagree about raters (R-hat {most:.3f})")
    return Diagnostics(not reasons, least, None, most, None, tuple(reasons))


@partial(one_core.quick, level=0)
def prior_means(data: DrawnCases) -> dict[str, Array]:
    """The prior means of all sites, unconstrained."""
    seen = handlers.trace(handlers.seed(rater_program, jax.random.key(0))).get_trace(data)
    return {
        name: jnp.broadcast_to(
            biject_to(site["fn"].support).inv(site["fn"].mean), site["fn"].shape()
        )
        for name, site in seen.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


def _potential(data: DrawnCases, sites: Any) -> Array:
    return jnp.asarray(potential_energy(rater_program, (data,), {}, sites))


_energy = one_core.quick(jax.value_and_grad(_potential, argnums=1))


@one_core.quick
def _energies(data: DrawnCases, sites: Any) -> Array:
    return jax.lax.map(partial(_potential, data), sites)


@partial(one_core.quick, level=0)
def _constrained(data: DrawnCases, sites: Any) -> dict[str, Array]:
    def one(each: Any) -> dict[str, Array]:
        return constrain_fn(rater_program, (data,), {}, each, return_deterministic=True)

    return jax.lax.map(one, sites)
