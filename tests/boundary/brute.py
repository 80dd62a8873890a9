"""What should a table likelihood be? The same sums over voxels one by one, by other formulas."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from scipy import special, stats

from aistat_jax.boundary.evidence import Evidence, log_likelihood
from aistat_jax.boundary.families import StepPrior, Term
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.targets import Target
from aistat_jax.inference.prior import prior_draws
from aistat_jax.space.chart import Shares
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Image
from aistat_jax.space.star import StarChart, star_chart

STEP_PRIOR = StepPrior(
    np.array([0.3, 1.1]),
    np.array([0.2, 0.5]),
    np.asarray(2.0),
    np.asarray(1.5),
)
RADIUS, RADIUS_MAX, CENTRE = 12.0, 26.0, np.array([31.3, 29.6])


def a_plane(spacing: float = 2.0, size: int = 32, unit: str = "mm") -> Plane:
    return Grid(np.diag([spacing, spacing, 3.0, 1.0]), (size, size, 1), unit=unit).plane(0)


def a_chart(rays: int = 64, plane: Plane | None = None) -> StarChart:
    return star_chart(CENTRE, RADIUS_MAX, a_plane() if plane is None else plane, rays)


def a_target(chart: StarChart) -> Target:
    return Target(chart.centre, RADIUS, chart.plane)


def boundaries(chart: StarChart, count: int = 3) -> list[np.ndarray]:
    """Random boundaries that stay within the chart."""
    model = boundary_model(a_target(chart), rays=chart.sites, radius_max=RADIUS_MAX)
    draws = prior_draws(model, 100).draws
    return [radii for radii in draws if radii.max() < 0.95 * chart.radius_max][:count]


def step_values(rng: np.random.Generator, chart: StarChart, points: np.ndarray) -> np.ndarray:
    """A noisy bright disc."""
    return 1.0 + 2.0 * (chart.polar(points)[0] < RADIUS) + rng.normal(0, 0.7, points.shape[:-1])


def step_image(rng: np.random.Generator, chart: StarChart, name: str = "PT") -> Image:
    values = step_values(rng, chart, chart.plane.points())
    return Image.from_arrays(**{name: values}, spacing_mm=float(chart.plane.spacing[0]))


@jax.jit
def read_tables(terms: tuple[Term, ...], radii: np.ndarray) -> jax.Array:
    """`log_likelihood`, compiled once for each kind of evidence."""
    return log_likelihood(terms, radii)


def table_value(evidence: Evidence, chart: StarChart, radii: np.ndarray) -> float:
    with jax.enable_x64(True):
        terms = evidence.tabulate(a_target(chart), chart)
        return float(read_tables(terms, radii))


def voxels_of(image: Image, name: str, chart: StarChart) -> tuple[np.ndarray, np.ndarray, float]:
    """Points, values and width of the voxels within the chart."""
    channel = image[name].slice(0)
    points = channel.plane.points()
    near = np.linalg.norm(points - chart.centre, axis=-1) <= chart.radius_max
    return points[near], channel.values[near], float(channel.plane.spacing[0])


def linear_regression(y: np.ndarray, x: np.ndarray, weight: np.ndarray, prior: StepPrior) -> float:
    """log of the marginal density of y = x b + noise, each observation raised to its weight."""
    k, m = np.diag(np.asarray(prior.precision)), np.asarray(prior.mean)
    p = k + x.T @ (weight[:, None] * x)
    best = np.linalg.solve(p, k @ m + x.T @ (weight * y))
    residual = y - x @ best
    loss = (weight * residual**2).sum() + (best - m) @ k @ (best - m)
    a, b, half = float(prior.shape), float(prior.rate), 0.5 * weight.sum()
    return float(
        0.5 * (np.linalg.slogdet(k)[1] - np.linalg.slogdet(p)[1])
        + special.gammaln(a + half)
        - special.gammaln(a)
        + a * np.log(b)
        - (a + half) * np.log(b + 0.5 * loss)
        - half * np.log(2 * np.pi)
    )


def blurred(
    shared: Shares,
    y: np.ndarray,
    radii: np.ndarray,
    blur: float,
    eta: float = 1.0,
    prior: StepPrior = STEP_PRIOR,
) -> float:
    h = stats.norm.cdf(radii[shared.site], loc=shared.position, scale=blur)
    x = np.stack([np.ones_like(h), h], axis=1)
    return linear_regression(y[shared.voxel], x, eta * shared.share, prior)


def student(y: np.ndarray, h: np.ndarray, prior: StepPrior) -> float:
    """The blurred step with whole weights, as one multivariate t density of the image."""
    x = np.stack([np.ones_like(h), h], axis=1)
    scale = np.eye(len(y)) + (x / np.asarray(prior.precision)) @ x.T
    a, b = float(prior.shape), float(prior.rate)
    t = stats.multivariate_t(x @ np.asarray(prior.mean), b / a * scale, df=2 * a)
    return float(t.logpdf(y))


def _side_gaussian(y: np.ndarray, w: np.ndarray, hyper: np.ndarray) -> float:
    """A regression on the constant alone."""
    mean, precision, shape, rate = hyper
    scales = np.asarray(shape), np.asarray(rate)
    prior = StepPrior(np.array([mean, 0.0]), np.array([precision, 1.0]), *scales)
    return linear_regression(y, np.stack([np.ones_like(y), 0 * y], axis=1), w, prior)


def _side_bernoulli(y: np.ndarray, w: np.ndarray, hyper: np.ndarray) -> float:
    a, b = hyper[:2]
    ones, zeros = (w * y).sum(), (w * (1 - y)).sum()
    prior = special.gammaln([a + b, a, b]) @ [1, -1, -1]
    post = special.gammaln([a + b + ones + zeros, a + ones, b + zeros]) @ [1, -1, -1]
    return float(prior - post)


def _side_poisson(y: np.ndarray, w: np.ndarray, hyper: np.ndarray) -> float:
    """Prior times likelihood over posterior, at one rate (candidate's formula)."""
    a, b = hyper[:2]
    rate = 0.7
    here = stats.gamma.logpdf(rate, a, scale=1 / b) + (w * (y * np.log(rate) - rate)).sum()
    return float(here - stats.gamma.logpdf(rate, a + (w * y).sum(), scale=1 / (b + w.sum())))


SIDES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "gaussian": _side_gaussian,
    "bernoulli": _side_bernoulli,
    "poisson": _side_poisson,
}


def hard(
    shared: Shares,
    y: np.ndarray,
    radii: np.ndarray,
    family: str,
    hyper: tuple[float, ...],
    eta: float = 1.0,
) -> float:
    inside = shared.position < radii[shared.site]
    value, weight = y[shared.voxel], eta * shared.share
    side = SIDES[family]
    return sum(side(value[on], weight[on], np.asarray(hyper)) for on in (inside, ~inside))
