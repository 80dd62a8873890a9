"""What is seen of a posterior? Planes through it, the boundary unrolled, the image along one ray.

Each panel makes its artists once and then moves them; nothing is computed here that is not in the
records already. A plane shows of a boundary closed lines: of a contour in its slice the contour, of
a surface its sections, none, one or several (`loops`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from aistat_jax.editing import Click
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior, probability_contours
from aistat_jax.views.layers import (
    Limits,
    closed,
    colour_map,
    draw_letters,
    grade_runs,
    line_look,
    loop,
    name_axes,
    round_length,
    runs_of,
    some_of,
)
from aistat_jax.views.live.stage import Stage
from aistat_jax.views.report import MARKS
from aistat_jax.views.style import (
    BAND,
    DRAW,
    ESTIMATE,
    GRADE_LOOKS,
    HALO,
    OUTLINE,
    REFERENCE,
)
from aistat_jax.views.unrolled import around, turn_label, turn_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

OVERLAY_COLOURS = "inferno"
CLICK_MARKS = {"edge": "o", "inside": "P", "outside": "X"}
PROBABILITY_DASHES = ((0, (5, 1.5)), (0, (1.5, 1.5)))
LEGEND = ("band", "bundle", "draw", "surely", "perhaps", "ray", "reference", "click")
CROSS = "#4FA8F0"  # of the lines where linked planes cut one another
_NOWHERE = np.full((1, 2), np.nan)
_POINTS = 200  # along a ray


def loops(chart: Any, values: np.ndarray, plane: Plane | None) -> list[np.ndarray]:
    """The closed lines (vertex, 2) in which a plane shows a boundary, first points repeated."""
    if chart.dims == 2:
        return [loop(chart.points(values))]
    return [] if plane is None else [loop(c.points) for c in chart.sections(values, plane)]


def on_plane(points: np.ndarray, plane: Plane | None) -> np.ndarray:
    """Points (..., 2) of a slice as they are, those of the world (..., 3) dropped onto a plane."""
    if points.shape[-1] == 2:
        return points
    return np.full((*points.shape[:-1], 2), np.nan) if plane is None else plane.to_uv(points)


class SlicePanel:
    """One plane with band, draws, estimate, clicks and the ray that is looked at.

    `plane` is the one that was shown last; of planes that are linked each shows the `cross` where
    the others cut it.
    """

    def __init__(
        self, stage: Stage, axes: Axes, *, small: bool = False, fills: bool = True
    ) -> None:
        self._width = width = 1.6 if small and not fills else 2.2
        self.axes, self.small, self.fills = axes, small, fills
        axes.set_facecolor("0.94")
        for spine in axes.spines.values():
            spine.set_visible(True)
        add = stage.moving
        blank = np.zeros((2, 2))
        self.base = stage.resting(axes.imshow(blank, aspect="equal", zorder=0))
        self.overlay = stage.resting(
            axes.imshow(blank, cmap=OVERLAY_COLOURS, aspect="equal", zorder=0.5, visible=False)
        )
        white = [withStroke(linewidth=2.4, foreground="white")]
        self.bar, self.bar_words = stage.resting(
            axes.plot([], [], transform=axes.transAxes, color=OUTLINE, lw=1.8, zorder=1,
                      solid_capstyle="butt", path_effects=white)[0],
            axes.text(0.05, 0.065, "", transform=axes.transAxes, va="bottom", fontsize=7.5,
                      color=OUTLINE, zorder=1, path_effects=white),
        )  # fmt: skip
        self.ring = add(PathPatch(Path(_NOWHERE), facecolor=BAND, alpha=0.3, lw=0, zorder=2))
        axes.add_patch(self.ring)
        self.edges = add(LineCollection([], colors=BAND, linewidths=0.8, zorder=2.1))
        self.levels = add(
            LineCollection(
                [], colors=OUTLINE, linewidths=0.9, linestyles=list(PROBABILITY_DASHES), zorder=2.5
            )
        )
        self.bundle = add(LineCollection([], colors=DRAW, alpha=0.35, linewidths=0.5, zorder=3))
        self.reference = add(LineCollection([], zorder=4))
        self.reference.set(
            colors=[HALO, REFERENCE], linewidths=[2.6, 1.2], linestyles=["-", (0, (6, 2, 1, 2))]
        )
        self.outline = add(
            LineCollection([], colors=[OUTLINE, HALO], linewidths=[width + 1.6, width + 0.6])
        )
        self.outline.set_zorder(5)
        self.estimate = add(LineCollection([], linewidths=width, zorder=6, capstyle="butt"))
        for lines in (
            self.edges, self.levels, self.bundle, self.reference, self.outline, self.estimate,
        ):  # fmt: skip
            axes.add_collection(lines, autolim=False)
        line = {"solid_capstyle": "round", "zorder": 7}
        self.draw_halo = add(axes.plot([], [], color=HALO, lw=2.8, **line)[0])
        self.draw = add(axes.plot([], [], color=OUTLINE, lw=1.4, **line)[0])
        self.ray = add(axes.plot([], [], color=HALO, lw=2.2, zorder=6.5)[0])
        self.ray_ink = add(axes.plot([], [], color=OUTLINE, lw=0.9, zorder=6.6)[0])
        self.cursor = add(axes.plot([], [], "+", ms=13, mec=OUTLINE, mew=2.2, zorder=8)[0])
        self.clicks = {
            kind: add(
                axes.plot([], [], ls="none", marker=mark, ms=9, mfc="#FFFFFF", mec=OUTLINE, mew=1.6,
                          zorder=9)[0]
            )
            for kind, mark in CLICK_MARKS.items()
        }  # fmt: skip
        self.chosen = add(
            axes.plot([], [], ls="none", marker="o", ms=17, mfc="none", mec=ESTIMATE, mew=2,
                      zorder=9.1)[0]
        )  # fmt: skip
        self.waiting = add(
            axes.plot([], [], ls="none", marker="o", ms=11, mfc="none", mec=OUTLINE, mew=1.2,
                      zorder=9)[0]
        )  # fmt: skip
        self.box = add(axes.plot([], [], color=ESTIMATE, lw=1.4, ls=(0, (3, 2)), zorder=9.5)[0])
        self.cross = [
            add(line(np.nan, color=CROSS, lw=0.9, alpha=0.9, ls=(0, (6, 3)), zorder=7.5))
            for line in (axes.axvline, axes.axhline)
        ]
        self.name = add(
            axes.text(0.5, 1.005, "", transform=axes.transAxes, ha="center", va="bottom",
                      fontsize=9, zorder=10)
        )  # fmt: skip
        self.note = add(
            axes.text(0.5, 0.03, "", transform=axes.transAxes, ha="center", va="bottom", zorder=10,
                      fontsize=9, wrap=True,
                      bbox={"facecolor": "white", "edgecolor": "0.4", "alpha": 0.92, "pad": 4})
        )  # fmt: skip
        self._stage = stage
        self._letters: list[Any] = []
        self.plane: Plane | None = None

    def frame(self, plane: Plane, limits: Limits, dark: bool) -> None:
        """Which part of the plane is seen at least. Needs `Stage.redraw` afterwards."""
        u_min, u_max, v_min, v_max = self._filled(limits) if self.fills else limits
        mirrored = plane.unit == "mm"  # as radiologists read it: the patient's right on the left
        self.axes.set_xlim((u_max, u_min) if mirrored else (u_min, u_max))
        self.axes.set_ylim(v_min, v_max)
        if self.small:
            self.axes.set_xticks([])
            self.axes.set_yticks([])
            if self.fills:
                self._show_scale(u_max - u_min, plane.unit)
        else:
            name_axes(self.axes, plane)
        if mirrored and not self._letters:
            self._letters = draw_letters(self.axes, plane, dark=dark, small=self.small)
            self._stage.resting(*self._letters)

    def _show_scale(self, span: float, unit: str) -> None:
        """A bar of a round length, where axes have no numbers."""
        length = round_length(span)
        self.bar.set_data([0.05, 0.05 + length / span], [0.05, 0.05])
        self.bar_words.set_text(f"{length} {unit}")

    def _filled(self, limits: Limits) -> Limits:
        """Limits as wide as the axes are for their height, about the same middle."""
        u_min, u_max, v_min, v_max = limits
        box = self.axes.get_position(original=True)
        width, height = self._stage.figure.get_size_inches() * (box.width, box.height)
        wide = max(u_max - u_min, (v_max - v_min) * width / height) / 2
        high = wide * height / width
        u, v = (u_min + u_max) / 2, (v_min + v_max) / 2
        return u - wide, u + wide, v - high, v + high

    def show_slice(self, shown: ChannelSlice, window: tuple[float, float]) -> None:
        self.plane = shown.plane
        self.base.set_data(shown.values.T)
        self.base.set(extent=shown.plane.extent, cmap=colour_map(shown.quantity), clim=window)

    def show_overlay(
        self, shown: ChannelSlice, window: tuple[float, float], opacity: float
    ) -> None:
        """Another channel over the slice; what has no uptake stays clear."""
        self.overlay.set_visible(opacity > 0)
        self.overlay.set_data(shown.values.T)
        part = np.clip((shown.values.T - window[0]) / (window[1] - window[0]), 0, 1)
        self.overlay.set(extent=shown.plane.extent, clim=window, alpha=opacity * np.sqrt(part))

    def show_posterior(self, posterior: Posterior | None, grade: Grade | None) -> None:
        """Estimate by grade; None where the plane has no contour."""
        if posterior is None:
            self.estimate.set_segments([])
            self.outline.set_segments([])
            return
        lines = loops(posterior.chart, np.asarray(posterior.estimate), self.plane)
        runs = [
            (code, line[at]) for line in lines for code, at in self._runs(line, posterior, grade)
        ]
        looks = [line_look(code) for code, _ in runs]
        self.outline.set_segments([*lines, *lines])
        self.outline.set(
            colors=[OUTLINE] * len(lines) + [HALO] * len(lines),
            linewidths=[self._width + 1.6] * len(lines) + [self._width + 0.6] * len(lines),
        )
        self.estimate.set_segments([part for _, part in runs])
        self.estimate.set_color([look["color"] for look in looks])
        self.estimate.set_linestyle([look["ls"] for look in looks])

    def _runs(
        self, line: np.ndarray, posterior: Posterior, grade: Grade | None
    ) -> Iterator[tuple[int | None, slice]]:
        """Stretches of one local grade along a line: of a section, that of the sites nearest."""
        if posterior.chart.dims == 2 or grade is None or self.plane is None:
            yield from grade_runs(grade, len(line) - 1)
        else:
            sites = posterior.chart.nearest(self.plane.to_world(line[:-1]))
            yield from runs_of(grade.local[sites])

    def show_band(self, posterior: Posterior | None, band: Band | None) -> None:
        """The band, and the probability contours whose levels are the band's two tails."""
        if posterior is None or band is None:
            self.ring.set_path(Path(_NOWHERE))
            self.edges.set_segments([])
            self.levels.set_segments([])
            return
        low, _ = band.chart.reach
        lower = band.lower
        if band.chart.dims == 3:  # a surface that has shrunk to its centre has no section
            lower = np.maximum(lower, low + 1e-3 * (band.centre - low))
        outer, inner = (loops(band.chart, v, self.plane) for v in (band.upper, lower))
        parts = [Path(line) for line in outer] + [Path(line[::-1]) for line in inner]
        self.ring.set_path(Path.make_compound_path(*parts) if parts else Path(_NOWHERE))
        self.edges.set_segments([*outer, *inner])
        if band.chart.dims == 3:  # too much to be read in three planes at once
            return
        tail = (1 - band.level) / 2
        found = probability_contours(posterior, (1 - tail, tail)).values()
        self.levels.set_segments([loop(curve.points) for curves in found for curve in curves])

    def show_bundle(self, posterior: Posterior | None, count: int) -> None:
        """`count` draws at once, thin."""
        rows = [] if posterior is None else some_of(posterior.draws, count)
        chart = None if posterior is None else posterior.chart
        self.bundle.set_segments([line for row in rows for line in loops(chart, row, self.plane)])

    def show_draw(self, posterior: Posterior | None, number: int) -> None:
        """Draw number `number` (from 1), bold; none for 0."""
        line = _NOWHERE
        if posterior is not None and number:
            lines = loops(posterior.chart, posterior.draws[number - 1], self.plane)
            # one line, broken between the loops
            line = np.concatenate([_NOWHERE, *(p for each in lines for p in (each, _NOWHERE))])
        self.draw.set_data(*line.T)
        self.draw_halo.set_data(*line.T)

    def show_reference(self, shape: Curve | Mesh | None) -> None:
        """A curve of the slice, or the section of a surface."""
        if isinstance(shape, Mesh):
            curves = [] if self.plane is None else shape.section(self.plane)
        else:
            curves = [] if shape is None else [shape]
        lines = [loop(curve.points) for curve in curves]
        count, dashes = len(lines), (0, (6, 2, 1, 2))
        self.reference.set_segments([*lines, *lines])
        self.reference.set(
            colors=[HALO] * count + [REFERENCE] * count,
            linewidths=[2.6] * count + [1.2] * count, linestyles=["-"] * count + [dashes] * count,
        )  # fmt: skip

    def show_ray(self, posterior: Posterior | None, ray: int | None, radius: float | None) -> None:
        """The ray that is looked along, and the keyboard's cursor at `radius` on it."""
        line = at = _NOWHERE
        if posterior is not None and ray is not None:
            chart = posterior.chart
            low, far = chart.reach[0], posterior.draws[:, ray].max()
            line = on_plane(chart.line(ray, np.array([low, far + 0.15 * (far - low)])), self.plane)
            if radius is not None:
                at = on_plane(chart.line(ray, np.array([radius])), self.plane)
        self.ray.set_data(*line.T)
        self.ray_ink.set_data(*line.T)
        self.cursor.set_data(*at.T)

    def places(self, clicks: Sequence[Click]) -> np.ndarray:
        """Where on the plane clicks are (click, 2); NaN where over a voxel off it."""
        if not clicks:
            return np.zeros((0, 2))
        points = np.array([click.point for click in clicks])
        found = on_plane(points, self.plane)
        if points.shape[1] == 3 and self.plane is not None:
            off = np.abs(points @ self.plane.frame[:, 2] - self.plane.offset)
            found = np.where((off <= self.plane.thickness)[:, None], found, np.nan)
        return found

    def show_clicks(self, clicks: Sequence[Click], chosen: int | None) -> None:
        places = self.places(clicks)
        for kind, marks in self.clicks.items():
            of_it = [n for n, click in enumerate(clicks) if click.kind == kind]
            marks.set_data(*(places[of_it] if of_it else _NOWHERE).T)
        at = _NOWHERE if chosen is None else places[[chosen]]
        self.chosen.set_data(*at.T)

    def show_cross(self, point: np.ndarray | None, name: str = "", active: bool = False) -> None:
        """Where the other planes cut this one, which it is, and whether keys step through it."""
        uv = (np.nan, np.nan) if point is None or self.plane is None else self.plane.to_uv(point)
        self.cross[0].set_xdata([uv[0]] * 2)
        self.cross[1].set_ydata([uv[1]] * 2)
        self.name.set_text(f"▸ {name}" if active else name)

    def show_waiting(self, clicks: Sequence[Click]) -> None:
        """Clicks that wait to be carried out."""
        self.waiting.set_data(*(self.places(clicks) if clicks else _NOWHERE).T)

    def show_box(self, a: tuple[float, float] | None, b: tuple[float, float] | None) -> None:
        """The part of the slice that is to be looked at closely, while it is drawn."""
        if a is None or b is None:
            self.box.set_data(*_NOWHERE.T)
        else:
            self.box.set_data([a[0], b[0], b[0], a[0], a[0]], [a[1], a[1], b[1], b[1], a[1]])

    def say(self, sentence: str) -> None:
        """A sentence over the slice; none when empty."""
        self.note.set_text(sentence)
        self.note.set_visible(bool(sentence))


