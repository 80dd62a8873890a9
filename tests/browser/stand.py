"""A notebook with an explorer in it, and hands to move it: pointing, dragging, sliding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.browser.lab import Notebook

# Compiling ahead waits for `gate`: what is done meanwhile does not hang on a computer's speed.
GATE = (
    "import threading\n"
    "from aistat_jax import editing\n"
    "gate, warm_up = threading.Event(), editing.warm_up\n"
    "editing.warm_up = lambda *of: gate.wait(120) and warm_up(*of)\n"
)
CELLS = (
    "import aistat_jax as aj\n"
    "phantom = aj.demo_phantom(seed=1)\n"
    "image = phantom.image\n"
    "targets = aj.find_targets(image, point_mm=tuple(phantom.centre))\n"
    "models = [aj.boundary_model(t, aj.intensity(image)) for t in targets]\n"
    "posteriors = aj.fit_many(models, seed=0)",
    GATE + "explorer = aj.explore(image, posteriors, tolerance_mm=2.0)\nexplorer",
)
SURFACE = (
    "import aistat_jax as aj\n"
    "phantom = aj.pet_ct_phantom(1, dims=3)\n"
    "image = phantom.image\n"
    "target = aj.find_targets(image, point_mm=tuple(phantom.centre), dims=3)[0]\n"
    "posterior = aj.fit(aj.boundary_model(target, aj.intensity(image, 'PT')), seed=0)",
    "explorer = aj.explore(image, posterior, reference=phantom.mask, tolerance_mm=2.0)\nexplorer",
)
# Nothing changes while it is read: what is said belongs to the session that is shown.
STATE = """
import json
with explorer.line.lock:
    c = explorer.controls
    print(json.dumps({
        "slice": c.slice.value, "draw": c.draw.value, "level": c.level.value,
        "bundle": c.bundle.value, "opacity": c.opacity.value, "window": list(c.window.value),
        "mode": c.mode.value, "ray": explorer.ray, "clicks": len(explorer.clicks),
        "points": [click.point for click in explorer.clicks],
        "waiting": len(explorer.desk.queue.waiting), "state": explorer.desk.queue.state,
        "by_target": [len(explorer.session[n].clicks) for n in range(len(explorer.session))],
        "said": explorer.line.said, "trouble": explorer.line.trouble, "failure": explorer.failure,
        "area": float(explorer.posterior.estimate.mean()) if explorer.posterior else None,
        "lines": explorer.lines,
    }))
"""
# Width and height of view and window, and of the picture: as the kernel believes, as they are.
BELIEVED = """
import json
with explorer.line.lock:
    room, size = explorer.room, explorer.scene.stage.figure.bbox.size
    print(json.dumps([room.width, room.height, *map(float, size), {values}]))
"""
MEASURED = """() => {
  const view = document.querySelector(".aistat");
  const panel = view.closest(".jp-WindowedPanel-outer") || view.closest(".jp-Notebook");
  const box = view.querySelector(".jupyter-matplotlib-canvas-div").getBoundingClientRect();
  return [view.clientWidth, panel.clientHeight, box.width, box.height, box.x, box.y];
}"""
FITS = """() => {
  const panel = document.querySelector(".jp-WindowedPanel-outer").getBoundingClientRect();
  const view = document.querySelector(".aistat").getBoundingClientRect();
  const picture = document.querySelector(".aistat .jupyter-matplotlib").getBoundingClientRect();
  const wide = document.querySelector(".aistat").scrollWidth - view.width;
  return {panel: panel.height, view: view.height, picture: picture.width, over: wide};
}"""


def write_notebook(folder: Path, name: str = "explorer.ipynb", cells=CELLS) -> str:
    """A notebook of these cells in a folder; returns its name."""
    code = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None,
         "outputs": [], "source": text}
        for n, text in enumerate(cells)
    ]  # fmt: skip
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = {"cells": code, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
    (folder / name).write_text(json.dumps(book))
    return name


class Stand:
    """The explorer on a page."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook, self.page = notebook, notebook.page
        self.view = self.page.locator(".aistat").first
        self.view.scroll_into_view_if_needed()
        self.settled()

    def state(self) -> dict[str, Any]:
        """What the explorer in the kernel says that it shows."""
        return json.loads(self.notebook.ask(STATE))

    def until(self, holds: Any, seconds: float = 120) -> dict[str, Any]:
        """The first state for which `holds(state)`; the last one when time is up."""
        for _ in range(int(seconds / 0.2)):
            state = self.state()
            if holds(state):
                return state
            self.page.wait_for_timeout(200)
        raise AssertionError(f"never came to be: {state}")

    def slide(self, name: str, key: str = "ArrowRight", times: int = 1) -> None:
        """Press a key on the handle of the slider that is called so."""
        row = self.view.locator(f".widget-inline-hbox:has(.widget-label:text-is('{name}'))").first
        handle = row.locator(".noUi-handle").first
        handle.focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def ready(self, seconds: float = 300) -> dict[str, Any]:
        """Wait until it has said that a click is refitted at once."""
        return self.until(lambda state: state["state"].startswith("ready"), seconds)

    def open_page(self, title: str) -> None:
        self.view.locator(f".lm-TabBar-tab:has-text('{title}')").click()

    def press(self, words: str) -> None:
        """Press the button with these words."""
        self.view.locator(f"button:has-text('{words}')").first.click()

    def settled(self, values: str = "") -> tuple[list[float], list[float]]:
        """Place (x, y) of the picture on the page, and numbers that the kernel computes.

        Both once the kernel knows the page's sizes, the page shows the kernel's picture, and
        nothing moves any more: an event goes where things were when it was aimed.
        """
        code, before = BELIEVED.replace("{values}", values), None
        for _ in range(300):
            believed, measured = json.loads(self.notebook.ask(code)), self.page.evaluate(MEASURED)
            agreed = all(abs(a - b) <= 1 for a, b in zip(believed[:4], measured, strict=False))
            if agreed and (believed, measured) == before:
                return measured[4:], believed[4:]
            before = believed, measured
            self.page.wait_for_timeout(200)
        raise AssertionError(f"the picture never came to rest: {before}")

    def resize(self, width: int, height: int) -> dict[str, float]:
        """Give the window another size; what there is room for once all have taken it on."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_timeout(500)  # the page tells sizes when they have stayed for a while
        self.view.scroll_into_view_if_needed()
        self.settled()
        return self.page.evaluate(FITS)

    def spot(self, expression: str, panel: int = 0) -> tuple[float, float]:
        """Where a point of the slice (of a linked plane), given in Python, is on the page."""
        place = f"explorer.scene.panels[{panel}].axes.transData.transform({expression})"
        (left, top), (x, y, height) = self.settled(f"*map(float, {place}), float(size[1])")
        return left + x, top + height - y

    def on_ray(self, ray: int, offset: float = 0.0) -> tuple[float, float]:
        """Where the estimate, moved outwards by `offset` mm, is on a ray."""
        p = "explorer.posterior"
        return self.spot(f"{p}.chart.points({p}.estimate + {offset})[{ray}]")
