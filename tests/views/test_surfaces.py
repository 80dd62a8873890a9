"""Is a surface drawn, written and tabulated where it is, with what is known of it?"""

from __future__ import annotations

import csv

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import aistat_jax as aj
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image
from aistat_jax.views.bodies import Look, draw_body
from aistat_jax.views.style import BAND, GRADE_LOOKS
from aistat_jax.views.surface_files import sections_csv, vertex_colours
from aistat_jax.views.surfaces import _SIDES
from tests.helpers import make_posterior, make_surface, make_volume
from tests.views.legible import faults


@pytest.fixture(scope="module")
def posterior():
    return make_surface(sd=0.05, swell=4.0)


@pytest.fixture(scope="module")
def band(posterior):
    return aj.simultaneous_band(posterior)


@pytest.fixture(scope="module")
def grade(posterior):
    return aj.grade(posterior)


@pytest.mark.parametrize("ending", ["surf.gii", "ply"])
def test_files_hold_the_surfaces_and_their_values(tmp_path, posterior, band, grade, ending):
    files = aj.write_surface(tmp_path / f"lesion.{ending}", posterior, band, grade)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in files)
    mesh, values = aj.read_surface(tmp_path / f"lesion.{ending}")
    lower, upper = (tmp_path / f"lesion.{edge}.{ending}" for edge in ("lower", "upper"))
    assert aj.read_surface(lower)[0].volume < mesh.volume < aj.read_surface(upper)[0].volume
    assert mesh.volume == pytest.approx(
        float(posterior.chart.content(posterior.estimate)), rel=3e-3
    )
    widths = {"half_width", "half_width_pointwise"}
    assert set(values) == widths | {"p_wrong", "trusted_to", "grade"}
    place = aj.pointwise_band(posterior, band.level).half_width
    assert values["half_width_pointwise"].mean() < 0.8 * values["half_width"].mean()
    for site in range(0, posterior.chart.sites, 40):  # what is at a ray is at the vertex on it
        point = posterior.chart.points(posterior.estimate)[site]
        vertex = int(np.linalg.norm(mesh.points - point, axis=1).argmin())
        assert values["half_width"][vertex] == pytest.approx(band.half_width[site], abs=1e-4)
        assert values["half_width_pointwise"][vertex] == pytest.approx(place[site], abs=1e-4)
        assert values["p_wrong"][vertex] == pytest.approx(grade.exceedance[site], abs=1e-4)
        assert values["grade"][vertex] == grade.local[site]
        assert values["trusted_to"][vertex] == pytest.approx(grade.local_trusted_to[site], abs=1e-4)
    right = mesh.points[:, 0] > posterior.chart.centre[0] + 5
    left = mesh.points[:, 0] < posterior.chart.centre[0] - 5
    assert values["half_width"][right].mean() > 1.5 * values["half_width"][left].mean()


def test_files_of_an_earlier_time_go(tmp_path, posterior, band, grade):
    (tmp_path / "note.txt").write_text("mine")
    aj.write_surface(tmp_path / "lesion.surf.gii", posterior, band, grade)
    (again,) = aj.write_surface(tmp_path / "lesion.surf.gii", posterior)
    assert {p.name for p in tmp_path.iterdir()} == {"note.txt", "lesion.surf.gii"}
    assert aj.read_surface(again)[1] == {}


def test_vertices_have_the_colours_of_the_grades(posterior, grade):
    assert len(set(grade.local.tolist())) > 1
    mesh = posterior.chart.surface(posterior.estimate)
    colours = vertex_colours(posterior.chart, mesh, grade)
    for code in set(grade.local.tolist()):
        at = grade.local[posterior.chart.nearest(mesh.points)] == code
        name = GRADE_LOOKS[code].colour
        assert (colours[at] == [int(name[n : n + 2], 16) for n in (1, 3, 5)]).all()


