"""Do phantoms show what they claim: known truth, point spread, noise, and raters?

False-alarm rates: statistics below are means over many draws at fixed seeds; bounds are at
least four standard errors wide (below 1e-4 a bound, were the seed random).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from scipy.special import ndtr

from aistat_jax._errors import InputError
from aistat_jax.data.phantoms import FWHM_PER_SD, demo_phantom, pet_ct_phantom
from aistat_jax.data.raters import signed_distance, simulate_raters
from aistat_jax.data.shapes import KINDS, draw_shape
from aistat_jax.data.simulators import bayesbd_image, blurred_step_image, blurred_step_mean
from aistat_jax.data.textures import correlated_noise, correlation_at, pet_noise
from aistat_jax.space.curve import Curve, coverage_from_contours, last_exits
from aistat_jax.space.grid import Plane
from aistat_jax.space.star import unit_vectors

ANGLES = 2 * np.pi * np.arange(128) / 128
SMALL = {"shape": (24, 24), "ct_spacing_mm": 4.0, "radius_mm": 15.0}


def pixel_plane(n: int, spacing: float = 1.0) -> Plane:
    start = np.full(2, -(n - 1) / 2 * spacing)
    return Plane(start, np.full(2, spacing), 0.0, 1.0, np.eye(3), (n, n), "mm")


def exits(points: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    return last_exits(points, np.zeros(2) if centre is None else centre, unit_vectors(ANGLES))


def circle(radius: float) -> Curve:
    angles = 2 * np.pi * np.arange(720) / 720
    return Curve(radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1))


def test_same_seed_same_bits_and_other_seed_other_lesion():
    one, two, other = (pet_ct_phantom(seed, **SMALL) for seed in (3, 3, 4))
    for name in ("PT", "CT"):
        assert np.array_equal(one.image[name].values, two.image[name].values)
    assert np.array_equal(one.truth.points, two.truth.points)
    assert not np.allclose(one.truth.points, other.truth.points)


def test_noise_leaves_the_lesion_alone():
    quiet, loud = (pet_ct_phantom(3, noise=noise, **SMALL) for noise in (0.0, 0.5))
    assert np.array_equal(quiet.truth.points, loud.truth.points)
    assert quiet.settings["noise"] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_outline_and_raster_agree(kind: str):
    phantom = pet_ct_phantom(5, kind=kind, noise=0.0, pet_fwhm_mm=0.0, contrast=5.0)
    suv = phantom.image["PT"].values[:, :, 0]
    exact = coverage_from_contours([phantom.truth], phantom.plane)
    assert np.abs((suv - 1) / 4 - exact).max() < 0.03
    assert np.abs(((suv - 1) / 4 - exact).sum()) < 0.005 * exact.sum()
    assert bool(phantom.truth.contains(phantom.centre[None])[0])
    assert phantom.truth.is_ccw
    assert len(phantom.truth.points) >= 512


def test_non_convex_kinds_are_and_only_the_crescent_is_no_star():
    for kind in KINDS:
        outline = draw_shape(np.random.default_rng(0), kind=kind, radius=20.0, amplitude=0.0)
        points = outline.outline(1024)
        hull = shapely.Polygon(points).convex_hull.boundary
        dent_mm = float(np.max(shapely.distance(shapely.points(points), hull)))
        assert dent_mm < 0.01 if kind == "gp" else dent_mm > 2.0
        assert Curve(points).area == pytest.approx(np.pi * 400, rel=1e-3)
        radii = exits(points)
        star = Curve(radii[:, None] * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1))
        assert (star.area > 1.02 * Curve(points).area) == (kind == "crescent")


def test_prior_draws_have_the_stated_sd_and_spectrum():
    rays = unit_vectors(ANGLES)
    shapes = (draw_shape(np.random.default_rng(s), radius=1.0) for s in range(2000))
    draws = np.stack([shape.log_warp(rays) for shape in shapes])
    assert draws.std() == pytest.approx(0.15, rel=0.05)
    power = (np.abs(np.fft.rfft(draws, axis=1)) ** 2).mean(axis=0)[1:9] * 2 / 128**2
    wanted = (2 * 1.5 / 0.45**2 + np.arange(1, 25) ** 2) ** -2.0
    assert power == pytest.approx(0.15**2 * wanted[:8] / wanted.sum(), rel=0.15)


def test_sphere_draws_have_the_stated_sd():
    warps = [draw_shape(np.random.default_rng(s), dims=3, radius=1.0).warp for s in range(200)]
    at = np.stack([w[[20, 60, 90], [10, 100, 200]] for w in warps])
    assert at.std() == pytest.approx(0.15, rel=0.2)


def edge_profile(fwhm: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance (mm) and share of contrast along the edge of a large disc."""
    phantom = pet_ct_phantom(
        1, shape=(80, 80), spacing_mm=(4, 4), ct_spacing_mm=4.0, radius_mm=130.0, amplitude=0.0,
        pet_fwhm_mm=fwhm, noise=0.0,
    )  # fmt: skip
    points = phantom.plane.points() - phantom.centre
    depth = 130.0 - np.hypot(points[..., 0], points[..., 1])
    near = np.abs(depth) < 12
    return depth[near], (phantom.image["PT"].values[:, :, 0][near] - 1) / 4


