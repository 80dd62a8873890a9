"""Where do the ranks of truths leave what is even? ECDF differences with a band for all of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aistat_jax.uncertainty.calibration import Ranks
from aistat_jax.uncertainty.uniformity import ecdf_band, ecdf_difference
from aistat_jax.views.paper import columns_for, page, settle, small_title
from aistat_jax.views.style import BAND, ESTIMATE, OUTLINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


def plot_ecdf(
    ranks: Ranks, *, level: float = 0.95, columns: int | None = None, width_mm: float | None = None
) -> Figure:
    """ECDF of each quantity's ranks less that of even ranks, and the band that holds it.

    The whole line lies within the band with probability `level` where ranks are even (Sailynoja,
    Burkner & Vehtari 2022). Too narrow a posterior rises and then falls, too wide a one falls and
    then rises, a shifted one lies on one side. `columns` are four, or as many as have room.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    place, low, high = ecdf_band(len(ranks.values), ranks.draws, level)
    columns = min(columns or columns_for(width_mm, 4), len(ranks.names))
    rows = -(-len(ranks.names) // columns)
    with page(width_mm, inches=1.9 * columns + 0.4) as made:
        panels = made.figure.subplots(
            rows, columns, squeeze=False, sharex=True, sharey=True,
            height_ratios=[0.9 if made.narrow else 1.25] * rows,
        )  # fmt: skip
        look = {"color": OUTLINE, "lw": 1.2 * max(made.scale, 0.7)}
        for n, panel in enumerate(panels.ravel()):
            if n >= len(ranks.names):
                panel.set_axis_off()
                continue
            panel.fill_between(place, low, high, color=BAND, alpha=0.3, lw=0, step="mid")
            panel.axhline(0.0, color=ESTIMATE, lw=0.8)
            panel.step(place, ecdf_difference(ranks.values[:, n], ranks.draws), where="mid", **look)
            made.title(panel, ranks.names[n], **small_title())
            panel.set_xlim(0, 1)
            lowest = n + columns >= len(ranks.names)
            panel.tick_params(labelbottom=lowest)
            panel.set_xlabel("scaled rank" if lowest else "")
            panel.set_ylabel("" if n % columns else "ECDF difference")
        handles = [
            Patch(
                facecolor=BAND,
                alpha=0.3,
                label=f"{level:.0%} of whole lines where ranks are uniform",
            ),
            Line2D([], [], **look, label=f"{len(ranks.values)} truths"),
        ]
        return settle(made, handles)
