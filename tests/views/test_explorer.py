"""The explorer without a browser: what it shows, what it refuses, and what it leaves behind."""

from __future__ import annotations

import base64
import io
import json
import threading
import time

import numpy as np
import PIL.Image
import pytest

import aistat_jax as aj
from aistat_jax import editing
from aistat_jax._errors import InputError
from aistat_jax.edits import Click
from aistat_jax.views import explore as doors

pytest.importorskip("ipympl")
pytest.importorskip("ipywidgets")
from aistat_jax.views.live.drawn import SessionReferences
from aistat_jax.views.live.stage import quick_png
from aistat_jax.views.live.told import spans


@pytest.fixture(scope="module")
def fitted():
    phantom = aj.demo_phantom(seed=1)
    targets = aj.find_targets(phantom.image, point_mm=tuple(phantom.centre))
    models = [aj.boundary_model(t, aj.intensity(phantom.image, "PT")) for t in targets]
    return phantom, aj.fit_many(models, draws=300)


@pytest.fixture
def explorer(fitted):
    phantom, posteriors = fitted
    references = [phantom.slices[p.chart.plane.index][0] for p in posteriors]
    return aj.explore(phantom.image, posteriors, reference=references, tolerance_mm=2.0)


def pixels(explorer) -> np.ndarray:
    return np.asarray(explorer.scene.stage.canvas.get_renderer().buffer_rgba()).copy()


def test_what_is_painted_is_what_would_be_drawn_anew(explorer):
    controls = explorer.controls
    for change in (
        lambda: setattr(controls.draw, "value", 7),
        lambda: setattr(controls.level, "value", 0.6),
        lambda: explorer.look_along(33),
        lambda: setattr(controls.bundle, "value", 3),
        lambda: setattr(controls.overlay, "value", "CT"),
        lambda: setattr(controls.draw, "value", 0),
        lambda: explorer.look_along(90),
    ):
        before = pixels(explorer)
        change()
        painted = pixels(explorer)
        assert (painted != before).any()
        explorer.scene.stage.redraw()
        np.testing.assert_array_equal(painted, pixels(explorer))


def test_a_quick_png_is_the_picture(rng):
    rgba = rng.integers(0, 256, (17, 23, 4)).astype(np.uint8)
    with PIL.Image.open(io.BytesIO(quick_png(rgba))) as image:
        np.testing.assert_array_equal(np.asarray(image), rgba)


def test_the_level_moves_the_band_that_is_read_back(explorer):
    explorer.controls.level.value = 0.6
    narrow = explorer.band
    explorer.controls.level.value = 0.95
    assert (explorer.band.half_width > narrow.half_width).all()
    assert narrow.level == 0.6


def test_a_slice_without_a_contour_says_where_there_is_one(fitted):
    phantom, posteriors = fitted
    explorer = aj.explore(phantom.image, posteriors[0])
    explorer.controls.slice.value = posteriors[-1].chart.plane.index
    assert explorer.posterior is None
    assert "no contour in slice" in explorer.controls.header.value
    explorer.add_click((0.0, 0.0))
    assert explorer.line.trouble
    assert "choose a slice" in explorer.line.said
    assert explorer.failure == ""


def test_a_refused_click_keeps_the_last_good_state(explorer):
    before = explorer.posterior
    explorer.add_click((1e4, 0.0))
    assert explorer.line.trouble
    assert "outside the image" in explorer.line.said
    assert explorer.posterior is before
    assert explorer.clicks == ()


def test_a_failing_callback_is_named_and_loses_nothing(explorer, monkeypatch):
    before = explorer.posterior

    def broken(*_, **__):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("aistat_jax.editing.click_added", broken)
    explorer.add_click((0.0, 0.0))
    assert "ZeroDivisionError" in explorer.line.said
    assert "by nought" in explorer.failure
    assert explorer.posterior is before


def test_its_lines_make_the_edited_posterior_again(explorer, fitted):
    phantom, posteriors = fitted
    place = explorer.posterior.chart.points(explorer.posterior.estimate + 1.0)[9]
    explorer.add_click(tuple(place))
    assert len(explorer.clicks) == 1, explorer.line.said
    scope = {"image": phantom.image, "posteriors": posteriors}
    exec(explorer.lines, scope)
    np.testing.assert_array_equal(scope["posterior"].draws, explorer.posterior.draws)
    assert scope["grade"].case == explorer.grade.case
    explorer.undo()
    assert explorer.clicks == ()


