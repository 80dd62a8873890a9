"""Three linked planes through a surface, without a browser: cross-hair, edits, undo, files."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.space.chart import interpolated
from aistat_jax.space.curve import region_of
from aistat_jax.views.stacks import BodyPlanes, Slices, stacks_of

pytest.importorskip("ipympl")
pytest.importorskip("ipywidgets")

DRAWS = 300


@pytest.fixture(scope="module")
def fitted():
    phantom = aj.pet_ct_phantom(1, dims=3)
    target = aj.find_targets(phantom.image, point_mm=tuple(phantom.centre), dims=3)[0]
    evidence = aj.intensity(phantom.image, "PT")
    model = aj.boundary_model(target, evidence, rays=362, harmonics=6)
    return phantom, aj.fit(model, draws=DRAWS)


@pytest.fixture
def explorer(fitted):
    phantom, posterior = fitted
    return aj.explore(phantom.image, posterior, reference=phantom.mask, tolerance_mm=2.0)


def event(explorer, panel: int, uv, button: int = 1, **more) -> SimpleNamespace:
    """The mouse at a point of a plane."""
    axes = explorer.scene.panels[panel].axes
    x, y = axes.transData.transform(uv)
    base = {"inaxes": axes, "xdata": uv[0], "ydata": uv[1], "x": x, "y": y, "button": button}
    return SimpleNamespace(**base, key=None, modifiers=(), **more)


def on_surface(explorer, panel: int, offset: float = 0.0) -> tuple[float, float]:
    """A point `offset` outside of the section that a plane shows."""
    plane, chart = explorer.scene.plane(panel), explorer.posterior.chart
    values = np.asarray(explorer.posterior.estimate) + offset
    u, v = chart.sections(values, plane)[0].points[3]
    return float(u), float(v)


def test_what_an_edit_has_changed_is_shown_before_it_is_said(explorer):
    """Whoever reads the new volume in the line finds it in the heading and in the picture."""
    seen = []

    def note(_) -> None:
        words = explorer.scene.words.size.get_text().replace("\n", " ")
        seen.append((explorer.line.said, explorer.controls.header.value, words))

    before = str(aj.volume_posterior(explorer.posterior))
    explorer.line.observe(note, "value")
    explorer.add_click(explorer.scene.point(0, on_surface(explorer, 0, 3.0)))
    after = str(aj.volume_posterior(explorer.posterior))
    ((_, heading, words),) = [each for each in seen if each[0].startswith("Volume")]
    assert after != before  # negative control: it is another
    assert after in heading
    assert after in words


def test_planes_of_the_patient_pass_through_one_point(fitted):
    phantom, _ = fitted
    home, point = phantom.image["PT"], np.array([3.3, -7.1, 5.9])
    for stack, across in zip(stacks_of(home, 3), (2, 1, 0), strict=True):
        plane = stack.plane(stack.number_of(point))
        (u, v), normal = plane.to_uv(point), plane.frame[:, 2]
        np.testing.assert_allclose(stack.point((u, v), stack.number_of(point)), point)
        assert np.abs(normal[across]) == 1
        # numbers grow with x, y and z, one a voxel
        further = point + np.eye(3)[across] * home.grid.spacing[across]
        assert np.isclose(stack.number_of(further) - stack.number_of(point), 1)
    assert isinstance(stacks_of(home, 2)[0], Slices)
    assert len(stacks_of(home, 2)) == 1


def test_a_plane_along_the_voxels_is_the_voxels(fitted):
    home = fitted[0].image["PT"]
    coronal = BodyPlanes(home, "coronal")
    assert coronal.count == home.grid.shape[1]
    np.testing.assert_allclose(coronal.shown(home, 7).values, home.values[:, 7, :])
    assert np.abs(coronal.shown(home, 7.5).values - home.values[:, 7, :]).max() > 0.01


def test_other_channels_are_seen_on_their_own_pixels(fitted):
    image = fitted[0].image
    axial = BodyPlanes(image["PT"], "axial")
    for name in image.names:
        shown = axial.shown(image[name], 8)
        np.testing.assert_allclose(shown.sides, image[name].grid.spacing[:2])
        assert shown.plane.offset == axial.plane(8).offset


def test_a_click_with_no_tool_moves_the_cross_hair_in_every_plane(explorer):
    before = list(explorer.scene.numbers)
    explorer.gestures.press(event(explorer, 1, (-12.0, 8.0)))  # coronal: x, z
    at = explorer.scene.at
    np.testing.assert_allclose(at[[0, 2]], [-12.0, 8.0])
    for n, panel in enumerate(explorer.scene.panels):
        u, v = panel.plane.to_uv(at)
        assert (panel.cross[0].get_xdata()[0], panel.cross[1].get_ydata()[0]) == (u, v)
        assert np.isclose(panel.plane.frame[:, 2] @ at, panel.plane.offset), n
    assert explorer.scene.numbers[1] == before[1]  # in the plane itself
    assert explorer.scene.numbers[0] != before[0]
    assert explorer.scene.active == 1
    assert explorer.controls.slice.description == "coronal"
    explorer.gestures.press(event(explorer, 1, (1e4, 8.0)))
    assert "outside" in explorer.line.said
    np.testing.assert_allclose(explorer.scene.at, at)


def test_keys_and_wheel_step_through_the_plane_that_is_pointed_at(explorer):
    before, at = list(explorer.scene.numbers), explorer.scene.at.copy()
    explorer.gestures.scroll(event(explorer, 2, (0.0, 0.0), step=1))
    assert explorer.scene.active == 2
    explorer.gestures.key(SimpleNamespace(key="up"))
    assert explorer.scene.numbers[2] == pytest.approx(round(before[2] + 2), abs=1)
    moved = explorer.scene.at - at
    assert moved[0] > 0
    np.testing.assert_allclose(moved[1:], 0)
    explorer.gestures.key(SimpleNamespace(key="p"))
    assert explorer.scene.active == 0
    explorer.controls.slice.value += 1
    assert explorer.scene.numbers[0] == explorer.controls.slice.value
    assert explorer.failure == ""


def test_each_plane_shows_the_section_of_the_surface(explorer):
    chart, estimate = explorer.posterior.chart, np.asarray(explorer.posterior.estimate)
    explorer.look_at(chart.centre + np.array([2.0, -3.0, 1.0]))
    for panel in explorer.scene.panels:
        shown = [np.asarray(line) for line in panel.outline.get_segments()]
        lines = shown[: len(shown) // 2]
        expected = region_of(chart.sections(estimate, panel.plane))
        area = sum(0.5 * np.sum(a[:-1, 0] * a[1:, 1] - a[1:, 0] * a[:-1, 1]) for a in lines)
        assert area == pytest.approx(expected.area, rel=1e-9)
        on_it = panel.plane.to_world(lines[0][:-1])  # seen again by the chart
        assert np.abs(interpolated(chart, estimate, on_it) - chart.position(on_it)).max() < 0.1
    explorer.step_to(0, 0)  # beyond the surface: no section, and that is no failure
    assert explorer.scene.panels[0].outline.get_segments() == []
    assert explorer.failure == ""


def test_an_anchor_in_the_coronal_plane_moves_the_surface_there(explorer):
    before = explorer.posterior
    explorer.controls.mode.value = "edge"
    uv = on_surface(explorer, 1, 3.0)
    explorer.gestures.press(event(explorer, 1, uv))
    explorer.gestures.release(event(explorer, 1, uv))
    explorer.desk.queue.join()
    assert len(explorer.clicks) == 1, explorer.line.said
    point = explorer.clicks[0].point
    np.testing.assert_allclose(point, explorer.scene.point(1, uv), atol=0.01)
    after, chart = explorer.posterior, before.chart
    site = int(chart.nearest(point))
    assert after.estimate[site] > before.estimate[site] + 0.5
    opposite = int(np.argmin(chart.directions @ chart.directions[site]))
    assert abs(after.estimate[opposite] - before.estimate[opposite]) < 0.5
    assert "Volume" in explorer.line.said
    assert "ml" in explorer.scene.words.size.get_text()
    # it is seen where it lies, and in no plane that is far from it
    assert len(explorer.scene.panels[1].places(explorer.clicks)) == 1
    assert np.isfinite(explorer.scene.panels[1].places(explorer.clicks)).all()
    explorer.step_to(1, explorer.scene.numbers[1] + 4)
    assert np.isnan(explorer.scene.panels[1].places(explorer.clicks)).all()
    explorer.undo()
    assert explorer.posterior is before
    explorer.redo()
    np.testing.assert_array_equal(explorer.posterior.draws, after.draws)


def test_a_click_outside_of_the_image_or_of_what_was_read_changes_nothing(explorer):
    before = explorer.posterior
    for point, words in (((1e4, 0.0, 0.0), "outside the image"), ((0.0, 0.0), "3 dimensions")):
        explorer.add_click(point)
        assert explorer.line.trouble
        assert words in explorer.line.said
    assert explorer.posterior is before
    assert explorer.failure == ""


def test_its_lines_make_the_edited_surface_again(explorer, fitted):
    phantom, posterior = fitted
    explorer.add_click(tuple(posterior.chart.points(posterior.estimate + 1.0)[9]))
    assert len(explorer.clicks) == 1, explorer.line.said
    scope = {"image": phantom.image, "posterior": posterior}
    exec(explorer.lines, scope)
    np.testing.assert_allclose(scope["posterior"].draws, explorer.posterior.draws, rtol=1e-9)
    assert scope["grade"].case == explorer.grade.case


def test_the_tolerance_slider_grades_anew_and_no_draw_moves(explorer):
    draws, wide = explorer.posterior.draws, explorer.grade
    explorer.controls.tolerance.value = 1.0
    narrow = explorer.grade
    assert narrow.tolerance == 1.0
    assert (narrow.local >= wide.local).all()
    assert (narrow.local > wide.local).any()
    same = aj.grade(explorer.posterior, tolerance_mm=1.0)
    np.testing.assert_array_equal(same.local, narrow.local)
    assert same.reasons == narrow.reasons
    assert "1 mm" in explorer.scene.words.size.get_text()
    assert explorer.posterior.draws is draws or (explorer.posterior.draws == draws).all()
    assert "tolerance_mm=1)" in explorer.lines


def test_a_session_of_surfaces_is_saved_and_gone_on_with(explorer, fitted, tmp_path):
    phantom, posterior = fitted
    for ray in (9, 70):
        explorer.add_click(tuple(posterior.chart.points(posterior.estimate + 0.5)[ray]))
        assert not explorer.line.trouble, explorer.line.said
    explorer.undo()
    path = tmp_path / "edits.npz"
    explorer.save_session(path)
    own = aj.explore(phantom.image, posterior, tolerance_mm=2.0)
    own.open_session(path)
    assert own.clicks == explorer.clicks
    assert len(own.clicks[0].point) == 3
    np.testing.assert_array_equal(own.posterior.radii, explorer.posterior.radii)
    own.redo()
    assert len(own.clicks) == 2
    assert own.failure == ""
    target = aj.find_targets(phantom.image, point_mm=tuple(phantom.centre), slices="point")[0]
    flat = aj.fit(aj.boundary_model(target, aj.intensity(phantom.image, "PT")), draws=100)
    aj.explore(phantom.image, flat, tolerance_mm=2.0).save_session(tmp_path / "flat.npz")
    own.open_session(tmp_path / "flat.npz")
    assert "not of the kind shown here" in own.line.said
    assert len(own.clicks) == 2


def test_a_file_of_the_command_line_is_opened_and_edited_by_its_draws(fitted, tmp_path):
    phantom, posterior = fitted
    path = aj.save_posterior(tmp_path / "posterior.nc", [posterior])
    explorer = aj.explore(phantom.image, path, tolerance_mm=2.0)
    assert "Read from a file" in explorer.line.said
    before = explorer.posterior
    point = tuple(before.chart.points(before.estimate + 2.0)[9])
    explorer.add_click(point)
    assert len(explorer.clicks) == 1, explorer.line.said
    assert explorer.posterior.estimate[9] > before.estimate[9] + 0.5
    assert "model_from_draws" in explorer.lines
    assert aj.plot_surface(phantom.image, explorer.posterior)


def test_everything_is_exported_of_a_surface(explorer, tmp_path):
    explorer.controls.folder.value = str(tmp_path / "out")
    explorer.export("png")
    assert explorer.line.said.startswith("Wrote "), explorer.line.said
    explorer.controls.folder.value = str(tmp_path / "all")
    explorer.export("all")
    assert explorer.line.said.startswith("Wrote "), explorer.line.said
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"surface.surf.gii", "posterior.nc", "summary.json", "edits.py"} <= names


def test_the_planes_take_the_room_there_is(explorer):
    for width, height in ((930, 645), (1490, 960)):
        explorer.room.width, explorer.room.height = width, height
        boxes = [panel.axes.get_window_extent() for panel in explorer.scene.panels]
        figure = explorer.scene.stage.figure.bbox
        assert sum(box.width for box in boxes) > 0.93 * figure.width
        assert min(box.height for box in boxes) > 0.4 * figure.height
        for panel in explorer.scene.panels:  # one scale for both axes, and for all planes
            box, axes = panel.axes.get_window_extent(), panel.axes
            across, down = np.ptp(axes.get_xlim()) / box.width, np.ptp(axes.get_ylim()) / box.height
            assert across == pytest.approx(down, rel=1e-6)


def test_what_does_not_belong_together_is_refused(fitted):
    phantom, posterior = fitted
    target = aj.find_targets(phantom.image, point_mm=tuple(phantom.centre), slices="point")[0]
    flat = aj.fit(aj.boundary_model(target, aj.intensity(phantom.image, "PT")), draws=100)
    with pytest.raises(InputError, match="some contours in slices"):
        aj.explore(phantom.image, [posterior, flat])
    far = aj.replace(posterior, chart=aj.replace(posterior.chart, centre=np.full(3, 1e4)))
    with pytest.raises(InputError, match="does not lie in any channel"):
        aj.explore(phantom.image, far)
    with pytest.raises(InputError, match="a surface with a Mesh"):
        aj.explore(phantom.image, posterior, reference=phantom.truth)
    with pytest.raises(InputError, match="a comparison shows contours"):
        aj.compare(phantom.image, {"one": posterior})
