"""Are closed curves measured right, and does mask -> contour -> mask come back?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.space.curve import Curve, contours_from_mask, coverage_from_contours
from aistat_jax.space.grid import Grid, Plane

SPACING = (1.5, 2.5)


def plane(shape=(40, 30), unit="mm") -> Plane:
    affine = np.diag([*SPACING, 3.0, 1.0])
    affine[:3, 3] = [-11.0, 4.0, 9.0]
    return Grid(affine, (*shape, 1), unit=unit).plane(0)


def wobbly(count=300, radius=18.0, wobble=0.2, centre=(18.0, 40.0)) -> Curve:
    angle = 2 * np.pi * np.arange(count) / count
    r = radius * (1 + wobble * np.cos(3 * angle + 0.4))
    return Curve(np.array(centre) + np.stack([r * np.cos(angle), r * np.sin(angle)], axis=-1))


def disc(radius: float, count=2000, **kw) -> Curve:
    return wobbly(count=count, radius=radius, wobble=0.0, **kw)


def test_disc_has_the_area_perimeter_and_centroid_of_a_disc():
    curve = disc(10.0)
    assert curve.area == pytest.approx(100 * np.pi, rel=1e-5)
    assert curve.perimeter == pytest.approx(20 * np.pi, rel=1e-5)
    np.testing.assert_allclose(curve.centroid, [18.0, 40.0], atol=1e-9)


def backwards(curve: Curve) -> Curve:
    return Curve(curve.points[::-1], curve.unit)


def test_orientation_flips_the_sign():
    curve = wobbly()
    assert curve.is_ccw
    assert not backwards(curve).is_ccw
    assert backwards(curve).signed_area == pytest.approx(-curve.signed_area)


def test_measures_move_with_the_curve():
    curve = wobbly()
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = Curve(3.0 * curve.points @ turn.T + np.array([1e4, -2e4]))
    assert moved.area == pytest.approx(9 * curve.area, rel=1e-9)
    assert moved.perimeter == pytest.approx(3 * curve.perimeter)
    np.testing.assert_allclose(moved.centroid, 3 * turn @ curve.centroid + [1e4, -2e4], atol=1e-6)


def test_resample_is_equally_spaced_and_on_the_curve():
    curve = wobbly(count=57)
    even = curve.resample(400)
    assert curve.distance_to(even.points).max() < 1e-9
    steps = np.linalg.norm(even.edges, axis=1)
    assert np.median(steps) == pytest.approx(curve.perimeter / 400, rel=1e-6)
    assert even.area == pytest.approx(curve.area, rel=1e-3)
    np.testing.assert_array_equal(even.points[0], curve.points[0])
    with pytest.raises(InputError, match="at least 3"):
        curve.resample(2)


def test_contains_and_distance_agree_with_shapely(rng):
    import shapely

    curve = wobbly(count=41, wobble=0.6)
    points = rng.uniform([-10, 10], [45, 70], size=(30, 20, 2))
    polygon = shapely.Polygon(curve.points)
    at = shapely.points(points)
    np.testing.assert_array_equal(curve.contains(points), shapely.contains(polygon, at))
    np.testing.assert_allclose(
        curve.distance_to(points), shapely.distance(polygon.exterior, at), atol=1e-10
    )


def test_even_odd_in_a_self_crossing_curve():
    angle = 2 * np.pi * 2 * np.arange(5) / 5  # pentagram: the middle is outside
    star = Curve(np.stack([np.cos(angle), np.sin(angle)], axis=-1), unit="px")
    assert not star.contains(np.zeros(2))
    assert star.contains(np.array([0.8, 0.0]))


@pytest.mark.parametrize("radius", [4.0, 9.0, 17.3])
def test_coverage_has_exactly_the_area_of_the_disc(radius):
    curve, grid = disc(radius), plane()
    coverage = coverage_from_contours([curve], grid)
    assert coverage.sum() * grid.pixel_area == pytest.approx(curve.area, rel=1e-9)
    assert coverage.min() == 0
    assert coverage.max() == 1


def test_coverage_agrees_with_dense_sampling():
    curve, grid = wobbly(), plane()
    coverage = coverage_from_contours([curve], grid)
    fine = (np.arange(24) + 0.5) / 24 - 0.5
    shifts = np.stack(np.meshgrid(fine, fine), axis=-1).reshape(-1, 2) * np.array(SPACING)
    sampled = np.mean([curve.contains(grid.points() + shift) for shift in shifts], axis=0)
    assert np.abs(coverage - sampled).max() < 0.02


def test_coverage_with_a_hole_a_crossing_and_beyond_the_border():
    grid = plane()
    ring = [disc(15.0), backwards(disc(6.0))]
    expected = ring[0].area - ring[1].area
    for curves in (ring, ring[::-1], [ring[0], backwards(ring[1])]):
        coverage = coverage_from_contours(curves, grid)
        assert coverage.sum() * grid.pixel_area == pytest.approx(expected, rel=1e-9)
    angle = 2 * np.pi * 2 * np.arange(5) / 5
    star = Curve(np.array([18.0, 40.0]) + 14 * np.stack([np.cos(angle), np.sin(angle)], axis=-1))
    assert coverage_from_contours([star], grid)[19, 14] == 0
    outside = disc(9.0, centre=(500.0, 500.0))
    assert coverage_from_contours([outside], grid).sum() == 0
    assert coverage_from_contours([], grid).sum() == 0
    everything = coverage_from_contours([disc(900.0)], grid)
    assert everything.min() == 1


@pytest.mark.parametrize("curve", [wobbly(), disc(12.0), wobbly(radius=5.0)])
def test_contour_to_mask_to_contour_is_within_half_a_pixel(curve):
    grid = plane()
    half = max(SPACING) / 2
    mask = coverage_from_contours([curve], grid) >= 0.5
    (back,) = contours_from_mask(mask, grid)
    assert curve.distance_to(back.points).max() < half
    assert back.distance_to(curve.resample(500).points).max() < half
    # negative control: the same mask with the wrong spacing is off by far more
    wrong = Plane(grid.origin, 1.3 * grid.spacing, 0.0, 1.0, grid.frame, grid.shape)
    (moved,) = contours_from_mask(mask, wrong)
    assert curve.distance_to(moved.points).max() > 2 * half


def test_fractions_give_a_sub_pixel_contour():
    curve, grid = disc(12.0), plane()
    coverage = coverage_from_contours([curve], grid)
    (soft,) = contours_from_mask(coverage, grid)
    (hard,) = contours_from_mask(coverage >= 0.5, grid)
    assert soft.area == pytest.approx(curve.area, rel=0.01)
    assert curve.distance_to(soft.points).max() < 0.35
    assert curve.distance_to(soft.points).mean() < curve.distance_to(hard.points).mean() / 2


def test_mask_survives_its_own_contours(rng):
    from scipy.ndimage import gaussian_filter

    grid = plane()
    mask = gaussian_filter(rng.normal(size=grid.shape), 2.0) > 0.05  # many parts, holes, borders
    assert mask[0].any()
    curves = contours_from_mask(mask, grid)
    assert np.array_equal(coverage_from_contours(curves, grid) >= 0.5, mask)
    areas = [curve.area for curve in curves]
    assert areas == sorted(areas, reverse=True)


def test_outer_boundaries_run_ccw_and_holes_cw():
    grid = plane()
    mask = coverage_from_contours([disc(15.0), disc(6.0)], grid) >= 0.5
    outer, hole = contours_from_mask(mask, grid)
    assert outer.is_ccw
    assert not hole.is_ccw
    assert (outer.unit, len(np.unique(outer.points, axis=0))) == ("mm", len(outer.points))


def test_single_pixels_full_masks_and_empty_masks():
    grid = plane()
    mask = np.zeros(grid.shape, dtype=bool)
    assert contours_from_mask(mask, grid) == []
    mask[7, 11] = True
    (dot,) = contours_from_mask(mask, grid)
    np.testing.assert_allclose(dot.centroid, grid.points()[7, 11])
    (border,) = contours_from_mask(np.ones(grid.shape), grid)
    low_u, high_u, low_v, high_v = grid.extent
    np.testing.assert_allclose(border.points.min(axis=0), [low_u, low_v])
    np.testing.assert_allclose(border.points.max(axis=0), [high_u, high_v])


def test_unusable_masks_and_units_are_refused():
    grid = plane()
    with pytest.raises(InputError, match="does not match the plane's"):
        contours_from_mask(np.zeros((3, 3)), grid)
    for value in (2.0, -0.1, np.nan):
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            contours_from_mask(np.full(grid.shape, value), grid)
    with pytest.raises(InputError, match="px cannot be drawn on a plane in mm"):
        coverage_from_contours([Curve(disc(5.0).points, unit="px")], grid)
