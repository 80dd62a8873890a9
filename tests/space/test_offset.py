"""Does a curve's offset chart answer what a chart is asked, and refuse what folds over?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.chart import Chart, interpolated
from aistat_jax.space.curve import Curve, contours_from_mask, last_exits
from aistat_jax.space.grid import Plane
from aistat_jax.space.offset import OffsetChart, bending, offset_chart
from aistat_jax.space.star import star_chart
from tests.helpers import circle, horseshoe_curve, horseshoe_depth
from tests.space.test_reach import disc

PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (96, 96), "px")
MASK = horseshoe_depth(PLANE.points()) > 0


@pytest.fixture(scope="module")
def chart() -> OffsetChart:
    return offset_chart(contours_from_mask(MASK, PLANE)[0], 8.0, PLANE, 256)


@pytest.fixture
def values(chart: OffsetChart, rng: np.random.Generator) -> np.ndarray:
    """Smooth boundaries within the reach."""
    basis = np.asarray(chart.basis(12).functions)
    draws = rng.standard_normal((6, basis.shape[1])) @ basis.T
    low, high = chart.reach
    return 0.5 * (high + low) + 0.48 * (high - low) * draws / np.abs(draws).max()


def ring(radius: float, sites: int = 128, reach: float = 8.0) -> OffsetChart:
    about = circle(radius, (48.0, 48.0), 800)
    return offset_chart(replace(about, unit="px"), reach, PLANE, sites, smooth=False)


def test_it_is_a_chart(chart):
    assert isinstance(chart, Chart)
    assert (chart.dims, chart.sites, chart.link) == (2, 256, "identity")
    assert chart.reach[0] < -3
    assert chart.reach[1] > 3


def test_values_come_back_from_their_curves(chart, values):
    for row in values:
        curve = chart.surface(row)
        assert curve.is_ccw
        assert chart.sees(curve)
        np.testing.assert_allclose(chart.values_of(curve), row, atol=1e-9)
    np.testing.assert_allclose(chart.position(chart.points(values)), values, atol=1e-9)
    np.testing.assert_array_equal(chart.nearest(chart.points(values[0])), np.arange(256))
    np.testing.assert_allclose(chart.line(5, values[0, 5:6])[0], chart.points(values[0])[5])


def test_inside_and_content_are_those_of_the_polygon(chart, values):
    points = PLANE.points()
    inside = chart.inside(values, points)
    for row, own in zip(values, inside, strict=True):
        curve = chart.surface(row)
        np.testing.assert_array_equal(own, curve.contains(points))
        assert chart.content(row) == pytest.approx(curve.area)
        assert chart.weights(row).sum() == pytest.approx(curve.perimeter)
        assert chart.sectors(row).sum() == pytest.approx(curve.area, rel=0.02)
    np.testing.assert_allclose(chart.inside_share(values, points), inside.mean(axis=0), atol=1e-15)
    assert (chart.inside(values + 0.3, points) != inside).any()
    assert chart.extent == pytest.approx(
        (chart.position(points) < chart.high).sum(),
        rel=0.03,
    )


def test_positions_are_signed_distances(chart):
    points = PLANE.points()
    curve = chart.curve
    distance = np.where(curve.contains(points), -1, 1) * curve.distance_to(points)
    near = (distance > chart.low) & (distance < chart.high)
    np.testing.assert_allclose(chart.position(points)[near], distance[near], atol=0.05)
    np.testing.assert_allclose(chart.position(points)[~near], distance[~near], atol=0.5)
    well = points[(distance > 0.9 * chart.low) & (distance < 0.9 * chart.high)]
    ahead, behind = (chart.position(well + s * 0.01 * chart.outward(well)) for s in (1, -1))
    np.testing.assert_allclose((ahead - behind) / 0.02, 1.0, atol=0.02)


def test_shares_sum_to_one_and_a_normal_keeps_its_own(chart, values):
    shared = chart.share(PLANE.points().reshape(-1, 2), 1.0)
    np.testing.assert_allclose(np.bincount(shared.voxel, shared.share), 1.0)
    on_sites = chart.share(chart.points(values[0]))
    own = on_sites.share > 1e-6
    np.testing.assert_array_equal(on_sites.site[own], on_sites.voxel[own])
    between = (chart.points(values[0]) + np.roll(chart.points(values[0]), -1, axis=0)) / 2
    ends = np.stack([values[0], np.roll(values[0], -1)])
    found = interpolated(chart, values[0], between)
    assert (found >= ends.min(axis=0) - 1e-9).all()
    assert (found <= ends.max(axis=0) + 1e-9).all()


def test_no_normals_cross_within_the_reach_and_some_do_beyond(chart):
    """Every polygon at one offset is simple within the reach; beyond it soon one is not."""
    import shapely

    def simple(offset: float) -> bool:
        return shapely.LinearRing(chart.points(np.full(chart.sites, offset))).is_simple

    assert all(simple(offset) for offset in np.linspace(chart.low, chart.high, 25))
    low, high = chart.reach
    assert not (simple(1.6 * low) and simple(8 * high / 4))


def test_on_a_circle_it_is_a_star_shifted_by_its_radius(rng):
    """Same basis, same prior, same bent edges to first order, same distances."""
    chart, star = ring(20.0), star_chart(np.full(2, 48.0), 40.0, PLANE, 128)
    np.testing.assert_allclose(chart.radius, 20.0, rtol=1e-3)
    mine, theirs = chart.basis(16), star.basis(16)
    np.testing.assert_allclose(mine.eigenvalues, theirs.eigenvalues, rtol=2e-3)
    small = 0.01 * rng.standard_normal(33) @ np.asarray(theirs.functions).T
    with jax.enable_x64(True):
        seen = np.asarray(chart.bending(2.0)(small))
        wanted = np.asarray(star.bending(2.0)(20.0 + small)) - 20.0
        straight = np.asarray(chart.bending(2.0, 0.0)(np.full(128, 0.3)))
    np.testing.assert_allclose(seen, wanted, atol=2e-3)  # of a shift of 0.1
    np.testing.assert_allclose(straight, 0.3)
    np.testing.assert_allclose(chart.content(small), star.content(20.0 + small), rtol=1e-3)
    np.testing.assert_allclose(chart.distance(small)[3, 60], star.distance(20 + small)[3, 60], 0.01)
    first, second = chart.points(small)[[3, 60]]
    np.testing.assert_allclose(chart.apart(first, second), 20 * 57 * star.step, rtol=0.01)
    turned = chart.beside(first, 2 * star.step)
    np.testing.assert_allclose(chart.nearest(turned), [1, 5])


def test_bending_moves_a_blurred_edge_where_it_seems_to_be():
    """Against the half-way level of a blurred horseshoe; without it the error is four times."""
    from scipy.ndimage import gaussian_filter

    outline = horseshoe_curve(8000)
    fine = Plane(np.zeros(2), np.full(2, 0.2), 0.0, 1.0, np.eye(3), (480, 480), "px")
    blurred = gaussian_filter((horseshoe_depth(fine.points()) > 0).astype(float), 2.0 / 0.2)
    chart = offset_chart(outline, 4.0, PLANE, 256, smooth=False)
    truth, seen = chart.values_of(outline), chart.values_of(contours_from_mask(blurred, fine)[0])
    with jax.enable_x64(True):
        told = np.asarray(chart.bending(2.0)(truth))
    # within about three blurs of the round ends the two walls see each other
    assert np.abs(told - seen).mean() < 0.25 * np.abs(truth - seen).mean()
    flat = bending(np.zeros(64), 1.0, 2.0, 1.0)
    wave = np.cos(2 * np.pi * np.arange(64) / 16)
    with jax.enable_x64(True):
        damped = np.asarray(flat(wave))
    np.testing.assert_allclose(damped, np.exp(-0.5 * (2 * 2 * np.pi / 16) ** 2) * wave, atol=1e-12)


def test_a_horseshoe_is_held_by_no_star_and_by_its_offsets(chart):
    points = PLANE.points()

    def dice(mask: np.ndarray) -> float:
        return 2 * float((mask & MASK).sum() / (mask.sum() + MASK.sum()))

    outline = contours_from_mask(MASK, PLANE)[0]
    assert dice(chart.inside(chart.values_of(outline)[None], points)[0]) > 0.99
    best = 0.0
    for centre in points[MASK][::5]:
        star = star_chart(centre, 200.0, PLANE)
        radii = np.minimum(last_exits(outline.points, centre, star.directions), 200.0)
        best = max(best, dice(star.inside(radii[None], points)[0]))
    assert best < 0.92


def test_it_lies_in_its_own_slice_only(chart, values):
    (curve,) = chart.sections(values[0], PLANE)
    np.testing.assert_array_equal(curve.points, chart.points(values[0]))
    assert chart.sections(values[0], replace(PLANE, offset=1.0)) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: offset_chart(Curve(disc(20.0)[0][:128], "px"), 5.0, PLANE), "is open"),
        (
            lambda: offset_chart(
                Curve(disc(20.0)[0] * np.cos(np.arange(256) * np.pi / 64)[:, None], "px"),
                5.0,
                PLANE,
            ),
            "crosses itself",
        ),
        (lambda: offset_chart(Curve(disc(20.0)[0], "mm"), 5.0, PLANE), "one unit"),
        (lambda: offset_chart(Curve(disc(0.7)[0], "px"), 5.0, PLANE), "too small or too narrow"),
        (lambda: offset_chart(Curve(np.zeros((2, 2)), "px"), 5.0, PLANE), "at least 3 points"),
        (lambda: offset_chart(Curve(disc(20.0)[0], "px"), 0.0, PLANE), "must be positive"),
        (lambda: offset_chart(Curve(disc(20.0)[0], "px"), 5.0, PLANE, 8), "at least 16 sites"),
        (lambda: ring(20.0).values_of(replace(circle(40.0), unit="px")), "do not meet"),
    ],
)
def test_what_is_no_reference_is_refused_in_one_sentence(make, words):
    with pytest.raises(aj.InputError, match=words) as refused:
        make()
    assert str(refused.value).count(". ") == 0
