"""Is a ring shown, compared and written as two boundaries?"""

from __future__ import annotations

import csv
import itertools
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shapely
from matplotlib.collections import LineCollection
from shapely.geometry import shape

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.case import Case
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Grid
from aistat_jax.space.ring import Ring, ring_chart, rings_of
from aistat_jax.uncertainty.reference import agreement, with_references
from tests.helpers import TRUSTED, circle, ellipse_radii, smooth_draws

CENTRE, RAYS = np.array([63.0, 61.0]), 64
OUTER, INNER = 24.0, 12.0
GAP = OUTER - INNER


def ring_of(outer: float = OUTER, inner: float = INNER, shift: float = 0.0) -> Ring:
    centre = (float(CENTRE[0]) + shift, float(CENTRE[1]))
    return Ring(circle(outer, centre), circle(inner, centre))


def mask_of(image: aj.Image, ring: Ring) -> np.ndarray:
    return ring.contains(image.primary.grid.plane(0).points())[..., None]


@pytest.fixture(scope="module")
def image() -> aj.Image:
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (64, 64, 1))
    inside = ring_of().contains(grid.plane(0).points())
    noise = np.random.default_rng(0).standard_normal(inside.shape)
    return aj.Image.from_arrays(CT=(100.0 * inside + 10 * noise)[..., None], spacing_mm=2.0)


@pytest.fixture(scope="module")
def posterior(image) -> aj.Posterior:
    chart = ring_chart(CENTRE, 40.0, image.primary.grid.plane(0), RAYS)
    outer, inner = (
        radius * np.exp(smooth_draws(chart.angles, 300, sd, seed))
        for seed, (radius, sd) in enumerate(((OUTER, 0.02), (INNER, 0.05)))
    )
    radii = np.concatenate([outer, inner], axis=1)
    return aj.Posterior(chart, radii[None], {}, TRUSTED, "laplace", 0, "wall")


@pytest.fixture(scope="module")
def contour(posterior):
    return aj.contour_of(posterior, tolerance_mm=2.0)


def crosses(line: Any) -> bool:
    """Whether a line goes from one boundary to the other."""
    away = np.linalg.norm(np.asarray(line, dtype=float) - CENTRE, axis=1)
    return bool(np.nanmax(away) - np.nanmin(away) > GAP / 2)


def drawn(axes: Any) -> list[np.ndarray]:
    """All closed lines in axes."""
    lines = [np.asarray(line.get_xydata()) for line in axes.lines]
    for each in axes.collections:
        if isinstance(each, LineCollection):
            lines += each.get_segments()
    return [line for line in lines if len(line) > 2]


# ----------------------------------------------------------------------------- pictures


def test_no_line_ties_the_outer_boundary_to_the_inner(image, posterior, contour):
    parts = posterior, contour.band, contour.grade
    figures = [
        aj.plot_contours(image, *parts, reference=ring_of()),
        aj.plot_probability(image, posterior),
        aj.plot_gallery(image, [posterior], [contour.band], [contour.grade]),
        aj.plot_comparison(image, {"laplace": posterior, "mask": mask_of(image, ring_of())}),
    ]
    for figure in figures:
        lines = [line for axes in figure.axes for line in drawn(axes)]
        assert len(lines) > 4
        assert not any(crosses(line) for line in lines)
    # control: the sites in a row are such a line
    assert crosses(posterior.chart.points(posterior.estimate))


def test_the_band_is_filled_about_either_boundary_and_nowhere_else(image, posterior, contour):
    (patch,) = aj.plot_contours(image, posterior, contour.band).axes[0].patches
    curves = [Curve(np.asarray(line)[:-1]) for line in patch.get_path().to_polygons()]
    assert len(curves) == 4
    for radius, filled in ((OUTER, True), (INNER, True), (OUTER - GAP / 2, False), (2.0, False)):
        point = CENTRE + np.array([radius, 0.0])
        turns = sum((1 if curve.is_ccw else -1) * bool(curve.contains(point)) for curve in curves)
        assert (turns != 0) == filled


def test_it_is_unrolled_into_two_lines_of_one_turn(posterior, contour):
    figure = aj.plot_unrolled(posterior, contour.band, contour.grade)
    top, below, *_ = figure.axes
    for line in top.lines:
        height = np.asarray(line.get_ydata(), dtype=float)
        assert np.ptp(height) < GAP / 2
    ends = [np.asarray(line.get_xdata(), dtype=float)[-1] for line in top.lines]
    assert ends == pytest.approx([360.0] * len(ends))
    notes: list[Any] = list(below.texts)
    named = {text.get_text(): text.xy for text in notes if "boundary" in text.get_text()}
    widths = np.split(contour.band.half_width, 2)
    at = round(named["outer boundary"][0] / 360 * RAYS) % RAYS
    assert named["outer boundary"][1] == pytest.approx(widths[0][at])
    assert named["inner boundary"][1] == pytest.approx(widths[1][at])


