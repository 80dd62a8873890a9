"""What does a person read about a whole cohort? One self-contained page, sortable, failures first.

Nothing is fetched: thumbnails are inside. Heads of columns are buttons, for mouse and keyboard.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aistat_jax.uncertainty.grading import GRADES
from aistat_jax.views.page import number, safe, write_page
from aistat_jax.views.report import ABOUT, MARKS

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any

_CSS = """
body{max-width:90rem}.headline{font-size:1.25rem;font-weight:600;margin:.6rem 0}
td img{width:5.5rem;height:auto;display:block}td.why{font-size:.85rem;color:#444;max-width:26rem}
th button{font:inherit;font-weight:600;background:none;border:0;padding:0;cursor:pointer;
text-align:left}th button:focus-visible,a:focus-visible{outline:3px solid #4fa8f0}
th[aria-sort=ascending] button::after{content:" ▲"}
th[aria-sort=descending] button::after{content:" ▼"}
.failed{border-color:#555;color:#333}
thead th{position:sticky;top:0;background:#fff}
@media print{td img{width:3rem}th button::after{content:""!important}thead th{position:static}}
"""
_SORT = """
document.querySelectorAll("th button").forEach(function(button){
button.addEventListener("click",function(){
var head=button.parentNode,body=head.closest("table").tBodies[0],at=head.cellIndex;
var down=head.getAttribute("aria-sort")==="ascending",rows=Array.from(body.rows);
function key(row){return row.cells[at].getAttribute("data-key")||""}
rows.sort(function(a,b){var x=key(a),y=key(b),u=parseFloat(x),v=parseFloat(y);
if((x==="")!==(y===""))return x===""?1:-1;
var order=isNaN(u)||isNaN(v)?x.localeCompare(y,undefined,{numeric:true}):u-v;
return down?-order:order});
rows.forEach(function(row){body.appendChild(row)});
Array.from(head.parentNode.cells).forEach(function(cell){cell.removeAttribute("aria-sort")});
head.setAttribute("aria-sort",down?"descending":"ascending")})});
"""


def write_cohort_report(
    path: Path, title: str, table: DataFrame, cases: Path, *, thumbnail: str = "thumbnail.png"
) -> Path:
    """The page of a cohort's table of cases (`cohort_files.cases_table`).

    cases: the folder that holds one a case, by its id, with its thumbnail and its own report, to
    which the page links. Everything is escaped. Returns the path.
    """
    rows = table.to_dict("records")
    bad = [row for row in rows if row["state"] != "done"]
    good = len(rows) - len(bad)
    parts = [
        f"<h1>{safe(title)}</h1>",
        f'<p class="headline">{good} of {len(rows)} cases are done'
        f"{f', {len(bad)} failed' if bad else ''}. {_grades(rows)}</p>",
        _failures(bad),
        "<h2>Every case</h2>",
        _table([row for row in rows if row["state"] == "done"], cases, thumbnail),
        '<p class="about">Volumes have their 95% interval; areas of slices that follow each other '
        "are added up as if their errors were alike. The grade is the worst of a case's contours; "
        f"the half-width of the band is their median. {safe(ABOUT)}</p>",
        f"<script>{_SORT}</script>",
    ]
    return write_page(path, title, parts, _CSS)


def _grades(rows: Sequence[Mapping[str, Any]]) -> str:
    worst = [_worst(row) for row in rows if row["state"] == "done"]
    said = [f"{worst.count(grade)} {grade}" for grade in GRADES if grade in worst]
    return f"By their worst contour: {', '.join(said)}." if said else ""


def _worst(row: Mapping[str, Any]) -> str:
    return next((grade for grade in reversed(GRADES) if row.get(grade, 0)), "")


def _failures(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    body = "".join(
        f'<tr><th scope="row">{safe(row["case"])}</th><td>{safe(row["sentence"])}</td></tr>'
        for row in rows
    )
    return f"<h2>Failed</h2><table><tbody>{body}</tbody></table>"


def _table(rows: Sequence[Mapping[str, Any]], cases: Path, thumbnail: str) -> str:
    if not rows:
        return "<p>No case is done.</p>"
    compared = any(not _missing(row.get("dice")) for row in rows)
    heads = ["Case", "Grade", "Contours", "Volume, ml", "Band half-width"]
    heads += [*(["Dice"] if compared else []), "Look at first"]
    top = "<th>Picture</th>" + "".join(
        f'<th scope="col"><button type="button">{safe(head)}</button></th>' for head in heads
    )
    body = "".join(_row(row, cases, thumbnail, compared) for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _row(row: Mapping[str, Any], cases: Path, thumbnail: str, compared: bool) -> str:
    name, worst = str(row["case"]), _worst(row)
    shown = safe(name)
    if (cases / name / "report.html").is_file():
        shown = f'<a href="cases/{quote(name)}/report.html">{shown}</a>'
    grade = f'<span class="grade {worst}">{MARKS.get(worst, "")} {safe(worst)}</span>'
    volume = "-"
    if not _missing(row.get("volume_ml")):
        low, high = number(row["volume_ml_low"]), number(row["volume_ml_high"])
        volume = f"{number(row['volume_ml'])} ({low} to {high})"
    width = row.get("half_width")
    counts = ", ".join(f"{row[g]} {g}" for g in GRADES if row.get(g, 0))
    cells = [
        _cell(shown, name),
        _cell(grade, str(GRADES.index(worst)) if worst in GRADES else ""),
        _cell(safe(counts), row["targets"]),
        _cell(safe(volume), row.get("volume_ml"), "n"),
        _cell(
            "-" if _missing(width) else f"{number(width)} {safe(row.get('unit', ''))}", width, "n"
        ),
        *([_cell(_two(row.get("dice")), row.get("dice"), "n")] if compared else []),
        _cell(safe(row.get("look_at", "")), row.get("look_at", ""), "why"),
    ]
    return f"<tr><td>{_picture(name, cases / name / thumbnail)}</td>{''.join(cells)}</tr>"


def _cell(content: str, key: Any, kind: str = "") -> str:
    said = "" if _missing(key) else safe(key)
    return f'<td{f" class={kind}" if kind else ""} data-key="{said}">{content}</td>'


def _picture(name: str, path: Path) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="contour of {safe(name)}" src="data:image/png;base64,{data}">'


def _two(value: Any) -> str:
    return "-" if _missing(value) else f"{value:.2f}"


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
