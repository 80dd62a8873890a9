"""Is the posterior of a ring about the two boundaries that are there?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import ndtr

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.nested import nested_prior
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.ring import Ring
from aistat_jax.space.star import unit_vectors
from tests.boundary.brute import STEP_PRIOR, linear_regression

SIZE = 81
PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (SIZE, SIZE), "px")
MIDDLE = np.array([41.0, 39.0])
FIT = {"draws": 400, "fallback": False}
LEVELS = (1.0, 4.0, 2.0, 0.6)


def truth(factor: float = 1.0, shift: float = 0.0) -> Ring:
    """A wall of about ten pixels about an uneven core."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    outer = factor * 22 * (1 + 0.10 * np.cos(2 * angles))
    inner = factor * 11 * (1 + 0.10 * np.sin(3 * angles))
    away = unit_vectors(angles)
    middle = MIDDLE + shift
    curves = [Curve(middle + radius[:, None] * away, "px") for radius in (outer, inner)]
    return Ring(*curves)


def mask_of(ring: Ring) -> np.ndarray:
    points = PLANE.points()
    return ring.outer.contains(points) & ~ring.inner.contains(points)


def image_of(seed: int) -> aj.Image:
    """The wall bright, the core half as bright, through a blur of 1.5 pixels."""
    from scipy.ndimage import gaussian_filter

    points = PLANE.points()
    ring = truth()
    mean = 1.0 + 3.0 * ring.outer.contains(points) - 2.0 * ring.inner.contains(points)
    noise = 0.6 * np.random.default_rng(seed).standard_normal(mean.shape)
    return aj.Image.from_arrays(A=gaussian_filter(mean, 1.5) + noise)


@pytest.fixture(scope="module")
def posterior() -> aj.Posterior:
    # the rough ring is a tenth too small and two pixels off
    target = aj.ring_target(mask_of(truth(0.9, 1.4)), PLANE, "ring")
    return aj.fit(aj.boundary_model(target, aj.intensity(image_of(0), blur=1.5, temper=1.0)), **FIT)


def test_a_target_answers_what_a_model_asks():
    ring = truth()
    target = aj.ring_target(mask_of(ring), PLANE)
    assert isinstance(target, AnyTarget)
    assert target.content == pytest.approx(ring.area, rel=0.02)
    outer, inner = target.size[0]
    assert outer == target.radius == pytest.approx(np.sqrt(ring.outer.area / np.pi), rel=0.01)
    assert inner == pytest.approx(np.sqrt(ring.inner.area / np.pi), rel=0.02)
    given = aj.ring_target((ring.outer, ring.inner), PLANE)
    assert given.radius == pytest.approx(target.radius, rel=0.01)
    model = aj.boundary_model(given, rays=64)
    level = np.asarray(model.data.values(np.zeros(66)))
    np.testing.assert_allclose(level[:64], given.size[0][0], rtol=1e-5)
    np.testing.assert_allclose(level[64:], given.size[0][1], rtol=1e-5)


def test_the_posterior_covers_both_boundaries(posterior):
    assert posterior.diagnostics.converged, posterior.diagnostics
    assert posterior.diagnostics.khat < 0.7
    band = aj.simultaneous_band(posterior)
    assert band.holds(truth())
    assert band.half_width.max() < 1.6
    found = aj.grade(posterior, tolerance_px=2.0)
    assert found.case == "amber"  # what the image looks like is not checked
    assert any("not checked" in reason for reason in found.reasons)
    area = aj.area_posterior(posterior)
    assert area.quantile(0.005) < truth().area < area.quantile(0.995)
    found, mask = aj.probability_map(posterior) > 0.5, mask_of(truth())
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.97
    # controls: a truth that is shifted, one with another core, and a band of .3
    assert not band.holds(truth(shift=1.5))
    assert not band.holds(Ring(truth().outer, truth(1.15).inner))
    narrow = replace(band, lower=band.centre - 0.3 * (band.centre - band.lower),
                     upper=band.centre + 0.3 * (band.upper - band.centre))  # fmt: skip
    assert not narrow.holds(truth())


