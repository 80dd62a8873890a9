"""Do contours that share hyperparameters learn them as Bayes' rule says?

Each contour's log radii are observed with normal errors of known size, so that the likelihood of
amplitude and lengthscale is a normal density and their posterior is known on a grid.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.inference.population import Population, _product, fit_population
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.transport import find_transport
from aistat_jax.space.basis import circle_basis, host_variance
from tests.inference.cases import _target, soft_model

RAYS, HARMONICS, NOISE = 32, 5, 0.03
PRIOR = aj.Prior(amplitude=0.15, amplitude_log_sd=0.6, lengthscale=0.5, lengthscale_log_sd=0.5)
TRUE = 0.25, 0.6
GRID = np.linspace(-4.0, 4.0, 81)  # in prior standard deviations
DRAWS = 2000


def observed(radii: jax.Array, log_radii: jax.Array) -> jax.Array:
    error = (log_radii - jnp.log(radii)) / NOISE
    constant = -len(radii) * (jnp.log(NOISE) + 0.5 * jnp.log(2 * jnp.pi))
    return constant - 0.5 * jnp.sum(jnp.square(error))


def design() -> np.ndarray:
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    return np.asarray(circle_basis(angles, HARMONICS).functions)


def covariance(amplitude: float, lengthscale: float) -> np.ndarray:
    """Of the observed log radii."""
    basis = circle_basis(2 * np.pi * np.arange(RAYS) / RAYS, HARMONICS)
    variance = host_variance(basis.eigenvalues, amplitude, lengthscale, PRIOR.smoothness).copy()
    variance[0] = PRIOR.mean_log_sd**2
    return design() @ (variance[:, None] * design().T) + NOISE**2 * np.eye(RAYS)


def contour(seed: int, hyper: tuple[float, float] = TRUE) -> BoundaryModel:
    """A model of one noisy contour drawn from the prior with these hyperparameters."""
    rng = np.random.default_rng([7, seed])
    log_radii = np.log(8.0) + rng.multivariate_normal(np.zeros(RAYS), covariance(*hyper))
    evidence = aj.term(observed, log_radii)
    settings = {"rays": RAYS, "harmonics": HARMONICS, "radius_max": 60.0}
    target = replace(_target(), id=f"contour {seed}", radius=8.0)
    return boundary_model(target, evidence, prior=PRIOR, **settings)


@cache
def unit_variances() -> np.ndarray:
    """Prior variances at amplitude 1 for each lengthscale of the grid (lengthscale, basis)."""
    frequency = circle_basis(2 * np.pi * np.arange(RAYS) / RAYS, HARMONICS).eigenvalues
    lengthscales = np.exp(np.log(0.5) + 0.5 * GRID)
    return np.stack([host_variance(frequency, 1.0, v, PRIOR.smoothness) for v in lengthscales])


def log_likelihoods(model: BoundaryModel) -> np.ndarray:
    """log p(data | amplitude, lengthscale) on the grid.

    The functions are orthogonal on the rays: their coefficients are independent normals.
    """
    (log_radii,) = model.data.terms[0].values
    off = np.asarray(log_radii) - np.log(8.0)
    along = design().T @ off / np.sqrt(RAYS)
    left = off @ off - along @ along
    rest = -0.5 * left / NOISE**2 - (RAYS - len(along)) * np.log(NOISE * np.sqrt(2 * np.pi))
    amplitude = np.exp(np.log(0.15) + 0.6 * GRID)[:, None, None]
    variance = amplitude**2 * unit_variances()
    variance[..., 0] = PRIOR.mean_log_sd**2
    sd = np.sqrt(RAYS * variance + NOISE**2)
    return stats.norm.logpdf(along, scale=sd).sum(axis=-1) + rest


def test_the_grid_is_that_of_a_multivariate_normal():
    model = contour(0)
    (log_radii,) = model.data.terms[0].values
    at = covariance(0.15 * np.exp(0.6 * GRID[45]), 0.5 * np.exp(0.5 * GRID[30]))
    whole = stats.multivariate_normal(np.full(RAYS, np.log(8.0)), at).logpdf(np.asarray(log_radii))
    np.testing.assert_allclose(tabled(0)[45, 30], whole, rtol=1e-9)


@cache
def tabled(seed: int) -> np.ndarray:
    return log_likelihoods(contour(seed))


def exact(seeds: tuple[int, ...], prior_times: int = 1) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and sd of log amplitude and log lengthscale, and log evidence, by quadrature."""
    step = GRID[1] - GRID[0]
    prior = stats.norm.logpdf(GRID)[:, None] + stats.norm.logpdf(GRID)[None, :]
    joint = prior_times * prior + sum(tabled(seed) for seed in seeds)
    evidence = float(logsumexp(joint)) + 2 * np.log(step)
    weight = np.exp(joint - logsumexp(joint))
    mean = np.array([weight.sum(axis=1) @ GRID, weight.sum(axis=0) @ GRID])
    square = np.array([weight.sum(axis=1) @ GRID**2, weight.sum(axis=0) @ GRID**2])
    scale = np.array([0.6, 0.5])
    location = np.log([0.15, 0.5])
    return location + scale * mean, scale * np.sqrt(square - mean**2), evidence


