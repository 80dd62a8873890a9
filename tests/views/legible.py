"""What would an editor send back? Words cut off, too small or on other words; blank bands.

Everything is measured with the renderer, on the figure as it would be printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

SMALLEST_PT = 6.0
BLANK_MM = 4.5  # a band without anything in it at an edge of the page


def faults(figure: Figure) -> list[str]:
    """What is wrong with a figure, in words; nothing if an editor would print it."""
    figure.draw_without_rendering()
    words = [(text.get_text(), text.get_window_extent(), text) for text in texts_of(figure)]
    page, found = figure.bbox, []
    for word, box, text in words:
        if box.x0 < page.x0 - 0.5 or box.x1 > page.x1 + 0.5:
            found.append(f"{word!r} leaves the page on a side")
        if box.y0 < page.y0 - 0.5 or box.y1 > page.y1 + 0.5:
            found.append(f"{word!r} leaves the page above or below")
        if text.get_fontsize() < SMALLEST_PT:
            found.append(f"{word!r} is set in {text.get_fontsize():.1f} pt")
    for (one, a, _), (other, b, _) in combinations(words, 2):
        if Bbox.intersection(_shrunk(a), _shrunk(b)) is not None:
            found.append(f"{one!r} lies on {other!r}")
    inked = figure.get_tightbbox()  # inches
    edges = {
        "above": page.height / figure.dpi - inked.y1, "below": inked.y0,
        "on the left": inked.x0, "on the right": page.width / figure.dpi - inked.x1,
    }  # fmt: skip
    found += [f"{25.4 * d:.0f} mm are blank {w}" for w, d in edges.items() if 25.4 * d > BLANK_MM]
    return found


def texts_of(figure: Figure) -> Iterator[Any]:
    """Every visible, non-empty text of a figure."""
    loose = [*figure.texts]  # titles of the whole figure are among them
    for legend in figure.legends:
        loose += [*legend.get_texts(), legend.get_title()]
    for axes in figure.axes:
        for each in (axes, *axes.child_axes):
            loose += _texts_of_axes(each)
    for text in loose:
        if text is not None and text.get_visible() and text.get_text().strip():
            yield text


def _texts_of_axes(axes: Any) -> list[Any]:
    found = [*axes.texts, axes.title, axes._left_title, axes._right_title]
    if (legend := axes.get_legend()) is not None:
        found += [*legend.get_texts(), legend.get_title()]
    if not axes.axison:
        return found
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-6 * (high - low)
        found.append(axis.label)
        for tick in axis.get_major_ticks():
            if low - slack <= tick.get_loc() <= high + slack:
                found += [tick.label1, tick.label2]
    return found


def _shrunk(box: Any) -> Any:
    """A text's box less what is blank around its letters."""
    return Bbox.from_extents(box.x0 + 0.7, box.y0 + 1.2, box.x1 - 0.7, box.y1 - 1.2)
