"""How is a posterior sampled by Markov chains? NUTS in good coordinates.

The chains run in the coordinates eps of the transport map (transport.py), where the posterior is
nearly N(0, I) and NUTS needs few leapfrog steps. The map only changes coordinates; its Jacobian
is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
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
) -> Iterator[ChainDraws]:
    """NUTS from overdispersed starts under the Laplace map, step size and metric adapted.

    Piece after piece of `draws` draws a chain, for as long as one asks. Chains run side by side on
    all cores: each takes as many leapfrog steps as it needs, where vectorised chains would all wait
    for the longest trajectory.
    """
    transport = find_transport(program, data, near)
    keys, around = jax.random.split(key, chains), (program, data, transport)

    def warmed(key: Array) -> Any:
        with jax.enable_x64(True):  # which every thread has to say for itself
            return jax.block_until_ready(_warmed(*around, key, warmup))

    def drawn(chain: Any) -> tuple[Any, ChainDraws]:
        with jax.enable_x64(True):
            after, piece = _drawn(*around, chain, draws)
            return after, jax.tree.map(np.asarray, piece)

    def compiling() -> None:
        first = _warmed.lower(*around, keys[0], warmup)
        for each in (first, _drawn.lower(*around, first.out_info, draws)):
            each.compile()

    one_core.compile_once(compiling, "nuts", *around, warmup, draws)
    ready = list(on_every_core(warmed, keys))
    while True:
        ready, found = zip(*on_every_core(drawn, ready), strict=True)
        yield jax.tree.map(lambda *parts: np.stack(parts), *found)


def _target(density: Density, transport: Transport) -> Any:
    """The log density of eps; a function of its own so that it is traced once."""
    return jax.jit(partial(transport.log_target, density))


@partial(one_core.quick, static_argnames=("program", "warmup"))
def _warmed(program: Program, data: Any, transport: Transport, key: Array, warmup: int) -> Any:
    """A chain that may begin: where it is, what it has adapted to, and its next key."""
    import blackjax

    target = _target(Density(program, data), transport)
    start_key, adapt_key, run_key = jax.random.split(key, 3)
    start = jax.random.normal(start_key, (transport.size,))
    adaptation: Any = blackjax.window_adaptation(
        blackjax.nuts, target, initial_step_size=0.5, target_acceptance_rate=0.8
    )
    adapted, _ = adaptation.run(adapt_key, start, num_steps=warmup)
    return adapted.state, adapted.parameters, run_key


@partial(one_core.quick, static_argnames=("program", "draws"))
def _drawn(
    program: Program, data: Any, transport: Transport, chain: Any, draws: int
) -> tuple[Any, ChainDraws]:
    """The chain as it is after so many draws, and those; shapes as in `ChainDraws`, of a chain."""
    import blackjax

    density, (state, parameters, key) = Density(program, data), chain
    kernel: Any = blackjax.nuts(_target(density, transport), **parameters)

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

    key, next_key = jax.random.split(key)
    state, (eps, notes) = jax.lax.scan(step, state, jax.random.split(key, draws))
    return (state, parameters, next_key), ChainDraws(_sites(density, transport, eps), notes)


def _sites(density: Density, transport: Transport, eps: Array) -> dict[str, Array]:
    def one(e: Array) -> dict[str, Array]:
        u, x, _ = transport.push(density, e)
        return density.sites(u, x)

    return jax.vmap(one)(eps)
