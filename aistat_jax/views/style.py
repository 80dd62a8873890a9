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
OTHER = "#6B2FA0"  # what else may be meant
HALO = "#FFFFFF"
OUTLINE = "#202020"

# Below this width (mm) a figure is for one column: smaller words, thinner lines, and its legend
# underneath. Nothing is set in less than 6 pt at any width.
NARROW_MM, NARROWEST_MM = 120.0, 60.0
_NARROW: Any = {
    "font.size": 7.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
}
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
def style(width_mm: float | None = None) -> Iterator[None]:
    """The project's look for everything drawn inside the `with`; nothing global is changed.

    Words are smaller in a figure that is `width_mm` wide and made for one column.
    """
    import matplotlib

    with matplotlib.rc_context({**_SETTINGS, **(_NARROW if is_narrow(width_mm) else {})}):
        yield


def is_narrow(width_mm: float | None) -> bool:
    """Whether a figure is for one column. Raises InputError for a width that is none."""
    if width_mm is None:
        return False
    if not (math.isfinite(width_mm) and width_mm >= NARROWEST_MM):
        raise InputError(
            f"a figure's width must be at least {NARROWEST_MM:g} mm (88 and 180 are common), "
            f"got {width_mm}"
        )
    return width_mm < NARROW_MM


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


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure in the format its name ends with (.png, .pdf, .svg); never half of one.

    Vector formats keep text as text, and PDF embeds its fonts.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary, style():
        figure.savefig(temporary, format=path.suffix[1:] or "png")
    return path
