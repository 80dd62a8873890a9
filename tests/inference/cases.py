"""Which posteriors do the tests of the inference share? Small ones: a compilation costs seconds."""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist

import aistat_jax as aj
from aistat_jax.boundary.model import BoundaryData, BoundaryModel, boundary_model
from aistat_jax.inference import laplace, transport
from aistat_jax.space.basis import circle_basis
from aistat_jax.space.grid import Plane
from aistat_jax.space.star import star_chart
from tests.helpers import ellipse_radii

SMALL = {"rays": 48, "harmonics": 6, "radius_max": 16.0}


@cache
def soft_model(seed: int = 0) -> BoundaryModel:
    """A blurred ellipse on 40 x 40 pixels, contrast 3, noise 1.2."""
    return boundary_model(_target(), aj.intensity(_image(seed, 1.2, 1.2), blur=1.2), **SMALL)


@cache
def hard_model(seed: int = 0) -> BoundaryModel:
    """BayesBD's kind of image, noisy: N(4, 3^2) inside an ellipse, N(1, 2^2) outside."""
    evidence = aj.intensity(_image(seed, 3.0, 2.0, blur=0.0), family="gaussian", temper=0.3)
    return boundary_model(_target(), evidence, **SMALL)


def _target() -> aj.Target:
    plane = aj.Image.from_arrays(A=np.eye(40)).primary.grid.plane(0)
    return aj.Target(np.array([19.3, 19.8]), 8.0, plane, "ellipse")


def _image(seed: int, sd_inside: float, sd_outside: float, blur: float = 1.2) -> aj.Image:
    from scipy.ndimage import gaussian_filter

    u, v = np.meshgrid(np.arange(40) - 19.3, np.arange(40) - 19.8, indexing="ij")
    inside = (np.hypot(u, v) < ellipse_radii(np.arctan2(v, u), 9.5, 7.0)).astype(float)
    noise = np.random.default_rng(seed).standard_normal((40, 40))
    mean = 1 + 3 * (gaussian_filter(inside, blur) if blur else inside)
    return aj.Image.from_arrays(A=mean + noise * np.where(inside > 0, sd_inside, sd_outside))


def compiled() -> int:
    """How many versions exist of all that a Laplace fit compiles."""
    pieces = (transport.prior_moments, transport.find_start, transport.find_mode, laplace.propose)
    pieces += (transport.log_joints, transport.prior_splits, transport.sites_of, laplace.weigh)
    return sum(piece.versions() for piece in pieces)


# ---------------------------------------------------------------------- an exact posterior


RAYS, HARMONICS = 24, 3
PRIOR_SD = np.concatenate([[0.5], np.repeat([0.3, 0.2, 0.1], 2)])
NOISE_SD = 0.05 + 0.25 * (np.arange(RAYS) < RAYS // 2)


def gaussian_program(data: BoundaryData) -> None:
    """Log radii observed ray by ray with normal errors: the posterior is normal."""
    scale = jnp.asarray(PRIOR_SD)
    coefficients = numpyro.sample("coefficients", dist.Normal(0.0, scale).to_event(1))
    log_radius = data.basis.functions @ coefficients
    numpyro.deterministic("radii", jnp.exp(log_radius))
    error = (data.mean - log_radius) / NOISE_SD
    numpyro.factor("evidence", -0.5 * jnp.sum(jnp.square(error)))


def gaussian_model() -> BoundaryModel:
    """The model of `gaussian_program`; its data's mean holds the observed log radii."""
    plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (40, 40))
    chart = star_chart(np.full(2, 20.0), 30.0, plane, RAYS)
    observed = np.log(10.0) + 0.1 * np.random.default_rng(5).standard_normal(RAYS)
    observed = observed + 0.2 * np.cos(2 * chart.angles)
    data = BoundaryData(circle_basis(chart.angles, HARMONICS), aj.Prior(), observed, ())
    target = aj.Target(chart.centre, 10.0, plane, "gaussian")
    return BoundaryModel(target, chart, data, gaussian_program)


def scaled_program(data: BoundaryData) -> None:
    """`gaussian_program` with the size of the prior not known: log-normal about 1."""
    size = jnp.asarray(numpyro.sample("size", dist.LogNormal(0.0, 0.5)))
    scale = size * jnp.asarray(PRIOR_SD)
    coefficients = numpyro.sample("coefficients", dist.Normal(0.0, scale).to_event(1))
    log_radius = data.basis.functions @ coefficients
    numpyro.deterministic("radii", jnp.exp(log_radius))
    error = (data.mean - log_radius) / NOISE_SD
    numpyro.factor("evidence", -0.5 * jnp.sum(jnp.square(error)))


def gaussian_evidence(size: float = 1.0) -> float:
    """log of the integral of prior times likelihood, whose factor exp(-error^2/2) is no density."""
    from scipy.stats import multivariate_normal

    data = gaussian_model().data
    functions = np.asarray(data.basis.functions)
    covariance = functions @ np.diag((size * PRIOR_SD) ** 2) @ functions.T + np.diag(NOISE_SD**2)
    normal = multivariate_normal(np.zeros(RAYS), covariance)
    left_out = np.log(NOISE_SD).sum() + 0.5 * RAYS * np.log(2 * np.pi)
    return float(normal.logpdf(np.asarray(data.mean)) + left_out)


def scaled_evidence() -> float:
    """`gaussian_evidence` under `scaled_program`, by quadrature over the log of the size."""
    from scipy.special import logsumexp
    from scipy.stats import norm

    nodes = np.linspace(-6, 6, 241)  # the trapezium rule is exact to rounding for smooth tails
    values = [gaussian_evidence(np.exp(0.5 * z)) for z in nodes]
    return float(logsumexp(values, b=0.05 * norm.pdf(nodes)))


def gaussian_answer() -> tuple[np.ndarray, np.ndarray]:
    """Mean (basis,) and precision (basis, basis) of the coefficients, in closed form."""
    data = gaussian_model().data
    design = np.asarray(data.basis.functions) / NOISE_SD[:, None]
    precision = np.diag(1 / PRIOR_SD**2) + design.T @ design
    return np.linalg.solve(precision, design.T @ (np.asarray(data.mean) / NOISE_SD)), precision
