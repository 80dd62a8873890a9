"""What is seen of a posterior? A slice, the boundary unrolled, and the image along one ray.

Each panel makes its artists once and then moves them; nothing is computed here that is not in the
records already.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path

from aistat_jax.editing import Click
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import probability_contours
from aistat_jax.views.layers import (
    Limits,
    closed,
    colour_map,
    draw_letters,
    grade_runs,
    line_look,
    loop,
    name_axes,
    some_of,
)
from aistat_jax.views.live.stage import Stage
from aistat_jax.views.style import (
    BAND,
    DRAW,
    ESTIMATE,
    GRADE_LOOKS,
    HALO,
    OUTLINE,
    REFERENCE,
)
from aistat_jax.views.unrolled import around, turn_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

OVERLAY_COLOURS = "inferno"
CLICK_MARKS = {"edge": "o", "inside": "P", "outside": "X"}
PROBABILITY_DASHES = ((0, (5, 1.5)), (0, (1.5, 1.5)))
LEGEND = ("band", "bundle", "draw", "surely", "perhaps", "ray", "reference", "click")
_NOWHERE = np.full((1, 2), np.nan)
_POINTS = 200  # along a ray


class SlicePanel:
    """One slice with band, draws, estimate, clicks and the ray that is looked at."""

    def __init__(self, stage: Stage, axes: Axes, *, small: bool = False) -> None:
        width = 1.6 if small else 2.2
        self.axes, self.small = axes, small
        axes.set_facecolor("0.94")
        for spine in axes.spines.values():
            spine.set_visible(True)
        add = stage.moving
        blank = np.zeros((2, 2))
        self.base = stage.resting(axes.imshow(blank, aspect="equal", zorder=0))
        self.overlay = stage.resting(
            axes.imshow(blank, cmap=OVERLAY_COLOURS, aspect="equal", zorder=0.5, visible=False)
        )
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
        self.note = add(
            axes.text(0.5, 0.03, "", transform=axes.transAxes, ha="center", va="bottom", zorder=10,
                      fontsize=9, wrap=True,
                      bbox={"facecolor": "white", "edgecolor": "0.4", "alpha": 0.92, "pad": 4})
        )  # fmt: skip
        self._stage = stage
        self._letters: list[Any] = []

    def frame(self, plane: Plane, limits: Limits, dark: bool) -> None:
        """Which part of the plane is seen at least. Needs `Stage.redraw` afterwards."""
        u_min, u_max, v_min, v_max = limits if self.small else self._filled(limits)
        mirrored = plane.unit == "mm"  # as radiologists read it: the patient's right on the left
        self.axes.set_xlim((u_max, u_min) if mirrored else (u_min, u_max))
        self.axes.set_ylim(v_min, v_max)
        if self.small:
            self.axes.set_xticks([])
            self.axes.set_yticks([])
        else:
            name_axes(self.axes, plane)
        if mirrored and not self._letters:
            self._letters = draw_letters(self.axes, plane, dark=dark, small=self.small)
            self._stage.resting(*self._letters)

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
        """Estimate by grade; None where the slice has no contour."""
        if posterior is None:
            self.estimate.set_segments([])
            self.outline.set_segments([])
            return
        points = loop(posterior.chart.points(posterior.estimate))
        runs = list(grade_runs(grade, len(points) - 1))
        looks = [line_look(code) for code, _ in runs]
        self.outline.set_segments([points, points])
        self.estimate.set_segments([points[at] for _, at in runs])
        self.estimate.set_color([look["color"] for look in looks])
        self.estimate.set_linestyle([look["ls"] for look in looks])

    def show_band(self, posterior: Posterior | None, band: Band | None) -> None:
        """The band, and the probability contours whose levels are the band's two tails."""
        if posterior is None or band is None:
            self.ring.set_path(Path(_NOWHERE))
            self.edges.set_segments([])
            self.levels.set_segments([])
            return
        outer, inner = (loop(band.chart.points(radii)) for radii in (band.upper, band.lower))
        self.ring.set_path(Path.make_compound_path(Path(outer), Path(inner[::-1])))
        self.edges.set_segments([outer, inner])
        tail = (1 - band.level) / 2
        found = probability_contours(posterior, (1 - tail, tail)).values()
        self.levels.set_segments([loop(curve.points) for curves in found for curve in curves])

    def show_bundle(self, posterior: Posterior | None, count: int) -> None:
        """`count` draws at once, thin."""
        rows = [] if posterior is None else some_of(posterior.draws, count)
        chart = None if posterior is None else posterior.chart
        self.bundle.set_segments([loop(chart.points(row)) for row in rows] if chart else [])

    def show_draw(self, posterior: Posterior | None, number: int) -> None:
        """Draw number `number` (from 1), bold; none for 0."""
        if posterior is None or not number:
            line = _NOWHERE
        else:
            line = loop(posterior.chart.points(posterior.draws[number - 1]))
        self.draw.set_data(*line.T)
        self.draw_halo.set_data(*line.T)

    def show_reference(self, curve: Curve | None) -> None:
        line = [] if curve is None else [loop(curve.points)] * 2
        self.reference.set_segments(line)

    def show_ray(self, posterior: Posterior | None, ray: int | None, radius: float | None) -> None:
        """The ray that is looked along, and the keyboard's cursor at `radius` on it."""
        line = at = _NOWHERE
        if posterior is not None and ray is not None:
            chart = posterior.chart
            low, far = chart.reach[0], posterior.draws[:, ray].max()
            line = chart.line(ray, np.array([low, far + 0.15 * (far - low)]))
            at = _NOWHERE if radius is None else chart.line(ray, np.array([radius]))
        self.ray.set_data(*line.T)
        self.ray_ink.set_data(*line.T)
        self.cursor.set_data(*at.T)

    def show_clicks(self, clicks: Sequence[Click], chosen: int | None) -> None:
        for kind, marks in self.clicks.items():
            points = [click.point for click in clicks if click.kind == kind] or _NOWHERE
            marks.set_data(*np.array(points).T)
        at = _NOWHERE if chosen is None else np.array([clicks[chosen].point])
        self.chosen.set_data(*at.T)

    def show_waiting(self, clicks: Sequence[Click]) -> None:
        """Clicks that wait to be carried out."""
        self.waiting.set_data(*np.array([click.point for click in clicks] or _NOWHERE).T)

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

    def frame(self, chart: Any, highest: float) -> None:
        """Axes and their names. Needs `Stage.redraw` afterwards."""
        self.axes.set_xlim(0, 360)
        self.axes.set_ylim(0, highest)
        self.axes.set_xticks(range(0, 361, 90))
        self.axes.set_xticklabels([turn_label(chart, a) for a in range(0, 361, 90)])
        self.axes.set_ylabel(f"half-width\n({chart.unit})")

    def show_tolerance(self, grade: Grade | None) -> None:
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

    def show_clicks(self, degrees: Sequence[float]) -> None:
        """Triangles on the axis at the places (degrees) of the clicks."""
        self.marks.set_data(np.asarray(degrees), np.zeros(len(degrees)))


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
        shown: ChannelSlice | None,
        ray: int | None,
        clicks: Sequence[float] = (),
    ) -> None:
        """`clicks` are the radii of clicks near this ray."""
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
