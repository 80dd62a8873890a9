"""What do margins look like? Their contours on the image, and millimetres by the patient's side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.planning.margins import SafetyMargin
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import ChannelSlice, Image
from aistat_jax.views.layers import Limits, draw_slice, loop
from aistat_jax.views.paper import Page, page, settle
from aistat_jax.views.stacks import PLANES
from aistat_jax.views.style import COMPARED, HALO
from aistat_jax.views.surfaces import common_window, name_plane, plane_through

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

_MEDIAN: dict[str, Any] = {"color": "#202020", "ls": "solid", "lw": 1.2}
_BARS_INCHES = 1.5


def plot_margins(
    image: Image,
    margins: Mapping[str, SafetyMargin],
    *,
    channel: str | None = None,
    at: Sequence[float] | np.ndarray | None = None,
    title: str | None = None,
    width_mm: float | None = None,
) -> Figure:
    """Outer contours of margins around their median, and how far out they are by side.

    In their slice, or of surfaces on three planes of the patient that meet in `at` (3,), by default
    the middle of the median; on `channel` (the first unless named). Below, for each side of the
    patient, how much further than the median each reaches (`SafetyMargin.by_axis`). Inner contours,
    where there are any, are thin lines of the same kind.

    Raises InputError for none or more than four margins, and for those of several targets.
    """
    if not 1 <= len(margins) < len(COMPARED):
        raise InputError(f"1 to {len(COMPARED) - 1} margins can be shown, got {len(margins)}")
    several = list(margins.values())
    first = several[0]
    if any(
        one.chart.sites != first.chart.sites or not np.allclose(one.median, first.median)
        for one in several
    ):
        raise InputError("margins of several targets do not go into one figure; draw each its own")
    shown = planes_of(image, first.chart, [one.outer for one in several], channel, at)
    window = common_window([each for _, each, _ in shown], [limits for *_, limits in shown])
    with page(width_mm, inches=7.6 if len(shown) > 1 else 4.4) as made:
        grid = made.figure.add_gridspec(2, 1, height_ratios=[3.0, _BARS_INCHES])
        row = grid[0].subgridspec(1, len(shown))
        for n, (name, each, limits) in enumerate(shown):
            axes = made.figure.add_subplot(row[n])
            draw_slice(axes, each, limits, small=made.narrow or len(shown) > 1, window=window)
            _draw_contours(axes, several, each.plane, made.scale)
            if name:
                name_plane(axes, name, each.plane, made)
                axes.set_xlabel("")
                axes.set_ylabel("")
        _draw_bars(made.figure.add_subplot(grid[1]), margins, made)
        made.headline(title)
        return settle(made, _handles(margins, made.scale))


def planes_of(
    image: Image,
    chart: Any,
    boundaries: Sequence[Float[np.ndarray, " site"]],
    channel: str | None,
    at: Sequence[float] | np.ndarray | None,
) -> list[tuple[str, ChannelSlice, Limits]]:
    """The planes that boundaries are drawn on: the name, the image on it and what is seen of it.

    Their own slice, without a name, or the patient's three through `at`, for surfaces.
    """
    source = image.primary if channel is None else image[channel]
    points = np.concatenate([chart.points(values) for values in boundaries])
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.58 * float((high - low).max()) + float(source.grid.spacing.min())
    middle = (low + high) / 2
    if chart.dims == 2:
        (u, v) = middle
        limits = (u - half, u + half, v - half, v + half)
        return [("", source.slice_at(chart.plane), limits)]
    point = middle if at is None else np.asarray(at, dtype=float)
    if point.shape != (3,) or not source.grid.contains(point):
        raise InputError(
            f"the point {np.round(point, 1).tolist()} lies outside of channel {source.name}; "
            "choose one inside of it"
        )
    box = np.stack([low, high])
    return [(name, *plane_through(source, name, point, box, half)) for name in PLANES]


def _sections(margin: SafetyMargin, which: str, plane: Plane) -> list[Curve]:
    return margin.chart.sections(margin.values(which), plane)


def _draw_contours(axes: Axes, margins: Sequence[SafetyMargin], plane: Plane, scale: float) -> None:
    def line(curves: Sequence[Curve], look: dict[str, Any], width: float, level: int) -> None:
        for curve in curves:
            points = loop(curve.points).T
            axes.plot(*points, color=HALO, lw=width + 1.2 * scale, zorder=level)
            axes.plot(*points, color=look["color"], ls=look["ls"], lw=width, zorder=level + 0.1)

    line(_sections(margins[0], "median", plane), _MEDIAN, _MEDIAN["lw"] * scale, 4)
    for look, margin in zip(COMPARED, margins, strict=False):
        width = look["lw"] * scale
        if margin.inner is not None:
            line(_sections(margin, "inner", plane), look, 0.5 * width, 5)
        line(_sections(margin, "outer", plane), look, width, 6)


def _draw_bars(axes: Axes, margins: Mapping[str, SafetyMargin], made: Page) -> None:
    """A group of bars for each side of the patient."""
    sides = list(next(iter(margins.values())).by_axis())
    wide = 0.8 / len(margins)
    place = np.arange(len(sides), dtype=float)
    for n, (look, margin) in enumerate(zip(COMPARED, margins.values(), strict=False)):
        height: Float[np.ndarray, " side"] = np.array(list(margin.by_axis().values()))
        left = place + (n - (len(margins) - 1) / 2) * wide
        axes.bar(left, height, 0.9 * wide, facecolor="none", edgecolor=look["color"],
                 ls=look["ls"], lw=0.8 * look["lw"] * made.scale)  # fmt: skip
    axes.axhline(0.0, color="0.25", lw=0.6)
    axes.set_xticks(place, sides)
    axes.set_ylabel(f"margin ({next(iter(margins.values())).unit})")


def _handles(margins: Mapping[str, SafetyMargin], scale: float) -> list[Any]:
    from matplotlib.lines import Line2D

    looks = [("median", _MEDIAN), *zip(margins, COMPARED, strict=False)]
    return [
        Line2D([], [], **(look | {"lw": look["lw"] * scale}), label=name) for name, look in looks
    ]
