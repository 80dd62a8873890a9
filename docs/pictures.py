"""Makes the pictures of the README by the code they show: `python docs/pictures.py`.

Needs what the extra `browser` installs, and Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.lab import Notebook, browser_page, jupyter_lab  # noqa: E402
from tests.browser.stand import Stand, write_notebook  # noqa: E402

DOCS = ROOT / "docs"


def demo(folder: Path) -> None:
    """docs/demo.png, the figure of `aistat demo`."""
    command = [sys.executable, "-m", "aistat_jax.cli", "demo", "--out", str(folder / "demo")]
    subprocess.run(command, check=True, cwd=ROOT)
    shutil.copy(folder / "demo" / "figure.png", DOCS / "demo.png")


def explorer(folder: Path) -> None:
    """docs/explorer.png, the explorer in JupyterLab with one click put."""
    name = write_notebook(folder)
    with jupyter_lab(folder) as address, browser_page() as page:
        notebook = Notebook(page, address, name)
        notebook.run_all()
        stand = Stand(notebook)
        stand.ready()
        stand.press("edge")
        page.mouse.click(*stand.on_ray(40, 2.0))
        stand.until(lambda state: state["clicks"] == 1)
        stand.slide("draw", times=3)
        page.mouse.move(*stand.on_ray(47))
        stand.until(lambda state: abs((state["ray"] or 0) - 47) <= 1)
        page.wait_for_timeout(500)
        stand.view.screenshot(path=DOCS / "explorer.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        demo(Path(scratch))
        explorer(Path(scratch))
