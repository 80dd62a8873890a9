"""What does a boundary look like unrolled? Direction against radius, or way against offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import layered
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.layers import (
    angle_label,
    closed,
    grade_runs,
    legend_handles,
    line_look,
    some_of,
    title_or_auto,
)
from aistat_jax.views.paper import page, settle
from aistat_jax.views.style import BAND, DRAW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any


def plot_unrolled(
    posterior: Posterior,
    band: Band | None = None,
    grade: Grade | None = None,
    *,
    draws: int = 30,
    title: str | None = "auto",
    width_mm: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The boundary unrolled: angle against radius above, the band's half-width below.

    Angles run counter-clockwise from the patient's right as named by the letters on the axis; of
    offsets it is the way around their outline. The half-width is coloured and named by local
    grade, with the tolerance as a line. `title`, `width_mm` and `ax` are as in `plot_contours`;
    axes of yours are divided between the two.

    Raises InputError for a width together with axes.
    """
    chart, unit = posterior.chart, posterior.unit
    degrees = around(chart)
    with page(width_mm, ax, inches=7.4) as made:
        heights = [1.6, 1.0] if made.narrow else [2.4, 1.4]
        panels = made.stack(heights[: 1 if band is None else 2])
        top, width = panels[0], 2.4 * made.scale
        if band is not None:
            edges = (layered(chart, edge) for edge in (band.lower, band.upper))
            for lower, upper in zip(*edges, strict=True):
                top.fill_between(degrees, closed(lower), closed(upper), color=BAND, alpha=0.3, lw=0)
        for row in some_of(posterior.draws, draws):
            for part in layered(chart, row):
                thin = max(0.3, 0.5 * made.scale)
                top.plot(degrees, closed(part), color=DRAW, alpha=0.25, lw=thin)
        parts = layered(chart, posterior.estimate)
        for part, runs in zip(parts, grade_runs(grade, chart), strict=True):
            for code, at in runs:
                top.plot(degrees[at], closed(part)[at], lw=width, **line_look(code))
        top.set_ylabel(f"{value_word(chart)} ({unit})")
        made.title(top, title_or_auto(title, posterior, grade))
        if band is not None:
            _draw_half_width(panels[1], degrees, band, grade, width)
        direction_axis(panels[-1], chart)
        handles = legend_handles(
            [] if grade is None else [grade], band, min(draws, len(posterior.draws)), width=width
        )
        return settle(made, handles, beside=True)


def _draw_half_width(
    axes: Axes, degrees: np.ndarray, band: Band, grade: Grade | None, lw: float
) -> None:
    from matplotlib import rcParams

    highest, widths = float(band.half_width.max()), layered(band.chart, band.half_width)
    for width, runs in zip(map(closed, widths), grade_runs(grade, band.chart), strict=True):
        for code, at in runs:
            look = line_look(code)
            axes.fill_between(degrees[at], 0, width[at], color=look["color"], alpha=0.25, lw=0)
            axes.plot(degrees[at], width[at], lw=0.85 * lw, **look)
    _name_layers(axes, degrees, widths)
    if grade is not None:
        highest = max(highest, 1.25 * grade.tolerance)
        axes.axhline(grade.tolerance, color="0.25", lw=0.8)
        axes.annotate(
            f"tolerance {grade.tolerance:g} {band.unit}", (360, grade.tolerance), xytext=(-2, 2),
            textcoords="offset points", ha="right", fontsize=rcParams["legend.fontsize"],
            color="0.25",
        )  # fmt: skip
    axes.set_ylim(0, 1.08 * highest)
    axes.set_ylabel(f"half-width ({band.unit})")


def _name_layers(axes: Axes, degrees: np.ndarray, widths: list[np.ndarray]) -> None:
    """Names of a ring's two lines, where they are furthest apart."""
    from matplotlib import rcParams

    if len(widths) == 1:
        return
    at = int(np.abs(np.diff(widths, axis=0)).argmax())
    for name, width in zip(("outer boundary", "inner boundary"), widths, strict=True):
        above = width[at] == np.max(widths, axis=0)[at]
        axes.annotate(
            name, (degrees[at], width[at]), xytext=(0, 4 if above else -4),
            textcoords="offset points", ha="left" if degrees[at] < 180 else "right",
            va="bottom" if above else "top", fontsize=rcParams["legend.fontsize"], color="0.25",
        )  # fmt: skip


TURNS = {
    "log": "direction from the centre (degrees)",
    "identity": "way around the outline, counter-clockwise",
}


def around(chart: Any) -> np.ndarray:
    """Where the sites of a chart in a plane are, in degrees of one turn, and 360 at the end.

    Of a star these are angles, of offsets shares of the way around the outline; of a ring those of
    either boundary.
    """
    return np.linspace(0.0, 360.0, len(layered(chart, chart.directions)[0]) + 1)


def turn_of(chart: Any, point: tuple[float, float]) -> float:
    """Where a point is on the axis of `around`, in degrees."""
    if chart.link != "log":
        return float(around(chart)[int(chart.nearest(np.asarray(point)))])
    return float(np.degrees(chart.polar(point)[1]))


def site_at(chart: Any, degrees: float) -> int:
    """The site nearest to a place on that axis."""
    count = len(around(chart)) - 1
    return round(degrees / 360.0 * count) % count


def turn_label(chart: Any, degrees: float) -> str:
    """What stands there: an angle with the patient's letters, or a share of the way around."""
    if chart.link == "identity":
        return f"{degrees / 3.6:g}%" if degrees % 90 == 0 else ""
    return angle_label(chart.plane, degrees)


def value_word(chart: Any) -> str:
    """What the values of a chart are."""
    return "offset" if chart.link == "identity" else "radius"


def direction_axis(axes: Axes, chart: Any) -> None:
    """One turn: degrees with the patient's letters at the quarters, or the way around."""
    turn = range(0, 361, 45)
    axes.set_xlim(0, 360)
    axes.set_xticks(turn)
    axes.set_xticklabels([turn_label(chart, degrees) for degrees in turn])
    axes.set_xlabel(TURNS.get(chart.link, TURNS["log"]))
