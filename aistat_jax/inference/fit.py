"""How is a model fitted? `fit(model, method)`: one door to Laplace, NUTS, VI and SMC."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.diagnostics import chain_diagnostics, trustworthy, weight_diagnostics
from aistat_jax.inference.laplace import laplace_one
from aistat_jax.inference.mcmc import nuts_chains
from aistat_jax.inference.posterior import Diagnostics, Posterior
from aistat_jax.inference.smc import smc_populations

METHODS = ("laplace", "nuts", "vi", "smc")
PROPOSALS_PER_DRAW = 2
# Fewer particles than this do not tell a covariance.
MIN_PARTICLES = 256


def fit(
    model: BoundaryModel,
    method: str = "laplace",
    *,
    draws: int = 1000,
    seed: int = 0,
    chains: int = 4,
    warmup: int = 300,
    guide: str = "full_rank",
    steps: int = 4000,
    fallback: bool = True,
) -> Posterior:
    """Posterior of one boundary.

    `method` is "laplace" (nested Laplace with Pareto-smoothed importance weights; milliseconds),
    "nuts" (BlackJAX NUTS under the Laplace map), "vi" (NumPyro SVI; `guide` and `steps` apply)
    or "smc" (tempered sequential Monte Carlo; needs no gradients, which a hard step does not
    have at the scale of a voxel). `draws` is the total number of draws; `chains` counts NUTS
    chains or SMC populations and `warmup` applies to NUTS. When Laplace's khat exceeds 0.7, or
    its weights leave under a tenth of the draws, the fit falls back to NUTS, or to SMC for hard
    steps, and its diagnostics say so; `fallback=False` keeps the doubtful fit.

    Computed in double precision whatever the caller's JAX settings; the same seed gives the
    same draws on one machine. Raises InputError for an unknown method, fewer than 100 draws, or
    NUTS or VI on a hard step.
    """
    check(model, method, draws, chains)
    start = time.perf_counter()
    with jax.enable_x64(True):
        data = jax.tree.map(np.asarray, model.data)
        key = jax.random.key(seed)
        if method == "vi":
            from aistat_jax.inference.vi import vi_draws

            sites, khat, ess = vi_draws(model.program, data, key, guide, steps, draws)
            radii = _host(sites).pop("radii")
            diagnostics = weight_diagnostics(khat, ess, radii, model.chart)
            name = "vi"
        elif method == "laplace":
            sites, diagnostics = _laplace(model, data, key, draws)
            name = "laplace"
            if fallback and not trustworthy(diagnostics, draws):
                instead = "nuts" if data.differentiable else "smc"
                khat, ess = diagnostics.khat, diagnostics.ess_min
                sites, diagnostics = _chains(model, data, key, instead, draws, chains, warmup)
                note = (
                    f"Laplace did not fit (khat {khat:.2f}, {ess:.0f} effective draws); "
                    f"sampled by {instead} instead"
                )
                diagnostics = replace(diagnostics, khat=khat, reasons=(*diagnostics.reasons, note))
                name = instead
        else:
            sites, diagnostics = _chains(model, data, key, method, draws, chains, warmup)
            name = method
        samples = _host(sites)
    seconds = time.perf_counter() - start
    return as_posterior(model, samples, diagnostics, name, seed, seconds)


def as_posterior(
    model: BoundaryModel,
    samples: dict[str, np.ndarray],
    diagnostics: Diagnostics,
    method: str,
    seed: int,
    seconds: float,
) -> Posterior:
    """The record, with its timings: reading the evidence, fitting, and both."""
    radii = samples.pop("radii")
    timings = {
        "evidence": model.seconds,
        "fit": seconds,
        "total": model.seconds + seconds,
    }
    return Posterior(
        model.chart, radii, samples, diagnostics, method, seed, model.target_id, timings
    )


def check(model: BoundaryModel, method: str, draws: int, chains: int) -> None:
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; use one of {', '.join(METHODS)}")
    if draws < 100:
        raise InputError(f"at least 100 draws are needed for a band, got {draws}")
    if chains < 2:
        raise InputError(f"at least 2 chains are needed to compare them, got {chains}")
    if method in ("nuts", "vi") and not model.data.differentiable:
        raise InputError(
            f"method {method!r} needs gradients, which a hard step does not have; "
            "use method='smc' or 'laplace', or the 'blurred' intensity family"
        )


def _laplace(
    model: BoundaryModel, data: Any, key: Any, draws: int
) -> tuple[dict[str, Any], Diagnostics]:
    smoothed = None if data.differentiable else data.smoothed()
    out = laplace_one(model.program, data, smoothed, key, PROPOSALS_PER_DRAW * draws, draws)
    sites = {name: value[None] for name, value in out.sites.items()}
    radii = np.asarray(sites["radii"])
    return sites, weight_diagnostics(float(out.khat), float(out.ess), radii, model.chart)


def _chains(
    model: BoundaryModel, data: Any, key: Any, method: str, draws: int, chains: int, warmup: int
) -> tuple[dict[str, Any], Diagnostics]:
    per_chain = -(-draws // chains)
    if method == "nuts":
        out = nuts_chains(model.program, data, key, chains, warmup, per_chain)
        sites, divergences = _host(out.sites), int(out.divergences)
    else:
        particles = max(per_chain, MIN_PARTICLES)
        found = smc_populations(model.program, data, data.smoothed(), key, chains, particles)
        kept = np.arange(per_chain) * particles // per_chain
        sites, divergences = {name: v[:, kept] for name, v in _host(found).items()}, None
    diagnostics = chain_diagnostics(sites, sites["radii"], model.chart, divergences)
    return sites, diagnostics


def _host(sites: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in sites.items()}
