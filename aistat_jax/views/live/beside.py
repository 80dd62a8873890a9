"""What is beside the planes? The boundary unrolled, its grade in words, the image along one ray.

As in panels.py artists are made once and then moved.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Polygon

from aistat_jax.edits import Click
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import layered
from aistat_jax.space.image import Channel, ChannelSlice
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade, trust_in_words
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.layers import closed, grade_runs, line_look
from aistat_jax.views.live.panels import NOWHERE
from aistat_jax.views.live.stage import Stage
from aistat_jax.views.report import MARKS
from aistat_jax.views.style import BAND, ESTIMATE, HALO, OUTLINE
from aistat_jax.views.unrolled import around, turn_label, turn_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

_POINTS = 200  # along a ray


class RingPanel:
    """The boundary unrolled: the band's half-width by direction, drawn by local grade."""

    def __init__(self, stage: Stage, axes: Axes) -> None:
        self.axes = axes
        add = stage.moving
        self.fill = add(Polygon(NOWHERE, closed=True, facecolor=BAND, alpha=0.25, lw=0, zorder=1))
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
        chart, degrees = band.chart, around(band.chart)
        lines = [
            np.stack([degrees, closed(part)], axis=-1) for part in layered(chart, band.half_width)
        ]
        pairs = zip(lines, grade_runs(grade, chart), strict=True)
        runs = [(code, line[at]) for line, each in pairs for code, at in each]
        looks = [line_look(code) for code, _ in runs]
        self.lines.set_segments([part for _, part in runs])
        self.lines.set_color([look["color"] for look in looks])
        self.lines.set_linestyle([look["ls"] for look in looks])
        ends = np.array([[0.0, 0.0]]), np.array([[360.0, 0.0]])
        self.fill.set_xy(np.concatenate([p for line in lines for p in (ends[0], line, ends[1])]))

    def show_ray(self, band: Band | None, ray: int | None) -> None:
        seen = band is not None and ray is not None
        self.cursor.set_visible(seen)
        self.dot.set_visible(seen)
        if band is not None and ray is not None:
            turn = around(band.chart)[:-1]
            degrees = float(turn[ray % len(turn)])
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
            f"{grade.tolerance:g} {grade.unit}, {grade.trust}", max(20, int(wide / 7.0)),
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
            Polygon(NOWHERE, closed=True, facecolor=BAND, alpha=0.45, lw=0, zorder=1)
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

        self.trust = add(
            axes.text(0.99, 0.9, "", transform=axes.transAxes, fontsize=8.5, va="top", ha="right",
                      zorder=6, bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1})
        )  # fmt: skip

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
        grade: Grade | None = None,
    ) -> None:
        """`shown` is the image where the boundary lives; `clicks` the radii of clicks near by."""
        seen = None not in (posterior, band, shown, ray)
        for part in (self.density, self.edge, self.sides, self.profile, self.marks):
            part.set_visible(seen)
        self.trust.set_visible(seen and grade is not None)
        if posterior is None or band is None or shown is None or ray is None:
            self.words.set_text("point at the boundary to see the image along a ray")
            return
        chart = posterior.chart
        low, high = (end[ray] for end in chart.ends)
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
        if grade is not None:
            green = float(grade.local_trusted_to[ray])
            self.trust.set_text(trust_in_words(green, posterior.unit))
