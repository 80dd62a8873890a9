"""Do figures show what the records hold, the right way round, without a display?"""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.case import Case
from aistat_jax.nets.edges import FeatureField
from aistat_jax.nets.weights import load_net
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import pointwise_band, simultaneous_band
from aistat_jax.uncertainty.calibration import Ranks
from aistat_jax.uncertainty.grading import grade
from aistat_jax.uncertainty.probability import area_posterior
from aistat_jax.views.checks import plot_chain_ranks, plot_ranks, plot_traces
from aistat_jax.views.figures import plot_comparison, plot_contours, plot_gallery
from aistat_jax.views.layers import grade_runs, limits_around
from aistat_jax.views.networks import plot_network
from aistat_jax.views.outputs import case_figures
from aistat_jax.views.probabilities import plot_probability, plot_probability_map
from aistat_jax.views.style import style
from aistat_jax.views.unrolled import plot_unrolled
from tests.helpers import circle, make_image, make_posterior, make_surface, make_volume
from tests.views.legible import faults


@pytest.fixture(scope="module")
def fitted():
    posterior = make_posterior(sd=0.05, swell=2.5)
    return make_image(), posterior, simultaneous_band(posterior), grade(posterior)


def words_of(figure) -> str:
    texts = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    for axes in figure.axes:
        texts += [t.get_text() for t in axes.texts]
        texts += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
    return "\n".join(texts).replace("\u00a0", " ")


def test_contours_name_everything_they_draw(fitted):
    figure = plot_contours(*fitted, reference=circle(12.0, (64.0, 62.0), 200))
    figure.canvas.draw()
    words = words_of(figure)
    for expected in (
        "lesion-1",
        "mm²",
        "grade amber at 2 mm",
        "green: trusted",
        "amber: check",
        "red: do not trust",
        "95% band, whole boundary",
        "30 posterior draws",
        "reference",
        "mm to the right (R)",
        "mm to the front (A)",
    ):
        assert expected in words


def test_patient_right_is_on_the_left_of_the_figure(fitted):
    axes = plot_contours(*fitted).axes[0]
    left, right = axes.get_xlim()
    assert left > right  # +u, towards the patient's right, runs to the left
    places = {t.get_text(): t.get_position() for t in axes.texts}
    assert places["R"][0] < 0.5 < places["L"][0]
    assert places["P"][1] < 0.5 < places["A"][1]


def test_image_and_contour_share_one_frame(fitted):
    """The brightest pixel of a one-pixel image is drawn where its centre is in millimetres."""
    image, posterior, *_ = fitted
    values = np.zeros((64, 64))
    values[40, 25] = 1.0
    spot = type(image).from_arrays(PT=values, spacing_mm=2.0)
    picture = plot_contours(spot, posterior, full=True).axes[0].images[0]
    u_min, _u_max, v_min, _v_max = picture.get_extent()
    row, column = np.argwhere(np.asarray(picture.get_array()) == 1.0)[0]
    assert picture.origin == "lower"
    assert (u_min + 2.0 * (column + 0.5), v_min + 2.0 * (row + 0.5)) == (80.0, 50.0)


def test_estimate_is_split_by_local_grade(fitted):
    _, posterior, _, result = fitted
    (runs,) = grade_runs(result, posterior.chart)
    assert next(r[1].start for r in runs) == 0
    assert runs[-1][1].stop == 129
    for code, at in runs:
        assert np.all(result.local[at.start : at.stop - 1] == code)
    assert grade_runs(None, posterior.chart) == [[(None, slice(0, 129))]]


def test_view_is_a_square_around_the_target_inside_the_image(fitted):
    _, posterior, band, _ = fitted
    plane = posterior.chart.plane
    limits = limits_around(posterior, band, None, plane, full=False)
    assert limits[1] - limits[0] == pytest.approx(limits[3] - limits[2])
    points = posterior.chart.points(band.upper)
    assert limits[0] < points[:, 0].min() < points[:, 0].max() < limits[1]
    corner = make_posterior(centre=(8.0, 8.0))
    limits = limits_around(corner, None, None, plane, full=False)
    assert limits[0] >= plane.extent[0]
    assert limits_around(posterior, band, None, plane, full=True) == plane.extent


def test_channels_full_view_and_axes_of_ones_own(fitted):
    image, posterior, band, result = fitted
    assert plot_contours(image, posterior, channel="CT", full=True).axes[0].images[
        0
    ].get_clim() == (-160.0, 240.0)
    figure = Figure(figsize=(9, 5))
    panel = figure.add_subplot(1, 2, 1)
    assert plot_contours(image, posterior, band, result, ax=panel) is figure
    figure.savefig(io.BytesIO(), format="png")
    with pytest.raises(InputError, match="no channel"):
        plot_contours(image, posterior, channel="MR")


