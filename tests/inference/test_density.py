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
from aistat_jax.inference.transport import Density
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
