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


def test_every_slider_moves_what_it_says(stand):
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
    stand.open_page("Edit")
    stand.press("edge")
    stand.until(lambda state: state["mode"] == "edge")
    stand.page.mouse.click(*stand.on_ray(40, 2.0))
    put = stand.until(lambda state: state["clicks"] == 1)
    assert "Area" in put["said"]
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
    box.focus()
    stand.page.keyboard.press("ArrowRight")
    stand.until(lambda state: state["draw"] == before["draw"] + 1)
    stand.page.keyboard.press(".")
    stand.until(lambda state: state["ray"] != before["ray"])
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


def test_files_are_written_and_the_lines_make_the_same_posterior(stand, folder):
    stand.open_page("Export")
    for words in ("NIfTI", "CSV", "PNG", "SVG", "NetCDF", "Python"):
        stand.press(words)
        stand.until(lambda state: state["said"].startswith("Wrote "))
    written = sorted(path.suffix for path in (folder / "aistat_export").iterdir())
    assert written == [".csv", ".gz", ".nc", ".png", ".py", ".svg"]
    same = stand.notebook.ask(
        "scope = {'image': image, 'posteriors': posteriors}\n"
        "exec(explorer.lines, scope)\n"
        "print((scope['posterior'].draws == explorer.posterior.draws).all())"
    )
    assert same.strip() == "True"


def test_pages_of_numbers_and_chains_fill_when_opened(stand):
    stand.open_page("Numbers")
    stand.view.locator("text=Why this grade").wait_for(timeout=20_000)
    stand.notebook.screenshot("explorer-numbers", ".aistat")
    stand.open_page("Chains")
    stand.view.locator("figure img").first.wait_for(timeout=30_000)
    stand.page.wait_for_timeout(500)
    stand.notebook.screenshot("explorer-chains", ".aistat")


def test_a_view_whose_kernel_was_restarted_says_so(stand):
    lost = stand.view.locator(".aistat-lost").first
    assert not lost.is_visible()
    stand.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    lost.wait_for(state="visible", timeout=30_000)
    stand.notebook.screenshot("explorer-lost", ".aistat")
    stand.notebook.ask("explorer = None")
    stand.state = lambda: {"failure": ""}  # there is no explorer to ask any more
