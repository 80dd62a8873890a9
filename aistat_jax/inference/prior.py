"""What does a model believe before it has seen its evidence? Draws from its program alone."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Array
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference import one_core
from aistat_jax.inference.density import Program
from aistat_jax.inference.finish import finished
from aistat_jax.inference.posterior import Diagnostics, Posterior


def prior_draws(model: BoundaryModel, draws: int = 1000, seed: int = 0) -> Posterior:
    """Boundaries drawn from a model's prior, as a record that every figure can show.

    The program is run forward with its evidence left out, so that an edited program simulates
    what it fits: such draws are the truths of simulation-based calibration (`sbc_ranks`).
    Independent draws, in one chain, in double precision; `method` of the record is "prior".

    Raises InputError for no draws and for a program that declares no "radii".
    """
    if draws < 1:
        raise InputError(f"at least one draw from the prior is needed, got {draws}")
    start = time.perf_counter()
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), draws)
        found = _forward(model.program, jax.device_put(model.data), keys)
        samples = {name: np.asarray(value)[None] for name, value in found.items()}
    if "radii" not in samples:
        raise InputError('a boundary program needs a deterministic "radii"')
    independent = Diagnostics(converged=True, ess_min=float(draws))
    return finished(model, samples, independent, "prior", seed, time.perf_counter() - start)


@partial(one_core.jit, static_argnames=("program",))
def _forward(program: Program, data: Any, keys: Array) -> dict[str, Array]:
    from numpyro import handlers

    def one(key: Array) -> dict[str, Array]:
        trace = handlers.trace(handlers.seed(program, key)).get_trace(data)
        return {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] == "deterministic"
            or (site["type"] == "sample" and not site["is_observed"])
        }

    return jax.vmap(one)(keys)
