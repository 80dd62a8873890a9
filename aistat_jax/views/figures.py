"""What does a contour with its error bars look like on the image, and unrolled?

Slices are drawn as radiologists read them: the patient's right is on the left of the figure,
and letters at the edges say so. Nothing is computed here that is not already in the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.directions import direction_letter
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import Band, pointwise_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior, probability_contours
from aistat_jax.views.layers import (
    angle_label,
    closed,
    draw_colour_bar,
    draw_posterior,
    draw_slice,
    grade_runs,
    legend_handles,
    limits_around,
    limits_around_all,
    line_look,
    loop,
    slice_shown,
    some_of,
    title_of,
)
from aistat_jax.views.style import (
    BAND,
    COMPARED,
    DRAW,
    ESTIMATE,
    HALO,
    add_legend,
    new_figure,
    new_page,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aistat_jax.nets.edges import FeatureField
else:
    Axes = Figure = FeatureField = Any


def plot_contours(
    image: Image,
    posterior: Posterior,
    band: Band | None = None,
    grade: Grade | None = None,
    *,
    channel: str | None = None,
    draws: int = 30,
    reference: Curve | None = None,
    full: bool = False,
    width_mm: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One slice with its posterior contours, band and estimate, on axes in millimetres.

    The estimate is coloured and styled by local grade where a grade is given; thin lines are
    posterior draws; the translucent ring is the band; `reference` is a contour to compare with.
    `channel` names the image shown (the first unless told); `full` shows the whole slice rather
    than the target's surroundings. `width_mm` makes the figure as wide as a column of a journal (88
    and 180 are common); `ax` draws into axes of yours.

    Raises InputError when the channel has no slice there.
    """
    with style(width_mm):
        figure: Any = new_page((7.2, 4.8), 1.25, width_mm) if ax is None else ax.get_figure()
        axes = figure.add_subplot() if ax is None else ax
        shown = slice_shown(image, posterior, channel)
        limits = limits_around(posterior, band, reference, shown.plane, full)
        picture = draw_slice(axes, shown, limits)
        draw_posterior(axes, posterior, band, grade, draws, reference, width=1.8 if full else 2.4)
        axes.set_title(title_of(posterior, grade))
        draw_colour_bar(axes, picture, shown)
        handles = legend_handles(posterior, band, grade, draws, reference)
        if ax is None:
            axes.set_anchor("W")
            add_legend(figure, handles, width_mm)
        else:
            axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, -0.14), ncols=2)
    return figure


def plot_gallery(
    image: Image | Sequence[Image],
    posteriors: Sequence[Posterior],
    bands: Sequence[Band] | None = None,
    grades: Sequence[Grade] | None = None,
    *,
    columns: int = 4,
    channel: str | None = None,
    draws: int = 12,
) -> Figure:
    """Many contours in one figure, one small panel each, with one legend.

    `image` is one image for all, or one for each posterior.
    Raises InputError for no posterior, or lists of different lengths.
    """
    count = len(posteriors)
    images = [image] * count if isinstance(image, Image) else list(image)
    for name, given in (("images", images), ("bands", bands), ("grades", grades)):
        if given is not None and len(given) != count:
            raise InputError(f"a gallery of {count} posteriors needs as many {name}, {len(given)}")
    if count == 0 or columns < 1:
        raise InputError("a gallery needs at least one posterior and one column")
    columns = min(columns, count)
    rows = -(-count // columns)
    with style():
        legend_columns = max(1, int(2.5 * columns / 1.75))
        figure = new_figure(max(2.5 * columns, 2.9), 2.75 * rows + 0.2 + 0.9 / legend_columns)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for n, panel in enumerate(panels):
            if n >= count:
                panel.set_axis_off()
                continue
            posterior = posteriors[n]
            band = None if bands is None else bands[n]
            grade = None if grades is None else grades[n]
            shown = slice_shown(images[n], posterior, channel)
            limits = limits_around(posterior, band, None, shown.plane, full=False)
            draw_slice(panel, shown, limits, small=True)
            draw_posterior(panel, posterior, band, grade, draws, None, width=1.6)
            panel.set_title(title_of(posterior, grade, short=True), fontsize=8.5)
        handles = legend_handles(
            posteriors[0],
            None if bands is None else bands[0],
            None if grades is None else grades[0],
            draws,
            None,
            with_fractions=False,
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns)
    return figure


def plot_unrolled(
    posterior: Posterior,
    band: Band | None = None,
    grade: Grade | None = None,
    *,
    draws: int = 30,
    width_mm: float | None = None,
) -> Figure:
    """The boundary unrolled: angle against radius above, the band's half-width below.

    Angles run counter-clockwise from the patient's right as named by the letters on the axis;
    the half-width is coloured and named by local grade, with the tolerance as a line.
    """
    chart = posterior.chart
    degrees = np.degrees(chart.angles)
    around = np.append(degrees, 360.0)
    unit = posterior.unit
    with style(width_mm):
        figure = new_page((7.4, 4.6 if band is not None else 3.2), 1.1, width_mm)
        panels = (
            figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.3))
            if band is not None
            else [figure.add_subplot()]
        )
        top = panels[0]
        if band is not None:
            top.fill_between(
                around, closed(band.lower), closed(band.upper), color=BAND, alpha=0.3, lw=0
            )
        for row in some_of(posterior.draws, draws):
            top.plot(around, closed(row), color=DRAW, alpha=0.25, lw=0.5)
        for code, at in grade_runs(grade, len(degrees)):
            look = line_look(code)
            top.plot(around[at], closed(posterior.estimate)[at], lw=2.4, **look)
        top.set_ylabel(f"radius ({unit})")
        top.set_title(title_of(posterior, grade))
        handles = legend_handles(posterior, band, grade, draws, None)
        if band is not None:
            bottom = panels[1]
            width = closed(band.half_width)
            for code, at in grade_runs(grade, len(degrees)):
                look = line_look(code)
                bottom.fill_between(around[at], 0, width[at], color=look["color"], alpha=0.25, lw=0)
                bottom.plot(around[at], width[at], lw=2.0, **look)
            if grade is not None:
                bottom.axhline(grade.tolerance, color="0.25", lw=0.8)
                bottom.annotate(
                    f"tolerance {grade.tolerance:g} {unit}",
                    (360, grade.tolerance),
                    xytext=(-2, 2),
                    textcoords="offset points",
                    ha="right",
                    fontsize=7.5,
                    color="0.25",
                )
            bottom.set_ylim(0, None)
            bottom.set_ylabel(f"half-width ({unit})")
        _direction_axis(panels[-1], posterior)
        add_legend(figure, handles, width_mm)
    return figure


