"""Does an editor know every public name, and does a built package carry what it reads?"""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import aistat_jax as aj

NAMES = sorted(set(aj.__all__) - {"__version__"})
ROOT = Path(str(aj.__file__)).parent


def types_told(code: Path, repository: Path) -> dict[int, str]:
    """What the type checker says of each line of a file."""
    checker = Path(sys.executable).parent / "basedpyright"
    command = [str(checker), "--outputjson", "--pythonpath", sys.executable, str(code)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"]: each["message"] for each in found[::-1]}


def test_every_public_name_is_where_the_stub_says():
    stub = ast.parse((ROOT / "__init__.pyi").read_text("utf-8"))
    homes = [
        (f"aistat_jax.{line.module}", each.name, each.asname)
        for line in stub.body
        if isinstance(line, ast.ImportFrom)
        for each in line.names
    ]
    assert sorted(name for _, name, _ in homes) == NAMES
    for home, name, public in homes:
        assert public == name  # what is not renamed to itself is private to a checker
        assert getattr(importlib.import_module(home), name) is getattr(aj, name)
        assert getattr(aj, name).__module__ == home
    assert set(dir(aj)) >= set(NAMES)
    with pytest.raises(AttributeError):
        _ = aj.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_a_type_checker_knows_every_public_name(repository, tmp_path):
    code = tmp_path / "asked.py"
    lines = [f"reveal_type(aj.{name})" for name in [*NAMES, "nothing"]]
    code.write_text("\n".join(["import aistat_jax as aj", *lines]), encoding="utf-8")
    told = types_told(code, repository)
    for line, name in enumerate(NAMES, start=1):
        assert told[line].startswith(f'Type of "aj.{name}" is ')
        assert not any(word in told[line] for word in ('is "Unknown"', 'is "Any"'))
    assert told[len(NAMES) + 1] == 'Type of "aj.nothing" is "Unknown"'


def test_a_wheel_carries_the_stub_and_says_that_it_is_typed(repository, tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(repository)).build(directory=str(tmp_path), versions=["standard"])
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {"aistat_jax/py.typed", "aistat_jax/__init__.pyi", "aistat_jax/__init__.py"} <= inside
    assert "aistat_jax/nothing.pyi" not in inside
