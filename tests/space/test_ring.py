"""Does a ring answer what a chart is asked, with boundaries that never cross?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.space.basis import host_variance
from aistat_jax.space.chart import Chart, linked, unlinked
from aistat_jax.space.curve import coverage_from_contours
from aistat_jax.space.grid import Plane
from aistat_jax.space.ring import Ring, RingChart, ring_chart
from aistat_jax.space.star import star_chart

PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (64, 64), "px")
CENTRE = np.array([31.3, 30.2])


@pytest.fixture
def chart() -> RingChart:
    return ring_chart(CENTRE, 30.0, PLANE, 48)


@pytest.fixture
def values(chart: RingChart) -> np.ndarray:
    angles = chart.angles + np.array([[0.0], [1.0], [2.5]])
    outer = 22 * (1 + 0.12 * np.cos(2 * angles))
    return np.concatenate([outer, outer * (0.5 + 0.1 * np.sin(3 * angles))], axis=1)


def test_a_ring_is_a_chart_of_two_boundaries(chart, values):
    assert isinstance(chart, Chart)
    assert (chart.sites, chart.dims, chart.reach) == (96, 2, (0.0, 30.0))
    points = chart.points(values[0])
    np.testing.assert_allclose(chart.position(points), values[0])
    np.testing.assert_array_equal(chart.nearest(points), np.tile(np.arange(48), 2))
    np.testing.assert_allclose(chart.outward(points), chart.directions, atol=1e-12)
    np.testing.assert_allclose(chart.line(50, values[0, 50:51])[0], points[50])


def test_inside_is_between_the_polygons(chart, values):
    points = PLANE.points()
    inside = chart.inside(values, points)
    for row, own in zip(values, inside, strict=True):
        ring = chart.surface(row)
        wanted = ring.outer.contains(points) & ~ring.inner.contains(points)
        np.testing.assert_array_equal(own, wanted)
        curves = chart.sections(row, PLANE)
        assert [curve.is_ccw for curve in curves] == [True, False]
        assert coverage_from_contours(curves, PLANE).sum() == pytest.approx(ring.area)
    np.testing.assert_allclose(chart.inside_share(values, points), inside.mean(axis=0), atol=1e-15)
    assert not chart.inside(values, CENTRE).any()
    # control: the outer boundary alone holds the centre
    assert chart.star.inside(values[:, :48], CENTRE).all()


def test_measures_are_those_of_two_curves(chart, values):
    rings = [chart.surface(row) for row in values]
    np.testing.assert_allclose(chart.content(values), [ring.area for ring in rings])
    whole = [ring.outer.perimeter + ring.inner.perimeter for ring in rings]
    np.testing.assert_allclose(chart.weights(values).sum(axis=-1), whole)
    np.testing.assert_allclose(chart.sectors(values).sum(axis=-1), chart.content(values), rtol=0.02)
    np.testing.assert_allclose(chart.gap(values, values), 0.0, atol=1e-6)
    grown = np.concatenate([values[:, :48] + 0.5, values[:, 48:]], axis=1)
    gap = chart.gap(values, grown)
    assert (gap[:, :48] > 0.4).all()
    assert (gap[:, 48:] < 1e-6).all()
    distance = chart.distance(values[0])
    np.testing.assert_allclose(distance, distance.T)
    assert np.isinf(distance[:48, 48:]).all()
    assert np.isfinite(distance[:48, :48]).all()
    assert distance[48, 49] < distance[0, 1]


def test_a_shape_is_its_values(chart, values):
    ring = chart.surface(values[1])
    np.testing.assert_allclose(chart.values_of(ring), values[1])
    # the hole is not where the centre is, and the curves the other way round
    apart = ring_chart(CENTRE + 18.0, 30.0, PLANE, 48)
    for bad, given in ((apart, ring), (chart, Ring(ring.inner, ring.outer))):
        assert not bad.sees(given)
        with pytest.raises(InputError, match="not seen from"):
            bad.values_of(given)


def test_each_voxel_is_shared_out_to_both_layers(chart):
    points = PLANE.points().reshape(-1, 2)
    shared = chart.share(points, 1.0)
    total = np.bincount(shared.voxel, shared.share)
    np.testing.assert_allclose(total, 2.0)
    inner = shared.site >= 48
    np.testing.assert_array_equal(shared.voxel[inner], shared.voxel[~inner])
    np.testing.assert_array_equal(shared.site[inner] - 48, shared.site[~inner])


def test_the_link_has_an_inverse_and_no_crossing(values, rng):
    with jax.enable_x64(True):
        np.testing.assert_allclose(linked("ring", unlinked("ring", values)), values, rtol=1e-12)
        wild = 5.0 * rng.standard_normal((2000, 96))
        outer, inner = np.split(np.asarray(linked("ring", wild)), 2, axis=1)
        np.testing.assert_allclose(unlinked("ring", np.hstack([outer, inner])), wild, atol=1e-5)
        twice = unlinked("ring", 2 * values) - unlinked("ring", values)
    assert ((inner > 0) & (inner < outer)).all()
    # the size scales both: log 2 on the first half and nothing on the second
    np.testing.assert_allclose(twice, np.repeat([[np.log(2), 0.0]], 48, axis=1).reshape(1, -1)
                               + np.zeros((3, 1)), atol=1e-12)  # fmt: skip
    # control: two log radii of their own do cross
    assert (np.exp(wild[:, 48:]) > np.exp(wild[:, :48])).any()


def test_each_half_has_the_amplitude(chart):
    basis = chart.basis(8)
    functions = np.asarray(basis.functions)
    np.testing.assert_allclose(functions.T @ functions / 48, np.eye(34), atol=1e-12)
    np.testing.assert_array_equal(np.asarray(basis.eigenvalues)[:8], [0, 0, 1, 1, 1, 1, 4, 4])
    with jax.enable_x64(True):
        from aistat_jax.space.basis import spectral_variance

        variance = np.asarray(spectral_variance(basis.eigenvalues, 0.17, 0.45, 1.5, 1, 2))
    kernel = (functions * variance) @ functions.T
    np.testing.assert_allclose(np.sqrt(np.diag(kernel)), 0.17, rtol=1e-12)
    assert np.abs(kernel[:48, 48:]).max() == 0
    # control: counted as one block each has less
    one = host_variance(np.asarray(basis.eigenvalues), 0.17, 0.45, 1.5)
    assert np.sqrt(np.diag((functions * one) @ functions.T)).max() < 0.13


def test_edges_bend_as_those_of_stars(chart, values):
    star = star_chart(CENTRE, 30.0, PLANE, 48)
    with jax.enable_x64(True):
        found = np.asarray(chart.bending(1.5)(values[0]))
        wanted = [star.bending(1.5)(half) for half in np.split(values[0], 2)]
    np.testing.assert_allclose(found, np.concatenate(wanted), rtol=1e-12)
    assert (np.abs(found - values[0]) > 0.01).mean() > 0.8
