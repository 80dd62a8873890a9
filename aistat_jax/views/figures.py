"""What do contours with their error bars look like on the image? One, many, or side by side.

Slices are drawn as radiologists read them: the patient's right is on the left of the figure,
and letters at the edges say so. Every figure is `width_mm` wide where that is asked for (88 and
180 are common in journals), and no higher than what is in it. A `title` is of your words, or none
(`None`), or says what is shown ("auto"). Nothing is computed here that is not in the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.space.outlines import Region, outlines
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.contenders import Contender, common_chart, contenders_of, radii_about
from aistat_jax.views.layers import (
    closed,
    curves_of,
    draw_colour_bar,
    draw_other,
    draw_outlines,
    draw_posterior,
    draw_slice,
    legend_handles,
    limits_around,
    limits_around_all,
    reference_in,
    slice_shown,
    title_of,
    title_or_auto,
)
from aistat_jax.views.panel import slice_panel
from aistat_jax.views.paper import columns_for, page, settle, small_title
from aistat_jax.views.style import COMPARED
from aistat_jax.views.unrolled import around, direction_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any


def plot_contours(
    image: Image,
    posterior: Posterior,
    band: Band | None = None,
    grade: Grade | None = None,
    *,
    channel: str | None = None,
    draws: int = 30,
    reference: Region | None = None,
    other: Sequence[Curve] | None = None,
    full: bool = False,
    title: str | None = "auto",
    legend: bool = True,
    width_mm: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One slice with its posterior contours, band and estimate, on axes in millimetres.

    The estimate is coloured and styled by local grade where a grade is given; thin lines are
    posterior draws; the translucent ring is the band. `reference` is a contour to compare with: a
    `Curve`, a boolean mask of the slice or of the whole volume, or a `Channel` that holds one.
    `other` are curves of another reading of the image (`Contour.other`), dashed.
    `channel` names the image shown (the first unless told); `full` shows the whole slice rather
    than the target's surroundings. `width_mm` makes the figure as wide as a column of a journal (88
    and 180 are common); `ax` draws into axes of yours instead.

    Raises InputError when the channel has no slice there, for a reference that is none of these or
    on another grid, and for a width together with axes.
    """
    with page(width_mm, ax) as made:
        panel = slice_panel(
            made, image, posterior, band, channel=channel, full=full, reference=reference,
            other=other or (),
        )  # fmt: skip
        axes, drawn, width = panel.axes, panel.reference, (1.8 if full else 2.4) * made.scale
        draw_posterior(axes, posterior, band, grade, draws, drawn, width)
        draw_other(axes, other or (), width / 2.4)
        made.title(axes, title_or_auto(title, posterior, grade))
        draw_colour_bar(axes, panel.picture, panel.shown)
        handles = legend_handles(
            [] if grade is None else [grade], band, min(draws, len(posterior.draws)), [drawn],
            other=bool(other), width=width,
        )  # fmt: skip
        return settle(made, handles if legend else (), beside=True)


