"""Can answers of different kinds be laid on one slice: other centres, contours, masks, channels?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.image import Image
from aistat_jax.space.outlines import outlines
from aistat_jax.space.star import star_chart
from aistat_jax.views.contenders import common_chart, contenders_of, radii_about
from tests.helpers import circle, make_image, make_posterior

POSTERIOR = make_posterior(draws=200)
PLANE = POSTERIOR.chart.plane
MIDDLE = POSTERIOR.chart.centre
DISC = circle(12.0, tuple(MIDDLE), 400)
MASK = DISC.contains(PLANE.points())


def moved(posterior, by):
    """The same boundaries about another centre."""
    chart = star_chart(posterior.chart.centre + np.asarray(by), 60.0, PLANE)
    radii = [chart.values_of(posterior.chart.surface(row)) for row in posterior.draws]
    return replace(posterior, chart=chart, radii=np.array(radii)[None])


def make_offsets() -> aj.Posterior:
    """Draws near the outline of `POSTERIOR`, told as offsets from it."""
    plane = POSTERIOR.chart.plane
    target = aj.offset_target(POSTERIOR.chart.surface(POSTERIOR.estimate), plane)
    chart = target.chart(8.0)
    noise = 0.4 * np.random.default_rng(0).standard_normal((1, 200, 1))
    return replace(POSTERIOR, chart=chart, radii=np.tile(noise, (1, 1, chart.sites)))


def test_another_centre_tells_the_same_boundary():
    other = moved(POSTERIOR, (3.0, -2.0))
    several = contenders_of({"a": POSTERIOR, "b": other})
    chart = common_chart(several)
    assert chart is POSTERIOR.chart
    own, seen = (radii_about(chart, one) for one in several)
    np.testing.assert_array_equal(own, POSTERIOR.draws)
    assert np.abs(seen - own).max() < 0.15  # polygons of 128 points, seen from elsewhere
    assert np.abs(other.draws - own).max() > 2.0  # negative control: radii as they are are others


def test_what_no_ray_sees_is_drawn_without_the_unrolled_part():
    """A posterior far away, a mask of two pieces, and one that is empty here have no radii."""
    image = make_image()
    far = make_posterior(centre=(20.0, 20.0), axes=(6.0, 5.0), draws=200)
    two = MASK | circle(6.0, (100.0, 100.0), 100).contains(PLANE.points())
    for other in (far, two, np.zeros_like(MASK)):
        figure = aj.plot_comparison(image, {"a": POSTERIOR, "b": other})
        assert len(figure.axes) == 2
        assert all(axes.images for axes in figure.axes)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1] == "b\nempty in this slice"
    assert len(aj.plot_comparison(image, {"a": POSTERIOR, "b": MASK}).axes) == 4


@pytest.mark.parametrize("form", ["curve", "slice", "volume", "channel"])
def test_a_region_is_taken_in_any_form(form):
    like = Image.from_arrays(expert=MASK[..., None].astype(float), spacing_mm=2.0)["expert"]
    region = {"curve": DISC, "slice": MASK, "volume": MASK[..., None], "channel": like}[form]
    (curve,) = outlines(region, PLANE)
    assert curve.area == pytest.approx(DISC.area, rel=0.03)
    figure = aj.plot_comparison(make_image(), {"a": POSTERIOR, form: region}, reference=region)
    radius = figure.axes[2].lines[3].get_ydata()  # after the mean and the interval of the first
    np.testing.assert_allclose(radius, 12.0, atol=1.5)
    assert "reference" in [t.get_text() for t in figure.legends[0].get_texts()]
    aj.plot_gallery(make_image(), [POSTERIOR] * 2, references=[region, None])


def test_a_reference_that_is_empty_here_is_said_to_be():
    figure = aj.plot_contours(make_image(), POSTERIOR, reference=np.zeros_like(MASK))
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words[-1] == "reference: none in this slice"


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (np.zeros((5, 5), dtype=bool), "not on the grid of this image"),
        (np.zeros((64, 64)), "must be boolean, got an array of float64"),
        (replace(DISC, unit="px"), "contour is in px and the slice in mm"),
    ],
)
def test_what_is_no_region_of_the_slice_is_refused(region, words):
    for draw in (aj.plot_contours, aj.plot_probability_map):
        with pytest.raises(aj.InputError, match=words):
            draw(make_image(), POSTERIOR, reference=region)
    with pytest.raises(aj.InputError, match=words):
        aj.plot_comparison(make_image(), {"a": POSTERIOR, "b": region})


def test_one_slice_and_at_least_one_posterior():
    with pytest.raises(aj.InputError, match="at least one posterior"):
        aj.plot_comparison(make_image(), {"mask": MASK})
    plane = replace(PLANE, offset=PLANE.offset + 4.0, index=2)
    above = replace(POSTERIOR, chart=replace(POSTERIOR.chart, plane=plane))
    with pytest.raises(aj.InputError, match=r"'a' is in slice 0 at 0\.0 mm and 'b' in slice 2"):
        aj.plot_comparison(make_image(), {"a": POSTERIOR, "b": above})
    with pytest.raises(aj.InputError, match="as many references, got 3"):
        aj.plot_gallery(make_image(), [POSTERIOR] * 2, references=[None] * 3)


def test_offsets_are_shown_the_way_around_their_outline():
    """In figures, and under the mouse; a star beside them keeps its angles."""
    offsets = make_offsets()
    figure = aj.plot_unrolled(offsets, aj.simultaneous_band(offsets))
    top, bottom = figure.axes[:2]
    assert top.get_ylabel() == "offset (mm)"
    assert bottom.get_xlabel() == "way around the outline, counter-clockwise"
    labels = [text.get_text() for text in bottom.get_xticklabels()]
    assert labels[::2] == ["0%", "25%", "50%", "75%", "100%"]
    star = aj.plot_unrolled(POSTERIOR)
    assert star.axes[0].get_ylabel() == "radius (mm)"
    assert star.axes[0].get_xlabel() == "direction from the centre (degrees)"
    assert len(aj.plot_comparison(make_image(), {"a": offsets, "b": offsets}).axes) == 2
    assert len(aj.plot_comparison(make_image(), {"a": offsets, "b": POSTERIOR}).axes) == 4


def test_offsets_are_looked_at_along_their_normals():
    pytest.importorskip("ipympl")
    offsets = make_offsets()
    explorer = aj.explore(make_image(), offsets)
    explorer.look_along(32)
    line = np.stack(explorer.scene.panel.ray.get_data(), axis=-1)
    chart = offsets.chart
    low = chart.ends[0][32]
    np.testing.assert_allclose(line[0], chart.line(32, np.array([low]))[0])
    assert chart.position(line[1:])[0] == pytest.approx(
        low + 1.15 * (offsets.draws[:, 32].max() - low), abs=0.05
    )
    assert explorer.scene.ring.cursor.get_xdata()[0] == pytest.approx(360 * 32 / chart.sites)
    assert explorer.scene.profile.axes.get_xlim() == pytest.approx(chart.reach)