def test_nothing_is_written_for_what_is_no_surface(tmp_path, posterior, band):
    flat = make_posterior()
    for write in (
        lambda: aj.write_surface(tmp_path / "lesion.ply", flat),
        lambda: aj.write_surface(tmp_path / "lesion.stl", posterior),
        lambda: aj.write_surface(tmp_path / "lesion.ply", posterior, aj.simultaneous_band(flat)),
        lambda: aj.write_surface(tmp_path / "lesion.surf.gii", make_surface(unit="px")),
        lambda: aj.write_sections(tmp_path / "contours.csv", flat, make_volume()),
        lambda: aj.plot_surface(make_volume(), flat),
    ):
        with pytest.raises(aj.InputError):
            write()
    assert list(tmp_path.iterdir()) == []


def test_sections_are_a_table(tmp_path, posterior, band):
    image = make_volume()
    path = aj.write_sections(tmp_path / "contours.csv", posterior, image, band)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_loop: dict[tuple[str, str, str], list[list[float]]] = {}
    for row in rows:
        place = [float(row[f"{axis}_mm"]) for axis in "xyz"]
        by_loop.setdefault((row["kind"], row["slice"], row["loop"]), []).append(place)
    spacing = image.primary.grid.spacing[2]
    volume: dict[str, float] = dict.fromkeys(("lower", "estimate", "upper"), 0.0)
    for (kind, _, _), points in by_loop.items():
        area = aj.Curve(np.array(points)[:, :2]).signed_area  # slices of this image lie across z
        volume[kind] += area * spacing
    assert volume["estimate"] == pytest.approx(
        posterior.chart.content(posterior.estimate), rel=0.04
    )
    assert volume["lower"] < volume["estimate"] < volume["upper"]
    text = sections_csv([posterior, posterior], image)
    assert text.count("target,slice") == 1
    assert text.count("\n") == 2 * len(rows) + 1


# -------------------------------------------------------------------------------------- figure


@pytest.mark.parametrize(("known", "width_mm"), [("band", 180), ("grade", 88), ("none", 180)])
def test_every_panel_is_legible(posterior, band, grade, known, width_mm):
    figure = aj.plot_surface(
        make_volume(), posterior, band if known == "band" else None,
        grade if known == "grade" else None, width_mm=width_mm,
    )  # fmt: skip
    assert faults(figure) == []
    assert len(figure.axes) == 3 + 2


def test_a_turned_volume_is_shown_on_the_patients_planes(posterior, band):
    """The same object stored on axes that are nobody's: the planes show it where it is."""
    straight = make_volume()
    turn, move = 0.35, np.eye(4)
    affine = straight.primary.grid.affine.copy()
    move[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    shape = (80, 60, 40)
    affine = move @ affine @ np.diag([1, 1, 0.5, 1])
    middle = np.array([63.0, 61.0, 40.0])
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(shape) - 1) / 2
    grid = Grid(affine, shape)
    depth = np.sqrt((((grid.points() - middle) / (14.0, 10.0, 12.0)) ** 2).sum(axis=-1))
    turned = Image.of(Channel((depth < 1) * 6.0, grid, "PT", "SUV"))
    for name, image in (("turned", turned), ("straight", straight)):
        figure = aj.plot_surface(image, posterior, band, title=None)
        axial, coronal, sagittal = figure.axes[:3]
        for axes, (one, other) in zip(
            (axial, coronal, sagittal), ((0, 1), (0, 2), (1, 2)), strict=True
        ):
            (picture,) = axes.images
            shown = np.asarray(picture.get_array().filled(0.0))  # (v, u)
            hot = np.argwhere(shown > 3.5).mean(axis=0)
            left, right, bottom, top = picture.get_extent()
            u = left + (hot[1] + 0.5) / shown.shape[1] * (right - left)
            v = bottom + (hot[0] + 0.5) / shown.shape[0] * (top - bottom)
            assert np.allclose((u, v), middle[[one, other]], atol=1.0), name
            letters = "".join(text.get_text() for text in axes.texts)
            pairs = ("RL", "AP", "SI")
            assert sorted(letters) == sorted(pairs[one] + pairs[other])
            low, high = axes.get_xlim()
            assert low > high  # right, or front, of the patient is on the left