def legend_of(shown: Collection[str]) -> list[Any]:
    """One entry for everything that is shown, by its name in LEGEND (or that of a grade)."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def line(label: str, **look: Any) -> Any:
        return Line2D([], [], label=label, **look)

    surely, perhaps = PROBABILITY_DASHES
    looks: dict[str, Any] = {
        look.name: line(f"{look.name}: {look.meaning}", color=look.colour, ls=look.dashes, lw=2.4)
        for look in GRADE_LOOKS
    }
    looks |= {
        "band": Patch(facecolor=BAND, alpha=0.35, label="band (whole boundary)"),
        "bundle": line("bundle of draws", color=DRAW, alpha=0.6, lw=0.8),
        "draw": line("one draw", color=OUTLINE, lw=1.4),
        "surely": line("surely inside", color=OUTLINE, lw=0.9, ls=surely),
        "perhaps": line("perhaps inside", color=OUTLINE, lw=0.9, ls=perhaps),
        "ray": line("ray looked along", color=OUTLINE, lw=0.9),
        "reference": line("reference", color=REFERENCE, lw=1.2, ls=(0, (6, 2, 1, 2))),
        "click": line("click", ls="none", marker="o", ms=7, mfc="#FFFFFF", mec=OUTLINE, mew=1.6),
    }
    return [look for name, look in looks.items() if name in shown]


class RingPanel:
    """The boundary unrolled: the band's half-width by direction, drawn by local grade."""

    def __init__(self, stage: Stage, axes: Axes) -> None:
        self.axes = axes
        add = stage.moving
        self.fill = add(Polygon(_NOWHERE, closed=True, facecolor=BAND, alpha=0.25, lw=0, zorder=1))
        axes.add_patch(self.fill)
        self.lines = add(LineCollection([], linewidths=2.2, zorder=3, capstyle="butt"))
        axes.add_collection(self.lines, autolim=False)
        rest = stage.resting
        self.tolerance = rest(axes.axhline(np.nan, color="0.25", lw=0.9, zorder=2))
        self.tolerance_name = rest(
            axes.text(0.995, np.nan, "", transform=axes.get_yaxis_transform(), ha="right",
                      va="bottom", fontsize=7.5, color="0.25", zorder=2)
        )  # fmt: skip
        self.cursor = add(axes.axvline(np.nan, color=OUTLINE, lw=1.0, zorder=4))
        self.dot = add(axes.plot([], [], "o", ms=6, mfc=HALO, mec=OUTLINE, mew=1.3, zorder=5)[0])
        self.marks = add(
            axes.plot([], [], "v", ms=6, mfc="#FFFFFF", mec=OUTLINE, zorder=5, clip_on=False)[0]
        )
        self._said: Any = ()

    def frame(self, chart: Any, highest: float) -> None:
        """Axes and their names. Needs `Stage.redraw` afterwards."""
        self.axes.set_xlim(0, 360)
        self.axes.set_ylim(0, highest)
        self.axes.set_xticks(range(0, 361, 90))
        self.axes.set_xticklabels([turn_label(chart, a) for a in range(0, 361, 90)])
        self.axes.set_ylabel(f"half-width\n({chart.unit})")

    def show_tolerance(self, grade: Grade | None) -> None:
        said = None if grade is None else (grade.tolerance, grade.unit)
        if said == self._said:
            return  # what rests is painted anew, with the image under it, where it was touched
        self._said = said
        self.tolerance.set_visible(grade is not None)
        self.tolerance_name.set_visible(grade is not None)
        if grade is not None:
            self.tolerance.set_ydata([grade.tolerance] * 2)
            self.tolerance_name.set_y(grade.tolerance)
            self.tolerance_name.set_text(f"tolerance {grade.tolerance:g} {grade.unit}")

    def show(self, band: Band | None, grade: Grade | None) -> None:
        self.lines.set_visible(band is not None)
        self.fill.set_visible(band is not None)
        if band is None:
            return
        line = np.stack([around(band.chart), closed(band.half_width)], axis=-1)
        runs = list(grade_runs(grade, band.chart.sites))
        looks = [line_look(code) for code, _ in runs]
        self.lines.set_segments([line[at] for _, at in runs])
        self.lines.set_color([look["color"] for look in looks])
        self.lines.set_linestyle([look["ls"] for look in looks])
        self.fill.set_xy(np.concatenate([[[0.0, 0.0]], line, [[360.0, 0.0]]]))

    def show_ray(self, band: Band | None, ray: int | None) -> None:
        seen = band is not None and ray is not None
        self.cursor.set_visible(seen)
        self.dot.set_visible(seen)
        if band is not None and ray is not None:
            degrees = float(around(band.chart)[ray])
            self.cursor.set_xdata([degrees] * 2)
            self.dot.set_data([degrees], [band.half_width[ray]])

    def show_clicks(self, chart: Any, clicks: Sequence[Click]) -> None:
        """Triangles on the axis at the places of the clicks."""
        degrees = [turn_of(chart, (c.point[0], c.point[1])) for c in clicks]
        self.marks.set_data(np.asarray(degrees), np.zeros(len(degrees)))