def test_the_explorer_shows_both_boundaries(image, posterior):
    pytest.importorskip("ipympl")
    pytest.importorskip("anywidget")
    explorer = aj.explore(image, posterior, reference=ring_of(), tolerance_mm=2.0)
    explorer.controls.draw.value = 7
    explorer.controls.bundle.value = 5
    panel = explorer.scene.panels[0]
    for part, count in (
        (panel.edges, 4), (panel.estimate, 2), (panel.levels, 4), (panel.bundle, 10),
    ):  # fmt: skip
        lines = part.get_segments()
        assert len(lines) == count
        assert not any(crosses(line) for line in lines)
    assert len(explorer.scene.ring.lines.get_segments()) == 2
    for site in (3, RAYS + 3):
        explorer.look_along(site)
        (degrees,), (width,) = explorer.scene.ring.dot.get_data()
        assert degrees == pytest.approx(3 * 360 / RAYS)
        assert width == explorer.band.half_width[site]
    for radius, site in ((INNER + 2, RAYS), (OUTER - 2, 0), (1.0, RAYS), (OUTER + 9, 0)):
        at = SimpleNamespace(inaxes=panel.axes, xdata=CENTRE[0] + radius, ydata=CENTRE[1])
        assert explorer.gestures._ray_at(at) == site
    before = explorer.posterior
    explorer.add_click((float(CENTRE[0]) + INNER, float(CENTRE[1])))
    assert explorer.line.trouble
    assert "clicks say of one boundary, and a ring has two" in explorer.line.said
    assert explorer.posterior is before


def test_what_shows_one_boundary_says_so(image, posterior):
    with pytest.raises(InputError, match="wall is a ring, and this comparison shows one"):
        aj.compare(image, {"laplace": posterior})


# ------------------------------------------------------------------------------ regions


def test_probability_contours_are_nested_and_agree_with_the_map(posterior):
    levels = (0.05, 0.5, 0.95)
    found: dict[float, Any] = dict(aj.probability_contours(posterior, levels))
    regions = [aj.to_shapely(found[level]) for level in levels]
    for wide, narrow in itertools.pairwise(regions):
        assert wide.contains(narrow)
        assert wide.area > narrow.area + 50
    chart = posterior.chart
    fine = replace(chart.plane, spacing=np.full(2, 0.5), shape=(256, 256))
    share, points = aj.probability_map(posterior, fine), fine.points()

    def off(curves: list[Any], level: float) -> float:
        region = aj.to_shapely(curves)
        shapely.prepare(region)
        inside = shapely.contains_xy(region, points[..., 0], points[..., 1])
        return float((inside != (share >= level)).mean())

    assert all(off(found[level], level) < 0.002 for level in levels)
    # control: with the inner radii of the other side
    far = np.quantile(posterior.draws, 0.05, axis=0)
    assert off(chart.sections(far, chart.plane), 0.95) > 0.006


def test_a_band_s_region_is_that_of_both_bands(posterior, contour):
    band, star = contour.band, posterior.chart.star
    areas = [star.content(half) for edge in (band.upper, band.lower) for half in np.split(edge, 2)]
    outer, inner = areas[0] - areas[2], areas[1] - areas[3]
    assert inner > 50
    assert aj.to_shapely(band).area == pytest.approx(outer + inner, rel=1e-6)
    chart = posterior.chart
    most, least = chart.content(band.largest), chart.content(band.smallest)
    assert most - least == pytest.approx(outer + inner, rel=1e-6)
    assert least < chart.content(posterior.estimate) < most