def test_the_planes_go_where_they_are_asked(posterior, band):
    image = make_volume()
    figure = aj.plot_surface(image, posterior, band, at=(60.0, 62.0, 44.0), reference=None)
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert titles == ["axial, z = 44 mm", "coronal, y = 62 mm", "sagittal, x = 60 mm"]
    with pytest.raises(aj.InputError, match="lies outside of channel PT"):
        aj.plot_surface(image, posterior, at=(600.0, 62.0, 44.0))
    with pytest.raises(aj.InputError, match="no channel 'MR'"):
        aj.plot_surface(image, posterior, channel="MR")


def test_a_volume_thinner_than_the_band_cuts_nothing_off(posterior, band):
    image = make_volume()
    affine = image.primary.grid.affine.copy()
    affine[:3, 3] = image.primary.grid.to_world(np.array([0, 0, 9]))
    thin = Grid(affine, (64, 60, 3))
    slab = Channel(image.primary.values[:, :, 9:12], thin, "PT", "SUV")
    figure = aj.plot_surface(Image.of(slab), posterior, band)
    for axes in figure.axes[:3]:
        edges = [line for line in axes.lines if to_rgb(line.get_color()) == to_rgb(BAND)]
        points = np.concatenate([line.get_xydata() for line in edges])
        for low_high, place in zip((axes.get_xlim(), axes.get_ylim()), points.T, strict=True):
            assert min(low_high) < place.min() < place.max() < max(low_high)


@pytest.mark.parametrize(("side", "towards"), [("from the front", 1.0), ("from the back", -1.0)])
def test_a_side_of_the_surface_is_what_is_seen_from_there(posterior, side, towards):
    mesh = posterior.chart.surface(posterior.estimate)
    middles = mesh.points[mesh.faces].mean(axis=1)
    front = middles[:, 1] > posterior.chart.centre[1]
    colours = np.where(front[:, None], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    axes = Figure().subplots()
    draw_body(axes, mesh, _SIDES[side], Look("side", colours))
    (drawn,) = axes.collections
    reds, blues = (drawn.get_facecolor()[:, n] > 0 for n in (0, 2))
    seen, hidden = (reds, blues) if towards > 0 else (blues, reds)
    assert len(seen) == pytest.approx(len(mesh.faces) / 2, rel=0.05)
    assert seen.mean() > 0.95
    assert hidden.mean() < 0.05
    letters = {text.get_text(): text.get_position()[0] for text in axes.texts}
    left, right = ("R", "L") if towards > 0 else ("L", "R")
    assert letters[left] < 0.1
    assert letters[right] > 0.9
    place = np.array([path.vertices[:3].mean(axis=0) for path in drawn.get_paths()])
    screen = axes.transData.transform(place)[:, 0]
    frame_x = (place[:, 0] - (mesh.points @ _SIDES[side])[:, 0].mean()) * _SIDES[side][0, 0]
    assert np.corrcoef(screen, frame_x)[0, 1] == pytest.approx(-towards)  # the right is left


def test_references_are_drawn_and_checked(posterior):
    image = make_volume()
    mask = image.primary.values > 3.5
    drawn = [
        aj.plot_surface(image, posterior, reference=region, draws=0)
        for region in (mask, posterior.chart.surface(posterior.estimate))
    ]
    for figure in drawn:
        words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert words == ["estimate", "reference"]
    with pytest.raises(aj.InputError, match=r"boolean mask of the shape \(64, 60, 22\)"):
        aj.plot_surface(image, posterior, reference=mask[:, :, 0])


def test_an_image_without_spacing_has_no_patient():
    small = make_surface(unit="px", centre=(31.0, 30.0, 10.0), axes=(7.0, 5.0, 3.0))
    figure = aj.plot_surface(make_volume("px"), small)
    assert faults(figure) == []
    assert figure.axes[0].get_xlabel() == "x (px)"
    assert figure.axes[3].get_title(loc="left").endswith("from \u2212y")
    assert not {text.get_text() for axes in figure.axes for text in axes.texts} & set("RLAPSI")
