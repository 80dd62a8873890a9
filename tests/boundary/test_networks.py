"""Does what a network says enter the posterior as the Gaussian it is, and presence as a share?"""

from __future__ import annotations

from dataclasses import replace as with_
from functools import cache

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.stats import multivariate_normal

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.charts import star_chart
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.networks import (
    WIDE_PRIOR,
    edges,
    network_logits,
    network_prior,
    presence,
)
from aistat_jax.nets.contour_head import RAYS, ContourHead, covariance
from aistat_jax.nets.edges import edge_at, feature_field
from aistat_jax.nets.unet import drawn
from aistat_jax.nets.weights import Net, load_net, save_net, untrained, weights_of
from tests.helpers import make_posterior
from tests.nets.cases import pet, tiny_plan


@cache
def a_net() -> Net:
    """A network and a head of random weights: what they say is nonsense, but definite."""
    net = untrained(tiny_plan())
    _, state = nnx.split(ContourHead(net.plan.architecture.widths[0] + 1))
    return with_(net, head=weights_of(drawn(state, 1)))


@cache
def an_image() -> aj.Image:
    return pet(np.random.default_rng(0), (40, 40, 1))


@cache
def a_target() -> aj.Target:
    return aj.Target(np.array([40.0, 38.0]), 12.0, an_image().primary.grid.plane(0), "t")


@pytest.mark.parametrize("rays", [64, 128])
def test_the_edge_term_is_the_density_of_what_the_head_reads(rays):
    """On charts with as many rays as the head, and with others between them."""
    target = a_target()
    chart = star_chart(target.centre, 30.0, target.plane, rays)
    field = feature_field(a_net(), an_image())
    (term,) = edges(a_net(), field).tabulate(target, chart)
    edge = edge_at(field, target.plane, target.centre, target.radius)
    rng = np.random.default_rng(2)
    for _ in range(3):
        radii = 12.0 * np.exp(0.1 * rng.standard_normal(rays))
        seen = np.log(radii[:: rays // RAYS] / 12.0)
        wanted = multivariate_normal.logpdf(edge.mean, seen, covariance(edge))
        with jax.enable_x64(True):
            assert float(log_likelihood((term,), radii)) == pytest.approx(wanted, rel=1e-9)
            wider = edges(a_net(), field, temper=0.5).tabulate(target, chart)
            assert float(log_likelihood(wider, radii)) != pytest.approx(wanted, rel=1e-3)


def test_a_posterior_follows_the_head_and_its_prior():
    target, field = a_target(), feature_field(a_net(), an_image())
    edge = edge_at(field, target.plane, target.centre, target.radius)
    read = 12.0 * np.exp(edge.mean)
    tight = replace(
        network_prior(a_net(), field, target, rays=64), mean_log_sd=1e-3, amplitude=1e-3
    )
    model = aj.boundary_model(target, edges(a_net(), field), prior=tight, rays=64, presence=0.6)
    posterior = aj.fit(model, draws=200)
    np.testing.assert_allclose(posterior.estimate, read, rtol=2e-2)
    assert posterior.presence == 0.6
    assert 0 < presence(a_net(), an_image(), target) < 1


def test_presence_makes_regions_empty_and_probabilities_smaller():
    posterior = make_posterior()
    there = aj.probability_map(posterior)
    rarely = replace(posterior, presence=0.25)
    np.testing.assert_allclose(aj.probability_map(rarely), 0.25 * there)
    masks = aj.sample_masks(rarely, 400, seed=1)
    share = masks.any(axis=(1, 2)).mean()
    assert abs(share - 0.25) < 3.5 * np.sqrt(0.25 * 0.75 / 400)  # false alarm 5e-4
    always = aj.sample_masks(posterior, 400, seed=1)
    assert always.any(axis=(1, 2)).all()
    np.testing.assert_allclose(always.mean(axis=0), there, atol=0.12)  # 5 sd of a share
    with pytest.raises(InputError, match="presence"):
        aj.boundary_model(a_target(), edges(a_net(), an_image()), presence=0.0)


def test_log_odds_of_a_network_are_evidence():
    image = network_logits(a_net(), an_image())
    assert image.names == ("lesion",)
    assert image.primary.values.shape == (40, 40, 1)
    model = aj.boundary_model(a_target(), aj.logits(image, temper=0.1), rays=64)
    with jax.enable_x64(True):
        assert np.isfinite(float(log_likelihood(model.data.terms, np.full(64, 12.0))))


def test_a_network_keeps_its_head_on_disk_and_one_without_is_refused(tmp_path):
    again = load_net(save_net(a_net(), tmp_path / "net"))
    assert again.head is not None
    assert a_net().head is not None
    for name, values in a_net().head.items():
        np.testing.assert_array_equal(again.head[name], values)
    bare = with_(a_net(), head=None)
    with pytest.raises(InputError, match="no contour head"):
        edges(bare, an_image())
    with pytest.raises(InputError, match="3D"):
        feature_field(untrained(tiny_plan(dims=3)), an_image())
    with pytest.raises(InputError, match="temper"):
        edges(a_net(), an_image(), temper=0)


def test_alone_the_edges_keep_their_shape():
    """Under the flat prior the estimate is what the head reads; a second prior flattens it."""
    target, field = a_target(), feature_field(a_net(), an_image())
    edge = edge_at(field, target.plane, target.centre, target.radius)
    evidence = edges(a_net(), field)
    wide = aj.fit(aj.boundary_model(target, evidence, prior=WIDE_PRIOR, rays=64), draws=400)
    tight = replace(WIDE_PRIOR, amplitude=0.01)
    narrow = aj.fit(aj.boundary_model(target, evidence, prior=tight, rays=64), draws=400)
    shape = edge.mean - edge.mean.mean()
    kept = [np.log(p.estimate) @ shape / (shape @ shape) for p in (wide, narrow)]
    assert kept[0] > 0.7  # the rest is finer than the harmonics in use
    assert kept[1] < 0.4