def test_edge_is_the_blurred_step():
    depth, share = edge_profile(7.0)
    sd = np.sqrt((7.0 / FWHM_PER_SD) ** 2 + 4.0**2 / 12)  # a pixel integrates over its area
    assert np.abs(share - ndtr(depth / sd)).max() < 0.025
    wrong = ndtr(depth / (1.3 * sd))  # negative control: another point spread
    assert np.abs(share - wrong).max() > 0.05


def test_noise_has_the_stated_variance_and_correlation():
    rng = np.random.default_rng(0)
    field = np.stack([correlated_noise(rng, (32, 32), (1.2, 0.0)) for _ in range(400)])
    assert field.var() == pytest.approx(1.0, abs=0.02)
    for lag in (1, 2):
        expected = float(correlation_at(lag, 1.2))
        assert (field[:, lag:] * field[:, :-lag]).mean() == pytest.approx(expected, abs=0.02)
        assert (field[:, :, lag:] * field[:, :, :-lag]).mean() == pytest.approx(0.0, abs=0.02)
    assert abs((field[:, 0] * field[:, -1]).mean()) < 0.05  # no wrap-around
    assert float(correlation_at(1, 1.2)) > 0.4  # control: not white along the first axis


def test_pet_noise_variance_is_proportional_to_the_mean():
    rng = np.random.default_rng(1)
    mean = np.repeat([1.0, 4.0, 9.0], 40)[:, None] * np.ones(200)
    sd = pet_noise(rng, mean, 0.1, 1.0).reshape(3, -1).std(axis=1)
    assert sd == pytest.approx([0.1, 0.2, 0.3], rel=0.05)


def test_necrosis_cools_the_core_and_heterogeneity_adds_variance():
    plain, dead, lumpy = (
        pet_ct_phantom(
            2,
            noise=0.0,
            pet_fwhm_mm=3.0,
            amplitude=0.05,
            necrosis=necrosis,
            heterogeneity=lumps,
        )
        for necrosis, lumps in ((False, 0.0), (True, 0.0), (False, 0.3))
    )
    core = tuple(np.round(plain.plane.to_index(plain.centre)).astype(int))
    solid = plain.coverage[:, :, 0] > 0.999
    suv = {
        k: p.image["PT"].values[:, :, 0] for k, p in zip("pdl", (plain, dead, lumpy), strict=True)
    }
    assert suv["p"][core] == pytest.approx(5.0, abs=0.05)
    assert suv["d"][core] < 2.0
    assert suv["l"][solid].std() > 2 * suv["p"][solid].std()


def test_three_dimensions_share_one_truth():
    phantom = pet_ct_phantom(
        0, dims=3, shape=(20, 20, 14), ct_spacing_mm=4.0, noise=0.0, pet_fwhm_mm=0.0
    )
    by_mask = phantom.coverage.sum() * 64.0
    by_curve = sum(c.area for curves in phantom.slices for c in curves) * 4.0
    assert by_curve == pytest.approx(by_mask, rel=0.02)
    assert (phantom.image["PT"].values - 1) / 4 == pytest.approx(phantom.coverage, abs=1e-9)
    assert phantom.mask.any(axis=(0, 1)).sum() >= 7
    assert not phantom.slices[0]


def test_demo_has_a_lesion_an_organ_and_a_body():
    phantom = demo_phantom(0)
    pet, ct = phantom.image["PT"].slice(phantom.index), phantom.image["CT"].slice(phantom.index)
    assert pet.quantity == "SUV"
    assert ct.quantity == "HU"
    assert ct.values.min() < -900 < 300 < ct.values.max()
    hot = (pet.values > 5.5) & (phantom.truth.distance_to(pet.plane.points()) > 15)
    assert hot.sum() > 20
    radii = phantom.truth_radii(ANGLES)
    assert radii.min() > 8


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "banana"}, "choose one of gp"),
        ({"radius_mm": -1.0}, "radius_mm must be positive"),
        ({"radius_mm": 500.0}, "field of view"),
        ({"dims": 4}, "dims must be 2 or 3"),
        ({"shape": (10, 10, 10)}, "needs 2 numbers"),
        ({"scene": "moon"}, "plain, body"),
        ({"noise": -1.0}, "noise level"),
    ],
)
def test_bad_settings_are_refused(settings: dict, says: str):
    with pytest.raises(InputError, match=says):
        pet_ct_phantom(0, **settings)


