"""Is the posterior of offsets from a reference about the boundary that is there?"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.offset import offset_chart
from tests.helpers import circle, horseshoe_curve, horseshoe_depth

PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (96, 96), "px")
DEPTH = horseshoe_depth(PLANE.points())
# A rough outline: up to two pixels too wide in some places and too narrow in others.
ROUGH = DEPTH + 1.5 * np.sin(np.arange(96) / 7.0)[:, None] > 0.3
FIT = {"draws": 400, "fallback": False}


def image_of(seed: int, noise: float = 0.6) -> aj.Image:
    from scipy.ndimage import gaussian_filter

    inside = gaussian_filter(np.clip(DEPTH + 0.5, 0.0, 1.0), 1.5)
    texture = noise * np.random.default_rng(seed).standard_normal(DEPTH.shape)
    return aj.Image.from_arrays(A=1.0 + 3.0 * inside + texture)


@pytest.fixture(scope="module")
def posterior() -> aj.Posterior:
    target = aj.offset_target(ROUGH, PLANE, "horseshoe")
    evidence = aj.intensity(image_of(0), blur=1.5, temper=1.0)
    return aj.fit(aj.boundary_model(target, evidence), **FIT)


@pytest.fixture(scope="module")
def truth() -> Curve:
    return horseshoe_curve()


def test_a_target_answers_what_a_model_asks():
    target = aj.offset_target(ROUGH, PLANE)
    assert isinstance(target, AnyTarget)
    assert isinstance(aj.Target(np.zeros(2), 1.0, PLANE), AnyTarget)
    assert target.content == pytest.approx(ROUGH.sum(), rel=0.01)
    disc = aj.offset_target(replace(circle(20.0), unit="px"), PLANE)
    assert disc.radius == pytest.approx(20.0, rel=1e-4)
    assert (disc.harmonics, target.harmonics) == (16, 32)


def test_the_posterior_covers_a_horseshoe(posterior, truth):
    assert posterior.diagnostics.converged, posterior.diagnostics
    band = aj.simultaneous_band(posterior)
    assert band.holds(truth)
    assert band.half_width.mean() < 1.0
    assert aj.grade(posterior, tolerance_px=2.0).case == "green"
    area = aj.area_posterior(posterior)
    assert area.quantile(0.005) < truth.area < area.quantile(0.995)
    found = aj.probability_map(posterior) > 0.5
    assert 2 * (found & (DEPTH > 0)).sum() / (found.sum() + (DEPTH > 0).sum()) > 0.97
    # controls: neither a shifted truth nor a band of .3 is held
    assert not band.holds(Curve(truth.points + np.array([1.5, 0.0]), "px"))
    narrow = replace(band, lower=band.centre - 0.3 * (band.centre - band.lower),
                     upper=band.centre + 0.3 * (band.upper - band.centre))  # fmt: skip
    assert not narrow.holds(truth)


def test_the_prior_is_told_in_shares_of_the_size(posterior):
    prior, size = posterior.model.data.prior, posterior.model.target.radius
    assert prior.amplitude == pytest.approx(0.15 * size)
    assert prior.mean_log_sd == pytest.approx(0.3 * size)
    np.testing.assert_array_equal(posterior.model.data.mean, 0.0)
    held = replace(prior, fixed=("amplitude", "lengthscale"), room=None)
    data = replace(posterior.model.data, prior=held)
    drawn = aj.prior_draws(replace(posterior.model, data=data), 4000)
    mean = drawn.draws.mean(axis=1)
    assert mean.std() == pytest.approx(0.3 * size, rel=0.06)
    assert (drawn.draws - mean[:, None]).std() == pytest.approx(0.15 * size, rel=0.03)


def test_it_is_kept_and_shown_to_arviz(posterior, tmp_path):
    (again,) = aj.load_posterior(aj.save_posterior(tmp_path / "offsets.nc", posterior))
    assert np.array_equal(again.radii, posterior.radii)
    for one, other in zip(
        jax.tree.leaves(again.chart), jax.tree.leaves(posterior.chart), strict=True
    ):
        assert np.array_equal(one, other)
        assert type(one) is type(other)
    assert again.to_arviz().posterior.sizes["ray"] == posterior.chart.sites
    band = aj.simultaneous_band(again)
    np.testing.assert_array_equal(band.upper, aj.simultaneous_band(posterior).upper)


def test_an_estimate_is_the_reference_of_the_next(posterior, truth):
    target = aj.offset_target(posterior, PLANE)
    chart = target.chart(8.0)
    assert np.abs(chart.values_of(truth)).mean() < 0.5
    later = aj.model_from_draws(replace(posterior, model=None))
    assert later.chart is posterior.chart
    assert later.target.link == "identity"


# -------------------------------------------------------------------------------- identities


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


MOVES: dict[str, tuple[Any, float]] = {
    "rotation": (lambda points: turned(points - 40.0, 0.83) + 40.0, 1.0),
    "translation": (lambda points: points + np.array([13.7, -4.2]), 1.0),
    "unit": (lambda points: 2.5 * points, 2.5),
    "flip": (lambda points: points * [-1.0, 1.0], 1.0),
}


def moved_model(move: Any, scale: float) -> aj.boundary_model:
    """The model of scattered intensities about the rough outline, all of it moved."""
    image, reference = image_of(1), aj.offset_target(ROUGH, PLANE).outline
    points = PLANE.points().reshape(-1, 2)
    depth = np.abs(DEPTH.ravel()) < 6
    evidence = aj.point_intensity(
        move(points[depth]), image.primary.values.ravel()[depth], family="blurred", blur=1.5 * scale
    )
    plane = replace(PLANE, spacing=np.full(2, scale))
    curve = Curve(move(reference.points), "px")
    if not curve.is_ccw:  # the first point stays the first, so that sites are mirrored sites
        curve = Curve(np.roll(curve.points[::-1], 1, axis=0), "px")
    target = aj.offset_target(curve, plane)
    return aj.boundary_model(target, evidence)


@pytest.fixture(scope="module")
def unmoved():
    model = moved_model(lambda points: points, 1.0)
    return model, aj.fit(model, **FIT)


@pytest.mark.parametrize("name", ["rotation", "translation", "unit"])
def test_moving_everything_moves_the_fit(unmoved, name):
    """The same draws, from the same seed, moved with their chart."""
    move, scale = MOVES[name]
    fitted = aj.fit(moved_model(move, scale), **FIT)
    draws = unmoved[1].draws
    np.testing.assert_allclose(fitted.draws, scale * draws, atol=1e-4 * scale)
    points = fitted.chart.points(fitted.estimate)
    np.testing.assert_allclose(
        points, move(unmoved[1].chart.points(unmoved[1].estimate)), atol=1e-3 * scale
    )
    assert not np.allclose(points, unmoved[1].chart.points(unmoved[1].estimate), atol=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_image_has_the_mirrored_likelihood(unmoved, seed):
    """Sites run the other way round: values at mirrored sites have the same log-likelihood."""
    model, mirrored = unmoved[0], moved_model(*MOVES["flip"])
    at = -np.arange(model.chart.sites)
    np.testing.assert_allclose(
        mirrored.chart.reference, model.chart.reference[at] * [-1.0, 1.0], atol=1e-9
    )
    assert model.chart.limits is not None
    assert mirrored.chart.limits is not None
    np.testing.assert_allclose(mirrored.chart.limits, model.chart.limits[at], atol=1e-9)
    waves = np.random.default_rng(seed).standard_normal(13)
    shift = np.asarray(model.chart.basis(6).functions @ waves * 0.3)
    low, high = model.chart.ends
    assert ((shift > low) & (shift < high)).all()
    with jax.enable_x64(True):
        here = float(aj.log_likelihood(model.data.terms, shift))
        there = float(aj.log_likelihood(mirrored.data.terms, shift[at]))
        elsewhere = float(aj.log_likelihood(mirrored.data.terms, shift))
    assert here == pytest.approx(there, abs=1e-3)
    assert abs(here - elsewhere) > 5


# --------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (np.zeros((96, 96), bool), "0 pixels"),
        (np.pad(np.ones((2, 2), bool), 47), "needs 6"),
        (ROUGH.astype(float), "must be boolean"),
        (ROUGH[:40], "does not match"),
        ("a file", "got a str"),
        (Curve(np.stack([np.arange(20.0), np.sin(np.arange(20.0))], axis=1), "px"), "is open"),
        (Curve(np.array([[0.0, 0], [40, 40], [40, 0], [0, 40]]), "px"), "crosses itself"),
        (replace(circle(0.9), unit="px"), "too small or too narrow"),
        (circle(20.0), "one unit"),
    ],
)
def test_what_is_no_reference_is_refused(reference, words):
    with pytest.raises(aj.InputError, match=words):
        aj.offset_target(reference, PLANE)


def test_a_learned_prior_is_refused_and_a_reach_says_where_it_ended(posterior):
    from aistat_jax.boundary.prior import LearnedPrior

    learned = LearnedPrior(np.zeros(33), np.eye(33), np.full(1, 5.0), (("size", 33),), 2.0)
    with pytest.raises(aj.InputError, match="log radius"):
        aj.boundary_model(posterior.model.target, prior=learned)
    from aistat_jax.inference.diagnostics import chart_reasons

    chart = posterior.chart
    assert chart_reasons(posterior.radii, chart) == []
    (reason,) = chart_reasons(np.full_like(posterior.radii, chart.reach[0]), chart)
    assert "from the reference" in reason


def test_another_chart_may_be_given(posterior):
    chart = offset_chart(posterior.model.target.outline, 4.0, PLANE, 128)
    model = aj.boundary_model(posterior.model.target, chart=chart, harmonics=16)
    assert model.chart is chart
    assert model.data.basis.functions.shape == (128, 33)
