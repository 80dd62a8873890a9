"""Is the nearest boundary of a chart as near as brute force says, and is a poor one told?"""

from __future__ import annotations

import numpy as np

from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.offset import offset_chart
from aistat_jax.space.representation import represented
from aistat_jax.space.star import star_chart
from tests.space.test_offset import MASK, PLANE

OUTLINE, POINTS = contours_from_mask(MASK, PLANE)[0], PLANE.points()


def test_offsets_hold_a_horseshoe_and_a_star_does_not():
    chart = offset_chart(OUTLINE, 8.0, PLANE, 256)
    assert represented(chart, OUTLINE, MASK, POINTS) > 0.99
    assert represented(chart, OUTLINE, MASK, POINTS, 32) > 0.98
    assert represented(chart, OUTLINE, MASK, POINTS, 1) < represented(
        chart, OUTLINE, MASK, POINTS, 32
    )
    star = star_chart(POINTS[MASK][MASK.sum() // 2], 100.0, PLANE)
    assert represented(star, OUTLINE, MASK, POINTS, 16) < 0.92


def test_a_disc_is_held_by_a_star():
    disc = np.linalg.norm(POINTS - 48.0, axis=-1) < 20
    outline = contours_from_mask(disc, PLANE)[0]
    star = star_chart(np.full(2, 48.0), 60.0, PLANE)
    assert represented(star, outline, disc, POINTS, 16) > 0.99