def test_it_is_kept_and_goes_on_from_its_draws(posterior, tmp_path):
    (again,) = aj.load_posterior(aj.save_posterior(tmp_path / "ring.nc", posterior))
    assert np.array_equal(again.radii, posterior.radii)
    leaves = (jax.tree.leaves(each.chart) for each in (again, posterior))
    for one, other in zip(*leaves, strict=True):
        assert np.array_equal(one, other)
        assert type(one) is type(other)
    assert again.to_arviz().posterior.sizes["ray"] == posterior.chart.sites
    model = aj.model_from_draws(again)
    drawn = aj.prior_draws(model, 200).draws
    np.testing.assert_allclose(drawn.mean(axis=0), posterior.draws.mean(axis=0), rtol=0.03)


def test_what_has_no_meaning_of_two_boundaries_is_left_out(posterior):
    """Residual zones and voxelwise predictions, which are laid about one boundary."""
    (said,) = posterior.diagnostics.findings
    assert (said.cap, "is not checked" in said.text) == ("amber", True)
    assert posterior.diagnostics.voxel == 1.0
    assert "posterior_predictive" not in posterior.to_arviz().groups()
    with pytest.raises(InputError, match="clicks say of one boundary, and a ring has two"):
        _ = posterior.model + aj.anchors([(41.0, 61.0)])


# ------------------------------------------------------------------------ the likelihood


def rings(blur: float, wall: float, seed: int) -> tuple[Any, np.ndarray, tuple[Any, Any]]:
    """A model of scattered points, some boundaries of a wall, and the points with their values."""
    target = aj.ring_target(tuple_of(24.0, 24.0 - wall), PLANE)
    prior = aj.Prior(amplitude=0.06, mean_log_sd=0.05, fixed=("amplitude", "lengthscale"))
    points = PLANE.points().reshape(-1, 2)
    rng = np.random.default_rng(seed)
    distance = np.linalg.norm(points - MIDDLE, axis=1)
    values = 1 + 2.0 * (distance < 24) - 1.3 * (distance < 24 - wall)
    values = values + 0.5 * rng.standard_normal(len(points))
    near = distance < 38
    evidence = aj.point_intensity(
        points[near], values[near], family="blurred", blur=blur, prior=STEP_PRIOR, temper=0.7
    )
    model = aj.boundary_model(target, evidence, prior=prior, rays=64, radius_max=38.0)
    draws = aj.prior_draws(replace(model, data=replace(model.data, terms=())), 100, seed=seed).draws
    return model, draws[:4], (points[near], values[near])


def tuple_of(outer: float, inner: float) -> tuple[Curve, Curve]:
    away = unit_vectors(np.linspace(0, 2 * np.pi, 360, endpoint=False))
    return Curve(MIDDLE + outer * away, "px"), Curve(MIDDLE + inner * away, "px")


def brute(model: Any, radii: np.ndarray, points: Any, y: Any, blur: float) -> float:
    """Pairs of point and ray one by one, with the product of the two insides as it is."""
    shared = model.chart.star.share(points)
    h = [ndtr((half[shared.site] - shared.position) / blur) for half in np.split(radii, 2)]
    x = np.stack([np.ones_like(h[0]), *h], axis=1)
    mean, precision = nested_prior(STEP_PRIOR)
    prior: Any = SimpleNamespace(
        mean=mean, precision=precision, shape=STEP_PRIOR.shape, rate=STEP_PRIOR.rate
    )
    return linear_regression(y[shared.voxel], x, 0.7 * shared.share, prior)


@pytest.mark.parametrize("seed", [0, 1])
def test_tables_are_sums_over_voxels(seed):
    model, draws, data = rings(1.0, 14.0, seed)
    with jax.enable_x64(True):
        for radii in draws:
            wall = radii[:64] - radii[64:]
            assert wall.min() > 8.0
            found = float(log_likelihood(model.data.terms, radii))
            assert found == pytest.approx(brute(model, radii, *data, 1.0), rel=1e-6)
            # control: other boundaries have another likelihood
            assert found != pytest.approx(brute(model, radii + 0.1, *data, 1.0), rel=1e-6)


def test_a_thin_wall_is_nearly_told():
    """A wall of two blurs: without what is lost between the edges it would be off by far more."""
    blur = 2.5
    model, draws, data = rings(blur, 5.0, 2)
    (term,) = model.data.terms
    blind = replace(term, sector=np.asarray(0.0))
    with jax.enable_x64(True):
        wanted = np.array([brute(model, radii, *data, blur) for radii in draws])
        found = np.array([float(log_likelihood((term,), radii)) for radii in draws])
        without = np.array([float(log_likelihood((blind,), radii)) for radii in draws])
    assert np.abs(found - wanted).max() < 1.0
    assert np.abs(without - wanted).min() > 5 * np.abs(found - wanted).max()


