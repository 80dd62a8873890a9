"""Does what a network says enter the posterior as the law it is, and presence as a share?"""

from __future__ import annotations

from dataclasses import replace as with_
from functools import cache

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file
from scipy.stats import norm

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.networks import (
    Seen,
    network_logits,
    network_prior,
    prior_of,
    unlike_training,
)
from aistat_jax.boundary.targets import Targets
from aistat_jax.nets.contour_head import ContourHead
from aistat_jax.nets.domain import measured_for
from aistat_jax.nets.domain_fitting import fit_domain
from aistat_jax.nets.edge_law import FOURIER, RAYS, SCALE, Edge, covariance, spread
from aistat_jax.nets.edges import FeatureField, edge_and_look, edge_at, feature_field
from aistat_jax.nets.network import drawn
from aistat_jax.nets.weights import Net, load_net, save_net, untrained, weights_of
from aistat_jax.space.basis import circle_basis, equal_angles
from tests.boundary import brute
from tests.helpers import make_posterior
from tests.nets.cases import pet, tiny_plan


@cache
def a_net() -> Net:
    """A network and a head of random weights: what they say is nonsense, but definite; and bent."""
    net = untrained(tiny_plan())
    _, state = nnx.split(ContourHead(net.plan.architecture.widths[0] + 1))
    margin = np.array([0.1, -0.4, -0.2, -0.25], np.float32)
    return with_(net, head=weights_of(drawn(state, 1)) | {"margin": margin})


@cache
def an_image() -> aj.Image:
    return pet(np.random.default_rng(0), (40, 40, 1))


@cache
def a_target() -> aj.Target:
    return aj.Target(np.array([40.0, 38.0]), 12.0, an_image().primary.grid.plane(0), "t")


def head_says() -> tuple[FeatureField, Edge]:
    field, target = feature_field(a_net(), an_image()), a_target()
    return field, edge_at(field, target.plane, target.centre, target.radius)


def drawn_from(edge: Edge, count: int) -> np.ndarray:
    """Log radii relative to the rough one that the head's law draws, as far as harmonic 16."""
    rng = np.random.default_rng(4)
    half = 0.5 * np.asarray(edge.degrees)
    inflation = 1 / rng.gamma(half, 1 / half, (count, 3))
    z = np.sqrt(inflation[:, SCALE]) * rng.standard_normal((count, RAYS))
    with jax.enable_x64(True):
        factor = FOURIER[:, :33] @ np.asarray(spread(edge))[:33, :33]
    sd = np.linalg.norm(factor, axis=1)
    bent = np.asarray(edge.margin.bend(z[:, :33] @ factor.T / sd))
    return FOURIER[:, :33] @ (edge.mean @ FOURIER)[:33] + sd * bent


@pytest.mark.parametrize("rays", [64, 128])
def test_the_prior_is_the_law_of_the_head_as_far_as_its_harmonics(rays):
    """Mean and covariance on the chart's rays, against the head's law smoothed directly."""
    field, edge = head_says()
    prior, place = network_prior(a_net(), field, a_target()), a_target()
    _, about, basis = prior.on(place, brute.a_chart(rays), None)
    mean = about - np.log(place.radius)
    every = rays // RAYS
    smooth = np.asarray(circle_basis(equal_angles(RAYS), 16).functions)
    smooth = smooth @ smooth.T / RAYS
    functions = np.asarray(basis.functions)[::every]
    with jax.enable_x64(True):
        whole = np.asarray(covariance(edge))
    np.testing.assert_allclose(mean[::every], smooth @ edge.mean, atol=1e-9)
    np.testing.assert_allclose(
        functions @ functions.T, smooth @ whole @ smooth.T, rtol=1e-5, atol=1e-8
    )
    # negative control: without the smoothing the noise from ray to ray would be in it
    assert np.abs(functions @ functions.T - whole).max() > 1e-4


def test_a_posterior_without_evidence_is_the_law_itself():
    """Quantiles at every eighth ray against draws of the law made with numpy alone."""
    field, edge = head_says()
    prior = network_prior(a_net(), field, a_target())
    model = aj.boundary_model(a_target(), prior=prior, rays=64, presence=0.6)
    posterior = aj.fit(model, draws=4000)
    assert posterior.method == "prior"
    assert posterior.diagnostics.converged
    assert (posterior.presence, posterior.log_evidence) == (0.6, 0.0)
    found, wanted = np.log(posterior.draws / 12.0)[:, ::8], drawn_from(edge, 100_000)[:, ::8]
    for level in (0.025, 0.25, 0.5, 0.75, 0.975):
        share = (found < np.quantile(wanted, level, axis=0)).mean(axis=0)
        error = np.sqrt(level * (1 - level) / posterior.diagnostics.ess_min)
        assert np.abs(share - level).max() < 4.5 * error  # 40 looks: false alarm 3e-4
    far, wanted_far = (np.abs(y - np.median(wanted, axis=0)).max(axis=1) for y in (found, wanted))
    share = (far < np.quantile(wanted_far, 0.95)).mean()  # what bands of whole boundaries ask for
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)
    several = aj.fit_many([model, model], draws=100)
    assert [one.method for one in several] == ["prior", "prior"]
    assert np.abs(several[0].draws - several[1].draws).min() > 0
    # negative control: a Gaussian with that covariance would have fewer far out
    z = (found - found.mean(axis=0)) / wanted.std(axis=0)
    assert (np.abs(z) > 4).mean() > 3 * 2 * norm.sf(4)


