"""How does a figure fit its paper? Its width, words that wrap, a legend that fits, no blank bands.

A figure is laid out once, here, when all is drawn: titles are wrapped to the room beside them,
the legend takes as many columns as fit, and every row of pictures becomes as high as its panels
are wide. What is drawn into axes of the caller's is left to the caller's layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aistat_jax._errors import InputError
from aistat_jax.views.style import NARROWEST_MM, is_narrow, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

MM = 1 / 25.4  # inches
_TALLEST = 1.1  # a row of pictures, in widths of the page
_ROUNDS = 4
_STILL = 0.02  # inches by which a page may still be too high or too low
_GAP = 0.06  # between panels within the caller's axes, as a share of their height


@dataclass(frozen=True)
class Page:
    """A figure in the making; `own` where its layout is ours, `scale` of its lines."""

    figure: Figure
    narrow: bool
    own: bool
    axes: Axes | None = None
    titles: list[Any] = field(default_factory=list)

    @property
    def scale(self) -> float:
        return 0.55 if self.narrow else 1.0

    @property
    def width_mm(self) -> float:
        return float(self.figure.get_figwidth()) / MM

    def panel(self) -> Axes:
        """The one panel of the figure: the caller's axes, or new ones."""
        return self.figure.add_subplot() if self.axes is None else self.axes

    def stack(self, heights: Sequence[float]) -> list[Axes]:
        """Panels one below the other with one x axis between them, within the caller's axes if any.

        `heights` are relative, and inches where the figure is ours.
        """
        count = len(heights)
        if self.axes is None:
            panels = self.figure.subplots(
                count, 1, sharex=True, squeeze=False, height_ratios=list(heights)
            )
            return list(panels[:, 0])
        if count == 1:
            return [self.axes]
        self.axes.set_axis_off()
        share = [(1 - _GAP * (count - 1)) * height / sum(heights) for height in heights]
        panels, top = [], 1.0
        for part in share:
            above = panels[0] if panels else None
            panels.append(self.axes.inset_axes((0.0, top - part, 1.0, part), sharex=above))
            top -= part + _GAP
        for panel in panels[:-1]:
            panel.tick_params(labelbottom=False)
        return panels

    def title(self, axes: Axes, text: str | None, **look: Any) -> None:
        """A title that is wrapped when the page is laid out; None for none."""
        if text:
            self.titles.append(axes.set_title(text, **look))

    def headline(self, text: str | None) -> None:
        """A title of the whole page, wrapped when it is laid out; None for none."""
        if text:
            from matplotlib import rcParams

            look = {"fontsize": rcParams["axes.titlesize"], "fontweight": "bold"}
            self.titles.append(self.figure.suptitle(text, x=0.01, ha="left", **look))


@contextmanager
def page(width_mm: float | None, ax: Axes | None = None, *, inches: float = 7.2) -> Iterator[Page]:
    """A page `width_mm` wide, or `inches` where no width is asked for; or the figure of `ax`.

    Words and lines inside the `with` have the size that suits the width. Raises InputError for a
    width below 60 mm, and for a width together with axes, which have one already.
    """
    if ax is not None and width_mm is not None:
        raise InputError("pass width_mm or ax, not both: axes have the width that they were given")
    if ax is None:
        with style(width_mm):
            width = inches if width_mm is None else width_mm * MM
            yield Page(new_figure(width, width), is_narrow(width_mm), own=True)
        return
    figure: Any = ax.get_figure()
    wide = max(NARROWEST_MM, float(ax.get_window_extent().width / figure.dpi / MM))
    with style(wide):
        yield Page(figure, is_narrow(wide), own=False, axes=ax)


def settle(
    made: Page, handles: Sequence[Any] = (), *, beside: bool = False, note: str | None = None
) -> Figure:
    """Lay the page out: legend (`beside` the panels where there is room), titles, heights.

    `note` is the title of the legend. Returns the figure.
    """
    if not made.own:
        if handles and made.axes is not None:
            _legend_under(made.axes, handles, note)
        for text in made.titles:
            text.set_wrap(True)
        return made.figure
    if handles:
        _add_legend(made.figure, handles, beside and not made.narrow, note)
    words = [text.get_text() for text in made.titles]
    for text in made.titles:
        text.set_text("")
    heights: dict[int, float] = {}
    made.figure.set_figheight(_tall_enough(made.figure))
    _lay_out(made.figure)
    for text, word in zip(made.titles, words, strict=True):
        _wrap(text, word)
    _set_heights(made.figure, heights)
    for _ in range(_ROUNDS):
        _lay_out(made.figure)
        if not _set_heights(made.figure, heights):
            break
    else:
        _lay_out(made.figure)
    return made.figure


def fixed(figure: Figure) -> Figure:
    """A figure whose panels stay where they are now, however often it is saved."""
    with style():
        _lay_out(figure)
    figure.set_layout_engine("none")
    return figure


