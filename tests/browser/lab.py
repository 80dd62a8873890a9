"""A real JupyterLab in a headless Chromium, driven as a person would: open, run, point, type."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / ".screenshots"
PATIENCE = 300.0  # seconds for what should come at once: a slow computer is no failure
CHROMIUM = next((p for n in ("chromium", "chromium-browser") if (p := shutil.which(n))), None)
# Messages on the console that no notebook causes.
HARMLESS = (
    "Failed to load resource",  # settings that JupyterLab asks for and that nobody has saved
    "was loaded over an insecure connection",
    "Plugin '",  # services of JupyterLab that are switched off
)


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """A JupyterLab on a free port with `folder` as its root; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / ".lab"
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(settings / "config"),
        "JUPYTER_DATA_DIR": str(settings / "data"),
        "JUPYTER_RUNTIME_DIR": str(settings / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(settings / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    # Every cell is in the page, so that what is out of sight can be waited for.
    for name, words in (
        ("notebook-extension/tracker", '{"windowingMode": "none", "autoStartDefaultKernel": true}'),
        ("apputils-extension/notification", '{"fetchNews": "false", "checkForUpdates": false}'),
    ):
        path = settings / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words)
    log = (folder / ".lab.log").open("w")
    server = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
            "--ServerApp.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
            "--ServerApp.port_retries=0", "--LabApp.check_for_updates_class="
            "jupyterlab.NeverCheckForUpdate", "--LabApp.expose_app_in_browser=True",
        ],
        env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, server)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:  # it waits for a kernel that computes
            server.kill()
            server.wait()
        log.close()


def _wait_for(address: str, server: Any) -> None:
    for _ in range(int(PATIENCE / 0.5)):
        if server.poll() is not None:
            raise RuntimeError("JupyterLab ended before it answered")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api/status", timeout=5)
            return
        time.sleep(0.5)
    raise TimeoutError(f"JupyterLab did not answer within {PATIENCE:g} seconds")


@contextlib.contextmanager
def browser_page(width: int = 1500, height: int = 1300) -> Iterator[Any]:
    """A page of a headless Chromium; its `problems` are what went wrong on its console."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(1000 * PATIENCE)
        page.problems = []

        def heard(message: Any) -> None:
            if message.type == "error" and not any(h in message.text for h in HARMLESS):
                page.problems.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        try:
            yield page
        finally:
            browser.close()


_LISTENS = """() => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
  const kernel = context?.session?.kernel;
  const listens = kernel?.connectionStatus === "connected" && kernel.status === "idle";
  return context?.isReady && listens && kernel.clientId;
}"""


_ASK = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false });
  let said = "";
  future.onIOPub = (message) => {
    if (message.header.msg_type === "stream") said += message.content.text;
    if (message.header.msg_type === "error") said += message.content.traceback.join("\\n");
  };
  await future.done;
  return said;
}"""

_DONE = """() => {
  const failed = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']";
  const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
  const idle = document.querySelector(".jp-Notebook-ExecutionIndicator[data-status='idle']");
  const all = prompts.every((prompt) => /\\[\\d+\\]/.test(prompt.textContent));
  return document.querySelector(failed) || (idle && all);
}"""


class Notebook:
    """One notebook, open in JupyterLab."""

    def __init__(self, page: Any, address: str, name: str) -> None:
        self.page, self.name = page, name
        # A workspace of its own, or what was open before would be opened beside it.
        workspace = name.removesuffix(".ipynb")
        page.goto("/".join((address, "lab", "workspaces", workspace, "tree", name)))
        page.wait_for_selector(".jp-Notebook")
        before, connection = None, ""
        while connection != before:  # a first one may be given up for a second one
            before = connection
            connection = page.wait_for_function(_LISTENS).json_value()
            page.wait_for_timeout(1500)

    def run_all(self, timeout: float = 900) -> None:
        """Run every cell, and wait until the kernel has nothing left to do."""
        self.page.evaluate(
            "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
        )
        self.wait(timeout)

    def wait(self, timeout: float = 60) -> None:
        """Wait until every cell has its number and the kernel is idle, or a cell has failed."""
        self.page.wait_for_function(_DONE, timeout=1000 * timeout)

    def ask(self, code: str) -> str:
        """Run code in the notebook's kernel, out of sight; what it printed."""
        return self.page.evaluate(_ASK, code)

    def clear_of_dialogs(self) -> None:
        """Close whatever dialog stands in the way."""
        for button in self.page.query_selector_all(".jp-Dialog .jp-mod-reject"):
            button.click()

    def errors(self) -> list[str]:
        """What went wrong in cells."""
        kind = "application/vnd.jupyter.stderr"
        found = self.page.query_selector_all(
            f".jp-RenderedText[data-mime-type='{kind}'] .ansi-red-fg, "
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
        )
        return [element.inner_text() for element in found]

    def screenshot(self, name: str, selector: str | None = None) -> Path:
        """A picture in the ignored folder, of the page or of one element."""
        SHOTS.mkdir(exist_ok=True)
        path = SHOTS / f"{name}.png"
        if selector is None:
            self.page.screenshot(path=path)
        else:
            self.page.locator(selector).first.screenshot(path=path)
        return path
