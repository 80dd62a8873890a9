"""Is a margin bent as Jones & Pewsey have it, and undone, with the slope that it says?"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.stats import norm

from aistat_jax.space.margin import Margin

V = np.linspace(-6, 6, 41)
BENT = Margin(0.3, 0.7, -0.4, 0.6)


def test_as_it_comes_it_bends_nothing():
    with jax.enable_x64(True):
        v, log_slope = Margin().straighten(V)
        np.testing.assert_allclose(Margin().bend(V), V, atol=1e-12)
        np.testing.assert_allclose(v, V, atol=1e-12)
        np.testing.assert_allclose(log_slope, 0, atol=1e-12)
        assert np.abs(BENT.bend(V) - V).max() > 1  # negative control


@pytest.mark.parametrize("margin", [BENT, Margin(0.0, 1.3, 0.5, 1.4), Margin(tail=0.8)])
def test_bending_is_undone_and_its_slope_is_its_slope(margin):
    with jax.enable_x64(True):
        u = margin.bend(V)
        assert (np.diff(u) > 0).all()
        v, log_slope = margin.straighten(u)
        np.testing.assert_allclose(v, V, atol=1e-12)
        slope = jax.vmap(jax.grad(lambda u: margin.straighten(u)[0]))(u)
        np.testing.assert_allclose(np.exp(log_slope), slope, rtol=1e-12)


def test_the_density_is_that_of_the_paper():
    """Jones & Pewsey 2009, eq. 2, with epsilon = skew and delta = tail, of a normal v."""
    x, epsilon, delta = V, -0.4, 0.6
    s = np.sinh(delta * np.arcsinh(x) - epsilon)
    density = delta * np.sqrt(1 + s**2) * np.exp(-0.5 * s**2) / np.sqrt(2 * np.pi * (1 + x**2))
    with jax.enable_x64(True):
        v, log_slope = Margin(skew=epsilon, tail=delta).straighten(x)
        np.testing.assert_allclose(norm.pdf(v) * np.exp(log_slope), density, rtol=1e-10)
