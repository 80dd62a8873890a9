"""What does each source contribute? Contours with and without it, and half-widths by direction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax.case import LEVEL, Case
from aistat_jax.planning.margins import AXES
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.contributions import (
    Contribution,
    Contributions,
    contributions,
    held,
)
from aistat_jax.views.layers import closed, draw_slice, loop
from aistat_jax.views.margins import planes_of
from aistat_jax.views.paper import Page, page, settle
from aistat_jax.views.style import COMPARED, HALO, save_figure
from aistat_jax.views.surfaces import common_window, name_plane
from aistat_jax.views.unrolled import around, direction_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any


class _Line(NamedTuple):
    """A posterior as it is drawn: its band, what it is called, and its look."""

    band: Band
    name: str
    look: dict[str, Any]


def plot_contributions(
    image: Image,
    found: Contributions,
    *,
    channel: str | None = None,
    at: Sequence[float] | np.ndarray | None = None,
    title: str | None = None,
    width_mm: float | None = None,
) -> Figure:
    """The boundary of all sources and that without each on the image, and half-widths beside it.

    In their slice, or of surfaces on three planes of the patient that meet in `at` (3,), by default
    the middle; on `channel` (the first unless named). Half-widths of the bands are by direction, of
    surfaces towards each side of the patient. The legend says how many nats each source adds, and
    with which p it agrees with the rest; of a single source, what is left without it is the prior.
    What has no fit that passes its checks is named in the legend and not drawn.

    Raises InputError for more than four sources, and for a boundary within a boundary.
    """
    from matplotlib.patheffects import withStroke

    if len(found.sources) >= len(COMPARED):
        raise InputError(
            f"at most {len(COMPARED) - 1} sources can be shown, got {len(found.sources)}; "
            "`table` has them all"
        )
    chart = found.posterior.chart
    if chart.link == "ring":
        raise InputError("a ring's two boundaries have no figure of contributions; see `table`")
    lines = _lines(found)
    outer = [line.band.centre for line in lines]
    shown = planes_of(image, chart, outer, channel, at)
    window = common_window([each for _, each, _ in shown], [limits for *_, limits in shown])
    with page(width_mm, inches=7.6 if len(shown) > 1 else 4.8) as made:
        if made.narrow or len(shown) > 1:
            grid = made.figure.add_gridspec(2, 1, height_ratios=[3.0, 1.1 if made.narrow else 1.6])
        else:
            grid = made.figure.add_gridspec(1, 2, width_ratios=[1.0, 1.2])
        row = grid[0].subgridspec(1, len(shown))
        for n, (name, each, limits) in enumerate(shown):
            axes = made.figure.add_subplot(row[n])
            draw_slice(axes, each, limits, small=made.narrow or len(shown) > 1, window=window)
            for line in lines:
                look, width = line.look, line.look["lw"] * made.scale
                halo = [withStroke(linewidth=width + 1.2 * made.scale, foreground=HALO)]
                for curve in chart.sections(line.band.centre, each.plane):
                    points = loop(curve.points).T
                    axes.plot(*points, **look | {"lw": width}, path_effects=halo)
            if name:
                name_plane(axes, name, each.plane, made)
                axes.set_xlabel("")
                axes.set_ylabel("")
        below = made.figure.add_subplot(grid[1])
        if chart.dims == 2:
            _by_direction(below, lines, made)
        else:
            _by_side(below, lines, made)
        below.set_ylabel(f"half-width ({found.posterior.unit})")
        made.headline(title)
        return settle(made, [*_handles(lines, made.scale), *_unknown(found)])


def _lines(found: Contributions) -> list[_Line]:
    every = [_Line(found.band, "all sources", COMPARED[0])]
    pairs = zip(found.sources, COMPARED[1:], strict=False)
    return every + [_Line(one.band, _said(one), look) for one, look in pairs if held(one.without)]


def _unknown(found: Contributions) -> list[Any]:
    """Entries of a legend for sources without which no fit holds."""
    from matplotlib.lines import Line2D

    names = [one.name for one in found.sources if not held(one.without)]
    return [Line2D([], [], ls="", label=f"without {name} no fit holds") for name in names]


def _said(one: Contribution) -> str:
    p = "p < 0.001" if one.conflict < 0.001 else f"p = {one.conflict:.2g}"
    if np.isnan(one.conflict):
        p = "not known"
    return f"without {one.name}, which adds {one.adds.nats:.1f} nats (agreement {p})"


def _by_direction(axes: Axes, lines: Sequence[_Line], made: Page) -> None:
    chart = lines[0].band.chart
    for line in lines:
        look = line.look | {"lw": 0.8 * line.look["lw"] * max(made.scale, 0.7)}
        axes.plot(around(chart), closed(line.band.half_width), **look)
    axes.set_ylim(bottom=0.0)
    direction_axis(axes, chart)


def _by_side(axes: Axes, lines: Sequence[_Line], made: Page) -> None:
    """A group of bars for each side of the patient, of the sites nearest in direction."""
    chart = lines[0].band.chart
    sides = {letter: sign * np.eye(3)[axis] for axis, letters in enumerate(AXES)
             for letter, sign in zip(letters, (1.0, -1.0), strict=True)}  # fmt: skip
    nearest = [int(np.argmax(chart.directions @ side)) for side in sides.values()]
    wide, place = 0.8 / len(lines), np.arange(len(sides), dtype=float)
    for n, line in enumerate(lines):
        axes.bar(place + (n - (len(lines) - 1) / 2) * wide, line.band.half_width[nearest],
                 0.9 * wide, facecolor="none", edgecolor=line.look["color"], ls=line.look["ls"],
                 lw=0.8 * line.look["lw"] * made.scale)  # fmt: skip
    axes.set_xticks(place, list(sides))


def _handles(lines: Sequence[_Line], scale: float) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], **line.look | {"lw": line.look["lw"] * scale}, label=line.name)
        for line in lines
    ]


def write_contributions(folder: Path, case: Case) -> list[str]:
    """What each source contributes to every contour of a case, and the figure of one of them.

    Returns the names of the files: contributions.csv, a row a target and source (see
    `Contributions.table`), and contributions.png, of the contour that the case shows first. Raises
    InputError for posteriors without sources, or without a model.
    """
    from pandas import concat

    level = LEVEL if case.settings.level is None else case.settings.level
    method = case.settings.method
    found = [contributions(one.posterior, level=level, method=method) for one in case]
    text = concat([each.table() for each in found]).to_csv(index=False, float_format="%.6g")
    write_whole(folder / "contributions.csv", text)
    shown = len(case) // 2 if case.focus is None else case.focus
    save_figure(plot_contributions(case.image, found[shown]), folder / "contributions.png")
    return ["contributions.csv", "contributions.png"]
