"""Clicks change a posterior as evidence does; what is refused changes nothing."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import editing
from aistat_jax._errors import InputError
from aistat_jax.boundary.opinions import CLICK_BUCKET, anchors
from aistat_jax.edits import Click, Edit, remarks, tensions
from aistat_jax.inference.posterior import Finding


@pytest.fixture(scope="module")
def session():
    phantom = aj.demo_phantom(seed=0)
    target = aj.find_targets(phantom.image, point_mm=tuple(phantom.centre), slices="point")[0]
    model = aj.boundary_model(target, aj.intensity(phantom.image, "PT"))
    return editing.session_of([aj.fit(model, draws=400)])


def place(session, ray: int, offset: float) -> tuple[float, float]:
    """A point `offset` outside the estimate along a ray."""
    posterior = session.given[0].posterior
    radii = posterior.estimate + offset
    u, v = posterior.chart.points(radii)[ray]
    return float(u), float(v)


def test_an_edge_click_pulls_the_boundary_towards_it_and_narrows_it(session):
    before = session[0].posterior
    edited = editing.click_added(session, 0, Click(place(session, 20, 2.0)))
    after = edited[0].posterior
    assert after.estimate[20] > before.estimate[20] + 1.0
    assert after.draws[:, 20].std() < before.draws[:, 20].std()
    opposite = 20 + len(before.estimate) // 2
    assert abs(after.estimate[opposite] - before.estimate[opposite]) < 0.5
    assert "Area" in edited[0].said
    assert session[0].posterior is before  # the old session is as it was


def test_inside_and_outside_clicks_bound_it_from_one_side(session):
    held = editing.click_added(session, 0, Click(place(session, 64, 1.5), "inside"))
    assert held[0].posterior.estimate[64] > session[0].posterior.estimate[64] + 1.0
    idle = editing.click_added(session, 0, Click(place(session, 64, -4.0), "inside"))
    np.testing.assert_allclose(idle[0].posterior.estimate, session[0].posterior.estimate, atol=0.3)


def test_undo_and_redo_restore_without_fitting(session):
    edited = editing.click_added(session, 0, Click(place(session, 20, 2.0)))
    back = editing.undo(edited)
    assert back[0] is session[0]
    assert editing.redo(back)[0] is edited[0]
    with pytest.raises(InputError, match="nothing to undo"):
        editing.undo(session)
    with pytest.raises(InputError, match="nothing to redo"):
        editing.redo(edited)


def test_a_click_removed_gives_the_posterior_that_was_given(session):
    edited = editing.click_added(session, 0, Click(place(session, 20, 2.0)))
    assert editing.click_removed(edited, 0, 0)[0].posterior is session[0].posterior


def test_a_moved_click_is_the_same_as_one_put_there(session):
    edited = editing.click_added(session, 0, Click(place(session, 20, 2.0)))
    moved = editing.click_moved(edited, 0, 0, place(session, 24, 1.0))
    direct = editing.click_added(session, 0, Click(place(session, 24, 1.0)))
    np.testing.assert_array_equal(moved[0].posterior.draws, direct[0].posterior.draws)


def test_what_no_boundary_can_obey_is_refused(session):
    edited = editing.click_added(session, 0, Click(place(session, 20, 2.0)))
    refusals = {
        "lies outside the image": Click((1e4, 0.0)),
        "beyond the": Click(place(session, 20, 1.5 * session[0].posterior.chart.radius_max - 30)),
        "is the centre itself": Click(tuple(map(float, session[0].posterior.chart.centre))),
        "contradicts “edge”": Click(place(session, 20, -6.0)),
        "contradicts": Click(place(session, 20, 9.0), "inside"),
        "unknown kind": Click(place(session, 50, 0.0), "near"),
    }
    for sentence, click in refusals.items():
        with pytest.raises(InputError, match=sentence):
            editing.click_added(edited, 0, click)
    compatible = Click(place(session, 20, 9.0), "outside")
    assert len(editing.click_added(edited, 0, compatible)[0].clicks) == 2


def test_a_posterior_without_a_model_is_edited_by_its_draws(session):
    bare = editing.session_of([aj.replace(session[0].posterior, model=None)])
    click = Click(place(session, 20, 2.0))
    exact = editing.click_added(session, 0, click)[0].posterior
    by_draws = editing.click_added(bare, 0, click)[0].posterior
    assert by_draws.model is not None
    apart = np.abs(by_draws.estimate - exact.estimate) / exact.draws.std(axis=0)
    assert apart.max() < 0.6
    before = session[0].posterior
    assert by_draws.draws[:, 20].std() < 0.6 * before.draws[:, 20].std()
    assert editing.click_removed(editing.click_added(bare, 0, click), 0, 0)[0].posterior is (
        bare[0].posterior
    )


def test_what_spoke_against_draws_speaks_against_them_when_edited(session):
    given = aj.replace(session[0].posterior, model=None)
    found = aj.replace(given.diagnostics, findings=(Finding("red", "a cold core"),))
    edited = editing.with_earlier_doubts(session[0].posterior, aj.replace(given, diagnostics=found))
    assert aj.grade(edited).case == "red"
    failed = aj.Diagnostics(False, 3.0, khat=2.0, reasons=("chains disagree",))
    edited = editing.with_earlier_doubts(
        session[0].posterior, aj.replace(given, diagnostics=failed)
    )
    assert aj.grade(edited).case == "red"
    assert "chains disagree" in " ".join(aj.grade(edited).reasons)
    clean = editing.with_earlier_doubts(session[0].posterior, given)
    assert aj.grade(clean).case == session[0].grade.case


def doubtful(session) -> aj.Posterior:
    reasons = ("the approximation does not fit (Pareto khat 1.40, at most 0.7 wanted)",)
    found = aj.Diagnostics(False, 3.0, khat=1.4, reasons=reasons)
    return aj.replace(session[0].posterior, diagnostics=found)


def test_a_fit_that_fails_its_checks_is_refused_in_plain_words(session, monkeypatch):
    monkeypatch.setattr(editing, "fit", lambda *_, **__: doubtful(session))
    for offset, sentence in ((1.0, "more than one way"), (12.0, "contradict each other")):
        with pytest.raises(InputError, match=sentence) as refused:
            editing.click_added(session, 0, Click(place(session, 20, offset)))
        said = str(refused.value)
        assert "click nearer" in said
        assert not {"khat", "Pareto", "effective"} & set(said.split())
        assert "khat 1.40" in refused.value.__notes__[0]  # for those who want the number
    assert "12.0 mm outside" in said


def test_a_fit_that_needs_another_start_gets_it_and_the_lines_know(session, monkeypatch):
    tries = iter([doubtful(session), session[0].posterior])
    monkeypatch.setattr(editing, "fit", lambda *_, **__: next(tries))
    edited = editing.click_added(session, 0, Click(place(session, 20, 1.0)))
    assert edited[0].sampled  # `fit(..., fallback=True)` makes the same


def test_a_click_that_costs_certainty_or_makes_a_spike_is_said(session):
    far = editing.click_added(session, 0, Click(place(session, 20, 6.0)))[0].said
    assert "bends sharply at click 1" in far
    assert "wrong about this place" in far
    near = editing.click_added(session, 0, Click(place(session, 20, 0.5)))[0].said
    assert "bends" not in near
    assert "wrong" not in near
    assert "certainty" not in near
    before = session[0]
    wide = aj.replace(
        before.posterior, radii=before.posterior.estimate + 1.5 * (
            before.posterior.radii - before.posterior.estimate)
    )  # fmt: skip
    click = (Click(place(session, 20, 0.1)),)
    costly = Edit(0, click, wide, before.grade)
    assert "costs certainty" in " ".join(remarks(before, costly, session.sd))
    assert remarks(before, Edit(0, click, before.posterior, before.grade), 0.5) == []


def test_nothing_is_compiled_after_the_warm_up(session):
    """Whatever the first click says, on whichever slice, erased or not, and the second one."""
    posterior = session.given[0].posterior
    target, evidence = posterior.model.target, aj.intensity(aj.demo_phantom(seed=0).image, "PT")
    smaller = aj.boundary_model(target, evidence, radius_max=0.65 * posterior.chart.radius_max)
    two = editing.session_of([posterior, aj.replace(posterior, model=smaller)])
    lengths = {model.data.terms[0].table.pieces.shape[1] for model in (posterior.model, smaller)}
    assert len(lengths) == 2  # padded to one
    assert list(editing.kinds(two).values()) == [0]
    heard: list[str] = []

    def listener(name: str, _seconds: float, **_: object) -> None:
        if "backend_compile" in name:
            heard.append(name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        editing.warm_up(two, 1)
        del heard[:]
        edited = editing.click_added(two, 0, Click(place(session, 20, 1.0)))
        edited = editing.click_added(edited, 1, Click(place(session, 40, 2.0), "inside"))
        edited = editing.click_added(edited, 1, Click(place(session, 90, 2.0), "outside"))
        edited = editing.click_moved(edited, 1, 0, place(session, 42, 1.0))
        editing.undo(editing.click_removed(edited, 1, 0))
        assert heard == []
        jax.jit(lambda x: x + 1.25)(1.0)  # the control: something new is heard
        assert heard
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_a_click_that_is_not_followed_is_named(session):
    edit = Edit(0, (Click(place(session, 20, 5.0)),), session[0].posterior, session[0].grade)
    (sentence,) = tensions(edit, 0.2)
    assert "disagree" in sentence
    assert "5.0 mm" in sentence
    near = Edit(0, (Click(place(session, 20, 0.1)),), session[0].posterior, session[0].grade)
    assert tensions(near, 0.5) == []


def test_clicks_fill_buckets_and_the_filling_says_nothing(session):
    chart, target = session[0].posterior.chart, session[0].posterior.model.target
    points = chart.points(session[0].posterior.estimate)
    few, many = (anchors(points[:n]).tabulate(target, chart)[0] for n in (3, CLICK_BUCKET))
    assert few.radius.shape == many.radius.shape
    one_by_one = [anchors(p).tabulate(target, chart)[0] for p in points[:3]]
    radii = session[0].posterior.draws[7]

    def value(term):
        return float(aj.log_likelihood((term,), radii))

    with jax.enable_x64(True):
        assert value(few) == pytest.approx(sum(map(value, one_by_one)), abs=1e-9)
        assert value(anchors(np.zeros((0, 2))).tabulate(target, chart)[0]) == 0.0