class WordsPanel:
    """The volume of a surface with its interval, and its grade with the reasons for it."""

    def __init__(self, stage: Stage, axes: Axes) -> None:
        self.axes, self._stage = axes, stage
        axes.set_axis_off()
        self.size = stage.moving(
            axes.text(0.0, 1.0, "", transform=axes.transAxes, va="top", fontsize=11,
                      fontweight="bold", linespacing=1.25)
        )  # fmt: skip
        self.why = stage.moving(
            axes.text(0.0, 1.0, "", transform=axes.transAxes, va="top", fontsize=8.5,
                      linespacing=1.3)
        )  # fmt: skip

    def show(self, posterior: Posterior | None, grade: Grade | None) -> None:
        """As many of the reasons as there is room for."""
        if posterior is None or grade is None:
            self.size.set_text("")
            self.why.set_text("")
            return
        width, height = self._stage.figure.get_size_inches()
        box = self.axes.get_position(original=True)
        wide, high = 72 * width * box.width, 72 * height * box.height  # points
        head = textwrap.wrap(
            f"{area_posterior(posterior)}, {MARKS[grade.case]} {grade.case} at "
            f"{grade.tolerance:g} {grade.unit}", max(20, int(wide / 7.0)),
        )  # fmt: skip
        self.size.set_text("\n".join(head))
        taken = 14.5 * len(head) + 3
        rows = max(1, int((high - taken) / 11.2))
        letters = max(24, int(wide / 4.75))
        lines = [line for why in grade.reasons for line in textwrap.wrap(f"• {why}", letters)]
        if len(lines) > rows:
            lines = [*lines[: rows - 1], "… all of it on the page Numbers"]
        self.why.set_text("\n".join(lines))
        self.why.set_y(1 - taken / high)


