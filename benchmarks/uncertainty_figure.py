"""How do peers compare at a glance? A column a score, a line a peer, the first one's as a rule."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from matplotlib.ticker import MaxNLocator

from aistat_jax.views.style import ESTIMATE, OUTLINE, new_figure, style

FAINT = "#808080"
PANELS = (
    ("GED^2", "GED$^2$,\n16 samples"),
    ("GED^2, representatives", "GED$^2$,\n16 chosen"),
    ("surface Dice of samples", "surface Dice\nof samples"),
    ("NLL", "NLL near\nthe boundary"),
    ("coverage", "boundary in\n95% band"),
    ("half-width, median", "half-width\nof the band"),
    ("AURC", "AURC"),
)
WIDE = "half-width, median"
WIDTH_MM, LINE_MM = 180.0, 4.6
ROOM = 0.08  # beyond the peers, as a share of how far these are apart


class Point(NamedTuple):
    """A score with its standard error."""

    value: float
    error: float


def plot_peers(
    peers: Sequence[str], points: dict[str, dict[str, Point]], first: str, unit: str,
    controls: Collection[str] = (),
) -> Any:  # fmt: skip
    """Points with 95% intervals; `first` is the peer that the others are compared with.

    Axes are those of the peers: a control beyond them is an arrow at their end.
    """
    height = LINE_MM * len(peers) + 22.0
    with style(WIDTH_MM):
        figure = new_figure(WIDTH_MM / 25.4, height / 25.4)
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for ax, (name, title) in zip(axes, PANELS, strict=True):
            low, high = _limits([points[p][name] for p in peers if p not in controls])
            ax.axvline(points[first][name].value, color=ESTIMATE, lw=0.8, alpha=0.6)
            if name == "coverage":
                high = max(high, 1.0)
                ax.axvline(0.95, color=OUTLINE, lw=0.6, ls=(0, (2, 2)))
            for line, peer in enumerate(peers):
                point, mine = points[peer][name], peer == first
                colour = ESTIMATE if mine else FAINT if peer in controls else OUTLINE
                if not low <= point.value <= high:
                    end, mark = (low, "<") if point.value < low else (high, ">")
                    ax.plot(end, line, mark, ms=4.0, color=colour, clip_on=False)
                    continue
                ax.errorbar(
                    point.value, line, xerr=1.96 * point.error, fmt="D" if mine else "o",
                    ms=4.0 if mine else 3.0, lw=0.9, color=colour,
                )  # fmt: skip
            ax.set_xlim(low, high)
            ax.set_title(title + f", {unit}" * (name == WIDE), fontsize=7.0,
                         fontweight="normal", loc="center")  # fmt: skip
            ticks = [x for x in MaxNLocator(2).tick_values(low, high) if low <= x <= high]
            ax.set_xticks(ticks[:: max(1, len(ticks) - 1)])  # the first and the last: labels touch
            ax.tick_params(axis="x", labelsize=6.5)
            ax.tick_params(axis="y", length=0, labelsize=7.0)
            ax.grid(axis="y", lw=0.3, alpha=0.4)
        axes[0].set_yticks(range(len(peers)), peers)
        axes[0].invert_yaxis()
    return figure


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    """Of points with their intervals, and some room."""
    low = min(point.value - 1.96 * point.error for point in points)
    high = max(point.value + 1.96 * point.error for point in points)
    room = ROOM * (high - low) or 1.0
    return low - room, high + room
