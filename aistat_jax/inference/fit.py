"""How is a model fitted? `fit(model, method)`: one door to Laplace, NUTS, VI and SMC."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.conflict import conflicts
from aistat_jax.inference.diagnostics import (
    KHAT_LIMIT,
    chain_diagnostics,
    mixed,
    trustworthy,
    weight_diagnostics,
)
from aistat_jax.inference.evidence import log_mean
from aistat_jax.inference.laplace import laplace_one, proposal_constant
from aistat_jax.inference.mcmc import nuts_chains
from aistat_jax.inference.one_core import TRACING, one_blas_thread
from aistat_jax.inference.posterior import Diagnostics, Finding, Posterior
from aistat_jax.inference.predictive import image_findings
from aistat_jax.inference.smc import smc_populations

METHODS = ("laplace", "nuts", "vi", "smc")
# Fewer particles than this do not tell a covariance.
MIN_PARTICLES = 256
MIN_DRAWS = 100
# Chains that have not mixed are run so many times as long, once.
LONGER = 4


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
    compare: bool = True,
) -> Posterior:
    """Posterior of one boundary.

    `method` is "laplace" (nested Laplace with Pareto-smoothed importance weights; milliseconds),
    "nuts" (BlackJAX NUTS under the Laplace map), "vi" (NumPyro SVI; `guide` and `steps` apply)
    or "smc" (tempered sequential Monte Carlo; needs no gradients, which a hard step does not
    have at the scale of a voxel). `draws` is the total number of draws; `chains` counts NUTS
    chains or SMC populations and `warmup` applies to NUTS. When Laplace's khat exceeds 0.7, or
    its weights leave under a tenth of the draws, the fit falls back to NUTS, or to SMC for hard
    steps, and its diagnostics say so; `fallback=False` keeps the doubtful fit. Where there are
    several sources of evidence each is fitted alone too, by Laplace, and those that contradict each
    other are named in the diagnostics (conflict.py), unless `compare` is False.

    Computed in double precision whatever the caller's JAX settings; the same seed gives the
    same draws on one machine. Raises InputError for an unknown method, fewer than 100 draws, or
    NUTS or VI on a hard step.
    """
    check(model, method, draws, chains)
    settings = {"draws": draws, "seed": seed}
    with one_blas_thread():
        if method == "vi":
            posterior = _by_vi(model, guide=guide, steps=steps, **settings)
        elif method != "laplace":
            posterior = _by_chains(model, method, chains=chains, warmup=warmup, **settings)
        else:
            posterior = _by_laplace(model, draws=draws, seed=seed)
            if fallback and not trustworthy(posterior.diagnostics, draws):
                posterior = fitted_again(model, posterior, chains=chains, warmup=warmup, **settings)
        return compared(model, posterior) if compare else posterior


def compared(model: BoundaryModel, posterior: Posterior) -> Posterior:
    """The posterior with what its model's sources of evidence have against each other."""
    draws, diagnostics = len(posterior.draws), posterior.diagnostics
    seed = posterior.seed
    found = conflicts(model, lambda alone: _by_laplace(alone, draws=draws, seed=seed, look=False))
    if not found:
        return posterior
    findings = found + diagnostics.findings
    return replace(posterior, diagnostics=replace(diagnostics, findings=findings))


def fitted_again(
    model: BoundaryModel,
    refused: Posterior,
    *,
    draws: int,
    seed: int,
    chains: int = 4,
    warmup: int = 300,
) -> Posterior:
    """What takes the place of a Laplace posterior whose weights cannot be trusted: Laplace from
    another start, or else chains."""
    again = restarted(model, refused)
    posterior = better(refused, _by_laplace(again, draws=draws, seed=seed))
    if trustworthy(posterior.diagnostics, draws):
        return posterior
    return sampled_instead(again, posterior, chains=chains, warmup=warmup, draws=draws, seed=seed)


