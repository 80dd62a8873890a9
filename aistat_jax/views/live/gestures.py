"""What do the mouse and the keyboard do on the explorer's picture?

The same in one plane and in three: the panel under the mouse says where it points, in the
coordinates of the boundary. Of linked planes the one that is pointed at is the one that keys step
through, and a click with no tool moves the cross-hair where in a slice it holds the ray fast.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax.edits import Click
from aistat_jax.space.chart import layered
from aistat_jax.views.live.told import told
from aistat_jax.views.unrolled import site_at

if TYPE_CHECKING:
    from aistat_jax.views.live.explorer import Explorer
else:
    Explorer = Any

NEAR = 14.0  # pixels of the screen within which a click is taken hold of
STILL = 3.0  # pixels within which a drag is none
CLOSER = 1.25  # by how much a turn of the wheel looks closer
MODES = {"l": "look", "z": "zoom", "e": "edge", "i": "inside", "o": "outside", "d": "place"}


class Gestures:
    """Pointing, dragging and typing, turned into what the explorer can do."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.line = explorer.line
        self.radius: float | None = None  # of the keyboard's cursor on the ray
        self._pinned = False
        self._held: tuple[int, Click] | None = None  # target and click that is dragged
        self._box = self._pulled = self._ball = False
        self._from = self._to = (0.0, 0.0)
        self._panel = 0  # in which the mouse went down
        connect = explorer.scene.stage.canvas.mpl_connect
        connect("button_press_event", self.press)
        connect("motion_notify_event", self.move)
        connect("button_release_event", self.release)
        connect("key_press_event", self.key)
        connect("scroll_event", self.scroll)
        if explorer.controls.slice.max > 0:
            explorer.scene.stage.canvas.capture_scroll = True

    def clicks_in_hand(self) -> tuple[Click, ...]:
        """The clicks as they are seen: the one that is dragged is where the mouse is."""
        clicks = self.explorer.clicks
        if self._held is None or self._held[0] != self.explorer.target:
            return clicks
        held = self._held[1]
        to = self.explorer.scene.point(self._panel, self._to)
        return tuple(replace(c, point=to) if c == held else c for c in clicks)

    @told
    def press(self, event: Any) -> Any:
        e = self.explorer
        if e.scene.ring is not None and event.inaxes is e.scene.ring.axes:
            self._pinned = True
            return e.look_along(self._ray_at(event))
        panel = e.scene.panel_at(event.inaxes)
        if panel is None:
            return None
        self._panel = panel
        e.activate(panel)
        self._from = self._to = (float(event.xdata), float(event.ydata))
        mode = e.controls.mode.value
        near = self._click_near(event)
        if near is not None and event.button == 3:
            return e.desk.remove(e.target, e.clicks[near])
        if event.button == 3:
            self._pulled = True
            return None
        if mode == "zoom" and event.button == 1:
            self._box = True
            return None
        if mode == "place" and event.button == 1:
            self._ball = True
            return None
        if e.posterior is None:
            return e.line.say(f"There is {e._nothing_here()}.")
        if near is not None:
            self._held, e.chosen = (e.target or 0, e.clicks[near]), near
            e.show_clicks()
            return e.picture.paint()
        if e.scene.linked and mode == "look" and event.button == 1:
            return e.look_at(e.scene.point(panel, self._to))
        if mode == "look" or event.button != 1:
            self._pinned = not self._pinned
            return e.look_along(self._ray_at(event))
        return e.desk.click(e.scene.point(panel, self._to), mode)

    @told
    def move(self, event: Any) -> None:
        e = self.explorer
        n = e.scene.panel_at(event.inaxes)
        if n is None and (e.scene.ring is None or event.inaxes is not e.scene.ring.axes):
            return
        at = (float(event.xdata), float(event.ydata))
        if self._held or self._box or self._pulled or self._ball:
            if n != self._panel:
                return
        elif n is not None:
            e.activate(n)
        panel = e.scene.panels[self._panel]
        if self._held or self._box or self._ball:
            self._to = at
            if self._ball:
                panel.show_ball(self._from, at)
                e.controls.radius.value = round(float(np.hypot(*np.subtract(at, self._from))), 1)
            elif self._box:
                panel.show_box(self._from, at)
            else:
                panel.show_clicks(self.clicks_in_hand(), e.chosen)
            e.picture.paint()
        elif self._pulled:
            (u_min, u_max), (v_min, v_max) = map(
                sorted, (panel.axes.get_xlim(), panel.axes.get_ylim())
            )
            du, dv = self._from[0] - at[0], self._from[1] - at[1]
            e.look_closer((u_min + du, u_max + du, v_min + dv, v_max + dv), n)
        elif e.posterior is not None and not self._pinned and not self._box:
            self.radius = None
            e.look_along(self._ray_at(event))

    @told
    def release(self, event: Any) -> Any:
        e, held, box, ball = self.explorer, self._held, self._box, self._ball
        self._held, self._box, self._pulled, self._ball = None, False, False, False
        if (held or box or ball) and e.scene.panel_at(event.inaxes) == self._panel:
            # Browsers hold moves back and leave some out: a quick drag ends where it is let go.
            self._to = (float(event.xdata), float(event.ydata))
        panel = e.scene.panels[self._panel]
        place = panel.axes.transData.transform
        far = np.linalg.norm(place(self._to) - place(self._from)) > STILL
        if box:
            panel.show_box(None, None)
            (a, b), (c, d) = self._from, self._to
            if far:
                return e.look_closer((min(a, c), max(a, c), min(b, d), max(b, d)), self._panel)
            return e.picture.paint()
        if ball:
            panel.show_box(None, None)
            e.picture.paint()
            if not far:
                return e.line.say("Press on the middle of a lesion and drag to its edge.")
            radius = float(np.hypot(*np.subtract(self._to, self._from)))
            return e.desk.place(e.scene.world_point(self._panel, self._from), radius)
        if held is None:
            return None
        if far:
            return e.desk.move(*held, e.scene.point(self._panel, self._to))
        e.show_clicks()
        return e.picture.paint()

    @told
    def scroll(self, event: Any) -> Any:
        e = self.explorer
        ctrl = "ctrl" in getattr(event, "modifiers", ()) or "control" in str(event.key)
        n = e.scene.panel_at(event.inaxes)
        if n is not None:
            e.activate(n)
        if (ctrl or e.controls.mode.value == "zoom") and n is not None:
            share = CLOSER ** (-1 if event.step > 0 else 1)
            (u_min, u_max), (v_min, v_max) = map(
                sorted, (event.inaxes.get_xlim(), event.inaxes.get_ylim())
            )
            u, v = float(event.xdata), float(event.ydata)
            low = (u + share * (u_min - u), v + share * (v_min - v))
            high = (u + share * (u_max - u), v + share * (v_max - v))
            return e.look_closer((low[0], high[0], low[1], high[1]), n)
        return self._turn(e.controls.slice, 1 if event.step > 0 else -1)

    @told
    def key(self, event: Any) -> None:
        """See `controls.KEYS`."""
        e, key = self.explorer, str(event.key)
        c = e.controls
        if key in ("left", "right"):
            self._turn(c.draw, 1 if key == "right" else -1)
        elif key in ("up", "down"):
            self._turn(c.slice, 1 if key == "up" else -1)
        elif key in ("pageup", "pagedown"):
            self._next_contour(1 if key == "pageup" else -1)
        elif key == "p" and e.scene.linked:
            e.activate((e.scene.active + 1) % len(e.scene.panels))
        elif key == "c":
            names = list(c.channel.options)
            c.channel.value = names[(names.index(c.channel.value) + 1) % len(names)]
        elif key == "t" and len(c.target.options) > 1:
            names = [value for _, value in c.target.options]
            c.target.value = names[(names.index(e.target) + 1) % len(names)]
        elif key in ("0", "home"):
            e.look_closer(None)
        elif key in ("+", "-", "="):
            self._turn(c.level, -0.01 if key == "-" else 0.01)
        elif key in (",", ".") and e.posterior is not None:
            rays = e.posterior.chart.sites
            self._pinned, self.radius = True, None
            e.look_along(((0 if e.ray is None else e.ray) + (1 if key == "." else -1)) % rays)
        elif key in ("[", "]"):
            self._along_the_ray(1 if key == "]" else -1)
        elif key == "enter":
            self._click_on_the_ray()
        elif key in MODES:
            c.mode.value = MODES[key]
        elif key in ("delete", "backspace"):
            self.remove_chosen()
        elif key == "n" and e.clicks:
            e.chosen = (-1 if e.chosen is None else e.chosen) + 1
            e.chosen %= len(e.clicks)
            e.show_clicks()
            e.picture.paint()
        elif key in ("u", "r"):
            (e.desk.undo if key == "u" else e.desk.redo)()
        elif key == " ":
            c.play.playing = not c.play.playing

    @told
    def remove_chosen(self) -> None:
        e = self.explorer
        if e.chosen is not None and e.chosen < len(e.clicks):
            e.desk.remove(e.target, e.clicks[e.chosen])

    def _along_the_ray(self, way: int) -> None:
        """Move the keyboard's cursor in or out along the ray, by half a click's sd."""
        e = self.explorer
        if e.posterior is None or e.ray is None:
            return
        start = float(e.posterior.estimate[e.ray]) if self.radius is None else self.radius
        self.radius = max(0.0, start + way * e.session.sd / 2)
        e.picture.show_ray()
        e.picture.paint()

    def _click_on_the_ray(self) -> None:
        e, mode = self.explorer, self.explorer.controls.mode.value
        if mode == "place":
            e.desk.place_as_written()
            return
        if e.posterior is None or e.ray is None or mode in ("look", "zoom"):
            self.line.say("Choose a ray with “,” and “.”, and what to say with e, i or o, first.")
            return
        radius = float(e.posterior.estimate[e.ray]) if self.radius is None else self.radius
        (point,) = e.posterior.chart.line(e.ray, np.array([radius]))
        self.radius = None
        e.desk.click(tuple(map(float, point)), mode)

    def _next_contour(self, way: int) -> None:
        """The next slice, up or down, that has a contour; of linked planes the tenth one on."""
        c = self.explorer.controls
        if self.explorer.scene.linked:
            return self._turn(c.slice, 10 * way)
        there = [k for k in sorted(self.explorer._at)[::way] if way * (k - c.slice.value) > 0]
        if there:
            c.slice.value = there[0]

    def _turn(self, slider: Any, step: float) -> None:
        slider.value = min(slider.max, max(slider.min, slider.value + step))

    def _ray_at(self, event: Any) -> int:
        e = self.explorer
        posterior: Any = e.posterior
        chart = posterior.chart
        panel, at = e.scene.panel_at(event.inaxes), (float(event.xdata), float(event.ydata))
        if panel is None:
            return site_at(chart, at[0])
        point = e.scene.point(panel, at)
        ray, off = int(chart.nearest(point)), np.abs(posterior.estimate - chart.position(point))
        layers = layered(chart, np.arange(chart.sites))  # of a ring the boundary that is nearer
        return min((int(sites[ray % len(sites)]) for sites in layers), key=lambda n: off[n])

    def _click_near(self, event: Any) -> int | None:
        """The click within reach of the mouse, the nearest."""
        clicks = self.explorer.clicks
        if not clicks:
            return None
        panel = self.explorer.scene.panels[self._panel]
        at = panel.axes.transData.transform(panel.places(clicks))
        away = np.nan_to_num(np.linalg.norm(at - (event.x, event.y), axis=-1), nan=np.inf)
        return int(away.argmin()) if away.min() <= NEAR else None