def test_every_export_is_a_file_and_holds_every_slice(explorer, fitted, tmp_path):
    _, posteriors = fitted
    out = tmp_path / "out"
    explorer.controls.folder.value = str(out)
    for what in ("nifti", "csv", "png", "svg", "posterior", "python"):
        explorer.export(what)
        assert explorer.line.said.startswith("Wrote "), explorer.line.said
    name = explorer.posterior.target_id
    assert {path.name for path in out.iterdir()} == {
        "probability.nii.gz", "contours.csv", f"{name}.png", f"{name}.svg", "posterior.nc",
        "edits.py",
    }  # fmt: skip
    explorer.export("all")
    again = aj.load_posterior(out / "posterior.nc")
    assert [p.target_id for p in again] == [p.target_id for p in posteriors]
    np.testing.assert_array_equal(again[-1].radii, posteriors[-1].radii)
    summary = json.loads((out / "summary.json").read_text())
    assert [target["id"] for target in summary["targets"]] == [p.target_id for p in posteriors]
    inside = aj.read_image(p=out / "probability.nii.gz").primary.values
    slices = [p.chart.plane.index for p in posteriors]
    assert (inside[:, :, slices].max(axis=(0, 1)) > 0.9).all()
    rows = (out / "contours.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {p.target_id for p in posteriors}
    assert (out / "report.html").is_file()
    explorer.export("dicom")
    assert "unknown export" in explorer.line.said
    (tmp_path / "file").write_text("")
    explorer.controls.folder.value = str(tmp_path / "file")
    explorer.export("png")
    assert "cannot be written" in explorer.line.said


@pytest.fixture
def held(monkeypatch):
    """Refits that wait to be let go, and are then quick: a click names its own posterior."""
    gate, begun = threading.Event(), threading.Event()

    def fitted_slowly(session, before, clicks, sample):
        begun.set()
        assert gate.wait(30)
        return aj.replace(session.given[before.target].posterior, method="held"), sample

    monkeypatch.setattr(editing, "_fitted", fitted_slowly)
    monkeypatch.setattr(editing, "warm_up", lambda *_: None)
    return gate, begun


def on(explorer, ray: int) -> tuple[float, float]:
    u, v = explorer.posterior.chart.points(explorer.posterior.estimate)[ray]
    return float(u), float(v)


def test_clicks_made_while_one_is_refitted_wait_and_land_where_they_were_made(explorer, held):
    gate, begun = held
    slices = [p.chart.plane.index for p in (edit.posterior for edit in explorer.session.given)]
    explorer.controls.slice.value = slices[1]
    explorer.controls.mode.value = "edge"
    first, second = on(explorer, 10), on(explorer, 60)
    explorer.desk.click(first)
    assert begun.wait(10)
    explorer.desk.click(second, "inside")
    assert "taken" in explorer.line.said
    assert explorer.desk.waiting(1) == [Click(rounded(first)), Click(rounded(second), "inside")]
    explorer.controls.slice.value = slices[0]  # one goes elsewhere while it compiles
    third = explorer.desk.click(on(explorer, 90), "outside")
    undone = explorer.desk.undo()
    last = explorer.desk.click(on(explorer, 30))
    assert explorer.clicks == ()
    gate.set()
    assert last.done.wait(30)
    assert third.error is undone.error is None
    explorer.desk.queue.join()
    assert [click.kind for click in explorer.session[1].clicks] == ["edge", "inside"]
    assert [click.kind for click in explorer.session[0].clicks] == ["edge"]
    assert explorer.session[2].clicks == ()
    assert explorer.controls.slice.value == slices[0]  # nobody is taken elsewhere
    assert explorer.desk.waiting(1) == []


def rounded(point):
    return tuple(round(value, 2) for value in point)


def test_a_refused_click_keeps_those_after_it(explorer, held):
    gate, _ = held
    bad, good = explorer.desk.click((1e4, 0.0)), explorer.desk.click(on(explorer, 5))
    gate.set()
    assert good.done.wait(30)
    assert "outside the image" in str(bad.error)
    assert len(explorer.clicks) == 1


def test_a_dragged_click_is_the_one_that_was_taken_hold_of(explorer, held):
    gate, _ = held
    gate.set()
    explorer.add_click(on(explorer, 5))
    explorer.add_click(on(explorer, 50))
    first, second = explorer.clicks
    removed = explorer.desk.remove(explorer.target, first)
    moved = explorer.desk.move(explorer.target, second, on(explorer, 55))
    again = explorer.desk.move(explorer.target, first, on(explorer, 9))
    assert again.done.wait(30)
    assert removed.error is moved.error is None
    assert "not there any more" in str(again.error)
    assert [click.point for click in explorer.clicks] == [rounded(on(explorer, 55))]


def test_what_is_being_done_is_said_with_the_time_it_has_taken(explorer, held):
    gate, begun = held
    explorer.desk.click(on(explorer, 5))
    explorer.desk.click(on(explorer, 9))
    assert begun.wait(10)
    time.sleep(1.2)
    name = explorer.posterior.target_id
    assert explorer.desk.queue.state == f"refitting {name}, 1 s so far; 1 edit waits"
    assert "1 s so far" in explorer.controls.status.value
    gate.set()
    explorer.desk.queue.join()
    assert "so far" not in explorer.desk.queue.state


def test_nothing_to_undo_is_no_trouble(explorer):
    explorer.undo()
    assert explorer.line.said == "Nothing to undo."
    assert not explorer.line.trouble


def test_a_session_is_saved_opened_and_gone_on_with(explorer, fitted, held, tmp_path):
    phantom, posteriors = fitted
    gate, _ = held
    gate.set()
    explorer.add_click(on(explorer, 5))
    explorer.add_click(on(explorer, 70), "inside")
    explorer.undo()
    path = tmp_path / "edits.npz"
    explorer.save_session(path)
    assert "1 edit to" in explorer.line.said
    other = aj.explore(phantom.image, path)
    assert other.clicks == explorer.clicks
    assert "Read from a file" in other.line.said
    other.redo()
    assert len(other.clicks) == 2
    own = aj.explore(phantom.image, posteriors, tolerance_mm=2.0)
    own.open_session(path)
    assert own.clicks == explorer.clicks
    assert own.session.given[0].posterior.model is posteriors[0].model
    own.open_session(tmp_path / "none.npz")
    assert "no such file" in own.line.said
    assert own.clicks == explorer.clicks
    with pytest.raises(InputError, match="a session has a tolerance"):
        aj.explore(phantom.image, explorer.session, tolerance_mm=2.0)


def test_a_file_of_the_command_line_is_opened_by_its_name(fitted, tmp_path):
    phantom, posteriors = fitted
    explorer = aj.explore(phantom.image, aj.save_posterior(tmp_path / "posterior.nc", posteriors))
    assert len(explorer.session) == len(posteriors)
    assert all(model.data.terms == () for model in explorer.session.models)


def test_two_contours_of_one_slice_are_both_reached(fitted):
    phantom, posteriors = fitted
    other = aj.replace(posteriors[0], target_id="beside")
    explorer = aj.explore(phantom.image, [posteriors[0], other])
    assert explorer.controls.target.layout.display == "flex"
    assert explorer.posterior.target_id == posteriors[0].target_id
    explorer.controls.target.value = 1
    assert explorer.posterior.target_id == "beside"
    explorer.gestures.key(Key("t"))
    assert explorer.target == 0


class Key:
    def __init__(self, key: str) -> None:
        self.key = key


def test_slices_with_contours_are_named_truly():
    assert spans([28, 29, 30, 41]) == "slices 28 to 30 and 41"
    assert spans([7]) == "slice 7"
    assert spans([1, 3, 5]) == "slices 1, 3 and 5"
    assert spans([2, 3]) == "slices 2 to 3"


def test_the_legend_lists_what_is_shown(explorer):
    def listed():
        return {text.get_text() for text in explorer.scene._legend.get_texts()}

    assert "one draw" not in listed()
    assert "ray looked along" not in listed()
    explorer.controls.draw.value = 3
    assert "one draw" in listed()
    explorer.look_along(5)
    assert "ray looked along" in listed()
    explorer.controls.draw.value = 0
    assert "one draw" not in listed()
    shown = {name for name, part in explorer.grade.fraction.items() if part > 0}
    assert {words.split(":")[0] for words in listed() if ":" in words} == shown


def test_one_looks_closely_and_back_again(explorer):
    axes = explorer.scene.panel.axes
    usual = axes.get_xlim(), axes.get_ylim()
    u, v = explorer.posterior.chart.centre
    explorer.look_closer((u - 10, u + 10, v - 10, v + 10))
    assert abs(np.ptp(axes.get_ylim()) - 20) < 1e-6
    assert np.ptp(axes.get_xlim()) >= 20
    close = axes.get_xlim()
    explorer.look_closer((u, u + 0.1, v, v + 0.1))  # closer than two pixels: no
    assert axes.get_xlim() == close
    explorer.gestures.key(Key("0"))
    assert (axes.get_xlim(), axes.get_ylim()) == usual


def test_the_picture_takes_the_room_there_is(explorer):
    explorer.room.width, explorer.room.height = 940, 645
    width, height = explorer.scene.size
    assert width < 940
    assert height < 645 - 170
    small = explorer.scene.panel.axes.bbox.height
    explorer.room.width, explorer.room.height = 1490, 960
    assert explorer.scene.size[0] > 1400
    assert explorer.scene.panel.axes.bbox.height > 1.4 * small


def test_a_picture_stands_in_where_no_kernel_runs(explorer, capsys):
    shown = explorer.still()
    data = shown.split("base64,")[1].split('"')[0]
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert ".lm-Widget .aistat-still{display:none}" in shown
    explorer._ipython_display_()
    assert "HTML object" in capsys.readouterr().out


def test_a_posterior_of_another_image_is_refused(fitted):
    phantom, posteriors = fitted
    other = aj.pet_ct_phantom(3, scene="body").image
    with pytest.raises(InputError, match="is of another image"):
        aj.explore(other, posteriors)
    with pytest.raises(InputError, match="is of another image"):
        aj.compare(other, {"one": posteriors[0]})
    with pytest.raises(InputError, match="no posterior"):
        aj.explore(phantom.image, [])
    with pytest.raises(InputError, match="as many references"):
        aj.explore(phantom.image, posteriors, reference=phantom.truth)
    with pytest.raises(InputError, match="level must lie"):
        aj.explore(phantom.image, posteriors, level=1.5)


def test_without_widgets_a_figure_comes_back_with_a_sentence(fitted, monkeypatch, capsys):
    phantom, posteriors = fitted
    monkeypatch.setattr(doors, "what_is_missing", lambda: "ipympl")
    figure = aj.explore(phantom.image, posteriors[0])
    assert hasattr(figure, "savefig")
    assert "ipympl is not installed" in capsys.readouterr().out
    assert hasattr(aj.compare(phantom.image, {"one": posteriors[0]}), "savefig")


def test_posteriors_side_by_side_follow_one_slider(fitted):
    phantom, posteriors = fitted
    several = {"a": posteriors[0], "b": posteriors[0]}
    view = aj.compare(phantom.image, several, tolerance_mm=2.0)
    table = view.table.value
    view.sliders.level.value = 0.6
    assert view.table.value != table
    assert view.bands["a"].level == view.bands["b"].level == 0.6
    assert view.failure == ""
    assert "data:image/png" in view.still()


def test_a_second_reading_is_dashed(explorer):
    panel, target = explorer.scene.panels[0], explorer.target
    assert len(panel.other.get_segments()) == 0
    plain, readings = explorer.drawn, [None] * len(explorer.session)
    readings[target] = (explorer.posterior.chart.surface(explorer.posterior.draws[0]),)
    explorer.drawn = SessionReferences(explorer.session, explorer.references, readings)
    explorer.show_target()
    assert len(panel.other.get_segments()) == 2
    explorer.drawn = plain
    explorer.show_target()
    assert len(panel.other.get_segments()) == 0
