"""What does a finished cohort leave behind? Tables of its cases and targets, and one report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax.uncertainty.grading import GRADES
from aistat_jax.uncertainty.probability import ML
from aistat_jax.views.cohort import Found, cohort_table, read_summary, write_cohort
from aistat_jax.views.cohort_report import write_cohort_report

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any


def write_cohort_files(
    folder: Path, cases: Path, records: Mapping[str, Mapping[str, Any]], title: str
) -> list[str]:
    """Write cases and targets as .csv and .parquet, and report.html; returns the files' names.

    cases: the folder that holds one a case, by its id. records: what case.json says of each.
    """
    done = {name: read_summary(cases / name) for name in records if _is_done(records[name])}
    by_case = cases_table(records, done)
    write_cohort(folder / "cases.csv", by_case)
    write_cohort(folder / "cases.parquet", by_case)
    names = ["cases.csv", "cases.parquet"]
    if any(summary["targets"] for summary in done.values()):
        by_target = cohort_table(done)
        write_cohort(folder / "targets.csv", by_target)
        write_cohort(folder / "targets.parquet", by_target)
        names += ["targets.csv", "targets.parquet"]
    write_cohort_report(folder / "report.html", title, by_case, cases)
    return [*names, "report.html"]


def cases_table(records: Mapping[str, Mapping[str, Any]], done: Mapping[str, Found]) -> DataFrame:
    """A row a case in order: state ("done" or "failed", with its sentence), grades and sizes.

    volume_ml has its 95% interval; slices that follow each other are added up as if their errors
    were alike, which is the wider interval. look_at is what a person should see first.
    """
    from pandas import DataFrame as Table

    rows = {}
    if done:
        rows = {row["case"]: row for row in cohort_table(done, by="case").to_dict("records")}
    table = []
    for name, record in records.items():
        row = rows.get(name, {})
        state = {"state": "done" if row else "failed", "sentence": record.get("sentence", "")}
        volume = _volume(record, done[name]) if name in done else (np.nan, np.nan, np.nan)
        volumes = dict(zip(("volume_ml", "volume_ml_low", "volume_ml_high"), volume, strict=True))
        counts = {key: row.get(key, 0) for key in ("targets", *GRADES)}
        rest = {key: value for key, value in row.items() if key not in counts and key != "case"}
        first = {"look_at": next(iter(record.get("look_at", ())), "")}
        table.append({"case": name, **state, **counts, **volumes, **rest, **first})
    return Table(table)


def _is_done(record: Mapping[str, Any]) -> bool:
    return record.get("state") == "done"


def _volume(record: Mapping[str, Any], summary: Any) -> tuple[float, float, float]:
    """Millilitres with their 95% interval; NaN where slices do not make a volume."""
    stack = record.get("volume_ml")
    if stack is not None:
        total, _, alike = stack
        return total, max(0.0, total - alike), total + alike
    sizes = [target["size"] for target in summary["targets"]]
    if not sizes or any(size["unit"] != "mm3" for size in sizes):
        return np.nan, np.nan, np.nan
    low, middle, high = (sum(size[q] for size in sizes) / ML for q in ("q025", "q500", "q975"))
    return middle, low, high
