"""How do contours that share their hyperparameters learn them from each other? In one fit.

Given the hyperparameters u the contours do not know of each other. So u is proposed for all at
once, and every contour says how likely its data are under each proposal: an importance sampling
estimate through its own transport map (transport.py), with the hyperparameters held. Such estimates
are unbiased, which makes the weights of the proposals exact however rough they are (Tran, Scharth,
Pitt & Kohn 2013, Importance sampling squared).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace
from aistat_jax._threads import one_blas_thread
from aistat_jax._typing import Array
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.prior import Shareable
from aistat_jax.inference import one_core
from aistat_jax.inference.batch import alike
from aistat_jax.inference.density import looked_at
from aistat_jax.inference.diagnostics import KHAT_LIMIT, weight_diagnostics
from aistat_jax.inference.evidence import log_mean
from aistat_jax.inference.finish import check_draws, finished
from aistat_jax.inference.laplace import (
    PROPOSALS_PER_DRAW,
    proposal_constant,
    propose,
    smoothed_weights,
    systematic,
)
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.transport import (
    Density,
    Program,
    Transport,
    find_transport,
    log_normal,
)

# Hyperparameters proposed at once, rounds that find where, and degrees of freedom of the t.
POINTS, ROUNDS, DEGREES = 256, 2, 8
WIDER, FIRST_WIDER = 1.2, 1.5
# Coefficients a contour draws at each: at least so many, and so many for each contour.
COEFFICIENTS, COEFFICIENTS_EACH = 32, 4


@record
class Population:
    """Posteriors of contours that share hyperparameters; see `fit_population`.

    Draw number d of every posterior belongs to the same hyperparameters, which are in `samples`
    (1, draw), as in each posterior's own. log_evidence is that of all data together, None where
    khat exceeds 0.7.
    """

    posteriors: tuple[Posterior, ...]
    samples: dict[str, np.ndarray]
    log_evidence: float | None = None
    log_evidence_se: float | None = None

    def __len__(self) -> int:
        return len(self.posteriors)

    def __getitem__(self, contour: int) -> Posterior:
        return self.posteriors[contour]


class _Wide(NamedTuple):
    """A multivariate t of the hyperparameters: mean (hyper,) and Cholesky factor of its scale."""

    mean: np.ndarray
    chol: np.ndarray

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (count, hyper) and their log density (count,)."""
        from scipy.special import gammaln

        dim = len(self.mean)
        z = rng.standard_normal((count, dim))
        z = z * np.sqrt(DEGREES / rng.chisquare(DEGREES, (count, 1)))
        half = 0.5 * (DEGREES + dim)
        constant = gammaln(half) - gammaln(0.5 * DEGREES) - 0.5 * dim * np.log(DEGREES * np.pi)
        constant -= np.log(np.diag(self.chol)).sum()
        log_density = constant - half * np.log1p((z**2).sum(axis=1) / DEGREES)
        return self.mean + z @ self.chol.T, log_density


def fit_population(
    models: Sequence[BoundaryModel], *, draws: int = 1000, seed: int = 0
) -> Population:
    """Posteriors of several boundaries whose hyperparameters are one and the same.

    The program's hyperparameters (amplitude and lengthscale, and whatever else it samples) have
    their hyperprior once and are shared by all contours; the coefficients are each contour's own.
    Contours that say little lean on those that say much, and the hyperparameters are known the
    better the more contours there are. Contours may differ in everything else: image, evidence,
    rough radius.

    Hyperparameters are importance-sampled, coefficients given them too, and every weight is
    exact; khat, the effective sample size and grades are judged as for one contour. Time grows
    with the square of the number of contours. Contours whose own Laplace does not fit (khat above
    0.7) spoil the weights of all: fit them first by `fit`, and leave them out.

    Returns one posterior a contour, in order, and the shared draws. Raises InputError for fewer
    than two models, models of different programs or priors, a prior whose hyperparameters are all
    fixed or that a network has learned (they belong to one target), and fewer than 100 draws.
    Source: Tran, Scharth, Pitt & Kohn 2013, arXiv 1309.3339.
    """
    models = list(models)
    _check(models, draws)
    start = time.perf_counter()
    with one_blas_thread(), jax.enable_x64(True):
        fitted = _fit(models, draws, seed)
    sites, khat, ess, evidence, shared = fitted
    seconds = (time.perf_counter() - start) / len(models)
    posteriors = []
    for model, own in zip(models, sites, strict=True):
        samples = {name: np.asarray(value)[None] for name, value in own.items()}
        diagnostics = weight_diagnostics(khat, ess, samples["radii"], model.chart)
        posteriors.append(finished(model, samples, diagnostics, "laplace", seed, seconds))
    hypers = {name: posteriors[0].samples[name] for name in shared}
    believed = evidence if khat <= KHAT_LIMIT else (None, None)
    return Population(tuple(posteriors), hypers, *believed)


