"""Is a posterior known in closed form recovered: by the transport map, its weights, and VI?"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t

from aistat_jax._record import replace
from aistat_jax.inference.fit import fit
from aistat_jax.inference.laplace import DEGREES, PROPOSALS_PER_DRAW, proposal_constant
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.transport import Density, find_transport
from aistat_jax.inference.vi import fit_guide
from tests.inference.cases import (
    gaussian_answer,
    gaussian_evidence,
    gaussian_model,
    gaussian_program,
    scaled_evidence,
    scaled_program,
)

DIM = 7


def test_the_map_of_a_normal_posterior_is_exact():
    mean, precision = gaussian_answer()
    with jax.enable_x64(True):
        data = gaussian_model().data
        transport = find_transport(gaussian_program, data)
        np.testing.assert_allclose(transport.mode, mean, atol=1e-9)
        covariance = np.asarray(transport.spread) @ np.asarray(transport.spread).T
        np.testing.assert_allclose(covariance, np.linalg.inv(precision), atol=1e-10)
        eps = 3 * jax.random.normal(jax.random.key(0), (200, DIM))
        density = Density(gaussian_program, data)
        level = jax.vmap(lambda e: transport.log_target(density, e) + 0.5 * jnp.sum(e**2))(eps)
        assert np.ptp(np.asarray(level)) < 1e-8


def test_weighted_draws_of_a_normal_posterior_have_its_moments_and_known_efficiency():
    mean, precision = gaussian_answer()
    draws = 4000
    posterior = fit(gaussian_model(), draws=draws)
    khat, ess = posterior.diagnostics.khat, posterior.diagnostics.ess_min
    assert posterior.diagnostics.converged
    assert khat is not None
    assert khat < 0.3
    # Normal over t weights: their sample size is known from an independent simulation.
    # All seven coefficients are among the first harmonics, which have the heavier tail.
    rng, degrees = np.random.default_rng(0), DEGREES[0]
    eps = rng.standard_normal((200_000, DIM))
    eps *= np.sqrt(degrees / rng.chisquare(degrees, (200_000, 1)))
    square = (eps**2).sum(axis=1)
    log_weight = -0.5 * square + 0.5 * (degrees + DIM) * np.log1p(square / degrees)
    weight = np.exp(log_weight - log_weight.max())
    share = weight.sum() ** 2 / (weight**2).sum() / len(weight)
    assert ess == pytest.approx(share * PROPOSALS_PER_DRAW * draws, rel=0.03)
    _check_moments(posterior.samples["coefficients"][0], mean, np.linalg.inv(precision), ess)


@cache
def by_smc() -> Posterior:
    return fit(gaussian_model(), "smc", draws=8000, seed=1)


def test_smc_draws_of_a_normal_posterior_have_its_moments():
    mean, precision = gaussian_answer()
    posterior = by_smc()
    assert posterior.diagnostics.converged
    draws = posterior.samples["coefficients"].reshape(-1, DIM)
    # The particles are nearly independent; half of them is a floor that leaves room for siblings.
    _check_moments(draws, mean, np.linalg.inv(precision), len(draws))


# A false alarm in 1000; SMC's error is the spread of four populations, 3 degrees of freedom.
WEIGHTED, POPULATIONS = t.isf(5e-4, np.inf), t.isf(5e-4, 3)


def off(posterior: Posterior, exact: float) -> float:
    """By how many of its standard errors a log evidence is off."""
    assert posterior.log_evidence is not None
    assert posterior.log_evidence_se is not None
    return abs(posterior.log_evidence - exact) / posterior.log_evidence_se


def test_laplace_finds_the_evidence_known_in_closed_form():
    """Seeds 0 to 3, each a false alarm in 1000; the errors are also neither far too small nor
    too large: their mean square has a chi-square of 4 degrees, within its 99.8%."""
    model = gaussian_model()
    errors = [off(fit(model, draws=4000, seed=seed), gaussian_evidence()) for seed in range(4)]
    assert max(errors) < WEIGHTED
    assert 0.09 < np.square(errors).sum() < 18.5


def test_smc_finds_the_evidence_known_in_closed_form():
    assert off(by_smc(), gaussian_evidence()) < POPULATIONS


def test_the_evidence_is_right_where_hyperparameters_are_integrated_out():
    """Seed 5, a false alarm in 1000, against quadrature."""
    posterior = fit(replace(gaussian_model(), program=scaled_program), draws=4000, seed=5)
    assert off(posterior, scaled_evidence()) < WEIGHTED
    assert off(posterior, gaussian_evidence()) > WEIGHTED  # another model


def test_a_constant_left_out_of_the_evidence_is_noticed():
    """The negative control: without what the map stretches, or what normalises the proposals."""
    posterior = fit(gaussian_model(), draws=4000)
    assert posterior.log_evidence is not None
    with jax.enable_x64(True):
        transport = find_transport(gaussian_program, gaussian_model().data)
        constants = float(transport.log_volume), float(proposal_constant(transport))
    for constant in constants:
        lacking = replace(posterior, log_evidence=posterior.log_evidence - constant)
        assert off(lacking, gaussian_evidence()) > 100
    smc = by_smc()
    assert smc.log_evidence is not None
    start = 0.5 * DIM * np.log(2 * np.pi * 4)
    lacking = replace(smc, log_evidence=smc.log_evidence - start)
    assert off(lacking, gaussian_evidence()) > POPULATIONS


def _check_moments(
    values: np.ndarray, mean: np.ndarray, covariance: np.ndarray, ess: float
) -> None:
    """Mean and covariance within 4.5 Monte-Carlo errors: false alarms below 1 in 3000."""
    n = 1 / (1 / ess + 1 / len(values))
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((values.mean(axis=0) - mean) / sd).max() * np.sqrt(n) < 4.5
    error = np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / n)
    assert np.abs((np.cov(values.T) - covariance) / error).max() < 4.5


def test_the_moment_check_catches_a_posterior_too_sure():
    mean, precision = gaussian_answer()
    covariance = np.linalg.inv(precision)
    rng = np.random.default_rng(1)
    values = rng.multivariate_normal(mean, covariance, 4000)
    _check_moments(values, mean, covariance, np.inf)
    with pytest.raises(AssertionError):
        _check_moments(mean + 0.9 * (values - mean), mean, covariance, np.inf)


@pytest.fixture(scope="module")
def guides() -> dict[str, tuple[np.ndarray, float]]:
    """Draws of the coefficients and khat of each normal guide."""
    with jax.enable_x64(True):
        data, key = gaussian_model().data, jax.random.key(3)
        transport = find_transport(gaussian_program, data)
        fits = {
            guide: fit_guide(gaussian_program, data, transport, key, guide, 2000, 4000)
            for guide in ("mean_field", "full_rank")
        }
    return {
        guide: (np.asarray(out.sites["coefficients"]), float(out.khat))
        for guide, out in fits.items()
    }


def test_full_rank_is_exact_on_a_normal_posterior(guides):
    mean, precision = gaussian_answer()
    values, khat = guides["full_rank"]
    assert khat < 0.7
    _check_moments(values, mean, np.linalg.inv(precision), 4000)


def test_mean_field_keeps_only_conditional_sds_and_khat_says_so(guides):
    mean, precision = gaussian_answer()
    values, khat = guides["mean_field"]
    assert khat > 0.7
    np.testing.assert_allclose(values.mean(axis=0), mean, atol=0.02)
    # The best independent normals have the conditional sds (Bishop 2006, sec. 10.1.2).
    conditional = 1 / np.sqrt(np.diag(precision))
    marginal = np.sqrt(np.diag(np.linalg.inv(precision)))
    np.testing.assert_allclose(values.std(axis=0), conditional, rtol=0.08)
    assert (marginal / conditional).max() > 1.3
