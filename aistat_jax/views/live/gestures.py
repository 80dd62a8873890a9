"""What do the mouse and the keyboard do on the explorer's picture?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax import editing
from aistat_jax.editing import Click
from aistat_jax.views.live.told import told

if TYPE_CHECKING:
    from aistat_jax.views.live.explorer import Explorer
else:
    Explorer = Any

NEAR = 14.0  # pixels of the screen within which a click is taken hold of
STILL = 3.0  # pixels within which a drag is none
MODES = {"l": "look", "e": "edge", "i": "inside", "o": "outside"}


class Gestures:
    """Pointing, dragging and typing, turned into what the explorer can do."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.line = explorer.line
        self.radius: float | None = None  # of the keyboard's cursor on the ray
        self._pinned = False
        self._held: int | None = None
        self._from = self._to = (0.0, 0.0)
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
        clicks = list(self.explorer.clicks)
        if self._held is not None and self._held < len(clicks):
            clicks[self._held] = replace(clicks[self._held], point=self._to)
        return tuple(clicks)

    @told
    def press(self, event: Any) -> None:
        e = self.explorer
        if event.inaxes is e.scene.ring.axes:
            self._pinned = True
            return e.look_along(self._ray_at(event))
        if event.inaxes is not e.scene.panel.axes or e.posterior is None:
            return None
        self._from = self._to = (float(event.xdata), float(event.ydata))
        near = self._click_near(event)
        if near is not None and event.button == 3:
            return e.remove_click(near)
        if near is not None:
            self._held = e.chosen = near
            e._show_clicks()
            return e.scene.stage.paint()
        mode = e.controls.mode.value
        if mode == "look" or event.button != 1:
            self._pinned = not self._pinned
            return e.look_along(self._ray_at(event))
        return e.add_click(self._to, mode)

    @told
    def move(self, event: Any) -> None:
        e = self.explorer
        if event.inaxes not in (e.scene.panel.axes, e.scene.ring.axes) or e.posterior is None:
            return
        if self._held is not None and event.inaxes is e.scene.panel.axes:
            self._to = (float(event.xdata), float(event.ydata))
            e.scene.panel.show_clicks(self.clicks_in_hand(), e.chosen)
            e.scene.stage.paint()
        elif not self._pinned:
            self.radius = None
            e.look_along(self._ray_at(event))

    @told
    def release(self, event: Any) -> None:
        e, held = self.explorer, self._held
        self._held = None
        if held is None:
            return
        place = e.scene.panel.axes.transData.transform
        if np.linalg.norm(place(self._to) - place(self._from)) > STILL:
            e.move_click(held, self._to)
        else:
            e._show_clicks()
            e.scene.stage.paint()

    @told
    def scroll(self, event: Any) -> None:
        self._turn(self.explorer.controls.slice, 1 if event.step > 0 else -1)

    @told
    def key(self, event: Any) -> None:
        """See `controls.KEYS`."""
        e, key = self.explorer, str(event.key)
        c = e.controls
        if key in ("left", "right"):
            self._turn(c.draw, 1 if key == "right" else -1)
        elif key in ("up", "down"):
            self._turn(c.slice, 1 if key == "up" else -1)
        elif key in ("+", "-", "="):
            self._turn(c.level, -0.01 if key == "-" else 0.01)
        elif key in (",", ".") and e.posterior is not None:
            rays = len(e.posterior.chart.angles)
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
            e._show_clicks()
            e.scene.stage.paint()
        elif key in ("u", "r"):
            (e.undo if key == "u" else e.redo)()
        elif key == " ":
            c.play.playing = not c.play.playing

    @told
    def remove_chosen(self) -> None:
        if self.explorer.chosen is not None:
            self.explorer.remove_click(self.explorer.chosen)

    def _along_the_ray(self, way: int) -> None:
        """Move the keyboard's cursor in or out along the ray, by half a click's sd."""
        e = self.explorer
        if e.posterior is None or e.ray is None:
            return
        start = float(e.posterior.estimate[e.ray]) if self.radius is None else self.radius
        self.radius = max(0.0, start + way * e.session.sd / 2)
        e._show_ray()
        e.scene.stage.paint()

    def _click_on_the_ray(self) -> None:
        e, mode = self.explorer, self.explorer.controls.mode.value
        if e.posterior is None or e.ray is None or mode == "look":
            self.line.say("Choose a ray with “,” and “.”, and what to say with e, i or o, first.")
            return
        radius = float(e.posterior.estimate[e.ray]) if self.radius is None else self.radius
        u, v = e.posterior.chart.centre + radius * e.posterior.chart.directions[e.ray]
        self.radius = None
        e.add_click((float(u), float(v)), mode)

    def _turn(self, slider: Any, step: float) -> None:
        slider.value = min(slider.max, max(slider.min, slider.value + step))

    def _ray_at(self, event: Any) -> int:
        e = self.explorer
        chart = e.posterior.chart  # pyright: ignore[reportOptionalMemberAccess]
        if event.inaxes is e.scene.ring.axes:
            angle = np.radians(event.xdata)
        else:
            _, angle = editing.polar((float(event.xdata), float(event.ydata)), chart)
        return round(angle / (2 * np.pi) * len(chart.angles)) % len(chart.angles)

    def _click_near(self, event: Any) -> int | None:
        """The click within reach of the mouse, the nearest."""
        clicks = self.explorer.clicks
        if not clicks:
            return None
        at = self.explorer.scene.panel.axes.transData.transform([click.point for click in clicks])
        away = np.linalg.norm(at - (event.x, event.y), axis=-1)
        return int(away.argmin()) if away.min() <= NEAR else None
