"""How do several posteriors of one target differ? Side by side, with one set of sliders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np

from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.figures import plot_comparison
from aistat_jax.views.layers import closed, limits_around_all, window_of
from aistat_jax.views.live.controls import make_sliders
from aistat_jax.views.live.panels import LEGEND, SlicePanel, legend_of
from aistat_jax.views.live.stage import Stage
from aistat_jax.views.live.told import Line, View, badge, told
from aistat_jax.views.page import safe
from aistat_jax.views.style import COMPARED, style
from aistat_jax.views.unrolled import around, site_at, turn_label, turn_of

WIDTH, PANEL, BELOW = 9.2, 3.0, 2.6  # inches


class Comparison(View):
    """Posteriors of one target side by side; `aistat_jax.compare` makes it."""

    def __init__(
        self,
        image: Image,
        posteriors: Mapping[str, Posterior],
        grades: Mapping[str, Grade],
        reference: Curve | None,
        *,
        level: float,
        channel: str,
    ) -> None:
        self.image, self.posteriors, self.grades = image, dict(posteriors), dict(grades)
        self.reference, self.channel = reference, channel
        self.line, self.failure = Line(), ""
        self.turn: float | None = None
        draws = min(len(p.draws) for p in self.posteriors.values())
        self.sliders = make_sliders(draws, level)
        self.table = widgets.HTML()
        side = min(PANEL, 0.94 * WIDTH / len(self.posteriors))
        self.stage = Stage(WIDTH, side + BELOW, live=True, lock=self.line.lock)
        with style():
            self._place(side)
        s = self.sliders
        row = widgets.HBox([s.draw, s.play, s.level, s.bundle])
        row.layout = widgets.Layout(flex_flow="row wrap", align_items="center")
        super().__init__([self.stage.canvas, row, self.line, self.table])
        self.add_class("aistat")
        s.draw.observe(lambda _: self._follow_draw(), "value")
        s.bundle.observe(lambda _: self._follow_draw(), "value")
        s.level.observe(lambda _: self._follow_level(), "value")
        self.stage.canvas.mpl_connect("motion_notify_event", self._point)
        self._follow_draw()
        self._follow_level()
        self.stage.redraw()
        self.line.say("Point at a boundary: the same direction is marked in every panel.")

    def static_figure(self) -> Any:
        """The same posteriors as the figure of `plot_comparison`."""
        return plot_comparison(
            self.image, self.posteriors, reference=self.reference, channel=self.channel,
            level=self.sliders.level.value,
        )  # fmt: skip

    @property
    def bands(self) -> dict[str, Band]:
        """Each posterior's simultaneous band at the level of the slider."""
        level = self.sliders.level.value
        return {name: simultaneous_band(p, level) for name, p in self.posteriors.items()}

    def _place(self, side: float) -> None:
        count, height = len(self.posteriors), side + BELOW
        shown = {
            name: self.image[self.channel].slice_at(p.chart.plane)
            for name, p in self.posteriors.items()
        }
        several = list(self.posteriors.values())
        limits = limits_around_all(several, self.reference, several[0].chart.plane)
        self.panels: dict[str, SlicePanel] = {}
        for n, (name, posterior) in enumerate(self.posteriors.items()):
            left = (n + 0.5) / count - 0.5 * side / WIDTH
            place = (left, (BELOW - 0.05) / height, side / WIDTH, (side - 0.3) / height)
            panel = SlicePanel(self.stage, self.stage.axes(*place), small=True, fills=False)
            dark = shown[name].quantity == "SUV"
            panel.frame(posterior.chart.plane, limits, dark)
            panel.show_slice(shown[name], window_of(shown[name], limits))
            panel.show_posterior(posterior, self.grades[name])
            panel.show_reference(self.reference)
            panel.axes.set_title(name, fontsize=9.5)
            self.panels[name] = panel
        below = self.stage.axes(0.07, 0.95 / height, 0.9, (BELOW - 1.3) / height)
        plane = several[0].chart.plane
        below.set_xlim(0, 360)
        below.set_xticks(range(0, 361, 45))
        below.set_xticklabels([turn_label(several[0].chart, a) for a in range(0, 361, 45)])
        below.set_ylabel(f"half-width ({plane.unit})")
        widest = [simultaneous_band(p, self.sliders.level.max).half_width.max() for p in several]
        below.set_ylim(0, 1.1 * float(np.max(widest)))
        self.widths = {
            name: self.stage.moving(below.plot([], [], label=name, **look)[0])
            for name, look in zip(self.posteriors, COMPARED, strict=False)
        }
        below.legend(loc="upper right", ncols=len(self.posteriors))
        self.cursor = self.stage.moving(below.axvline(np.nan, color="0.2", lw=0.9))
        self.below = below
        grades = {name for g in self.grades.values() for name, part in g.fraction.items() if part}
        shown = grades | ({*LEGEND[:6]} | ({"reference"} if self.reference is not None else set()))
        self.stage.figure.legend(
            handles=legend_of(shown), loc="lower center", ncols=5,
            fontsize=7.5, columnspacing=1.2, handlelength=2.2,
        )  # fmt: skip

    @told
    def _follow_draw(self) -> None:
        for name, posterior in self.posteriors.items():
            self.panels[name].show_draw(posterior, self.sliders.draw.value)
            self.panels[name].show_bundle(posterior, self.sliders.bundle.value)
        self.stage.paint()

    @told
    def _follow_level(self) -> None:
        for name, band in self.bands.items():
            self.panels[name].show_band(self.posteriors[name], band)
            self.widths[name].set_data(around(band.chart), closed(band.half_width))
        self.stage.paint()
        self.table.value = self._table()

    @told
    def _point(self, event: Any) -> None:
        inside = [name for name, panel in self.panels.items() if event.inaxes is panel.axes]
        if inside:
            point = (float(event.xdata), float(event.ydata))
            self.turn = turn_of(self.posteriors[inside[0]].chart, point)
        elif event.inaxes is self.below:
            self.turn = float(event.xdata)
        else:
            return
        for name, panel in self.panels.items():
            ray = site_at(self.posteriors[name].chart, self.turn)
            panel.show_ray(self.posteriors[name], ray, None)
        self.cursor.set_xdata([self.turn] * 2)
        self.stage.paint()

    def _table(self) -> str:
        """What each posterior says, a row each."""
        rows = []
        for name, band in self.bands.items():
            posterior, grade = self.posteriors[name], self.grades[name]
            unit = posterior.unit
            checks = posterior.diagnostics
            cells = (
                safe(name), safe(posterior.method), str(area_posterior(posterior)),
                f"{np.median(band.half_width):.2f} {unit}", badge(grade.case),
                f"{grade.expected_surface_dice:.2f}", f"{checks.ess_min:,.0f}",
                f"{posterior.seconds.get('fit', 0.0):.2f} s",
            )  # fmt: skip
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = (
            "posterior", "method", "size", f"half-width, {100 * self.sliders.level.value:.0f}%",
            "grade", "expected surface Dice", "effective draws", "fitted in",
        )  # fmt: skip
        top = "".join(f"<th>{safe(name)}</th>" for name in head)
        return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
