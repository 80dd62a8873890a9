"""Can grades be told apart with any colour vision, and are figures written whole?"""

from __future__ import annotations

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import aistat_jax as aj
from aistat_jax.uncertainty.grading import GRADES
from aistat_jax.views.style import GRADE_LOOKS, new_figure, save_figure, style
from tests.helpers import make_image, make_posterior

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, matrix: np.ndarray) -> np.ndarray:
    """CIE Lab of a colour as seen through a colour vision deficiency."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(matrix @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def smallest_difference(colours: list[str]) -> float:
    return min(
        float(np.linalg.norm(lab(a, matrix) - lab(b, matrix)))
        for matrix in DEFICIENCIES.values()
        for a, b in combinations(colours, 2)
    )


def test_grades_differ_in_colour_for_any_colour_vision():
    assert smallest_difference([look.colour for look in GRADE_LOOKS]) > 25
    # negative control: a plain traffic light does not pass
    assert smallest_difference(["#2ca02c", "#ff7f0e", "#d62728"]) < 25


def test_grades_differ_in_line_style_and_follow_the_codes():
    assert tuple(look.name for look in GRADE_LOOKS) == GRADES
    assert len({str(look.dashes) for look in GRADE_LOOKS}) == 3
    assert len({look.meaning for look in GRADE_LOOKS}) == 3


def test_style_leaves_no_trace():
    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["font.size"] == 9.0
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_are_written_in_the_format_of_their_name(tmp_path, suffix):
    figure = new_figure(2.0, 2.0)
    figure.add_subplot().plot([0, 1])
    path = save_figure(figure, tmp_path / "new" / f"figure{suffix}")
    assert path.stat().st_size > 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_write_cut_short_leaves_the_old_figure(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = new_figure(2.0, 2.0)

    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("width_mm", [88, 180])
def test_a_figure_for_a_column_has_its_width_and_no_words_on_words(width_mm):
    posterior, image = make_posterior(), make_image()
    band, grade = aj.simultaneous_band(posterior), aj.grade(posterior)
    for figure in (
        aj.plot_contours(image, posterior, band, grade, width_mm=width_mm),
        aj.plot_unrolled(posterior, band, grade, width_mm=width_mm),
        aj.plot_probability(image, posterior, width_mm=width_mm),
    ):
        assert figure.get_figwidth() == pytest.approx(width_mm / 25.4)
        figure.canvas.draw()
        legend = figure.legends[0].get_window_extent()
        for axes in figure.axes:
            words = axes.get_title(loc="left") and axes._left_title.get_window_extent()
            assert not (words and legend.overlaps(words))
            assert not legend.overlaps(axes.get_window_extent())


def test_a_width_that_is_none_is_refused():
    with pytest.raises(aj.InputError, match="at least 60 mm"):
        aj.plot_unrolled(make_posterior(), width_mm=10)
