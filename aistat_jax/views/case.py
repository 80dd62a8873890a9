"""What does a whole case look like? One slice large, its neighbours small, one legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.layers import (
    draw_colour_bar,
    draw_posterior,
    draw_slice,
    legend_handles,
    limits_around,
    slice_shown,
    title_of,
)
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
    references: Sequence[Curve | None] | None = None,
    focus: int | None = None,
    channel: str | None = None,
) -> Figure:
    """The slice `focus` (the middle one unless told) large, up to nine slices small beside it.

    With more slices than that, nine spread evenly are shown. All panels of one case share one
    field of view, so that sizes can be compared. `references` are contours to compare with.
    Raises InputError for no posterior or lists of different lengths.
    """
    count = len(posteriors)
    references = [None] * count if references is None else list(references)
    if count == 0 or not count == len(bands) == len(grades) == len(references):
        raise InputError("a case needs at least one posterior, with one band and grade for each")
    focus = count // 2 if focus is None else focus
    if count == 1:
        return plot_contours(
            image, posteriors[0], bands[0], grades[0], reference=references[0], channel=channel
        )
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_PANELS)).round().astype(int))
    columns = -(-len(chosen) // _ROWS)
    rows = -(-len(chosen) // columns)
    with style():
        # the large slice is square and as high as the small ones together
        small = 1.85 if rows == _ROWS else 2.4
        figure: Any = new_figure(6.2 + small * columns, 6.0)
        left, right = figure.subfigures(1, 2, width_ratios=(6.2, small * columns))
        limits = _common_limits(image, posteriors, bands, references, channel)
        axes = left.add_subplot()
        shown = slice_shown(image, posteriors[focus], channel)
        picture = draw_slice(axes, shown, limits)
        draw_posterior(axes, posteriors[focus], bands[focus], grades[focus], 30, references[focus])
        axes.set_title(title_of(posteriors[focus], grades[focus]))
        draw_colour_bar(axes, picture, shown)
        panels = right.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(chosen) :]:
            panel.set_axis_off()
        for panel, n in zip(panels, chosen, strict=False):
            draw_slice(panel, slice_shown(image, posteriors[n], channel), limits, small=True)
            draw_posterior(panel, posteriors[n], bands[n], grades[n], 12, references[n], width=1.5)
            panel.set_title(title_of(posteriors[n], grades[n], short=True), fontsize=7.5)
        handles = legend_handles(
            posteriors[focus], bands[focus], grades[focus], 30, _first(references), False
        )
        per_row = len(handles) if columns == 3 else 3
        figure.legend(handles=handles, loc="outside lower center", ncols=per_row)
    return figure


def _common_limits(
    image: Image,
    posteriors: Sequence[Posterior],
    bands: Sequence[Band],
    references: Sequence[Curve | None],
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


def _first(references: Sequence[Curve | None]) -> Curve | None:
    return next((curve for curve in references if curve is not None), None)
