"""Does the page of a calibration say what was found, and nothing it should not?"""

from __future__ import annotations

import numpy as np

from aistat_jax.uncertainty.calibration import Ranks
from aistat_jax.uncertainty.sbc import SBCResult
from aistat_jax.uncertainty.uniformity import ecdf_band
from aistat_jax.views.ecdf import plot_ecdf
from aistat_jax.views.sbc_report import write_sbc_report


def calibration(*, narrow: bool) -> SBCResult:
    """Ranks as even as can be, and where asked for those of <size>, which are at the ends."""
    even = np.arange(200) % 100
    ends = np.where(np.arange(200) % 2, even // 4, 99 - even // 4)
    columns = [even, ends] if narrow else [even]
    names = ("area", "<size>")[: len(columns)]
    ranks = Ranks(np.stack(columns, axis=1), names, 99)
    return SBCResult(ranks, np.full(200, 0.5))


def test_the_page_says_what_is_wrong(tmp_path):
    path = write_sbc_report(tmp_path / "sbc.html", calibration(narrow=True), title="My <model>")
    page = path.read_text("utf-8")
    assert "Not calibrated: &lt;size&gt;." in page
    assert page.count("posteriors are too narrow: truths lie at both ends") == 1
    assert "My &lt;model&gt;" in page
    assert "<size>" not in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert "200 replications, ranks among 99 draws · 100 s" in page
    assert "0.500 ± 0.035" in page  # the coverage of half the even ranks, with its error


def test_a_page_of_even_ranks_passes(tmp_path):
    page = write_sbc_report(tmp_path / "sbc.html", calibration(narrow=False)).read_text("utf-8")
    assert '<span class="grade green">passed</span> No fault was seen.' in page


def test_the_line_of_narrow_posteriors_leaves_the_band_first_above_then_below():
    found = calibration(narrow=True).ranks
    even, ends = plot_ecdf(found).axes[:2]
    place, low, high = ecdf_band(200, 99)
    for panel, leaves in ((even, False), (ends, True)):
        line = next(each for each in panel.lines if len(each.get_xdata()) == len(place))
        drawn = np.asarray(line.get_ydata(), dtype=float)
        assert bool((drawn > high)[:40].any() and (drawn < low)[-40:].any()) == leaves
