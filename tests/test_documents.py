"""Does what is written still run, and does the site tell of everything that is public?"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

import aistat_jax
from aistat_jax.boundary.tables import NODES_PER_BLUR


def blocks(page: Path) -> list[str]:
    """The fenced Python of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.fixture
def run_blocks(monkeypatch) -> Callable[[Path], dict[str, Any]]:
    """Run the Python of a page as written, one block after the other; gives its names."""

    def run(page: Path) -> dict[str, Any]:
        module = types.ModuleType(page.stem)
        monkeypatch.setitem(sys.modules, page.stem, module)  # dataclasses look their module up
        for block in blocks(page):
            exec(compile(block, str(page), "exec"), vars(module))
        plt.close("all")
        return vars(module)

    return run


def rooms_shown(repository: Path) -> set[str]:
    """The rooms whose docstrings are pages of the site."""
    pages = (repository / "docs/api").glob("*.rst")
    named = [re.findall(r"^\.\. room:: (.+)$", p.read_text("utf-8"), flags=re.M) for p in pages]
    return {room for lines in named for line in lines for room in line.split()}


def test_readme_runs_as_written(repository, run_blocks):
    names = run_blocks(repository / "README.md")
    assert names["posterior"].diagnostics.converged
    assert names["grade"].case in ("green", "amber", "red")


def test_contributing_runs_as_written(repository, run_blocks):
    page = repository / "CONTRIBUTING.md"
    assert len(blocks(page)) == 12
    names = run_blocks(page)
    names["BACKBONES"].pop("flat")


def test_the_worked_example_can_fail(repository, tmp_path, run_blocks):
    first, _, last, *_ = blocks(repository / "CONTRIBUTING.md")
    assert "self.shift_sd**2 * moved" in first
    first = first.replace("self.shift_sd**2 * moved", "0.0 * moved")
    setup = "phantom = aj.pet_ct_phantom(0)\n"
    page = tmp_path / "broken.md"
    page.write_text(f"```python\n{first}{setup}```\n\n```python\n{last}```\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        run_blocks(page)


def test_the_worked_chart_can_fail(repository, tmp_path, run_blocks):
    chart, _, last = blocks(repository / "CONTRIBUTING.md")[6:9]
    assert "radius - self.ellipse(angle)" in chart
    chart = chart.replace("radius - self.ellipse(angle)", "radius - self.ellipse(angle + 0.2)")
    setup = (
        "image = aj.pet_ct_phantom(0).image\n"
        "star = star_chart(np.full(2, 60.0), 60.0, image.primary.grid.plane(0))\n"
        "ellipse = EllipseChart(star, np.array([20.0, 16.0]), 0.3, 12.0)\n"
    )
    last = last.replace("posterior.draws[:5]", "np.ones((5, 128))")
    right = chart.replace("self.ellipse(angle + 0.2)", "self.ellipse(angle)")
    page = tmp_path / "broken.md"
    page.write_text(f"```python\n{right}{setup}{last}```\n", encoding="utf-8")
    run_blocks(page)
    page.write_text(f"```python\n{chart}{setup}{last}```\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        run_blocks(page)


def test_the_mathematics_has_the_nodes_of_the_code(repository):
    page = (repository / "docs/mathematics.md").read_text(encoding="utf-8")
    assert f"Nodes stand $h = b/{NODES_PER_BLUR}$ apart" in page


def test_public_names_are_on_the_site(repository):
    shown = rooms_shown(repository)
    homes = {n: getattr(aistat_jax, n).__module__ for n in aistat_jax.__all__ if n[0] != "_"}
    missing = {name for name, room in homes.items() if room.split(".")[1] not in shown}
    assert missing == set()
    assert ".. public-face::" in (repository / "docs/api/public_face.rst").read_text("utf-8")


def test_every_room_is_on_the_site(repository):
    package = repository / "aistat_jax"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} - {"cli"}
    files = {path.stem for path in package.glob("*.py")} - {"__init__"}
    unseen = {
        "_caching",
        "_doctor",
        "_files",
        "_folders",
        "_pages",
        "_progress",
        "_signals",
        "_threads",
    }  # helpers without a public name
    assert (rooms | files) - unseen <= rooms_shown(repository)
