"""Has each normal of a curve a reach of its own, within which nothing folds over?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.curve import contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.space.offset import OffsetChart, offset_chart
from aistat_jax.space.reach import (
    KEPT,
    SLOPE,
    balls,
    check_room,
    ends,
    gentle,
    least_lost,
    narrow_share,
)
from aistat_jax.space.reference import curve_normals
from aistat_jax.space.representation import represented
from tests.helpers import horseshoe_depth

# A horseshoe 20 pixels thick in the middle and 3 at its tips.
PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (96, 96), "px")
SHAPE: dict[str, Any] = {"half": 10.0, "tip": 1.5}
MASK = horseshoe_depth(PLANE.points(), **SHAPE) > 0
OUTLINE = contours_from_mask(MASK, PLANE)[0]


@pytest.fixture(scope="module")
def chart() -> OffsetChart:
    return offset_chart(OUTLINE, 8.0, PLANE, 256)


@pytest.fixture
def values(chart: OffsetChart, rng: np.random.Generator) -> np.ndarray:
    """Smooth boundaries within the ends of each site."""
    share = np.tanh(rng.standard_normal((6, 25)) @ np.asarray(chart.basis(12).functions).T / 4)
    low, high = chart.ends
    return np.where(share < 0, -share * low, share * high)


def disc(radius: float) -> tuple[np.ndarray, np.ndarray]:
    angles = 2 * np.pi * np.arange(256) / 256
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return radius * normals, normals


def simple(chart: OffsetChart, values: np.ndarray) -> bool:
    return bool(shapely.LinearRing(chart.points(values)).is_simple)


def test_balls_of_known_curves():
    one = balls(*disc(10.0))
    np.testing.assert_allclose(one.inner, 10.0)
    assert np.isinf(one.outer).all()
    apart = np.concatenate([disc(10.0)[0], disc(10.0)[0] + [26.0, 0.0]])
    gap = balls(apart, np.tile(disc(10.0)[1], (2, 1)))
    assert gap.least[1] == pytest.approx(3.0)
    assert gap.outer[0] == pytest.approx(3.0)  # nearest to the other disc, and farther elsewhere
    assert np.isinf(gap.outer[128])


def test_gentle_reaches_change_slowly_along_a_curve(rng):
    points, normals = disc(10.0)
    edges = curve_normals(points, normals, "px").edges
    wild = rng.uniform(0.1, 8.0, len(points))
    smooth, way = gentle(points, edges, wild), np.linalg.norm(points[1] - points[0])
    assert (smooth <= wild).all()
    assert np.abs(np.diff(smooth, append=smooth[0])).max() <= SLOPE * way + 1e-9
    assert np.abs(np.diff(wild)).max() > SLOPE * way  # the control: as they were
    np.testing.assert_allclose(gentle(points, edges, np.full(len(points), 3.0)), 3.0)


def test_enough_for_all_is_shared_by_all_and_too_little_is_refused():
    normals = curve_normals(*disc(10.0), "px")
    found = balls(normals.points, normals.outward)
    assert normals.size == pytest.approx(10.0, rel=1e-3)
    low, high = ends(normals, found, 12.0, 1.0)
    np.testing.assert_allclose(low, KEPT * 10.0)
    np.testing.assert_allclose(high, 12.0)
    assert narrow_share(normals, low, high, 1.0) == 0.0
    check_room(normals, low, high, 1.0)
    with pytest.raises(aj.InputError, match="too small or too narrow for offsets.* or a star"):
        check_room(normals, low, high, 40.0)


def test_the_least_smoothed_that_loses_hardly_anything_is_taken():
    assert least_lost([(0.2, 0.0), (0.04, 0.01), (0.0, 0.0)]) == 1
    assert least_lost([(0.2, 0.0), (0.0, 0.1), (0.0, 0.3)]) == 1
    assert least_lost([(0.06, 0.0), (0.0, 0.07)]) == 1  # the first would be refused
    assert least_lost([(0.3, 0.0), (0.06, 0.1)]) == 1


def test_within_their_own_ends_curves_do_not_fold_and_beyond_they_do(chart, values):
    low, high = chart.ends
    assert np.median(-low) > 2 * (-low).min()
    assert simple(chart, low)
    assert simple(chart, high)
    assert all(simple(chart, row) for row in values)
    assert not simple(chart, np.full(chart.sites, np.median(low)))  # the control: one for all


def test_positions_and_insides_are_those_of_the_polygon(chart, values):
    points = PLANE.points()
    for row, own in zip(values, chart.inside(values, points), strict=True):
        curve = chart.surface(row)
        assert (own != curve.contains(points)).mean() < 5e-4
        assert chart.content(row) == pytest.approx(curve.area)
        np.testing.assert_allclose(chart.position(curve.points), row, atol=1e-9)
    near = (values > 0.9 * chart.ends[0]) & (values < 0.9 * chart.ends[1])
    for row, kept in zip(values, near, strict=True):
        found = chart.values_of(chart.surface(row))
        np.testing.assert_allclose(found[kept], row[kept], atol=1e-9)
    # what has no foot lies beyond every boundary, on its side
    foot = chart.foot(points)
    far = foot.cell < 0
    inside = chart.curve.contains(points)
    assert (foot.position[far & ~inside] >= chart.high).all()
    assert (foot.position[far & inside] <= chart.low).all()
    assert (far & inside & (chart.curve.distance_to(points) < -chart.low)).any()


def test_what_is_thinner_than_its_reference_is_held_and_not_by_one_reach_for_all(chart):
    """By 4 pixels in the middle, where there is room, and by none at the tips."""
    mask = horseshoe_depth(PLANE.points(), half=6.0, tip=SHAPE["tip"]) > 0
    outline = contours_from_mask(mask, PLANE)[0]
    low, high = chart.ends
    one = replace(chart, low=float(low.max()), high=float(high.min()), limits=None)
    assert represented(chart, OUTLINE, MASK, PLANE.points(), chart.basis(32)) > 0.98
    assert represented(chart, outline, mask, PLANE.points(), chart.basis(32)) > 0.98
    assert not one.sees(outline)


def test_ends_that_are_alike_make_the_chart_of_one_reach():
    """The same numbers, told site by site."""
    outline = contours_from_mask(horseshoe_depth(PLANE.points()) > 0, PLANE)[0]
    chart = offset_chart(outline, 4.0, PLANE, 256)
    assert chart.limits is None
    told = replace(chart, limits=np.tile([chart.low, chart.high], (chart.sites, 1)))
    points = PLANE.points().reshape(-1, 2)
    near = points[np.abs(chart.position(points)) < 0.9 * min(-chart.low, chart.high)]
    for one, other in zip(chart.share(near, 1.0), told.share(near, 1.0), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(chart.values_of(outline), told.values_of(outline))
