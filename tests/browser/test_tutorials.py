"""Every tutorial opens and runs in a real JupyterLab: no error, no exception on the console."""

from __future__ import annotations

import shutil

import pytest

from tests.browser.lab import CHROMIUM, ROOT, Notebook, browser_page, jupyter_lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's"),
]
TUTORIALS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for name in TUTORIALS:
        shutil.copy(ROOT / "notebooks" / name, folder)
    with jupyter_lab(folder) as address:
        yield address


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_without_an_error(lab, name):
    with browser_page() as page:
        notebook = Notebook(page, lab, name)
        notebook.run_all()
        notebook.screenshot(name.removesuffix(".ipynb"))
        assert notebook.errors() == []
        assert page.problems == []
