"""Is the head's likelihood the Student-t it claims to be, and does the head know no direction?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import multivariate_normal, multivariate_t

from aistat_jax.nets.contour_head import (
    FOURIER,
    POSITIONS,
    RAYS,
    SCALE,
    ContourHead,
    Edge,
    _factor,
    covariance,
    log_marginal,
    spread,
    within,
)
from aistat_jax.nets.head_training import HeadSettings, Unrolled, head_loss, train_head
from aistat_jax.nets.unet import drawn
from aistat_jax.nets.weights import untrained
from tests.nets.cases import tiny_plan

FEATURES = tiny_plan().architecture.widths[0] + 1


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
    edge = some_edge()
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
    assert all(np.isfinite(leaf).all() for leaf in slope)
    # with ever more degrees of freedom, a Gaussian
    with jax.enable_x64(True):
        gaussian = np.asarray(log_marginal(edge._replace(degrees=np.full(3, 1e7)), y))
        normal = multivariate_normal.logpdf(y[0], edge.mean[0], np.asarray(covariance(edge)[0]))
        other = np.asarray(log_marginal(edge._replace(noise=1.1 * edge.noise), y))
    assert gaussian[0] == pytest.approx(normal, abs=1e-2)
    # negative control: other noise, other density
    assert np.abs(other - wanted).min() > 0.1


def test_intervals_hold_their_share_of_what_the_law_draws():
    """Per ray, over 4,000 draws of the law; a Gaussian's intervals would not."""
    rng = np.random.default_rng(3)
    edge = some_edge().at(np.s_[:1])
    factor = FOURIER @ np.asarray(spread(edge)[0])
    half = 0.5 * edge.degrees
    inflation = 1 / rng.gamma(half, 1 / half, (4000, 3))
    z = np.sqrt(inflation[:, SCALE]) * rng.standard_normal((4000, RAYS))
    y = edge.mean + z @ factor.T
    for level in (0.5, 0.8, 0.95):
        held = within(edge, y, level).mean(axis=1)
        error = held.std() / np.sqrt(4000)
        assert abs(held.mean() - level) < 4 * error + 1e-3  # false alarm 6e-5 each
    gaussian = edge._replace(degrees=np.full(3, 1e7))
    assert within(gaussian, y, 0.95).mean() < 0.92


def test_the_covariance_holds_the_variances_it_was_given():
    edge = some_edge()
    matrix = covariance(edge)
    total = np.square(edge.amplitude) + np.square(edge.mean_sd)[:, None] + np.square(edge.noise)
    np.testing.assert_allclose(np.diagonal(matrix, axis1=1, axis2=2), total, rtol=1e-3)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_a_spread_has_bounds_from_which_a_slope_leads_back():
    logs = jnp.float32([-6.0, -6.0, 0.5, 9.0, 9.0])
    factors = np.asarray(_factor(logs))
    np.testing.assert_allclose(factors, np.exp([-4.0, -4.0, 0.5, 2.0, 2.0]), rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(_factor(x) * jnp.float32([1, -1, 1, 1, -1])))(logs)
    # Downhill from below is up (a negative slope), from above down; further out there is none.
    np.testing.assert_allclose(slope, factors * [0, -1, 1, 1, 0], rtol=1e-6)


def random_head(features: int) -> ContourHead:
    graph, state = nnx.split(ContourHead(features))
    return nnx.merge(graph, drawn(state, 0))


def test_turning_the_rays_turns_the_edge():
    """The circle has no first ray; reading along the radius is not turned (negative control)."""
    head = random_head(4)
    x = np.random.default_rng(0).standard_normal((2, RAYS, len(POSITIONS), 4)).astype(np.float32)
    size = jnp.full(2, 2.0)
    first, turned = head(jnp.asarray(x), size), head(jnp.roll(x, 11, axis=1), size)
    np.testing.assert_allclose(np.roll(first.mean, 11, axis=1), turned.mean, atol=1e-5)
    np.testing.assert_allclose(np.roll(first.noise, 11, axis=1), turned.noise, atol=1e-5)
    np.testing.assert_allclose(first.presence, turned.presence, atol=1e-5)
    shifted = head(jnp.roll(x, 3, axis=2), size)
    assert float(jnp.abs(shifted.mean - first.mean).max()) > 1e-3


def edges_to_learn(count: int, seed: int) -> list[Unrolled]:
    """Features that fall from 1 to 0 at a wavy edge, which a reader drew with 5% of error."""
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    found = []
    for _ in range(count):
        size, wave, phase = rng.normal(0, 0.2), rng.normal(0, 0.15), rng.uniform(0, 6)
        edge = size + wave * np.cos(2 * angles + phase)
        step = 1 / (1 + np.exp((POSITIONS - edge[:, None]) / 0.1))
        present = float(rng.random() < 0.7)
        features = present * step[..., None] + 0.05 * rng.standard_normal((*step.shape, 1))
        drawn_edge = edge + 0.05 * rng.standard_normal(RAYS)
        found.append(
            Unrolled(
                np.repeat(features, FEATURES, axis=-1).astype(np.float16),
                np.array(2.0, np.float32),
                np.array([drawn_edge * present], np.float32), np.array([present], np.float32),
                np.array(present, np.float32),
            )
        )  # fmt: skip
    return found


@pytest.mark.slow
def test_a_head_learns_an_edge_its_noise_and_presence():
    """On fresh targets: the edge to a third of what it was, 80% intervals, and who is there."""
    net = untrained(tiny_plan())
    settings = HeadSettings(steps=400, batch=16, learning_rate=5e-3)
    trained = train_head(net, edges_to_learn(300, 0), settings)
    fresh = edges_to_learn(200, 1)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *fresh)
    head = nnx.merge(trained.head_graph, trained.head_state())
    edge = head(jnp.asarray(batch.features, jnp.float32), jnp.asarray(batch.log_radius))
    there = np.asarray(batch.presence) > 0
    error = (np.asarray(batch.edges)[:, 0] - np.asarray(edge.mean))[there]
    sd = np.sqrt(np.diagonal(covariance(edge), axis1=1, axis2=2))[there]
    assert np.sqrt(np.mean(error**2)) < 0.08  # the reader's own error is 0.05, the edges' sd 0.23
    held = np.mean(within(edge, np.asarray(batch.edges)[:, 0], 0.8)[there])
    assert 0.72 < held < 0.88  # 141 targets: a Monte-Carlo error of at most .03
    assert np.mean((np.asarray(edge.presence) > 0) == there) > 0.97
    # negative control: an interval half as wide holds far less
    assert np.mean(np.abs(error) < 0.5 * 1.2816 * sd) < 0.6
    blank = nnx.merge(*nnx.split(random_head(FEATURES)))
    assert float(head_loss(blank, batch)) > float(head_loss(head, batch)) + 0.5
