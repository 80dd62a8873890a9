"""How is a posterior sampled by Markov chains? NUTS in good coordinates.

The chains run in the coordinates eps of the transport map (transport.py), where the posterior is
nearly N(0, I) and NUTS needs few leapfrog steps. The map only changes coordinates; its Jacobian
is exact.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from aistat_jax._threads import on_every_core
from aistat_jax._typing import Array
from aistat_jax.inference import one_core
from aistat_jax.inference.density import Density, Program
from aistat_jax.inference.transport import Transport, find_transport


class ChainDraws(NamedTuple):
    """Draws of every site (chain, draw, ...), and what the sampler noted at each (chain, draw).

    Names of the notes are those of ArviZ: diverging, energy, tree_depth, n_steps,
    acceptance_rate.
    """

    sites: dict[str, Array]
    notes: dict[str, Array]


def nuts_chains(
    program: Program,
    data: Any,
    key: Array,
    chains: int,
    warmup: int,
    draws: int,
    near: np.ndarray | None = None,
) -> ChainDraws:
    """NUTS from overdispersed starts under the Laplace map, step size and metric adapted.

    Chains run side by side on all cores: each takes as many leapfrog steps as it needs, where
    vectorised chains would all wait for the longest trajectory.
    """
    transport = find_transport(program, data, near)
    keys = jax.random.split(key, chains)
    given = program, data, transport, keys[0], warmup, draws
    one_core.compile_once(lambda: _chain.lower(*given).compile(), "nuts", *given)

    def chain(key: Array) -> ChainDraws:
        with jax.enable_x64(True):  # which every thread has to say for itself
            found = _chain(program, data, transport, key, warmup, draws)
            return jax.tree.map(np.asarray, found)

    found = list(on_every_core(chain, keys))
    return jax.tree.map(lambda *parts: np.stack(parts), *found)


@partial(one_core.quick, static_argnames=("program", "warmup", "draws"))
def _chain(
    program: Program, data: Any, transport: Transport, key: Array, warmup: int, draws: int
) -> ChainDraws:
    """One chain; shapes as in `ChainDraws`, without the chain."""
    import blackjax

    density = Density(program, data)

    @jax.jit  # so that it is traced once
    def target(eps: Array) -> Array:
        return transport.log_target(density, eps)

    start_key, adapt_key, run_key = jax.random.split(key, 3)
    start = jax.random.normal(start_key, (transport.size,))
    adaptation: Any = blackjax.window_adaptation(
        blackjax.nuts, target, initial_step_size=0.5, target_acceptance_rate=0.8
    )
    adapted, _ = adaptation.run(adapt_key, start, num_steps=warmup)
    kernel: Any = blackjax.nuts(target, **adapted.parameters)

    def step(state: Any, key: Array) -> tuple[Any, tuple[Array, dict[str, Array]]]:
        state, info = kernel.step(key, state)
        notes = {
            "diverging": info.is_divergent,
            "energy": info.energy,
            "tree_depth": info.num_trajectory_expansions,
            "n_steps": info.num_integration_steps,
            "acceptance_rate": info.acceptance_rate,
        }
        return state, (state.position, notes)

    _, (eps, notes) = jax.lax.scan(step, adapted.state, jax.random.split(run_key, draws))
    return ChainDraws(_sites(density, transport, eps), notes)


def _sites(density: Density, transport: Transport, eps: Array) -> dict[str, Array]:
    def one(e: Array) -> dict[str, Array]:
        u, x, _ = transport.push(density, e)
        return density.sites(u, x)

    return jax.vmap(one)(eps)
