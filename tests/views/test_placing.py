"""A drag from the middle of a lesion to its edge: a target, or a sentence and nothing lost."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import editing
from aistat_jax._errors import InputError
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.editing import Placed, session_of, target_removed
from aistat_jax.views.live.drawn import SessionReferences
from aistat_jax.views.live.queue import Order
from tests.helpers import make_image, make_posterior

pytest.importorskip("ipympl")
pytest.importorskip("ipywidgets")

FIRST, OTHER = Ball((36.0, 60.0, 30.0), 13.0, 6.0), Ball((78.0, 62.0, 30.0), 10.0, 6.0)


@pytest.fixture(scope="module")
def fitted():
    image = image_of_balls([FIRST, OTHER], seed=0)
    targets = aj.find_targets(image, point_mm=FIRST.centre, radius_mm=13.0, slices="point")
    models = [aj.boundary_model(t, aj.intensity(image), rays=64, harmonics=8) for t in targets]
    return image, aj.fit_many(models, draws=200)


@pytest.fixture
def explorer(fitted):
    return aj.explore(*fitted, tolerance_mm=2.0)


def event(explorer, uv, button: int = 1) -> SimpleNamespace:
    axes = explorer.scene.panel.axes
    x, y = axes.transData.transform(uv)
    return SimpleNamespace(
        inaxes=axes, xdata=uv[0], ydata=uv[1], x=x, y=y, button=button, key=None, modifiers=()
    )


def drag(explorer, start, end) -> None:
    explorer.gestures.press(event(explorer, start))
    explorer.gestures.move(event(explorer, (np.array(start) + end) / 2))
    explorer.gestures.move(event(explorer, end))
    explorer.gestures.release(event(explorer, end))
    explorer.desk.queue.join()


def test_a_drag_places_a_target_that_is_corrected_saved_and_removed(explorer, tmp_path):
    given = explorer.posterior
    explorer.controls.mode.value = "place"
    assert "drag" in explorer.line.said
    drag(explorer, (78.0, 62.0), (78.0, 74.5))  # a quarter too large
    assert explorer.line.said.startswith("Placed new1")
    assert len(explorer.session) == 2
    assert explorer.session[0].posterior is given  # nothing is lost
    placed = explorer.posterior  # it is the one that is looked at
    assert placed.target_id == "new1"
    assert float(np.median(placed.estimate)) == pytest.approx(10.0, abs=1.0)
    assert np.linalg.norm(placed.chart.points(placed.estimate).mean(axis=0) - (78, 62)) < 1.5
    assert explorer.scene.panel.box.get_xdata()[0] != explorer.scene.panel.box.get_xdata()[0]

    scope = {"image": explorer.image, "posteriors": [given]}
    exec(explorer.lines, scope)
    np.testing.assert_allclose(scope["posterior"].draws, placed.draws, rtol=1e-5)

    explorer.add_click((78.0, 72.0))
    assert [len(explorer.session[n].clicks) for n in range(2)] == [0, 1]
    explorer.save_session(tmp_path / "edits.npz")
    assert aj.load_session(tmp_path / "edits.npz").placed == explorer.session.placed

    explorer.remove_target()
    assert explorer.line.said == "Removed new1."
    assert len(explorer.session) == 1
    assert explorer.posterior is given
    assert explorer.session.done == ()
    with pytest.raises(InputError, match="placed by hand"):
        target_removed(explorer.session, 0)


def test_a_quick_drag_of_which_no_move_was_heard_ends_where_it_is_let_go(explorer):
    g, axes = explorer.gestures, explorer.scene.panel.axes
    explorer.controls.mode.value = "zoom"
    g.press(event(explorer, (70.0, 54.0)))
    g.release(event(explorer, (86.0, 70.0)))
    np.testing.assert_allclose(sorted(axes.get_xlim()), (70.0, 86.0), atol=2.0)
    explorer.look_closer(None)
    explorer.controls.mode.value = "place"
    g.press(event(explorer, (78.0, 62.0)))
    g.release(event(explorer, (78.0, 74.5)))
    explorer.desk.queue.join()
    assert explorer.session.placed[0].radius == pytest.approx(12.5)


def test_a_target_is_placed_without_a_mouse(explorer):
    explorer.gestures.key(SimpleNamespace(key="d"))
    assert explorer.controls.mode.value == "place"
    explorer.controls.middle.value = "78, 62, 30"
    explorer.controls.radius.value = 9.0
    explorer.gestures.key(SimpleNamespace(key="enter"))
    explorer.desk.queue.join()
    assert explorer.session.placed[0].radius == 9.0
    assert explorer.posterior.target_id == "new1"


def test_the_middle_that_is_proposed_is_the_one_in_sight(explorer):
    controls = explorer.controls

    def proposed() -> list[float]:
        return [float(part) for part in controls.middle.value.split(",")]

    explorer.gestures.key(SimpleNamespace(key="d"))
    before = proposed()
    explorer.gestures.key(SimpleNamespace(key="up"))
    step = explorer.home.grid.spacing[2]
    np.testing.assert_allclose(np.subtract(proposed(), before), [0.0, 0.0, step], atol=0.06)
    explorer.look_closer((70.0, 86.0, 54.0, 70.0))
    np.testing.assert_allclose(proposed()[:2], [78.0, 62.0], atol=0.06)
    controls.middle.value = "78, 62, 30"  # what was written stays
    explorer.gestures.key(SimpleNamespace(key="down"))
    assert controls.middle.value == "78, 62, 30"


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ((78.0, 62.0), (78.0, 62.1), "drag to its edge"),
        ((52.0, 60.0), (52.0, 400.0), "larger than channel"),
        ((-50.0, 60.0), (-50.0, 70.0), "outside of channel"),
    ],
    ids=["no drag", "longer than the image", "beside the image"],
)
def test_a_drag_that_is_none_is_told_and_nothing_is_lost(explorer, start, end, said):
    before = explorer.session
    explorer.controls.mode.value = "place"
    drag(explorer, start, end)
    assert said in explorer.line.said
    assert explorer.session is before


def test_a_drag_in_air_or_in_even_tissue_is_told(fitted):
    image, posteriors = fitted
    values = image.primary.values.copy()
    values[:, 30:] = 0.0
    air = aj.Image.from_arrays(PT=values, spacing_mm=tuple(image.primary.grid.spacing))
    for shown, said in ((air, "no boundary to find"), (image, "no boundary is found there")):
        explorer = aj.explore(shown, posteriors, tolerance_mm=2.0)
        before = explorer.session
        explorer.place_target((60.0, 105.0, 30.0), 8.0)
        assert explorer.line.trouble
        assert said in explorer.line.said
        assert explorer.session is before
    explorer.controls.middle.value = "somewhere"
    explorer.desk.place_as_written()
    assert "three numbers" in explorer.line.said
    explorer.desk.place((1.0, 2.0), 5.0)
    assert "must be three numbers x, y, z, got (1.0, 2.0)" in explorer.line.said


def test_a_file_is_opened_with_references_and_with_models_of_the_same_places_only(fitted, tmp_path):
    """The name of a placed target that was removed is given again, to one of another place."""
    image, posteriors = fitted
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    around = np.stack([36 + 13 * np.cos(angles), 60 + 13 * np.sin(angles)], axis=1)
    explorer = aj.explore(image, posteriors, reference=aj.Curve(around), tolerance_mm=2.0)
    reference = explorer.references[0]
    explorer.place_target(OTHER.centre, 10.0)
    path = tmp_path / "edits.npz"
    explorer.save_session(path)
    explorer.open_session(path)  # the same place: with its model
    assert all(edit.posterior.model is not None for edit in explorer.session.given)
    explorer.go_to(explorer.session[1])
    explorer.remove_target()
    explorer.place_target(FIRST.centre, 11.0)
    assert explorer.posterior.target_id == "new1"
    explorer.open_session(path)
    assert "Clicks on new1 are weighed" in explorer.line.said
    assert explorer.references == [reference, None]
    first, placed = (edit.posterior for edit in explorer.session.given)
    assert first.model is posteriors[0].model
    assert placed.model is None
    explorer.go_to(explorer.session[1])
    explorer.add_click((78.0, 72.0))
    assert not explorer.line.trouble, explorer.line.said
    edited = explorer.posterior
    assert np.linalg.norm(edited.chart.points(edited.estimate).mean(axis=0) - (78, 62)) < 1.5

    bare = aj.explore(image, posteriors, reference=aj.Curve(around), tolerance_mm=2.0)
    bare.open_session(path)  # a placed target takes nothing from the others
    assert bare.references[0] is not None
    assert bare.session.given[0].posterior.model is posteriors[0].model

    read = aj.explore(image, path)  # without any model: by the same rays and harmonics
    read.go_to(read.session[1])
    assert "rays=64, harmonics=8" in read.lines
    read.place_target(FIRST.centre, 12.0)
    model = read.session.given[2].posterior.model
    assert model.data.basis.functions.shape == (64, 17)


def test_references_stay_with_their_targets_when_one_before_them_is_removed(monkeypatch):
    monkeypatch.setattr(editing, "warm_up", lambda *_: None)
    posteriors = [make_posterior(draws=100, seed=n) for n in range(4)]
    named = [aj.replace(p, target_id=name) for p, name in zip(posteriors, "abcd", strict=True)]
    placed = tuple(Placed((64.0, 64.0, at), 14.0, "PT") for at in (0.0, 1.0, 2.0))
    session = replace(session_of(named, tolerance_mm=2.0), placed=placed)
    curves = [aj.Curve(np.eye(3)[:, :2] * size) for size in (1.0, 2.0, 3.0, 4.0)]
    explorer = aj.explore(make_image(), session, reference=curves)
    for gone, left in ((1, [0, 2, 3]), (2, [0, 2])):
        explorer.go_to(explorer.session[gone])
        explorer.remove_target()
        names = [edit.posterior.target_id for edit in explorer.session.given]
        assert names == ["abcd"[n] for n in left]
        assert explorer.references == [curves[n] for n in left]


def test_references_are_joined_by_id_and_where_names_are_alike_by_draws():
    posteriors = [make_posterior(draws=100, seed=n) for n in range(3)]
    named = [aj.replace(p, target_id=name) for p, name in zip(posteriors, "abc", strict=True)]
    session = session_of(named, tolerance_mm=2.0)
    drawn = SessionReferences(session, ["A", "B", "C"], [(), None, None])
    turned = session_of(named[::-1], tolerance_mm=2.0)
    assert drawn.references(session) == ["A", "B", "C"]
    assert drawn.references(turned) == ["C", "B", "A"]
    assert drawn.others(turned) == [None, None, ()]
    read = session_of([aj.replace(p, seed=9) for p in named[1:]], tolerance_mm=2.0)
    assert drawn.references(read) == ["B", "C"]  # other records of the same names
    alike = session_of(posteriors, tolerance_mm=2.0)
    again = session_of([aj.replace(p, seed=9) for p in posteriors[1:]], tolerance_mm=2.0)
    assert SessionReferences(alike, ["A", "B", "C"]).references(again) == ["B", "C"]
    assert SessionReferences(session, ["A", "B", "C"]).references(alike) == [None] * 3


def test_orders_behind_a_removal_find_their_targets(explorer, tmp_path):
    explorer.place_target(OTHER.centre, 10.0)
    explorer.place_target(FIRST.centre, 12.0)
    gate, desk = threading.Event(), explorer.desk

    def held(session, _):
        gate.wait()
        return session, "Held."

    desk._put(Order(0, "holding", held))
    explorer.go_to(explorer.session[1])
    desk.displace()
    gone = desk.click((78.0, 72.0))
    explorer.go_to(explorer.session[2])
    kept = desk.click((36.0, 73.0))
    explorer.controls.folder.value = str(tmp_path)
    saved, written = desk.save(tmp_path / "edits.npz"), desk.export("png")
    assert desk.waiting(2) == [kept.click]
    gate.set()
    desk.queue.join()
    assert "new1 is not there any more" in str(gone.error)
    assert (kept.error, saved.error, written.error) == (None, None, None)
    assert explorer.failure == ""
    assert [edit.posterior.target_id for edit in explorer.session.given][1:] == ["new2"]
    assert explorer.session[1].clicks == (kept.click,)
    assert kept.target == saved.target == 1
    assert explorer.desk.refused is None
