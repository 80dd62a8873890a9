"""How do peers compare at a glance? A column a score, a line a peer, the first one's as a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from aistat_jax.views.style import ESTIMATE, OUTLINE, new_figure, style

PANELS = (
    ("GED^2", "GED$^2$, 16 samples"),
    ("GED^2, representatives", "GED$^2$, 16 chosen"),
    ("surface Dice of samples", "surface Dice\nof samples"),
    ("NLL", "NLL near\nthe boundary"),
    ("coverage", "whole boundary\nin 95% band"),
    ("half-width, median", "its half-width"),
    ("AURC", "AURC"),
)
WIDTH_MM, LINE_MM = 180.0, 4.6


class Point(NamedTuple):
    """A score with its standard error."""

    value: float
    error: float


def plot_peers(
    peers: Sequence[str], points: dict[str, dict[str, Point]], first: str, unit: str
) -> Any:
    """Points with 95% intervals; `first` is the peer that the others are compared with."""
    height = LINE_MM * len(peers) + 28.0
    with style(WIDTH_MM):
        figure = new_figure(WIDTH_MM / 25.4, height / 25.4)
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for ax, (name, title) in zip(axes, PANELS, strict=True):
            ax.axvline(points[first][name].value, color=ESTIMATE, lw=0.8, alpha=0.6)
            if name == "coverage":
                ax.axvline(0.95, color=OUTLINE, lw=0.6, ls=(0, (2, 2)))
            for line, peer in enumerate(peers):
                point, mine = points[peer][name], peer == first
                ax.errorbar(
                    point.value, line, xerr=1.96 * point.error, fmt="D" if mine else "o",
                    ms=4.0 if mine else 3.0, lw=0.9, color=ESTIMATE if mine else OUTLINE,
                )  # fmt: skip
            if name == "half-width, median":  # of controls it may be that of the image
                ax.set_xscale("symlog", linthresh=1.0)
                title = f"{title}, {unit}"
            ax.set_title(title, fontsize=7.0, fontweight="normal", loc="center")
            ax.tick_params(axis="x", labelsize=6.5)
            ax.tick_params(axis="y", length=0, labelsize=7.0)
            ax.locator_params(axis="x", nbins=3) if name != "half-width, median" else None
            ax.grid(axis="y", lw=0.3, alpha=0.4)
        axes[0].set_yticks(range(len(peers)), peers)
        axes[0].invert_yaxis()
    return figure