def plot_network(
    image: Image,
    odds: Image,
    field: FeatureField | None = None,
    *,
    index: int | None = None,
    columns: int = 5,
) -> Figure:
    """What a network sees in one slice: the image, its log-odds, and some of its features.

    `odds` are those of `network_logits`, on the grid of the image's primary channel; `field` is
    what the contour head reads (`feature_field`); the line is where the log-odds change sign.
    `index` is the slice, by default the one with the largest log-odds; as many features are shown
    as fill two rows, the field's last, its log-odds, not among them.
    """
    with style():
        said = odds.primary
        k = int(said.values.max(axis=(0, 1)).argmax()) if index is None else index
        plane = said.grid.plane(k)
        maps = [(image.primary.name, image.primary.values[:, :, k], "gray_r", plane)]
        maps += [(f"log-odds of {said.name}, −8 to 8", said.values[:, :, k], "RdBu_r", plane)]
        if field is not None:
            depth = field.grid.to_index(plane.to_world(plane.origin))[2]
            own = int(np.clip(np.rint(depth), 0, field.grid.shape[2] - 1))
            read = np.moveaxis(field.values[:, :, own, :-1], -1, 0)[: 2 * columns - len(maps)]
            at = field.grid.plane(own)
            maps += [(f"feature {n}", values, "viridis", at) for n, values in enumerate(read)]
        rows = -(-len(maps) // columns)
        figure = new_figure(1.9 * min(columns, len(maps)) + 0.3, 2.0 * rows + 0.3)
        u, v = np.moveaxis(plane.points(), -1, 0)
        for n, (title, values, colours, at) in enumerate(maps):
            axes = figure.add_subplot(rows, min(columns, len(maps)), n + 1)
            reach = 8.0 if colours == "RdBu_r" else None
            axes.imshow(
                values.T, origin="lower", extent=at.extent, cmap=colours,
                interpolation="nearest", vmin=None if reach is None else -reach, vmax=reach,
            )  # fmt: skip
            axes.contour(
                u[:, 0], v[0], said.values[:, :, k].T, levels=[0.0], colors=ESTIMATE, linewidths=1
            )
            axes.set_title(title, fontsize="small")
            axes.set_xticks([])
            axes.set_yticks([])
            if plane.unit != "mm":
                continue
            axes.set_xlim(plane.extent[1], plane.extent[0])
            for place, towards in ((0.03, 1.0), (0.93, -1.0)) if n == 0 else ():
                letter = direction_letter(plane, (towards, 0.0))
                axes.text(place, 0.5, letter, transform=axes.transAxes, fontweight="bold")
    return figure


def plot_probability(
    image: Image,
    posterior: Posterior,
    levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    *,
    channel: str | None = None,
    full: bool = False,
    width_mm: float | None = None,
) -> Figure:
    """One slice with its probability contours: inside each, every point is inside that surely."""
    with style(width_mm):
        from matplotlib import colormaps
        from matplotlib.lines import Line2D

        figure = new_page((7.2, 4.8), 1.25, width_mm)
        axes = figure.add_subplot()
        shown = slice_shown(image, posterior, channel)
        picture = draw_slice(axes, shown, limits_around(posterior, None, None, shown.plane, full))
        handles = []
        for place, (level, curves) in enumerate(probability_contours(posterior, levels).items()):
            colour = colormaps["plasma"](0.05 + 0.85 * place / max(1, len(levels) - 1))
            middle = np.isclose(level, 0.5)
            look = {"color": colour, "lw": 2.2 if middle else 1.3}
            for curve in curves:
                axes.plot(*loop(curve.points).T, color=HALO, lw=look["lw"] + 1.0, zorder=3)
                axes.plot(*loop(curve.points).T, **look, zorder=3)
            handles.append(Line2D([], [], **look, label=f"P(inside) ≥ {level:g}"))
        axes.set_title(title_of(posterior, None))
        axes.set_anchor("W")
        draw_colour_bar(axes, picture, shown)
        add_legend(figure, handles, width_mm)
    return figure


def plot_comparison(
    image: Image,
    posteriors: Mapping[str, Posterior],
    *,
    reference: Curve | None = None,
    channel: str | None = None,
    draws: int = 25,
    level: float = 0.95,
) -> Figure:
    """Posteriors of one target side by side: on the image, and unrolled over one another.

    Above, each posterior's estimate and draws on the slice. Below, by direction from the centre,
    the mean radius (thick) with its `level` interval at each ray (thin), and the radius's sd; what
    lies beyond the region searched is cut off.

    Raises InputError for fewer than one or more than five posteriors, or charts that differ.
    """
    if not 1 <= len(posteriors) <= len(COMPARED):
        raise InputError(
            f"a comparison takes 1 to {len(COMPARED)} posteriors, got {len(posteriors)}"
        )
    several = list(posteriors.values())
    first = several[0]
    for other in several[1:]:
        same = np.array_equal(other.chart.centre, first.chart.centre) and np.array_equal(
            other.chart.angles, first.chart.angles
        )
        if not same:
            raise InputError("posteriors compared need one chart: the same centre and rays")
    around = np.append(np.degrees(first.chart.angles), 360.0)
    with style():
        from matplotlib.lines import Line2D

        width = max(2.3 * len(several), 6.4)
        heights = (min(width / len(several), 3.2) + 0.5, 3.8)
        figure: Any = new_figure(width, sum(heights))
        above, below = figure.subfigures(2, 1, height_ratios=heights)
        panels = above.subplots(1, len(several), squeeze=False)[0]
        shown = slice_shown(image, first, channel)
        window = limits_around_all(several, reference, shown.plane)
        top, bottom = below.subplots(2, 1, sharex=True, height_ratios=(1.6, 1.0))
        handles = []
        for panel, look, (name, posterior) in zip(
            panels, COMPARED, posteriors.items(), strict=False
        ):
            draw_slice(panel, shown, window, small=True)
            draw_posterior(panel, posterior, None, None, draws, reference, width=1.6)
            area = area_posterior(posterior)
            size = str(area)
            if area.quantile(0.5) > np.pi * first.chart.radius_max**2:
                size = "beyond the region searched"
            panel.set_title(f"{name}\n{size}", fontsize=8.5)
            band = pointwise_band(posterior, level)
            top.plot(around, closed(posterior.estimate), **look)
            for edge in (band.lower, band.upper):
                top.plot(around, closed(edge), **look | {"lw": 0.5 * look["lw"]})
            bottom.plot(around, closed(posterior.draws.std(axis=0)), **look)
            handles.append(Line2D([], [], **look, label=name))
        top.set_ylabel(f"radius ({first.unit})")
        bottom.set_ylabel(f"sd ({first.unit})")
        reach = first.chart.radius_max
        low, high = top.get_ylim()
        top.set_ylim(max(low, 0.0), min(high, 1.05 * reach))
        bottom.set_ylim(0, min(bottom.get_ylim()[1], 0.5 * reach))
        _direction_axis(bottom, first)
        note = f"thick: mean; thin: {100 * level:g}% interval at each ray"
        handles += legend_handles(first, None, None, draws, reference)
        below.legend(handles=handles, loc="outside lower center", ncols=4, title=note)
    return figure


def _direction_axis(axes: Axes, posterior: Posterior) -> None:
    plane = posterior.chart.plane
    axes.set_xlim(0, 360)
    axes.set_xticks(range(0, 361, 45))
    axes.set_xticklabels([angle_label(plane, a) for a in range(0, 361, 45)])
    axes.set_xlabel("direction from the centre (degrees)")