def hypers(posterior: Posterior) -> np.ndarray:
    names = ("amplitude", "lengthscale")
    return np.log(np.stack([posterior.samples[name].ravel() for name in names], axis=1))


def off(values: np.ndarray, ess: float, mean: np.ndarray, sd: np.ndarray) -> float:
    """Largest |z| of means and log sds; n counts weights and resampling."""
    n = 1 / (1 / ess + 1 / len(values))
    location = (values.mean(axis=0) - mean) / sd * np.sqrt(n)
    kurtosis = stats.kurtosis(values, axis=0) + 2  # of the variance of a variance
    spread = np.log(values.std(axis=0) / sd) * 2 / np.sqrt(np.maximum(kurtosis, 1.0)) * np.sqrt(n)
    return float(np.abs([location, spread]).max())


SEEDS = (0, 1, 2, 3)


@cache
def together() -> Population:
    return fit_population([contour(seed) for seed in SEEDS], draws=DRAWS, seed=1)


def test_the_shared_posterior_is_the_product_of_likelihoods_times_one_prior():
    """Seed 1; four numbers at 4 standard errors, a false alarm in 4,000. Controls: separate
    fits multiplied with a prior each, and three of the four contours, are noticed."""
    population = together()
    (first, *rest) = population.posteriors
    diagnostics = first.diagnostics
    assert diagnostics.converged, diagnostics
    assert diagnostics.ess_min > 400
    values = hypers(first)
    assert off(values, diagnostics.ess_min, *exact(SEEDS)[:2]) < 4
    assert off(values, diagnostics.ess_min, *exact(SEEDS, prior_times=4)[:2]) > 4
    assert off(values, diagnostics.ess_min, *exact(SEEDS[1:])[:2]) > 4
    for posterior in rest:
        np.testing.assert_array_equal(hypers(posterior), values)
    np.testing.assert_array_equal(population.samples["amplitude"], first.samples["amplitude"])


def test_the_evidence_of_the_population_is_known():
    """A false alarm in 1000; four evidences that do not share are another number."""
    population = together()
    assert population.log_evidence is not None
    assert population.log_evidence_se is not None
    assert population.log_evidence_se < 0.1
    error = abs(population.log_evidence - exact(SEEDS)[2]) / population.log_evidence_se
    assert error < 3.3
    apart = sum(exact((seed,))[2] for seed in SEEDS)
    assert abs(population.log_evidence - apart) / population.log_evidence_se > 3.3


def test_each_contour_given_the_shared_draws_is_its_own_conjugate_normal():
    """Standardised by their conditional mean and precision given each draw's hyperparameters,
    coefficients are standard normal: their mean squares within 4 errors (seed 1)."""
    population = together()
    functions = design()
    ess = population[0].diagnostics.ess_min
    for seed, posterior in zip(SEEDS, population.posteriors, strict=True):
        (log_radii,) = contour(seed).data.terms[0].values
        squares = []
        for amplitude, lengthscale, x in zip(
            posterior.samples["amplitude"][0],
            posterior.samples["lengthscale"][0],
            posterior.samples["coefficients"][0],
            strict=True,
        ):
            basis = circle_basis(2 * np.pi * np.arange(RAYS) / RAYS, HARMONICS)
            variance = host_variance(basis.eigenvalues, amplitude, lengthscale, 1.5).copy()
            variance[0] = PRIOR.mean_log_sd**2
            precision = np.diag(1 / variance) + functions.T @ functions / NOISE**2
            pull = functions.T @ (np.asarray(log_radii) - np.log(8.0)) / NOISE**2
            error = x - np.linalg.solve(precision, pull)
            squares.append(error @ precision @ error)
        dim = functions.shape[1]
        assert abs(np.mean(squares) - dim) < 4 * np.sqrt(2 * dim / ess)
        assert abs(np.mean(squares) * 0.7**2 - dim) > 4 * np.sqrt(2 * dim / ess)


def test_sharing_narrows_the_hyperparameters_and_all_else_works():
    population = together()
    alone = aj.fit(contour(0), draws=DRAWS, seed=2)
    assert (hypers(population[0]).std(axis=0) < 0.75 * hypers(alone).std(axis=0)).all()
    assert len(population) == 4
    for posterior in population.posteriors:
        band = aj.simultaneous_band(posterior)
        assert (band.upper > band.lower).all()
        assert aj.grade(posterior, tolerance_px=2.0).case in ("green", "amber", "red")
    aj.plot_unrolled(population[2])