def test_pixels_have_no_patient_letters():
    posterior = make_posterior(spacing=None)
    result = grade(posterior, tolerance_px=2.0)
    figure = plot_contours(make_image(spacing=None), posterior, pointwise_band(posterior), result)
    figure.canvas.draw()
    words = words_of(figure)
    assert "u (px)" in words
    assert "px²" in words
    assert "95% band, each ray" in words
    assert not {t.get_text() for t in figure.axes[0].texts} & set("RLAPSI")
    assert figure.axes[0].get_xlim()[0] < figure.axes[0].get_xlim()[1]


def test_gallery_has_a_panel_for_each_posterior(fitted):
    image, posterior, band, result = fitted
    figure = plot_gallery(image, [posterior] * 5, [band] * 5, [result] * 5, columns=3)
    figure.canvas.draw()
    assert sum(bool(axes.images) for axes in figure.axes) == 5
    plot_gallery([image, image], [posterior] * 2).canvas.draw()
    with pytest.raises(InputError, match="as many bands"):
        plot_gallery(image, [posterior] * 2, [band])
    with pytest.raises(InputError, match="at least one posterior"):
        plot_gallery(image, [])


def test_unrolled_boundary_and_probability_contours(fitted):
    image, posterior, band, result = fitted
    figure = plot_unrolled(posterior, band, result)
    figure.canvas.draw()
    assert "half-width (mm)" in words_of(figure)
    assert "tolerance 2 mm" in words_of(figure)
    labels = [t.get_text() for t in figure.axes[1].get_xticklabels()]
    assert labels[0::2] == ["0\nR", "90\nA", "180\nL", "270\nP", "360\nR"]
    plot_unrolled(posterior).canvas.draw()
    figure = plot_probability(image, posterior, (0.1, 0.5, 0.9))
    figure.canvas.draw()
    assert "P(inside) ≥ 0.9" in words_of(figure)
    wide, narrow = (plot_probability(image, posterior, width_mm=w).axes[0].lines for w in (180, 88))
    assert (len(wide), len(narrow)) == (2 * 5, 2 * 3)  # halos and lines
    assert max(line.get_linewidth() for line in narrow) < 2.0


def test_a_tilted_slice_gets_its_own_letters(fitted):
    """Coronal: the second in-plane axis points to the head."""
    _, posterior, *_ = fitted
    frame = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    chart = replace(posterior.chart, plane=replace(posterior.chart.plane, frame=frame))
    figure = plot_unrolled(replace(posterior, chart=chart))
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert labels[2] == "90\nS"


def test_a_comparison_lays_posteriors_over_one_another(fitted):
    image, posterior, *_ = fitted
    wide = make_posterior(sd=0.15)
    figure = plot_comparison(image, {"laplace": posterior, "nuts": wide})
    figure.canvas.draw()
    assert sum(bool(axes.images) for axes in figure.axes) == 2
    radius, spread = figure.axes[-2:]
    assert radius.get_ylabel() == "radius (mm)"
    assert spread.get_ylabel() == "sd (mm)"
    narrow, wider = spread.lines
    np.testing.assert_allclose(wider.get_ydata()[:-1], wide.draws.std(axis=0))
    assert narrow.get_linestyle() != wider.get_linestyle()  # not by colour alone
    wild = replace(posterior, radii=posterior.radii * np.linspace(1, 1e4, 1000)[:, None])
    figure = plot_comparison(image, {"a": posterior, "b": wild})
    figure.canvas.draw()
    radius, spread = figure.axes[-2:]
    reach = posterior.chart.radius_max
    assert 0 <= radius.get_ylim()[0] < radius.get_ylim()[1] <= 1.05 * reach
    assert spread.get_ylim()[1] <= reach
    assert "beyond the region searched" in words_of(figure)
    with pytest.raises(InputError, match="1 to 5 posteriors"):
        plot_comparison(image, {})


def test_a_heat_map_is_the_probability_of_being_inside(fitted):
    image, posterior, *_ = fitted
    axes = plot_probability_map(image, posterior).axes[0]
    shown = axes.images[-1]
    u_min, u_max, v_min, v_max = shown.get_extent()
    chance = np.asarray(shown.get_array())
    assert chance.max() == 1.0
    assert chance[0, 0] == 0.0
    pixel = (u_max - u_min) / chance.shape[1] * (v_max - v_min) / chance.shape[0]
    assert chance.sum() * pixel == pytest.approx(area_posterior(posterior).mean, rel=0.01)
    doubted = replace(posterior, presence=0.4)
    assert (
        np.asarray(plot_probability_map(image, doubted).axes[0].images[-1].get_array()).max() == 0.4
    )
    # told apart by lightness alone: it rises all along the scale
    lightness = shown.get_cmap()(np.linspace(0, 1, 50))[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > 0).all()


