"""What does a person read about a contour? One self-contained page with pictures and tables."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistat_jax._files import replaced_file
from aistat_jax.uncertainty.grading import CASE_CUTS, LOCAL_CUTS
from aistat_jax.views.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

_MARKS = {"green": "●", "amber": "▲", "red": "■"}
_METHODS = {
    "laplace": "nested Laplace with importance sampling",
    "nuts": "NUTS (Hamiltonian Monte Carlo)",
    "vi": "variational inference",
    "smc": "sequential Monte Carlo",
}
_ABOUT = (
    "The band of a contour is the strip that holds the whole true boundary at once with the "
    "stated posterior probability, given the model. A place on the boundary is green when the "
    "posterior probability of being off by more than the tolerance there is below "
    f"{LOCAL_CUTS[0]:.0%}, amber up to {LOCAL_CUTS[1]:.0%} and red above. The contour as a whole "
    "is green when a posterior draw is expected to agree with the estimate, within the "
    f"tolerance, along at least {CASE_CUTS[0]:.0%} of its length, amber from {CASE_CUTS[1]:.0%} "
    "and red below, or when the fit fails its own checks. These cut-offs are this project's own "
    "definition, not a clinical standard."
)
_CSS = """
body{font:15px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:60rem;margin:2rem auto;
padding:0 1.2rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2rem 0 .5rem;
border-bottom:1px solid #bbb}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
.meta{color:#555;font-size:.9rem}
table{border-collapse:collapse;margin:.4rem 0 1rem;width:100%}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #ddd;
vertical-align:top}
th{font-weight:600}td.n{font-variant-numeric:tabular-nums}tbody th{width:17rem;font-weight:400}
.grade{display:inline-block;border:2px solid;border-radius:.3rem;padding:0 .5rem;font-weight:700;
white-space:nowrap}
.green{border-color:#00806a;color:#00604f}.amber{border-color:#c08a00;color:#6e4f00}
.red{border-color:#b30d49;color:#8f0a3a}
figure{margin:1rem 0;break-inside:avoid}figure img{max-width:100%;height:auto}
figcaption{color:#444;font-size:.9rem}
.about{background:#f4f4f4;border-left:4px solid #888;padding:.6rem 1rem;break-inside:avoid}
section{break-inside:avoid-page}
@media print{body{margin:0;max-width:none;font-size:11pt}.about{background:none}
figure img{max-height:10.5cm}}
"""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: Mapping[str, Any],
    figures: Sequence[tuple[str, Figure]] = (),
    version: str = "",
) -> Path:
    """One HTML page, with its pictures inside, about every target of a run.

    `summary` is the content of summary.json; `figures` are (caption, figure) in the order shown.
    Everything is escaped, nothing is fetched, and the file is moved into place when complete.
    Returns the path written.
    """
    path = Path(path)
    targets = list(summary.get("targets", ()))
    inputs = ", ".join(str(name) for name in summary.get("inputs", ())) or "none named"
    made_by = f"aistat_jax {version or summary.get('version', '')}".strip()
    parts = [
        f"<h1>{_safe(title)}</h1>",
        f'<p class="meta">{_safe(made_by)} · seed {_safe(summary.get("seed", "not given"))} · '
        f"inputs: {_safe(inputs)}</p>",
        _overview(targets),
        _comparison(summary),
        *(_figure(caption, figure) for caption, figure in figures),
        *(_target(target) for target in targets),
        f'<h2>How to read this</h2><p class="about">{_safe(_ABOUT)}</p>',
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{_CSS}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _overview(targets: Sequence[Mapping[str, Any]]) -> str:
    """All targets in one table."""
    if not targets:
        return "<p>No target was found.</p>"
    rows = []
    for target in targets:
        size, (unit, band) = target.get("size", {}), _band(target)
        cells = (
            f"{_number(size.get('mean'))} ± {_number(size.get('sd'))} {_power(size.get('unit'))}",
            f"{_number(band.get('median'))} (largest {_number(band.get('max'))}) {unit}",
        )
        rows.append(
            f"<tr><td>{_safe(target.get('id', ''))}</td><td>{_badge(target)}</td>"
            + "".join(f'<td class="n">{_safe(cell)}</td>' for cell in cells)
            + "</tr>"
        )
    return (
        "<table><thead><tr><th>Target</th><th>Grade</th><th>Size, mean ± sd</th>"
        "<th>Band half-width, median</th></tr></thead><tbody>" + "".join(rows) + "</tbody></table>"
    )


def _comparison(summary: Mapping[str, Any]) -> str:
    """Agreement with a reference, and the targets that were left out, where there are any."""
    parts = []
    found = summary.get("reference")
    if found:
        unit = "mm" if "assd_mm" in found else "px"
        rows = [
            ("Compared over", "the whole volume" if found["scope"] == "volume" else "the slices"),
            ("Dice", _number(found["dice"])),
            ("Average symmetric surface distance", f"{_number(found[f'assd_{unit}'])} {unit}"),
            ("95% Hausdorff distance", f"{_number(found[f'hd95_{unit}'])} {unit}"),
            (
                "Reference inside the 95% band",
                f"{_share(found['band_share'])} of {found['slices_compared']} slices",
            ),
        ]
        parts.append(f"<h2>Against the reference</h2>{_table(rows)}")
    skipped = [(str(one["id"]), str(one["reason"])) for one in summary.get("skipped", ())]
    if skipped:
        parts.append(f"<h2>Left out</h2>{_table(skipped)}")
    return "".join(parts)


def _target(target: Mapping[str, Any]) -> str:
    """Everything about one target: reasons first, then the numbers behind them."""
    size, grade = target.get("size", {}), target.get("grade", {})
    unit, band = _band(target)
    diagnostics, seconds = target.get("diagnostics", {}), target.get("seconds", {})
    square = _power(size.get("unit"))
    method = str(target.get("method", ""))
    fraction = grade.get("fraction", {})
    numbers = [
        ("Size, mean ± sd", f"{_number(size.get('mean'))} ± {_number(size.get('sd'))} {square}"),
        (
            "Size, median and 95% interval",
            f"{_number(size.get('q500'))} ({_number(size.get('q025'))} to "
            f"{_number(size.get('q975'))}) {square}",
        ),
        (
            "Band half-width",
            f"median {_number(band.get('median'))}, 95% point {_number(band.get('q95'))}, "
            f"largest {_number(band.get('max'))} {unit}",
        ),
        (
            "Share of the boundary",
            ", ".join(f"{_MARKS[name]} {name} {_share(fraction.get(name))}" for name in _MARKS),
        ),
    ]
    checks = [
        ("Method", _METHODS.get(method, method)),
        ("Passed its own checks", "yes" if diagnostics.get("converged") else "no"),
        ("Smallest effective sample size", _number(diagnostics.get("ess_min"))),
        ("Pareto k of the importance weights", _number(diagnostics.get("khat"))),
        ("Largest R-hat", _number(diagnostics.get("rhat_max"))),
        ("Divergent transitions", _number(diagnostics.get("divergences"))),
        *(("Remark", str(reason)) for reason in diagnostics.get("reasons", ())),
        *((f"Seconds, {name}", _number(value)) for name, value in seconds.items()),
    ]
    reasons = "".join(f"<li>{_safe(reason)}</li>" for reason in grade.get("reasons", ()))
    return (
        f"<section><h2>{_safe(target.get('id', 'target'))} {_badge(target)}</h2>"
        f"<h3>Why this grade</h3><ul>{reasons or '<li>No reason was given.</li>'}</ul>"
        f"<h3>Size and uncertainty</h3>{_table(numbers)}"
        f"<h3>Can the numbers be trusted?</h3>{_table(checks)}</section>"
    )


def _figure(caption: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=150)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = _safe(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{_safe(name)}</th><td class="n">{_safe(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><tbody>{body}</tbody></table>"


def _badge(target: Mapping[str, Any]) -> str:
    """The case grade as a shape and a word, so that no colour is needed to read it."""
    case = str(target.get("grade", {}).get("case", ""))
    if case not in _MARKS:
        return '<span class="grade">not graded</span>'
    return f'<span class="grade {case}">{_MARKS[case]} {case}</span>'


def _band(target: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The unit and the numbers of the band's half-width, in mm or, without spacing, px."""
    for unit in ("mm", "px"):
        if f"band_half_width_{unit}" in target:
            return unit, target[f"band_half_width_{unit}"]
    return "", {}


def _power(unit: Any) -> str:
    return str(unit or "").replace("2", "²").replace("3", "³")


def _share(value: Any) -> str:
    return "-" if value is None else f"{float(value):.0%}"


def _number(value: Any) -> str:
    """Three significant digits, thousands apart; a dash for what does not apply."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def _safe(text: Any) -> str:
    return html.escape(str(text), quote=True)
