"""The explorer without a browser: what it shows, what it refuses, and what it leaves behind."""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.views import explore as doors

pytest.importorskip("ipympl")
pytest.importorskip("ipywidgets")
from aistat_jax.views.live.stage import quick_png


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


def test_every_export_is_a_file(explorer, tmp_path):
    explorer.controls.folder.value = str(tmp_path / "out")
    for what in ("nifti", "csv", "png", "svg", "posterior", "python"):
        explorer.export(what)
        assert explorer.line.said.startswith("Wrote "), explorer.line.said
    assert len(list((tmp_path / "out").iterdir())) == 6
    name = explorer.posterior.target_id
    (again,) = aj.load_posterior(tmp_path / "out" / f"{name}.nc")
    np.testing.assert_array_equal(again.radii, explorer.posterior.radii)
    explorer.export("dicom")
    assert "unknown export" in explorer.line.said
    (tmp_path / "file").write_text("")
    explorer.controls.folder.value = str(tmp_path / "file")
    explorer.export("png")
    assert "cannot be written" in explorer.line.said


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
