"""How is a posterior sampled by Markov chains? NUTS, or elliptical slices for hard steps.

Both run in the coordinates eps of the transport map (transport.py), where the posterior is
nearly N(0, I): NUTS needs few leapfrog steps there, and an ellipse through N(0, I) is a good
proposal even for a likelihood without gradients (generalised elliptical slice sampling,
Nishihara, Murray & Adams 2014). The map only changes coordinates; its Jacobian is exact.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aistat_jax._typing import Array
from aistat_jax.inference.transport import Density, Program, Transport, find_transport

SLICE_INFLATION = 1.3


class ChainDraws(NamedTuple):
    """Draws of every site (chain, draw, ...) and the number of divergent transitions."""

    sites: dict[str, Array]
    divergences: Array


def nuts_chains(
    program: Program, data: Any, key: Array, chains: int, warmup: int, draws: int
) -> ChainDraws:
    """NUTS from overdispersed starts under the Laplace map, step size and metric adapted."""
    return _nuts(program, data, find_transport(program, data), key, chains, warmup, draws)


@partial(jax.jit, static_argnames=("program", "chains", "warmup", "draws"))
def _nuts(
    program: Program,
    data: Any,
    transport: Transport,
    key: Array,
    chains: int,
    warmup: int,
    draws: int,
) -> ChainDraws:
    import blackjax

    density = Density(program, data)

    def target(eps: Array) -> Array:
        return transport.log_target(density, eps)

    def one_chain(key: Array) -> tuple[Array, Array]:
        start_key, adapt_key, run_key = jax.random.split(key, 3)
        start = jax.random.normal(start_key, (transport.size,))
        adaptation: Any = blackjax.window_adaptation(
            blackjax.nuts, target, initial_step_size=0.5, target_acceptance_rate=0.8
        )
        adapted, _ = adaptation.run(adapt_key, start, num_steps=warmup)
        kernel: Any = blackjax.nuts(target, **adapted.parameters)

        def step(state: Any, key: Array) -> tuple[Any, tuple[Array, Array]]:
            state, info = kernel.step(key, state)
            return state, (state.position, info.is_divergent)

        return jax.lax.scan(step, adapted.state, jax.random.split(run_key, draws))[1]

    eps, divergent = jax.vmap(one_chain)(jax.random.split(key, chains))
    return ChainDraws(_sites(density, transport, eps), divergent.sum())


def slice_chains(
    program: Program,
    data: Any,
    smoothed: Any,
    key: Array,
    chains: int,
    warmup: int,
    draws: int,
    thin: int,
) -> ChainDraws:
    """Elliptical slice sampling of a posterior with hard steps.

    The map comes from the smoothed evidence, the likelihood from the exact one. After each half
    of the warm-up the ellipse is refitted to the draws of all chains.
    """
    transport = find_transport(program, smoothed)
    return _slices(program, data, transport, key, chains, warmup, draws, thin)


@partial(jax.jit, static_argnames=("program", "chains", "warmup", "draws", "thin"))
def _slices(
    program: Program,
    data: Any,
    transport: Transport,
    key: Array,
    chains: int,
    warmup: int,
    draws: int,
    thin: int,
) -> ChainDraws:
    import blackjax

    density = Density(program, data)
    dim = transport.size

    def run(key: Array, starts: Array, mean: Array, chol: Array, steps: int) -> Array:
        """Positions (chain, step, dim) of slice sampling along ellipses of N(mean, chol chol')."""

        def residual(z: Array) -> Array:
            return transport.log_target(density, mean + chol @ z) + 0.5 * jnp.sum(z**2)

        kernel: Any = blackjax.elliptical_slice(residual, mean=jnp.zeros(dim), cov=jnp.eye(dim))

        def one_chain(key: Array, start: Array) -> Array:
            state = kernel.init(jax.scipy.linalg.solve_triangular(chol, start - mean, lower=True))

            def step(state: Any, key: Array) -> tuple[Any, Array]:
                def inner(_: Any, carry: tuple[Any, Array]) -> tuple[Any, Array]:
                    state, key = carry
                    key, use = jax.random.split(key)
                    return kernel.step(use, state)[0], key

                state, _ = jax.lax.fori_loop(0, thin, inner, (state, key))
                return state, mean + chol @ state.position

            return jax.lax.scan(step, state, jax.random.split(key, steps))[1]

        return jax.vmap(one_chain)(jax.random.split(key, chains), starts)

    start_key, *keys = jax.random.split(key, 4)
    position = jax.random.normal(start_key, (chains, dim))
    mean, chol = jnp.zeros(dim), SLICE_INFLATION * jnp.eye(dim)
    for phase_key in keys[:2]:
        path = run(phase_key, position, mean, chol, warmup // 2)
        settled = path[:, warmup // 4 :].reshape(-1, dim)
        mean = settled.mean(axis=0)
        covariance = jnp.cov(settled.T) + 1e-3 * jnp.eye(dim)
        chol = SLICE_INFLATION * jnp.linalg.cholesky(covariance)
        position = path[:, -1]
    eps = run(keys[2], position, mean, chol, draws)
    return ChainDraws(_sites(density, transport, eps), jnp.zeros((), int))


def _sites(density: Density, transport: Transport, eps: Array) -> dict[str, Array]:
    def one(e: Array) -> dict[str, Array]:
        u, x, _ = transport.push(density, e)
        return density.sites(u, x)

    return jax.lax.map(jax.vmap(one), eps)
