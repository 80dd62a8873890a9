"""Is the likelihood of an edge that of the Student-t it claims to be, bent as it was told?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, multivariate_t

from aistat_jax.nets.edge_law import (
    FOURIER,
    RAYS,
    SCALE,
    Edge,
    covariance,
    log_marginal,
    margin_of,
    median,
    spread,
    within,
)
from aistat_jax.nets.recalibration import Errors, errors_of, recalibrated
from aistat_jax.space.margin import Margin

BENT = Margin(0.1, 0.6, -0.2, 0.75)
SCALED = np.array([1.4, 0.7, 1 / 0.98])


def some_edge(targets: int = 3) -> Edge:
    rng = np.random.default_rng(0)
    return Edge(
        0.1 * rng.standard_normal((targets, RAYS)),
        0.02 + 0.1 * rng.random((targets, RAYS)),
        np.geomspace(0.03, 0.3, targets)[:, None] * (0.5 + rng.random((targets, RAYS))),
        np.geomspace(0.3, 0.03, targets),
        np.array(0.45),
        np.array([2.5, 4.5, 8.0]),
        np.zeros(targets),
    )


def drawn_of(edge: Edge, count: int, seed: int) -> np.ndarray:
    """Log radii (*batch, count, ray) of targets, drawn from their law by numpy."""
    rng = np.random.default_rng(seed)
    factor, shape = FOURIER @ np.asarray(spread(edge)), (*np.shape(edge.mean)[:-1], count)
    half = 0.5 * np.asarray(edge.degrees)
    inflation = 1 / rng.gamma(half, 1 / half, (*shape, 3))
    z = np.sqrt(inflation[..., SCALE]) * rng.standard_normal((*shape, RAYS))
    sd = np.linalg.norm(factor, axis=-1)[..., None, :]
    bent = np.asarray(edge.margin.bend(z @ np.swapaxes(factor, -1, -2) / sd))
    return np.asarray(edge.mean)[..., None, :] + sd * bent


def log_density(edge: Edge, y: np.ndarray) -> float:
    """Of one target by scipy: size, then form given size, then detail given both."""
    with jax.enable_x64(True):
        whole = FOURIER.T @ np.asarray(covariance(edge)) @ FOURIER
    error, total = FOURIER.T @ (y - np.asarray(edge.mean)), 0.0
    for g, degrees in enumerate(np.asarray(edge.degrees)):
        seen, new = g > SCALE, g == SCALE
        gain = whole[np.ix_(new, seen)] @ np.linalg.inv(whole[np.ix_(seen, seen)])
        spread = whole[np.ix_(new, new)] - gain @ whole[np.ix_(seen, new)]
        total += multivariate_t.logpdf(error[new], gain @ error[seen], spread, df=degrees)
    return total


def test_the_marginal_likelihood_is_that_of_three_student_t():
    """Through one triangular factor against scipy's densities, conditioned one on another."""
    edge = some_edge()._replace(scale=SCALED)
    y = edge.mean + 0.1 * np.random.default_rng(1).standard_normal(edge.mean.shape)
    wanted = [log_density(edge.at(n), y[n]) for n in range(3)]
    with jax.enable_x64(True):
        found = np.asarray(log_marginal(edge, y))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(
        np.asarray(log_marginal(jax.tree.map(jnp.float32, edge), jnp.float32(y))), wanted, atol=1e-2
    )
    # several readers of one target, with the slope that training needs
    one = jax.tree.map(jnp.float32, edge.at(np.s_[:1]))
    readers = jnp.float32(np.stack([y[0], y[1]])[None])
    total, slope = jax.value_and_grad(lambda e: log_marginal(e.at(np.s_[:, None]), readers).sum())(
        one
    )
    again = sum(float(log_marginal(one, readers[:, r])[0]) for r in range(2))
    assert float(total) == pytest.approx(again, rel=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    # with ever more degrees of freedom, a Gaussian
    with jax.enable_x64(True):
        gaussian = np.asarray(log_marginal(edge._replace(degrees=np.full(3, 1e7)), y))
        normal = multivariate_normal.logpdf(y[0], edge.mean[0], np.asarray(covariance(edge)[0]))
        other = np.asarray(log_marginal(edge._replace(noise=1.1 * edge.noise), y))
    assert gaussian[0] == pytest.approx(normal, abs=1e-2)
    # negative control: other noise, other density
    assert np.abs(other - wanted).min() > 0.1


@pytest.mark.parametrize("margin", [Margin(), BENT])
def test_intervals_hold_their_share_of_what_the_law_draws(margin):
    """Per ray, over 1,500 draws of the law; those of another law would not."""
    edge = some_edge()._replace(margin=margin)
    y, one = drawn_of(edge.at(0), 1500, seed=3), edge.at(np.s_[:1])
    for level in (0.5, 0.8, 0.95):
        held = within(one, y, level).mean(axis=1)
        error = held.std() / np.sqrt(1500)
        assert abs(held.mean() - level) < 4 * error + 1e-3  # false alarm 6e-5 each
    below = (y < median(one)).mean(axis=1)
    assert abs(below.mean() - 0.5) < 4 * below.std() / np.sqrt(1500)
    leaning = one._replace(margin=Margin(location=0.5))
    assert (y < median(leaning)).mean() > 0.6  # negative control
    gaussian = one._replace(degrees=np.full(3, 1e7))
    assert within(gaussian, y, 0.95).mean() < 0.925
    other = one._replace(margin=BENT if margin is not BENT else Margin())
    assert abs(within(other, y, 0.5).mean() - 0.5) > 0.03


def test_the_likelihood_of_a_bent_law_is_a_density():
    """The straight density times the slopes; and draws of a law are likelier under it."""
    edge = some_edge().at(np.s_[:1])
    bent = edge._replace(margin=BENT)
    with jax.enable_x64(True):
        y = drawn_of(bent.at(0), 5, seed=1)
        sd = np.sqrt(np.diagonal(np.asarray(covariance(edge)[0])))
        straight, log_slope = BENT.straighten((y - edge.mean) / sd)
        wanted = log_marginal(edge, edge.mean + sd * straight) + np.sum(log_slope, axis=-1)
        np.testing.assert_allclose(log_marginal(bent, y), wanted, rtol=1e-9)
        y = drawn_of(bent.at(0), 500, seed=2)
        gain = np.asarray(log_marginal(bent, y) - log_marginal(edge, y))
    assert gain.mean() > 5 * gain.std() / np.sqrt(500)


def bent_targets(margin: Margin, **common: np.ndarray) -> tuple[Edge, np.ndarray]:
    """600 targets, however spread, and an edge of each that was drawn with this margin and with
    these scales and degrees of freedom."""
    rng = np.random.default_rng(5)
    targets = some_edge(600)._replace(
        amplitude=0.05 + 0.1 * rng.random((600, RAYS)), mean_sd=np.full(600, 0.05)
    )
    return targets, drawn_of(targets._replace(margin=margin, **common), 1, seed=1)[:, 0]


def errors_in_folds(targets: Edge, y: np.ndarray) -> Errors:
    n = len(y)
    return errors_of(targets, y, np.arange(n).astype(str), 0)._replace(fold=np.arange(n) % 4)


def held_whole(targets: Edge, y: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Which edges are nowhere further off than so many of 400 that their law draws."""
    middle, sd = median(targets), np.sqrt(np.diagonal(covariance(targets), axis1=-2, axis2=-1))
    drawn = np.abs(drawn_of(targets, 400, seed=2) - middle[:, None]) / sd[:, None]
    far = np.max(np.abs(y - middle) / sd, axis=-1)
    return far <= np.quantile(drawn.max(axis=-1), level, axis=-1)


def test_a_margin_and_what_is_common_are_found_again():
    numbers = np.array([BENT.location, np.log(BENT.scale), BENT.skew, np.log(BENT.tail)])
    common = {"scale": SCALED, "degrees": np.array([4.0, 12.0, 30.0])}
    targets, y = bent_targets(BENT, **common)
    found = recalibrated(errors_in_folds(targets, y))
    assert found is not None
    assert np.abs(found.margin - numbers).max() < 0.2
    assert np.abs(np.log(found.scale / SCALED)).max() < 0.15
    assert np.abs(np.log(found.degrees / common["degrees"])).max() < 0.6
    bent = targets._replace(
        margin=margin_of(found.margin), scale=found.scale, degrees=found.degrees
    )
    for level in (0.5, 0.8, 0.95):
        held = within(bent, y, level).mean(axis=1)
        assert abs(held.mean() - level) < 4 * held.std() / np.sqrt(600)
    more = within(targets, y, 0.5).mean() - within(bent, y, 0.5).mean()
    assert more > 0.05  # negative control
    assert abs(held_whole(bent, y).mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 600)
    # negative control: with the margin alone, and the degrees that were said, too much is held
    alone = targets._replace(margin=margin_of(found.margin))
    assert held_whole(alone, y).mean() > 0.985


def test_no_margin_is_made_up():
    """Where there is none, and where few patients have errors that each has its own way."""
    targets, y = bent_targets(Margin())
    straight = errors_in_folds(targets, y)
    found = recalibrated(straight)
    if found is not None:  # hardly any
        assert np.abs(found.margin).max() < 0.15
        assert np.abs(np.log(found.scale)).max() < 0.1
    few = straight.at(np.s_[:8])
    assert recalibrated(few) is None
    rng = np.random.default_rng(1)
    own = np.linspace(-1.5, 1.5, 8)[rng.permutation(8), None]
    noise = 0.3 * rng.standard_normal((8, RAYS))
    assert recalibrated(few._replace(error=own + noise)) is None
    # negative control: where they say one thing it is believed, unless they are fewer than five
    same = few._replace(error=0.7 + noise)
    said = recalibrated(same)
    assert said is not None
    assert np.abs(said.margin).max() > 0.3
    assert recalibrated(same.at(np.s_[:4])) is None


def test_errors_with_light_tails_have_a_margin_that_is_finite():
    """Uniform ones would take scale and tail to infinity; what comes back stays in its bounds."""
    rng = np.random.default_rng(2)
    targets, y = bent_targets(Margin())
    uniform = errors_in_folds(targets, y)._replace(error=rng.uniform(-1, 1, (600, RAYS)))
    found = recalibrated(uniform.at(np.s_[:200]))
    assert found is not None
    assert 0.5 < np.abs(found.margin).max() <= 1
    standard, log_slope = margin_of(found.margin).straighten(np.array([0.0, 30.0, 1e3], np.float32))
    assert np.isfinite(standard).all()
    assert np.isfinite(log_slope).all()


def test_the_covariance_holds_the_variances_it_was_given():
    edge = some_edge()
    matrix = covariance(edge)
    total = np.square(edge.amplitude) + np.square(edge.mean_sd)[:, None] + np.square(edge.noise)
    np.testing.assert_allclose(np.diagonal(matrix, axis1=1, axis2=2), total, rtol=1e-3)
    assert np.linalg.eigvalsh(matrix).min() > 0
