"""What can be done from the explorer, and what comes of it? Orders for its queue, and their end.

An order is bound to what is in sight when it is made: its target, its click, its slice. What it
has done is shown wherever one has gone meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax import editing, sessions
from aistat_jax._errors import InputError
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.editing import Placed, Session
from aistat_jax.edits import Click, Edit, where
from aistat_jax.space.image import Channel, Image
from aistat_jax.views.live.controls import EXPORTS
from aistat_jax.views.live.exports import case_of, session_lines, write_export
from aistat_jax.views.live.placing import placed_target
from aistat_jax.views.live.queue import EditQueue, Order
from aistat_jax.views.live.told import told

if TYPE_CHECKING:
    from aistat_jax.views.live.explorer import Explorer
else:
    Explorer = Any

FROM_FILE = (
    "Read from a file: the image's evidence is not in it, so clicks are weighed against the draws."
)


class Desk:
    """Edits, files and sessions of an explorer; every method returns its order, or says why not.

    `refused` is the order that was refused last and may be tried by sampling.
    """

    def __init__(self, explorer: Explorer, session: Session) -> None:
        self.explorer, self.line = explorer, explorer.line
        self.queue = EditQueue(session, self._heard, explorer.tick, self.line.lock)
        self.refused: Order | None = None

    @property
    def session(self) -> Session:
        return self.queue.session

    def waiting(self, target: int | None) -> list[Click]:
        """Clicks of a target that have not been carried out yet."""
        return [
            order.click
            for order in self.queue.waiting
            if order.click is not None and order.found(self.session) == target
        ]

    def name(self, target: int) -> str:
        return self.session.given[target].posterior.target_id

    # ------------------------------------------------------------------------- orders

    def click(self, point: tuple[float, ...], kind: str = "edge") -> Order | None:
        """A click on the target in sight."""
        click = Click(_rounded(point), kind)
        return self._edit(
            lambda s, at, sample: editing.click_added(s, at, click, sample=sample), click=click
        )

    def move(self, target: int | None, click: Click, point: tuple[float, ...]) -> Order | None:
        """A click of a target, put elsewhere."""
        place = _rounded(point)

        def make(session: Session, at: int, sample: bool) -> Session:
            n = editing.place_of(session, at, click)
            return editing.click_moved(session, at, n, place, sample=sample)

        return self._edit(make, target, Click(place, click.kind))

    def remove(self, target: int | None, click: Click) -> Order | None:
        """A click of a target, taken away."""

        def make(session: Session, at: int, sample: bool) -> Session:
            n = editing.place_of(session, at, click)
            return editing.click_removed(session, at, n, sample=sample)

        return self._edit(make, target)

    @told
    def place(self, point: Sequence[float], radius: float) -> Order:
        """A new target in a ball about a patient point (x, y, z), fitted when its turn comes."""
        if np.shape(point) != (3,):
            raise InputError(f"the middle of a target must be three numbers x, y, z, got {point}")
        e, radius = self.explorer, round(float(radius), 2)
        x, y, z = _rounded(tuple(point))
        if not (np.isfinite([x, y, z]).all() and np.isfinite(radius) and radius > 0):
            raise InputError(
                f"a target needs a middle and a positive radius, got {(x, y, z)} and {radius:g}"
            )
        placed, unit = Placed((x, y, z), radius, e.home.name), e.home.unit

        def work(session: Session, _: bool) -> tuple[Session, str]:
            after = placed_target(session, e.image, e.home, placed)
            name = after.given[-1].posterior.target_id
            return after, (
                f"Placed {name}, of radius {radius:g} {unit}; “remove target” takes it away."
            )

        e.line.say(f"Placing a target of radius {radius:g} {unit}.")
        order = Order(self._target(), "placing a target", work)
        order.then = lambda: e.take_in(len(self.session) - 1)
        return self._put(order)

    @told
    def place_as_written(self) -> Order | None:
        """A new target of the middle and the radius on the page “Target”."""
        c = self.explorer.controls
        try:
            x, y, z = (float(part) for part in c.middle.value.split(","))
        except ValueError:
            raise InputError(
                f"the middle must be three numbers x, y, z, got {c.middle.value!r}"
            ) from None
        return self.place((x, y, z), c.radius.value)

    @told
    def displace(self) -> Order | None:
        """The target in sight taken away, where it was placed by hand."""
        e = self.explorer
        at: int = e.sure(e.target)
        name, found = self.name(at), self._finder(at)

        def work(session: Session, _: bool) -> tuple[Session, str]:
            now = _still_there(name, found(session))
            return editing.target_removed(session, now), f"Removed {name}."

        order = Order(0, f"removing {name}", work)
        order.then = lambda: e.take_in(0)
        return self._put(order)

    @told
    def sample(self) -> Order | None:
        """What was refused last, by chains where Laplace does not do."""
        if self.refused is None:
            return None
        last, self.refused = self.refused, None
        last.target = _still_there("what was refused", last.found(self.session))
        words = f"sampling {self.name(last.target)}"
        self.line.say(
            f"Sampling {self.name(last.target)} by chains: how long it has taken is said."
        )
        return self._put(
            Order(last.target, words, last.work, last.click, sample=True, then=last.then)
        )

    @told
    def undo(self) -> Order:
        def work(session: Session, _: bool) -> tuple[Session, str]:
            if not session.done:
                return session, "Nothing to undo."
            return editing.undo(session), f"Undone in {self.name(session.done[-1].target)}."

        return self._put(self._travelling("undoing", work, lambda session: session.undone))

    @told
    def redo(self) -> Order:
        def work(session: Session, _: bool) -> tuple[Session, str]:
            if not session.undone:
                return session, "Nothing to make again."
            return editing.redo(session), f"Made again. {session.undone[-1].said}"

        return self._put(self._travelling("making again", work, lambda session: session.done))

    @told
    def export(self, what: str) -> Order:
        """Files of every target, or a figure of the one in sight."""
        e, target = self.explorer, self._target()
        if what not in EXPORTS.values():
            raise InputError(f"unknown export {what!r}; use one of {', '.join(EXPORTS.values())}")
        if what in ("png", "svg"):
            e.sure(e.target)
        folder, channel, level = e.controls.folder.value, e.controls.channel.value, e.level
        tolerance, name, found = e.controls.tolerance.value, self.name(target), self._finder(target)

        def work(session: Session, _: bool) -> tuple[Session, str]:
            now = found(session)
            focus = _still_there(name, now) if what in ("png", "svg") else now or 0
            with self.line.lock:  # figures are drawn by one thread at a time
                case = case_of(
                    session, e.image, e.home, e.drawn.references(session), focus, level, tolerance
                )
                lines = session_lines(session, level, tolerance, channel)
                return session, f"Wrote {write_export(what, folder, case, lines, channel)}"

        self.line.say(f"Writing into {folder}.")
        return self._put(Order(target, "writing", work))

    @told
    def save(self, path: str | os.PathLike[str]) -> Order:
        """The session to one file."""

        def work(session: Session, _: bool) -> tuple[Session, str]:
            where = sessions.save_session(path, session)
            return session, f"Saved {_edits(session)} to {where}; aj.load_session reads it."

        return self._put(Order(self._target(), "saving", work))

    @told
    def open(self, path: str | os.PathLike[str]) -> Order:
        """A saved session in place of this one."""
        from aistat_jax.views.explore import home_of

        def work(session: Session, _: bool) -> tuple[Session, str]:
            opened = sessions.load_session(path)
            home_of(Image.of(self.explorer.home), [edit.posterior for edit in opened.given])
            if opened.given[0].posterior.chart.dims != self.explorer.scene.dims:
                raise InputError(
                    f"{path}: its boundaries are not of the kind shown here, contours in slices or "
                    "surfaces in space; explore it by itself, aj.explore(image, path)"
                )
            models = _models_for(opened, session)
            said = f"Opened {path}: {_edits(opened)}."
            if any(model is not None for model in models):
                opened = sessions.load_session(path, models)
            pairs = zip(opened.given, models, strict=True)
            lost = [edit.posterior.target_id for edit, model in pairs if model is None]
            if len(lost) == len(models):
                said = f"{said} {FROM_FILE}"
            elif lost:
                said = (
                    f"{said} Clicks on {', '.join(lost)} are weighed against the draws: the "
                    "image's evidence is not in a file."
                )
            return opened, said

        order = Order(self._target(), "opening", work)
        order.then = self.explorer.adopt
        return self._put(order)

    # ------------------------------------------------------------------------- in the queue

    @told
    def _edit(
        self,
        make: Callable[[Session, int, bool], Session],
        target: int | None = None,
        click: Click | None = None,
    ) -> Order:
        """An edit of a target (the one in sight)."""
        e = self.explorer
        at: int = e.sure(e.target) if target is None else target
        solid = click is not None and len(click.point) == 3
        if click is not None and solid and not e.home.grid.contains(np.array(click.point)):
            raise InputError(
                f"the click at {where(click.point)} {e.home.unit} lies outside the image; "
                "click on the image"
            )

        name, found = self.name(at), self._finder(at)

        def work(session: Session, sample: bool) -> tuple[Session, str]:
            now = _still_there(name, found(session))  # one before it may have been removed
            after = make(session, now, sample)
            return after, after[now].said

        order = Order(at, f"refitting {name}", work, click)
        order.then = lambda: e.choose_last(found(self.session))
        return self._put(order)

    def _travelling(
        self,
        words: str,
        work: Callable[[Session, bool], tuple[Session, str]],
        of: Callable[[Session], tuple[Edit, ...]],
    ) -> Order:
        """An order after which one is where it has changed something, if one has stayed."""
        e = self.explorer
        order, here, before = Order(self._target(), words, work), e.place, []

        def noted(session: Session, sample: bool) -> tuple[Session, str]:
            before.append(session)
            return work(session, sample)

        def then() -> None:
            e.chosen = None
            if before[-1] is not self.session and e.place == here:
                e.go_to(of(self.session)[-1])

        order.work, order.then = noted, then
        return order

    def _finder(self, at: int) -> Callable[[Session], int | None]:
        """Where a target of today is in a session of later, None where it is gone; names may be
        those of several."""
        own, placed = self.session.given[at].posterior, self.session.placed_as(at)
        name = self.name(at)

        def found(session: Session) -> int | None:
            same = [n for n, edit in enumerate(session.given) if edit.posterior is own]
            if len(same) == 1:
                return same[0]
            there = placed is None and at < session.unplaced
            return at if there and session.given[at].posterior.target_id == name else None

        return found

    def _target(self) -> int:
        return 0 if self.explorer.target is None else self.explorer.target

    def _put(self, order: Order) -> Order:
        e, state = self.explorer, self.queue.state
        order.found = self._finder(order.target)
        if self.queue.busy and order.click is not None:
            self.line.say(
                f"The click on {self.name(order.target)} is taken, and carried out as soon as what "
                f"comes before it is done ({state})."
            )
        self.queue.put(order)
        e.show_clicks()
        e.picture.paint()
        return order

    @told
    def _heard(self, order: Order) -> None:
        """Show what an order has changed; said with its place where that is not in sight."""
        e = self.explorer
        edit, now = order.click is not None, order.found(self.session)
        order.target = 0 if now is None else now
        there = edit and now is not None and order.target != e.target and len(self.session) > 1
        name = f"{self.name(order.target)}: " if there else ""
        if order.error is not None:
            self.refused = order if edit and now is not None and not order.sample else None
            e.show_clicks()
            e.picture.paint()
            if isinstance(order.error, InputError):
                raise InputError(f"{name}{order.error}")
            raise order.error
        if self.refused is not None and self.refused.target == order.target:
            self.refused = None
        order.then()
        before = self.line.said
        e.show_target()
        if self.line.said == before:  # else showing it failed, which was said
            self.line.say(f"{name}{order.said}")
        self.queue.compile_ahead(order.target)


def _still_there(name: str, now: int | None) -> int:
    """Where a target is. Raises InputError when it is gone."""
    if now is None:
        raise InputError(f"{name} is not there any more")
    return now


def _models_for(opened: Session, known: Session) -> list[BoundaryModel | None]:
    """Models of a session for the targets of one that was read, None where they are not the same.

    Names of placed targets are given again, so that these must be the same draw by draw.
    """
    names = [
        [edit.posterior.target_id for edit in session.given[: session.unplaced]]
        for session in (opened, known)
    ]
    found: list[BoundaryModel | None] = [None] * opened.unplaced
    if names[0] == names[1]:
        found = [edit.posterior.model for edit in known.given[: known.unplaced]]
    placed = [edit.posterior for edit in known.given[known.unplaced :]]
    for edit in opened.given[opened.unplaced :]:
        one = edit.posterior
        same = [
            other.model
            for other in placed
            if other.target_id == one.target_id and np.array_equal(other.draws, one.draws)
        ]
        found.append(same[0] if same else None)
    return found


def _edits(session: Session) -> str:
    return f"{len(session.done)} edit{'' if len(session.done) == 1 else 's'}"


def _rounded(point: tuple[float, ...]) -> tuple[float, ...]:
    """A point as finely as a hand can click, so that it reads well in lines of Python."""
    return tuple(round(float(value), 2) for value in point)


def by_slice(session: Session, home: Channel) -> dict[int, list[int]]:
    """The contours in each slice of a channel that has one."""
    found: dict[int, list[int]] = {}
    for edit in session.given:
        if edit.posterior.chart.dims == 3:
            continue
        k = home.grid.number_of(edit.posterior.chart.plane)
        found.setdefault(k, []).append(edit.target)
    return found
