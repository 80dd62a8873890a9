"""How is a posterior approximated by variational inference? NumPyro's guides under SVI.

Guides are fitted in coordinates that Laplace has standardised, which is what makes a few thousand
steps enough. "mean_field" and "low_rank" keep the model's own unconstrained parameters, each
shifted by its mode and scaled by its conditional sd: the textbook families, since they are closed
under such a change. "full_rank" and "flow" live under the transport map (transport.py), as NUTS
does: there a multivariate normal follows the funnel of the hyperparameters, which one in the
model's own parameters cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Array
from aistat_jax.inference import one_core
from aistat_jax.inference.density import Density, Program
from aistat_jax.inference.diagnostics import KHAT_LIMIT
from aistat_jax.inference.laplace import smoothed_weights, systematic
from aistat_jax.inference.transport import Transport, find_transport

GUIDES = ("mean_field", "full_rank", "low_rank", "flow")
PROPOSALS_PER_DRAW = 2
PARTICLES = 8
STEP, LAST_STEP = 1e-2, 1e-4


class GuideDraws(NamedTuple):
    """Draws of every site (draw, ...), with khat and PSIS sample size of the guide, and losses."""

    sites: dict[str, Array]
    khat: Array
    ess: Array
    losses: Array


def vi_draws(
    program: Program,
    data: Any,
    key: Array,
    guide: str,
    steps: int,
    draws: int,
    near: np.ndarray | None = None,
) -> tuple[dict[str, Array], float, float]:
    """Draws from a guide fitted by stochastic gradients of the ELBO.

    `guide` is "mean_field" (independent normals), "low_rank" (a normal whose covariance is
    diagonal plus low rank), "full_rank" (a multivariate normal under the Laplace map) or "flow"
    (an inverse autoregressive flow under the same map); `steps` Adam steps, of decaying size.
    Twice `draws` are taken from the guide and weighed against the exact posterior: when Pareto's
    khat is at most 0.7 the draws are resampled by the smoothed weights and follow the
    posterior; above it they are plain draws of the guide.

    Returns every site (1, draw, ...), khat and the effective number of the weighted draws.
    Raises InputError for an unknown guide or fewer than 1 step.
    Source: Yao et al. 2018, Yes, but did it work? (khat as a judge of VI).
    """
    if guide not in GUIDES:
        raise InputError(f"unknown guide {guide!r}; use one of {', '.join(GUIDES)}")
    if steps < 1:
        raise InputError(f"VI needs at least 1 step, got {steps}")
    transport = find_transport(program, data, near)
    out = fit_guide(program, data, transport, key, guide, steps, draws)
    sites = {name: value[None] for name, value in out.sites.items()}
    return sites, float(out.khat), float(out.ess)


@partial(one_core.jit, static_argnames=("program", "guide", "steps", "draws"))
def fit_guide(
    program: Program,
    data: Any,
    transport: Transport,
    key: Array,
    guide: str,
    steps: int,
    draws: int,
) -> GuideDraws:
    """The whole fit as one compiled function, so that the next contour costs no compilation."""
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.optim import Adam

    density = Density(program, data)
    if guide in ("mean_field", "low_rank"):
        place = _scaled(density, transport)
    else:
        place = partial(transport.push, density)

    def log_posterior(z: Array) -> Array:
        u, x, log_det = place(z)
        return density.log_joint(u, x) + log_det

    fit_key, draw_key, resample_key = jax.random.split(key, 3)
    family = _family(guide, log_posterior, transport.size)
    svi = SVI(family.model, family, Adam(partial(_step_size, steps)), Trace_ELBO(PARTICLES))
    start = svi.init(fit_key)
    last, losses = jax.lax.scan(lambda state, _: svi.update(state), start, length=steps)
    approximation = family.get_posterior(svi.get_params(last))
    approximation = approximation.to_event(1 - approximation.event_dim)
    z, log_guide = _sample(approximation, draw_key, PROPOSALS_PER_DRAW * draws)
    weight, khat, ess = smoothed_weights(jax.vmap(log_posterior)(z) - log_guide)
    resampled = systematic(resample_key, weight, draws)
    chosen = jnp.where(khat <= KHAT_LIMIT, resampled, jnp.arange(draws))
    u, x, _ = jax.vmap(place)(z[chosen])
    return GuideDraws(jax.vmap(density.sites)(u, x), khat, ess, losses)


def _scaled(
    density: Density, transport: Transport
) -> Callable[[Array], tuple[Array, Array, Array]]:
    """The map z -> (u, x, log det) that shifts and scales each parameter by itself.

    The scale is the sd of a parameter given all others, at which independent normals aim.
    """

    def joined(eps: Array) -> Array:
        u, x, _ = transport.push(density, eps)
        return jnp.concatenate([u, x])

    centre = jnp.zeros(transport.size)
    mode, factor = joined(centre), jax.jacfwd(joined)(centre)
    scale = 1 / jnp.linalg.norm(jnp.linalg.inv(factor), axis=0)

    def place(z: Array) -> tuple[Array, Array, Array]:
        theta = mode + scale * z
        u, x = theta[: density.hypers], theta[density.hypers :]
        return u, x, jnp.sum(jnp.log(scale))

    return place


def _family(guide: str, log_posterior: Callable[[Array], Array], dim: int) -> Any:
    """NumPyro's automatic guide of that name for the posterior of z."""
    import numpyro
    from numpyro import distributions as dist
    from numpyro import handlers
    from numpyro.infer import autoguide, init_to_value

    def standardised() -> None:
        z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (dim,)))
        with handlers.block():
            value = log_posterior(jnp.asarray(z))
        numpyro.factor("posterior", value)

    start = init_to_value(values={"z": jnp.zeros(dim)})
    if guide == "flow":
        return autoguide.AutoIAFNormal(standardised, init_loc_fn=start)
    classes = {
        "mean_field": autoguide.AutoDiagonalNormal,
        "full_rank": autoguide.AutoMultivariateNormal,
        "low_rank": autoguide.AutoLowRankMultivariateNormal,
    }
    return classes[guide](standardised, init_loc_fn=start, init_scale=1.0)


def _step_size(steps: int, count: Any) -> Array:
    """From STEP down to LAST_STEP of it, geometrically."""
    return STEP * (LAST_STEP / STEP) ** (count / steps)


def _sample(approximation: Any, key: Array, count: int) -> tuple[Array, Array]:
    """Draws of a guide and their log density; a flow's needs what sampling passed through."""
    z, steps = approximation.sample_with_intermediates(key, (count,))
    return z, approximation.log_prob(z, steps) if steps else approximation.log_prob(z)