def test_a_wall_that_vanishes_has_no_area(posterior):
    chart = posterior.chart
    values = np.concatenate([np.full(RAYS, 10.0), np.full(RAYS, 14.0)])
    values[: RAYS // 2] = 18.0
    middle = chart.star.content(values[:RAYS]) - chart.star.content(
        np.minimum(*np.split(values, 2))
    )
    assert chart.content(values) == pytest.approx(middle)
    curves = chart.sections(values, chart.plane)
    assert aj.to_shapely(curves).area == pytest.approx(middle, rel=1e-6)
    gone = np.repeat([10.0, 14.0], RAYS)
    assert chart.content(gone) == 0
    assert aj.to_shapely(chart.sections(gone, chart.plane)).area == 0


# --------------------------------------------------------------------------- references


def test_rings_are_measured_as_regions_with_a_hole():
    one, other = ring_of(20.0, 10.0), ring_of(22.0, 9.0)
    areas = np.pi * np.array([20**2 - 10**2, 22**2 - 9**2])
    assert aj.dice(one, other) == pytest.approx(2 * areas[0] / areas.sum(), rel=1e-4)
    assert aj.lebesgue_error(one, other) == pytest.approx(areas[1] - areas[0], rel=1e-3)
    found = aj.surface_distances(one, other)
    assert found.hausdorff == pytest.approx(2.0, abs=1e-3)
    lengths = np.array([20 + 22, 10 + 9])
    assert found.assd == pytest.approx(lengths @ [2.0, 1.0] / lengths.sum(), abs=1e-3)
    # control: of the outer curves alone it is another
    assert aj.surface_distances(one.outer, other.outer).assd == pytest.approx(2.0, abs=1e-3)
    with pytest.raises(InputError, match="a Ring cannot be compared with a Curve"):
        aj.surface_distances(one, other.outer)


def test_the_ring_of_a_mask_is_a_region_with_its_largest_hole(image):
    plane = image.primary.grid.plane(0)
    mask = mask_of(image, ring_of())[..., 0]
    mask[2:8, 2:8] = True  # a region without a hole
    mask[50, 30] = mask[51, 30] = False  # a small second hole, in the wall
    (found,) = rings_of(contours_from_mask(mask, plane))
    assert found.outer.area == pytest.approx(np.pi * OUTER**2, rel=0.02)
    assert found.inner.area == pytest.approx(np.pi * INNER**2, rel=0.02)
    assert rings_of(contours_from_mask(mask & (plane.points()[..., 0] < 20), plane)) == []


def test_a_ring_agrees_with_its_own_mask_and_not_with_others(image, contour):
    def found(ring: Ring) -> Any:
        mask = mask_of(image, ring)
        return agreement(with_references([contour], mask, image.primary), mask, image.primary)

    right = found(ring_of())
    assert right.dice > 0.95
    assert right.assd < 1.0
    assert (right.band_share, right.slices_compared) == (1.0, 1)
    for wrong in (ring_of(shift=6.0), ring_of(inner=18.0), ring_of(outer=32.0)):
        off = found(wrong)
        assert off.dice < right.dice - 0.1
        assert off.band_share == 0.0
    disc = circle(OUTER, (float(CENTRE[0]), float(CENTRE[1])))
    mask = disc.contains(image.primary.grid.plane(0).points())[..., None]
    (alone,) = with_references([contour], mask, image.primary)
    assert alone.reference is None
    whole = agreement([alone], mask, image.primary)
    assert whole.slices_compared == 0
    assert whole.dice < 0.9


# -------------------------------------------------------------------------------- files


def test_a_case_is_written_with_nested_edges_of_both_boundaries(image, contour, tmp_path):
    mask = mask_of(image, ring_of())
    contours = with_references([contour], mask, image.primary)
    found = agreement(contours, mask, image.primary)
    names = aj.write_case(tmp_path, Case(image, tuple(contours), found))
    assert {"summary.json", "contours.csv", "contours.geojson", "figure.png", "report.html"} <= set(
        names
    )
    (target,) = json.loads((tmp_path / "summary.json").read_text())["targets"]
    assert target["chart"] == "ring"
    assert target["size"]["mean"] == pytest.approx(ring_of().area, rel=0.05)
    assert target["reference"]["dice"] > 0.95
    assert target["reference"]["assd_mm"] < 1.0
    drawn = json.loads((tmp_path / "contours.geojson").read_text())["features"]
    regions = {each["properties"]["kind"]: shape(each["geometry"]) for each in drawn}
    assert regions["upper"].contains(regions["estimate"])
    assert regions["estimate"].contains(regions["lower"])
    assert regions["upper"].difference(regions["lower"]).area == pytest.approx(
        aj.to_shapely(contour.band).area, rel=1e-3
    )
    rows = list(csv.DictReader((tmp_path / "contours.csv").read_text().splitlines()))
    assert [(row["loop"], int(row["vertex"])) for row in rows] == [
        (loop, vertex) for loop in "01" for vertex in range(RAYS)
    ]
    for prefix, kind in (("", "estimate"), ("lower_", "lower"), ("upper_", "upper")):
        points = np.array([[float(row[f"{prefix}{axis}_mm"]) for axis in "xy"] for row in rows])
        curves = [Curve(half) for half in np.split(points, 2)]
        assert aj.to_shapely(curves).area == pytest.approx(regions[kind].area, rel=1e-4)


def test_rings_of_slices_that_follow_one_another_are_triaged(posterior):
    """The third of five walls is drawn out, about a hole as before."""
    plane, chart = posterior.chart.plane, posterior.chart
    several = []
    for k in range(5):
        moved = replace(chart, plane=replace(plane, offset=2.0 * k, index=k, thickness=2.0))
        radii = posterior.radii
        if k == 2:
            odd = ellipse_radii(chart.angles, 38.0, 16.0) / OUTER
            radii = radii * np.concatenate([odd, np.ones(RAYS)])
        several.append(aj.contour_of(replace(posterior, chart=moved, radii=radii,
                                             target_id=f"z{k}"), tolerance_mm=2.0))  # fmt: skip
    first = aj.triage(several)[0]
    assert first.target_id == "z2"
    assert "does not lie between its neighbours" in first.reason
