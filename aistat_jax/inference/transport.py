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

Compiling all of this costs hundreds of fits. So only what depends on the program is compiled, each
part for itself, with a compiler that tries no harder than the part is worth (one_core.py). What
lies between the parts is NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg.lapack import dtrtrs  # pyright: ignore[reportAttributeAccessIssue]

from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.inference import one_core
from aistat_jax.inference.density import Density, Program, log_normal

HYPER_POINTS = 49
# So many rounds, and more as long as fewer points count; never further than so many sds of the
# prior, beyond which an expansion that hardly curves would have it that all is likely.
HYPER_ROUNDS, MOST_ROUNDS, FEW, FURTHEST = 3, 8, 10, 3.5
NEWTON_STEPS = 40
GAIN = 1e-3
COARSE, CANDIDATES, ELITE, SEARCHES = 7, 64, 8, 5
# However many boundaries there are, compiled programs take ROWS, and go through them CHUNK at a
# time, which fills a core's cache and no more. Three halves of the usual 1000 draws are one call.
ROWS, CHUNK = 1536, 128


@record
class Transport:
    """The expansion behind the map.

    Shapes: mode (basis,), spread W (basis, basis), curvature diag G (basis,), hyper_mean
    (hyper,), hyper_chol L (hyper, hyper); value is the log joint density at the mode.
    """

    mode: Float[ArrayLike, " basis"]
    spread: Float[ArrayLike, "basis basis"]
    curvature: Float[ArrayLike, " basis"]
    hyper_mean: Float[ArrayLike, " hyper"]
    hyper_chol: Float[ArrayLike, "hyper hyper"]
    value: Float[ArrayLike, ""]

    @property
    def size(self) -> int:
        return np.shape(self.hyper_mean)[-1] + np.shape(self.mode)[-1]

    @property
    def log_volume(self) -> float:
        """What `push` leaves out of its log determinant, being the same everywhere."""
        hyper, spread = np.diag(self.hyper_chol), np.diag(self.spread)  # both triangular
        return float(np.log(np.abs(hyper)).sum() + np.log(np.abs(spread)).sum())

    def push(self, density: Density, eps: Float[Array, " dim"]) -> tuple[Array, Array, Array]:
        """(u, x, log |d(u, x) / d eps| - log_volume) of a standard normal eps (hyper + basis,)."""
        bar_u, mode = jnp.asarray(self.hyper_mean), jnp.asarray(self.mode)
        hypers = bar_u.shape[-1]
        u = bar_u + self.hyper_chol @ eps[:hypers]
        here, bar = density.split(u, mode), density.split(bar_u, mode)
        centre, square = self._given(here.mean, here.variance, bar.mean, bar.variance)
        x = centre + jnp.sqrt(square) * (self.spread @ eps[hypers:])
        return u, x, 0.5 * jnp.sum(jnp.log(square))

    @np.errstate(all="ignore")
    def push_many(
        self, program: Program, data: Any, eps: Float[ArrayLike, "draw dim"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`push` of many eps at once, outside of a compiled program."""
        eps, bar_u = np.asarray(eps), np.asarray(self.hyper_mean)
        hypers = len(bar_u)
        u = bar_u + eps[:, :hypers] @ np.asarray(self.hyper_chol).T
        _, mean, variance = prior_at(program, data, np.concatenate([[bar_u], u]))
        centre, square = self._given(mean[1:], variance[1:], mean[0], variance[0])
        x = centre + np.sqrt(square) * (eps[:, hypers:] @ np.asarray(self.spread).T)
        return u, x, 0.5 * np.log(square).sum(axis=1)

    def _given(self, mean: Any, variance: Any, bar_mean: Any, bar_variance: Any) -> tuple[Any, Any]:
        """Centre and squared scale of x given the prior moments of one u, or of many in rows."""
        total = self.curvature + 1 / variance
        pull = (self.mode - bar_mean) / bar_variance - (self.mode - mean) / variance
        return self.mode + pull / total, (self.curvature + 1 / bar_variance) / total

    def log_target(self, density: Density, eps: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log posterior density of eps; -|eps|^2 / 2 and a constant were the map exact."""
        u, x, log_det = self.push(density, eps)
        return density.log_joint(u, x) + log_det


@np.errstate(all="ignore")  # what is not a number is said by the weights
def find_transport(
    program: Program, data: Any, near: np.ndarray | None = None, *, wide: bool = False
) -> Transport:
    """Find the mode coarse to fine, expand there, integrate the hyperparameters, and move the mode.

    The mode is that for the hyperparameters' prior mean, or, where a place (hyper + basis,) in or
    by the posterior is known, the one `near` it. `wide` leaves the hyperparameters as wide as
    their prior: a start for a sampler that must not inherit a wrong mode of the expansion. To be
    called in double precision.
    """
    mean, sd, variance = (np.asarray(part) for part in prior_moments(program, data))
    if near is None:
        z = np.zeros((CANDIDATES, len(variance)))
        coarse = min(COARSE, len(variance))
        z[1:, :coarse] = _normal_points(CANDIDATES - 1, coarse)
        place = mean, find_start(program, data, mean, variance, z)
    else:
        place = near[: len(mean)], near[len(mean) :]
    found = find_mode(program, data, *place)
    x, value, slope, curvature = (np.asarray(part) for part in found)
    curvature = _non_negative(0.5 * (curvature + curvature.T))
    slope = slope + curvature @ x
    u, chol = mean, np.diag(sd)
    if not wide and len(u):
        u, chol = _hyper_moments(program, data, curvature, slope, u, chol)
    _, (centre,), (variance,) = prior_at(program, data, u[None])
    factor = cholesky(curvature + np.diag(1 / variance))
    inverse = solved(factor, np.eye(len(x))).T
    half = solved(factor, slope + centre / variance)
    return Transport(inverse @ half, inverse, np.diag(curvature), u, chol, value)


# ------------------------------------------------------------------------ what is compiled


@partial(one_core.quick, level=0, static_argnames="program")
def prior_moments(program: Program, data: Any) -> tuple[Array, Array, Array]:
    """Prior mean and sd of the hyperparameters (hyper,), and at that mean the variance of x."""
    density = Density(program, data)
    mean, sd = density.prior_moments()
    return mean, sd, density.split(mean, jnp.zeros(density.basis)).variance


@partial(one_core.Quick, options=one_core.ONE_CORE, static_argnames="program")
def log_joints(program: Program, data: Any, u: Array, x: Array, count: Array) -> Array:
    """The log density of the first `count` of ROWS pairs (u, x); most of a fit's time."""
    return _row_by_row(Density(program, data).log_joint, count, u, x)


@partial(one_core.quick, static_argnames="program")
def find_start(program: Program, data: Any, u: Array, variance: Array, z: Array) -> Array:
    """A rough boundary: the likeliest of round ones of many sizes, the data's own start and the
    candidates of a cross-entropy search of the first harmonics with the normal points z."""
    density, coarse = Density(program, data), min(COARSE, len(variance))
    sd = jnp.sqrt(variance)
    levels = jnp.linspace(-2.5, 1.5, CANDIDATES) * jnp.minimum(sd[0], 1.0)
    candidates = jnp.zeros(z.shape).at[:, 0].set(levels)
    given = getattr(data, "start", None)
    if given is not None:  # in the place of the two smallest
        candidates = candidates.at[:2].set(jnp.asarray(given)).at[1, coarse:].set(0.0)

    def narrow(count: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        candidates, scale, likeliest, highest = state
        value = jax.vmap(density.log_joint, (None, 0))(u, candidates)
        top, place = jax.lax.top_k(jnp.where(jnp.isfinite(value), value, -jnp.inf), ELITE)
        likeliest = jnp.where(top[0] > highest, candidates[place[0]], likeliest)
        rough = candidates[place].at[:, coarse:].set(0.0)
        mean = jnp.where(count == 0, rough[0], rough.mean(axis=0))
        scale = jnp.where(count == 0, scale, jnp.maximum(rough.std(axis=0), 1e-3))
        return mean + z * scale, scale, likeliest, jnp.maximum(top[0], highest)

    state = (candidates, sd.at[0].set(0.2), candidates[0], jnp.asarray(-jnp.inf))
    return jax.lax.fori_loop(0, SEARCHES + 1, narrow, state)[2]


@partial(one_core.quick, static_argnames="program")
def find_mode(program: Program, data: Any, u: Array, x: Array) -> tuple[Array, ...]:
    """Levenberg-damped Newton ascent of the log joint in x.

    Stops once the quadratic model promises less than GAIN nats. The prior of x, which is normal,
    is differentiated on paper. Returns the mode, the log joint there, and gradient and negative
    Hessian of the log-likelihood.
    """
    density = Density(program, data)
    prior = density.split(u, x)
    precision = 1 / prior.variance

    def climb(x: Array) -> tuple[Array, tuple[Array, Array]]:
        value, gradient = jax.value_and_grad(density.log_lik, 1)(u, x)
        return gradient, (value, gradient)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, value, slope, curvature, damping, _, count = state
        factor = jnp.linalg.cholesky(curvature + jnp.diag((1 + damping) * precision))
        gradient = slope - precision * (x - prior.mean)
        move = jax.scipy.linalg.cho_solve((factor, True), gradient)
        move = move * jnp.minimum(1.0, 0.5 / jnp.maximum(jnp.abs(move).max(), 1e-12))
        move = jnp.where(count > 0, move, 0.0)
        promise = 0.5 * jnp.dot(gradient, move)
        hessian, (height, new_slope) = jax.jacfwd(climb, has_aux=True)(x + move)
        height += prior.log_hyper + log_normal(x + move, prior.mean, prior.variance)
        slack = jnp.where(jnp.isfinite(value), 1e-10 * jnp.abs(value), 0.0)
        better = jnp.isfinite(height) & (height >= value - slack)
        kept = [
            jnp.where(better, new, old)
            for new, old in zip((x + move, height, new_slope, -hessian), state[:4], strict=True)
        ]
        left = jnp.where(better & (damping < 0.1) & (count > 0), promise, jnp.inf)
        damping = jnp.where(better, damping * 0.1, damping * 10.0 + 1e-2)
        return (*kept, damping, left, count + 1)

    def going(state: tuple[Array, ...]) -> Array:
        return (state[5] > GAIN) & (state[6] < NEWTON_STEPS)

    # The first step has no gradient yet, stays where it is and looks: one place to compile.
    blank = (x, jnp.asarray(-jnp.inf), 0.0 * x, 0.0 * jnp.eye(len(x)), jnp.asarray(1e-2))
    start = (*blank, jnp.asarray(jnp.inf), jnp.asarray(0))
    return jax.lax.while_loop(going, step, start)[:4]


@partial(one_core.quick, level=1, static_argnames="program")
def prior_splits(program: Program, data: Any, u: Array, count: Array) -> tuple[Array, ...]:
    """log p(u), and mean and variance of x given u, for the first `count` of ROWS u."""
    density = Density(program, data)
    return _row_by_row(lambda u: density.split(u, jnp.zeros(density.basis))[:3], count, u)


@partial(one_core.quick, level=1, static_argnames="program")
def sites_of(program: Program, data: Any, u: Array, x: Array, count: Array) -> dict[str, Array]:
    """Every named site of the first `count` of ROWS pairs (u, x)."""
    return _row_by_row(Density(program, data).sites, count, u, x)


def _row_by_row(function: Callable[..., Any], count: Array, *rows: Array) -> Any:
    """A function of one row, for the first `count` rows; what follows them is zero."""
    many = jax.vmap(function)

    def chunk(n: Array) -> Any:
        return many(*(jax.lax.dynamic_slice_in_dim(row, n * CHUNK, CHUNK) for row in rows))

    def put(n: Array, out: Any) -> Any:
        return jax.tree.map(
            lambda all, part: jax.lax.dynamic_update_slice_in_dim(all, part, n * CHUNK, 0),
            out, chunk(n),
        )  # fmt: skip

    blank = jax.tree.map(
        lambda part: jnp.zeros((len(rows[0]), *part.shape[1:]), part.dtype),
        jax.eval_shape(chunk, 0),
    )
    return jax.lax.fori_loop(0, -(-count // CHUNK), put, blank)


def prior_at(program: Program, data: Any, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """log p(u) (point,), and mean and variance (point, basis) of x given each u (point, hyper)."""
    return in_parts(partial(prior_splits, program, data), u)


def log_joint_at(program: Program, data: Any, u: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The log density (point,) of every pair (u, x) of points (point, hyper) and (point, basis)."""
    return in_parts(partial(log_joints, program, data), u, x)


def sites_at(program: Program, data: Any, u: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every named site (point, ...) of every pair (u, x)."""
    return in_parts(partial(sites_of, program, data), u, x)


def in_parts(function: Callable[..., Any], *rows: np.ndarray) -> Any:
    """A compiled function of ROWS rows and how many of them count, applied to any number."""
    count = len(rows[0])
    parts = []
    for start in range(0, count, ROWS):
        part = [row[start : start + ROWS] for row in rows]
        held = len(part[0])
        padded = [np.empty((ROWS, *row.shape[1:])) for row in part]
        for full, row in zip(padded, part, strict=True):
            full[:held], full[held:] = row, row[-1]
        parts.append(function(*padded, held))
    if len(parts) == 1:
        return jax.tree.map(lambda found: np.asarray(found)[:count], parts[0])
    return jax.tree.map(lambda *found: np.concatenate(found)[:count], *parts)


# --------------------------------------------------------------------------- what is not


def _hyper_moments(
    program: Program,
    data: Any,
    curvature: np.ndarray,
    slope: np.ndarray,
    mean: np.ndarray,
    chol: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and Cholesky factor of u by adaptive quasi-random importance sampling.

    The integrand is the closed-form marginal of u under the expanded likelihood.
    """

    def marginal(u: np.ndarray) -> np.ndarray:
        log_hyper, prior_mean, variance = prior_at(program, data, u)
        precision = 1 / variance
        factor = cholesky(curvature + precision[:, :, None] * np.eye(len(slope)))
        pull = slope + precision * prior_mean
        half = np.stack([solved(*pair) for pair in zip(factor, pull, strict=True)])
        return (
            log_hyper
            - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
            + 0.5 * np.log(precision).sum(axis=1)
            + 0.5 * np.square(half).sum(axis=1)
            - 0.5 * (precision * np.square(prior_mean)).sum(axis=1)
        )

    prior, sd = mean, np.diag(chol)
    z = 1.3 * _normal_points(HYPER_POINTS, len(mean))
    for count in range(MOST_ROUNDS):
        points = mean + z @ chol.T
        log_weight = marginal(points) + 0.5 * np.square(z).sum(axis=1) / 1.3**2
        log_weight = np.where(np.isfinite(log_weight), log_weight, -np.inf)
        if log_weight.max() == -np.inf:
            break
        weight = np.exp(log_weight - log_weight.max())
        weight = weight / weight.sum()
        mean = prior + np.clip(weight @ points - prior, -FURTHEST * sd, FURTHEST * sd)
        centred = points - mean
        # Of a few points the spread says nothing yet: the next lie as wide about a better place.
        effective = 1 / np.square(weight).sum()
        floor = max(0.05, 1 / effective) ** 2 * (chol @ chol.T)
        chol = cholesky((weight[:, None] * centred).T @ centred + floor)
        if count + 1 >= HYPER_ROUNDS and not effective < FEW:
            break
    return mean, chol


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """The lower Cholesky factor of each matrix, or nan throughout where there is none."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        if matrix.ndim == 2:
            return np.full_like(matrix, np.nan)
        return np.stack([cholesky(each) for each in matrix])


def solved(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L^-1 b of a lower triangular L; LAPACK alone, without SciPy's care for its arguments."""
    return dtrtrs(factor.T, right, lower=0, trans=1)[0]


def _non_negative(matrix: np.ndarray) -> np.ndarray:
    """A symmetric matrix with its negative eigenvalues set to zero, or nan where it has nan."""
    if not np.isfinite(matrix).all():
        return np.full_like(matrix, np.nan)
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


@cache
def _normal_points(count: int, dim: int) -> np.ndarray:
    """Quasi-random standard normal points: an additive recurrence through the normal quantile."""
    from scipy.special import ndtri

    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dim + 1))
    steps = ratio ** -np.arange(1, dim + 1)
    return ndtri(np.mod(0.5 + np.arange(1, count + 1)[:, None] * steps, 1.0))