def test_a_boundary_has_its_coefficients_under_a_bent_law():
    """Where a fit begins: from an outline that the law can make, the coefficients that make it."""
    prior = network_prior(a_net(), an_image(), a_target())
    data = aj.boundary_model(a_target(), prior=prior, rays=64).data
    with jax.enable_x64(True):
        coefficients = np.random.default_rng(2).standard_normal(33)
        radii = np.exp(data.predictor(coefficients))
        np.testing.assert_allclose(data.coefficients(radii), coefficients, atol=1e-8)
        straight = data.mean + data.basis.functions @ coefficients
    assert np.abs(np.log(radii) - straight).max() > 0.01  # negative control: it is bent


def test_clicks_move_a_learned_prior_as_the_law_says():
    """Two clicks on rays: the posterior mean against draws of the law, weighted by hand."""
    field, edge = head_says()
    target, prior = a_target(), network_prior(a_net(), field, a_target())
    law = 12.0 * np.exp(drawn_from(edge, 400_000))
    at, sd = [0, 21], 1.0
    radii = np.quantile(law[:, at], 0.9, axis=0)
    angles = equal_angles(RAYS)[at]
    points = target.centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    clicked = aj.boundary_model(target, aj.anchors(points, sd=sd), prior=prior, rays=RAYS)
    posterior = aj.fit(clicked, draws=4000)
    weight = np.exp(-0.5 * np.square((law[:, at] - radii) / sd).sum(axis=1))
    weight /= weight.sum()
    wanted = weight @ np.log(law)
    found = np.log(posterior.draws)
    counts = posterior.diagnostics.ess_min, 1 / np.square(weight).sum()
    error = found.std(axis=0) * np.sqrt(sum(1 / count for count in counts))
    assert np.abs(found.mean(axis=0) - wanted).max() < 5 * error.max()
    # negative control: the clicks did move it
    assert np.abs(np.log(law).mean(axis=0) - wanted).max() > 10 * error.max()


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
        aj.boundary_model(
            a_target(), prior=network_prior(a_net(), an_image(), a_target()), presence=0
        )


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
    # a head from before there were margins is one without a bend
    file = tmp_path / "net" / "head.safetensors"
    save_file({name: w for name, w in a_net().head.items() if name != "margin"}, file)
    np.testing.assert_array_equal((load_net(tmp_path / "net").head or {})["margin"], 0)
    assert np.abs(a_net().head["margin"]).max() > 0
    bare = with_(a_net(), head=None)
    with pytest.raises(InputError, match="no contour head"):
        network_prior(bare, an_image(), a_target())
    with pytest.raises(InputError, match="3D"):
        feature_field(untrained(tiny_plan(dims=3)), an_image())


def test_what_a_network_was_not_trained_on_is_a_doubt_of_the_target():
    """And of a network whose training is not known, nothing is said."""
    field, target = feature_field(a_net(), an_image()), a_target()
    edge, seen = edge_and_look(field, target.plane, target.centre, target.radius)
    images = [
        (f"p{n}", measured_for(a_net().plan, pet(np.random.default_rng(n)))) for n in range(9)
    ]
    near = [(f"p{n}", seen + 0.1 * np.sin(np.arange(len(seen)) + n)) for n in range(9)]
    far = [(patient, look + 100.0) for patient, look in near]

    def doubts(edges: list[tuple[str, np.ndarray]], image: aj.Image) -> tuple[str, ...]:
        net = with_(a_net(), domain=fit_domain("tiny", images, edges, units={"PT": "SUV"}))
        about = Seen(Targets((target,)), net, field, unlike_training(net, image))
        model = about.by_network(target)
        assert len(about.departures(target)) == len(model.target.doubts)
        assert about.by_image(target, aj.intensity(image)).target.doubts == model.target.doubts
        return model.target.doubts

    assert doubts(near, an_image()) == ()
    (said,) = doubts(far, an_image())
    assert "what its features show about this edge" in said
    coarse = aj.Image.from_arrays(PT=an_image()["PT"].values, spacing_mm=(3.0, 3.0, 2.0))
    (said,) = doubts(near, coarse)
    assert said.startswith("outside of what the network tiny was trained on: pixels of 3 mm")
    assert Seen(Targets((target,)), a_net(), field).by_network(target).target.doubts == ()
    assert unlike_training(a_net(), coarse) == ()
    posterior = aj.fit(boundary_model(replace(target, doubts=(said,)), prior=prior_of(edge)))
    grade = aj.grade(posterior, tolerance_mm=50.0)
    assert grade.case == "red"
    assert "Outside of what the network tiny" in grade.reasons[0]
