"""Do populations of particles start as wide as the prior, and end as wide as the posterior?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aistat_jax.inference import smc
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.transport import Transport, find_transport
from benchmarks.charts import simulate
from tests.inference.cases import soft_model

# What 400 draws of the prior, from which the start is made, may be off by: a false alarm rate of
# 1e-5 for each number.
OFF_MEAN, OFF_SD = 4.5 / np.sqrt(400), 4.5 / np.sqrt(800)


def start_of(monkeypatch) -> Transport:
    """The map that the populations would be started from."""
    starts = []

    def populations(program, data, transport, *rest):
        starts.append(transport)
        return smc.ParticleDraws({}, np.zeros(4))

    monkeypatch.setattr(smc, "_populations", populations)
    with jax.enable_x64(True):
        data = soft_model().data
        smc.smc_populations(soft_model().program, data, data, jax.random.key(0), 4, 100)
    (start,) = starts
    return start


def off(start: Transport) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of log amplitude and log lengthscale beside those of their log-normal priors:
    difference of means in sds, and ratio of sds less one."""
    prior = soft_model().data.prior
    mean = np.log([float(prior.amplitude), float(prior.lengthscale)])
    sd = np.array([float(prior.amplitude_log_sd), float(prior.lengthscale_log_sd)])
    chol = np.asarray(start.hyper_chol)
    found = np.sqrt(np.diag(chol @ chol.T))
    return (np.asarray(start.hyper_mean) - mean) / sd, found / sd - 1


def test_the_start_keeps_the_mean_and_sd_of_the_prior(monkeypatch):
    mean, sd = off(start_of(monkeypatch))
    assert np.abs(mean).max() < OFF_MEAN
    assert np.abs(sd).max() < OFF_SD


def test_a_start_from_what_the_evidence_says_does_not(monkeypatch):
    """The negative control: narrowed, all populations can begin in one wrong mode."""
    monkeypatch.setattr(
        smc,
        "find_transport",
        lambda program, data, *_, wide=False: find_transport(program, data),
    )
    mean, sd = off(start_of(monkeypatch))
    assert np.abs(mean).max() > OFF_MEAN
    assert sd.min() < -2 * OFF_SD


@pytest.mark.slow
def test_a_thousand_particles_are_as_wide_as_a_posterior_of_171_dimensions(monkeypatch):
    """Beside weighted draws that are worth over 1,500. The control shrinks no covariance, with 260
    particles a population in place of 256, so that it is compiled anew."""
    model, _ = simulate("sphere", 3)
    laplace = fit(model, draws=4000, fallback=False)
    assert laplace.diagnostics.khat is not None
    assert laplace.diagnostics.khat < 0.5

    def width(posterior: Posterior) -> float:
        return float((posterior.draws.std(axis=0) / laplace.draws.std(axis=0)).mean())

    assert 0.96 < width(fit(model, "smc")) < 1.04
    monkeypatch.setattr(smc, "SHRINK", 0.0)
    assert width(fit(model, "smc", draws=1040)) < 0.9
