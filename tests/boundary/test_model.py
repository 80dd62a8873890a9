"""Is the NumPyro program the prior times the likelihood, and nothing else?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats

from aistat_jax._record import replace
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.families import Term
from aistat_jax.boundary.intensity import intensity, point_intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.opinions import anchors, term
from aistat_jax.boundary.prior import REACH, Prior, fixed_prior
from tests.boundary import brute

RAYS, HARMONICS = 64, 12
SHAPE = fixed_prior(12 + 2 * np.cos(2 * np.pi * np.arange(RAYS) / RAYS))


def a_model(rng, prior: Prior, family: str = "blurred"):
    chart = brute.a_chart()
    image = brute.step_image(rng, chart)
    click = anchors(chart.centre[None] + np.array([11.0, 2.0]))
    evidence = intensity(image, family=family, temper=0.5) + click
    target = brute.a_target(chart)
    return boundary_model(target, evidence, prior=prior, rays=RAYS, harmonics=HARMONICS)


def spectrum(amplitude: float, lengthscale: float, nu: float) -> np.ndarray:
    """Prior sds of the cosines and sines, harmonic by harmonic."""
    k = np.arange(1, HARMONICS + 1)
    density = (
        np.exp(-0.5 * (k * lengthscale) ** 2)
        if np.isinf(nu)
        else (2 * nu / lengthscale**2 + k**2) ** -(nu + 0.5)
    )
    return np.repeat(amplitude * np.sqrt(density / (2 * density.sum())), 2)


@pytest.mark.parametrize(
    ("prior", "family"),
    [
        (Prior(), "blurred"),
        (Prior(amplitude=0.2, lengthscale=0.3, smoothness=np.inf), "gaussian"),
        (SHAPE, "blurred"),
    ],
    ids=["weak", "smooth", "fixed"],
)
def test_log_density_is_prior_times_likelihood(rng, prior, family):
    with jax.enable_x64(True):
        model = a_model(rng, prior, family)
        free = {"amplitude": 0.13, "lengthscale": 0.6}
        free = {name: value for name, value in free.items() if name not in prior.fixed}
        values = {"amplitude": prior.amplitude, "lengthscale": prior.lengthscale} | free
        sd = np.append(prior.mean_log_sd, spectrum(**values, nu=prior.smoothness))
        x = 0.7 * sd * rng.standard_normal(2 * HARMONICS + 1)
        total, trace = log_density(model, (), {}, {**free, "coefficients": jax.numpy.asarray(x)})

        shape = np.zeros(RAYS) if prior.shape is None else np.asarray(prior.shape)
        angles = model.chart.angles
        k = np.arange(1, HARMONICS + 1)
        waves = np.sqrt(2) * (
            np.cos(angles[:, None] * k) @ x[1::2] + np.sin(angles[:, None] * k) @ x[2::2]
        )
        radii = np.exp(np.log(brute.RADIUS) + shape + x[0] + waves)
        np.testing.assert_allclose(trace["radii"]["value"], radii, rtol=1e-12)

        log_sds = {"amplitude": prior.amplitude_log_sd, "lengthscale": prior.lengthscale_log_sd}
        wanted = stats.norm.logpdf(x, scale=sd).sum()
        for name, value in free.items():
            median = getattr(prior, name)
            wanted += stats.lognorm.logpdf(value, log_sds[name], scale=median)
        likelihood = float(log_likelihood(model.data.terms, radii))
        assert np.isclose(float(total), wanted + likelihood, rtol=1e-10)
        # negative control: tempered once more, or with another amplitude, it is another density
        assert not np.isclose(float(total), wanted + 1.001 * likelihood, rtol=1e-6)
        assert not np.isclose(
            float(total), likelihood + stats.norm.logpdf(x, scale=1.1 * sd).sum(), rtol=1e-6
        )


def test_the_chart_reaches_a_fixed_multiple_of_the_rough_radius(rng):
    model = a_model(rng, Prior())
    assert np.isclose(model.chart.radius_max, REACH * brute.RADIUS)
    assert model.data.basis.functions.shape == (RAYS, 2 * HARMONICS + 1)
    assert model.seconds > 0
    assert model.target.id == "target"


def test_an_outline_is_where_fits_start_and_nothing_else(rng):
    """Its coefficients are the start; the density and the default prior are as without it."""
    chart = brute.a_chart()
    radii = brute.RADIUS * np.exp(0.2 * np.cos(2 * chart.angles + 0.4))
    plain = brute.a_target(chart)
    evidence = intensity(brute.step_image(rng, chart), temper=0.5)
    with jax.enable_x64(True):
        models = [
            boundary_model(target, evidence, rays=RAYS, harmonics=HARMONICS)
            for target in (plain, replace(plain, outline=chart.surface(radii)))
        ]
        x = {"amplitude": 0.13, "lengthscale": 0.6}
        x |= {"coefficients": jax.numpy.asarray(0.05 * rng.standard_normal(2 * HARMONICS + 1))}
        values = [float(log_density(model, (), {}, x)[0]) for model in models]
    assert values[0] == values[1]
    data = models[1].data
    assert data.start is not None
    found = np.exp(np.asarray(data.mean) + np.asarray(data.basis.functions) @ data.start)
    np.testing.assert_allclose(found, radii, rtol=1e-3)
    circle = models[0].data.start
    assert circle is None or not np.asarray(circle).any()


def test_hard_steps_are_known_to_have_no_gradient_and_can_be_smoothed(rng):
    model = a_model(rng, Prior(), "gaussian")
    assert not model.data.differentiable
    assert model.data.smoothed().differentiable
    assert a_model(rng, Prior()).data.differentiable


def test_another_program_can_be_put_in_its_place(rng):
    seen = []
    model = replace(a_model(rng, Prior()), program=seen.append)
    model()
    assert seen == [model.data]


@pytest.mark.parametrize("family", ["blurred", "gaussian", "bernoulli", "poisson"])
def test_the_likelihood_compiles_with_its_tables_inside_or_passed_in(rng, family):
    """Tables are numpy until a compiler takes them, and one compilation serves every boundary."""
    chart = brute.a_chart()
    points = chart.centre + rng.uniform(-20, 20, (300, 2))
    y = (brute.step_values(rng, chart, points) > 2).astype(float)
    terms = point_intensity(points, y, family=family, blur=2.0).tabulate(
        brute.a_target(chart), chart
    )
    with jax.enable_x64(True):
        inside = jax.jit(lambda radii: log_likelihood(terms, radii))
        passed = jax.jit(lambda terms, radii: log_likelihood(terms, radii))
        for radii in brute.boundaries(chart):
            value = float(log_likelihood(terms, radii))
            assert np.isclose(float(inside(radii)), value, rtol=1e-12)
            assert np.isclose(float(passed(terms, radii)), value, rtol=1e-12)
        assert inside._cache_size() == passed._cache_size() == 1


def test_single_precision_is_close_to_double(rng):
    """Sums of 800 squared standardised intensities: relative error of a few 1e-6."""
    chart = brute.a_chart()
    evidence = intensity(brute.step_image(rng, chart), temper=1.0)
    radii = brute.boundaries(chart, 1)[0]
    with jax.enable_x64(True):
        double = float(log_likelihood(evidence.tabulate(brute.a_target(chart), chart), radii))
    with jax.enable_x64(False):
        terms = evidence.tabulate(brute.a_target(chart), chart)
        single = float(log_likelihood(terms, radii.astype(np.float32)))
    assert np.isclose(single, double, rtol=1e-5)
    assert single != double


def clicked(radii, at, sd):
    return jnp.sum(-0.5 * ((radii[:3] - at) / sd) ** 2)


def test_a_term_of_ones_own_adds_its_log_likelihood(rng):
    """The function's value, whatever else is evidence; the same data again is the same tree."""
    chart = brute.a_chart()
    target = brute.a_target(chart)
    at = 12 + rng.standard_normal(3)
    image = intensity(brute.step_image(rng, chart), temper=0.5)
    with jax.enable_x64(True):
        alone, other, both = (
            evidence.tabulate(target, chart)
            for evidence in (term(clicked, at, 1.5), term(clicked, at + 1, 1.5),
                             image + term(clicked, at, 1.5))
        )  # fmt: skip
        rest = image.tabulate(target, chart)
        for radii in brute.boundaries(chart):
            wanted = -0.5 * np.square((radii[:3] - at) / 1.5).sum()
            assert np.isclose(float(log_likelihood(alone, radii)), wanted, rtol=1e-10)
            total = float(log_likelihood(rest, radii)) + wanted
            assert np.isclose(float(log_likelihood(both, radii)), total, rtol=1e-10)
            assert not np.isclose(float(log_likelihood(other, radii)), wanted, rtol=1e-6)
    assert jax.tree.structure(alone) == jax.tree.structure(other)
    assert all(isinstance(found, Term) for found in both)
    assert not isinstance(object(), Term)
    jumping = term(clicked, at, 1.5, differentiable=False)
    model = boundary_model(target, jumping, rays=RAYS, harmonics=HARMONICS)
    assert not model.data.differentiable
