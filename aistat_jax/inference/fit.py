"""How is a model fitted? `fit(model, method)`: one door to Laplace, NUTS, VI, SMC and your own."""

from __future__ import annotations

from typing import Any

from aistat_jax._record import replace
from aistat_jax._threads import one_blas_thread
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.conflict import conflicts
from aistat_jax.inference.finish import check_draws
from aistat_jax.inference.methods import Method, by_laplace, method_of, moved
from aistat_jax.inference.posterior import Posterior


def fit(
    model: BoundaryModel,
    method: str | Method = "laplace",
    *,
    draws: int = 1000,
    seed: int = 0,
    compare: bool = True,
    near: Posterior | None = None,
    **settings: Any,
) -> Posterior:
    """Posterior of one boundary.

    `method` is a record that says how (`Laplace()`, `NUTS(chains=4)`, `VI(guide="mean_field")`,
    `SMC()`), or its short name, "laplace", "nuts", "vi" or "smc", whose `settings` are then given
    here: `fit(model, "nuts", chains=2)`. A sampler of one's own is any object with a method
    `sample(model, draws, seed)` that returns a `Posterior` (`as_posterior` makes one). `draws` is
    the total number of draws. Where there are several sources of evidence each is fitted alone too,
    by Laplace, and those that contradict each other are named in the diagnostics (conflict.py),
    unless `compare` is False. `near` is a posterior of the same boundary from less evidence, from
    whose mean the fit is to start: quicker, and of a surface the weights hold better.

    Computed in double precision whatever the caller's JAX settings; the same seed gives the
    same draws on one machine. Raises InputError for an unknown method or setting, fewer than 100
    draws, or NUTS or VI on a hard step.
    """
    chosen = method_of(method, **settings)
    check_draws(draws)
    model = model if near is None else moved(model, near)
    with one_blas_thread():
        posterior = chosen.sample(model, draws=draws, seed=seed)
        return compared(model, posterior) if compare else posterior


def compared(model: BoundaryModel, posterior: Posterior) -> Posterior:
    """The posterior with what its model's sources of evidence have against each other."""
    draws, seed, diagnostics = len(posterior.draws), posterior.seed, posterior.diagnostics
    found = conflicts(model, lambda alone: by_laplace(alone, draws=draws, seed=seed, look=False))
    if not found:
        return posterior
    findings = found + diagnostics.findings
    return replace(posterior, diagnostics=replace(diagnostics, findings=findings))
