"""Do charts keep every voxel's weight, and forget how the grid lies?"""

from __future__ import annotations

import jax
import numpy as np
import pytest
import shapely

from aistat_jax._record import replace
from aistat_jax.boundary.families import StepPrior
from aistat_jax.boundary.intensity import point_intensity
from aistat_jax.boundary.tables import smooth_table, sorted_table
from aistat_jax.boundary.targets import Target
from aistat_jax.space.closed import distance_to_polygons
from aistat_jax.space.curve import Curve
from aistat_jax.space.star import star_chart
from tests.boundary import brute
from tests.helpers import ellipse_radii


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def grid(spacing: float, reach: float, offset: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    steps = np.arange(-np.ceil(reach / spacing), np.ceil(reach / spacing) + 1) * spacing
    points = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2) + offset
    return points[np.hypot(*points.T) <= reach]


@pytest.mark.parametrize("rays", [8, 33, 128])
@pytest.mark.parametrize("footprint", [0.0, 0.3, 4.0])
def test_shares_of_a_voxel_sum_to_one(rays, footprint):
    chart = star_chart(np.zeros(2), 30.0, brute.a_plane(), rays)
    points = np.concatenate([grid(4.0, 30.0), grid(4.0, 30.0, (1e-7, 0.0)), grid(1.3, 3.0)])
    shared = chart.share(points, footprint)
    total = np.bincount(shared.voxel, shared.share, len(points))
    np.testing.assert_allclose(total, 1.0, rtol=0, atol=1e-10)
    assert (shared.share > 0).all()
    np.testing.assert_allclose(shared.position, np.hypot(*points[shared.voxel].T), rtol=1e-12)
    # negative control: with one ray left out some voxels lose weight
    kept = shared.site != 3
    total = np.bincount(shared.voxel[kept], shared.share[kept], len(points))
    assert total.min() < 0.999


def test_a_share_is_the_mean_of_the_ray_s_hat_over_the_footprint(rng):
    chart = star_chart(np.zeros(2), 30.0, brute.a_plane(), 40)
    points = rng.uniform(-20, 20, (6, 2))
    shared = chart.share(points, 4.0)
    step = 2 * np.pi / 40
    for i, (radius, angle) in enumerate(zip(*chart.polar(points), strict=True)):
        sweep = angle + (np.arange(20000) + 0.5 - 10000) / 20000 * 4.0 / radius
        gap = (sweep[:, None] - chart.angles + np.pi) % (2 * np.pi) - np.pi
        hats = np.maximum(0, 1 - np.abs(gap) / step).mean(axis=0)
        mine = np.bincount(
            shared.site[shared.voxel == i], shared.share[shared.voxel == i], minlength=40
        )
        np.testing.assert_allclose(mine, hats, atol=1e-6)


@pytest.mark.parametrize("footprint", [0.0, 4.0])
def test_turning_the_grid_by_one_ray_turns_the_tables(rng, footprint):
    chart = star_chart(np.zeros(2), 30.0, brute.a_plane(), 48)
    points = grid(2.0, 30.0, (0.31, -0.17))
    y = rng.normal(size=len(points))
    here = chart.share(points, footprint)
    there = chart.share(turned(points, 2 * np.pi / 48), footprint)
    other = chart.share(turned(points, 1.01 * 2 * np.pi / 48), footprint)
    radii = 12 + 3 * np.cos(2 * chart.angles) + np.sin(5 * chart.angles)
    with jax.enable_x64(True):
        for build in (
            lambda shared: smooth_table(chart, shared, [(y, 1), (y, 2)], 2.5),
            lambda shared: sorted_table(chart, shared, [y, y * y]),
        ):
            first, second, third = (
                np.asarray(build(shared)(np.roll(radii, k)))
                for shared, k in ((here, 0), (there, 1), (other, 1))
            )
            np.testing.assert_allclose(np.roll(first, 1, axis=0), second, atol=1e-9)
            assert np.abs(np.roll(first, 1, axis=0) - third).max() > 1e-4


# Coarse PET: voxels of 4 mm, a lesion of 14 x 10 mm, noise a twentieth of the step.
SIGMA, SPREAD = 0.05, 3.0
PINNED = StepPrior(np.zeros(2), np.full(2, 1e-3), np.asarray(1e6), np.asarray(1e6 * SIGMA**2))


def coarse_value(points: np.ndarray, y: np.ndarray, radii: np.ndarray, footprint: float) -> float:
    chart = star_chart(np.zeros(2), 28.0, brute.a_plane(), len(radii))
    target = Target(chart.centre, 12.0, chart.plane)
    evidence = point_intensity(points, y, family="blurred", blur=SPREAD, prior=PINNED)
    (term,) = evidence.tabulate(target, chart)
    one = np.ones(len(y))
    shared = chart.share(points, footprint)
    table = smooth_table(chart, shared, [(one, 1), (one, 2), (y, 1)], SPREAD)
    return float(brute.read_tables((replace(term, table=table),), radii))


