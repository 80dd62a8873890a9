"""What did a whole cohort come to? A row a target, or a case: a table, its LaTeX and CSV."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import write_whole
from aistat_jax.case import Case
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.contour import contour_of
from aistat_jax.uncertainty.grading import GRADES
from aistat_jax.views.summary import READ, SCHEMA, summary_of, target_summary

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any

Found = Case | Posterior | Sequence[Posterior] | Mapping[str, Any] | str | os.PathLike[str]
"""A case, posteriors, the content of summary.json, its path, or that of the folder it is in."""

_MISSING = "--"
# LaTeX's own signs, and those of ours that its plain fonts have only in mathematics
_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "²": "$^2$", "³": "$^3$", "±": r"$\pm$",
    "–": "--", "−": "$-$", "≥": r"$\geq$", "°": r"$^\circ$", '"': "''",
}  # fmt: skip


def cohort_table(
    cases: Mapping[str, Found],
    *,
    by: Literal["target", "case"] = "target",
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
) -> DataFrame:
    """Sizes, half-widths, grades and agreement of many cases, as a pandas DataFrame of numbers.

    `cases` maps what each is called to what is known of it: a folder that `aistat contour` wrote
    or its summary.json, the content of one, a `Case`, or posteriors, which are graded here (at
    `tolerance_mm` or `tolerance_px`).

    By "target" a row has case, target, grade, size with its 95% interval (size, size_low,
    size_high in size_unit), half_width and half_width_largest of the band, and passed (its own
    checks), then tolerance (at which it was graded), trusted_to (the smallest at which it would be
    green, infinite where none is), presence, dice, assd and hd95 against a reference where any case
    has them. By "case" a row has the number of targets and of each grade, the median of their
    half-widths, and the agreement of the whole case (band_share: of reference slices inside the
    band). Lengths are in the column unit. What is not known is NaN.

    Raises InputError for no case, and for what is not a summary of one.

    >>> cohort_table({"P01": {"schema": 1, "targets": []}}, by="case").loc[0, "case"]
    'P01'
    """
    from pandas import DataFrame as Table

    if not cases:
        raise InputError("a cohort needs at least one case: {'P01': 'aistat-out/P01'}")
    if by not in ("target", "case"):
        raise InputError(f'a cohort has a row by "target" or by "case", got {by!r}')
    tolerances = {"tolerance_mm": tolerance_mm, "tolerance_px": tolerance_px}
    rows: list[dict[str, Any]] = []
    for name, found in cases.items():
        summary = _summary(str(name), found, tolerances)
        rows += [_of_case(str(name), summary)] if by == "case" else _of_targets(str(name), summary)
    table = Table(rows)
    optional = ("tolerance", "trusted_to", "presence", "dice", "assd", "hd95", "band_share")
    unknown = [name for name in optional if all(np.isnan(row.get(name, np.nan)) for row in rows)]
    unknown = [name for name in unknown if name in table]
    return table.drop(columns=unknown)


def cohort_text(table: DataFrame) -> DataFrame:
    """A cohort's table as it is printed: a few columns of words, numbers with their intervals.

    A unit stands in the head of its column where all rows share it, else in every cell.
    """
    from pandas import DataFrame as Table

    shared = {name: _only(table, name) for name in ("size_unit", "unit")}
    lines = [_printed(row, shared) for row in table.to_dict("records")]
    return Table(lines, columns=list(dict.fromkeys(key for line in lines for key in line)))


def cohort_latex(table: DataFrame) -> str:
    r"""A cohort's table as LaTeX: a plain `tabular`, everything escaped, no package needed."""
    printed = cohort_text(table)
    left = sum(column in ("Case", "Target", "Grade") for column in printed)
    lines = [
        rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(printed.columns) - left)}}}",
        r"\hline",
        _tex_row(printed.columns),
        r"\hline",
        *(_tex_row(row) for row in printed.itertuples(index=False)),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def write_cohort(path: str | os.PathLike[str], table: DataFrame) -> Path:
    """Write a cohort's table, by its name's ending: .csv or .parquet (numbers), .tex (as printed).

    Returns the path. Raises InputError for another ending, and for Parquet without its library.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return write_whole(path, _parquet(table))
    if path.suffix not in (".csv", ".tex"):
        raise InputError(
            f"{path}: a cohort is written as .csv, .parquet or .tex; choose one of these"
        )
    text = cohort_latex(table) if path.suffix == ".tex" else table.to_csv(index=False)
    return write_whole(path, text)


def _parquet(table: DataFrame) -> bytes:
    try:
        import pyarrow  # noqa: F401  (which pandas writes it with)
    except ImportError as error:
        raise InputError(
            "Parquet is written by pyarrow, which is not here: pip install 'aistat_jax[cohort]'"
        ) from error
    with io.BytesIO() as stream:
        table.to_parquet(stream, index=False)
        return stream.getvalue()


# --------------------------------------------------------------------------------- reading


def _summary(name: str, found: Found, tolerances: dict[str, Any]) -> Mapping[str, Any]:
    """The content of summary.json, whatever a case is given as."""
    if isinstance(found, Case):
        return summary_of(found)
    if isinstance(found, Posterior):
        found = [found]
    if isinstance(found, str | os.PathLike):
        return read_summary(Path(found))
    if isinstance(found, Mapping):
        return _checked(name, found)
    if not all(isinstance(each, Posterior) for each in found):
        raise InputError(f"{name}: a case is a folder, a summary, a Case or posteriors")
    graded = [contour_of(p, **tolerances) for p in found]
    settings = {f"tolerance_{each.unit}": each.grade.tolerance for each in graded}
    targets = [target_summary(each) for each in graded]
    return {"schema": SCHEMA, "settings": settings, "targets": targets}


def read_summary(path: Path) -> Mapping[str, Any]:
    """The content of a run's summary.json, from its path or that of its folder."""
    return _checked(str(path), _read(path))


