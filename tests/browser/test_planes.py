"""Three linked planes in a real browser: a cross-hair moved, a surface corrected, taken back."""

from __future__ import annotations

import pytest

from tests.browser.lab import CHROMIUM, Notebook, browser_page, jupyter_lab
from tests.browser.stand import SURFACE, Stand, write_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's"),
]
CORONAL = 1
CROSSES = """
for panel in explorer.scene.panels:
    print(panel.cross[0].get_xdata()[0], panel.cross[1].get_ydata()[0])
"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    name = write_notebook(folder, "planes.ipynb", SURFACE)
    with jupyter_lab(folder) as address, browser_page() as page:
        notebook = Notebook(page, address, name)
        notebook.run_all()
        assert notebook.errors() == []
        yield Stand(notebook)


def crosses(stand: Stand) -> list[list[float]]:
    """Where the cross-hair is in each plane."""
    return [
        [float(value) for value in line.split()]
        for line in stand.notebook.ask(CROSSES).strip().splitlines()
    ]


def test_a_surface_is_walked_through_and_corrected_in_three_planes(stand):
    ready = stand.ready(400)
    assert "compiled in" in ready["state"]
    for width, height in ((1366, 768), (1920, 1080), (1500, 1300)):
        found = stand.resize(width, height)
        stand.notebook.screenshot(f"planes-{width}")
        assert found["view"] <= found["panel"]
        assert found["over"] <= 1

    before = crosses(stand)
    stand.page.mouse.click(*stand.spot("(-9.0, 6.0)", CORONAL))
    stand.until(lambda state: abs(crosses(stand)[CORONAL][0] + 9.0) < 1.0)
    (ax, ay), (cx, cy), (_, sz) = crosses(stand)
    assert [ax, ay] != before[0]
    assert abs(ax - cx) < 1e-6  # x in the axial plane is x in the coronal one
    assert abs(sz - cy) < 1e-6  # and z there is z in the sagittal one
    assert abs(cy - 6.0) < 1.0
    assert abs(ay - before[0][1]) < 1e-6  # y has stayed: one has clicked in a coronal plane

    stand.press("edge")
    stand.until(lambda state: state["mode"] == "edge")
    section = "explorer.posterior.chart.sections(explorer.posterior.estimate + 2.5, "
    section += f"explorer.scene.plane({CORONAL}))[0].points[4]"
    stand.page.mouse.click(*stand.spot(section, CORONAL))
    stand.until(lambda state: state["clicks"] == 1)
    put = stand.until(lambda state: "Volume" in state["said"])  # said once it is shown
    assert put["area"] > ready["area"]
    stand.notebook.screenshot("planes-edit", ".aistat")
    stand.press("undo")
    undone = stand.until(lambda state: state["clicks"] == 0)
    assert undone["area"] == ready["area"]
    stand.press("redo")
    again = stand.until(lambda state: state["clicks"] == 1)
    assert again["area"] == put["area"]
    assert again["failure"] == ""
    assert stand.page.problems == []
