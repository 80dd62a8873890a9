"""Does the head know no direction, and what does it learn of edges, noise, margins and presence?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.nets import head_training
from aistat_jax.nets.contour_head import POSITIONS, ContourHead, factor
from aistat_jax.nets.edge_law import RAYS, median, within
from aistat_jax.nets.head_training import HeadSettings, Unrolled, head_loss, train_head
from aistat_jax.nets.network import drawn
from aistat_jax.nets.recalibration import Errors, Recalibration
from aistat_jax.nets.weights import untrained
from tests.nets.cases import tiny_plan

FEATURES = tiny_plan().architecture.widths[0] + 1


def test_a_spread_has_bounds_from_which_a_slope_leads_back():
    logs = jnp.float32([-6.0, -6.0, 0.5, 9.0, 9.0])
    factors = np.asarray(factor(logs))
    np.testing.assert_allclose(factors, np.exp([-4.0, -4.0, 0.5, 2.0, 2.0]), rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(factor(x) * jnp.float32([1, -1, 1, 1, -1])))(logs)
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
                np.array(present, np.float32), np.array(0.0, np.float32),
            )
        )  # fmt: skip
    return found


@pytest.mark.slow
def test_a_head_learns_an_edge_its_noise_and_presence():
    """On fresh targets: the edge to a third of what it was, 80% intervals, and who is there."""
    net = untrained(tiny_plan())
    settings = HeadSettings(steps=400, batch=16, learning_rate=5e-3, folds=2)
    targets = {str(n): [target] for n, target in enumerate(edges_to_learn(300, 0))}
    trained = train_head(net, targets, settings)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *edges_to_learn(200, 1))
    head = nnx.merge(trained.head_graph, trained.head_state())
    edge = head(jnp.asarray(batch.features, jnp.float32), jnp.asarray(batch.log_radius))
    there, y = np.asarray(batch.presence) > 0, np.asarray(batch.edges)[:, 0]
    error = (y - median(edge))[there]
    assert np.sqrt(np.mean(error**2)) < 0.08  # the reader's own error is 0.05, the edges' sd 0.23
    for level in (0.5, 0.8):  # 141 targets: a Monte-Carlo error of at most .03
        assert abs(within(edge, y, level)[there].mean() - level) < 0.08
    assert np.mean((np.asarray(edge.presence) > 0) == there) > 0.97
    # negative control: edges that are off by a tenth more are held less
    assert within(edge, y + 0.1, 0.8)[there].mean() < 0.6
    blank = nnx.merge(*nnx.split(random_head(FEATURES)))
    assert float(head_loss(blank, batch)) > float(head_loss(head, batch)) + 0.5


def test_a_head_needs_two_patients_and_folds_or_none():
    targets = {"one": edges_to_learn(5, 0)}
    with pytest.raises(InputError, match="2 patients"):
        train_head(untrained(tiny_plan()), targets)
    with pytest.raises(InputError, match="folds"):
        train_head(untrained(tiny_plan()), targets, HeadSettings(folds=1))


def test_a_margin_is_fitted_to_patients_that_a_head_has_not_learned_from(monkeypatch):
    """Each patient with an edge is left out once, of the pool of the head that is held against it;
    who has none is in every pool, and nothing that went astray counts."""
    targets = {str(n): edges_to_learn(3, n) for n in range(7)}
    targets["nobody drew"] = [replace(t, drew=0 * t.drew) for t in edges_to_learn(2, 9)]
    targets["0"][1] = replace(targets["0"][1], astray=np.array(1.0, np.float32))
    whose = {id(t): name for name, found in targets.items() for t in found}
    pools, judged = [], []

    def learned(net, pool, settings, progress):
        pools.append({whose[id(t)] for t in pool})
        return {"pool": np.array([len(pools) - 1.0], np.float32)}

    def errors(net, held, fold):
        judged.append((int(net.head["pool"][0]), {name for name, _ in held}))
        assert all(whose[id(t)] == name for name, t in held)
        yield Errors(*(np.zeros(1) for _ in Errors._fields))

    monkeypatch.setattr(head_training, "_learned", learned)
    monkeypatch.setattr(head_training, "_errors", errors)
    monkeypatch.setattr(
        head_training, "recalibrated",
        lambda found: Recalibration(np.full(4, len(found.error)), np.full(3, 2.0), np.full(3, 5.0)),
    )  # fmt: skip
    trained = train_head(untrained(tiny_plan()), targets, HeadSettings(folds=3))
    assert pools[0] == set(targets)
    assert [pool for pool, _ in judged] == [1, 2, 3]
    for pool, left_out in judged:
        assert pools[pool] == set(targets) - left_out
    left = sorted(name for _, found in judged for name in found)
    assert left == sorted(
        name for name, found in targets.items() if any(t.drew.any() for t in found)
    )
    assert trained.head is not None
    np.testing.assert_array_equal(trained.head["pool"], 0)
    np.testing.assert_array_equal(trained.head["margin"], 3)
    np.testing.assert_allclose(trained.head["log_scale"], np.log(2.0))
    np.testing.assert_allclose(trained.head["log_degrees"], np.log(5.0))
    plain = train_head(untrained(tiny_plan()), targets, HeadSettings(folds=0))
    assert list(plain.head or {}) == ["pool"]
    assert len(pools) == 5