def plot_gallery(
    image: Image | Sequence[Image],
    posteriors: Sequence[Posterior],
    bands: Sequence[Band] | None = None,
    grades: Sequence[Grade] | None = None,
    *,
    references: Region | Sequence[Region | None] | None = None,
    columns: int | None = None,
    channel: str | None = None,
    draws: int = 12,
    titles: Sequence[str | None] | None = (),
    width_mm: float | None = None,
) -> Figure:
    """Many contours in one figure, one small panel each, with one legend.

    `image` is one image for all, or one for each posterior. `references` are contours to compare
    with: one mask of the volume (or `Channel`) for all, or one (or None) for each posterior; see
    `plot_contours`. `columns` are four where no width is asked for, else as many as have room for
    their words. `titles` are of your words, one a panel, or None for none.

    Raises InputError for no posterior, or lists of different lengths.
    """
    count = len(posteriors)
    images = [image] * count if isinstance(image, Image) else list(image)
    given = references_of(references, count)
    named = [title_of(p, None if grades is None else grades[n], short=True)
             for n, p in enumerate(posteriors)] if titles == () else titles  # fmt: skip
    for name, several in (
        ("images", images), ("bands", bands), ("grades", grades), ("titles", named),
    ):  # fmt: skip
        if several is not None and len(several) != count:
            raise InputError(
                f"a gallery of {count} posteriors needs as many {name}, {len(several)}"
            )
    if count == 0 or (columns is not None and columns < 1):
        raise InputError("a gallery needs at least one posterior and one column")
    columns = min(columns or columns_for(width_mm, 4), count)
    rows = -(-count // columns)
    with page(width_mm, inches=max(2.4 * columns, 3.4)) as made:
        grid = made.figure.add_gridspec(rows, columns, height_ratios=[2.4] * rows)
        width = 1.6 if width_mm is None else 1.1
        drawn = [reference_in(*each) for each in zip(given, posteriors, images, strict=True)]
        for n, posterior in enumerate(posteriors):
            panel = made.figure.add_subplot(grid[divmod(n, columns)])
            band = None if bands is None else bands[n]
            grade = None if grades is None else grades[n]
            shown = slice_shown(images[n], posterior, channel)
            limits = limits_around(posterior, band, drawn[n], shown.plane, full=False)
            draw_slice(panel, shown, limits, small=True)
            draw_posterior(panel, posterior, band, grade, draws, drawn[n], width)
            made.title(panel, None if named is None else named[n], **small_title())
        handles = legend_handles(
            grades or [], None if bands is None else bands[0],
            min(draws, len(posteriors[0].draws)), drawn, shares=False, width=width,
        )  # fmt: skip
        return settle(made, handles)


def plot_comparison(
    image: Image,
    contenders: Mapping[str, Posterior | Region],
    *,
    reference: Region | None = None,
    channel: str | None = None,
    draws: int = 25,
    level: float = 0.95,
    titles: bool = True,
    width_mm: float | None = None,
) -> Figure:
    """Several answers to one question: on the image above, the boundary unrolled below.

    `contenders` maps what each is called to a posterior (a method, a modality, a prior) or to a
    contour without error bars: a `Curve`, a boolean mask, or a `Channel` that holds one. They lie
    in one slice, the first posterior's; charts may differ. Below are, in each direction, mean and
    interval of the radius at `level`, and its standard deviation. Radii are measured from the first
    centre that all contours, and all draws, have inside, to where the boundary is left for the last
    time; where there is no such centre, that part is left out.

    Raises InputError for none or more than five contenders, none of them a posterior, and for one
    in another slice.
    """
    if not 1 <= len(contenders) <= len(COMPARED):
        raise InputError(
            f"a comparison takes 1 to {len(COMPARED)} posteriors or contours, {len(contenders)}"
        )
    several = contenders_of(contenders)
    first = next(one.posterior for one in several if one.posterior is not None)
    plane = first.chart.plane
    drawn = None if reference is None else outlines(reference, plane)
    chart = common_chart(several)
    with page(width_mm, inches=max(2.3 * len(several), 6.4)) as made:
        columns = _columns_of(len(several), made.narrow)
        rows = -(-len(several) // columns)
        below = [] if chart is None else ([1.3, 0.9] if made.narrow else [2.0, 1.25])
        grid = made.figure.add_gridspec(
            rows + len(below), columns, height_ratios=[2.2] * rows + below
        )
        window = limits_around_all(
            [one.posterior for one in several if one.posterior is not None],
            [*curves_of(drawn), *(curve for one in several for curve in one.curves)],
            slice_shown(image, first, channel).plane,
        )
        shown = slice_shown(image, first, channel)
        width = 1.6 if width_mm is None else 1.1
        for n, one in enumerate(several):
            panel = made.figure.add_subplot(grid[divmod(n, columns)])
            draw_slice(panel, shown, window, small=True)
            if one.posterior is None:
                draw_outlines(panel, one.curves, drawn, width)
            else:
                draw_posterior(panel, one.posterior, None, None, draws, drawn, width)
            made.title(panel, f"{one.name}\n{one.size}" if titles else None, **small_title())
        handles = [] if chart is None else _draw_unrolled(made, grid, rows, several, chart, level)
        handles += legend_handles([], None, min(draws, len(first.draws)), [drawn], width=width)
        note = f"thick: mean; thin: {100 * level:g}% interval in each direction"
        return settle(made, handles, note=None if chart is None else note)


def _draw_unrolled(
    made: Any, grid: Any, row: int, several: Sequence[Contender], chart: Any, level: float
) -> list[Any]:
    """Radius, its interval and its sd in every direction; returns the entries of the legend."""
    from matplotlib.lines import Line2D

    top = made.figure.add_subplot(grid[row, :])
    bottom = made.figure.add_subplot(grid[row + 1, :], sharex=top)
    handles, tail = [], (1 - level) / 2
    for one, look in zip(several, COMPARED, strict=False):
        look = look | {"lw": look["lw"] * max(made.scale, 0.65)}
        radii = radii_about(chart, one)
        top.plot(around(chart), closed(radii.mean(axis=0)), **look)
        if one.posterior is not None:
            for edge in np.quantile(radii, [tail, 1 - tail], axis=0):
                top.plot(around(chart), closed(edge), **look | {"lw": 0.5 * look["lw"]})
            bottom.plot(around(chart), closed(radii.std(axis=0)), **look)
        handles.append(Line2D([], [], **look, label=one.name))
    reach = max(one.posterior.chart.reach[1] for one in several if one.posterior is not None)
    low, high = top.get_ylim()
    top.set_ylim(max(low, 0.0), min(high, 1.05 * reach))
    bottom.set_ylim(0, min(bottom.get_ylim()[1], 0.5 * reach))
    top.set_ylabel(f"radius ({chart.unit})")
    bottom.set_ylabel(f"sd ({chart.unit})")
    top.tick_params(labelbottom=False)
    direction_axis(bottom, chart)
    return handles


def references_of(
    references: Region | Sequence[Region | None] | None, count: int
) -> list[Region | None]:
    """One reference, or None, for each of `count` posteriors; a volume serves all of them."""
    if references is None or not isinstance(references, Sequence):
        return [references] * count
    if len(references) != count:
        raise InputError(f"{count} posteriors need as many references, got {len(references)}")
    return list(references)


def _columns_of(count: int, narrow: bool) -> int:
    return {4: 2, 5: 3}.get(count, count) if narrow else count