def _check(models: list[BoundaryModel], draws: int) -> None:
    if len(models) < 2:
        raise InputError(f"a population needs at least 2 models, got {len(models)}; use fit")
    check_draws(draws)
    first = models[0]
    priors = [model.data.prior for model in models]
    shared = [prior.shared() for prior in priors if isinstance(prior, Shareable)]
    if len(shared) < len(models):
        raise InputError(
            "what a network says of one target cannot be shared; use models with a Prior"
        )
    for model, alone in zip(models, shared, strict=True):
        other = shared[0]
        same = jax.tree.structure(alone) == jax.tree.structure(other) and all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(other), strict=True)
        )
        if model.program is not first.program or not same:
            raise InputError(
                "the models of a population must have the same program and the same prior; "
                f"target {model.target.id} differs from {first.target.id}"
            )
    with jax.enable_x64(True):
        if looked_at(first.program, first.data).hypers == 0:
            raise InputError(
                "all hyperparameters are fixed: there is nothing to share; use fit_many"
            )


def _fit(
    models: list[BoundaryModel], draws: int, seed: int
) -> tuple[list[dict[str, Array]], float, float, tuple[float, float], tuple[str, ...]]:
    """Sites of every contour (draw, ...), khat, ESS, log evidence, names of what is shared."""
    program, rng = models[0].program, np.random.default_rng(seed)
    padded, firsts = alike(models)
    data = [jax.device_put(model.data) for model in padded]
    count = max(COEFFICIENTS, COEFFICIENTS_EACH * len(models))

    def each(function: Callable[[int], Any]) -> list[Any]:
        """On every core; the first of each kind by itself, since a program is traced once."""

        def in_double(i: int) -> Any:  # a setting of JAX holds in one thread
            with jax.enable_x64(True):
                return jax.block_until_ready(function(i))

        found: dict[int, Any] = {i: function(i) for i in firsts}
        rest = [i for i in range(len(models)) if i not in found]
        with ThreadPoolExecutor(os.cpu_count()) as cores:
            found |= dict(zip(rest, cores.map(in_double, rest), strict=True))
        return [found[i] for i in range(len(models))]

    def mapped(i: int) -> Transport:
        smooth = data[i] if data[i].differentiable else data[i].smoothed()
        return find_transport(program, smooth)

    maps = each(mapped)
    density = Density(program, data[0])
    centre, spread = (np.asarray(v) for v in density.prior_moments())

    def weighed(law: _Wide) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """POINTS proposals, their log weights, and coefficients (point, basis) of each contour."""
        points, log_density = law.draw(rng, POINTS)
        keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), len(models))

        def one(i: int) -> tuple[np.ndarray, np.ndarray]:
            out = _conditional(program, data[i], maps[i], points, keys[i], count)
            bare = _held(maps[i])
            constant = bare.log_volume - proposal_constant(bare)
            return np.asarray(out[0]) + constant, np.asarray(out[1])

        likely, coefficients = zip(*each(one), strict=True)
        prior = np.asarray(_log_hyper(program, data[0], points))
        weight = prior + np.sum(likely, axis=0) - log_density
        return points, np.where(np.isfinite(weight), weight, -np.inf), list(coefficients)

    law = _product(maps, centre, spread)
    for _ in range(ROUNDS):
        points, weight, _ = weighed(law)
        law = _narrowed(law, points, weight)
    rounds = [weighed(law) for _ in range(-(-int(PROPOSALS_PER_DRAW * draws) // POINTS))]
    points, log_weight = (np.concatenate([r[k] for r in rounds]) for k in (0, 1))
    weight, khat, ess = smoothed_weights(jnp.asarray(log_weight))
    chosen = systematic(jax.random.key(seed), weight, draws)
    evidence = log_mean(log_weight)

    def placed(i: int) -> dict[str, Array]:
        coefficients = np.concatenate([r[2][i] for r in rounds])
        return _sites(program, data[i], points[chosen], coefficients[chosen])

    names = tuple(density.sizes)
    return (
        each(placed), float(khat), float(ess), evidence, names,
    )  # fmt: skip


def _product(maps: list[Transport], centre: np.ndarray, spread: np.ndarray) -> _Wide:
    """Prior times every contour's own normal approximation over the prior."""
    before = np.diag(1 / spread**2)
    precision, pull = before.copy(), before @ centre
    for own in maps:
        chol = np.asarray(own.hyper_chol)
        values, vectors = np.linalg.eigh(np.linalg.inv(chol @ chol.T) - before)
        learned = (vectors * np.maximum(values, 0.0)) @ vectors.T
        precision += learned
        pull += (before + learned) @ np.asarray(own.hyper_mean) - before @ centre
    covariance = np.linalg.inv(precision)
    return _Wide(covariance @ pull, FIRST_WIDER * np.linalg.cholesky(covariance))


def _narrowed(law: _Wide, points: np.ndarray, log_weight: np.ndarray) -> _Wide:
    """About the weighted moments, never much narrower than before."""
    weight = np.exp(log_weight - log_weight.max())
    weight = weight / weight.sum()
    mean = weight @ points
    off = points - mean
    covariance = (weight[:, None] * off).T @ off + 0.05**2 * law.chol @ law.chol.T
    return _Wide(mean, WIDER * np.linalg.cholesky(covariance))


def _held(transport: Transport) -> Transport:
    """The map of the coefficients alone, the hyperparameters held."""
    return replace(transport, hyper_mean=np.zeros(0), hyper_chol=np.zeros((0, 0)))


# ------------------------------------------------------------------------------- compiled


@partial(one_core.jit, static_argnames=("program", "count"))
def _conditional(
    program: Program, data: Any, transport: Transport, points: Array, key: Array, count: int
) -> tuple[Array, Array]:
    """log p(data | u), estimated up to a constant, at every u (point, hyper), and
    coefficients (point, basis) drawn given each."""
    density = Density(program, data)
    bare = _held(transport)

    def at(point: tuple[Array, Array]) -> tuple[Array, Array]:
        u, key = point
        propose_key, choose_key = jax.random.split(key)
        eps_u = jnp.linalg.solve(transport.hyper_chol, u - transport.hyper_mean)
        eps, log_proposal = propose.function(propose_key, count, bare)

        def weigh(e: Array) -> tuple[Array, Array]:
            _, x, log_det = transport.push(density, jnp.concatenate([eps_u, e]))
            here = density.split(u, x)
            return x, here.log_lik + log_normal(x, here.mean, here.variance) + log_det

        x, log_target = jax.vmap(weigh)(eps)
        ratio = log_target - log_proposal
        ratio = jnp.where(jnp.isfinite(ratio), ratio, -jnp.inf)
        chosen = jax.random.categorical(choose_key, ratio)
        return logsumexp(ratio) - jnp.log(count), x[chosen]

    return jax.lax.map(at, (points, jax.random.split(key, len(points))))


@partial(one_core.jit, static_argnames=("program",))
def _log_hyper(program: Program, data: Any, points: Array) -> Array:
    density = Density(program, data)
    return jax.vmap(lambda u: density.split(u, jnp.zeros(density.basis)).log_hyper)(points)


@partial(one_core.jit, static_argnames=("program",))
def _sites(program: Program, data: Any, u: Array, x: Array) -> dict[str, Array]:
    return jax.vmap(Density(program, data).sites)(u, x)
