"""Where does the posterior lie, and how wide is it? A map from N(0, I) onto nearly the posterior.

A boundary model is latent Gaussian: hyperparameters u (unconstrained), coefficients x given u
normal with mean m(u) and precision D(u), and a likelihood. The likelihood is expanded to second
order in x at the mode for the posterior mean of u,

    log p(y | x) ~ -1/2 x' G x + b' x,

so that p(x | u, y) ~ N(A^-1 (b + D m), A^-1) with A = G + D(u), and p(u | y) is closed-form up
to a constant (nested Laplace, Rue, Martino & Chopin 2009, with one expansion in place of a grid
of them). At the posterior mean of u, bar, let x_bar be the mode and W = chol(A_bar)^-T. The map

    u = u_bar + L eps_u
    x = x_bar + step(u) + r(u) * (W eps_x)

rescales every coefficient by r = sqrt(diag A_bar / diag A(u)) and moves it by one diagonally
preconditioned Newton step towards the mode for u, so that it widens and shrinks with the
hyperparameters, funnel and all, without a factorisation per draw. What it misses is corrected by
importance weights (laplace.py) or by NUTS run in eps (mcmc.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, Float
from aistat_jax.inference import one_core

Program = Callable[[Any], None]
LATENT = "coefficients"
HYPER_POINTS = 49
HYPER_ROUNDS = 3
NEWTON_STEPS = 40
GAIN = 1e-3
COARSE, CANDIDATES, ELITE, SEARCHES = 7, 64, 8, 5


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
        from numpyro.infer.util import log_density

        parts = self._parts(u)
        values = {**self.constrain(u), LATENT: x}
        total, trace = log_density(self.program, (self.data,), {}, values)
        jacobian = sum(
            jnp.sum(self.transforms[n].log_abs_det_jacobian(part, values[n]))
            for n, part in parts.items()
        )
        log_hyper = jacobian + sum(jnp.sum(trace[n]["fn"].log_prob(values[n])) for n in parts)
        log_hyper = jnp.asarray(log_hyper)  # without hyperparameters it is a plain 0
        prior = trace[LATENT]["fn"]
        base = prior
        while isinstance(base, dist.Independent | dist.ExpandedDistribution):
            base = base.base_dist
        if not isinstance(base, dist.Normal):
            raise InputError(
                f'site "{LATENT}" must be normal given the other sites, got {type(base).__name__}'
            )
        log_latent = jnp.sum(prior.log_prob(x))
        shape = (self.basis,)
        return Split(
            log_hyper,
            jnp.broadcast_to(jnp.asarray(base.loc), shape),
            jnp.broadcast_to(jnp.square(jnp.asarray(base.scale)), shape),
            total + jacobian - log_hyper - log_latent,
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


def log_normal(x: Array, mean: Array, variance: Array) -> Array:
    """Log density of independent normals."""
    return -0.5 * jnp.sum(jnp.square(x - mean) / variance + jnp.log(2 * jnp.pi * variance))


@record
class Transport:
    """The expansion behind the map.

    Shapes: mode (basis,), spread W (basis, basis), curvature diag G (basis,), hyper_mean
    (hyper,), hyper_chol L (hyper, hyper); value is the log joint density at the mode.
    """

    mode: Float[Array, " basis"]
    spread: Float[Array, "basis basis"]
    curvature: Float[Array, " basis"]
    hyper_mean: Float[Array, " hyper"]
    hyper_chol: Float[Array, "hyper hyper"]
    value: Float[Array, ""]

    @property
    def size(self) -> int:
        return self.hyper_mean.shape[-1] + self.mode.shape[-1]

    @property
    def log_volume(self) -> float:
        """What `push` leaves out of its log determinant, being the same everywhere."""
        hyper, spread = np.diag(self.hyper_chol), np.diag(self.spread)  # both triangular
        return float(np.log(np.abs(hyper)).sum() + np.log(np.abs(spread)).sum())

    def push(self, density: Density, eps: Float[Array, " dim"]) -> tuple[Array, Array, Array]:
        """(u, x, log |d(u, x) / d eps| - log_volume) of a standard normal eps (hyper + basis,)."""
        hypers = self.hyper_mean.shape[-1]
        u = self.hyper_mean + self.hyper_chol @ eps[:hypers]
        here, bar = density.split(u, self.mode), density.split(self.hyper_mean, self.mode)
        total = self.curvature + 1 / here.variance
        pull = (self.mode - bar.mean) / bar.variance - (self.mode - here.mean) / here.variance
        scale = jnp.sqrt((self.curvature + 1 / bar.variance) / total)
        x = self.mode + pull / total + scale * (self.spread @ eps[hypers:])
        return u, x, jnp.sum(jnp.log(scale))

    def log_target(self, density: Density, eps: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log posterior density of eps; -|eps|^2 / 2 and a constant were the map exact."""
        u, x, log_det = self.push(density, eps)
        return density.log_joint(u, x) + log_det


