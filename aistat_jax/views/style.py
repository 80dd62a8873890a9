"""How does every figure of the project look?

Colours are told apart with any colour vision (a test simulates the two common deficiencies),
and nothing is told by colour alone: each grade also has its own line style and name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistat_jax._errors import InputError
from aistat_jax._files import replaced_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


@dataclass(frozen=True)
class GradeLook:
    """Colour, line style (matplotlib dashes) and words for one grade."""

    name: str
    colour: str
    dashes: Any
    meaning: str


GRADE_LOOKS: tuple[GradeLook, ...] = (
    GradeLook("green", "#00BFA0", "solid", "trusted"),
    GradeLook("amber", "#FFB000", (0, (3.4, 1.4)), "check"),
    GradeLook("red", "#B0124F", (0, (1.1, 0.9)), "do not trust"),
)
ESTIMATE = "#1E88E5"
BAND = "#4FA8F0"
DRAW = "#1E88E5"
REFERENCE = "#111111"
HALO = "#FFFFFF"
OUTLINE = "#202020"

# Words and lines of a narrow figure: nine points shrink to six and a half at the most.
SMALLEST = 0.72
# Posteriors side by side, told apart by dashes as well as by colour.
COMPARED: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "ls": "solid", "lw": 2.2},
    {"color": "#D55E00", "ls": (0, (5, 2)), "lw": 1.8},
    {"color": "#111111", "ls": (0, (1.2, 1.4)), "lw": 1.8},
    {"color": "#009E73", "ls": (0, (7, 2, 1.5, 2)), "lw": 1.6},
    {"color": "#AA4499", "ls": (0, (3, 1, 1, 1, 1, 1)), "lw": 1.6},
)

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 110.0,
    "savefig.dpi": 200.0,
    "savefig.facecolor": "white",
    "image.interpolation": "nearest",
    "image.origin": "lower",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """The project's look for everything drawn inside the `with`; nothing global is changed."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, independent of pyplot, so that it works headless."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.08, h_pad=0.08)  # pyright: ignore[reportCallIssue]
    FigureCanvasAgg(figure)
    return figure


def save_figure(
    figure: Figure, path: str | os.PathLike[str], *, width_mm: float | None = None
) -> Path:
    """Write a figure in the format its name ends with (.png, .pdf, .svg); never half of one.

    Figures are drawn for the full width of a page, about 180 mm. `width_mm` makes one as wide as a
    column, such as 88 or 180: it is laid out anew in the same proportions, words and lines shrink
    with it but no further than to SMALLEST. Vector formats keep text as text; PDF embeds its fonts.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary, style(), _as_wide_as(figure, width_mm):
        figure.savefig(temporary, format=path.suffix[1:] or "png")
    return path


@contextmanager
def _as_wide_as(figure: Figure, width_mm: float | None) -> Iterator[None]:
    """The figure at another width for as long as the `with` lasts."""
    if width_mm is None:
        yield
        return
    if not (math.isfinite(width_mm) and width_mm > 0):
        raise InputError(f"a figure's width must be a positive length, got {width_mm} mm")
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    size = figure.get_size_inches()
    scale = width_mm / 25.4 / size[0]
    shrink = max(scale, SMALLEST)
    words: list[Any] = figure.findobj(Text)
    lines: list[Any] = figure.findobj(Line2D)
    heights, widths = [w.get_fontsize() for w in words], [line.get_linewidth() for line in lines]
    try:
        figure.set_size_inches(*(scale * size))
        for text, height in zip(words, heights, strict=True):
            text.set_fontsize(shrink * height)
        for line, width in zip(lines, widths, strict=True):
            line.set_linewidth(shrink * width)
        yield
    finally:
        figure.set_size_inches(*size)
        for text, height in zip(words, heights, strict=True):
            text.set_fontsize(height)
        for line, width in zip(lines, widths, strict=True):
            line.set_linewidth(width)
