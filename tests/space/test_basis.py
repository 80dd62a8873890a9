"""Are the basis and its spectra those of a stationary process on the circle?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aistat_jax.space.basis import circle_basis, host_variance, spectral_variance

ANGLES = 2 * np.pi * np.arange(64) / 64
BASIS = circle_basis(ANGLES, 16)
NUS = [0.5, 1.5, 2.5, np.inf]


def test_functions_are_orthonormal_on_the_rays():
    phi = np.asarray(BASIS.functions)
    np.testing.assert_allclose(phi.T @ phi / 64, np.eye(33), atol=1e-12)
    assert not np.allclose(phi.T @ phi / 63, np.eye(33), atol=1e-3)


@pytest.mark.parametrize("nu", NUS)
@pytest.mark.parametrize("lengthscale", [0.1, 0.45, 2.0])
def test_amplitude_is_the_pointwise_sd(nu, lengthscale):
    variance = host_variance(BASIS.eigenvalues, 0.17, lengthscale, nu)
    kernel = (BASIS.functions * variance) @ np.asarray(BASIS.functions).T
    np.testing.assert_allclose(np.sqrt(np.diag(kernel)), 0.17, rtol=1e-12)
    assert variance[0] == 0
    # stationary: a circulant matrix, and positive definite once the mean has its own variance
    np.testing.assert_allclose(kernel, np.roll(kernel, (1, 1), axis=(0, 1)), atol=1e-14)
    assert np.linalg.eigvalsh(kernel).min() > -1e-15
    assert (variance[1:] > 0).all()


@pytest.mark.parametrize("nu", NUS)
def test_variance_falls_with_the_harmonic(nu):
    variance = host_variance(BASIS.eigenvalues, 1.0, 0.45, nu)[1:]
    assert np.array_equal(variance[::2], variance[1::2])
    assert (np.diff(variance[::2]) < 0).all()
    # negative control: a longer lengthscale falls faster
    longer = host_variance(BASIS.eigenvalues, 1.0, 0.9, nu)[1:]
    assert longer[-1] / longer[0] < variance[-1] / variance[0]


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_matern_is_the_matern_of_the_line_wrapped_round(nu):
    """The periodic sum of the line's Matern kernel has its spectral density at whole k."""
    from scipy.special import gamma, kv

    lengthscale = 0.4
    harmonics = 400
    basis = circle_basis(2 * np.pi * np.arange(1024) / 1024, harmonics)
    angles = 2 * np.pi * np.arange(1024) / 1024
    gap = np.abs(angles[:, None] + 2 * np.pi * np.arange(-8, 9)).clip(1e-12)
    scaled = np.sqrt(2 * nu) * gap / lengthscale
    line = (2 ** (1 - nu) / gamma(nu) * scaled**nu * kv(nu, scaled)).sum(axis=1)
    wanted = np.fft.rfft(line).real[1 : harmonics + 1]
    variance = host_variance(basis.eigenvalues, 1.0, lengthscale, nu)[1::2]
    ratio = variance[:20] / wanted[:20]
    np.testing.assert_allclose(ratio / ratio[0], 1.0, rtol=5e-3)
    wrong = host_variance(basis.eigenvalues, 1.0, lengthscale, nu + 0.5)[1:40:2] / wanted[:20]
    assert np.ptp(wrong / wrong[0]) > 0.05


@pytest.mark.parametrize("x64", [True, False])
def test_a_large_nu_is_the_squared_exponential(x64):
    with jax.enable_x64(x64):
        eigenvalues = np.asarray(BASIS.eigenvalues, dtype=float)
        wanted = np.exp(-0.5 * eigenvalues[1:] * 0.45**2)
        wanted /= wanted.sum()
        for nu, tolerance in ((1e3, 0.1), (1e6, 1e-3), (np.inf, 2e-5)):
            found = np.asarray(spectral_variance(eigenvalues, 1.0, 0.45, nu))[1:]
            np.testing.assert_allclose(found[:20], wanted[:20], rtol=tolerance)
        assert not np.allclose(
            spectral_variance(eigenvalues, 1.0, 0.45, 2.5)[1:], wanted, rtol=0.05
        )


def test_gradients_with_respect_to_hyperparameters_are_finite():
    for nu in NUS:
        slope = jax.jacfwd(lambda v, nu=nu: spectral_variance(BASIS.eigenvalues, 0.2, v, nu))(0.45)
        assert np.isfinite(np.asarray(slope)).all()
        assert np.asarray(slope)[1:].any()


def test_host_variance_does_not_depend_on_the_global_precision():
    with jax.enable_x64(True):
        double = host_variance(BASIS.eigenvalues, 0.1, 0.3, 1.5)
    with jax.enable_x64(False):
        single = host_variance(BASIS.eigenvalues, 0.1, 0.3, 1.5)
        plain = np.asarray(spectral_variance(BASIS.eigenvalues, 0.1, 0.3, 1.5))
    assert np.array_equal(double, single)
    assert not np.array_equal(double, plain)


def test_a_spectrum_never_underflows_to_a_variance_of_zero():
    """At a long lengthscale exp(-(k l)^2 / 2) is 0 in double precision, and 1 / variance is not
    a number any more: a fit that visits such a lengthscale must come back from it."""
    for lengthscale in (2.0, 3.0, 10.0):
        assert np.exp(-0.5 * (40 * lengthscale) ** 2) == 0
        with jax.enable_x64(True):
            basis = circle_basis(ANGLES, 30)
            variance = np.asarray(spectral_variance(basis.eigenvalues, 0.2, lengthscale, np.inf))[
                1:
            ]
            assert (variance > 0).all()
            assert np.isfinite(1 / variance).all()
            slope = jax.jacfwd(lambda v, f=basis.eigenvalues: spectral_variance(f, 0.2, v, np.inf))
            assert np.isfinite(np.asarray(slope(lengthscale))).all()


@pytest.mark.parametrize("degree", [3, 8])
def test_on_a_sphere_the_amplitude_is_the_sd_at_every_place(degree):
    """The 2 l + 1 harmonics of a degree have squares that sum to that number, times mean one."""
    degrees = np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)
    variance = host_variance(degrees * (degrees + 1.0), 0.2, 0.45, 1.5, 2)
    assert variance[0] == 0
    assert variance.sum() == pytest.approx(0.2**2)
    first = np.unique(degrees, return_index=True)[1][1:]
    wanted = (2 * 1.5 / 0.45**2 + np.arange(1, degree + 1) * np.arange(2.0, degree + 2)) ** -2.5
    np.testing.assert_allclose(variance[first] / variance[1], wanted / wanted[0], rtol=1e-10)
    on_a_circle = host_variance(degrees * (degrees + 1.0), 0.2, 0.45, 1.5)[first]
    assert not np.allclose(on_a_circle / on_a_circle[0], wanted / wanted[0], rtol=0.1)
