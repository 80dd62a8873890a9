"""How does one walk around in a posterior, and change it? The explorer, a widget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np

from aistat_jax import editing
from aistat_jax._errors import InputError
from aistat_jax.case import Case
from aistat_jax.editing import Click, Edit, Session
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Channel, ChannelSlice, Image
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.checks import plot_chain_ranks, plot_traces
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.live.controls import EXPORTS, KEYS, Controls, make_controls
from aistat_jax.views.live.exports import python_lines, write_export
from aistat_jax.views.live.gestures import Gestures
from aistat_jax.views.live.scene import Scene
from aistat_jax.views.live.told import Line, View, badge, click_table, told
from aistat_jax.views.outputs import target_summary
from aistat_jax.views.page import figure, safe
from aistat_jax.views.report import target_section

Make = Callable[..., Session]


class Explorer(View):
    """A posterior to be looked at from every side and corrected; `aistat_jax.explore` makes it.

    What is shown can be read back: `posterior`, `grade`, `band`, `clicks` of the target in sight,
    `session` with every edit, and `lines`, the Python that makes the present state again.
    """

    def __init__(
        self,
        image: Image,
        session: Session,
        home: Channel,
        references: Sequence[Curve | None],
        *,
        level: float,
        channel: str,
    ) -> None:
        self.image, self.session, self.home, self.references = image, session, home, references
        self.line, self.failure = Line(), ""
        self.ray: int | None = None
        self.chosen: int | None = None
        self._tried: Make | None = None
        self._kept: tuple[Posterior | None, float, Band | None] | None = None
        self._warming: threading.Thread | None = None
        self._at = {edit.posterior.chart.plane.index: edit.target for edit in session.given}
        middle = session.given[len(session) // 2].posterior
        given = [edit.posterior for edit in session.given]
        self.scene = Scene(image, home, given, any(references))
        self.controls = make_controls(
            image.names, home.grid.shape[2], middle.chart.plane.index, len(middle.draws), level
        )
        self.controls.channel.value = channel
        c = self.controls
        super().__init__([c.header, self.scene.stage.canvas, c.always(), self.line, c.tabs])
        self.add_class("aistat")
        self._set_window()
        self.gestures = Gestures(self)
        self._bind(c)
        self._show_slice()
        self.line.say(KEYS)

    # ------------------------------------------------------------------------- read back

    @property
    def target(self) -> int | None:
        """Number of the target in the slice that is shown, None where there is none."""
        return self._at.get(self.controls.slice.value)

    @property
    def edit(self) -> Edit | None:
        return None if self.target is None else self.session[self.target]

    @property
    def posterior(self) -> Posterior | None:
        return None if self.edit is None else self.edit.posterior

    @property
    def grade(self) -> Grade | None:
        return None if self.edit is None else self.edit.grade

    @property
    def clicks(self) -> tuple[Click, ...]:
        return () if self.edit is None else self.edit.clicks

    @property
    def band(self) -> Band | None:
        """The simultaneous band at the level of the slider."""
        posterior, level = self.posterior, self.level
        if self._kept is None or self._kept[0] is not posterior or self._kept[1] != level:
            band = None if posterior is None else simultaneous_band(posterior, level)
            self._kept = (posterior, level, band)
        return self._kept[2]

    @property
    def level(self) -> float:
        return self.controls.level.value

    @property
    def lines(self) -> str:
        """The Python lines that make what is shown, from what was explored."""
        if self.edit is None:
            return ""
        several, channel = len(self.session) > 1, self.controls.channel.value
        return python_lines(self.edit, self.session.sd, self.level, channel, several=several)

    def static_figure(self) -> Any:
        """The target in sight, or the middle one, as the figure of `plot_contours`."""
        target = len(self.session) // 2 if self.target is None else self.target
        edit = self.session[target]
        return plot_contours(
            self.image, edit.posterior, simultaneous_band(edit.posterior, self.level), edit.grade,
            channel=self.controls.channel.value, reference=self.references[target],
        )  # fmt: skip

    # ------------------------------------------------------------------------- changing

    def add_click(self, point: tuple[float, float], kind: str = "edge") -> None:
        """Put a click at an in-plane point, refit, and say what changed."""
        click = Click(_rounded(point), kind)
        self._edit(lambda s, target, **how: editing.click_added(s, target, click, **how))

    def move_click(self, n: int, point: tuple[float, float]) -> None:
        """Move click number `n` (from 0) to a point, refit, and say what changed."""
        place = _rounded(point)
        self._edit(lambda s, target, **how: editing.click_moved(s, target, n, place, **how))

    def remove_click(self, n: int) -> None:
        """Remove click number `n` (from 0), refit, and say what changed."""
        self._edit(lambda s, target, **how: editing.click_removed(s, target, n, **how))

    def sample(self) -> None:
        """Try the edit again that was refused last, by chains where Laplace does not do."""
        if self._tried is not None:
            self.line.say("Sampling: up to a minute the first time.")
            self._edit(self._tried, sample=True)

    @told
    def undo(self) -> None:
        """Take the last edit back."""
        session = editing.undo(self.session)
        self._travel(session, session.undone[-1], "Undone.")

    @told
    def redo(self) -> None:
        """Make the edit again that was undone last."""
        session = editing.redo(self.session)
        self._travel(session, session.done[-1], f"Made again. {session.done[-1].said}")

    @told
    def export(self, what: str) -> None:
        """Write "nifti", "csv", "png", "svg", "posterior" or "python" into the folder named."""
        if what not in EXPORTS.values():
            raise InputError(f"unknown export {what!r}; use one of {', '.join(EXPORTS.values())}")
        posterior = self._sure(self.posterior)
        others = [c for name, c in self.image.channels.items() if name != self.home.name]
        case = Case(
            Image.of(self.home, *others), (posterior,), (self._sure(self.band),),
            (self._sure(self.grade),), references=(self.references[self.target or 0],),
        )  # fmt: skip
        folder, channel = self.controls.folder.value, self.controls.channel.value
        path = write_export(what, folder, case, self.lines, channel)
        self.line.say(f"Wrote {path}")

    @told
    def _edit(self, make: Make, sample: bool = False) -> None:
        """Try an edit; one that is refused changes nothing, and can be tried by sampling."""
        self._sure(self.edit)
        self._wait_until_warm()
        self._tried = make
        self.controls.sample.disabled = False
        try:
            self.session = make(self.session, self.target, sample=sample)
        except BaseException:
            self._show_clicks()
            self.scene.stage.paint()
            raise
        self._tried = None
        self.controls.sample.disabled = True
        self.chosen = len(self.clicks) - 1 if self.clicks else None
        self.line.say(self._sure(self.edit).said)
        self._show_target()

    def _travel(self, session: Session, edit: Edit, words: str) -> None:
        self.session, self.chosen = session, None
        self.line.say(words)
        here = edit.posterior.chart.plane.index
        if self.controls.slice.value != here:
            self.controls.slice.value = here
        else:
            self._show_target()

    def _sure(self, found: Any) -> Any:
        if found is None:
            raise InputError(f"{self._nothing_here()}; choose a slice that has a contour")
        return found

    def _nothing_here(self) -> str:
        slices = sorted(self._at)
        span = f"slice {slices[0]}" if len(slices) == 1 else f"slices {slices[0]} to {slices[-1]}"
        return f"no contour in slice {self.controls.slice.value}: the target is in {span}"

    # ------------------------------------------------------------------------- getting ready

    def warm_up(self) -> None:
        """Compile the refit in the background, once, so that the first click need not wait."""
        if self._warming is None and self.session.given[0].posterior.model is not None:
            self._warming = threading.Thread(target=editing.warm_up, args=(self.session,))
            self._warming.start()

    def _wait_until_warm(self) -> None:
        if self._warming is not None and self._warming.is_alive():
            self.line.say("Getting ready for the first refit: some seconds, once.")
            self._warming.join()

    def _bind(self, c: Controls) -> None:
        def calls(button: widgets.Button, method: Callable[[], None]) -> None:
            button.on_click(lambda _: method())

        def follows(widget: widgets.Widget, method: Callable[[], None]) -> None:
            widget.observe(lambda _: method(), "value")

        follows(c.slice, self._show_slice)
        follows(c.draw, self._follow_draw)
        follows(c.level, self._follow_level)
        follows(c.bundle, self._follow_bundle)
        follows(c.channel, self._follow_channel)
        for widget in (c.window, c.overlay, c.opacity):
            follows(widget, self._follow_look)
        follows(c.whole, self._follow_frame)
        follows(c.mode, self._follow_mode)
        c.tabs.observe(lambda _: self._show_page(), "selected_index")
        calls(c.undo, self.undo)
        calls(c.redo, self.redo)
        calls(c.sample, self.sample)
        calls(c.remove, self.gestures.remove_chosen)
        for what, button in c.exports.items():
            button.on_click(lambda _, what=what: self.export(what))
        c.sample.disabled = True

    # ------------------------------------------------------------------------- showing

    @told
    def _show_slice(self) -> None:
        """Another slice: everything is another."""
        self.chosen = None
        self._show_images()
        self.scene.panel.say("" if self.posterior else self._nothing_here())
        self._show_target(painted=False)
        self._frame()

    def _show_target(self, painted: bool = True) -> None:
        """The target in the slice as it is now."""
        posterior = self.posterior
        self.scene.panel.show_posterior(posterior, self.grade)
        self.scene.ring.show_tolerance(self.grade)
        self.scene.panel.show_bundle(posterior, self.controls.bundle.value)
        self.scene.panel.show_draw(posterior, self.controls.draw.value)
        target = self.target
        self.scene.panel.show_reference(None if target is None else self.references[target])
        self._show_band()
        self._show_clicks()
        self._show_words()
        if painted:
            self.scene.stage.paint()

    def _show_images(self) -> None:
        c = self.controls
        overlay = None if c.overlay.value == "none" else c.overlay.value
        try:
            self.scene.show_images(c.slice.value, c.channel.value, overlay, c.opacity.value)
        except InputError as refusal:
            self.line.say(str(refusal), trouble=True)

    def _slice(self) -> ChannelSlice | None:
        """The slice that is shown, None where the channel has none."""
        try:
            return self.scene.slice_of(self.controls.channel.value, self.controls.slice.value)
        except InputError:
            return None

    def _show_band(self) -> None:
        band = self.band
        self.scene.panel.show_band(self.posterior, band)
        self.scene.ring.show(band, self.grade)
        self._show_ray()

    def _show_ray(self) -> None:
        band, posterior, ray = self.band, self.posterior, self.ray
        self.scene.panel.show_ray(posterior, ray, self.gestures.radius)
        self.scene.ring.show_ray(band, ray)
        near = self._radii_near(ray)
        self.scene.profile.show(posterior, band, self._slice(), ray, near)

    def _radii_near(self, ray: int | None) -> list[float]:
        """Radii of the clicks that lie within half a ray's step of a ray or so."""
        if self.posterior is None or ray is None:
            return []
        chart = self.posterior.chart
        found = [editing.polar(click.point, chart) for click in self.clicks]
        step = 2 * np.pi / len(chart.angles)
        turns = [abs(np.angle(np.exp(1j * (angle - chart.angles[ray])))) for _, angle in found]
        return [
            radius for (radius, _), turn in zip(found, turns, strict=True) if turn <= 1.5 * step
        ]

    def _show_clicks(self) -> None:
        self.scene.panel.show_clicks(self.gestures.clicks_in_hand(), self.chosen)
        angles = []
        if self.posterior is not None:
            angles = [editing.polar(c.point, self.posterior.chart)[1] for c in self.clicks]
        self.scene.ring.show_clicks(angles)
        c = self.controls
        c.undo.disabled, c.redo.disabled = not self.session.done, not self.session.undone
        c.remove.disabled = self.chosen is None
        c.clicks.value = click_table(self.clicks, self.home.unit, self.session.sd)

    def _show_words(self) -> None:
        """The line above the picture, and the page that is open."""
        edit = self.edit
        if edit is None:
            self.controls.header.value = f"<b>{safe(self._nothing_here())}</b>"
        else:
            posterior = edit.posterior
            at = f"{edit.grade.tolerance:g} {edit.grade.unit}"
            present = "" if posterior.presence == 1 else f" · present {posterior.presence:.0%}"
            self.controls.header.value = (
                f"<b>{safe(posterior.target_id)}</b> · {area_posterior(posterior)} · "
                f"{badge(edit.grade.case)} at {at}{present} · "
                f"{safe(posterior.method)}, {len(posterior.draws):,} draws"
            )
        self._show_page()

    @told
    def _show_page(self) -> None:
        """Fill the page that is open; the others wait until they are."""
        c, edit, band = self.controls, self.edit, self.band
        page = c.tabs.titles[c.tabs.selected_index or 0]
        if edit is None or band is None:
            c.numbers.value = c.chains.value = ""
            c.lines.value = ""
        elif page == "Numbers":
            c.numbers.value = target_section(target_summary(edit.posterior, band, edit.grade))
        elif page == "Chains":
            c.chains.value = chains_page(edit.posterior)
        elif page == "Export":
            c.lines.value = self.lines

    # ------------------------------------------------------------------------- following

    @told
    def _follow_draw(self) -> None:
        self.scene.panel.show_draw(self.posterior, self.controls.draw.value)
        self.scene.stage.paint()

    @told
    def _follow_level(self) -> None:
        self._show_band()
        self.scene.stage.paint()
        self._show_page()

    @told
    def _follow_bundle(self) -> None:
        self.scene.panel.show_bundle(self.posterior, self.controls.bundle.value)
        self.scene.stage.paint()

    @told
    def _follow_channel(self) -> None:
        self._set_window()
        self._show_images()
        self._show_ray()
        self._frame()
        self._show_page()

    @told
    def _follow_look(self) -> None:
        self.scene.windows[self.controls.channel.value] = self.controls.window.value
        self._show_images()
        self.scene.stage.paint()

    @told
    def _follow_frame(self) -> None:
        self._frame()

    @told
    def _follow_mode(self) -> None:
        if self.controls.mode.value != "look":
            self._sure(self.edit)
            self.warm_up()
            self.line.say(
                f"Click on the image: the boundary is to go {_MEANINGS[self.controls.mode.value]} "
                "there. Drag a click to move it."
            )

    def look_along(self, ray: int | None) -> None:
        """Choose the ray whose profile is shown."""
        if ray != self.ray:
            self.ray = ray
            self._show_ray()
            self.scene.stage.paint()

    def _set_window(self) -> None:
        """The window's slider for the channel that is shown: its range, and where it stands."""
        c, name = self.controls, self.controls.channel.value
        values = self.image[name].values
        low, high = self.scene.windows[name]
        bottom, top = min(float(values.min()), low), max(float(values.max()), high)
        with c.window.hold_trait_notifications():
            c.window.min, c.window.max = min(bottom, c.window.min), max(top, c.window.max)
            c.window.value = (low, high)
            c.window.min, c.window.max = bottom, top
            c.window.step = (top - bottom) / 200

    def _frame(self) -> None:
        """Axes and their names, and everything drawn anew."""
        c = self.controls
        self.scene.frame(
            c.slice.value, c.channel.value, whole=c.whole.value,
            posterior=self.posterior, grade=self.grade, level=c.level.max,
        )  # fmt: skip


_MEANINGS = {"edge": "through", "inside": "outside of", "outside": "inside of"}


def _rounded(point: tuple[float, float]) -> tuple[float, float]:
    """A point as finely as a hand can click, so that it reads well in lines of Python."""
    return round(float(point[0]), 2), round(float(point[1]), 2)


def chains_page(posterior: Posterior) -> str:
    """Traces and ranks of a posterior's chains, as HTML."""
    pages = [figure("Draws in the order they were made.", plot_traces(posterior))]
    if posterior.radii.shape[0] > 1:
        drawing = plot_chain_ranks(posterior)
        pages.append(
            figure("Ranks of each chain's draws among all: flat where they agree.", drawing)
        )
    else:
        pages.append(
            "<p>These draws are independent, weighted and drawn again, and come from no chain: "
            "what tells whether to trust them is the Pareto k on the page of numbers.</p>"
        )
    return "".join(pages)
