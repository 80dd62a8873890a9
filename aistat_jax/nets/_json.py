"""How are plans and fingerprints kept? As JSON that says its kind and schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole

SCHEMA = 1


def write_json(kind: str, content: dict[str, Any], path: Path) -> Path:
    text = json.dumps({"schema": SCHEMA, "kind": kind, **content}, indent=1, allow_nan=False)
    return write_whole(path, text + "\n")


def read_json(kind: str, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; make the {kind} first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=_tuples_inside)
        schema, found = content.pop("schema"), content.pop("kind")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise broken(kind, path) from error
    if found != kind:
        raise InputError(f"{path}: this is a {found}, not a {kind}; pass the other file")
    if schema != SCHEMA:
        raise InputError(
            f"{path}: this {kind} has schema {schema} and this version reads {SCHEMA}; make it "
            "again"
        )
    return content


def _tuples_inside(content: dict[str, Any]) -> dict[str, Any]:
    def tupled(value: Any) -> Any:
        return tuple(map(tupled, value)) if isinstance(value, list) else value

    return {key: tupled(value) for key, value in content.items()}


def broken(kind: str, path: str | os.PathLike[str]) -> InputError:
    return InputError(f"{path}: this is not a whole {kind} file; make the {kind} again")
