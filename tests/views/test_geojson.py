"""Do contours come back from GeoJSON as the regions that they are, in the patient's millimetres?"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.case import Case
from aistat_jax.space.curve import region_of
from aistat_jax.space.ring import ring_chart
from tests.helpers import TRUSTED, make_image, make_posterior, make_surface, make_volume


def flat_case(spacing: float | None = 2.0) -> Case:
    tolerance = {"tolerance_px": 1.0} if spacing is None else {}
    contour = aj.contour_of(make_posterior(spacing=spacing, draws=200), **tolerance)
    return Case(make_image(spacing=spacing), (contour,))


def solid_case() -> Case:
    return Case(make_volume(), (aj.contour_of(make_surface(draws=200)),))


def features(path, kind: str = "estimate") -> list[dict]:
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["type"] == "FeatureCollection"
    return [each for each in whole["features"] if each["properties"]["kind"] == kind]


def test_a_contour_is_the_polygon_of_the_table_in_ras_millimetres(tmp_path):
    case = flat_case()
    path = aj.write_contours(tmp_path / "c.geojson", case)
    table = aj.write_contours(tmp_path / "c.csv", case).read_text()
    rows = list(csv.DictReader(table.splitlines()))
    for kind, prefix in (("estimate", ""), ("lower", "lower_"), ("upper", "upper_")):
        (one,) = features(path, kind)
        assert one["geometry"]["type"] == "Polygon"
        (ring,) = one["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        points = np.array([[float(row[f"{prefix}{axis}_mm"]) for axis in "xyz"] for row in rows])
        assert {tuple(point) for point in ring} == {tuple(point) for point in points.tolist()}
        assert shapely.LinearRing(ring).is_ccw  # the standard's right-hand rule
        assert one["properties"]["slice"] == 0
        assert one["properties"]["channel"] == "PT"
        assert one["properties"]["target"] == "lesion-1"
    content = case[0].chart.content(case[0].posterior.estimate[None])[0]
    assert shape(features(path)[0]["geometry"]).area == pytest.approx(content, rel=1e-5)
    sizes = [shape(features(path, kind)[0]["geometry"]).area for kind in ("lower", "upper")]
    assert sizes[0] < content < sizes[1]
    whole = json.loads(path.read_text())
    assert whole["unit"] == "mm"
    assert "RAS+" in whole["frame"]
    assert "not WGS84" in whole["frame"]
    assert whole == json.loads(json.dumps(aj.contours_geojson(case)))


def test_a_surface_has_a_feature_for_each_slice_that_shows_it(tmp_path):
    case = solid_case()
    path = aj.write_contours(tmp_path / "c.geojson", case)
    grid = case.image.primary.grid
    cut = aj.sections(case[0].posterior, grid, case[0].band)
    for kind in ("estimate", "lower", "upper"):
        found = {each["properties"]["slice"]: each for each in features(path, kind)}
        there = {each.plane.index: getattr(each, kind) for each in cut.values()}
        there = {k: curves for k, curves in there.items() if curves}
        assert found.keys() == there.keys()
        for k, each in found.items():
            area = region_of(there[k]).area
            assert shape(each["geometry"]).area == pytest.approx(area, abs=0.05)
            heights = np.array(each["geometry"]["coordinates"][0])[:, 2]
            assert np.allclose(heights, grid.plane(k).offset, atol=1e-3)
            assert each["properties"]["offset_mm"] == pytest.approx(grid.plane(k).offset, abs=1e-3)
    areas = [shape(each["geometry"]).area for each in features(path)]
    assert 4.0 * sum(areas) == pytest.approx(case[0].content.mean, rel=0.1)


def test_a_wall_is_a_polygon_with_a_hole(tmp_path):
    grid = make_image().primary.grid
    chart = ring_chart(np.array([63.0, 63.0]), 30.0, grid.plane(0), 64)
    noise = 0.2 * np.random.default_rng(0).standard_normal((200, 1))
    half = chart.sites // 2
    radii = np.concatenate([np.full((200, half), 20.0), np.full((200, half), 12.0)], axis=1)
    posterior = aj.Posterior(chart, (radii + noise)[None], {}, TRUSTED, "laplace", 0, "wall")
    case = Case(make_image(), (aj.contour_of(posterior),))
    (one,) = features(aj.write_contours(tmp_path / "c.geojson", case))
    outer, hole = one["geometry"]["coordinates"]
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    assert shape(one["geometry"]).area == pytest.approx(np.pi * (20**2 - 12**2), rel=0.01)


def test_pixels_are_said_to_be_pixels(tmp_path):
    path = aj.write_contours(tmp_path / "c.geojson", flat_case(spacing=None))
    text = path.read_text()
    assert json.loads(text)["unit"] == "px"
    assert "mm" not in text.replace("collection", "")
    assert "offset_px" in text


def test_margins_are_contours_of_their_own_and_not_in_a_table(tmp_path):
    case = flat_case()
    margin = aj.coverage_margin(case[0].posterior)
    path = tmp_path / "c.geojson"
    aj.write_contours(path, case, margins={"ptv": [margin]})
    for kind, which in (("ptv", "outer"), ("ptv_in", "inner")):
        (one,) = features(path, kind)
        assert shape(one["geometry"]).area == pytest.approx(margin.content(which), rel=1e-5)
    with pytest.raises(InputError, match="margins are written as .geojson"):
        aj.write_contours(tmp_path / "c.csv", case, margins={"ptv": [margin]})
    with pytest.raises(InputError, match="contours end in .csv or .geojson"):
        aj.write_contours(tmp_path / "c.txt", case)
    assert [each.name for each in tmp_path.iterdir()] == ["c.geojson"]