def test_a_quarter_turn_of_the_image_turns_the_posterior():
    image = image_of(3)
    turned = aj.Image.from_arrays(A=np.rot90(image["A"].values[:, :, 0]))
    last = SIZE - 1

    def turn(curve: Curve) -> Curve:
        return Curve(np.stack([last - curve.points[:, 1], curve.points[:, 0]], axis=1), "px")

    ring = truth()
    curves = ring.outer, ring.inner
    models = [
        aj.boundary_model(aj.ring_target(shape, PLANE), aj.intensity(each, blur=1.5), rays=64)
        for shape, each in ((curves, image), (tuple(turn(c) for c in curves), turned))
    ]
    draws = aj.prior_draws(replace(models[0], data=replace(models[0].data, terms=())), 100).draws
    with jax.enable_x64(True):
        for radii in draws[:5]:
            rolled = np.concatenate([np.roll(half, 16) for half in np.split(radii, 2)])
            one, other = (
                float(log_likelihood(model.data.terms, each))
                for model, each in zip(models, (radii, rolled), strict=True)
            )
            assert one == pytest.approx(other, rel=1e-9)
            unturned = float(log_likelihood(models[1].data.terms, radii))
            assert unturned != pytest.approx(one, rel=1e-6)


def test_boundaries_of_the_prior_never_cross():
    target = aj.ring_target(tuple_of(22.0, 11.0), PLANE)
    wild = aj.Prior(amplitude=1.5, mean_log_sd=1.0, fixed=("amplitude", "lengthscale"))
    draws = aj.prior_draws(aj.boundary_model(target, prior=wild, rays=64), 1000).draws
    assert (draws[:, 64:] < draws[:, :64]).all()
    assert (draws > 0).all()
    # control: two targets of their own, under the same prior
    outer, inner = (
        aj.prior_draws(
            aj.boundary_model(aj.Target(MIDDLE, radius, PLANE), prior=wild, rays=64), 1000, seed=s
        ).draws
        for s, radius in enumerate((22.0, 11.0))
    )
    assert (inner > outer).any(axis=1).mean() > 0.3


def test_data_are_drawn_from_three_levels():
    target = aj.ring_target(tuple_of(22.0, 11.0), PLANE)
    model = aj.boundary_model(target, aj.intensity(image_of(0), blur=1.5, temper=1.0), rays=64)
    radii = np.repeat([22.0, 11.0], 64)
    levels = (1.0, 5.0, 3.0, 0.0)
    values = aj.simulate_image(model, radii, levels=levels)["A"].values[:, :, 0]
    distance = np.linalg.norm(PLANE.points() - MIDDLE, axis=-1)
    for low, high, level in ((0, 4, 3.0), (16, 17, 5.0), (30, 38, 1.0)):
        np.testing.assert_allclose(values[(distance >= low) & (distance < high)], level, atol=0.02)


# -------------------------------------------------------------------------- bad input


def test_what_is_no_ring_is_refused():
    outer, inner = tuple_of(22.0, 11.0)
    disc = outer.contains(PLANE.points())
    aside = Curve(inner.points + np.array([14.0, 0.0]), "px")
    for given, words in (
        (disc, "has no hole of 6 pixels"),
        (np.zeros_like(disc), "no region of 6 pixels"),
        (disc.astype(float), "must be boolean"),
        ((inner, outer), "must lie within the outer one"),
        ((outer, aside), "must lie within the outer one"),
        ((outer, Curve(inner.points, "mm")), "give both one unit"),
        (outer, "a boolean mask with a hole"),
    ):
        with pytest.raises(InputError, match=words) as found:
            aj.ring_target(given, PLANE)
        assert str(found.value).count(". ") == 0
    # a hole off to a side, about whose middle the outer curve is seen all the same
    off = Curve(inner.points + np.array([6.0, 0.0]), "px")
    assert aj.ring_target((outer, off), PLANE).centre[0] == pytest.approx(MIDDLE[0] + 6)
    with pytest.raises(InputError, match="three levels, which the gaussian family"):
        aj.boundary_model(
            aj.ring_target((outer, inner), PLANE), aj.intensity(image_of(0), family="gaussian")
        )
