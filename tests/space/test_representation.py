"""Is the nearest boundary of a chart as near as brute force says, and is a poor one told?"""

from __future__ import annotations

import numpy as np

from aistat_jax.boundary.choices import held
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.offsets import offset_target
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import surface_from_mask
from aistat_jax.space.offset import offset_chart
from aistat_jax.space.representation import represented
from aistat_jax.space.star import star_chart
from tests.helpers import tube_depth
from tests.space.test_offset import MASK, PLANE

OUTLINE, POINTS = contours_from_mask(MASK, PLANE)[0], PLANE.points()


def test_offsets_hold_a_horseshoe_and_a_star_does_not():
    chart = offset_chart(OUTLINE, 8.0, PLANE, 256)
    assert represented(chart, OUTLINE, MASK, POINTS) > 0.99
    assert represented(chart, OUTLINE, MASK, POINTS, chart.basis(32)) > 0.98
    assert represented(chart, OUTLINE, MASK, POINTS, chart.basis(1)) < represented(
        chart, OUTLINE, MASK, POINTS, chart.basis(32)
    )
    star = star_chart(POINTS[MASK][MASK.sum() // 2], 100.0, PLANE)
    assert represented(star, OUTLINE, MASK, POINTS, star.basis(16)) < 0.92


def test_a_disc_is_held_by_a_star():
    disc = np.linalg.norm(POINTS - 48.0, axis=-1) < 20
    outline = contours_from_mask(disc, PLANE)[0]
    star = star_chart(np.full(2, 48.0), 60.0, PLANE)
    assert represented(star, outline, disc, POINTS, star.basis(16)) > 0.99


def test_a_polygon_of_few_sites_is_made_as_large_as_the_mask():
    disc = np.linalg.norm(POINTS - 48.0, axis=-1) < 40
    outline = contours_from_mask(disc, PLANE)[0]
    few = star_chart(np.full(2, 48.0), 60.0, PLANE, 12)
    inside = few.inside(few.values_of(outline)[None], POINTS)[0]
    within = 2 * (inside & disc).sum() / (inside.sum() + disc.sum())  # its corners on the circle
    assert represented(few, outline, disc, POINTS) > within + 0.005


def test_a_thin_bent_plate_is_expected_as_it_was_drawn_and_a_tube_is_not():
    """What modes of a smoothed mesh would lose is kept in a prior's mean, and only there."""
    grid = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (40, 40, 16))
    x, y, z = np.moveaxis(grid.points(), -1, 0)
    within = (np.abs(x - 40) < 32) & (np.abs(y - 40) < 22)
    plate = (np.abs(z - 24 - 7 * np.sin(x / 7)) < 4) & within
    target = offset_target(plate, grid)
    model = boundary_model(target)
    low, high = model.chart.ends
    heights = model.chart.values_of(target.outline)
    np.testing.assert_allclose(model.data.mean, np.clip(heights, 0.8 * low, 0.8 * high))
    outline = surface_from_mask(plate, grid, 0.0)
    asked = (model.chart, outline, plate, grid.points(), model.data.basis)
    known = held(target, plate, grid)
    assert known > represented(*asked) + 0.001
    assert known > 0.98
    tube = boundary_model(offset_target(tube_depth(grid.points()) > 0, grid))
    assert (np.asarray(tube.data.mean) == 0).all()  # the control: its modes hold it
