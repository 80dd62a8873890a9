"""Do draws from the prior look as it says, and do contours give it back?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.prior import Prior, fixed_prior, prior_from_contours
from aistat_jax.boundary.targets import Target
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.prior import prior_draws
from aistat_jax.space.basis import circle_basis, host_variance
from tests.boundary import brute

ANGLES = 2 * np.pi * np.arange(64) / 64
HELD = Prior(amplitude=0.2, lengthscale=0.5, mean_log_sd=0.3, fixed=("amplitude", "lengthscale"))


def drawn(prior: Prior, count: int, seed: int = 0, radius: float = 15.0) -> Posterior:
    target = Target(np.zeros(2), radius, brute.a_plane())
    return prior_draws(boundary_model(target, prior=prior, rays=64), count, seed)


def draw(prior: Prior, count: int, seed: int = 0) -> np.ndarray:
    return drawn(prior, count, seed).draws


def test_draws_have_the_stated_spread_and_correlation():
    """600 draws. Relative s.e. of an sd 1/sqrt(1200) = 2.9%; pooled over rays it is less.

    Each limit is at least 4 s.e.: one false alarm in 16,000.
    """
    log_radius = np.log(draw(HELD, 600))
    mean = log_radius.mean(axis=1)
    assert abs(mean.mean() - np.log(15.0)) < 4 * 0.3 / np.sqrt(600)
    assert abs(mean.std() / 0.3 - 1) < 4 * 0.029
    field = log_radius - mean[:, None]
    assert abs(field.std() / 0.2 - 1) < 4 * 0.029
    assert abs(field.std() / 0.17 - 1) > 4 * 0.029  # negative control
    # correlation at each lag, against the kernel made from the spectrum
    basis = circle_basis(ANGLES, 16)
    for lengthscale, agrees in ((0.5, True), (0.8, False)):
        variance = host_variance(basis.eigenvalues, 1.0, lengthscale, 1.5)
        wanted = (np.asarray(basis.functions) * variance) @ np.asarray(basis.functions)[0]
        found = np.array([(field * np.roll(field, -k, axis=1)).mean() for k in range(33)]) / 0.04
        assert (np.abs(found - wanted[:33]).max() < 0.13) == agrees


def test_hyperparameters_are_log_normal_or_held():
    """400 draws: s.e. of a mean .05 sd, of an sd 3.5%; limits at 4 s.e."""
    prior = Prior()
    samples = drawn(prior, 400).samples
    found = np.log([samples[name][0] for name in ("amplitude", "lengthscale")]).T
    wanted = np.log([prior.amplitude, prior.lengthscale])
    sd = np.array([prior.amplitude_log_sd, prior.lengthscale_log_sd])
    assert (np.abs(found.mean(axis=0) - wanted) < 0.2 * sd).all()
    assert (np.abs(found.std(axis=0) / sd - 1) < 0.14).all()
    held = drawn(HELD, 3).samples
    assert held["amplitude"] == pytest.approx(0.2)
    assert held["lengthscale"] == pytest.approx(0.5)


def test_radius_is_a_unit():
    first, second = (drawn(Prior(), 5, 3, radius).draws for radius in (15.0, 150.0))
    np.testing.assert_allclose(10 * first, second, rtol=1e-12)


def test_contours_give_back_their_prior():
    """300 contours with both log-normals open. Over 10 other seeds the log medians had sd 0.02 and
    the relative log-sds sd 0.06; the limits are 5 of those: false alarms below one in a million."""
    truth = Prior(
        amplitude=0.18,
        amplitude_log_sd=0.35,
        lengthscale=0.5,
        lengthscale_log_sd=0.3,
        mean_log_sd=0.4,
    )
    radii = draw(truth, 300, seed=1000)
    found = prior_from_contours(radii)
    assert abs(np.log(found.amplitude / 0.18)) < 0.1
    assert abs(np.log(found.lengthscale / 0.5)) < 0.1
    assert abs(found.amplitude_log_sd / 0.35 - 1) < 0.3
    assert abs(found.lengthscale_log_sd / 0.3 - 1) < 0.3
    assert abs(found.mean_log_sd / 0.4 - 1) < 4 / np.sqrt(600)
    # negative control: contours half as rough give another amplitude
    mean = np.exp(np.log(radii).mean(axis=1, keepdims=True))
    calmer = prior_from_contours(mean * np.sqrt(radii / mean))
    assert abs(np.log(calmer.amplitude / found.amplitude) + np.log(2)) < 0.1
    # size and orientation say nothing about shape
    turned = prior_from_contours(3 * np.roll(radii, 7, axis=1))
    assert np.isclose(turned.amplitude, found.amplitude, rtol=1e-9)
    assert np.isclose(turned.lengthscale, found.lengthscale, rtol=1e-9)


def test_a_population_s_mean_shape_is_kept_when_asked():
    """Fields of sd .1 over 200 contours: s.e. .007 on each ray; limit 5 of those."""
    bump = 0.3 * np.cos(2 * ANGLES)
    prior = replace(HELD, amplitude=0.1, shape=bump)
    radii = draw(prior, 200)
    kept = prior_from_contours(radii, with_shape=True)
    assert kept.shape is not None
    assert np.abs(kept.shape - bump).max() < 0.035
    assert abs(kept.amplitude / 0.1 - 1) < 0.1
    lost = prior_from_contours(radii)
    assert lost.shape is None
    assert lost.amplitude > 0.2


def test_a_fixed_prior_is_centred_on_its_boundary():
    radii = 12 + 2 * np.cos(ANGLES)
    prior = fixed_prior(radii, 0.07, 0.6)
    assert set(prior.fixed) == {"amplitude", "lengthscale"}
    assert (prior.amplitude, prior.lengthscale, prior.mean_log_sd) == (0.07, 0.6, 0.07)
    size = np.exp(np.log(radii).mean())
    np.testing.assert_allclose(size * np.exp(prior.shape_on(64)), radii, rtol=1e-12)
    assert not np.allclose(size * np.exp(Prior().shape_on(64)), radii, rtol=0.01)


CONTOURS = np.full((6, 64), 10.0) + np.random.default_rng(0).normal(0, 0.3, (6, 64))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: prior_from_contours(CONTOURS[:4]), "at least 5 contours"),
        (lambda: prior_from_contours(-CONTOURS), "positive, finite radius"),
        (lambda: prior_from_contours(CONTOURS * np.inf), "positive, finite radius"),
        (lambda: prior_from_contours([*CONTOURS, np.ones(32)]), "share one set of rays"),
        (lambda: prior_from_contours(CONTOURS, harmonics=40), "40 harmonics need at least 81 rays"),
        (lambda: prior_from_contours(CONTOURS, smoothness=0.0), "smoothness must be positive"),
        (lambda: fixed_prior(0 * ANGLES), "positive, finite radius"),
        (lambda: fixed_prior(1 + 0 * ANGLES, amplitude=-1.0), "amplitude must be positive"),
        (lambda: Prior(lengthscale=0.0).check(), "lengthscale must be positive"),
        (lambda: Prior(fixed=("mean_log_sd",)).check(), "only amplitude and lengthscale"),
        (lambda: fixed_prior(CONTOURS[0]).shape_on(32), "64 rays but the chart has"),
    ],
)
def test_bad_priors_are_refused_in_a_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
