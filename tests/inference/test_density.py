"""Is a program's density NumPyro's own, and is what it would count over and over refused?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.infer.util import log_density

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.model import observe, prior_scale
from aistat_jax.inference.fit import fit
from aistat_jax.inference.transport import (
    ROWS,
    Density,
    find_transport,
    log_joint_at,
    sites_at,
)
from tests.inference.cases import soft_model


def program(data, extra):
    scale = prior_scale(data)
    coefficients = numpyro.sample("coefficients", dist.Normal(0.0, scale).to_event(1))
    extra(jnp.asarray(observe(data, jnp.asarray(coefficients))))


def of(extra):
    return lambda data: program(data, extra)


def nothing(radii):
    pass


def seen(radii):
    numpyro.sample("seen", dist.Normal(radii[:3], 0.5), obs=jnp.array([9.0, 9.5, 8.0]))


def seen_as_one(radii):
    law = dist.MultivariateNormal(radii[:3], 0.3 * jnp.eye(3))
    numpyro.sample("seen", law, obs=jnp.array([[9.0, 9.5, 8.0], [9.1, 9.2, 8.8]]))


def tempered(radii):
    with handlers.scale(scale=0.3):
        numpyro.sample("seen", dist.Normal(radii[0], 0.5), obs=jnp.array([9.0, 9.5]))


def masked(radii):
    with handlers.mask(mask=jnp.array([True, False, True])):
        seen(radii)


@pytest.mark.parametrize("extra", [nothing, seen, seen_as_one, tempered, masked])
def test_the_density_is_numpyros_own(extra):
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        data = soft_model().data
        density = Density(of(extra), data)
        u = jnp.asarray([-2.1, -0.6])
        x = jnp.asarray(0.05 * rng.standard_normal(density.basis))
        values = {**density.constrain(u), "coefficients": x}
        wanted, _ = log_density(of(extra), (data,), {}, values)
        wanted = wanted + u.sum()  # the Jacobian of two exponentials
        assert float(density.log_joint(u, x)) == pytest.approx(float(wanted), rel=1e-12)
        alone = Density(of(nothing), data).log_lik(u, x)
        assert (extra is nothing) == np.isclose(float(density.log_lik(u, x)), float(alone))


def factor_of_every_ray(radii):
    numpyro.factor("clicks", -0.5 * jnp.square(radii - 9.0))


def factor_in_a_plate(radii):
    with numpyro.plate("rays", len(radii)):
        numpyro.factor("clicks", -0.5 * jnp.sum(jnp.square(radii - 9.0)))


def crossed(radii):
    numpyro.sample("seen", dist.Normal(radii[:3], 0.5), obs=jnp.array([[9.0], [9.5], [8.0]]))


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (factor_of_every_ray, r'factor "clicks" of the program must be one number, .*\(48,\); sum'),
        (factor_in_a_plate, r'factor "clicks" of the program must be one number, .*\(48,\); sum'),
        (crossed, r'site "seen" of the program sets values of shape \(3, 1\) against .* \(3,\)'),
    ],
)
def test_evidence_that_would_be_counted_over_and_over_is_refused(extra, sentence):
    with pytest.raises(InputError, match=sentence):
        fit(replace(soft_model(), program=of(extra)))


def test_many_points_go_through_compiled_parts_as_single_ones_do():
    """Whatever their number: fewer than a part takes, and more; pushed one by one or together."""
    with jax.enable_x64(True):
        model = soft_model()
        transport = find_transport(model.program, model.data)
        density = Density(model.program, model.data)
        eps = 2 * np.random.default_rng(0).standard_normal((ROWS + 3, transport.size))
        u, x, log_det = transport.push_many(model.program, model.data, eps)
        value = log_joint_at(model.program, model.data, u, x)
        radii = sites_at(model.program, model.data, u, x)["radii"]
        assert len(value) == len(radii) == ROWS + 3
        for n in (0, 7, ROWS - 1, ROWS, ROWS + 2):
            one = transport.push(density, jnp.asarray(eps[n]))
            np.testing.assert_allclose(u[n], one[0], rtol=1e-12)
            np.testing.assert_allclose(x[n], one[1], rtol=1e-9, atol=1e-12)
            assert log_det[n] == pytest.approx(float(one[2]), rel=1e-9, abs=1e-12)
            assert value[n] == pytest.approx(float(density.log_joint(*one[:2])), rel=1e-10)
            np.testing.assert_allclose(radii[n], density.sites(*one[:2])["radii"], rtol=1e-10)
        few = log_joint_at(model.program, model.data, u[:5], x[:5])
        np.testing.assert_allclose(few, value[:5], rtol=1e-12)
        assert not np.allclose(value[0], value[1:6])