def restarted(model: BoundaryModel, posterior: Posterior) -> BoundaryModel:
    """The same model, its fit to start from the draw that took most of the weights.

    Where hardly any draws are effective, the mode that was expanded is not the one that matters.
    """
    coefficients = posterior.samples["coefficients"].reshape(len(posterior.draws), -1)
    found, copies = np.unique(coefficients, axis=0, return_counts=True)
    return replace(model, data=replace(model.data, start=found[copies.argmax()]))


def better(first: Posterior, second: Posterior) -> Posterior:
    """The one of two weighted posteriors with more effective draws; its time counts both."""
    chosen = max(first, second, key=lambda posterior: posterior.diagnostics.ess_min)
    return replace(chosen, seconds=_total(first, second, chosen))


def sampled_instead(
    model: BoundaryModel,
    refused: Posterior,
    *,
    draws: int,
    seed: int,
    chains: int = 4,
    warmup: int = 300,
) -> Posterior:
    """NUTS, or SMC for hard steps, in place of a Laplace posterior whose weights do not hold.

    Chains that disagree, or are worth too few draws, are run once more, LONGER times as long.
    """
    method = "nuts" if model.data.differentiable else "smc"
    posterior = _by_chains(model, method, draws=draws, seed=seed, chains=chains, warmup=warmup)
    if not mixed(posterior.diagnostics):
        longer = {"draws": LONGER * draws, "chains": chains, "warmup": 2 * warmup}
        first, posterior = posterior, _by_chains(model, method, seed=seed, **longer)
        posterior = replace(thinned(posterior, LONGER), seconds=_total(first, posterior, posterior))
    khat, ess = refused.diagnostics.khat, refused.diagnostics.ess_min
    note = (
        f"Laplace did not fit (khat {khat:.2f}, {ess:.0f} effective draws); "
        f"sampled by {method} instead"
    )
    reasons = (*posterior.diagnostics.reasons, note)
    return replace(
        posterior,
        diagnostics=replace(posterior.diagnostics, khat=khat, reasons=reasons),
        seconds=_total(refused, posterior, posterior),
    )


def thinned(posterior: Posterior, step: int) -> Posterior:
    """Every so many draws of each chain; what is said of them stays what all of them said."""
    return replace(
        posterior,
        radii=posterior.radii[:, ::step],
        samples={name: values[:, ::step] for name, values in posterior.samples.items()},
        sample_stats={name: values[:, ::step] for name, values in posterior.sample_stats.items()},
    )


def _total(first: Posterior, second: Posterior, kept: Posterior) -> dict[str, float]:
    fitting = first.seconds["fit"] + second.seconds["fit"]
    return kept.seconds | {"fit": fitting, "total": kept.seconds["evidence"] + fitting}


def finished(
    model: BoundaryModel,
    samples: dict[str, np.ndarray],
    diagnostics: Diagnostics,
    method: str,
    seed: int,
    seconds: float,
    evidence: tuple[float, float] | None = None,
    notes: dict[str, np.ndarray] | None = None,
    look: bool = True,
) -> Posterior:
    """The record, with its timings: reading the evidence, fitting, and both.

    Unless `look` is False the images are asked what they have against it.
    The draws of radii are what the images show; what these leave unknown of the target's taper
    (`BoundaryModel.square_error`) is drawn in addition.
    """
    seen = samples.pop("radii")
    draws = seen.reshape(-1, seen.shape[-1])
    images, voxel = image_findings(model, draws) if look else ((), None)
    radii = with_taper_unknown(seen, model.square_error, seed)
    doubts = tuple(Finding("red", doubt, "target") for doubt in model.target.doubts)
    diagnostics = replace(diagnostics, findings=doubts + images, voxel=voxel)
    timings = {
        "evidence": model.seconds,
        "fit": seconds,
        "total": model.seconds + seconds,
    }
    return Posterior(
        model.chart, radii, samples, diagnostics, method, seed, model.target.id, timings,
        model.presence, model, *(evidence or (None, None)), notes or {},
    )  # fmt: skip


