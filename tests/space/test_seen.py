"""Is the share of a region that straight rays reach that of what a star can hold?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.seen import SEEN_SHARE, best_seen, seen_share
from tests.helpers import horseshoe_depth, tube_depth

PLANE = Plane(np.array([3.0, -5.0]), np.array([1.5, 1.0]), 0.0, 1.0, np.eye(3), (70, 96))
GRID = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (40, 40, 16))
MIDDLE = np.array([50.0, 45.0])


def disc(radius: float) -> np.ndarray:
    return np.linalg.norm(PLANE.points() - MIDDLE, axis=-1) <= radius


def ball(radius: float) -> np.ndarray:
    return np.linalg.norm(GRID.points() - [40.0, 38.0, 24.0], axis=-1) <= radius


@pytest.mark.parametrize("radius", [2.5, 6.0, 30.0])
def test_all_of_a_disc_is_seen(radius):
    assert seen_share(disc(radius), PLANE) > 0.98


def test_all_of_a_ball_is_seen_and_a_hole_within_does_not_count():
    assert seen_share(ball(12.0), GRID) > 0.98
    assert seen_share(ball(16.0) & ~ball(6.0), GRID) > SEEN_SHARE
    assert seen_share(disc(30.0) & ~disc(12.0), PLANE) > 0.98


def test_most_of_a_horseshoe_and_of_a_bent_tube_is_not():
    assert seen_share(horseshoe_depth(PLANE.points()) > 0, PLANE) < 0.7
    assert seen_share(tube_depth(GRID.points()) > 0, GRID) < 0.5


def test_what_is_reached_is_what_a_ray_meets_before_it_leaves():
    """Half a disc beyond a gap that no ray crosses: the other half is all that is reached."""
    u = (PLANE.points() - MIDDLE)[..., 0]
    half, gone = disc(30.0) & (u < -4.0), disc(30.0) & (np.abs(u) > 4.0)
    low = np.zeros(2, dtype=int)
    reached = best_seen(gone, low, PLANE).content
    assert reached == pytest.approx(half.sum() * PLANE.pixel_area, rel=0.03)
    whole = best_seen(disc(30.0), low, PLANE)
    assert whole.content == pytest.approx(np.pi * 900, rel=0.02)
    np.testing.assert_allclose(whole.centre, MIDDLE, atol=1.0)


def test_rays_are_close_enough_for_a_line():
    """Of a cross of one pixel's width a centre sees all; of a hook, the arm that it is on."""
    cross, hook = np.zeros((2, 70, 96), dtype=bool)
    cross[10:51, 40], cross[30, 20:61] = True, True
    hook[10:51, 20], hook[50, 20:81], hook[10:51, 80] = True, True, True
    assert seen_share(cross, PLANE) > 0.9
    assert seen_share(hook, PLANE) < 0.8


def test_the_limit_tells_round_from_bent():
    """A disc less a wedge: the more is missing, the less one centre sees, but half a disc is all
    seen again."""
    offset = PLANE.points() - MIDDLE
    angle = np.abs(np.arctan2(offset[..., 1], offset[..., 0]))
    shares = [seen_share(disc(40.0) & (angle > wedge), PLANE) for wedge in (0.3, np.pi / 2)]
    assert min(shares) > SEEN_SHARE
    ring = disc(40.0) & ~disc(20.0) & (angle > 0.3)
    assert seen_share(ring, PLANE) < SEEN_SHARE
