"""A target placed by a drag in a real browser, and one by the boxes; a drag in air, in words."""

from __future__ import annotations

import pytest

from tests.browser.lab import CHROMIUM, Notebook, browser_page, jupyter_lab
from tests.browser.stand import Stand, write_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's"),
]
CELLS = (
    "import aistat_jax as aj\n"
    "from aistat_jax.data.balls import Ball, image_of_balls\n"
    "balls = Ball((36., 60., 30.), 13., 6.), Ball((78., 62., 30.), 10., 6.)\n"
    "image = image_of_balls(balls, seed=0)\n"
    "target = aj.find_targets(image, point_mm=balls[0].centre, radius_mm=13., slices='point')[0]\n"
    "model = aj.boundary_model(target, aj.intensity(image), rays=64, harmonics=8)\n"
    "posterior = aj.fit(model, draws=200)",
    "explorer = aj.explore(image, posterior, tolerance_mm=2.0)\n"
    "explorer.controls.whole.value = True\nexplorer",
)


def drag(stand: Stand, start: str, end: str) -> None:
    stand.page.mouse.move(*stand.spot(start))
    stand.page.wait_for_timeout(500)  # what is looked at has its place in the legend
    (x, y), there = stand.spot(start), stand.spot(end)
    stand.page.mouse.move(x, y)
    stand.page.mouse.down()
    stand.page.mouse.move(*there, steps=5)


def test_a_target_is_placed_by_a_drag_and_by_the_boxes(tmp_path):
    name = write_notebook(tmp_path, "placing.ipynb", CELLS)
    with jupyter_lab(tmp_path) as address, browser_page() as page:
        notebook = Notebook(page, address, name)
        notebook.run_all()
        assert notebook.errors() == []
        stand = Stand(notebook)
        stand.ready()
        stand.press("place")
        stand.until(lambda state: state["mode"] == "place")
        drag(stand, "(78, 62)", "(78, 74.5)")
        page.wait_for_timeout(500)
        notebook.screenshot("placing-drag", ".aistat")
        page.mouse.up()
        placed = stand.until(lambda state: state["said"].startswith("Placed new1"), 120)
        assert len(placed["by_target"]) == 2
        assert abs(placed["area"] - 10.0) < 1.0  # the mean radius, of a drag a quarter too long
        notebook.screenshot("placing-placed", ".aistat")

        drag(stand, "(60, 100)", "(60, 108)")
        page.mouse.up()
        refused = stand.until(lambda state: state["trouble"], 120)
        assert "no boundary" in refused["said"]
        assert refused["by_target"] == placed["by_target"]
        page.wait_for_timeout(500)
        notebook.screenshot("placing-refused", ".aistat")
        box = "import numpy as np\nprint(np.isnan(explorer.scene.panel.box.get_xdata()).all())"
        assert notebook.ask(box).strip() == "True"

        stand.open_page("Target")
        stand.press("remove target")
        stand.until(lambda state: state["said"] == "Removed new1.")
        for label, words in (("middle", "78, 62, 30"), ("radius", "9")):
            box = stand.view.locator(f".widget-inline-hbox:has(.widget-label:text-is('{label}'))")
            box.first.locator("input").fill(words)
            page.keyboard.press("Enter")
        notebook.screenshot("placing-boxes", ".aistat")
        stand.press("place target")
        again = stand.until(lambda state: state["said"].startswith("Placed new1"), 120)
        assert "radius 9 mm" in again["said"]
        assert again["failure"] == ""
        assert page.problems == []