def _read(path: Path) -> Any:
    path = path / "summary.json" if path.is_dir() else path
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise InputError(
            f"{path}: cannot be read ({why}); pass a folder of a finished run"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: this is not JSON; pass the summary.json of a run") from error


def _checked(name: str, summary: Any) -> Mapping[str, Any]:
    if not isinstance(summary, Mapping) or "targets" not in summary:
        raise InputError(f"{name}: this is not the summary of a contoured case; pass summary.json")
    if summary.get("schema", SCHEMA) not in READ:
        raise InputError(
            f"{name}: this summary has schema {summary['schema']} and this version reads "
            f"{' and '.join(map(str, READ))}; contour the case again, or update"
        )
    return summary


# --------------------------------------------------------------------------------- rows


def _of_targets(name: str, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for target in summary["targets"]:
        size, (unit, band) = target["size"], _lengths(target)
        rows.append(
            {
                "case": name,
                "target": target["id"],
                "grade": target["grade"]["case"],
                "size": size["q500"],
                "size_low": size["q025"],
                "size_high": size["q975"],
                "size_unit": size["unit"],
                "half_width": band["median"],
                "half_width_largest": band["max"],
                "unit": unit,
                "passed": target["diagnostics"]["converged"],
                "tolerance": _number(summary.get("settings", {}).get(f"tolerance_{unit}")),
                "trusted_to": _trusted_to(target["grade"], unit),
                "presence": target.get("presence", np.nan),
                **_agreement(target.get("reference", {})),
            }
        )
    return rows


def _of_case(name: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    targets = summary["targets"]
    cases = [target["grade"]["case"] for target in targets]
    widths = [_lengths(target) for target in targets]
    found = summary.get("reference", {})
    return {
        "case": name,
        "targets": len(targets),
        **{which: cases.count(which) for which in GRADES},
        "half_width": float(np.median([band["median"] for _, band in widths]))
        if widths
        else np.nan,
        "unit": widths[0][0] if widths else "",
        **_agreement(found),
        "band_share": _number(found.get("band_share")),
    }


def _lengths(target: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    unit = "mm" if "band_half_width_mm" in target else "px"
    return unit, target[f"band_half_width_{unit}"]


def _trusted_to(grade: Mapping[str, Any], unit: str) -> float:
    """Infinite where there is none, NaN where nothing is said."""
    name = f"trusted_to_{unit}"
    return np.nan if name not in grade else np.inf if grade[name] is None else float(grade[name])


def _agreement(found: Mapping[str, Any]) -> dict[str, float]:
    unit = "px" if "assd_px" in found else "mm"
    names = {"dice": "dice", "assd": f"assd_{unit}", "hd95": f"hd95_{unit}"}
    return {name: _number(found.get(key)) for name, key in names.items()}


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


# --------------------------------------------------------------------------------- printing


def _printed(row: Mapping[str, Any], shared: Mapping[str, str]) -> dict[str, str]:
    """One row in words, by the heads of its columns."""
    length, out = str(row.get("unit", "")), {"Case": str(row["case"])}

    def put(head: str, text: str, unit: str, common: str) -> None:
        known = text != _MISSING
        out[f"{head} ({common})" if common else head] = (
            f"{text} {unit}" if known and not common else text
        )

    if "target" in row:
        out |= {"Target": str(row["target"]), "Grade": str(row["grade"])}
        low, high = (_figures(row[name]) for name in ("size_low", "size_high"))
        size = f"{_figures(row['size'])} ({low} to {high})"
        put("Size", size, _power(row["size_unit"]), _power(shared["size_unit"]))
        put("Half-width", _figures(row["half_width"]), length, shared["unit"])
        put("Largest", _figures(row["half_width_largest"]), length, shared["unit"])
    else:
        out |= {"Targets": str(row["targets"])}
        out |= {which.capitalize(): str(row[which]) for which in GRADES}
        put("Half-width", _figures(row["half_width"]), length, shared["unit"])
    if "trusted_to" in row:
        put("Trusted to", _figures(row["trusted_to"]), length, shared["unit"])
    for name, head in (("presence", "Present"), ("dice", "Dice"), ("band_share", "In band")):
        if name in row:
            out[head] = _MISSING if np.isnan(row[name]) else f"{row[name]:.2f}"
    for name, head in (("assd", "ASSD"), ("hd95", "HD95")):
        if name in row:
            put(head, _figures(row[name]), length, shared["unit"])
    return out


def _only(table: DataFrame, column: str) -> str:
    """The one unit of a column, or nothing where there are several."""
    units = {str(row.get(column, "")) for row in table.to_dict("records")} - {""}
    return units.pop() if len(units) == 1 else ""


def _figures(value: float) -> str:
    """Three significant figures, thousands apart."""
    if not np.isfinite(value):
        return _MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def _power(unit: str) -> str:
    return unit.replace("2", "²").replace("3", "³")


def _tex_row(cells: Any) -> str:
    escaped = ("".join(_SIGNS.get(sign, sign) for sign in " ".join(str(c).split())) for c in cells)
    return " & ".join(escaped) + r" \\"
