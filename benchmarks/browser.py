"""How soon does the screen follow the hand? Milliseconds from an event to the redrawn canvas.

A real JupyterLab in a headless Chromium: the page itself notes when a key, or the mouse button,
comes, and when the canvas of the explorer was drawn last before it came to rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._table import Result, Row
from tests.browser.lab import Notebook, browser_page, jupyter_lab
from tests.browser.stand import CELLS, GATE, Stand, write_notebook

REST = 250  # milliseconds without drawing: the canvas has come to rest
SOON = 600  # milliseconds in which most refits are done, and nothing is asked of the kernel
WATCH = """() => {
  window.drawn = []; window.begun = 0;
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (...args) {
    const out = draw.apply(this, args);
    if (this.canvas.closest(".jupyter-matplotlib-canvas-div")) window.drawn.push(performance.now());
    return out;
  };
  for (const kind of ["keydown", "mouseup"])
    document.addEventListener(kind, () => {
      window.begun = performance.now(); window.drawn = [];
    }, true);
}"""
RESTED = f"() => window.drawn.length && performance.now() - window.drawn.at(-1) > {REST}"
TAKEN = "() => window.drawn.at(-1) - window.begun"


def run(quick: bool = False) -> Result:
    """Medians and 95% points of the time from an event to the canvas at rest."""
    repeats = 5 if quick else 40
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Nothing holds back what compiles ahead: that is for tests of what happens meanwhile.
        name = write_notebook(Path(folder), cells=[cell.removeprefix(GATE) for cell in CELLS])
        with jupyter_lab(Path(folder)) as address, browser_page() as page:
            notebook = Notebook(page, address, name)
            notebook.run_all()
            stand = Stand(notebook)
            page.evaluate(WATCH)

            def taken(act: Callable[[], None], edit: bool = False) -> float:
                page.evaluate("() => { window.drawn = []; }")
                act()
                if edit:  # what is drawn first is that it waits
                    page.wait_for_timeout(SOON)
                    stand.until(lambda state: state["waiting"] == 0)
                page.wait_for_function(RESTED, timeout=60_000)
                return float(page.evaluate(TAKEN))

            found["ahead"] = [1000 * float(stand.ready()["state"].split()[-2])]
            found["first"] = [_first_click(stand, taken)]
            for slider, key in (("draw", "ArrowRight"), ("level", "ArrowLeft")):
                stand.slide(slider, key)
                page.wait_for_timeout(1000)
                found[slider] = [
                    taken(lambda key=key: page.keyboard.press(key)) for _ in range(repeats)
                ]
            found["anchor"] = _anchors(stand, taken, repeats)
    rows = []
    for name, words, goal in (
        ("draw", "draw slider, one step", 60.0),
        ("level", "level slider, one step", 60.0),
        ("anchor", "anchor dropped: refitted and redrawn", 250.0),
        ("first", "first click after “ready”: refitted and redrawn", 3000.0),
        ("ahead", "compiled ahead, while one looks", None),
    ):
        times = found[name]
        median = ", median" if len(times) > 1 else ""
        rows.append(Row(f"{words}{median}", float(np.median(times)), "ms", at_most=goal))
        if len(times) > 1:
            rows.append(Row(f"{words}, 95% point", float(np.quantile(times, 0.95)), "ms"))
    notes = (
        f"{repeats} events each, from the event in the page to the last drawing of the canvas; "
        "demo phantom, PET and CT, 1,000 draws; the refit was compiled before. The first click is "
        "one event: nothing has been clicked in that kernel, and it compiles nothing.",
    )
    return Result("From the hand to the screen, in a browser", rows, notes)


def _first_click(stand: Stand, taken: Any) -> float:
    """The very first click, which is undone again."""
    page = stand.page
    stand.press("edge")
    stand.until(lambda state: state["mode"] == "edge")
    x, y = stand.on_ray(60, 1.0)
    page.mouse.move(x, y)
    page.wait_for_timeout(1000)
    time = taken(lambda: page.mouse.click(x, y), True)
    assert stand.state()["clicks"] == 1
    stand.press("undo")
    stand.until(lambda state: state["clicks"] == 0)
    return time


def _anchors(stand: Stand, taken: Any, repeats: int) -> list[float]:
    """One anchor, dragged to and fro; the refit is compiled before anything is timed."""
    page = stand.page
    stand.press("edge")
    page.mouse.click(*stand.on_ray(30, 1.0))
    stand.until(lambda state: state["clicks"] == 1)
    times = []
    for n in range(repeats + 2):
        u, v = stand.state()["points"][0]
        page.mouse.move(*stand.spot(f"({u}, {v})"))
        page.mouse.down()
        page.mouse.move(*stand.on_ray(30 + n % 5, 0.5 * (n % 3)), steps=3)
        page.wait_for_timeout(300)
        times.append(taken(page.mouse.up, True))
    return times[2:]