def disc_values(radius: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return 1 + ndtr((12.0 - radius) / SPREAD)


def test_the_likelihood_of_a_circle_does_not_turn_with_the_grid():
    """The same 4 mm image of a disc, turned about its centre by any angle."""
    points = grid(4.0, 28.0, (0.9, -1.3))
    y = disc_values(np.hypot(*points.T))
    turns = np.linspace(0, np.pi / 2, 7)
    with jax.enable_x64(True):
        values = [coarse_value(turned(points, a), y, np.full(64, 12.0), 4.0) for a in turns]
        off = coarse_value(points, y, np.full(64, 12.3), 4.0)
    assert np.ptp(values) < 1e-6
    assert values[0] - off > 0.3  # negative control: 0.3 mm matters


def test_the_likelihood_of_an_ellipse_hardly_turns_with_the_grid():
    """The same ellipse, its boundary and its image turned together on a chart that stays."""
    from scipy.special import ndtr

    points = grid(4.0, 28.0, (0.9, -1.3))
    angle = np.arctan2(points[:, 1], points[:, 0])
    y = 1 + ndtr((ellipse_radii(angle, 14.0, 10.0) - np.hypot(*points.T)) / SPREAD)
    rays = 2 * np.pi * np.arange(64) / 64
    gains = []
    with jax.enable_x64(True):
        for turn in np.linspace(0.0, 2.0, 9):
            moved = turned(points, turn)
            true, wide = (
                coarse_value(moved, y, scale * ellipse_radii(rays - turn, 14.0, 10.0), 4.0)
                for scale in (1.0, 1.04)
            )
            gains.append(true - wide)
    # half a millimetre is worth many nats, and the angle of the grid almost nothing
    assert np.mean(gains) > 3
    assert np.std(gains) < 0.02 * np.mean(gains)


def test_radii_of_a_polygon_are_where_rays_leave_it(rng):
    chart = star_chart(np.zeros(2), 30.0, brute.a_plane(), 64)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    corners = (10 + rng.uniform(0, 5, 40))[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], axis=-1
    )
    found = chart.values_of(Curve(corners))
    ends = shapely.LineString(corners[[*range(40), 0]])
    rays = [shapely.LineString([[0, 0], 30 * d]) for d in chart.directions]
    wanted = [shapely.hausdorff_distance(shapely.Point(0, 0), ray & ends) for ray in rays]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(chart.values_of(chart.surface(found)), found, rtol=1e-9)


@pytest.mark.parametrize("rays", [64, 65])
def test_bent_boundaries_follow_curve_shortening_harmonic_by_harmonic(rays):
    chart = star_chart(np.zeros(2), 30.0, brute.a_plane(), rays)
    angles = chart.angles
    mean, blur = 12.0, 3.0

    def seen(radii: np.ndarray, blur: float = blur) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(chart.bending(blur)(radii))

    circle = mean - blur**2 / (2 * mean)
    np.testing.assert_allclose(seen(np.full(rays, mean)), circle, rtol=1e-12)
    for k in (1, 2, 3, 8):
        wave = 1e-4 * np.cos(k * angles + 0.3)
        left = np.exp(-0.5 * (k**2 - 1) * (blur / mean) ** 2)  # a shift, k = 1, stays
        np.testing.assert_allclose(seen(mean + wave), circle + left * wave, rtol=1e-9)
    ragged = mean + np.random.default_rng(0).standard_normal(rays)
    with jax.enable_x64(True):
        kept = np.asarray(chart.bending(blur, 0.0)(ragged))
    np.testing.assert_allclose(np.square(kept).mean(), np.square(ragged).mean(), rtol=1e-4)
    assert kept.mean() > ragged.mean() + 0.01
    np.testing.assert_allclose(seen(ragged, 1e-6), ragged, rtol=1e-9)
    np.testing.assert_allclose(seen(2 * ragged, 2 * blur), 2 * seen(ragged), rtol=1e-12)
    np.testing.assert_allclose(seen(np.roll(ragged, 5)), np.roll(seen(ragged), 5), rtol=1e-12)
    assert seen(ragged).std() < 0.7 * ragged.std()


@pytest.mark.parametrize("rays", [8, 33, 128])
@pytest.mark.parametrize("rough", [0.01, 0.1, 1.0])
def test_the_gap_is_that_to_the_whole_of_the_other_polygon(rays, rough):
    """To the last bit, of boundaries alike and far apart; of spikes the nearest edge lies beside
    the ray, which is the control."""
    chart = star_chart(np.array([3.0, -2.0]), 200.0, brute.a_plane(), rays)
    values, others = 20 * np.exp(rough * np.random.default_rng(rays).standard_normal((2, 50, rays)))
    points, polygons = chart.points(values), chart.points(others)
    whole = distance_to_polygons(points, polygons)
    np.testing.assert_array_equal(chart.gap(values, others), whole)
    beside = (np.arange(rays)[:, None] + np.array([-1, 0])) % rays
    nearest = distance_to_polygons(points, polygons, beside)
    assert (nearest >= whole).all()
    assert (nearest > whole).any() == (rough == 1.0 or (rough == 0.1 and rays == 128))
