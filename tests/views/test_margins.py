"""Is every margin drawn where it is, with its millimetres, and can the words be read?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from tests.helpers import make_image, make_posterior, make_surface, make_volume
from tests.views.legible import faults


def margins_of(posterior) -> dict[str, aj.SafetyMargin]:
    return {
        "coverage": aj.coverage_margin(posterior, share=0.95),
        "van Herk": aj.van_herk_margin(posterior, systematic_mm=1.0),
    }


@pytest.fixture(scope="module")
def flat():
    return make_image(), make_posterior(swell=2.0)


@pytest.mark.parametrize("width_mm", [88, 180])
def test_words_fit_the_page(flat, width_mm):
    image, posterior = flat
    assert faults(aj.plot_margins(image, margins_of(posterior), width_mm=width_mm)) == []
    solid = make_surface(swell=1.5)
    assert faults(aj.plot_margins(make_volume(), margins_of(solid), width_mm=width_mm)) == []


def test_contours_and_bars_are_the_margin_s(flat):
    image, posterior = flat
    found = margins_of(posterior)
    figure = aj.plot_margins(image, found)
    shown, bars = figure.axes
    drawn = [line.get_xydata() for line in shown.lines]
    for margin in found.values():
        points = posterior.chart.points(margin.outer)
        assert any(len(each) > 100 and np.allclose(each[:-1], points) for each in drawn)
    heights = [bar.get_height() for bar in bars.patches]
    wanted = [value for margin in found.values() for value in margin.by_axis().values()]
    assert np.allclose(heights, wanted)
    assert [tick.get_text() for tick in bars.get_xticklabels()] == ["R", "L", "A", "P"]


def test_what_does_not_go_together_is_refused(flat):
    image, posterior = flat
    with pytest.raises(InputError, match="1 to 4 margins"):
        aj.plot_margins(image, {})
    other = make_posterior(axes=(9.0, 8.0))
    pair = {"a": aj.coverage_margin(posterior), "b": aj.coverage_margin(other)}
    with pytest.raises(InputError, match="several targets"):
        aj.plot_margins(image, pair)
    solid = aj.coverage_margin(replace(make_surface(), target_id="x"))
    with pytest.raises(InputError, match="outside of channel PT"):
        aj.plot_margins(make_volume(), {"a": solid}, at=(900.0, 0.0, 0.0))
