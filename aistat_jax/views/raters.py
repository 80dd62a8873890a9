"""How do raters differ? Drawings about their consensus, and each rater's bias and noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.raters import Interval, RaterModel
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.views.layers import loop
from aistat_jax.views.paper import page, settle
from aistat_jax.views.style import BAND, COMPARED, ESTIMATE, OUTLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any


def plot_raters(
    model: RaterModel,
    case: str,
    *,
    level: float = 0.95,
    title: str | None = None,
    width_mm: float | None = None,
) -> Figure:
    """The drawings of one case with the band of their consensus; biases and noise of all raters.

    The band holds the whole consensus at once with probability `level`; whiskers are 95%
    intervals. Exchangeable raters have no biases, and surfaces no picture in one plane.
    Raises InputError for an unknown case, and for surfaces.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    posterior = model.consensus(case)
    if posterior.chart.dims == 3:
        raise InputError("surfaces do not lie in one plane; draw model.consensus by plot_surface")
    band = simultaneous_band(posterior, level)
    points = posterior.chart.points
    with page(width_mm, inches=7.2) as made:
        axes = made.figure.subplots(1, 2 if model.exchangeable else 3, squeeze=False)[0]
        ring = np.concatenate([loop(points(band.upper)), loop(points(band.lower))[::-1]])
        axes[0].fill(*ring.T, color=BAND, alpha=0.35, lw=0)
        axes[0].plot(*loop(points(band.centre)).T, color=ESTIMATE, lw=1.8 * made.scale)
        for drawing in model.cases[case].drawings:
            if drawing.contour is not None:
                axes[0].plot(*loop(drawing.contour.points).T, color=OUTLINE, lw=0.7 * made.scale)
        axes[0].set_aspect("equal")
        axes[0].set_xlabel(f"u ({model.unit})")
        axes[0].set_ylabel(f"v ({model.unit})")
        if not model.exchangeable:
            tools = [(f"tool {name}", interval) for name, interval in model.tool.items()]
            _whiskers(axes[1], [*model.bias.items(), *tools], f"bias ({model.unit})")
            axes[1].axvline(0.0, color="0.25", lw=0.6)
        _whiskers(axes[-1], list(model.noise.items()), f"noise, sd ({model.unit})")
        axes[-1].set_xlim(left=0.0)
        made.headline(title)
        return settle(
            made,
            [
                Line2D([], [], color=OUTLINE, lw=0.7, label="drawings"),
                Line2D([], [], color=ESTIMATE, lw=1.8, label="consensus"),
                Patch(facecolor=BAND, alpha=0.35, label=f"{level:.0%} band of the consensus"),
            ],
        )


def _whiskers(axes: Axes, intervals: Sequence[tuple[str, Interval]], label: str) -> None:
    place = np.arange(len(intervals))[::-1]
    for at, (_, interval) in zip(place, intervals, strict=True):
        axes.plot([interval.lower, interval.upper], [at, at], color=COMPARED[0]["color"], lw=1.2)
        axes.plot(interval.mean, at, "o", color=COMPARED[0]["color"], ms=3.5)
    axes.set_yticks(place, [name for name, _ in intervals])
    axes.set_ylim(-0.6, len(intervals) - 0.4)
    axes.set_xlabel(label)
