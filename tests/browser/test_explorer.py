"""The explorer in a real browser: every slider, clicks put, dragged and undone, files written."""

from __future__ import annotations

import pytest

from tests.browser.lab import CHROMIUM, Notebook, browser_page, jupyter_lab
from tests.browser.stand import Stand, write_notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def stand(folder):
    name = write_notebook(folder)
    with jupyter_lab(folder) as address, browser_page() as page:
        notebook = Notebook(page, address, name)
        notebook.run_all()
        assert notebook.errors() == []
        yield Stand(notebook)


@pytest.fixture(autouse=True)
def nothing_fails_unseen(stand):
    yield
    assert stand.state()["failure"] == ""
    assert stand.page.problems == []


COUNT = """
import jax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
)
"""


def test_a_click_made_while_it_compiles_lands_where_it_was_made(stand):
    """The first thing anybody does, and then something else: nothing is lost or misplaced."""
    before = stand.state()
    assert before["state"].startswith("compiling ahead")
    stand.press("edge")
    stand.until(lambda state: state["mode"] == "edge")
    stand.page.mouse.click(*stand.on_ray(40, 2.0))
    taken = stand.until(lambda state: state["waiting"] == 1)
    assert "is taken" in taken["said"]
    assert "s so far" in taken["said"]
    stand.page.wait_for_timeout(1500)
    stand.notebook.screenshot("explorer-waits", ".aistat")
    shown = "print(explorer.scene.panel.waiting.get_xydata().shape, explorer.clicks)"
    assert stand.notebook.ask(shown).strip() == "(1, 2) ()"
    stand.slide("slice")
    stand.until(lambda state: state["slice"] == before["slice"] + 1)
    stand.page.mouse.click(*stand.on_ray(90, 1.0))
    both = stand.until(lambda state: state["waiting"] == 2)
    assert both["by_target"] == [0, 0, 0]
    stand.notebook.ask("gate.set()")
    done = stand.until(lambda state: state["waiting"] == 0, 300)
    assert done["by_target"] == [0, 1, 1]
    assert done["slice"] == before["slice"] + 1
    for left in (1, 0):
        stand.press("undo")
        stand.until(lambda state, left=left: sum(state["by_target"]) == left)
    stand.notebook.ask(f"explorer.controls.slice.value = {before['slice']}")
    stand.press("look")
    stand.until(lambda state: state["mode"] == "look" and state["slice"] == before["slice"])


def test_once_ready_the_first_click_of_any_kind_compiles_nothing(stand):
    ready = stand.ready()
    assert "compiled in" in ready["state"]
    stand.notebook.ask(COUNT)
    for n, kind in enumerate(("edge", "inside", "outside")):
        stand.notebook.ask(f"explorer.controls.slice.value = {ready['slice'] - 1 + n}")
        stand.press(kind)
        stand.until(lambda state, kind=kind: state["mode"] == kind)
        stand.page.mouse.click(*stand.on_ray(20 + 9 * n, 0.5))
        stand.until(lambda state, n=n: state["by_target"][n] == 1)
    for left in (2, 1, 0):
        stand.press("undo")
        stand.until(lambda state, left=left: sum(state["by_target"]) == left)
    assert stand.notebook.ask("print(compiled)").strip() == "[]"
    stand.notebook.ask(f"explorer.controls.slice.value = {ready['slice']}")
    stand.press("look")
    stand.until(lambda state: state["mode"] == "look" and state["slice"] == ready["slice"])


def test_it_fits_a_small_window_and_fills_a_large_one(stand):
    """Picture, buttons, sliders and line are in sight together at 1366 x 768, beside the files."""
    stand.ready()  # what compiles keeps the kernel from answering in time
    found = {}
    for width, height in ((1366, 768), (1920, 1080)):
        found[width] = stand.resize(width, height)
        stand.notebook.screenshot(f"explorer-{width}")
        assert found[width]["view"] <= found[width]["panel"]
        assert found[width]["over"] <= 1
    assert found[1920]["picture"] > 1.4 * found[1366]["picture"]
    stand.resize(1500, 1300)