def test_step_simulator_obeys_its_model():
    plane = pixel_plane(41)
    radii = 10 + np.cos(3 * ANGLES)
    mean = blurred_step_mean(radii, plane, inside=4, outside=1, psf=1.5)
    points = plane.points()
    r, a = np.hypot(*points.T).T, np.arctan2(points[..., 1], points[..., 0])
    assert mean == pytest.approx(1 + 3 * ndtr((10 + np.cos(3 * a) - r) / 1.5), abs=1e-9)
    images = [
        blurred_step_image(np.random.default_rng(s), radii, plane, inside=4, outside=1, sigma=0.5,
                           psf=1.5, noise_correlation_px=1.0) - mean
        for s in range(100)
    ]  # fmt: skip
    residual = np.stack(images)
    assert residual.std() == pytest.approx(0.5, rel=0.02)
    lag = (residual[:, 1:] * residual[:, :-1]).mean() / residual.var()
    assert lag == pytest.approx(np.exp(-1), abs=0.02)
    along_normal = blurred_step_mean(
        np.full(128, 10.0), plane, inside=4, outside=1, psf=1.5, blur="normal"
    )
    along_ray = blurred_step_mean(np.full(128, 10.0), plane, inside=4, outside=1, psf=1.5)
    assert along_normal == pytest.approx(along_ray, abs=1e-3)


@pytest.mark.parametrize("scenario", ["S1", "S2", "S3"])
def test_bayesbd_truth_splits_the_values(scenario: str):
    image = bayesbd_image(0, scenario)
    area = {"S2": np.sqrt(3) / 4 * 0.25}.get(scenario, np.pi * 0.35 * 0.25)
    assert image.truth.area == pytest.approx(area, rel=2e-3)
    assert image.true_radii(ANGLES) == pytest.approx(
        exits(image.truth.points, image.reference), abs=2e-3
    )
    inside = image.truth.contains(image.positions)
    mean_in, mean_out = image.values[inside].mean(), image.values[~inside].mean()
    expected = (4.0, 1.0) if scenario == "S3" else (0.5, 0.2)
    assert (mean_in, mean_out) == pytest.approx(expected, abs=0.2 if scenario == "S3" else 0.06)
    cell = np.floor(image.positions * 100).astype(int)
    assert np.array_equal(cell[:, 0] * 100 + cell[:, 1], np.arange(10_000))


def test_bayesbd_ellipse_is_the_stated_one():
    image = bayesbd_image(0, "S1")
    assert image.truth.centroid == pytest.approx([0.6, 0.6], abs=1e-3)
    offset = image.truth.points - image.truth.centroid
    far = offset[np.argmax((offset**2).sum(axis=1))]
    assert np.hypot(*far) == pytest.approx(0.35, abs=1e-3)
    assert np.degrees(np.arctan2(far[1], far[0])) % 180 == pytest.approx(60, abs=2)


def test_signed_distance_of_a_circle():
    plane = pixel_plane(30)
    r = np.hypot(*plane.points().T).T
    assert signed_distance(circle(8.0), plane) == pytest.approx(8.0 - r, abs=1e-3)


def rater_offsets(truth_radius: float = 25.0, count: int = 120, **settings: Any) -> np.ndarray:
    """Radial offsets (rater, angle) from a circle."""
    raters = simulate_raters(circle(truth_radius), 7, count, **settings)
    return np.stack([exits(c.points) for c in raters]) - truth_radius


def test_raters_have_the_stated_sd_and_correlation():
    offsets = rater_offsets()
    assert np.sqrt((offsets**2).mean()) == pytest.approx(1.0, rel=0.1)
    own = rater_offsets(bias_sd=0.0, error_sd=1.0, correlation_mm=6.0)
    assert own.std() == pytest.approx(1.0, rel=0.08)
    for lag in (2, 5, 20):
        chord = 2 * 25 * np.sin(lag * np.pi / 128)
        got = (own * np.roll(own, lag, axis=1)).mean() / own.var()
        assert got == pytest.approx(np.exp(-((chord / 6.0) ** 2)), abs=0.08)
        if lag == 5:  # negative control: another correlation length
            assert abs(got - np.exp(-((chord / 15.0) ** 2))) > 0.3
    biased = rater_offsets(bias_sd=0.0, error_sd=0.0, mean_bias=2.0, count=2)
    assert biased == pytest.approx(np.full_like(biased, 2.0), abs=0.02)


def test_raters_of_a_crescent_are_simple_curves():
    outline = draw_shape(np.random.default_rng(0), kind="crescent", radius=20.0).outline()
    for curve in simulate_raters(Curve(outline), 0, 4):
        assert shapely.Polygon(curve.points).is_valid
        assert curve.is_ccw


def test_hopeless_raters_are_refused():
    with pytest.raises(InputError, match="wipe out"):
        simulate_raters(circle(5.0), 0, 1, mean_bias=-8.0, bias_sd=0.0, error_sd=0.1)
    with pytest.raises(InputError, match="at least 1 rater"):
        simulate_raters(circle(5.0), 0, 0)
