"""Does a model simulate what it fits? Draws of its prior against its prior's own moments."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.model import observe, prior_scale
from aistat_jax.inference.prior import prior_draws
from aistat_jax.views.unrolled import plot_unrolled
from tests.inference.cases import soft_model

DRAWS = 4000


def oval_program(data):
    scale = prior_scale(data)
    stretch = numpyro.sample("stretch", dist.Normal(0.2, 0.1))
    mean = jnp.zeros_like(scale).at[3].set(stretch)
    coefficients = numpyro.sample("coefficients", dist.Normal(mean, scale).to_event(1))
    radii = observe(data, jnp.asarray(coefficients))
    numpyro.sample("size", dist.Normal(radii.mean(), 1.0), obs=jnp.asarray(8.0))


def test_draws_have_the_priors_moments():
    """Five standard errors: a false alarm in a million for each of five numbers."""
    found = prior_draws(soft_model(), DRAWS, seed=3)
    assert found.radii.shape == (1, DRAWS, 48)
    assert found.method == "prior"
    log_radius, amplitude = np.log(found.draws), np.log(found.samples["amplitude"].ravel())
    mean = log_radius.mean(axis=1)
    error = 5 / np.sqrt(DRAWS)
    assert abs(mean.mean() - np.log(8.0)) < error * 0.3
    assert abs(mean.std() / 0.3 - 1) < error
    assert abs(amplitude.mean() - np.log(0.15)) < error * 0.6
    assert abs(amplitude.std() / 0.6 - 1) < error
    own = (log_radius[:, 7] - mean) / np.exp(amplitude)  # standard normal whatever the amplitude
    assert abs(own.std() - 1) < error
    assert abs(own.std() - 0.8) > error  # negative control


def test_an_edited_program_simulates_itself_and_leaves_its_evidence_out():
    found = prior_draws(replace(soft_model(), program=oval_program), DRAWS)
    assert set(found.samples) == {"amplitude", "lengthscale", "coefficients", "stretch"}
    angles = found.chart.angles
    wave = np.log(found.draws) @ (np.sqrt(2) * np.cos(2 * angles)) / len(angles)
    np.testing.assert_allclose(wave, found.samples["coefficients"][0, :, 3], atol=1e-10)
    excess = wave - found.samples["stretch"][0]
    assert abs(excess.mean()) < 5 * excess.std() / np.sqrt(DRAWS)
    assert wave.mean() > 0.15
    plot_unrolled(found).canvas.draw()


def test_the_same_seed_gives_the_same_draws():
    first, again = (prior_draws(soft_model(), 5, seed=1).radii for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, prior_draws(soft_model(), 5, seed=2).radii)


def test_no_draws_and_no_radii_are_refused():
    with pytest.raises(InputError, match="at least one draw"):
        prior_draws(soft_model(), 0)
    with pytest.raises(InputError, match='needs a deterministic "radii"'):
        prior_draws(replace(soft_model(), program=lambda data: None), 10)
