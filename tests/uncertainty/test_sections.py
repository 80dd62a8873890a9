"""Do the sections of a surface agree with its probabilities, its volume and its own points?"""

from __future__ import annotations

import numpy as np
import pytest
import shapely

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.curve import Curve, coverage_from_contours
from aistat_jax.space.grid import Grid
from aistat_jax.uncertainty.sections import band_surfaces, section_rows
from tests.helpers import make_posterior, make_surface, make_volume


def turned_grid(spacing: tuple[float, float, float] = (1.5, 1.5, 2.0)) -> Grid:
    """A grid whose axes are none of the patient's, around the surface of `make_surface`."""
    a, b = 0.5, 0.3
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine, shape = np.eye(4), (36, 36, 26)
    affine[:3, :3] = about_z @ about_x * np.array(spacing)
    affine[:3, 3] = np.array([63.0, 61.0, 40.0]) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(affine, shape)


@pytest.fixture(scope="module")
def posterior():
    return make_surface(sd=0.04, swell=2.0)


def test_the_middle_section_is_where_the_probability_is_a_half(posterior):
    grid = turned_grid()
    median = replace(posterior, radii=np.quantile(posterior.draws, 0.5, axis=0)[None, None])
    inside = aj.probability_map(posterior, grid)
    found = aj.sections(median, grid, aj.simultaneous_band(posterior))
    away = 0
    for section in found.values():
        half = inside[:, :, section.plane.index] > 0.5
        cover = coverage_from_contours(section.estimate, section.plane)
        differ = half != (cover >= 0.5)
        centres = section.plane.points()[differ]
        for curve in section.estimate:
            assert (curve.distance_to(centres) < section.plane.spacing.max()).all()
        lower = coverage_from_contours(section.lower, section.plane) >= 0.5
        away += int((half != lower).sum())
        assert not (lower & ~half).any()
    assert away > 500  # negative control: the lower edge is another one
    outside = set(range(grid.shape[2])) - {int(name[1:]) for name in found}
    assert inside[:, :, sorted(outside)].max() < 0.5


@pytest.mark.parametrize("grid", [turned_grid(), Grid(np.diag([2.0, 2.0, 2.5, 1.0]), (64, 60, 40))])
def test_sections_add_up_to_the_volume(posterior, grid):
    found = aj.sections(posterior, grid)
    total = sum(aj.to_shapely(each.estimate).area for each in found.values()) * grid.spacing[2]
    volume = float(posterior.chart.content(posterior.estimate))
    assert total == pytest.approx(volume, rel=0.02)
    upper = sum(aj.to_shapely(each.upper).area for each in found.values()) * grid.spacing[2]
    assert upper > 1.1 * volume  # negative control


def test_sections_are_those_of_the_surface(posterior):
    grid = turned_grid()
    for section in aj.sections(posterior, grid).values():
        for curve in section.estimate:
            world = section.plane.to_world(curve.points)
            site = posterior.chart.nearest(world)
            apart = posterior.chart.position(world) - posterior.estimate[site]
            assert np.abs(apart).max() < 1.0  # less than radii differ between two rays
    image = make_volume()
    names = list(aj.sections(posterior, image))
    assert names == list(aj.sections(posterior, image.primary)) == sorted(names)
    assert aj.sections(posterior, Grid(np.diag([2.0, 2.0, 4.0, 1.0]), (4, 4, 2))) == {}  # below


def test_rows_are_points_of_the_sections(posterior):
    image = make_volume()
    rows = section_rows(posterior, image)
    assert list(rows[0]) == [
        "target",
        "slice",
        "vertex",
        "x_mm",
        "y_mm",
        "z_mm",
        "kind",
        "loop",
        "channel",
    ]
    assert {row["kind"] for row in rows} == {"estimate", "lower", "upper"}
    height = image.primary.grid.affine[2, 3] + 4.0 * np.array([row["slice"] for row in rows])
    assert np.allclose(height, [row["z_mm"] for row in rows], atol=1e-4)
    count = sum(
        len(curve.points)
        for section in aj.sections(posterior, image).values()
        for kind in ("estimate", "lower", "upper")
        for curve in getattr(section, kind)
    )
    assert len(rows) == count


def test_polygons_have_holes():
    def square(side: float) -> Curve:
        return Curve(np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2)

    region = aj.to_shapely([square(4.0), square(2.0)])
    assert region.area == pytest.approx(12.0)
    assert len(region.geoms[0].interiors) == 1
    assert aj.to_shapely(square(4.0)).area == pytest.approx(16.0)
    assert aj.to_shapely([]).is_empty


def test_bands_and_estimates_are_polygons(posterior):
    plane = make_volume().primary.grid.plane(10)
    band = aj.simultaneous_band(posterior)
    estimate, ring = aj.to_shapely(posterior, plane), aj.to_shapely(band, plane)
    surfaces = band_surfaces(posterior, band)
    areas = [sum(c.area for c in mesh.section(plane)) for mesh in (surfaces.lower, surfaces.upper)]
    assert estimate.area == pytest.approx(sum(c.area for c in surfaces.estimate.section(plane)))
    assert ring.area == pytest.approx(areas[1] - areas[0], rel=1e-3)
    assert ring.union(estimate).area == pytest.approx(areas[1], rel=1e-3)
    assert isinstance(ring, shapely.MultiPolygon)
    with pytest.raises(aj.InputError, match="no slice of its own"):
        aj.to_shapely(posterior)
    flat = make_posterior()
    (own,) = aj.to_shapely(flat).geoms
    assert own.area == pytest.approx(flat.chart.surface(flat.estimate).area)
    assert aj.to_shapely(aj.simultaneous_band(flat)).contains(own.exterior)


def test_a_band_that_reaches_the_centre_still_has_a_surface():
    wide = make_surface(sd=0.6, draws=200)
    band = aj.simultaneous_band(wide)
    assert band.lower.min() == 0
    surfaces = band_surfaces(wide, band)
    assert surfaces.lower.check().volume > 0
    assert aj.sections(wide, make_volume(), band)


def test_what_has_no_sections_is_refused(posterior):
    flat = make_posterior()
    for call in (lambda: aj.sections(flat, make_volume()), lambda: aj.volume_posterior(flat)):
        with pytest.raises(aj.InputError, match="is a contour in a slice"):
            call()
    with pytest.raises(aj.InputError, match="the surface is in mm and the slices are in px"):
        aj.sections(posterior, make_volume("px"))
    with pytest.raises(aj.InputError, match="128 sites and the surface 642"):
        aj.sections(posterior, make_volume(), aj.simultaneous_band(flat))
