"""What follows when a slider, a menu or a button of the explorer is used?

What is shown anew is no more than what depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from aistat_jax.views.live.controls import AROUND, MEANINGS, PAGES
from aistat_jax.views.live.scene import place_of
from aistat_jax.views.live.told import told

if TYPE_CHECKING:
    from aistat_jax.views.live.explorer import Explorer
else:
    Explorer = Any


class Following:
    """Every widget of an explorer, bound to what it changes."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.line = explorer, explorer.line
        self.proposed = ""  # as the middle of a new target
        e, c = explorer, explorer.controls

        def calls(button: widgets.Button, method: Callable[[], Any]) -> None:
            button.on_click(lambda _: method())

        def follows(widget: widgets.Widget, method: Callable[[], None]) -> None:
            widget.observe(lambda _: method(), "value")

        follows(c.slice, self.follow_slice)
        follows(c.tolerance, self.follow_tolerance)
        follows(c.draw, self.follow_draw)
        follows(c.level, self.follow_level)
        follows(c.bundle, self.follow_bundle)
        follows(c.channel, self.follow_channel)
        for widget in (c.window, c.overlay, c.opacity):
            follows(widget, self.follow_look)
        follows(c.whole, self.follow_frame)
        follows(c.target, self.follow_target)
        e.room.observe(lambda _: self.fill_room(), ["width", "height"])
        follows(c.mode, self.follow_mode)
        c.tabs.observe(lambda _: self.open_page(), "selected_index")
        calls(c.undo, e.desk.undo)
        calls(c.redo, e.desk.redo)
        calls(c.sample, e.desk.sample)
        calls(c.remove, e.gestures.remove_chosen)
        calls(c.place, e.desk.place_as_written)
        calls(c.displace, e.desk.displace)
        calls(c.reset, lambda: e.look_closer(None))
        calls(c.save, lambda: e.desk.save(c.session.value))
        calls(c.open, lambda: e.desk.open(c.session.value))
        for what, button in c.exports.items():
            button.on_click(lambda _, what=what: e.desk.export(what))
        c.sample.disabled = True

    @told
    def follow_slice(self) -> None:
        e = self.explorer
        if not e.scene.linked:
            e.scene.step_to(0, e.controls.slice.value)
            e.show_slice()
        elif not e.turning:
            e.step_to(e.scene.active, e.controls.slice.value)

    @told
    def follow_draw(self) -> None:
        e = self.explorer
        for panel in e.scene.panels:
            panel.show_draw(e.posterior, e.controls.draw.value)
        e.picture.paint()

    @told
    def follow_tolerance(self) -> None:
        e = self.explorer
        for panel in e.scene.panels:
            panel.show_posterior(e.posterior, e.grade)
        e.picture.show_grade()
        e.show_words()
        ring = e.scene.ring
        if ring is not None and ring.axes.get_ylim()[1] < e.controls.tolerance.value:
            return e.frame()
        e.picture.paint()

    @told
    def follow_level(self) -> None:
        e = self.explorer
        e.picture.show_band()
        e.picture.paint()
        e.show_page()

    @told
    def follow_bundle(self) -> None:
        e = self.explorer
        for panel in e.scene.panels:
            panel.show_bundle(e.posterior, e.controls.bundle.value)
        e.picture.paint()

    @told
    def follow_channel(self) -> None:
        e = self.explorer
        e.set_window()
        e.picture.show_images()
        e.picture.show_ray()
        e.frame()
        e.show_page()

    @told
    def follow_look(self) -> None:
        e = self.explorer
        e.scene.windows[e.controls.channel.value] = e.controls.window.value
        e.picture.show_images()
        e.picture.paint()

    @told
    def follow_frame(self) -> None:
        self.explorer.frame()

    @told
    def follow_target(self) -> None:
        e = self.explorer
        e.chosen = None
        if e.scene.linked and e.posterior is not None:
            e.scene.look_at(place_of(e.posterior))
            e.picture.show_images()
            e.turn_slider()
        e.show_target()

    @told
    def follow_mode(self) -> None:
        e = self.explorer
        mode = e.controls.mode.value
        if mode == "zoom":
            e.line.say(
                "Draw a box around what is to be seen closely; “reset view” shows all again."
            )
        elif mode == "place":
            self.show_middle()
            e.line.say(
                "Press on the middle of a lesion and drag to its edge; without a mouse, say both "
                "on page Target."
            )
        elif mode != "look":
            e.sure(e.edit)
            e.warm_up()
            e.line.say(
                f"Click on the image: the boundary is to go {MEANINGS[mode]} there. Drag a click "
                "to move it."
            )

    def show_middle(self) -> None:
        """What is proposed as the middle of a new target: the middle of what is seen."""
        e = self.explorer
        self.proposed = ", ".join(f"{value:.1f}" for value in e.scene.middle())
        e.controls.middle.value = self.proposed

    def renew_middle(self) -> None:
        """The middle of what is seen now, where one is to be placed and none has been written."""
        c = self.explorer.controls
        placing = c.mode.value == "place" or c.page == "Target"
        if placing and c.middle.value == self.proposed:
            self.show_middle()

    @told
    def open_page(self) -> None:
        if self.explorer.controls.page == "Target":
            self.show_middle()
        self.explorer.show_page()
        self.fill_room()

    @told
    def fill_room(self) -> None:
        """A picture as large as the window has room for."""
        e = self.explorer
        if e.room.width and e.room.height:
            around = AROUND + PAGES.get(e.controls.page, 0)
            if e.scene.resize(e.room.width - 8, e.room.height - around):
                e.frame()
