"""Do probability maps, probability contours and areas agree with the draws?"""

from __future__ import annotations

import itertools
import re
import time

import numpy as np
import pytest
from shapely.geometry import Polygon

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.probability import (
    SizePosterior,
    area_posterior,
    probability_contours,
    probability_map,
    volume_posterior,
)
from tests.helpers import make_posterior, make_surface

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@pytest.mark.parametrize(("rays", "sd", "size"), [(128, 0.1, 40), (24, 0.3, 32), (9, 0.5, 32)])
def test_map_is_the_share_of_draws_whose_polygon_holds_the_pixel(rays, sd, size):
    posterior = make_posterior(draws=150, rays=rays, sd=sd, size=size)
    points = posterior.chart.plane.points()
    brute = np.mean([curve.contains(points) for curve in posterior.curves(150)], axis=0)
    assert np.array_equal(probability_map(posterior), brute)


def test_map_on_another_plane_and_off_the_grid():
    posterior = make_posterior(draws=200, size=40, centre=(3.0, 70.0))
    fine = make_posterior(size=83, spacing=1.0).chart.plane
    brute = np.mean([c.contains(fine.points()) for c in posterior.curves(200)], axis=0)
    assert np.array_equal(probability_map(posterior, fine), brute)


def test_map_is_fast_on_a_large_slice():
    posterior = make_posterior(draws=1000, axes=(90.0, 70.0), sd=0.08, size=256, spacing=1.0)
    probability_map(posterior)
    start = time.perf_counter()
    values = probability_map(posterior)
    assert time.perf_counter() - start < 2.0  # well under a second on an idle machine
    assert values.min() == 0.0
    assert values.max() == 1.0


def test_contours_nest_in_level():
    posterior = make_posterior(sd=0.15, swell=2.0)
    contours = probability_contours(posterior, LEVELS)
    polygons = [Polygon(contours[level][0].points) for level in LEVELS]
    for outer, inner in itertools.pairwise(polygons):
        assert outer.covers(inner)
        assert outer.area > inner.area


def test_contours_agree_with_the_map():
    posterior = make_posterior(sd=0.15, size=100, spacing=1.0)
    values = probability_map(posterior)
    points = posterior.chart.plane.points()
    for level, curves in probability_contours(posterior, LEVELS).items():
        differs = curves[0].contains(points) != (values >= level)
        assert np.all(np.abs(values[differs] - level) < 0.02)


def test_half_contour_has_a_sane_area():
    posterior = make_posterior()
    half = probability_contours(posterior, [0.5])[0.5][0]
    assert half.area == pytest.approx(np.pi * 14.0 * 10.0, rel=0.01)
    assert half.area == pytest.approx(area_posterior(posterior).quantile(0.5), rel=0.02)


def test_area_is_each_polygon_s_area():
    posterior = make_posterior(draws=120, rays=40)
    area = area_posterior(posterior)
    assert np.allclose(area.draws, [curve.area for curve in posterior.curves(120)])
    assert area.unit == "mm2"
    assert area_posterior(make_posterior(spacing=None)).unit == "px2"
    assert area.quantiles["q025"] < area.quantiles["q500"] < area.quantiles["q975"]
    assert area.mean == pytest.approx(area.draws.mean())
    assert area.sd == pytest.approx(np.std(area.draws, ddof=1))


def test_a_volume_is_said_in_its_unit():
    volume = volume_posterior(make_surface(sd=0.02))
    assert volume.unit == "mm3"
    assert volume.quantile(0.5) == pytest.approx(4 / 3 * np.pi * 14 * 10 * 12, rel=0.02)
    assert re.fullmatch(r"[67]\.\d\d ml \(\d\.\d\d to \d\.\d\d\)", str(volume))
    assert volume.middle == str(volume).split(" (")[0]
    small = volume_posterior(make_surface(axes=(5.0, 5.0, 5.0)))
    assert re.fullmatch(r"\d{3} mm³ \(\d{3} to \d{3}\)", str(small))
    assert "px³" in str(volume_posterior(make_surface(unit="px")))
    assert str(SizePosterior(np.full(9, 1_234_567.0), "mm3")) == "1,235 ml (1,235 to 1,235)"
    assert "mm²" in str(area_posterior(make_posterior()))


def test_area_is_the_sum_of_the_map_up_to_pixels():
    posterior = make_posterior(size=120, spacing=0.5)
    plane = posterior.chart.plane
    from_map = probability_map(posterior).sum() * np.prod(plane.spacing)
    assert from_map == pytest.approx(area_posterior(posterior).mean, rel=5e-3)


@pytest.mark.parametrize("level", [0.0, 1.0, 50.0])
def test_level_outside_the_unit_interval_is_refused(level):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        probability_contours(make_posterior(draws=120), [0.5, level])
