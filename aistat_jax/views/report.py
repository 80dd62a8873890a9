"""What does a person read about a contour? One self-contained page with pictures and tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistat_jax.uncertainty.grading import CASE_CUTS, LOCAL_CUTS, PRESENCE_CUTS
from aistat_jax.views.page import figure, number, safe, table, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

MARKS = {"green": "●", "amber": "▲", "red": "■"}
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
    "and red below, or when the fit fails its own checks. Present is the probability, where a "
    "network gives one, that there is anything to contour in a slice at all: size and band are "
    f"given that there is, and the contour is at best amber below {PRESENCE_CUTS[0]:.0%} and red "
    f"below {PRESENCE_CUTS[1]:.0%}. These cut-offs are this project's own definition, not a "
    "clinical standard."
)


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
    targets = list(summary.get("targets", ()))
    inputs = ", ".join(str(name) for name in summary.get("inputs", ())) or "none named"
    made_by = f"aistat_jax {version or summary.get('version', '')}".strip()
    parts = [
        f"<h1>{safe(title)}</h1>",
        f'<p class="meta">{safe(made_by)} · seed {safe(summary.get("seed", "not given"))} · '
        f"inputs: {safe(inputs)}</p>",
        _overview(targets),
        _comparison(summary),
        *(figure(caption, drawing) for caption, drawing in figures),
        *(target_section(target) for target in targets),
        f'<h2>How to read this</h2><p class="about">{safe(_ABOUT)}</p>',
    ]
    return write_page(path, title, parts)


def _overview(targets: Sequence[Mapping[str, Any]]) -> str:
    """All targets in one table; how probably each is there, where the evidence says so."""
    if not targets:
        return "<p>No target was found.</p>"
    rows, doubted = [], any("presence" in target for target in targets)
    for target in targets:
        size, (unit, band) = target.get("size", {}), _band(target)
        cells = (
            f"{number(size.get('q500'))} {_power(size.get('unit'))} "
            f"({number(size.get('q025'))} to {number(size.get('q975'))})",
            f"{number(band.get('median'))} (largest {number(band.get('max'))}) {unit}",
            *([_share(target.get("presence", 1.0))] if doubted else []),
        )
        rows.append(
            f"<tr><td>{safe(target.get('id', ''))}</td><td>{_badge(target)}</td>"
            + "".join(f'<td class="n">{safe(cell)}</td>' for cell in cells)
            + "</tr>"
        )
    return (
        "<table><thead><tr><th>Target</th><th>Grade</th><th>Size, median (95%)</th>"
        f"<th>Band half-width, median</th>{'<th>Present</th>' if doubted else ''}</tr></thead>"
        "<tbody>" + "".join(rows) + "</tbody></table>"
    )


def _comparison(summary: Mapping[str, Any]) -> str:
    """Agreement with a reference, and the targets that were left out, where there are any."""
    parts = []
    found = summary.get("reference")
    if found:
        unit = "mm" if "assd_mm" in found else "px"
        rows = [
            ("Compared over", "the whole volume" if found["scope"] == "volume" else "the slices"),
            ("Dice", number(found["dice"])),
            ("Average symmetric surface distance", f"{number(found[f'assd_{unit}'])} {unit}"),
            ("95% Hausdorff distance", f"{number(found[f'hd95_{unit}'])} {unit}"),
            (
                "Reference inside the 95% band",
                f"{_share(found['band_share'])} of {found['slices_compared']} slices",
            ),
        ]
        parts.append(f"<h2>Against the reference</h2>{table(rows)}")
    skipped = [(str(one["id"]), str(one["reason"])) for one in summary.get("skipped", ())]
    if skipped:
        parts.append(f"<h2>Left out</h2>{table(skipped)}")
    return "".join(parts)


def target_section(target: Mapping[str, Any]) -> str:
    """Everything about one target: reasons first, then the numbers behind them."""
    size, grade = target.get("size", {}), target.get("grade", {})
    unit, band = _band(target)
    diagnostics, seconds = target.get("diagnostics", {}), target.get("seconds", {})
    square = _power(size.get("unit"))
    method, there = str(target.get("method", "")), target.get("presence")
    fraction = grade.get("fraction", {})
    numbers = [
        ("Size, mean ± sd", f"{number(size.get('mean'))} ± {number(size.get('sd'))} {square}"),
        (
            "Size, median and 95% interval",
            f"{number(size.get('q500'))} ({number(size.get('q025'))} to "
            f"{number(size.get('q975'))}) {square}",
        ),
        (
            "Band half-width",
            f"median {number(band.get('median'))}, 95% point {number(band.get('q95'))}, "
            f"largest {number(band.get('max'))} {unit}",
        ),
        (
            "Share of the boundary",
            ", ".join(f"{MARKS[name]} {name} {_share(fraction.get(name))}" for name in MARKS),
        ),
        *([("Present, probability", _share(there))] if there is not None else []),
    ]
    checks = [
        ("Method", _METHODS.get(method, method)),
        ("Passed its own checks", "yes" if diagnostics.get("converged") else "no"),
        ("Smallest effective sample size", number(diagnostics.get("ess_min"))),
        ("Pareto k of the importance weights", number(diagnostics.get("khat"))),
        ("Largest R-hat", number(diagnostics.get("rhat_max"))),
        ("Divergent transitions", number(diagnostics.get("divergences"))),
        *(("Remark", str(reason)) for reason in diagnostics.get("reasons", ())),
        *((f"Seconds, {name}", number(value)) for name, value in seconds.items()),
    ]
    reasons = "".join(f"<li>{safe(reason)}</li>" for reason in grade.get("reasons", ()))
    return (
        f"<section><h2>{safe(target.get('id', 'target'))} {_badge(target)}</h2>"
        f"<h3>Why this grade</h3><ul>{reasons or '<li>No reason was given.</li>'}</ul>"
        f"<h3>Size and uncertainty</h3>{table(numbers)}"
        f"<h3>Can the numbers be trusted?</h3>{table(checks)}</section>"
    )


def _badge(target: Mapping[str, Any]) -> str:
    """The case grade as a shape and a word, so that no colour is needed to read it."""
    case = str(target.get("grade", {}).get("case", ""))
    if case not in MARKS:
        return '<span class="grade">not graded</span>'
    return f'<span class="grade {case}">{MARKS[case]} {case}</span>'


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
