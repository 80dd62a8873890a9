"""Do tutorials open and run in a real JupyterLab: no error, no exception on the console?

Those that compute for minutes and show pictures only are run without a browser, as all others are
too; AISTAT_ALL_TUTORIALS=1 has them here as well.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.browser.lab import CHROMIUM, ROOT, Notebook, browser_page, jupyter_lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's"),
]
LONG = () if os.environ.get("AISTAT_ALL_TUTORIALS") else ("03_", "04_", "11_")
TUTORIALS = sorted(
    path.name for path in (ROOT / "notebooks").glob("*.ipynb") if not path.name.startswith(LONG)
)


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
