"""Does the figure of contributions show every source, in a slice and in space?"""

from __future__ import annotations

import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from tests.helpers import make_image, make_volume
from tests.uncertainty.test_contributions import made_contributions
from tests.views.legible import faults


def test_every_source_has_a_line_and_its_figures():
    figure = aj.plot_contributions(make_image(), made_contributions(), channel="CT")
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[0] == "all sources"
    assert words[1] == "without PT, which adds 31.2 nats (agreement p = 0.31)"
    assert words[2] == "without CT, which adds 4.6 nats (agreement p < 0.001)"
    assert len(figure.axes[1].lines) == 3


@pytest.mark.parametrize("width_mm", [88, 180])
def test_a_surface_is_shown_on_three_planes_and_by_side(width_mm):
    figure = aj.plot_contributions(make_volume(), made_contributions(solid=True), width_mm=width_mm)
    assert faults(figure) == []
    sides = [tick.get_text() for tick in figure.axes[-1].get_xticklabels()]
    assert sides == ["R", "L", "A", "P", "S", "I"]
    assert len(figure.axes[-1].patches) == 3 * 6


def test_more_sources_than_looks_are_refused():
    found = made_contributions()
    many = replace(found, sources=3 * found.sources)
    with pytest.raises(aj.InputError, match="at most 4 sources can be shown, got 6"):
        aj.plot_contributions(make_image(), many)