def fit_transport(density: Density, wide: bool = False) -> Transport:
    """Find the mode coarse to fine, expand there, integrate the hyperparameters, and move the mode.

    `wide` leaves the hyperparameters as wide as their prior: a start for a sampler that must not
    inherit a wrong mode of the expansion.
    """
    u, spread = density.prior_moments()
    x, value, curvature, slope = _newton(density, u, _start(density, u))
    chol = jnp.diag(spread)
    if not wide:
        u, chol = _hyper_moments(density, curvature, slope, u, chol)
    prior = density.split(u, x)
    factor = jnp.linalg.cholesky(curvature + jnp.diag(1 / prior.variance))
    mode = jax.scipy.linalg.cho_solve((factor, True), slope + prior.mean / prior.variance)
    identity = jnp.eye(density.basis)
    inverse = solve_triangular(factor, identity, lower=True, trans=1)
    return Transport(mode, inverse, jnp.diag(curvature), u, chol, value)


@partial(one_core.jit, static_argnames=("program", "wide"))
def find_transport(program: Program, data: Any, wide: bool = False) -> Transport:
    """The map of one contour, compiled once for every method that uses it."""
    return fit_transport(Density(program, data), wide)


def _start(density: Density, u: Array) -> Array:
    """A rough boundary: the likeliest of circles of many sizes, the data's own start and the
    candidates of a cross-entropy search of the first harmonics."""
    prior = density.split(u, jnp.zeros(density.basis))
    coarse = min(COARSE, density.basis)
    scale = jnp.sqrt(prior.variance).at[0].set(0.2)
    z = np.zeros((CANDIDATES, density.basis))
    z[1:, :coarse] = _normal_points(CANDIDATES - 1, coarse)
    levels = jnp.linspace(-2.5, 1.5, CANDIDATES) * jnp.minimum(jnp.sqrt(prior.variance[0]), 1.0)
    candidates = jnp.zeros((CANDIDATES, density.basis)).at[:, 0].set(levels)
    given = getattr(density.data, "start", None)
    if given is not None:  # in the place of the two smallest circles
        rough = jnp.asarray(given).at[coarse:].set(0.0)
        candidates = candidates.at[:2].set(jnp.stack([jnp.asarray(given), rough]))

    def narrow(count: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        candidates, scale, likeliest, highest = state
        value = jax.vmap(density.log_joint, (None, 0))(u, candidates)
        top, place = jax.lax.top_k(jnp.where(jnp.isfinite(value), value, -jnp.inf), ELITE)
        likeliest = jnp.where(top[0] > highest, candidates[place[0]], likeliest)
        rough = candidates[place].at[:, coarse:].set(0.0)
        mean = jnp.where(count == 0, rough[0], rough.mean(axis=0))
        scale = jnp.where(count == 0, scale, jnp.maximum(rough.std(axis=0), 1e-3))
        return mean + z * scale, scale, likeliest, jnp.maximum(top[0], highest)

    state = (candidates, scale, candidates[0], jnp.asarray(-jnp.inf))
    return jax.lax.fori_loop(0, SEARCHES + 1, narrow, state)[2]


def _newton(density: Density, u: Array, x: Array) -> tuple[Array, Array, Array, Array]:
    """Levenberg-damped Newton ascent of the log joint in x.

    Stops once the quadratic model promises less than GAIN nats. Returns the mode, its value, and
    the expansion of the log-likelihood there: curvature (made non-negative) and slope.
    """
    precision = 1 / density.split(u, x).variance

    def climb(x: Array) -> tuple[Array, tuple[Array, Array]]:
        value, gradient = jax.value_and_grad(density.log_joint, 1)(u, x)
        return gradient, (value, gradient)

    def look(x: Array) -> tuple[Array, Array, Array]:
        hessian, (value, gradient) = jax.jacfwd(climb, has_aux=True)(x)
        return value, gradient, -hessian

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, value, gradient, hessian, damping, _, count = state
        factor = jax.scipy.linalg.cho_factor(hessian + jnp.diag(damping * precision))
        move = jax.scipy.linalg.cho_solve(factor, gradient)
        move = move * jnp.minimum(1.0, 0.5 / jnp.maximum(jnp.abs(move).max(), 1e-12))
        promise = 0.5 * jnp.sum(gradient * move)
        trial = look(x + move)
        slack = jnp.where(jnp.isfinite(value), 1e-10 * jnp.abs(value), 0.0)
        better = jnp.isfinite(trial[0]) & (trial[0] >= value - slack)
        kept = [
            jnp.where(better, new, old)
            for new, old in zip((x + move, *trial), (x, value, gradient, hessian), strict=True)
        ]
        left = jnp.where(better & (damping < 0.1) & (count > 0), promise, jnp.inf)
        damping = jnp.where(better, damping * 0.1, damping * 10.0 + 1e-2)
        return (*kept, damping, left, count + 1)

    def going(state: tuple[Array, ...]) -> Array:
        return (state[5] > GAIN) & (state[6] < NEWTON_STEPS)

    # The first step has no gradient yet, stays where it is and looks: one `look` to compile.
    blank = (x, jnp.asarray(-jnp.inf), 0.0 * x, jnp.eye(len(x)), jnp.asarray(1e-2))
    start = (*blank, jnp.asarray(jnp.inf), jnp.asarray(0))
    x, value, gradient, hessian, *_ = jax.lax.while_loop(going, step, start)
    prior = density.split(u, x)
    curvature = hessian - jnp.diag(precision)
    values, vectors = jnp.linalg.eigh(0.5 * (curvature + curvature.T))
    curvature = (vectors * jnp.maximum(values, 0.0)) @ vectors.T
    slope = curvature @ x + gradient + precision * (x - prior.mean)
    return x, value, curvature, slope


def _hyper_moments(
    density: Density, curvature: Array, slope: Array, mean: Array, chol: Array
) -> tuple[Array, Array]:
    """Posterior mean and Cholesky factor of u by adaptive quasi-random importance sampling.

    The integrand is the closed-form marginal of u under the expanded likelihood.
    """
    if density.hypers == 0:
        return mean, chol
    zero = jnp.zeros(density.basis)

    def marginal(u: Array) -> Array:
        prior = density.split(u, zero)
        precision = 1 / prior.variance
        factor = jnp.linalg.cholesky(curvature + jnp.diag(precision))
        half = solve_triangular(factor, slope + precision * prior.mean, lower=True)
        return (
            prior.log_hyper
            - jnp.sum(jnp.log(jnp.diag(factor)))
            + 0.5 * jnp.sum(jnp.log(precision))
            + 0.5 * jnp.sum(jnp.square(half))
            - 0.5 * jnp.sum(precision * jnp.square(prior.mean))
        )

    z = 1.3 * jnp.asarray(_normal_points(HYPER_POINTS, density.hypers))

    def narrow(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        mean, chol = state
        points = mean + z @ chol.T
        log_weight = jax.lax.map(marginal, points) + 0.5 * jnp.sum(jnp.square(z), axis=1) / 1.3**2
        weight = jax.nn.softmax(log_weight)
        mean = weight @ points
        centred = points - mean
        floor = 0.05**2 * (chol @ chol.T)
        return mean, jnp.linalg.cholesky((weight[:, None] * centred).T @ centred + floor)

    return jax.lax.fori_loop(0, HYPER_ROUNDS, narrow, (mean, chol))


def _normal_points(count: int, dim: int) -> np.ndarray:
    """Quasi-random standard normal points: an additive recurrence through the normal quantile."""
    from scipy.special import ndtri

    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dim + 1))
    steps = ratio ** -np.arange(1, dim + 1)
    return ndtri(np.mod(0.5 + np.arange(1, count + 1)[:, None] * steps, 1.0))
