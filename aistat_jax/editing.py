"""How does an expert change a boundary? By clicks that are evidence, with undo and redo: a session.

A session is a value: every edit gives a new one, and one that is refused leaves the old one as it
was. A click adds to the evidence of the model (`posterior.model + anchors(...)`), so an edited
contour is a posterior like any other, with its band, its diagnostics and its grade. A posterior
that was read from a file has no model: its draws take the model's place (`model_from_draws`).

A click is a point in the coordinates of its chart: (u, v) in the slice of a contour, (x, y, z) in
the patient for a surface. Nothing else here depends on which of the two a target is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace as replaced
from aistat_jax._typing import Float
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.opinions import CLICK_BUCKET, SIDES, anchors
from aistat_jax.inference.batch import alike, kind_of
from aistat_jax.inference.diagnostics import chart_reasons, trustworthy
from aistat_jax.inference.earlier import model_of
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import moved
from aistat_jax.inference.posterior import Finding, Posterior
from aistat_jax.space.chart import Chart, interpolated
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import Grade, grade
from aistat_jax.uncertainty.probability import area_posterior

# An expert's click is trusted to about this share of the tolerance (one standard deviation).
CLICK_SHARE = 0.25
# Two clicks contradict each other where the boundary between them would have to be steeper than
# this (radial over tangential), beyond so many standard deviations of a click.
STEEPEST, SLACK = 4.0, 4.0
# A click and the posterior disagree when they are so many standard deviations apart.
TENSION = 3.0
# A click is far from what was believed when it is so many standard deviations off.
FAR = 5.0
# A contour is drawn out to a click when the radius there sticks out from what it is this many
# degrees to either side by so large a share of itself, beyond what it did before.
BESIDE, SPIKE = 20.0, 0.12
# The band is wider elsewhere when it is so by this share of its median, along so much of itself.
WIDER, ALONG = 0.15, 0.1


@dataclass(frozen=True)
class Click:
    """A place that an expert points at, in the coordinates of the chart, and what is said of it."""

    point: tuple[float, ...]
    kind: str = "edge"


@dataclass(frozen=True)
class Edit:
    """One target after an edit: all its clicks, its posterior and grade, and what changed.

    `sampled` says that the fit was let go on where its first try did not do (`fit`'s fallback).
    """

    target: int
    clicks: tuple[Click, ...]
    posterior: Posterior
    grade: Grade
    sampled: bool = False
    said: str = ""


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


def refusal(
    before: Edit, found: Posterior, clicks: Sequence[Click], sd: float, sampled: bool
) -> InputError:
    """Why an edit was refused whose fit cannot be trusted, and what to do; numbers as notes."""
    unit = found.unit
    new = [click for click in clicks if click not in before.clicks]
    away = {click: _distance(before.posterior, click, sd) for click in new}
    far = max(away, key=lambda click: away[click][1], default=None)
    if far is not None and away[far][1] > FAR:
        side = "outside" if _beyond(before.posterior, far) > 0 else "inside"
        why = (
            f"this click and the image contradict each other: it lies {away[far][0]:.1f} {unit} "
            f"{side} the contour, {away[far][1]:.0f} times as far as the image leaves open, and no "
            "contour follows both"
        )
    elif runs_out := chart_reasons(found.radii, found.chart):
        why = f"with this click {runs_out[0]}"
    else:
        why = "with this click the image can be read in more than one way, and none is found surely"
    instead = (
        "the last good contour is kept; click nearer to the contour, or lead it there by several"
        if sampled
        else "click nearer to the contour, lead it there by several clicks, or press “sample” to "
        "let it be settled slowly"
    )
    error = InputError(f"{why}; {instead}")
    for reason in found.diagnostics.reasons:
        error.add_note(reason)
    return error


def clicks_as_evidence(clicks: Sequence[Click], sd: float) -> Evidence:
    """The clicks as a piece of evidence that adds to any other."""
    points = [click.point for click in clicks]
    return anchors(points, kind=[click.kind for click in clicks], sd=sd)


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


def check_clicks(clicks: Sequence[Click], chart: Any, sd: float) -> None:
    """Refuse clicks that no boundary could obey, with the reason in a sentence.

    Whether a point in space lies in the image is for who has the image to say: a chart in space
    knows how far it was read.
    """
    for click in clicks:
        place = f"{where(click.point)} {chart.unit}"
        if click.kind not in SIDES:
            raise InputError(f"unknown kind of click {click.kind!r}; use {', '.join(SIDES)}")
        if len(click.point) != chart.dims:
            raise InputError(
                f"the click at {place} has {len(click.point)} coordinates and the boundary lives "
                f"in {chart.dims} dimensions; give as many"
            )
        if not (np.isfinite(click.point).all() and _on_the_slice(click.point, chart)):
            raise InputError(f"the click at {place} lies outside the image; click on the image")
        position, (nearest, farthest) = float(chart.position(click.point)), chart.reach
        star = chart.link == "log"  # positions of others are offsets, and no centre is special
        if not nearest <= position <= farthest:
            origin = "the centre" if star else "the outline"
            raise InputError(
                f"the click at {place} lies {abs(position):.0f} {chart.unit} from {origin}, beyond "
                f"the {farthest:.0f} {chart.unit} that were read; click nearer, or fit with a "
                "larger radius_max"
            )
        if star and position < sd and click.kind != "inside":
            raise InputError(
                f"the click at {place} is the centre itself, from which no direction leads; "
                "click nearer to the boundary"
            )
    for n, one in enumerate(clicks):
        for other in clicks[:n]:
            if _contradict(one, other, chart, sd) or _contradict(other, one, chart, sd):
                raise InputError(
                    f"the click “{one.kind}” at {where(one.point)} "
                    f"contradicts “{other.kind}” at {where(other.point)}: "
                    "no boundary that each ray meets once obeys both; move or remove one"
                )


def where(point: Sequence[float]) -> str:
    """A point in words: (12.3, 4.5)."""
    return f"({', '.join(f'{value:.1f}' for value in point)})"


def _on_the_slice(point: Sequence[float], chart: Any) -> bool:
    """Whether a point lies on the slice of its chart; in space there is none."""
    if chart.dims == 3:
        return True
    u_min, u_max, v_min, v_max = chart.plane.extent
    return u_min <= point[0] <= u_max and v_min <= point[1] <= v_max


def _contradict(lower: Click, upper: Click, chart: Chart, sd: float) -> bool:
    """Whether one click keeps the boundary further out than the other one lets it go."""
    if lower.kind == "outside" or upper.kind == "inside":
        return False
    near, far = chart.position(upper.point), chart.position(lower.point)
    arc = chart.apart(upper.point, lower.point)
    return bool(far - near > SLACK * sd + STEEPEST * arc)


def remarks(before: Edit, after: Edit, sd: float) -> list[str]:
    """What an expert should know of an edit beside what changed, a sentence each."""
    new = [(n, c) for n, c in enumerate(after.clicks, start=1) if c not in before.clicks]
    said = tensions(after, sd)
    for n, click in new:
        away, times = _distance(before.posterior, click, sd)
        if times > FAR and not said:
            said.append(
                f"Click {n} lies {away:.1f} {after.posterior.unit} from where the contour could "
                "be: the image, or the click, is wrong about this place."
            )
        out = _sticks_out(after.posterior, click) - _sticks_out(before.posterior, click)
        if abs(out) > SPIKE * float(after.posterior.estimate.mean()):
            said.append(
                f"The contour bends sharply at click {n} (a spike of {abs(out):.1f} "
                f"{after.posterior.unit}): if it is not so narrow, click beside it too."
            )
    return [*said, *_wider(before, after)]


def _wider(before: Edit, after: Edit) -> list[str]:
    """A sentence where an edit makes the band wider, for more than a little of its length."""
    old, new = (simultaneous_band(edit.posterior).half_width for edit in (before, after))
    wider = new - old > WIDER * float(np.median(old))
    if not after.clicks or wider.mean() <= ALONG:
        return []
    chart, most = after.posterior.chart, int((new - old).argmax())
    towards = chart.words(chart.directions[most])
    return [
        f"It costs certainty: the band is wider along {wider.mean():.0%} of the boundary, "
        f"most {towards} ({old[most]:.1f} to {new[most]:.1f} {after.posterior.unit})."
    ]


def _beyond(posterior: Posterior, click: Click) -> float:
    """How far outside of the estimate a click lies."""
    at = np.array([click.point])
    return float(posterior.chart.position(at)[0] - values_at(posterior, at).mean())


def _distance(posterior: Posterior, click: Click, sd: float) -> tuple[float, float]:
    """How far a posterior is from obeying a click, in its unit and in standard deviations."""
    beyond = _beyond(posterior, click)
    past = {"edge": abs(beyond), "inside": beyond, "outside": -beyond}[click.kind]
    spread = float(np.hypot(sd, values_at(posterior, np.array([click.point])).std()))
    return past, past / spread


def _sticks_out(posterior: Posterior, click: Click) -> float:
    """By how much the estimate at a click sticks out from what it is beside it."""
    beside = posterior.chart.beside(click.point, np.radians(BESIDE))
    middle, *sides = values_at(posterior, np.stack([click.point, *beside])).mean(axis=0)
    return float(middle - np.mean(sides))


def tensions(edit: Edit, sd: float) -> list[str]:
    """A sentence for each click that the posterior does not follow."""
    unit = edit.posterior.unit
    sentences = []
    for n, click in enumerate(edit.clicks, start=1):
        past, times = _distance(edit.posterior, click, sd)
        if times > TENSION:
            sentences.append(
                f"Click {n} ({click.kind}) and the other evidence disagree: the contour stays "
                f"{past:.1f} {unit} from it."
            )
    return sentences


def values_at(posterior: Posterior, points: Float[np.ndarray, "point dims"]) -> np.ndarray:
    """Every draw's value (draw, point) at the places of points, interpolated between sites."""
    return interpolated(posterior.chart, posterior.draws, points)


def what_changed(before: Edit, after: Edit) -> str:
    """Area (volume), half-width of the band and grade before and after, in a sentence."""
    unit = after.posterior.unit
    widths = [
        float(np.median(simultaneous_band(edit.posterior).half_width)) for edit in (before, after)
    ]
    grades = [edit.grade.case for edit in (before, after)]
    same = (
        f"grade stays {grades[0]}"
        if grades[0] == grades[1]
        else " to ".join([f"grade from {grades[0]}", grades[1]])
    )
    return (
        f"{_sizes(before.posterior, after.posterior)}, "
        f"half-width of the band {widths[0]:.2f} to {widths[1]:.2f} {unit} (median), {same}."
    )


def _sizes(before: Posterior, after: Posterior) -> str:
    """Median area, or volume, before and after; what is small in millilitres is said in mm³."""
    sizes = [area_posterior(posterior) for posterior in (before, after)]
    first, second = (size.quantile(0.5) for size in sizes)
    if after.chart.dims == 2:
        return f"Area {first:,.0f} to {second:,.0f} {after.unit}² ({second - first:+,.0f})"
    return (
        f"Volume {sizes[0].middle} to {sizes[1].middle} "
        f"({second - first:+,.0f} {after.unit}³, {(second - first) / first:+.1%})"
    )
