"""How do draws of another sampler become a posterior, on which all the rest works?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import ArrayLike
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.diagnostics import chain_diagnostics
from aistat_jax.inference.finish import MIN_DRAWS, finished
from aistat_jax.inference.log_density import log_density
from aistat_jax.inference.posterior import Posterior


def as_posterior(
    model: BoundaryModel,
    draws: ArrayLike | Mapping[str, ArrayLike],
    *,
    method: str = "own",
    seed: int = 0,
    sample_stats: Mapping[str, ArrayLike] | None = None,
) -> Posterior:
    """Draws of a sampler of one's own as a `Posterior`, with its diagnostics.

    `draws` is an array of unconstrained vectors (chain, draw, dim), as `log_density` takes them,
    or a dict of the sampled sites, each (chain, draw, ...), such as NumPyro's
    `mcmc.get_samples(group_by_chain=True)`; deterministic sites are computed again. Draws must
    carry equal weight. R-hat and effective sample sizes are taken over the chains as they are
    (independent draws may be cut into two or more); at least two are needed. `sample_stats`
    (chain, draw) by ArviZ's names ("diverging", "energy", ...) goes to `to_arviz`, and divergences
    into the diagnostics. `method` and `seed` are kept as a note.

    Raises InputError for another shape, fewer than 2 chains or 100 draws, a value that is not
    finite or outside its support, and a site that is missing.
    """
    density = log_density(model)
    if isinstance(draws, Mapping):
        given = {name: np.asarray(value) for name, value in draws.items()}
        vectors = np.asarray(density.unconstrain(given))
    else:
        vectors = np.asarray(draws, dtype=float)
    if vectors.ndim != 3 or vectors.shape[-1] != density.dim:
        raise InputError(
            f"draws must be (chain, draw, {density.dim}) unconstrained vectors of this model, or "
            f"a dict of its sites {', '.join(density.sites)}, each (chain, draw, ...); "
            f"got {'sites' if isinstance(draws, Mapping) else 'an array'} of batch "
            f"{vectors.shape[:-1]} and dimension {vectors.shape[-1]}"
        )
    chains, count = vectors.shape[:2]
    if chains < 2:
        raise InputError(
            "at least 2 chains are needed to compare them, got 1; independent draws may be cut "
            "into two: draws.reshape(2, -1, dim)"
        )
    if chains * count < MIN_DRAWS:
        raise InputError(f"at least {MIN_DRAWS} draws are needed for a band, got {chains * count}")
    if not np.isfinite(vectors).all():
        raise InputError("some draws are not finite; leave them out, or sample again")
    notes = {name: np.asarray(value) for name, value in (sample_stats or {}).items()}
    for name, value in notes.items():
        if value.shape != (chains, count):
            raise InputError(
                f"sample_stats {name!r} must be (chain, draw) = {(chains, count)}, "
                f"got {value.shape}"
            )
    samples = {name: np.asarray(value) for name, value in density.constrain(vectors).items()}
    divergences = int(notes["diverging"].sum()) if "diverging" in notes else None
    diagnostics = chain_diagnostics(samples, samples["radii"], model.chart, divergences)
    return finished(model, samples, diagnostics, method, seed, 0.0, notes=notes)
