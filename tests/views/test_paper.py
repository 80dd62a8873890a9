"""Would an editor print it? Every public figure at 88 and 180 mm, measured with the renderer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.calibration import Ranks
from aistat_jax.uncertainty.coverage import coverage
from aistat_jax.views.case import plot_case
from tests.helpers import circle, make_image, make_posterior, make_surface, make_volume
from tests.inference.test_raters import known
from tests.uncertainty.test_contributions import made_contributions
from tests.views.legible import faults

WIDTHS = (88, 180)


@pytest.fixture(scope="module")
def drawings() -> dict[str, Any]:
    """Every figure of the public face as a function of its width, as full as it can be."""
    image, posterior = make_image(), make_posterior(sd=0.05, swell=2.5, draws=400)
    moved = make_posterior(sd=0.08, seed=3, centre=(61.0, 66.0), draws=400)
    band, grade = aj.simultaneous_band(posterior), aj.grade(posterior)
    chart = posterior.chart
    chains = replace(
        posterior, radii=posterior.radii.reshape(4, 100, -1),
        samples={"amplitude": np.linspace(0.1, 0.3, 400).reshape(4, 100)},
    )  # fmt: skip
    names = ("radius 0°", "radius 90°", "radius 180°", "radius 270°", "area", "lengthscale")
    ranks = Ranks(np.arange(600).reshape(100, 6) % 100, names)
    held = coverage([posterior] * 29, [chart.surface(row) for row in posterior.draws[::14]])
    mask = chart.surface(posterior.estimate).contains(chart.plane.points())
    odds = Image.from_arrays(lesion=image.primary.values[..., 0] - 3, spacing_mm=2.0)
    several, surface = [posterior, moved] * 4, make_surface(sd=0.05, swell=4.0)
    bands = [aj.simultaneous_band(p) for p in several]
    grades = [aj.grade(p) for p in several]
    drawn = aj.outlines(mask, chart.plane)
    contours = [aj.contour_of(p, reference=drawn) for p in several]
    odds_held = aj.reliability(np.linspace(0, 1, 40), np.arange(40) % 3 > 0)
    return {
        "contours": lambda **w: aj.plot_contours(
            image, posterior, band, grade, reference=mask, **w
        ),
        "probability": lambda **w: aj.plot_probability(image, posterior, **w),
        "probability_map": lambda **w: aj.plot_probability_map(
            image, posterior, reference=mask[..., None], **w
        ),
        "unrolled": lambda **w: aj.plot_unrolled(posterior, band, grade, **w),
        "gallery": lambda **w: aj.plot_gallery(
            image, several, bands, grades, references=mask[..., None], **w
        ),
        "comparison": lambda **w: aj.plot_comparison(
            image,
            {"nested Laplace": posterior, "another centre": moved, "mask": mask,
             "circle": circle(12.0, (63.0, 63.0), 200)},
            reference=circle(12.0, (63.0, 63.0), 200), **w,
        ),
        "surface": lambda **w: aj.plot_surface(
            make_volume(), surface, aj.simultaneous_band(surface), aj.grade(surface),
            reference=make_volume().primary.values > 3.5, **w,
        ),
        "network": lambda **w: aj.plot_network(image, odds, **w),
        "traces": lambda **w: aj.plot_traces(chains, **w),
        "chain_ranks": lambda **w: aj.plot_chain_ranks(chains, **w),
        "ranks": lambda **w: aj.plot_ranks(ranks, **w),
        "ecdf": lambda **w: aj.plot_ecdf(ranks, **w),
        "coverage": lambda **w: aj.plot_coverage({"fitted": held, "again": held}, **w),
        "margins": lambda **w: aj.plot_margins(
            image,
            {"coverage": aj.coverage_margin(posterior), "van Herk": aj.van_herk_margin(posterior)},
            **w,
        ),
        "contributions": lambda **w: aj.plot_contributions(image, made_contributions(), **w),
        "raters": lambda **w: aj.plot_raters(known(("pen", "brush")), "P0", **w),
        "reliability": lambda **w: aj.plot_reliability(
            {title: {"calibrated": odds_held, "as it was": odds_held} for title in ("seen", "new")},
            **w,
        ),
        "case": lambda **w: plot_case(image, contours, **w),
    }  # fmt: skip


NAMES = (
    "contours", "probability", "probability_map", "unrolled", "gallery", "comparison", "network",
    "surface", "traces", "chain_ranks", "ranks", "ecdf", "coverage", "margins",
    "contributions", "raters", "reliability", "case",
)  # fmt: skip


def test_no_public_figure_is_left_out(drawings):
    public = {name.removeprefix("plot_") for name in aj.__all__ if name.startswith("plot_")}
    assert set(drawings) == set(NAMES) == public | {"case"}


@pytest.mark.parametrize(
    ("name", "width_mm"),
    [(name, width) for name in NAMES for width in WIDTHS]
    + [(name, None) for name in ("contours", "comparison", "gallery", "surface", "case")],
)
def test_an_editor_would_print_it(drawings, name, width_mm):
    figure = drawings[name](width_mm=width_mm)
    if width_mm is not None:
        assert figure.get_figwidth() == pytest.approx(width_mm / 25.4)
        assert figure.get_figheight() * 25.4 < 240  # a page
    assert faults(figure) == []


@pytest.mark.parametrize("name", ["contours", "probability", "probability_map", "unrolled"])
def test_axes_of_ones_own_are_drawn_into(drawings, name):
    figure = Figure(figsize=(180 / 25.4, 110 / 25.4), layout="constrained")
    for axes in figure.subplots(1, 2):
        assert drawings[name](ax=axes, title=None) is figure
    assert [fault for fault in faults(figure) if "blank" not in fault] == []
    with pytest.raises(aj.InputError, match="not both"):
        drawings[name](ax=figure.axes[0], width_mm=88)


def test_a_title_that_is_cut_off_is_noticed(drawings):
    """Negative control: the title of one line that left the page at 88 mm."""
    figure = drawings["contours"](width_mm=88, title=None)
    assert faults(figure) == []
    figure.axes[0].set_title("z029\n1,446 mm² (1,370 to 1,530),  grade amber at 2 mm", fontsize=8.4,
                             fontweight="bold", loc="left")  # fmt: skip
    figure.set_layout_engine("none")
    assert any("leaves the page" in fault for fault in faults(figure))


def test_other_faults_are_noticed(drawings):
    """Negative controls of what else is measured."""
    figure = drawings["contours"](width_mm=88)
    axes = figure.axes[0]
    axes.text(0, 0, "over", fontsize=5)
    axes.text(0.5, 0, "under", fontsize=8)
    found = faults(figure)
    assert any("5.0 pt" in fault for fault in found)
    assert any("lies on" in fault for fault in found)
    figure = drawings["contours"](width_mm=88)
    figure.set_figheight(figure.get_figheight() + 1.0)
    assert any("blank" in fault for fault in faults(figure))


def test_a_legend_lists_what_is_shown_and_no_more(drawings):
    sure = make_posterior(sd=0.01)
    figure = aj.plot_contours(make_image(), sure, grade=aj.grade(sure), draws=0)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["green: trusted (100%)"]
    doubtful = make_posterior(sd=0.05, swell=2.5)
    both = aj.plot_gallery(
        make_image(), [sure, doubtful], grades=[aj.grade(sure), aj.grade(doubtful)]
    )
    words = [t.get_text() for t in both.legends[0].get_texts()]
    assert words[:3] == ["green: trusted", "amber: check", "red: do not trust"]
    assert not aj.plot_contours(make_image(), sure, legend=False).legends


def test_titles_are_ones_own_or_none():
    image, posterior = make_image(), make_posterior()
    for draw in (aj.plot_contours, aj.plot_probability_map):
        titles = [draw(image, posterior, title=t).axes[0].get_title(loc="left") for t in
                  (None, "Patient 7", "auto")]  # fmt: skip
        assert titles[:2] == ["", "Patient 7"]
        assert titles[2].startswith("lesion-1\n")
    long = "A title of many words that has to be broken because one column is not as wide as it is"
    figure = aj.plot_unrolled(posterior, title=long, width_mm=88)
    assert "\n" in figure.axes[0].get_title(loc="left")
    assert faults(figure) == []