def _lay_out(figure: Figure) -> None:
    """Find every panel's place, without drawing what is in it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def columns_for(width_mm: float | None, otherwise: int) -> int:
    """How many small panels lie side by side, so that their words fit in 6 pt and more."""
    if width_mm is None:
        return otherwise
    return int(width_mm // (27 if is_narrow(width_mm) else 36))


def small_title() -> dict[str, Any]:
    """The look of a small panel's title."""
    from matplotlib import rcParams

    return {"fontsize": max(6.5, 0.92 * rcParams["font.size"]), "pad": 3.0}


def _add_legend(figure: Figure, handles: Sequence[Any], beside: bool, note: str | None) -> None:
    """To the right, or below in as many columns as the page is wide enough for."""
    if beside:
        figure.legend(handles=handles, loc="outside right upper", title=note, alignment="left")
        return
    room = figure.bbox.width * (1 - 4 * MM / figure.get_figwidth())
    for columns in _even(len(handles), 5):
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, title=note, borderpad=0.1
        )
        if columns == 1 or legend.get_window_extent().width <= room:
            return
        legend.remove()


def _even(count: int, most: int) -> list[int]:
    """Numbers of columns that fill their rows best, from the widest to one.

    >>> _even(6, 5)
    [3, 2, 1]
    """
    columns = range(min(count, most), 0, -1)
    return sorted({-(-count // -(-count // n)) for n in columns}, reverse=True)


def _legend_under(axes: Axes, handles: Sequence[Any], note: str | None) -> None:
    """Below axes of somebody else's, clear of their labels."""
    from matplotlib.transforms import offset_copy

    figure: Any = axes.get_figure()
    labels: Any = axes.get_tightbbox()
    down = (axes.bbox.y0 - labels.y0) / figure.dpi + 2 * MM
    under = offset_copy(axes.transAxes, figure, y=-down, units="inches")
    for columns in _even(len(handles), 3):
        legend = axes.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=under,
            ncols=columns, title=note, borderaxespad=0.0, borderpad=0.1,
        )  # fmt: skip
        if legend.get_window_extent().width <= axes.get_window_extent().width:
            return


def _wrap(text: Any, words: str) -> None:
    """Set a title, its lines broken where they would leave their room."""
    room = _room_of(text)
    lines: list[str] = []
    for line in words.split("\n"):
        lines.append("")
        for word in line.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            text.set_text(longer)
            if lines[-1] and text.get_window_extent().width > room:
                lines.append(word)
            else:
                lines[-1] = longer
    text.set_text("\n".join(lines))


def _room_of(text: Any) -> float:
    """Pixels for a title: its panel's width where panels are side by side, else to the edge."""
    figure = text.get_figure()
    if text.axes is None:
        return 0.98 * figure.bbox.width
    own = text.axes.get_window_extent()
    spec = text.axes.get_subplotspec()
    if spec is not None and spec.get_gridspec().ncols > len(spec.colspan):
        return own.width + 1.0 * MM * figure.dpi
    return figure.bbox.x1 - 1.2 * MM * figure.dpi - own.x0


def _set_heights(figure: Figure, heights: dict[int, float]) -> bool:
    """Rows of pictures as high as their panels are wide; others keep theirs, in inches.

    `heights` remembers the lowest found for each row: a panel that is not high enough leaves room
    beside it, so that its column seems wider than it can be. Returns whether anything moved.
    """
    width, height = map(float, figure.get_size_inches())
    now: dict[int, float] = {}
    found: dict[int, float] = {}
    grid = None
    for axes, spec in _placed(figure):
        grid, row = spec.get_gridspec(), spec.rowspan.start
        slot = axes.get_position(original=True)
        now[row] = slot.height * height
        if axes.get_aspect() == "auto":
            wanted = grid.get_height_ratios()[row] if axes.axison else 0.0
        else:
            (u0, u1), (v0, v1) = axes.get_xlim(), axes.get_ylim()
            wanted = slot.width * width * abs((v1 - v0) / (u1 - u0))
        found[row] = max(found.get(row, 0.0), min(wanted, _TALLEST * width))
    if grid is None:
        return False
    for row, wanted in found.items():
        heights[row] = min(heights.get(row, wanted), wanted)
    moves = [heights[row] - now[row] for row in now]
    if max(map(abs, moves)) <= _STILL:
        return False
    grid.set_height_ratios([heights[row] for row in sorted(heights)])
    figure.set_figheight(height + sum(moves))
    return True


def _placed(figure: Figure) -> Iterator[tuple[Axes, Any]]:
    """The axes that make up a row of the figure's (outermost) grid, with their places."""
    for axes in figure.axes:
        spec = axes.get_subplotspec()
        spec = None if spec is None else spec.get_topmost_subplotspec()
        if spec is not None and len(spec.rowspan) == 1:
            yield axes, spec


def _tall_enough(figure: Figure) -> float:
    """A height in inches that no row of pictures can fill."""
    width, rows = figure.get_figwidth(), {}
    for axes, spec in _placed(figure):
        row, own = spec.rowspan.start, spec.get_gridspec().get_height_ratios()[spec.rowspan.start]
        inner: Any = axes.get_subplotspec()
        columns = inner.get_gridspec().ncols
        rows[row] = own if axes.get_aspect() == "auto" else 1.5 * width / columns + 0.6
    return sum(rows.values()) + 2.0