def test_the_first_proposal_multiplies_the_contours_and_not_the_priors():
    with jax.enable_x64(True):
        maps = [find_transport(contour(s).program, contour(s).data) for s in SEEDS]
    law = _product(maps, np.log([0.15, 0.5]), np.array([0.6, 0.5]))
    mean, sd, _ = exact(SEEDS)
    assert (np.abs(law.mean - mean) < 1.5 * sd).all()
    only = _product([], np.log([0.15, 0.5]), np.array([0.6, 0.5]))
    np.testing.assert_allclose(only.mean, np.log([0.15, 0.5]))
    np.testing.assert_allclose(np.diag(only.chol), 1.5 * np.array([0.6, 0.5]))


def test_models_that_cannot_share_are_refused():
    one = contour(0)
    with pytest.raises(InputError, match="at least 2 models, got 1; use fit"):
        fit_population([one])
    other = replace(one, data=replace(one.data, prior=replace(PRIOR, amplitude=0.2)))
    with pytest.raises(InputError, match="the same program and the same prior; target contour 0"):
        fit_population([contour(1), other])
    with pytest.raises(InputError, match="same program"):
        fit_population([one, replace(one, program=lambda data: one.program(data))])
    fixed = replace(PRIOR, fixed=("amplitude", "lengthscale"))
    held = replace(one, data=replace(one.data, prior=fixed))
    with pytest.raises(InputError, match="nothing to share; use fit_many"):
        fit_population([held, held])
    with pytest.raises(InputError, match="at least 100 draws"):
        fit_population([one, one], draws=10)


@pytest.mark.slow
def test_three_images_agree_with_nuts_over_all_their_parameters_at_once():
    """NumPyro's NUTS over one program with three boundaries, seed 0: means and sds of amplitude
    and lengthscale within 4 errors, after gates on R-hat and effective draws."""
    import arviz
    import numpyro
    from numpyro import distributions as dist
    from numpyro.infer import MCMC, NUTS

    from aistat_jax.space.basis import spectral_variance

    models = [soft_model(seed) for seed in range(3)]

    def program() -> None:
        amplitude = numpyro.sample("amplitude", dist.LogNormal(jnp.log(0.15), 0.6))
        lengthscale = numpyro.sample("lengthscale", dist.LogNormal(jnp.log(0.45), 0.4))
        for k, model in enumerate(models):
            frequency = model.data.basis.eigenvalues
            variance = spectral_variance(frequency, amplitude, lengthscale, 1.5)
            scale = jnp.sqrt(variance.at[0].set(0.3**2))
            z = numpyro.sample(f"z{k}", dist.Normal(0, 1).expand([13]).to_event(1))
            radii = jnp.exp(model.data.mean + model.data.basis.functions @ (scale * z))
            numpyro.factor(f"evidence{k}", aj.log_likelihood(model.data.terms, radii))

    with jax.enable_x64(True):
        kernel = MCMC(
            NUTS(program, target_accept_prob=0.9), num_warmup=500, num_samples=1000,
            num_chains=2, chain_method="sequential", progress_bar=False,
        )  # fmt: skip
        kernel.run(jax.random.key(0))
        found = kernel.get_samples(group_by_chain=True)
    names = ("amplitude", "lengthscale")
    chains = np.log(np.stack([np.asarray(found[name]) for name in names], axis=-1))
    ess = min(float(arviz.ess(chains[..., k])) for k in range(2))
    assert max(float(arviz.rhat(chains[..., k])) for k in range(2)) < 1.02
    assert ess > 400
    population = fit_population(models, draws=4000, seed=0)
    assert population[0].diagnostics.converged
    mine = hypers(population[0])
    n = 1 / (1 / ess + 1 / population[0].diagnostics.ess_min + 1 / len(mine))
    reference = chains.reshape(-1, 2)
    assert off(mine, n, reference.mean(axis=0), reference.std(axis=0)) < 4
    alone = hypers(aj.fit(models[0], draws=4000, seed=0))
    assert off(alone, n, reference.mean(axis=0), reference.std(axis=0)) > 4  # the control


@pytest.mark.slow
def test_ranks_of_shared_hyperparameters_are_uniform():
    """40 populations of three contours, seeds 0 to 39: KS of the probability integral transform
    at 1e-3 each for two numbers. Control: draws scaled by .5 about their mean."""
    rng = np.random.default_rng(11)
    transforms, narrow = [], []
    for repeat in range(40):
        hyper = tuple(np.exp(np.log([0.15, 0.5]) + np.array([0.6, 0.5]) * rng.standard_normal(2)))
        models = [contour(1000 + 3 * repeat + k, hyper) for k in range(3)]
        values = hypers(fit_population(models, draws=500, seed=repeat)[0])
        mean = values.mean(axis=0)
        transforms.append((values < np.log(hyper)).mean(axis=0))
        narrow.append((mean + 0.5 * (values - mean) < np.log(hyper)).mean(axis=0))
    for k in range(2):
        assert stats.kstest(np.array(transforms)[:, k], "uniform").pvalue > 1e-3
    control = [stats.kstest(np.array(narrow)[:, k], "uniform").pvalue for k in range(2)]
    assert min(control) < 0.05
