"""How does a person sign what is in sight? A page of the explorer: a name, accept and reject.

What is signed is what lies in a folder. Where the folder does not hold the contours as they are
seen, they are written there first, with all files of a run; one that was edited is then signed as
edited, with what has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from aistat_jax import signoff
from aistat_jax._errors import InputError
from aistat_jax.editing import Session
from aistat_jax.views.live.controls import laid_out
from aistat_jax.views.live.exports import case_of, session_lines, write_export
from aistat_jax.views.live.queue import Order
from aistat_jax.views.live.told import told
from aistat_jax.views.page import safe

if TYPE_CHECKING:
    from aistat_jax.views.live.explorer import Explorer
else:
    Explorer = Any

FOLDER = "aistat_signed"


class Signing(widgets.VBox):
    """The page "Sign" of an explorer, before its last one."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.line = explorer, explorer.line
        self.name = widgets.Text(description="name", placeholder="of who signs", **laid_out())
        self.reason = widgets.Text(description="reason", **laid_out())
        self.folder = widgets.Text(value=FOLDER, description="folder", **laid_out())
        self.all = widgets.Checkbox(value=False, description="all contours", indent=False)
        self.all.layout.display = "flex" if len(explorer.session) > 1 else "none"
        self.accept = widgets.Button(description="accept", icon="check")
        self.reject = widgets.Button(description="reject", icon="times")
        self.state = widgets.HTML()
        wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
        boxes = [
            [self.name, self.reason, self.folder],
            [self.accept, self.reject, self.all, self.state],
        ]
        super().__init__([widgets.HBox(parts, layout=wrap) for parts in boxes])
        self.accept.on_click(lambda _: self.sign("accept"))
        self.reject.on_click(lambda _: self.sign("reject"))
        self.folder.observe(lambda _: self.show(), "value")
        tabs = explorer.controls.tabs
        titles = list(tabs.titles)
        tabs.children = [*tabs.children[:-1], self, tabs.children[-1]]
        tabs.titles = [*titles[:-1], "Sign", titles[-1]]
        tabs.selected_index = None

    def of(self, path: str | os.PathLike[str]) -> None:
        """Sign in the folder of results that a file lies in, where it lies in one."""
        folder = Path(path).expanduser().parent
        if (folder / signoff.SUMMARY).is_file():
            self.folder.value = str(folder)

    @told
    def show(self) -> None:
        """What is signed of the contour in sight."""
        posterior, folder = self.explorer.posterior, Path(self.folder.value).expanduser()
        words = "nothing is signed in this folder yet"
        if posterior is not None and (folder / signoff.SUMMARY).is_file():
            last, _ = signoff.standing(folder)
            words = f"{posterior.target_id}: {last.get(posterior.target_id) or 'not signed'}"
            if not signoff.held(folder, [posterior]):
                words += " (of other contours than the one in sight)"
        self.state.value = f"<span>{safe(words)}</span>"

    @told
    def sign(self, decision: str) -> Order:
        """Accept or reject the contour in sight, or all, after the edits that wait."""
        e, by, reason = self.explorer, self.name.value, self.reason.value
        target = e.sure(e.target)
        targets = range(len(e.session)) if self.all.value else [target]
        if not by.strip():
            raise InputError("write the name of who signs: nothing is signed without one")
        folder, level, tolerance = Path(self.folder.value), e.level, e.controls.tolerance.value
        channel = e.controls.channel.value

        def work(session: Session, _: bool) -> tuple[Session, str]:
            def write() -> None:
                drawn = e.drawn.references(session)
                case = case_of(session, e.image, e.home, drawn, target, level, tolerance)
                lines = session_lines(session, level, tolerance, channel)
                write_export("all", folder, case, lines, channel)

            with self.line.lock:  # figures are drawn by one thread at a time
                return session, signed(folder, session, targets, decision, by, reason, write)

        order = Order(target, "signing", work)
        order.then = self.show
        return e.desk.queue.put(order)


def signed(
    folder: Path, session: Session, targets: Sequence[int], decision: str, by: str, reason: str,
    write: Callable[[], None],
) -> str:  # fmt: skip
    """Sign targets of a session in a folder, which `write` fills where it does not hold them.

    Returns what is to be said.
    """
    edits = [session[n] for n in targets]
    there = signoff.held(folder, [edit.posterior for edit in edits])
    if not there:
        write()
    given = {edit.target: session.given[edit.target].posterior for edit in edits}
    edited = {
        edit.posterior.target_id: given[edit.target]
        for edit in edits
        if edit.posterior is not given[edit.target] and decision == "accept"
    }
    names = [edit.posterior.target_id for edit in edits]
    decisions = [(name, "edit" if name in edited else decision) for name in names]
    new = signoff.sign_several(folder, decisions, by=by, reason=reason, before=edited)
    last, status = signoff.standing(folder)
    holding = sum(one is not None and not one.void for one in last.values())
    several = f"{len(new)} contours are {'rejected' if decision == 'reject' else 'accepted'}"
    words = f"{new[0].target} is {new[0]}" if len(new) == 1 else f"{several} by {new[0].by}"
    wrote = "" if there else ", where the contours were written first"
    return f"{words}. Signed in {folder}{wrote}: {holding} of {len(last)}, {status}."
