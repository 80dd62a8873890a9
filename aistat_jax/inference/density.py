"""What is the log density of a NumPyro program, split at its latent Gaussian?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, Float
from aistat_jax.inference import one_core

Program = Callable[[Any], None]
LATENT = "coefficients"


class Split(NamedTuple):
    """A program's log density at one point, split at the latent Gaussian.

    log_hyper: log p(u) with its Jacobian; mean, variance (basis,) of x given u; log_lik.
    """

    log_hyper: Float[Array, ""]
    mean: Float[Array, " basis"]
    variance: Float[Array, " basis"]
    log_lik: Float[Array, ""]


class Density:
    """A NumPyro program as a density of (u, x), sites flattened; used while tracing."""

    def __init__(self, program: Program, data: Any) -> None:
        from numpyro import handlers
        from numpyro.distributions import biject_to

        self.program, self.data = program, data
        trace = handlers.trace(handlers.seed(program, jax.random.key(0))).get_trace(data)
        sites = {
            name: site
            for name, site in trace.items()
            if site["type"] == "sample" and not site["is_observed"] and name != LATENT
        }
        if LATENT not in trace or "radii" not in trace:
            raise InputError(
                f'a boundary program needs a sample site "{LATENT}" and a deterministic "radii"'
            )
        for name, site in trace.items():
            _check_counted_once(name, site)
        self.transforms = {name: biject_to(site["fn"].support) for name, site in sites.items()}
        self.shapes = {
            name: self.transforms[name].inverse_shape(jnp.shape(site["value"]))
            for name, site in sites.items()
        }
        self.sizes = {name: int(np.prod(shape)) for name, shape in self.shapes.items()}
        self.hypers = sum(self.sizes.values())
        self.basis = int(np.prod(jnp.shape(trace[LATENT]["value"])))

    def constrain(self, u: Float[Array, " hyper"]) -> dict[str, Array]:
        """Values of the hyperparameter sites."""
        return {name: self.transforms[name](part) for name, part in self._parts(u).items()}

    def _parts(self, u: Array) -> dict[str, Array]:
        parts, start = {}, 0
        for name, size in self.sizes.items():
            parts[name] = u[start : start + size].reshape(self.shapes[name])
            start += size
        return parts

    def split(self, u: Array, x: Array) -> Split:
        """The log density at (u, x), split at the latent Gaussian."""
        from numpyro import distributions as dist
        from numpyro.infer.util import compute_log_probs

        parts = self._parts(u)
        values = {**self.constrain(u), LATENT: x}
        log_probs, trace = compute_log_probs(self.program, (self.data,), {}, values)
        jacobian = sum(
            jnp.sum(self.transforms[n].log_abs_det_jacobian(part, values[n]))
            for n, part in parts.items()
        )
        log_hyper = jacobian + sum(log_probs[n] for n in parts)
        prior = trace[LATENT]["fn"]
        base = prior
        while isinstance(base, dist.Independent | dist.ExpandedDistribution):
            base = base.base_dist
        if not isinstance(base, dist.Normal):
            raise InputError(
                f'site "{LATENT}" must be normal given the other sites, got {type(base).__name__}'
            )
        evidence = (value for name, value in log_probs.items() if name not in values)
        shape = (self.basis,)
        return Split(
            jnp.asarray(log_hyper),  # without hyperparameters it is a plain 0, as is the other
            jnp.broadcast_to(jnp.asarray(base.loc), shape),
            jnp.broadcast_to(jnp.square(jnp.asarray(base.scale)), shape),
            jnp.asarray(sum(evidence, start=0.0)),
        )

    def log_joint(self, u: Array, x: Array) -> Float[Array, ""]:
        s = self.split(u, x)
        return s.log_hyper + s.log_lik + log_normal(x, s.mean, s.variance)

    def log_lik(self, u: Array, x: Array) -> Float[Array, ""]:
        return self.split(u, x).log_lik

    def prior_moments(self) -> tuple[Array, Array]:
        """Mean and sd of each unconstrained hyperparameter under the prior, from 400 draws."""
        from numpyro import handlers

        def draw(key: Array) -> Array:
            trace = handlers.trace(handlers.seed(self.program, key)).get_trace(self.data)
            flat = [jnp.ravel(t.inv(trace[n]["value"])) for n, t in self.transforms.items()]
            return jnp.concatenate(flat) if flat else jnp.zeros(0)

        draws = jax.vmap(draw)(jax.random.split(jax.random.key(1, impl="rbg"), 400))
        return draws.mean(axis=0), draws.std(axis=0)

    def sites(self, u: Array, x: Array) -> dict[str, Array]:
        """Every named site, deterministic ones too, in constrained space."""
        from numpyro import handlers

        values = {**self.constrain(u), LATENT: x}
        trace = handlers.trace(handlers.substitute(self.program, values)).get_trace(self.data)
        return {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] == "deterministic" or name in values
        }


def _check_counted_once(name: str, site: dict[str, Any]) -> None:
    """Refuse evidence of a program that NumPyro would count over and over.

    A factor that is an array is summed by NumPyro, so that what is added to each of its numbers
    counts as often; so do observed values that a distribution of another shape is spread over.
    """
    if site["type"] != "sample" or not site["is_observed"]:
        return
    batch, given = site["fn"].batch_shape, jnp.shape(site["value"])
    if site["fn"].event_shape == (0,):  # a factor
        if batch != ():
            raise InputError(
                f'the factor "{name}" of the program must be one number, got an array of shape '
                f"{batch}; sum it, outside of any plate"
            )
        return
    given = given[: len(given) - site["fn"].event_dim]
    spread = np.broadcast_shapes(batch, given)
    if np.prod(spread) > max(np.prod(batch), np.prod(given)):
        raise InputError(
            f'the observed site "{name}" of the program sets values of shape {given} against a '
            f"distribution of shape {batch}, each against every other; give both one shape"
        )


def looked_at(program: Program, data: Any) -> Density:
    """A program's density outside of compiled code, to be asked for names, shapes and sizes alone.

    The program is traced and not run: op by op, each compiled by itself, it takes seconds.
    """
    found: list[Density] = []
    with one_core.TRACING:
        jax.eval_shape(lambda: found.append(Density(program, data)))
    return found[0]


def log_normal(x: Array, mean: Array, variance: Array) -> Array:
    return -0.5 * jnp.sum(jnp.square(x - mean) / variance + jnp.log(2 * jnp.pi * variance))
