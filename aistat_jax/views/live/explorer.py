"""How does one walk around in a posterior, and change it? The explorer, a widget.

Its state is in five places, each of which can be read and set from Python: the sliders and menus
(`controls`), the planes and where they lie (`scene`), every edit (`session`, carried out by the
queue of the `desk`), the ray that is looked along and the click that is chosen. Everything else,
bands, grades at the tolerance in sight, lines, words, follows from these. Contours in slices and
surfaces in space differ in what the scene walks (one stack of planes, or three with a cross-hair)
and in nothing else here: targets in sight are those of the slice, in space all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.editing import Session
from aistat_jax.edits import Click, Edit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.contour import Contour, Reference
from aistat_jax.uncertainty.grading import Grade, grades_of
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.layers import Limits
from aistat_jax.views.live.controls import HELLO, LINKED, make_controls
from aistat_jax.views.live.desk import FROM_FILE, Desk, by_slice
from aistat_jax.views.live.drawn import SessionReferences
from aistat_jax.views.live.exports import figure_of, python_lines
from aistat_jax.views.live.following import Following
from aistat_jax.views.live.gestures import Gestures
from aistat_jax.views.live.picture import Picture
from aistat_jax.views.live.queue import Order
from aistat_jax.views.live.room import Room
from aistat_jax.views.live.scene import Scene
from aistat_jax.views.live.signing import Signing
from aistat_jax.views.live.told import Line, View, badge, chains_page, click_table, spans, told
from aistat_jax.views.page import safe
from aistat_jax.views.report import target_section
from aistat_jax.views.summary import target_summary


class Explorer(View):
    """A posterior to be looked at from every side and corrected; `aistat_jax.explore` makes it.

    What is shown can be read back: `posterior`, `grade`, `band`, `clicks` of the target in sight,
    `session` with every edit, and `lines`, the Python that makes the present state again. Called
    from Python an edit is waited for; made by hand it takes its place in the queue of its `desk`.
    """

    def __init__(
        self,
        image: Image,
        session: Session,
        home: Channel,
        references: Sequence[Curve | Ring | Mesh | None],
        *,
        level: float,
        channel: str,
        others: Sequence[Reference] = (),
    ) -> None:
        self.image, self.home = image, home
        self.drawn = SessionReferences(session, references, others)
        self.line, self.failure = Line(), ""
        self.desk = Desk(self, session)
        self.ray: int | None = None
        self.chosen: int | None = None
        self._kept: tuple[Posterior | None, float, Band | None] | None = None
        self._grades: tuple[Posterior, Callable[[float], Grade]] | None = None
        self._graded: tuple[Posterior, float, Grade] | None = None
        self._at = by_slice(session, home)
        middle = session.given[len(session) // 2]
        self.scene = Scene(image, home, [edit.posterior for edit in session.given], self.line.lock)
        self.controls = make_controls(
            image.names,
            self.scene.stacks[0].count,
            round(self.scene.numbers[0]),
            len(middle.posterior.draws),
            level,
            middle.grade.tolerance,
        )
        self.turning = False  # whether the slider follows the cross-hair
        self.controls.channel.value = channel
        self.room = Room()
        c = self.controls
        canvas = self.scene.stage.canvas
        super().__init__([*c.above(), canvas, c.below(), self.line, c.tabs, self.room])
        self.layout.width = "100%"
        self.add_class("aistat")
        self.set_window()
        self.picture = Picture(self)
        self.gestures, self.signing = Gestures(self), Signing(self)
        self.following = Following(self)
        self.show_slice()
        saved = any(edit.posterior.model is None for edit in session.given)
        hello = LINKED if self.scene.linked else HELLO
        self.line.say(f"{FROM_FILE} {hello}" if saved else hello)

    def _ipython_display_(self, **kwargs: Any) -> None:
        """Shown, it compiles ahead while somebody looks."""
        super()._ipython_display_(**kwargs)
        self.warm_up()

    # ------------------------------------------------------------------------- read back

    @property
    def session(self) -> Session:
        """Every edit that was carried out."""
        return self.desk.queue.session

    @property
    def references(self) -> list[Any]:
        """What each target is compared with, None where there is nothing."""
        return self.drawn.references(self.session)

    @property
    def others(self) -> list[Reference]:
        """What another reading of the image shows of each target."""
        return self.drawn.others(self.session)

    @property
    def target(self) -> int | None:
        """Number of the target in sight, None where there is none."""
        here, chosen = self.here, self.controls.target.value
        return chosen if chosen in here else next(iter(here), None)

    @property
    def here(self) -> list[int]:
        """The targets in sight: those of the slice, and surfaces always."""
        if self.scene.linked:
            return list(range(len(self.session)))
        return self._at.get(self.controls.slice.value, [])

    @property
    def edit(self) -> Edit | None:
        return None if self.target is None else self.session[self.target]

    @property
    def posterior(self) -> Posterior | None:
        return None if self.edit is None else self.edit.posterior

    @property
    def grade(self) -> Grade | None:
        """The grade at the tolerance of the slider."""
        edit, tolerance = self.edit, self.controls.tolerance.value
        if edit is None or abs(tolerance - edit.grade.tolerance) < 1e-9:
            return None if edit is None else edit.grade
        kept, posterior = self._graded, edit.posterior
        if kept is None or kept[0] is not posterior or kept[1] != tolerance:
            if self._grades is None or self._grades[0] is not posterior:
                self._grades = posterior, grades_of(posterior)
            self._graded = posterior, tolerance, self._grades[1](tolerance)
            return self._graded[2]
        return kept[2]

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
        tolerance = self.controls.tolerance.value
        return python_lines(
            self.edit, self.session, self.level, tolerance, channel, several=several
        )

    def static_figure(self) -> Any:
        """The target in sight, or the middle one, as the figure of it for the page."""
        target = len(self.session) // 2 if self.target is None else self.target
        edit = self.session[target]
        return figure_of(
            self.image, edit.posterior, simultaneous_band(edit.posterior, self.level), edit.grade,
            channel=self.controls.channel.value, reference=self.references[target],
        )  # fmt: skip

    # ------------------------------------------------------------------------- changing

    def add_click(self, point: tuple[float, ...], kind: str = "edge") -> None:
        """Put a click at a point (u, v) of the slice, or of a surface (x, y, z) in the patient;
        refit, and say what changed."""
        _wait_for(self.desk.click(point, kind))

    def move_click(self, n: int, point: tuple[float, ...]) -> None:
        """Move click number `n` (from 0) to a point, refit, and say what changed."""
        _wait_for(self.desk.move(self.target, self.clicks[n], point))

    def remove_click(self, n: int) -> None:
        """Remove click number `n` (from 0), refit, and say what changed."""
        _wait_for(self.desk.remove(self.target, self.clicks[n]))

    def place_target(self, point: Sequence[float], radius: float) -> None:
        """Place a target in a ball about a patient point (x, y, z), fit it, and look at it."""
        _wait_for(self.desk.place(point, radius))

    def remove_target(self) -> None:
        """Take the target in sight away, where it was placed by hand."""
        _wait_for(self.desk.displace())

    def sample(self) -> None:
        """Try the edit again that was refused last, by chains where Laplace does not do."""
        _wait_for(self.desk.sample())

    def undo(self) -> None:
        """Take the last edit back."""
        _wait_for(self.desk.undo())

    def redo(self) -> None:
        """Make the edit again that was undone last."""
        _wait_for(self.desk.redo())

    def export(self, what: str) -> None:
        """Write "all", "nifti", "csv", "posterior" or "python" of every slice, or "png" or "svg"
        of the one in sight, into the folder named."""
        _wait_for(self.desk.export(what))

    def save_session(self, path: str | os.PathLike[str]) -> None:
        """Write the session to one file (`save_session`), after the edits that wait."""
        _wait_for(self.desk.save(path))

    def open_session(self, path: str | os.PathLike[str]) -> None:
        """Go on with a session that was saved (`load_session`), in place of this one."""
        _wait_for(self.desk.open(path))

    def tick(self) -> None:
        """Say what is being done, and for how long; it waits for nothing."""
        state = self.desk.queue.state
        self.controls.status.value = f'<span class="aistat-status">{safe(state)}</span>'

    def adopt(self) -> None:
        """Another session has been opened."""
        self._at = by_slice(self.session, self.home)
        self.chosen = self.desk.refused = None
        c = self.controls
        fewest = min(len(edit.posterior.draws) for edit in self.session.given)
        c.draw.value = min(c.draw.value, fewest)
        c.draw.max = c.play.max = fewest
        tolerance = self.session.given[0].grade.tolerance
        with c.tolerance.hold_trait_notifications():
            c.tolerance.min = min(c.tolerance.min, tolerance)
            c.tolerance.max = max(c.tolerance.max, tolerance)
            c.tolerance.value = tolerance
        self.show_slice()

    def take_in(self, target: int) -> None:
        """Targets have been placed, or taken away; look at one."""
        self._at = by_slice(self.session, self.home)
        self.chosen = self.desk.refused = None
        c = self.controls
        c.draw.max = c.play.max = min(len(edit.posterior.draws) for edit in self.session.given)
        self.show_slice()
        self.go_to(self.session[target])
        self.frame()

    @property
    def place(self) -> Any:
        """What is in sight, to be compared: the slice, of surfaces the target."""
        return self.target if self.scene.linked else self.controls.slice.value

    def go_to(self, edit: Edit) -> None:
        """Show the target of an edit."""
        if not self.scene.linked:
            self.controls.slice.value = self.home.grid.number_of(edit.posterior.chart.plane)
        if self.target != edit.target:
            self.controls.target.value = edit.target

    def look_at(self, point: Sequence[float] | np.ndarray) -> None:
        """Of linked planes: the cross-hair at a point (x, y, z), which all then pass through."""
        before = list(self.scene.numbers)
        self.scene.look_at(point)
        self._show_moved(before)

    def step_to(self, n: int, number: float) -> None:
        """Of linked planes: another plane of stack `n`, counted from 0; the cross-hair follows."""
        before = list(self.scene.numbers)
        self.scene.step_to(n, number)
        self._show_moved(before)

    def activate(self, n: int) -> None:
        """Of linked planes: the one that slider, wheel and keys step through."""
        if n != self.scene.active:
            self.scene.active = n
            self.turn_slider()
            self.scene.show_cross()
            self.picture.paint()

    def turn_slider(self) -> None:
        """The slider says which plane of the active stack is shown."""
        c, stack = self.controls, self.scene.stacks[self.scene.active]
        self.turning = True
        try:
            with c.slice.hold_trait_notifications():
                c.slice.description, c.slice.max = stack.name, stack.count - 1
                at = round(self.scene.numbers[self.scene.active])
                c.slice.value = min(max(at, 0), stack.count - 1)
        finally:
            self.turning = False

    def choose_last(self, target: int | None) -> None:
        """The click that was put last, where its target is in sight."""
        if target == self.target:
            self.chosen = len(self.clicks) - 1 if self.clicks else None

    def sure(self, found: Any) -> Any:
        """What was found; refused where the slice in sight has no contour."""
        if found is None:
            raise InputError(f"{self._nothing_here()}; choose a slice that has a contour")
        return found

    def _nothing_here(self) -> str:
        return (
            f"no contour in slice {self.controls.slice.value}: "
            f"{'contours are' if len(self._at) > 1 else 'the contour is'} in {spans(self._at)}"
        )

    # ------------------------------------------------------------------------- getting ready

    @told
    def warm_up(self) -> None:
        """Compile the refits in the background, so that the first click need not wait."""
        self.desk.queue.compile_ahead(
            len(self.session) // 2 if self.target is None else self.target
        )

    # ------------------------------------------------------------------------- showing

    def _show_moved(self, before: list[float]) -> None:
        """The planes that have moved, and the cross-hair in all."""
        moved = [n for n, at in enumerate(self.scene.numbers) if abs(at - before[n]) > 1e-9]
        self.turn_slider()
        self.picture.show_images()
        self.picture.show_cuts(moved)
        self.scene.show_cross()
        self.picture.show_ray()
        self.show_clicks()
        self.following.renew_middle()
        self.picture.paint()

    @told
    def show_slice(self) -> None:
        """Another slice: everything is another."""
        self.chosen = None
        here = self.here
        if self.scene.linked:
            self.turn_slider()
        with self.controls.target.hold_trait_notifications():
            self.controls.target.options = [(self.desk.name(n), n) for n in here]
        self.controls.target.layout.display = "flex" if len(here) > 1 else "none"
        self.picture.show_images()
        self.scene.panel.say("" if self.posterior else self._nothing_here())
        self.show_target(painted=False)
        self.frame()

    def show_target(self, painted: bool = True) -> None:
        """The target in the slice as it is now."""
        self.picture.show_cuts(range(len(self.scene.panels)))
        self.scene.show_cross()
        self.picture.show_grade()
        self.picture.show_ray()
        self.show_clicks()
        self.show_words()
        if painted:
            self.picture.paint()

    def show_clicks(self) -> None:
        waiting, c = self.desk.waiting(self.target), self.controls
        self.picture.show_clicks(waiting)
        orders = self.desk.queue.waiting
        c.undo.disabled = not (self.session.done or orders)
        c.redo.disabled = not (self.session.undone or orders)
        c.remove.disabled, c.sample.disabled = self.chosen is None, self.desk.refused is None
        c.clicks.value = click_table(self.clicks, waiting, self.home.unit, self.session.sd)

    def show_words(self) -> None:
        """The line above the picture, and the page that is open."""
        edit, grade = self.edit, self.grade
        if edit is None or grade is None:
            self.controls.header.value = f"<b>{safe(self._nothing_here())}</b>"
        else:
            posterior = edit.posterior
            at = f"{grade.tolerance:g} {grade.unit}"
            present = "" if posterior.presence == 1 else f" · present {posterior.presence:.0%}"
            self.controls.header.value = (
                f"<b>{safe(posterior.target_id)}</b> · {area_posterior(posterior)} · "
                f"{badge(grade.case)} at {at}, {grade.trust}{present} · "
                f"{safe(posterior.method)}, {len(posterior.draws):,} draws"
            )
        self.show_page()

    @told
    def show_page(self) -> None:
        """Fill the page that is open; the others wait until they are."""
        c, edit, band, grade = self.controls, self.edit, self.band, self.grade
        page = c.page
        placed = self.target is not None and self.session.placed_as(self.target)
        c.displace.disabled = not placed
        if edit is None or band is None or grade is None:
            c.numbers.value = c.chains.value = ""
            c.lines.value = ""
        elif page == "Numbers":
            shown = Contour(edit.posterior, band, grade)
            c.numbers.value = target_section(target_summary(shown))
        elif page == "Chains":
            c.chains.value = chains_page(edit.posterior)
        elif page == "Save":
            c.lines.value = self.lines
        elif page == "Sign":
            self.signing.show()

    def look_closer(self, limits: Limits | None, n: int | None = None) -> None:
        """See a part (u_min, u_max, v_min, v_max) of the slice (of plane `n`, by default the one
        that keys step through), None for the usual one."""
        self.scene.look_closer(limits, n)
        self.frame()

    def look_along(self, ray: int | None) -> None:
        """Choose the ray whose profile is shown."""
        if ray != self.ray:
            self.ray = ray
            self.picture.show_ray()
            self.picture.paint()

    def set_window(self) -> None:
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

    def frame(self) -> None:
        """Axes and their names, and everything drawn anew."""
        c = self.controls
        self.scene.frame(
            c.channel.value, whole=c.whole.value,
            posterior=self.posterior, grade=self.grade, level=c.level.max,
            shown=self.picture.shown(),
        )  # fmt: skip
        self.following.renew_middle()


def _wait_for(order: Order | None) -> None:
    if order is not None:
        order.done.wait()
