"""What does a plane show of a posterior? Its lines, the image under them, clicks, a cross-hair.

Each panel makes its artists once and then moves them; nothing is computed here that is not in the
records already. A plane shows of a boundary closed lines: of a contour in its slice the contour, of
a surface its sections, none, one or several (`loops`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from aistat_jax.edits import Click
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import ChannelSlice
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.contour import Reference
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import probability_contours
from aistat_jax.views.layers import (
    OTHER_DASHES,
    Limits,
    band_path,
    colour_map,
    curves_of,
    draw_letters,
    grade_runs,
    line_look,
    loop,
    loops_of,
    name_axes,
    round_length,
    runs_of,
    some_of,
)
from aistat_jax.views.live.stage import Stage
from aistat_jax.views.style import (
    BAND,
    DRAW,
    ESTIMATE,
    GRADE_LOOKS,
    HALO,
    OTHER,
    OUTLINE,
    REFERENCE,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

OVERLAY_COLOURS = "inferno"
CLICK_MARKS = {"edge": "o", "inside": "P", "outside": "X"}
PROBABILITY_DASHES = ((0, (5, 1.5)), (0, (1.5, 1.5)))
LEGEND = ("band", "bundle", "draw", "surely", "perhaps", "ray", "reference", "other", "click")
CROSS = "#4FA8F0"  # of the lines where linked planes cut one another
NOWHERE = np.full((1, 2), np.nan)


def loops(chart: Any, values: np.ndarray, plane: Plane | None) -> list[np.ndarray]:
    """The closed lines (vertex, 2) in which a plane shows a boundary, first points repeated."""
    if chart.dims == 2:
        return loops_of(chart, values)
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
        self.ring = add(PathPatch(Path(NOWHERE), facecolor=BAND, alpha=0.3, lw=0, zorder=2))
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
        self.other = add(LineCollection([], zorder=4.2))
        self.outline = add(
            LineCollection([], colors=[OUTLINE, HALO], linewidths=[width + 1.6, width + 0.6])
        )
        self.outline.set_zorder(5)
        self.estimate = add(LineCollection([], linewidths=width, zorder=6, capstyle="butt"))
        for lines in (
            self.edges, self.levels, self.bundle, self.reference, self.other, self.outline,
            self.estimate,
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
        pairs = zip(lines, self._runs(lines, posterior, grade), strict=True)
        runs = [(code, line[at]) for line, each in pairs for code, at in each]
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
        self, lines: Sequence[np.ndarray], posterior: Posterior, grade: Grade | None
    ) -> Sequence[Sequence[tuple[int | None, slice]]]:
        """Stretches of one local grade along lines: of a section, that of the sites nearest."""
        chart, plane = posterior.chart, self.plane
        if chart.dims == 2:
            return grade_runs(grade, chart)
        if grade is None or plane is None:
            return [[(None, slice(0, len(line)))] for line in lines]
        sites = (chart.nearest(plane.to_world(line[:-1])) for line in lines)
        return [list(runs_of(grade.local[each])) for each in sites]

    def show_band(self, posterior: Posterior | None, band: Band | None) -> None:
        """The band, and the probability contours whose levels are the band's two tails."""
        if posterior is None or band is None:
            self.ring.set_path(Path(NOWHERE))
            self.edges.set_segments([])
            self.levels.set_segments([])
            return
        low, _ = band.chart.ends
        lower = band.lower
        if band.chart.dims == 3:  # a surface that has shrunk to its centre has no section
            lower = np.maximum(lower, low + 1e-3 * (band.centre - low))
        outer, inner = (loops(band.chart, v, self.plane) for v in (band.upper, lower))
        self.ring.set_path(band_path(outer, inner) if outer or inner else Path(NOWHERE))
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
        line = NOWHERE
        if posterior is not None and number:
            lines = loops(posterior.chart, posterior.draws[number - 1], self.plane)
            # one line, broken between the loops
            line = np.concatenate([NOWHERE, *(p for each in lines for p in (each, NOWHERE))])
        self.draw.set_data(*line.T)
        self.draw_halo.set_data(*line.T)

    def show_reference(self, shape: Reference) -> None:
        """Curves of the slice, or the section of a surface."""
        self._show_dashed(self.reference, shape, REFERENCE, (0, (6, 2, 1, 2)))

    def show_other(self, shape: Reference) -> None:
        """What another reading of the image shows in the slice."""
        self._show_dashed(self.other, shape, OTHER, OTHER_DASHES)

    def _show_dashed(self, lines: Any, shape: Reference, colour: str, dashes: Any) -> None:
        if isinstance(shape, Mesh):
            curves = [] if self.plane is None else shape.section(self.plane)
        else:
            curves = curves_of(shape)
        loops, count = [loop(curve.points) for curve in curves], len(curves)
        lines.set_segments([*loops, *loops])
        lines.set(
            colors=[HALO] * count + [colour] * count,
            linewidths=[2.6] * count + [1.2] * count, linestyles=["-"] * count + [dashes] * count,
        )  # fmt: skip

    def show_ray(self, posterior: Posterior | None, ray: int | None, radius: float | None) -> None:
        """The ray that is looked along, and the keyboard's cursor at `radius` on it."""
        line = at = NOWHERE
        if posterior is not None and ray is not None:
            chart = posterior.chart
            low, far = chart.ends[0][ray], posterior.draws[:, ray].max()
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
            marks.set_data(*(places[of_it] if of_it else NOWHERE).T)
        at = NOWHERE if chosen is None else places[[chosen]]
        self.chosen.set_data(*at.T)

    def show_cross(self, point: np.ndarray | None, name: str = "", active: bool = False) -> None:
        """Where the other planes cut this one, which it is, and whether keys step through it."""
        uv = (np.nan, np.nan) if point is None or self.plane is None else self.plane.to_uv(point)
        self.cross[0].set_xdata([uv[0]] * 2)
        self.cross[1].set_ydata([uv[1]] * 2)
        self.name.set_text(f"▸ {name}" if active else name)

    def show_waiting(self, clicks: Sequence[Click]) -> None:
        """Clicks that wait to be carried out."""
        self.waiting.set_data(*(self.places(clicks) if clicks else NOWHERE).T)

    def show_box(self, a: tuple[float, float] | None, b: tuple[float, float] | None) -> None:
        """The part of the slice that is to be looked at closely, while it is drawn."""
        if a is None or b is None:
            self.box.set_data(*NOWHERE.T)
        else:
            self.box.set_data([a[0], b[0], b[0], a[0], a[0]], [a[1], a[1], b[1], b[1], a[1]])

    def show_ball(self, middle: tuple[float, float], edge: tuple[float, float]) -> None:
        """The circle that is drawn from a middle to an edge."""
        turns, radius = np.linspace(0, 2 * np.pi, 73), np.hypot(*np.subtract(edge, middle))
        self.box.set_data(middle[0] + radius * np.cos(turns), middle[1] + radius * np.sin(turns))

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
        "other": line("second reading", color=OTHER, lw=1.2, ls=OTHER_DASHES),
        "click": line("click", ls="none", marker="o", ms=7, mfc="#FFFFFF", mec=OUTLINE, mew=1.6),
    }
    return [look for name, look in looks.items() if name in shown]
