"""Is a ball, or a small disc, seen through a point spread what the closed forms say it is?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aistat_jax.boundary.discs import Blur, disc_profile, disc_shares, disc_table
from aistat_jax.boundary.finders import find_targets, taper_at
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.observed import inside_shares, voxels_of
from aistat_jax.boundary.targets import Taper
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.grid import Grid
from aistat_jax.space.star import star_chart
from tests.boundary import brute

BLUR, STEP = 3.2, 3.2 / 6
DISTANCE, RADIUS = np.linspace(0.0, 40.0, 121), STEP * np.arange(90)


def test_a_disc_without_taper_is_a_non_central_chi_squared():
    found = disc_profile(DISTANCE, STEP, len(RADIUS), Blur(BLUR))
    known = stats.ncx2.cdf((RADIUS[:, None] / BLUR) ** 2, 2, (DISTANCE / BLUR) ** 2)
    np.testing.assert_allclose(found, known, atol=1e-12)


@pytest.mark.parametrize("height", [0.0, 4.0, 8.0, 12.0])
def test_a_section_of_a_ball_is_seen_as_the_ball_is(height):
    """A ball's sections lose height^2: slope -2 height, bend -2. A cylinder is told apart."""
    found = disc_profile(DISTANCE, STEP, len(RADIUS), Blur(BLUR, BLUR), Taper(-2 * height, -2.0))
    square = (RADIUS[:, None] ** 2 + height**2) / BLUR**2
    known = stats.ncx2.cdf(square, 3, (DISTANCE**2 + height**2) / BLUR**2)
    np.testing.assert_allclose(found, known, atol=1.5e-3)
    cylinder = disc_profile(DISTANCE, STEP, len(RADIUS), Blur(BLUR, BLUR))
    assert np.abs(cylinder - known).max() > 0.03


def test_a_table_of_discs_sums_over_voxels():
    chart = brute.a_chart()
    points = chart.plane.points().reshape(-1, 2)
    points = points[np.linalg.norm(points - chart.centre, axis=1) < chart.radius_max]
    f = np.random.default_rng(0).uniform(0.5, 1.5, len(points))
    shared, blur, taper = chart.share(points, 2.0), Blur(2.5, 3.0, 0.4), Taper(-6.0, -2.0)
    table = disc_table(chart, shared, [(f, 1), (f, 2)], blur, taper)
    radii = brute.boundaries(chart, 1)[0]
    import jax

    with jax.enable_x64(True):
        found = np.asarray(table(radii)).sum(axis=0)
    h = disc_shares(shared.position, radii[shared.site], blur, taper)
    each = shared.share * f[shared.voxel]
    for value, power in zip(found, (1, 2), strict=True):
        assert value == pytest.approx((each * h**power).sum(), rel=2e-3)
        assert value != pytest.approx((each * h ** (3 - power)).sum(), rel=1e-2)


def test_the_taper_of_a_ball_and_of_a_cylinder_are_found():
    for tall, bend in ((False, -2.0), (True, 0.0)):
        ball = Ball((54.0, 58.0, 30.0), 16.0, 7.0, tall)
        image = image_of_balls([ball], seed=0, noise=0.02)
        target = find_targets(image, point_mm=ball.centre, slices="point")[0]
        assert target.taper is not None
        assert target.taper.bend == pytest.approx(bend, abs=0.15)
        assert target.taper.slope == pytest.approx(
            0.0 if tall else -2 * (target.plane.offset - 30.0), abs=1.0
        )
        assert target.seen_through == 3.0
        assert abs(target.size[0] - 16.0) < abs(target.radius - 16.0) + 0.2


def test_one_slice_alone_lies_between_a_cylinder_and_a_ball():
    plane = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (32, 32, 5)).plane(2)
    areas = np.zeros(5)
    areas[2] = 100.0
    alone = taper_at(areas, 2, plane, 0.05)
    assert alone is not None
    assert (alone.slope, alone.bend) == (0.0, pytest.approx(-1.0))
    assert taper_at(areas[2:3], 0, plane, 0.05) is None


def test_the_shares_of_a_term_are_those_its_table_sums():
    ball = Ball((54.0, 58.0, 30.0), 9.0, 7.0)
    image = image_of_balls([ball], seed=0)
    target = find_targets(image, point_mm=ball.centre, slices="point")[0]
    (voxels,) = voxels_of(boundary_model(target, intensity(image)))
    chart = star_chart(target.centre, 2.2 * target.radius, target.plane)
    radii = np.full(len(chart.angles), 9.0)
    inside = inside_shares(voxels.term, voxels.shared, radii[None])[0]
    import jax

    with jax.enable_x64(True):
        sums = np.asarray(voxels.term.statistics(radii)).sum(axis=0)
    share = voxels.shared.share
    np.testing.assert_allclose(
        sums[:2], [(share * inside).sum(), (share * inside**2).sum()], rtol=2e-3
    )


def test_of_a_boundary_that_is_nowhere_every_voxel_is_inside_or_none():
    """Draws of a fit that failed are still looked at, and are not to fill the memory."""
    distance = np.linspace(0.0, 30.0, 40)
    edges = np.array([1e47, np.inf, np.nan, 0.0])[:, None] * np.ones(40)
    found = disc_shares(distance, edges, Blur(2.0))
    assert np.abs(found[:2] - 1).max() < 1e-6
    assert np.abs(found[2:]).max() < 1e-6