class ProfilePanel:
    """The image along one ray, with the posterior of where the edge is on it."""

    def __init__(self, stage: Stage, axes: Axes) -> None:
        self.axes = axes
        add = stage.moving
        along = axes.get_xaxis_transform()
        self.density = add(
            Polygon(_NOWHERE, closed=True, facecolor=BAND, alpha=0.45, lw=0, zorder=1)
        )
        self.density.set_transform(along)
        axes.add_patch(self.density)
        self.edge = add(axes.axvline(np.nan, color=ESTIMATE, lw=1.6, zorder=2))
        self.sides = add(
            LineCollection([], colors=BAND, linewidths=1.0, linestyles="--", zorder=2),
        )
        self.sides.set_transform(along)
        axes.add_collection(self.sides, autolim=False)
        self.profile = add(axes.plot([], [], color=OUTLINE, lw=1.4, zorder=3)[0])
        self.marks = add(
            axes.plot([], [], "v", ms=7, mfc="#FFFFFF", mec=OUTLINE, zorder=5, transform=along,
                      clip_on=False)[0]
        )  # fmt: skip
        self.words = add(
            axes.text(
                1.0,
                1.03,
                "",
                transform=axes.transAxes,
                fontsize=8.5,
                va="bottom",
                ha="right",
                zorder=6,
            )
        )

    def frame(
        self, channel: Channel, reach: tuple[float, float], window: tuple[float, float]
    ) -> None:
        """Axes and their names. Needs `Stage.redraw` afterwards."""
        low, high = window
        self.axes.set_xlim(*reach)
        self.axes.set_ylim(low - 0.04 * (high - low), high + 0.08 * (high - low))
        self.axes.set_xlabel(f"distance along the ray ({channel.unit})")
        self.axes.set_ylabel(f"{channel.name} ({channel.quantity})")

    def show(
        self,
        posterior: Posterior | None,
        band: Band | None,
        shown: ChannelSlice | Channel | None,
        ray: int | None,
        clicks: Sequence[float] = (),
    ) -> None:
        """`shown` is the image where the boundary lives; `clicks` the radii of clicks near by."""
        seen = None not in (posterior, band, shown, ray)
        for part in (self.density, self.edge, self.sides, self.profile, self.marks):
            part.set_visible(seen)
        if posterior is None or band is None or shown is None or ray is None:
            self.words.set_text("point at the boundary to see the image along a ray")
            return
        chart = posterior.chart
        low, high = chart.reach
        reach = np.linspace(low, high, _POINTS)
        self.profile.set_data(reach, shown.at(chart.line(ray, reach)))
        radii = posterior.draws[:, ray]
        height, places = np.histogram(radii, bins=24)
        tops = 0.9 * np.repeat(height / height.max(), 2)
        sides = np.repeat(places, 2)[1:-1]
        outline = np.stack([sides, tops], axis=-1)
        self.density.set_xy(np.concatenate([[[sides[0], 0]], outline, [[sides[-1], 0]]]))
        middle = float(posterior.estimate[ray])
        self.edge.set_xdata([middle] * 2)
        ends = (float(band.lower[ray]), float(band.upper[ray]))
        self.sides.set_segments([[(end, 0.0), (end, 1.0)] for end in ends])
        self.marks.set_data(list(clicks), [0.97] * len(clicks))
        towards = chart.words(chart.directions[ray]).removeprefix("towards the patient's ")
        self.words.set_text(
            f"{towards}: edge {middle:.1f}, {100 * band.level:g}% band {ends[0]:.1f} to "
            f"{ends[1]:.1f} {posterior.unit}"
        )
