"""Which cases does a manifest name? A CSV file with a row a case.

The column `id` names the case; columns called like an argument of `contour` or of `Settings` say
what to contour and how (`point` is `point_mm`, `box` is `box_mm`); every other column is a channel,
such as PT or CT, the primary one first, and holds files. Paths are relative to the manifest's own
folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from aistat_jax._errors import InputError, about, renamed
from aistat_jax.boundary.choices import CHARTS
from aistat_jax.case import Settings
from aistat_jax.cohort.cases import CohortCase, check_case, check_ids
from aistat_jax.dicom.files import parts_of


def _point(text: str) -> tuple[float, ...]:
    numbers = _several(text)
    if len(numbers) == 2:
        numbers = (*numbers, 0.0)
    if len(numbers) != 3 or not all(abs(number) < float("inf") for number in numbers):
        raise ValueError
    return numbers


def _box(text: str) -> tuple[tuple[float, ...], ...]:
    numbers = _several(text)
    if len(numbers) not in (4, 6) or not all(abs(number) < float("inf") for number in numbers):
        raise ValueError
    half = len(numbers) // 2
    first, second = numbers[:half], numbers[half:]
    return (first, second) if half == 3 else ((*first, 0.0), (*second, 0.0))


def _several(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.replace(";", " ").replace(",", " ").split())


def _slices(text: str) -> str | list[int]:
    if text in ("all", "point"):
        return text
    numbers = sorted({int(part) for part in text.replace(";", " ").replace(",", " ").split()})
    if not numbers or numbers[0] < 0:
        raise ValueError
    return numbers


def _dims(text: str) -> int | str:
    return text if text == "auto" else {"2": 2, "3": 3}[text]


def _chart(text: str) -> str:
    return {str(name): str(name) for name in CHARTS}[text]


_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "point": (_point, "three numbers in one cell, such as -12.5 30 104"),
    "box": (_box, "six numbers in one cell, such as -30 10 90 5 50 120"),
    "radius_mm": (float, "a number"),
    "threshold": (float, "a number"),
    "mask": (Path, "a file"),
    "reference": (Path, "a file"),
    "mask_roi": (str, "a region"),
    "reference_roi": (str, "a region"),
    "net": (str, "a network"),
    "channel": (str, "a channel"),
    "slices": (_slices, "all, point, or slice numbers such as 30 31"),
    "dims": (_dims, "2, 3 or auto"),
    "chart": (_chart, "star, offset or auto"),
}
_SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    each.name: (
        {"method": str, "draws": int, "seed": int}.get(each.name, float),
        {"method": "a method", "draws": "a whole number", "seed": "a whole number"}.get(
            each.name, "a number"
        ),
    )
    for each in fields(Settings)
}
WORDS = ("id", *_OPTIONS, *_SETTINGS)
"""Columns that are no channel."""
_ARGUMENTS = {"point": "point_mm", "box": "box_mm"}
"""What `contour` calls a column of another name."""
COLUMNS = {
    **{name: name for name in WORDS},
    **{own: name for name, own in _ARGUMENTS.items()},
    "roi": "mask_roi or reference_roi",
}
"""What a manifest calls the arguments that refusals name."""


def read_manifest(
    path: Path, options: Mapping[str, Any], settings: Settings
) -> tuple[CohortCase, ...]:
    """The cases of a manifest, checked; a row's own options and settings go before those given.

    Raises InputError naming the file and the row for anything that cannot be used.
    """
    rows = rows_of(path)
    channels = [name for name in rows[0][1] if name not in WORDS]
    if not channels:
        raise InputError(
            f"{path}: there is no column of images; name one by its channel, such as PT"
        )
    check_ids([row["id"] for _, row in rows], str(path))
    cases = []
    for number, row in rows:
        with about(f"{path}: row {number} ({row['id']})"), renamed(COLUMNS):
            cases.append(_case(row, channels, path.parent, options, settings))
    missing = [
        (number, case.id, part, file)
        for (number, _), case in zip(rows, cases, strict=True)
        for part, file in case.files.items()
        if not parts_of(file)[0].exists()
    ]
    if missing:
        number, name, part, file = missing[0]
        more = f" ({len(missing) - 1} more files are missing)" if len(missing) > 1 else ""
        raise InputError(
            f"{path}: row {number} ({name}): {part}: there is no {file}{more}; paths are "
            "relative to the manifest's folder, and columns that are no image are "
            f"{', '.join(WORDS)}"
        )
    for (number, _), case in zip(rows, cases, strict=True):
        with about(f"{path}: row {number} ({case.id})"), renamed(COLUMNS):
            check_case(case)
    return tuple(cases)


def rows_of(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line in the file, all of one shape, without those that are empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not a CSV file in UTF-8; save it as one") from error
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{path}: cannot be read ({why})") from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except csv.Error as error:
        raise InputError(f"{path}: this is not a CSV file ({error}); save it as one") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise InputError(f"{path}: the manifest is empty; its first line names the columns")
    (_, head), body = lines[0], lines[1:]
    if "id" not in head:
        advice = "separate columns by commas" if len(head) == 1 else "add one"
        raise InputError(f"{path}: there is no column id among {', '.join(head[:6])}; {advice}")
    twice = [name for name in head if head.count(name) > 1]
    if twice:
        raise InputError(f"{path}: the column {twice[0] or 'without a name'} is there twice")
    if "" in head:
        raise InputError(f"{path}: column {head.index('') + 1} has no name; name it, or drop it")
    if not body:
        raise InputError(f"{path}: the manifest names no case; add a row for each")
    for number, cells in body:
        if len(cells) != len(head):
            raise InputError(
                f"{path}: row {number} has {len(cells)} cells and the first line {len(head)}; "
                "put a cell with commas in quotes"
            )
    return [(number, dict(zip(head, cells, strict=True))) for number, cells in body]


def _case(
    row: dict[str, str],
    channels: list[str],
    home: Path,
    options: Mapping[str, Any],
    settings: Settings,
) -> CohortCase:
    given = {name: _read(name, row[name], _OPTIONS) for name in _OPTIONS if row.get(name)}
    for name in ("mask", "reference"):
        if name in given:
            given[name] = home / given[name]
    if "net" in given and (home / given["net"]).is_dir():
        given["net"] = str(home / given["net"])
    given = {_ARGUMENTS.get(name, name): value for name, value in given.items()}
    own = {name: _read(name, row[name], _SETTINGS) for name in _SETTINGS if row.get(name)}
    images = {name: home / row[name] for name in channels if row[name]}
    return CohortCase(row["id"], images, {**options, **given}, replace(settings, **own))


def _read(name: str, text: str, kinds: Mapping[str, tuple[Callable[[str], Any], str]]) -> Any:
    kind, words = kinds[name]
    try:
        return kind(text)
    except (ValueError, KeyError) as error:
        raise InputError(f"{name} {text!r} is not {words}") from error