def test_the_wheel_and_a_box_look_closer(stand):
    def height():
        return float(stand.notebook.ask("print(abs(np.ptp(explorer.scene.panel.axes.get_ylim())))"))

    def comes_to(low: float, high: float) -> None:
        stand.until(lambda state: low < height() / usual < high, seconds=10)

    stand.notebook.ask("import numpy as np")
    usual = height()
    x, y = stand.on_ray(10)
    stand.page.mouse.move(x, y)
    stand.page.keyboard.down("Control")
    stand.page.mouse.wheel(0, -100)
    stand.page.keyboard.up("Control")
    comes_to(0.7, 0.9)
    stand.press("zoom")
    stand.until(lambda state: state["mode"] == "zoom")
    stand.page.mouse.move(x - 40, y - 40)
    stand.page.mouse.down()
    stand.page.mouse.move(x + 20, y + 20, steps=4)
    stand.page.mouse.up()
    comes_to(0.0, 0.5)
    stand.press("reset view")
    comes_to(0.95, 1.05)  # the legend may have gained a line by now
    stand.press("look")


def test_every_slider_moves_what_it_says(stand):
    stand.open_page("Look")
    before = stand.state()
    for name, key in (
        ("draw", "ArrowRight"),
        ("level", "ArrowLeft"),
        ("bundle", "ArrowRight"),
        ("opacity", "ArrowLeft"),
        ("window", "ArrowRight"),
    ):
        stand.slide(name, key)
        stand.until(lambda state, name=name: state[name] != before[name])
    stand.slide("slice")
    stand.until(lambda state: state["slice"] == before["slice"] + 1)
    stand.notebook.screenshot("explorer-look", ".aistat")
    stand.slide("slice", "ArrowLeft")
    stand.until(lambda state: state["slice"] == before["slice"])


def test_the_picture_for_pages_without_a_kernel_is_hidden_here(stand):
    still = stand.page.locator(".aistat-still")
    assert still.count() == 1
    assert not still.first.is_visible()


def test_pointing_at_the_boundary_looks_along_that_ray(stand):
    for ray in (10, 70):
        stand.page.mouse.move(*stand.on_ray(ray))
        stand.until(lambda state, ray=ray: abs((state["ray"] or 0) - ray) <= 1)


def test_a_click_is_put_dragged_undone_and_made_again(stand):
    before = stand.state()
    stand.open_page("Clicks")
    stand.press("edge")
    stand.until(lambda state: state["mode"] == "edge")
    stand.page.mouse.click(*stand.on_ray(40, 2.0))
    stand.until(lambda state: state["clicks"] == 1)
    put = stand.until(lambda state: "Area" in state["said"])  # said once it is shown
    assert put["area"] > before["area"]
    stand.notebook.screenshot("explorer-edit", ".aistat")
    (u, v) = put["points"][0]
    stand.page.mouse.move(*stand.spot(f"({u}, {v})"))
    stand.page.mouse.down()
    stand.page.mouse.move(*stand.on_ray(44, 1.0), steps=5)
    stand.page.mouse.up()
    moved = stand.until(lambda state: state["points"] != put["points"])
    assert moved["clicks"] == 1
    stand.press("undo")
    stand.until(lambda state: state["points"] == put["points"])
    stand.press("undo")
    undone = stand.until(lambda state: state["clicks"] == 0)
    assert undone["area"] == before["area"]
    stand.press("redo")
    stand.until(lambda state: state["points"] == put["points"])


def test_a_click_that_contradicts_another_is_refused_in_words(stand):
    before = stand.state()
    assert before["clicks"] == 1
    stand.page.mouse.click(*stand.on_ray(40, -9.0))
    after = stand.until(lambda state: state["trouble"])
    assert "contradicts" in after["said"]
    assert after["points"] == before["points"]
    stand.notebook.screenshot("explorer-refused", ".aistat")


