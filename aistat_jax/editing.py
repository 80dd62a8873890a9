"""How does an expert change a contour? By clicks that are evidence, with undo and redo: a session.

A session is a value: every edit gives a new one, and one that is refused leaves the old one as it
was. A click adds to the evidence of the model (`posterior.model + anchors(...)`), so an edited
contour is a posterior like any other, with its band, its diagnostics and its grade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.boundary.charts import StarChart
from aistat_jax.boundary.opinions import SIDES, anchors
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
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


@dataclass(frozen=True)
class Click:
    """A place that an expert points at: in-plane coordinates, and what is said of it."""

    point: tuple[float, float]
    kind: str = "edge"


@dataclass(frozen=True)
class Edit:
    """One target after an edit: all its clicks, its posterior and grade, and what changed."""

    target: int
    clicks: tuple[Click, ...]
    posterior: Posterior
    grade: Grade
    sampled: bool = False
    said: str = ""


@dataclass(frozen=True)
class Session:
    """Posteriors with the edits made to them; `undone` edits can be made again.

    `sd` is the standard deviation of a click, in the unit of the image.
    """

    given: tuple[Edit, ...]
    sd: float
    done: tuple[Edit, ...] = ()
    undone: tuple[Edit, ...] = ()

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
    return Session(tuple(Edit(n, (), *pair) for n, pair in enumerate(pairs)), sd)


def click_added(session: Session, target: int, click: Click, *, sample: bool = False) -> Session:
    """The session with one more click, refitted; see `refitted` for what is refused."""
    return refitted(session, target, (*session[target].clicks, click), sample=sample)


def click_moved(
    session: Session, target: int, n: int, point: tuple[float, float], *, sample: bool = False
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
    contradict each other, for a posterior without its model, and for a fit that does not pass
    its own checks.
    """
    before, first = session[target], session.given[target]
    if clicks:
        check_clicks(clicks, first.posterior.chart, session.sd)
        posterior = _fitted(first.posterior, clicks, session.sd, sample)
    else:
        posterior = first.posterior
    unit = {f"tolerance_{first.grade.unit}": first.grade.tolerance}
    after = Edit(target, clicks, posterior, grade(posterior, **unit), sample)
    said = [what_changed(before, after), *tensions(after, session.sd)]
    edit = replace(after, said=" ".join(said))
    return replace(session, done=(*session.done, edit), undone=())


def _fitted(first: Posterior, clicks: Sequence[Click], sd: float, sample: bool) -> Posterior:
    if first.model is None:
        raise InputError(
            "this posterior was read from a file and has no model to fit again; explore the one "
            "that `fit` returned to edit it"
        )
    model = first.model + clicks_as_evidence(clicks, sd)
    posterior = fit(model, draws=len(first.draws), seed=first.seed, fallback=sample)
    if not posterior.diagnostics.converged:
        why = "; ".join(posterior.diagnostics.reasons) or "its draws cannot be trusted"
        raise InputError(
            f"with this click the fit does not pass its own checks ({why}); "
            + ("the last good contour is kept" if sample else "let it be sampled, or click again")
        )
    return posterior


def clicks_as_evidence(clicks: Sequence[Click], sd: float):
    """The clicks as a piece of evidence that adds to any other."""
    points = np.array([click.point for click in clicks], dtype=float).reshape(-1, 2)
    return anchors(points, kind=[click.kind for click in clicks], sd=sd)


def warm_up(session: Session, target: int = 0) -> None:
    """Compile what the first edit will need, so that it does not have to wait for it."""
    posterior = session.given[target].posterior
    if posterior.model is not None:
        model = posterior.model + clicks_as_evidence((), session.sd)
        fit(model, draws=len(posterior.draws), seed=posterior.seed, fallback=False)