def with_taper_unknown(
    radii: Float[np.ndarray, "chain draw ray"], square_error: float, seed: int
) -> Float[np.ndarray, "chain draw ray"]:
    """Each boundary larger or smaller as a whole by an error of its mean squared radius.

    To first order the images tell the sum of the squared radius and of what the taper adds to it,
    and nothing about its parts: what is unknown of the one is unknown of the other.
    """
    if square_error == 0:
        return radii
    error = square_error * np.random.default_rng(seed).standard_normal((*radii.shape[:2], 1))
    return radii * np.exp(0.5 * error / np.square(radii).mean(axis=-1, keepdims=True))


def check(model: BoundaryModel, method: str, draws: int, chains: int) -> None:
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; use one of {', '.join(METHODS)}")
    if draws < MIN_DRAWS:
        raise InputError(f"at least {MIN_DRAWS} draws are needed for a band, got {draws}")
    if chains < 2:
        raise InputError(f"at least 2 chains are needed to compare them, got {chains}")
    if method in ("nuts", "vi") and not model.data.differentiable:
        raise InputError(
            f"method {method!r} needs gradients, which a hard step does not have; "
            "use method='smc' or 'laplace', or the 'blurred' intensity family"
        )


def _by_laplace(model: BoundaryModel, *, draws: int, seed: int, look: bool = True) -> Posterior:
    start = time.perf_counter()
    with jax.enable_x64(True):
        data = jax.device_put(model.data)
        smoothed = None if data.differentiable else data.smoothed()
        out = laplace_one(model.program, data, smoothed, jax.random.key(seed), draws)
        samples = {name: value[None] for name, value in _host(out.sites).items()}
        khat, ess = float(out.khat), float(out.ess)
        mean, error = log_mean(out.log_ratio)
        evidence = mean + out.transport.log_volume - proposal_constant(out.transport), error
    diagnostics = weight_diagnostics(khat, ess, samples["radii"], model.chart)
    seconds = time.perf_counter() - start
    believed = evidence if khat <= KHAT_LIMIT else None
    return finished(model, samples, diagnostics, "laplace", seed, seconds, believed, look=look)


def _by_vi(model: BoundaryModel, *, draws: int, seed: int, guide: str, steps: int) -> Posterior:
    from aistat_jax.inference.vi import vi_draws

    start = time.perf_counter()
    with TRACING, jax.enable_x64(True):
        data, key = jax.device_put(model.data), jax.random.key(seed)
        sites, khat, ess = vi_draws(model.program, data, key, guide, steps, draws)
        samples = _host(sites)
    diagnostics = weight_diagnostics(khat, ess, samples["radii"], model.chart)
    return finished(model, samples, diagnostics, "vi", seed, time.perf_counter() - start)


def _by_chains(
    model: BoundaryModel, method: str, *, draws: int, seed: int, chains: int, warmup: int
) -> Posterior:
    start = time.perf_counter()
    per_chain = -(-draws // chains)
    divergences, evidence, notes = None, None, None
    with TRACING, jax.enable_x64(True):
        data, key = jax.device_put(model.data), jax.random.key(seed)
        if method == "nuts":
            out = nuts_chains(model.program, data, key, chains, warmup, per_chain)
            samples, notes = _host(out.sites), _host(out.notes)
            divergences = int(notes["diverging"].sum())
        else:
            particles = max(per_chain, MIN_PARTICLES)
            found = smc_populations(model.program, data, data.smoothed(), key, chains, particles)
            kept = np.arange(per_chain) * particles // per_chain
            samples = {name: v[:, kept] for name, v in _host(found.sites).items()}
            evidence = log_mean(found.log_evidence)
        diagnostics = chain_diagnostics(samples, samples["radii"], model.chart, divergences)
    seconds = time.perf_counter() - start
    return finished(model, samples, diagnostics, method, seed, seconds, evidence, notes)


def _host(sites: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in sites.items()}
