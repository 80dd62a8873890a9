"""How is a posterior computed? Methods: records of what can be set, with one method, `sample`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.diagnostics import (
    KHAT_LIMIT,
    Diagnostics,
    chain_diagnostics,
    chart_reasons,
    mixed,
    trustworthy,
    weight_diagnostics,
)
from aistat_jax.inference.evidence import log_mean
from aistat_jax.inference.finish import finished
from aistat_jax.inference.laplace import compile_fit_once, laplace_one, proposal_constant
from aistat_jax.inference.log_density import log_density
from aistat_jax.inference.mcmc import nuts_chains
from aistat_jax.inference.one_core import TRACING
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.prior import prior_draws
from aistat_jax.inference.smc import smc_populations

# Fewer particles than this do not tell a covariance.
MIN_PARTICLES = 256
# Chains that have not mixed go on until they are so many times as long.
LONGER = 4
# Particles tell the log evidence to within so many nats.
TELL = 0.3
# In more dimensions than these, those of a surface, chains take minutes and particles seconds.
MOST_FOR_CHAINS = 64


@runtime_checkable
class Method(Protocol):
    """Anything that makes a posterior of a model; `as_posterior` makes one of any draws.

    A sampler of one's own is an object with this one method, and is passed to `fit`.
    """

    def sample(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior: ...


@dataclass(frozen=True)
class Laplace:
    """Nested Laplace with Pareto-smoothed importance weights; milliseconds.

    Where khat exceeds 0.7, or the weights leave under a tenth of the draws, then, unless `fallback`
    is False, the expansion is made anew: where those weights lie, and then where particles (SMC)
    find the posterior. If that does not do, `chains` of NUTS (for surfaces and hard steps, of SMC)
    take over, which the diagnostics say. What has seen no evidence is drawn from its prior as it
    is: weights would say little of heavy tails.
    """

    fallback: bool = True
    chains: int = 4
    warmup: int = 300
    name: ClassVar[str] = "laplace"

    def __post_init__(self) -> None:
        _check_chains(self.chains)

    def sample(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
        if model.has_seen_nothing:
            return by_prior(model, draws=draws, seed=seed)
        posterior = by_laplace(model, draws=draws, seed=seed)
        if not self.fallback or trustworthy(posterior.diagnostics, draws):
            return posterior
        return self.again(model, posterior, draws=draws, seed=seed)

    def again(
        self, model: BoundaryModel, refused: Posterior, *, draws: int, seed: int
    ) -> Posterior:
        """What takes the place of a posterior whose weights cannot be trusted: Laplace from
        another start, or else chains."""
        return replace(self._again(model, refused, draws=draws, seed=seed), model=model)

    def _again(
        self, model: BoundaryModel, refused: Posterior, *, draws: int, seed: int
    ) -> Posterior:
        found = by_laplace(moved(model, refused), draws=draws, seed=seed)
        posterior = better(refused, found)
        if trustworthy(posterior.diagnostics, draws):
            return posterior
        particles = SMC(self.chains)
        if not model.data.differentiable:
            return sampled_instead(posterior, particles.until_mixed(model, draws=draws, seed=seed))
        scouts = particles.sample(model, draws=draws, seed=seed)
        there = moved(model, scouts)
        posterior = better(posterior, by_laplace(there, draws=draws, seed=seed))
        if trustworthy(posterior.diagnostics, draws):
            if not lacks_evidence(posterior, scouts):
                return timed_with(posterior, scouts)
            return in_place_of(posterior, scouts, "Laplace found one mode of several")
        if there.near is None or len(there.near) > MOST_FOR_CHAINS:
            settled = particles.until_mixed(model, draws=draws, seed=seed, first=scouts)
            return sampled_instead(posterior, settled)
        chains = NUTS(self.chains, self.warmup).until_mixed(there, draws=draws, seed=seed)
        return sampled_instead(timed_with(posterior, scouts), chains)


@dataclass(frozen=True)
class NUTS:
    """BlackJAX's No-U-Turn sampler under the Laplace map; `warmup` draws a chain are thrown away.

    Raises InputError for fewer than 2 chains, and for a hard step.
    """

    chains: int = 4
    warmup: int = 300
    name: ClassVar[str] = "nuts"

    def __post_init__(self) -> None:
        _check_chains(self.chains)

    def sample(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
        return self._until(lambda checks: True, model, draws, seed)

    def until_mixed(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
        """The same, and where chains disagree, or are worth too few draws, they go on.

        They are looked at whenever they have grown by what they were, LONGER times at most; so
        many draws are then kept, at even distances.
        """
        return self._until(mixed, model, draws, seed)

    def _until(
        self, enough: Callable[[Diagnostics], bool], model: BoundaryModel, draws: int, seed: int
    ) -> Posterior:
        _check_gradients(model, self.name)
        start = time.perf_counter()
        with jax.enable_x64(True):
            data, key = jax.device_put(model.data), jax.random.key(seed)
            each = -(-draws // self.chains)
            sizes = self.chains, self.warmup, each
            chains = nuts_chains(model.program, data, key, *sizes, model.near)
            samples: dict[str, np.ndarray] = {}
            notes: dict[str, np.ndarray] = {}
            for piece in islice(chains, LONGER):
                samples = _longer(samples, _host(piece.sites))
                notes = _longer(notes, _host(piece.notes))
                divergences = int(notes["diverging"].sum())
                checks = chain_diagnostics(samples, samples["radii"], model.chart, divergences)
                if enough(checks):
                    break
        seconds = time.perf_counter() - start
        found = finished(model, samples, checks, self.name, seed, seconds, notes=notes)
        return thinned(found, found.radii.shape[1] // each)


@dataclass(frozen=True)
class SMC:
    """Tempered sequential Monte Carlo by `chains` populations of particles.

    It needs no gradients, which a hard step does not have at the scale of a voxel.
    Raises InputError for fewer than 2 populations.
    """

    chains: int = 4
    name: ClassVar[str] = "smc"

    def __post_init__(self) -> None:
        _check_chains(self.chains)

    def sample(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
        start = time.perf_counter()
        each = -(-draws // self.chains)
        with jax.enable_x64(True):
            data, key = jax.device_put(model.data), jax.random.key(seed)
            smoothed = data if data.differentiable else data.smoothed()
            compile_fit_once(model.program, data, smoothed, key, draws)
            particles = max(each, MIN_PARTICLES)
            sizes = self.chains, particles
            found = smc_populations(model.program, data, smoothed, key, *sizes, model.near)
            kept = np.arange(each) * particles // each
            samples = {name: v[:, kept] for name, v in _host(found.sites).items()}
            evidence = log_mean(found.log_evidence)
            checks = chain_diagnostics(samples, samples["radii"], model.chart, None)
        seconds = time.perf_counter() - start
        return finished(model, samples, checks, self.name, seed, seconds, evidence)

    def until_mixed(
        self, model: BoundaryModel, *, draws: int, seed: int, first: Posterior | None = None
    ) -> Posterior:
        """The same, `first` if it was made; where populations disagree, anew with more particles.

        So many draws are kept, at even distances, of LONGER times as many particles.
        """
        first = first or self.sample(model, draws=draws, seed=seed)
        if mixed(first.diagnostics):
            return first
        more = self.sample(model, draws=LONGER * draws, seed=seed)
        return replace(thinned(more, LONGER), seconds=_total(first, more, more))


@dataclass(frozen=True)
class VI:
    """NumPyro's SVI with a `guide` ("full_rank", "mean_field"), so many `steps` of it.

    Raises InputError for a hard step.
    """

    guide: str = "full_rank"
    steps: int = 4000
    name: ClassVar[str] = "vi"

    def sample(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
        from aistat_jax.inference.vi import vi_draws

        _check_gradients(model, self.name)
        start = time.perf_counter()
        with TRACING, jax.enable_x64(True):
            data, key = jax.device_put(model.data), jax.random.key(seed)
            settings = self.guide, self.steps, draws
            sites, khat, ess = vi_draws(model.program, data, key, *settings, model.near)
            samples = _host(sites)
        checks = weight_diagnostics(khat, ess, samples["radii"], model.chart)
        return finished(model, samples, checks, self.name, seed, time.perf_counter() - start)


METHODS: dict[str, Any] = {kind.name: kind for kind in (Laplace, NUTS, VI, SMC)}
"""Methods by their short names."""


def method_of(method: str | Method, **settings: Any) -> Method:
    """A method by its short name, with what is set of it; a method itself is taken as it is.

    Raises InputError for an unknown name, or a setting that the method does not have.
    """
    if not isinstance(method, str):
        if settings:
            raise InputError(
                f"a method brings its own settings; pass {', '.join(settings)} to "
                f"{type(method).__name__}"
            )
        if not isinstance(method, Method):
            raise InputError(
                f"a method has one method, sample(model, draws, seed); got {type(method).__name__}"
            )
        return method
    if method not in METHODS:
        raise InputError(f"unknown `method` {method!r}; use one of {', '.join(METHODS)}")
    known = [field.name for field in fields(METHODS[method])]
    for name in settings:
        if name not in known:
            raise InputError(f"`method` {method!r} has no {name}; it takes {', '.join(known)}")
    return METHODS[method](**settings)


def by_laplace(model: BoundaryModel, *, draws: int, seed: int, look: bool = True) -> Posterior:
    """The Laplace posterior as it is, whatever its weights; `look` as in `finished`."""
    start = time.perf_counter()
    with jax.enable_x64(True):
        data = jax.device_put(model.data)
        smoothed = None if data.differentiable else data.smoothed()
        out = laplace_one(model.program, data, smoothed, jax.random.key(seed), draws, model.near)
        samples = {name: value[None] for name, value in _host(out.sites).items()}
        khat, ess = float(out.khat), float(out.ess)
        mean, error = log_mean(out.log_ratio)
        evidence = mean + out.transport.log_volume - proposal_constant(out.transport), error
    checks = weight_diagnostics(khat, ess, samples["radii"], model.chart)
    seconds = time.perf_counter() - start
    believed = evidence if khat <= KHAT_LIMIT else None
    return finished(model, samples, checks, "laplace", seed, seconds, believed, look=look)


def by_prior(model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
    """The posterior of a model without evidence: independent draws from its prior, evidence 1."""
    posterior = prior_draws(model, draws, seed)
    reasons = tuple(chart_reasons(posterior.radii, model.chart))
    checks = replace(posterior.diagnostics, converged=not reasons, reasons=reasons)
    return replace(posterior, diagnostics=checks, log_evidence=0.0, log_evidence_se=0.0)


def moved(model: BoundaryModel, posterior: Posterior) -> BoundaryModel:
    """The same model, its fit to start at the mean of these draws, hyperparameters included.

    Where weights do not hold, the mode that was expanded is often not the one that matters, or
    the hyperparameters that it was sought for are not.
    """
    try:
        place = log_density(model).unconstrain(posterior.samples)
    except InputError:  # draws that have run away, to where no transform holds them
        return model
    return replace(model, near=place.reshape(-1, place.shape[-1]).mean(axis=0))


def better(first: Posterior, second: Posterior) -> Posterior:
    """The one of two weighted posteriors with more effective draws; its time counts both."""
    chosen = max(first, second, key=lambda posterior: posterior.diagnostics.ess_min)
    return replace(chosen, seconds=_total(first, second, chosen))


def timed_with(posterior: Posterior, other: Posterior) -> Posterior:
    """The posterior, its time that of both."""
    return replace(posterior, seconds=_total(other, posterior, posterior))


def lacks_evidence(posterior: Posterior, particles: Posterior) -> bool:
    """Whether particles found more of the evidence: another mode, which the weights cannot see."""
    mine, theirs = posterior.log_evidence, particles.log_evidence
    if mine is None or theirs is None or not mixed(particles.diagnostics):
        return False
    error = np.hypot(posterior.log_evidence_se or 0.0, particles.log_evidence_se or 0.0)
    return bool(theirs - mine > max(TELL, 3 * error))


def sampled_instead(refused: Posterior, posterior: Posterior) -> Posterior:
    """Chains in place of a Laplace posterior whose weights do not hold."""
    khat, ess = refused.diagnostics.khat, refused.diagnostics.ess_min
    why = f"Laplace did not fit (khat {khat:.2f}, {ess:.0f} effective draws)"
    return in_place_of(refused, posterior, why)


def in_place_of(refused: Posterior, posterior: Posterior, why: str) -> Posterior:
    """The draws of another method, with the reason for it and the time of both."""
    reasons = (*posterior.diagnostics.reasons, f"{why}; sampled by {posterior.method} instead")
    checks = replace(posterior.diagnostics, khat=refused.diagnostics.khat, reasons=reasons)
    seconds = _total(refused, posterior, posterior)
    return replace(posterior, diagnostics=checks, seconds=seconds)


def _longer(so_far: dict[str, np.ndarray], piece: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws (chain, draw, ...) by name, with some more."""
    return {
        name: np.concatenate([so_far[name], more], axis=1) if so_far else more
        for name, more in piece.items()
    }


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


def _check_chains(chains: int) -> None:
    if chains < 2:
        raise InputError(f"at least 2 chains are needed to compare them, got {chains}")


def _check_gradients(model: BoundaryModel, name: str) -> None:
    if not model.data.differentiable:
        raise InputError(
            f"`method` {name!r} needs gradients, which a hard step does not have; "
            "use method='smc' or 'laplace', or the 'blurred' intensity family"
        )


def _host(sites: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in sites.items()}