def check_clicks(clicks: Sequence[Click], chart: StarChart, sd: float) -> None:
    """Refuse clicks that no boundary could obey, with the reason in a sentence."""
    u_min, u_max, v_min, v_max = chart.plane.extent
    for click in clicks:
        u, v = click.point
        where = f"({u:.1f}, {v:.1f}) {chart.unit}"
        if click.kind not in SIDES:
            raise InputError(f"unknown kind of click {click.kind!r}; use {', '.join(SIDES)}")
        if not (np.isfinite([u, v]).all() and u_min <= u <= u_max and v_min <= v <= v_max):
            raise InputError(f"the click at {where} lies outside the image; click on the image")
        radius, _ = polar(click.point, chart)
        if radius > chart.radius_max:
            raise InputError(
                f"the click at {where} lies {radius:.0f} {chart.unit} from the centre, beyond the "
                f"{chart.radius_max:.0f} {chart.unit} that were read; click nearer, or fit with a "
                "larger radius_max"
            )
        if radius < sd and click.kind != "inside":
            raise InputError(
                f"the click at {where} is the centre itself, from which no direction leads; "
                "click nearer to the boundary"
            )
    for n, one in enumerate(clicks):
        for other in clicks[:n]:
            if _contradict(one, other, chart, sd) or _contradict(other, one, chart, sd):
                raise InputError(
                    f"the click “{one.kind}” at ({one.point[0]:.1f}, {one.point[1]:.1f}) "
                    f"contradicts “{other.kind}” at ({other.point[0]:.1f}, {other.point[1]:.1f}): "
                    "no boundary that each ray meets once obeys both; move or remove one"
                )


def _contradict(lower: Click, upper: Click, chart: StarChart, sd: float) -> bool:
    """Whether one click keeps the boundary further out than the other one lets it go."""
    if lower.kind == "outside" or upper.kind == "inside":
        return False
    (near, a), (far, b) = polar(upper.point, chart), polar(lower.point, chart)
    gap = abs(a - b)
    arc = min(gap, 2 * np.pi - gap) * (near + far) / 2
    return bool(far - near > SLACK * sd + STEEPEST * arc)


def tensions(edit: Edit, sd: float) -> list[str]:
    """A sentence for each click that the posterior does not follow."""
    posterior, unit = edit.posterior, edit.posterior.unit
    sentences = []
    for n, click in enumerate(edit.clicks, start=1):
        radius, angle = polar(click.point, posterior.chart)
        away = radius - radii_towards(posterior, angle)
        spread = float(np.hypot(sd, away.std()))
        past = {"edge": abs(away.mean()), "inside": away.mean(), "outside": -away.mean()}[
            click.kind
        ]
        if past > TENSION * spread:
            sentences.append(
                f"Click {n} ({click.kind}) and the other evidence disagree: the contour stays "
                f"{past:.1f} {unit} from it."
            )
    return sentences


def polar(point: tuple[float, float], chart: StarChart) -> tuple[float, float]:
    """Radius and angle of one point."""
    radius, angle = chart.polar(np.array([point]))
    return float(radius[0]), float(angle[0])


def radii_towards(posterior: Posterior, angle: float) -> np.ndarray:
    """Every draw's radius (draw,) at an angle between rays, interpolated linearly."""
    rays = posterior.draws.shape[1]
    place = angle / (2 * np.pi) * rays
    n, part = int(place) % rays, place - int(place)
    return (1 - part) * posterior.draws[:, n] + part * posterior.draws[:, (n + 1) % rays]


def what_changed(before: Edit, after: Edit) -> str:
    """Area, half-width of the band and grade before and after, in a sentence."""
    unit = after.posterior.unit
    areas = [area_posterior(edit.posterior).quantile(0.5) for edit in (before, after)]
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
        f"Area {areas[0]:,.0f} to {areas[1]:,.0f} {unit}² ({areas[1] - areas[0]:+,.0f}), "
        f"half-width of the band {widths[0]:.2f} to {widths[1]:.2f} {unit} (median), {same}."
    )
