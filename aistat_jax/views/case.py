"""What does a whole case look like? One slice large, its neighbours small, one legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.layers import (
    draw_colour_bar,
    draw_other,
    draw_posterior,
    draw_slice,
    legend_handles,
    limits_around,
    slice_shown,
    title_of,
)
from aistat_jax.views.paper import Page, page, settle, small_title
from aistat_jax.views.style import new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

MOST_PANELS = 9
_ROWS = 3


def plot_case(
    image: Image,
    contours: Sequence[Contour],
    *,
    focus: int | None = None,
    why: str | None = None,
    channel: str | None = None,
    width_mm: float | None = None,
) -> Figure:
    """The slice of contour `focus` (the middle one unless told) large, up to nine small under it.

    With more contours than that, nine spread evenly are shown. All panels of one case share one
    field of view, so that sizes can be compared; for one column a bar is their scale. `why` says in
    a few words by which rule the large slice was chosen, which is added to its title.
    Raises InputError for no contour.
    """
    count = len(contours)
    if count == 0:
        raise InputError("a case needs at least one contour")
    if focus is None:
        focus, why = count // 2, why or "the middle slice"
    large_one = contours[focus]
    if count == 1:
        one = contours[0]
        return plot_contours(
            image, one.posterior, one.band, one.grade, reference=one.drawn, other=_other(one),
            channel=channel,
            width_mm=width_mm,
        )  # fmt: skip
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_PANELS)).round().astype(int))
    with page(width_mm, inches=6.0 + 1.8 * -(-len(chosen) // _ROWS)) as made:
        large, places = _places(made, len(chosen))
        limits = _common_limits(image, contours, channel)
        axes = made.figure.add_subplot(large)
        shown = slice_shown(image, large_one.posterior, channel)
        picture = draw_slice(axes, shown, limits, small=made.narrow)
        axes.set_anchor("N")
        _draw(axes, large_one, 30, 2.4 * made.scale)
        title = title_of(large_one.posterior, large_one.grade)
        made.title(axes, title.replace("\n", f": {why}\n", 1) if why else title)
        if not made.narrow:
            draw_colour_bar(axes, picture, shown)
        width = 1.5 if width_mm is None else 1.0
        for place, n in zip(places, chosen, strict=True):
            panel, one = made.figure.add_subplot(place), contours[n]
            draw_slice(panel, slice_shown(image, one.posterior, channel), limits, small=True)
            _draw(panel, one, 12, width)
            title = title_of(one.posterior, one.grade, short=True)
            made.title(
                panel, title, **small_title() | {"fontsize": 7.0 if width_mm is None else 6.5}
            )
        seen = [contours[n].grade for n in {focus, *(int(n) for n in chosen)}]
        handles = legend_handles(
            seen, large_one.band, min(30, len(large_one.posterior.draws)),
            [contour.drawn for contour in contours], shares=False,
            other=any(_other(contour) for contour in contours),
        )  # fmt: skip
        note = (
            f"small: {len(chosen)} of {count} contours, spread evenly"
            if count > len(chosen)
            else None
        )
        return settle(made, handles, note=note)


def plot_slices(
    image: Image,
    contours: Sequence[Contour],
    *,
    channel: str | None = None,
    inches: float = 2.2,
) -> list[Figure]:
    """One square picture a contour, without words around it, all of one field of view."""
    limits = _common_limits(image, contours, channel)
    pictures = []
    for contour in contours:
        with style():
            figure = new_figure(inches, inches)
            figure.set_layout_engine("none")
            axes = figure.add_axes((0.004, 0.004, 0.992, 0.992))
            draw_slice(axes, slice_shown(image, contour.posterior, channel), limits, small=True)
            _draw(axes, contour, 12, width=1.5)
            pictures.append(figure)
    return pictures


def _draw(axes: Axes, one: Contour, draws: int, width: float) -> None:
    draw_posterior(axes, one.posterior, one.band, one.grade, draws, one.drawn, width)
    draw_other(axes, _other(one), width / 2.4)


def _other(one: Contour) -> tuple[Curve, ...]:
    """The curves of another reading in the slice of a contour."""
    return one.other if isinstance(one.other, tuple) else ()


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
    image: Image, contours: Sequence[Contour], channel: str | None
) -> tuple[float, float, float, float]:
    """One square for every slice: the smallest that holds every slice's own."""
    each = []
    for one in contours:
        plane = slice_shown(image, one.posterior, channel).plane
        beside = (*(one.drawn or ()), *_other(one))
        each.append(limits_around(one.posterior, one.band, beside, plane, full=False))
    edges = np.array(each)
    low, high = edges[:, [0, 2]].min(axis=0), edges[:, [1, 3]].max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half
