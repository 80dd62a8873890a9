"""Does a star answer what a chart is asked, and do readers of images ask nothing else?"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import record, replace
from aistat_jax.boundary.model import BoundaryData, boundary_program
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.tables import smooth_table
from aistat_jax.inference.laplace import laplace_one
from aistat_jax.space.chart import Chart, Shares, even_ends, interpolated, linked, unlinked
from aistat_jax.space.star import StarChart
from tests.boundary import brute


@pytest.fixture
def chart() -> StarChart:
    return brute.a_chart()


@pytest.fixture
def radii(chart: StarChart) -> np.ndarray:
    return np.stack(brute.boundaries(chart, 6))


def test_a_star_is_a_chart(chart):
    assert isinstance(chart, Chart)
    assert not isinstance(chart.plane, Chart)
    assert (chart.dims, chart.sites, chart.reach) == (2, 64, (0.0, brute.RADIUS_MAX))


def test_inside_is_inside_the_polygon(chart, radii):
    points = chart.plane.points()
    inside = chart.inside(radii, points)
    for row, own in zip(radii, inside, strict=True):
        np.testing.assert_array_equal(own, chart.surface(row).contains(points))
    np.testing.assert_allclose(chart.inside_share(radii, points), inside.mean(axis=0), atol=1e-15)
    assert (chart.inside(1.05 * radii, points) != inside).any()
    assert chart.inside(radii, chart.centre).all()  # where no draw has a say
    assert chart.inside_share(radii, chart.centre + 1e3) == 0
    assert chart.inside(radii[:0], points).shape == (0, *points.shape[:-1])


def test_content_and_weights_are_those_of_the_curve(chart, radii):
    curves = [chart.surface(row) for row in radii]
    np.testing.assert_allclose(chart.content(radii), [curve.area for curve in curves])
    np.testing.assert_allclose(
        chart.weights(radii).sum(axis=-1), [curve.perimeter for curve in curves]
    )
    np.testing.assert_allclose(chart.sectors(radii).sum(axis=-1), chart.content(radii), rtol=0.02)
    whole = np.full(chart.sites, chart.reach[1])
    assert chart.extent == pytest.approx(chart.sectors(whole).sum())


def test_points_of_a_boundary_know_their_site_and_position(chart, radii):
    points = chart.points(radii[0])
    np.testing.assert_allclose(chart.position(points), radii[0])
    np.testing.assert_array_equal(chart.nearest(points), np.arange(64))
    np.testing.assert_allclose(chart.outward(points), chart.directions, atol=1e-12)
    np.testing.assert_allclose(chart.line(5, radii[0, 5:6])[0], points[5])
    between = (points[:-1] + points[1:]) / 2
    found = interpolated(chart, radii, np.concatenate([points, between]))
    np.testing.assert_allclose(found[:, :64], radii, rtol=1e-12)
    ends = np.stack([radii[:, :-1], radii[:, 1:]])
    assert (found[:, 64:] >= ends.min(axis=0)).all()
    assert (found[:, 64:] <= ends.max(axis=0)).all()


def test_distances_run_along_the_boundary(chart):
    circle = np.full(64, 10.0)
    distance = chart.distance(circle)
    points = chart.points(circle)
    np.testing.assert_allclose(distance, distance.T)
    assert distance[0, 63] == pytest.approx(distance[0, 1])
    assert distance.max() == pytest.approx(10 * np.pi)
    assert chart.apart(points[3], points[60]) == pytest.approx(distance[3, 60])
    before, after = chart.beside(points[3], 2 * chart.step)
    np.testing.assert_allclose([before, after], points[[1, 5]])


def test_a_slice_shows_a_star_where_it_lies_and_nowhere_else(chart, radii):
    plane = chart.plane
    (curve,) = chart.sections(radii[0], plane)
    np.testing.assert_array_equal(curve.points, chart.points(radii[0]))
    assert chart.sections(radii[0], replace(plane, offset=plane.offset + plane.thickness)) == []
    assert chart.sections(radii[0], replace(plane, frame=plane.frame[[1, 2, 0]])) == []


@pytest.mark.parametrize("link", ["log", "identity"])
def test_links_have_inverses(link):
    values = np.array([0.5, 2.0, 7.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(linked(link, unlinked(link, values)), values)


# ------------------------------------------------------------------ a chart that is no star


@record
class Offset:
    """Offsets along the rays of a star from a circle; what else is asked, the star answers."""

    star: StarChart
    radius: float
    width: float

    link = "identity"

    @property
    def reach(self) -> tuple[float, float]:
        return -self.width, self.width

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        return even_ends(self.reach, self.star.sites)

    def position(self, points: np.ndarray) -> np.ndarray:
        return self.star.position(points) - self.radius

    def share(self, points: np.ndarray, footprint: float = 0.0) -> Shares:
        shared = self.star.share(points, footprint)
        return shared._replace(position=shared.position - self.radius)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "star":
            raise AttributeError(name)
        return getattr(self.star, name)


def test_tables_begin_where_the_chart_does(rng):
    """Sums over voxels one by one; those further in than the reach are inside of every boundary."""
    from scipy.special import ndtr

    star = brute.a_chart()
    chart = Offset(star, 12.0, 5.0)
    points = star.plane.points().reshape(-1, 2)
    y = rng.normal(size=len(points))
    shared = chart.share(points, 2.0)
    table = smooth_table(chart, shared, [(y, 1), (y, 2)], 1.5)
    for offsets in rng.uniform(-5, 5, (3, 64)):
        h = ndtr((offsets[shared.site] - shared.position) / 1.5)
        wanted = [
            np.bincount(shared.site, shared.share * y[shared.voxel] * h**power, 64)
            for power in (1, 2)
        ]
        with jax.enable_x64(True):
            found = np.asarray(table(offsets))
        np.testing.assert_allclose(found, np.stack(wanted, axis=-1), atol=1e-7)


def fitted(data: BoundaryData) -> np.ndarray:
    key, on_device = jax.random.key(0), jax.device_put(data)
    return laplace_one(boundary_program, on_device, None, key, 1000).sites["radii"]


def test_the_program_fits_offsets_as_it_does_radii(rng):
    """One image, read as a star and as offsets from a circle, under priors that say about the same:
    the boundaries differ by less than half a standard deviation, and offsets are no log radii."""
    star = brute.a_chart()
    evidence = aj.intensity(brute.step_image(rng, star), blur=2.0, temper=1.0, curved=False)
    held = Prior(amplitude=0.1, lengthscale=0.8, fixed=("amplitude", "lengthscale"))
    model = aj.boundary_model(
        brute.a_target(star), evidence, prior=held, rays=64, radius_max=26.0, harmonics=8
    )
    chart = Offset(star, 12.0, 11.0)
    data = BoundaryData(
        chart.basis(8), replace(held, amplitude=1.2, mean_log_sd=3.6), np.zeros(64),
        evidence.tabulate(model.target, chart), np.zeros(17), np.ones(1), chart.link,
    )  # fmt: skip
    with jax.enable_x64(True):
        as_star, as_offsets = (fitted(each) for each in (model.data, data))
    sd = as_star.std(axis=0)
    gap = 12.0 + as_offsets.mean(axis=0) - as_star.mean(axis=0)
    assert np.abs(gap).max() < 0.5 * sd.min()
    np.testing.assert_allclose(as_offsets.std(axis=0), sd, rtol=0.2)
    assert (as_offsets < 0).any()
