"""What does a whole case look like? One slice large, its neighbours small, one legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.image import Image
from aistat_jax.space.outlines import Region
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.layers import (
    Drawn,
    draw_colour_bar,
    draw_posterior,
    draw_slice,
    legend_handles,
    limits_around,
    reference_in,
    slice_shown,
    title_of,
)
from aistat_jax.views.paper import Page, page, settle, small_title
from aistat_jax.views.style import new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

MOST_PANELS = 9
_ROWS = 3


def plot_case(
    image: Image,
    posteriors: Sequence[Posterior],
    bands: Sequence[Band],
    grades: Sequence[Grade],
    *,
    references: Sequence[Region | None] | None = None,
    focus: int | None = None,
    why: str | None = None,
    channel: str | None = None,
    width_mm: float | None = None,
) -> Figure:
    """The slice `focus` (the middle one unless told) large, up to nine slices small under it.

    With more slices than that, nine spread evenly are shown. All panels of one case share one
    field of view, so that sizes can be compared; for one column a bar is their scale. `references`
    are contours to compare with; `why` says in a few words by which rule the large slice was
    chosen, which is added to its title.
    Raises InputError for no posterior or lists of different lengths.
    """
    count = len(posteriors)
    given = [None] * count if references is None else list(references)
    if count == 0 or not count == len(bands) == len(grades) == len(given):
        raise InputError("a case needs at least one posterior, with one band and grade for each")
    if focus is None:
        focus, why = count // 2, why or "the middle slice"
    drawn = [reference_in(r, p) for r, p in zip(given, posteriors, strict=True)]
    if count == 1:
        return plot_contours(
            image, posteriors[0], bands[0], grades[0], reference=given[0], channel=channel,
            width_mm=width_mm,
        )  # fmt: skip
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_PANELS)).round().astype(int))
    with page(width_mm, inches=6.0 + 1.8 * -(-len(chosen) // _ROWS)) as made:
        large, places = _places(made, len(chosen))
        limits = _common_limits(image, posteriors, bands, drawn, channel)
        axes = made.figure.add_subplot(large)
        shown = slice_shown(image, posteriors[focus], channel)
        picture = draw_slice(axes, shown, limits, small=made.narrow)
        axes.set_anchor("N")
        width = 2.4 * made.scale
        draw_posterior(
            axes, posteriors[focus], bands[focus], grades[focus], 30, drawn[focus], width
        )
        title = title_of(posteriors[focus], grades[focus])
        made.title(axes, title.replace("\n", f": {why}\n", 1) if why else title)
        if not made.narrow:
            draw_colour_bar(axes, picture, shown)
        width = 1.5 if width_mm is None else 1.0
        for place, n in zip(places, chosen, strict=True):
            panel = made.figure.add_subplot(place)
            draw_slice(panel, slice_shown(image, posteriors[n], channel), limits, small=True)
            draw_posterior(panel, posteriors[n], bands[n], grades[n], 12, drawn[n], width)
            title = title_of(posteriors[n], grades[n], short=True)
            made.title(
                panel, title, **small_title() | {"fontsize": 7.0 if width_mm is None else 6.5}
            )
        seen = [grades[n] for n in {focus, *(int(n) for n in chosen)}]
        handles = legend_handles(
            seen, bands[focus], min(30, len(posteriors[focus].draws)), drawn, shares=False
        )
        note = (
            f"small: {len(chosen)} of {count} slices, spread evenly"
            if count > len(chosen)
            else None
        )
        return settle(made, handles, note=note)


def plot_slices(
    image: Image,
    posteriors: Sequence[Posterior],
    bands: Sequence[Band],
    grades: Sequence[Grade],
    *,
    references: Sequence[Region | None] | None = None,
    channel: str | None = None,
    inches: float = 2.2,
) -> list[Figure]:
    """One square picture a slice, without words around it, all of one field of view."""
    given = [None] * len(posteriors) if references is None else references
    drawn = [reference_in(r, p) for r, p in zip(given, posteriors, strict=True)]
    limits = _common_limits(image, posteriors, bands, drawn, channel)
    pictures = []
    for posterior, band, grade, reference in zip(posteriors, bands, grades, drawn, strict=True):
        with style():
            figure = new_figure(inches, inches)
            figure.set_layout_engine("none")
            axes = figure.add_axes((0.004, 0.004, 0.992, 0.992))
            shown = slice_shown(image, posterior, channel)
            draw_slice(axes, shown, limits, small=True)
            draw_posterior(axes, posterior, band, grade, 12, reference, width=1.5)
            pictures.append(figure)
    return pictures


def _places(made: Page, count: int) -> tuple[Any, list[Any]]:
    """Where the large panel and `count` small ones go: side by side, or under it in one column."""
    if made.narrow:
        columns = 3
        rows = -(-count // columns)
        grid = made.figure.add_gridspec(1 + rows, columns, height_ratios=[3.0] + [1.0] * rows)
        return grid[0, :], [grid[1 + n // columns, n % columns] for n in range(count)]
    columns = -(-count // _ROWS)
    rows = -(-count // columns)
    # the large slice is square and as high as the small ones with their titles together
    titles, around = 0.38, 1.9  # inches of a title, and of axes and colour bar
    small = (made.figure.get_figwidth() - around - titles * (rows - 1)) / (rows + columns)
    large = rows * small + titles * (rows - 1)
    grid = made.figure.add_gridspec(
        rows, 1 + columns, width_ratios=[large] + [small] * columns, height_ratios=[small] * rows
    )
    return grid[:, 0], [grid[n // columns, 1 + n % columns] for n in range(count)]


def _common_limits(
    image: Image,
    posteriors: Sequence[Posterior],
    bands: Sequence[Band],
    references: Sequence[Drawn],
    channel: str | None,
) -> tuple[float, float, float, float]:
    """One square for every slice: the smallest that holds every slice's own."""
    each = np.array(
        [
            limits_around(p, b, r, slice_shown(image, p, channel).plane, full=False)
            for p, b, r in zip(posteriors, bands, references, strict=True)
        ]
    )
    low, high = each[:, [0, 2]].min(axis=0), each[:, [1, 3]].max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half