def test_keys_move_the_explorer_and_not_the_notebook(stand):
    cells = stand.page.locator(".jp-Cell").count()
    before = stand.state()
    stand.press("look")
    box = stand.view.locator(".jupyter-matplotlib-canvas-div").first
    stand.page.mouse.click(*stand.on_ray(100, 12.0))
    pinned = stand.until(lambda state: abs((state["ray"] or 0) - 100) <= 1)
    box.focus()
    stand.page.keyboard.press("ArrowRight")
    stand.until(lambda state: state["draw"] == before["draw"] + 1)
    stand.page.keyboard.press(".")
    stand.until(lambda state: state["ray"] == pinned["ray"] + 1)
    stand.page.keyboard.press("i")
    stand.until(lambda state: state["mode"] == "inside")
    for _ in range(2):
        stand.page.keyboard.press("[")
    stand.page.keyboard.press("Enter")
    stand.until(lambda state: state["clicks"] == 2)
    for key in ("a", "b", "x", "l", "u"):
        stand.page.keyboard.press(key)
    stand.until(lambda state: state["clicks"] == 1)
    assert stand.page.locator(".jp-Cell").count() == cells
    assert stand.notebook.ask("print(explorer.scene.panel.axes.get_yscale())").strip() == "linear"


def test_one_press_writes_every_slice_and_the_lines_make_the_same_posterior(stand, folder):
    stand.open_page("Save")
    for words in ("NIfTI", "CSV", "PNG", "SVG", "NetCDF", "Python"):
        stand.press(words)
        stand.until(lambda state: state["said"].startswith("Wrote "))
        stand.notebook.ask("explorer.line.say('')")
    written = sorted(path.suffix for path in (folder / "aistat_export").iterdir())
    assert written == [".csv", ".gz", ".nc", ".png", ".py", ".svg"]
    stand.press("everything")
    stand.until(lambda state: state["said"].startswith("Wrote "), 120)
    assert (folder / "aistat_export" / "summary.json").is_file()
    same = stand.notebook.ask(
        "found = aj.load_posterior('aistat_export/posterior.nc')\n"
        "now = [explorer.session[n].posterior for n in range(len(explorer.session))]\n"
        "print([(a.radii == b.radii).all() for a, b in zip(found, now, strict=True)])"
    )
    assert same.strip() == "[np.True_, np.True_, np.True_]"
    same = stand.notebook.ask(
        "scope = {'image': image, 'posteriors': posteriors}\n"
        "exec(explorer.lines, scope)\n"
        "print((scope['posterior'].draws == explorer.posterior.draws).all())"
    )
    assert same.strip() == "True"


def test_a_session_is_saved_and_opened_again(stand, folder):
    before = stand.state()
    assert before["clicks"] == 1
    stand.press("save session")
    stand.until(lambda state: state["said"].startswith("Saved "))
    assert (folder / "edits.npz").is_file()
    stand.press("undo")
    stand.until(lambda state: state["clicks"] == 0)
    stand.press("open session")
    stand.until(lambda state: state["said"].startswith("Opened "))
    assert stand.state()["points"] == before["points"]
    stand.press("undo")
    stand.until(lambda state: state["clicks"] == 0)
    stand.press("redo")
    stand.until(lambda state: state["points"] == before["points"])


def test_pages_of_numbers_and_chains_fill_when_opened(stand):
    stand.open_page("Numbers")
    stand.view.locator("text=Why this grade").wait_for()
    stand.notebook.screenshot("explorer-numbers", ".aistat")
    stand.open_page("Chains")
    stand.view.locator("figure img").first.wait_for()
    stand.page.wait_for_timeout(500)
    stand.notebook.screenshot("explorer-chains", ".aistat")


def test_a_view_whose_kernel_was_restarted_says_so(stand):
    lost = stand.view.locator(".aistat-lost").first
    assert not lost.is_visible()
    stand.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    lost.wait_for(state="visible")
    stand.notebook.screenshot("explorer-lost", ".aistat")
    stand.notebook.ask("explorer = None")
    stand.state = lambda: {"failure": ""}  # there is no explorer to ask any more