def test_traces_run_chain_after_chain():
    posterior = make_posterior(draws=400)
    radii = posterior.radii.reshape(4, 100, -1)
    shift = np.arange(400.0).reshape(4, 100)
    figure = plot_traces(replace(posterior, radii=radii, samples={"shift": shift}))
    figure.canvas.draw()
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["area (mm²)", "shift"]
    shown = np.concatenate([line.get_xydata() for line in figure.axes[2].lines])
    np.testing.assert_allclose(shown[:, 0], shown[:, 1])
    assert "chain 4" in words_of(figure)
    # values that only rise are the worst of chains; shuffled ones are the best
    told = [axes.get_title(loc="left") for axes in figure.axes[1::2]]
    assert float(told[1].split()[1]) > 1.5
    assert float(told[1].split()[-1]) < 20
    mixed = np.random.default_rng(0).permutation(np.arange(400.0)).reshape(4, 100)
    again = plot_traces(replace(posterior, radii=radii, samples={"shift": mixed}))
    rhat, ess = again.axes[3].get_title(loc="left").split()[1::2]
    assert float(rhat) < 1.05
    assert float(ess) > 200
    with pytest.raises(InputError, match="no quantity 'size'; there are radius 0°"):
        plot_traces(posterior, ["size"])


def test_rank_histograms_hold_every_rank():
    values = np.stack([np.arange(100), np.zeros(100, int), np.full(100, 99)], axis=1)
    figure = plot_ranks(Ranks(values, ("flat", "low", "high")), columns=2)
    figure.canvas.draw()
    heights = [axes.patches[-1].get_data().values for axes in figure.axes[:3]]
    assert heights[0].tolist() == [10] * 10
    top = figure.axes[0].get_ylim()[1]
    assert top > 1.05 * 100  # room above the highest count
    flat = plot_ranks(Ranks(values[:, :1], ("flat",))).axes[0]
    stripe = max(p.get_window_extent().y1 for p in flat.patches if not hasattr(p, "get_data"))
    assert stripe < flat.get_window_extent().y1 - 2
    assert heights[1].tolist() == [100] + [0] * 9
    assert heights[2].tolist() == [0] * 9 + [100]
    assert "flat\np = 1" in words_of(figure)


def test_a_network_is_drawn_as_its_contour_head_reads_it():
    """Features lie where their own grid says, finer than the image's; the odds are left out."""
    image = make_image()
    rng = np.random.default_rng(0)
    net = load_net("phantom-petct-2d")
    finer = Image.from_arrays(PT=np.eye(128), spacing_mm=1.0).primary.grid
    field = FeatureField(rng.standard_normal((128, 128, 1, 4)).astype("f4"), finer, net)
    odds = Image.from_arrays(lesion=image.primary.values[..., 0] - 3, spacing_mm=2.0)
    figure = plot_network(image, odds, field)
    figure.canvas.draw()
    assert [axes.get_title(loc="left") for axes in figure.axes][2:] == [
        f"feature {n}" for n in range(3)
    ]
    shown = figure.axes[3].images[0]
    np.testing.assert_array_equal(shown.get_array(), field.values[:, :, 0, 1].T)
    assert tuple(shown.get_extent()) == finer.plane(0).extent
    assert len(plot_network(image, odds).axes) == 2
    left, right = shown.axes.get_xlim()
    assert left > right  # the patient's right is on the left of this figure too
    places = {t.get_text(): t.get_position()[0] for t in figure.axes[0].texts}
    assert places["R"] < 0.5 < places["L"]


def test_importing_the_views_does_not_load_matplotlib():
    code = (
        "import sys, aistat_jax.views.figures, aistat_jax.views.report;"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ranks_of_chains_show_the_one_that_went_elsewhere():
    posterior = make_posterior(draws=400)
    four = posterior.draws.reshape(4, 100, -1)
    alike = replace(posterior, radii=four)
    moved = replace(posterior, radii=np.concatenate([four[:3], 1.5 * four[3:]]))

    def tallest(shown) -> float:
        panel = plot_chain_ranks(shown, ["area"]).axes[0]
        return max(
            patch.get_data().values.max() for patch in panel.patches if hasattr(patch, "get_data")
        )

    assert tallest(moved) > 1.5 * tallest(alike)
    with pytest.raises(InputError, match="this posterior has one"):
        plot_chain_ranks(posterior)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_printed_in_a_report_is_laid_out_once_and_legible(dims):
    """As it is saved, in the project's look, and without being laid out again."""
    made = [make_posterior(sd=sd) for sd in (0.03, 0.08)] if dims == 2 else [make_surface()]
    image = make_image() if dims == 2 else make_volume()
    contours = [aj.contour_of(replace(p, target_id=f"lesion-{n}")) for n, p in enumerate(made)]
    for _, figure in case_figures(Case(image, tuple(contours))):
        with style():
            places = [axes.get_position().bounds for axes in figure.axes]
            assert faults(figure) == []
            assert [axes.get_position().bounds for axes in figure.axes] == places
            figure.set_figheight(0.8 * figure.get_figheight())  # the control
            assert faults(figure) != []
