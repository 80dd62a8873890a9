"""Is what other samplers are given the density that `fit` uses, and do draws come back whole?"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import potential_energy

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.inference.diagnostics import ESS_LIMIT
from aistat_jax.inference.log_density import LogDensity, log_densities
from tests.inference.cases import (
    gaussian_answer,
    gaussian_evidence,
    gaussian_model,
    hard_model,
    soft_model,
)

DIM = 7


@cache
def gaussian() -> LogDensity:
    return aj.log_density(gaussian_model())


@cache
def soft() -> LogDensity:
    return aj.log_density(soft_model())


def test_the_density_of_a_normal_posterior_is_its_normal_times_the_evidence(rng):
    from scipy.stats import multivariate_normal

    mean, precision = gaussian_answer()
    points = mean + 0.3 * rng.standard_normal((5, DIM))
    normal = multivariate_normal(mean, np.linalg.inv(precision)).logpdf(points)
    found = np.array([float(gaussian()(point)) for point in points])
    np.testing.assert_allclose(found, normal + gaussian_evidence(), atol=1e-8)
    np.testing.assert_allclose(log_densities(gaussian(), points), found, atol=1e-9)
    np.testing.assert_allclose(gaussian().start, mean, atol=1e-8)


def test_it_is_what_numpyro_computes_from_the_program(rng):
    """Both transforms' Jacobians included; a vector's order is that of `sites`."""
    density, model = soft(), soft_model()
    assert density.sites == ("amplitude", "lengthscale", "coefficients")
    assert density.dim == 15
    vector = np.concatenate([np.log([0.2, 0.5]), 0.05 * rng.standard_normal(13)])
    with jax.enable_x64(True):
        parts = {"amplitude": vector[0], "lengthscale": vector[1], "coefficients": vector[2:]}
        expected = -float(potential_energy(model.program, (model.data,), {}, parts))
    np.testing.assert_allclose(density(vector), expected, rtol=1e-12)
    assert abs(float(density(vector[[1, 0, *range(2, 15)]]) - expected)) > 0.1  # the order counts


@pytest.mark.parametrize("x64", [False, True])
def test_it_compiles_differentiates_and_vmaps_in_double_precision(x64):
    density = gaussian()
    points = density.starts(3, seed=1)
    exact = [density.value_and_grad(point) for point in points]
    slopes = np.array([slope for _, slope in exact])
    with jax.enable_x64(x64):
        # single precision rounds the point: by 1e-7 of it, times a curvature of 1e4
        tolerance = {"atol": 1e-9} if x64 else {"rtol": 1e-3, "atol": 5e-3}
        mapped = jax.jit(jax.vmap(jax.value_and_grad(density)))(points)
        np.testing.assert_allclose(mapped[1], slopes, **tolerance)
        hessian = jax.hessian(density)(points[0])
        passed = jax.jit(lambda density, point: density(point))(density, points[0])
    np.testing.assert_allclose(hessian, -gaussian_answer()[1], rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(passed, exact[0][0], rtol=1e-5)
    for value, slope in exact:
        assert value.dtype == slope.dtype == np.float64


def test_models_that_differ_in_data_alone_share_what_is_compiled():
    from aistat_jax.inference.log_density import _value

    soft()(soft().start)
    before = _value._cache_size()
    other = aj.log_density(soft_model(3))
    assert float(other(soft().start)) != float(soft()(soft().start))
    assert _value._cache_size() == before


def test_vectors_and_sites_are_each_others_inverse():
    density = soft()
    vectors = density.starts(12, seed=2).reshape(3, 4, density.dim)
    sites = density.constrain(vectors)
    assert sites["radii"].shape == (3, 4, 48)
    assert sites["amplitude"].shape == (3, 4)
    assert (sites["amplitude"] > 0).all()
    np.testing.assert_allclose(density.unconstrain(sites), vectors, atol=1e-10)
    np.testing.assert_allclose(np.log(sites["lengthscale"]), vectors[..., 1], atol=1e-10)


def test_starts_are_likely_and_spread():
    density = soft()
    best = float(density(density.start))
    values = log_densities(density, density.starts(50))
    assert (best - values < 60).all()  # 15 dimensions: about 7 nats each
    far = np.concatenate([density.start[:2], np.random.default_rng(0).standard_normal(13)])
    assert best - float(density(far)) > 60


def test_a_hard_step_has_a_value_but_no_gradient():
    density = aj.log_density(hard_model())
    assert not density.differentiable
    assert np.isfinite(float(density(density.start)))
    with pytest.raises(InputError, match="has a hard step and so no gradient"):
        density.value_and_grad(density.start)


def test_another_shape_is_refused():
    with pytest.raises(InputError, match=r"has shape \(7,\), got \(6,\)"):
        gaussian()(np.zeros(6))
    with pytest.raises(InputError, match=r"has shape \(..., 7\), got \(2, 6\)"):
        gaussian().constrain(np.zeros((2, 6)))


# --------------------------------------------------------------------------- back again


@cache
def exact_draws() -> np.ndarray:
    """Independent draws of the normal posterior (chain, draw, dim)."""
    mean, precision = gaussian_answer()
    rng = np.random.default_rng(4)
    return rng.multivariate_normal(mean, np.linalg.inv(precision), (4, 500))


def test_draws_of_ones_own_become_a_posterior_on_which_all_works():
    model, draws = gaussian_model(), exact_draws()
    posterior = aj.as_posterior(model, draws, method="exact", seed=4)
    assert posterior.diagnostics.converged, posterior.diagnostics
    assert posterior.diagnostics.rhat_max is not None
    assert posterior.diagnostics.rhat_max < 1.02
    assert posterior.diagnostics.ess_min > ESS_LIMIT
    log_radius = draws @ np.asarray(model.data.basis.functions).T
    np.testing.assert_allclose(posterior.radii, np.exp(log_radius), rtol=1e-12)
    assert (posterior.method, posterior.seed) == ("exact", 4)
    band = aj.simultaneous_band(posterior)
    assert aj.grade(posterior, tolerance_mm=2.0).case in ("green", "amber", "red")
    assert (band.upper > band.lower).all()
    assert posterior.model is model
    again = aj.as_posterior(model, {"coefficients": draws}, method="exact", seed=4)
    np.testing.assert_array_equal(again.radii, posterior.radii)


def test_draws_that_do_not_agree_are_not_trusted():
    draws = exact_draws().copy()
    draws[0, :, 1] += 2 * draws[..., 1].std()
    diagnostics = aj.as_posterior(gaussian_model(), draws).diagnostics
    assert not diagnostics.converged
    assert "the chains disagree" in " ".join(diagnostics.reasons)
    stats = {"diverging": np.ones((4, 500), dtype=bool)}
    noted = aj.as_posterior(gaussian_model(), exact_draws(), sample_stats=stats)
    assert noted.diagnostics.divergences == 2000
    assert not noted.diagnostics.converged


def test_a_sampler_written_elsewhere_finds_the_posterior():
    """BlackJAX's NUTS from `starts`, seed 0: means within 4.5 Monte-Carlo errors (a false alarm
    in 20,000 for seven of them), after a gate on effective draws."""
    import blackjax

    density = gaussian()
    mean, precision = gaussian_answer()
    covariance = np.linalg.inv(precision)
    with jax.enable_x64(True):
        kernel = blackjax.nuts(density, 0.7, jnp.asarray(covariance))

        def chain(start, key):
            def step(state, key):
                state, info = kernel.step(key, state)
                return state, (state.position, info.is_divergent)

            return jax.lax.scan(step, kernel.init(start), jax.random.split(key, 500))[1]

        keys = jax.random.split(jax.random.key(0), 4)
        draws, diverging = jax.jit(jax.vmap(chain))(jnp.asarray(density.starts(4)), keys)
        stats = {"diverging": np.asarray(diverging)}
        posterior = aj.as_posterior(gaussian_model(), np.asarray(draws), sample_stats=stats)
    assert posterior.diagnostics.converged, posterior.diagnostics
    error = np.sqrt(np.diag(covariance) / posterior.diagnostics.ess_min)
    found = posterior.samples["coefficients"].mean(axis=(0, 1))
    assert np.abs((found - mean) / error).max() < 4.5
    assert np.abs((found + 10 * error - mean) / error).max() > 4.5  # the negative control


REFUSED = {
    "one chain": (lambda d: d[:1], "at least 2 chains"),
    "no chains": (lambda d: d[0], r"draws must be \(chain, draw, 7\)"),
    "few": (lambda d: d[:, :20], "at least 100 draws are needed for a band, got 80"),
    "another dimension": (lambda d: d[..., :6], r"draws must be \(chain, draw, 7\)"),
    "not finite": (lambda d: np.where(d > 2.0, np.nan, d), "not finite"),
    "a missing site": (lambda d: {"radii": d}, "site 'coefficients' is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_draws_is_refused(name):
    change, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence):
        aj.as_posterior(gaussian_model(), change(exact_draws()))


def test_sites_outside_of_their_support_and_odd_notes_are_refused():
    sites = soft().constrain(soft().starts(200).reshape(2, 100, -1))
    model = soft_model()
    with pytest.raises(InputError, match="'amplitude' has values outside its support"):
        aj.as_posterior(model, {**sites, "amplitude": -sites["amplitude"]})
    with pytest.raises(InputError, match=r"'amplitude' must have shape \(2, 100\)"):
        aj.as_posterior(model, {**sites, "amplitude": sites["amplitude"][0]})
    with pytest.raises(InputError, match=r"sample_stats 'energy' must be \(chain, draw\)"):
        aj.as_posterior(model, sites, sample_stats={"energy": np.zeros(3)})
    kept = aj.as_posterior(model, sites)
    assert replace(kept, method="laplace").radii.shape == (2, 100, 48)
