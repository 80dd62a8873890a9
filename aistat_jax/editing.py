"""How does an expert change a boundary? By clicks that are evidence, with undo and redo: a session.

A session is a value: every edit gives a new one, and one that is refused leaves the old one as it
was. A click adds to the evidence of the model (`posterior.model + anchors(...)`), so an edited
contour is a posterior like any other, with its band, its diagnostics and its grade. A posterior
that was read from a file has no model: its draws take the model's place (`model_from_draws`).
What a click and an edit are, and what is said of them, is in edits.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace as replaced
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.opinions import CLICK_BUCKET
from aistat_jax.edits import (
    Click,
    Edit,
    check_clicks,
    clicks_as_evidence,
    refusal,
    remarks,
    what_changed,
    where,
)
from aistat_jax.inference.batch import alike, kind_of
from aistat_jax.inference.diagnostics import trustworthy
from aistat_jax.inference.earlier import model_of
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import moved
from aistat_jax.inference.posterior import Finding, Posterior
from aistat_jax.uncertainty.grading import grade

# An expert's click is trusted to about this share of the tolerance (one standard deviation).
CLICK_SHARE = 0.25


@dataclass(frozen=True)
class Placed:
    """A target that was placed by hand: a patient point (x, y, z), a radius, and in which channel.

    Lengths are in the unit of the image.
    """

    point: tuple[float, float, float]
    radius: float
    channel: str


@dataclass(frozen=True)
class Session:
    """Posteriors with the edits made to them; `undone` edits can be made again.

    `sd` is the standard deviation of a click, in the unit of the image; `models` are what clicks
    add to, one a target. The last targets are those that were `placed` by hand.
    """

    given: tuple[Edit, ...]
    sd: float
    models: tuple[BoundaryModel, ...]
    done: tuple[Edit, ...] = ()
    undone: tuple[Edit, ...] = ()
    placed: tuple[Placed, ...] = ()

    def placed_as(self, target: int) -> Placed | None:
        """How a target was placed by hand; None for one that was not."""
        n = target - self.unplaced
        return self.placed[n] if n >= 0 else None

    @property
    def unplaced(self) -> int:
        """How many targets were not placed by hand; they are the first."""
        return len(self.given) - len(self.placed)

    def __getitem__(self, target: int) -> Edit:
        """A target as it is now."""
        found = [edit for edit in self.done if edit.target == target]
        return found[-1] if found else self.given[target]

    def __len__(self) -> int:
        return len(self.given)


def session_of(
    posteriors: Sequence[Posterior],
    *,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    click_sd: float | None = None,
) -> Session:
    """A session with no edits. `click_sd` is a quarter of the tolerance unless told otherwise.

    Raises InputError for no posterior, or whatever `grade` refuses.
    """
    if not posteriors:
        raise InputError("there is no posterior to look at; fit a model first")
    grades = [grade(p, tolerance_mm=tolerance_mm, tolerance_px=tolerance_px) for p in posteriors]
    sd = CLICK_SHARE * grades[0].tolerance if click_sd is None else float(click_sd)
    if not (np.isfinite(sd) and sd > 0):
        raise InputError(f"a click's standard deviation must be positive, got {click_sd}")
    pairs = zip(posteriors, grades, strict=True)
    models = tuple(alike([starting_at(posterior) for posterior in posteriors])[0])
    return Session(tuple(Edit(n, (), *pair) for n, pair in enumerate(pairs)), sd, models)


def starting_at(posterior: Posterior) -> BoundaryModel:
    """What clicks on a posterior add to. The fit of a surface starts where the one given was.

    So many coefficients leave the weights little to spare, and from there they hold.
    """
    model = model_of(posterior)
    from_scratch = posterior.chart.dims == 2 or posterior.model is None
    return model if from_scratch else moved(model, posterior)


def target_placed(session: Session, posterior: Posterior, placed: Placed) -> Session:
    """The session with one more target, the last, whose posterior is this one.

    Raises InputError for a fit that does not pass its own checks.
    """
    if not posterior.diagnostics.converged:
        why = "; ".join(posterior.diagnostics.reasons) or "its draws cannot be trusted"
        raise InputError(f"no boundary is found there surely ({why}); drag from another middle")
    first = session.given[0].grade
    graded = grade(posterior, **{f"tolerance_{first.unit}": first.tolerance})
    given = (*session.given, Edit(len(session), (), posterior, graded))
    models = (*session.models, alike((*session.models, starting_at(posterior)))[0][-1])
    return replace(session, given=given, models=models, placed=(*session.placed, placed))


def target_removed(session: Session, target: int) -> Session:
    """The session without a target that was placed by hand, and without the edits of it.

    Raises InputError for another target.
    """
    if session.placed_as(target) is None:
        raise InputError("only a target that was placed by hand can be removed")

    def rest(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
        left = [edit for edit in edits if edit.target != target]
        return tuple(replace(e, target=e.target - (e.target > target)) for e in left)

    n = target - session.unplaced
    return replace(
        session, given=rest(session.given), done=rest(session.done), undone=rest(session.undone),
        models=session.models[:target] + session.models[target + 1 :],
        placed=session.placed[:n] + session.placed[n + 1 :],
    )  # fmt: skip


def place_of(session: Session, target: int, click: Click) -> int:
    """The number of a click of a target. Raises InputError when it is not there any more."""
    if click not in session[target].clicks:
        raise InputError(f"the click at {where(click.point)} is not there any more")
    return session[target].clicks.index(click)


def click_added(session: Session, target: int, click: Click, *, sample: bool = False) -> Session:
    """The session with one more click, refitted; see `refitted` for what is refused."""
    return refitted(session, target, (*session[target].clicks, click), sample=sample)


def click_moved(
    session: Session, target: int, n: int, point: tuple[float, ...], *, sample: bool = False
) -> Session:
    """The session with its click number `n` at another point, refitted."""
    clicks = list(session[target].clicks)
    clicks[n] = replace(clicks[n], point=point)
    return refitted(session, target, tuple(clicks), sample=sample)


def click_removed(session: Session, target: int, n: int, *, sample: bool = False) -> Session:
    """The session without its click number `n`, refitted (or as given, after the last click)."""
    clicks = session[target].clicks
    return refitted(session, target, clicks[:n] + clicks[n + 1 :], sample=sample)


def undo(session: Session) -> Session:
    """The session before its last edit. Raises InputError when there is none."""
    if not session.done:
        raise InputError("there is nothing to undo")
    *done, last = session.done
    return replace(session, done=tuple(done), undone=(*session.undone, last))


def redo(session: Session) -> Session:
    """The session with the edit that was undone last. Raises InputError when there is none."""
    if not session.undone:
        raise InputError("there is nothing to redo")
    *undone, last = session.undone
    return replace(session, done=(*session.done, last), undone=tuple(undone))


def refitted(
    session: Session, target: int, clicks: tuple[Click, ...], *, sample: bool = False
) -> Session:
    """The session with these clicks on one target, fitted anew by Laplace.

    `sample` lets chains settle what Laplace cannot (seconds to minutes). Raises InputError, and
    changes nothing, for a click outside the image or the region that was read, for clicks that
    contradict each other, and for a fit that does not pass its own checks.
    """
    before, first = session[target], session.given[target]
    if clicks:
        check_clicks(clicks, first.posterior.chart, session.sd)
        posterior, sample = _fitted(session, before, clicks, sample)
    else:
        posterior = first.posterior
    unit = {f"tolerance_{first.grade.unit}": first.grade.tolerance}
    after = Edit(target, clicks, posterior, grade(posterior, **unit), sample)
    said = [what_changed(before, after), *remarks(before, after, session.sd)]
    edit = replace(after, said=" ".join(said))
    return replace(session, done=(*session.done, edit), undone=())


def _fitted(
    session: Session, before: Edit, clicks: Sequence[Click], sample: bool
) -> tuple[Posterior, bool]:
    """The posterior with these clicks, and whether its fit had to go on after its first try."""
    first, sd = session.given[before.target].posterior, session.sd
    model = session.models[before.target] + clicks_as_evidence(clicks, sd)
    draws = len(first.draws)
    given: dict[str, Any] = {"draws": draws, "seed": first.seed, "compare": False}
    posterior = fit(model, fallback=sample, **given)
    if not sample and not trustworthy(posterior.diagnostics, draws):
        again = fit(moved(model, posterior), fallback=False, **given)
        if again.diagnostics.converged:  # as `fit` itself goes on, chains apart
            return with_contradictions(replaced(again, model=model), first), True
    if not posterior.diagnostics.converged:
        raise refusal(before, posterior, clicks, sd, sample)
    if first.model is None:
        return with_earlier_doubts(posterior, first), sample
    return with_contradictions(posterior, first), sample


def with_contradictions(edited: Posterior, first: Posterior) -> Posterior:
    """An edited posterior with what its sources of evidence had against each other before.

    A click takes no side in it, and fitting every source again would make each wait.
    """
    kept = tuple(found for found in first.diagnostics.findings if found.kind == "sources")
    findings = kept + edited.diagnostics.findings
    return replaced(edited, diagnostics=replaced(edited.diagnostics, findings=findings))


def with_earlier_doubts(edited: Posterior, first: Posterior) -> Posterior:
    """A posterior edited by draws alone, with all that spoke against them.

    Without the image it cannot be looked at again, so that no click takes it away.
    """
    earlier, found = first.diagnostics, edited.diagnostics
    doubts = earlier.findings
    if not earlier.converged:
        why = "; ".join(earlier.reasons) or "its draws cannot be trusted"
        doubts += (Finding("red", f"the fit that was edited did not pass its checks: {why}"),)
    found = replaced(found, findings=doubts + found.findings, voxel=earlier.voxel)
    return replaced(edited, diagnostics=found)


def kinds(session: Session) -> dict[object, int]:
    """For each kind of refit, which compiles for itself, the first target that is of it."""
    found: dict[object, int] = {}
    for target in range(len(session)):
        found.setdefault(kind_of_target(session, target), target)
    return found


def kind_of_target(session: Session, target: int) -> object:
    """What targets share that share the compiled refit."""
    return kind_of(session.models[target]), len(session.given[target].posterior.draws)


def warm_up(session: Session, target: int = 0, clicks: int = 0) -> None:
    """Compile the refit of a target with up to so many clicks, rounded up to full buckets.

    It is run on clicks that say nothing, so that no click has to wait for it.
    """
    chart = session.models[target].chart
    middle = chart.line(0, np.zeros(1))[0]
    nothing = [Click(tuple(map(float, middle)), "inside")] * clicks
    posterior = session.given[target].posterior
    model = session.models[target] + clicks_as_evidence(nothing, session.sd)
    draws = len(posterior.draws)
    fit(model, draws=draws, seed=posterior.seed, fallback=False, compare=False)


def buckets(clicks: int) -> int:
    """How many buckets so many clicks fill; each number of them compiles for itself."""
    return max(1, -(-clicks // CLICK_BUCKET))
