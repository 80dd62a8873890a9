"""What does a person read about a contour? One self-contained page with pictures and tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from aistat_jax._errors import InputError
from aistat_jax.boundary.choices import in_words
from aistat_jax.uncertainty.grading import (
    CASE_CUTS,
    GRADES,
    LOCAL_CUTS,
    PRESENCE_CUTS,
    trust_in_words,
)
from aistat_jax.uncertainty.probability import ML
from aistat_jax.uncertainty.triage import Concern, count_grades
from aistat_jax.views.page import figure, image, number, safe, table, write_page

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
ABOUT = (
    "The band of a contour is the strip that holds the whole true boundary at once with the "
    "stated posterior probability, given the model. A place on the boundary is green when the "
    "posterior probability of being off by more than the tolerance there is below "
    f"{LOCAL_CUTS[0]:.0%}, amber up to {LOCAL_CUTS[1]:.0%} and red above. The contour as a whole "
    "is green when a posterior draw is expected to agree with the estimate, within the "
    f"tolerance, along at least {CASE_CUTS[0]:.0%} of its length (a surface: its area), amber "
    f"from {CASE_CUTS[1]:.0%} and red below, or when the fit fails its own checks. It is trusted "
    "to the smallest tolerance at which it would be green. Present is the "
    "probability, where a network gives one, that there is anything to contour at all: size and "
    "band are given that there is, and the contour is at best amber below "
    f"{PRESENCE_CUTS[0]:.0%} and red below {PRESENCE_CUTS[1]:.0%}. These cut-offs are this "
    "project's own definition, not a clinical standard. In pictures the patient's right is on the "
    "left, but for what is seen from the back. Positions are millimetres of the image's own "
    "patient frame (RAS): they grow to the patient's right, to the front and to the head, so that "
    "the first two have the opposite sign of those in DICOM (LPS)."
)
_FIRST = 5  # contours named at the top
_LONG = 10  # rows that are still one table
_CSS = """
body{max-width:100rem;margin:1rem auto}
h2{margin:1.2rem 0 .4rem}
.opening{display:grid;grid-template-columns:minmax(20rem,2fr) 3fr;gap:1.5rem;align-items:start}
.opening figure{margin:0}.headline{font-size:1.25rem;font-weight:600;margin:.6rem 0}
.opening tbody th{width:auto}.opening li{margin:.15rem 0}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));gap:0 2rem}
.tables td,.tables th{padding:.08rem .6rem .08rem 0;font-size:.88rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(11.5rem,1fr));gap:.8rem 1rem}
article{break-inside:avoid;scroll-margin-top:1rem;border-top:1px solid #ccc;padding-top:.3rem}
article:target{outline:3px solid #4fa8f0;outline-offset:4px}
article img{width:100%;height:auto}
@media (min-width:60rem){article:has(details[open]){grid-column:span 3}
article:has(details[open]) img{float:left;width:11.5rem;margin:0 1rem .5rem 0}}
article h3{margin:.2rem 0}article p{margin:.1rem 0;font-size:.85rem;line-height:1.35}
article .why{color:#444}article details{overflow:hidden}
article details *{font-size:.85rem}article tbody th{width:45%}
summary{font-size:.8rem;color:#555;cursor:pointer}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(36rem,100%),1fr));gap:1.5rem;
align-items:start}
@media (max-width:60rem){.opening{grid-template-columns:1fr}}
h2{break-after:avoid}
@media print{body{font-size:9pt}.opening,.pair,.tables{grid-template-columns:1fr 1fr}
.cards{grid-template-columns:repeat(5,1fr)}.tables table{break-inside:avoid}
.tables td,.tables th{font-size:7.5pt;padding-right:.3rem}
article p{font-size:7.5pt}article img{max-height:none}details{display:none}
a{color:inherit;text-decoration:none}}
"""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: Mapping[str, Any],
    figures: Sequence[tuple[str, Figure | Path]] = (),
    version: str = "",
    first: Sequence[Concern] = (),
    pictures: Sequence[Figure] = (),
    size: str = "",
) -> Path:
    """One HTML page, with its pictures inside, about every target of a run.

    It opens with what to do: how many contours have which grade, those to look at `first` (as
    `triage` ranks them), and the `size` of the whole, in words; then a table of all targets, and
    every target beside the others with its picture. `summary` is the content of summary.json;
    `figures` are (caption, figure or PNG file), the first of which stands at the top; `pictures`
    are one small figure a target, or none. Inputs are named by their file alone.

    Everything is escaped, nothing is fetched, and the file is moved into place when complete.
    Returns the path written. Raises InputError for another number of pictures than of targets.
    """
    targets = list(summary.get("targets", ()))
    if pictures and len(pictures) != len(targets):
        raise InputError(
            f"a report of {len(targets)} targets needs as many pictures, or none, "
            f"got {len(pictures)}"
        )
    inputs = ", ".join(_file_name(str(name)) for name in summary.get("inputs", ())) or "none named"
    made_by = f"aistat_jax {version or summary.get('version', '')}".strip()
    drawn = [figure(caption, drawing) for caption, drawing in figures]
    why = {concern.place: concern.reason for concern in first}
    solid = _solid(targets)
    cards = [
        _opened(n, target)
        if solid
        else _card(n, target, pictures[n] if pictures else None, why.get(n))
        for n, target in enumerate(targets)
    ]
    parts = [
        f"<h1>{safe(title)}</h1>",
        f'<p class="meta">{safe(made_by)} · seed {safe(summary.get("seed", "not given"))} · '
        f"inputs: {safe(inputs)}{safe(_settings(summary))}</p>",
        f'<div class="opening"><div>{_what_to_do(targets, first, size)}{_comparison(summary)}</div>'
        f"{''.join(drawn[:1])}</div>",
        _readings(summary),
        _overview(targets),
        _left_out(summary),
        _quantities(summary),
        _every(cards, solid=solid),
        *([f'<div class="pair">{"".join(drawn[1:])}</div>'] if drawn[1:] else []),
        f'<h2>How to read this</h2><p class="about">{safe(ABOUT)}</p>',
    ]
    return write_page(path, title, parts, _CSS)


def _what_to_do(targets: Sequence[Mapping[str, Any]], first: Sequence[Concern], size: str) -> str:
    """Counts of grades, the size, and the contours to look at first, with links to them."""
    cases = [str(target.get("grade", {}).get("case", "")) for target in targets]
    graded = [case for case in GRADES for each in cases if each == case]
    if not targets:
        return "<p>No target was found.</p>"
    what = "surface" if _solid(targets) else "contour"
    said = f"{count_grades(graded, what)}." if graded else f"{len(targets)} {what}s, not graded."
    parts = [f'<p class="headline">{safe(said)}</p>']
    if size:
        parts.append(f"<p>{safe(size)}</p>")
    shown = first[:_FIRST]
    if shown:
        items = "".join(
            f'<li><a href="#t{one.place}">{safe(one.target_id)}</a> {_mark(one.grade)} '
            f"{safe(one.reason)}</li>"
            for one in shown
        )
        rest = len(first) - len(shown)
        more = f"<p>After them: {rest} more.</p>" if rest else ""
        parts.append(f"<h2>Look at these first</h2><ol>{items}</ol>{more}")
    elif graded:
        together = "" if _solid(targets) else ", and neighbouring slices go together"
        parts.append(f"<p>Nothing is amber or red{together}.</p>")
    return "".join(parts)


def _readings(summary: Mapping[str, Any]) -> str:
    """The two readings of a point, and the question that would settle which is meant."""
    found = summary.get("readings", ())
    if not found:
        return ""
    names = "contoured", "dashed in the pictures"
    rows = [
        (
            name,
            f"{number(each['content']['value'])} {each['content']['unit']}"
            + (f", probability {_share(each['probability'])}" if "probability" in each else ""),
        )
        for name, each in zip(names, found, strict=True)
    ]
    text = summary.get("question", {}).get("text", "")
    return f"<h2>Two readings of the point</h2>{table(rows)}<p>{safe(text)}.</p>"


def _overview(targets: Sequence[Mapping[str, Any]]) -> str:
    """All targets in tables side by side; how probably each is there, where the evidence says."""
    if not targets:
        return ""
    rows, doubted = [], any("presence" in target for target in targets)
    trusted = any(_trusted(target) for target in targets)
    for n, target in enumerate(targets):
        size, (unit, band) = _size(target), _band(target)
        cells = (
            f"{number(size.get('q500'))} {_power(size.get('unit'))} "
            f"({number(size.get('q025'))} to {number(size.get('q975'))})",
            f"{number(band.get('median'))} (largest {number(band.get('max'))}) {unit}",
            *([_trusted(target).removeprefix("trusted ")] if trusted else []),
            *([_share(target.get("presence", 1.0))] if doubted else []),
        )
        rows.append(
            f'<tr><td><a href="#t{n}">{safe(target.get("id", ""))}</a></td>'
            f"<td>{_badge(target)}</td>"
            + "".join(f'<td class="n">{safe(cell)}</td>' for cell in cells)
            + "</tr>"
        )
    head = (
        "<thead><tr><th>Target</th><th>Grade</th><th>Size, median (95%)</th>"
        f"<th>Band half-width, median</th>{'<th>Trusted</th>' if trusted else ''}"
        f"{'<th>Present</th>' if doubted else ''}</tr></thead>"
    )
    columns = 1 if len(rows) < _LONG else 2
    share = -(-len(rows) // columns)
    tables = (rows[at : at + share] for at in range(0, len(rows), share))
    body = "".join(f"<table>{head}<tbody>{''.join(part)}</tbody></table>" for part in tables)
    return f'<div class="tables">{body}</div>'


def _card(n: int, target: Mapping[str, Any], drawing: Figure | None, why: str | None) -> str:
    """One target among the others: picture, size, what is the matter; its numbers when opened."""
    size, (unit, band) = _size(target), _band(target)
    name = str(target.get("id", "target"))
    seen = "" if drawing is None else image(f"{name}: contour and band on the image", drawing, 130)
    said = f"{number(size.get('q500'))} ± {number(size.get('sd'))} {_power(size.get('unit'))}"
    matter = why or f"band ± {number(band.get('median'))} {unit}"
    return (
        f'<article id="t{n}">{seen}<h3>{safe(name)} {_badge(target)}</h3><p>{safe(said)}</p>'
        f'<p class="why">{safe(matter)}</p>'
        f"<details><summary>Reasons and numbers</summary>{_details(target)}</details>"
        "</article>"
    )


def _opened(n: int, target: Mapping[str, Any]) -> str:
    """One surface among few, with all that is said of it."""
    name = safe(target.get("id", "target"))
    return f'<article id="t{n}"><h3>{name} {_badge(target)}</h3>{_details(target)}</article>'


def _every(cards: Sequence[str], *, solid: bool) -> str:
    if not cards:
        return ""
    what, room = ("surface", "pair") if solid else ("contour", "cards")
    return f'<h2>Every {what}</h2><div class="{room}">{"".join(cards)}</div>'


def _comparison(summary: Mapping[str, Any]) -> str:
    """Agreement with a reference, where there is one."""
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
                _inside(found, solid=_solid(summary.get("targets", ()))),
            ),
        ]
        parts.append(f"<h2>Against the reference</h2>{table(rows)}")
    return "".join(parts)


def _inside(found: Mapping[str, Any], *, solid: bool) -> str:
    """In how many of the targets compared the reference lies inside the band."""
    share, count = found["band_share"], found["slices_compared"]
    if not solid:
        return f"{_share(share)} of {count} slices"
    return "-" if share is None else f"{round(share * count)} of {count}"


def _solid(targets: Sequence[Mapping[str, Any]]) -> bool:
    """Whether targets are surfaces."""
    return any(target.get("dims") == 3 for target in targets)


def _left_out(summary: Mapping[str, Any]) -> str:
    """The targets that could not be read, and why, where there are any."""
    skipped = [(str(one["id"]), str(one["reason"])) for one in summary.get("skipped", ())]
    return f"<h2>Left out</h2>{table(skipped)}" if skipped else ""


def target_section(target: Mapping[str, Any]) -> str:
    """Everything about one target: reasons first, then the numbers behind them."""
    return (
        f"<section><h2>{safe(target.get('id', 'target'))} {_badge(target)}</h2>"
        f"{_details(target)}</section>"
    )


def _details(target: Mapping[str, Any]) -> str:
    size, grade = _size(target), target.get("grade", {})
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
            "Half-width of the band, which holds the whole contour",
            f"median {number(band.get('median'))}, 95% point {number(band.get('q95'))}, "
            f"largest {number(band.get('max'))} {unit}",
        ),
        *_one_place(target),
        (
            "Share of the boundary",
            ", ".join(f"{MARKS[name]} {name} {_share(fraction.get(name))}" for name in MARKS),
        ),
        *([("Green from a tolerance of", _green_from(target))] if _trusted(target) else []),
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
        f"<h3>Why this grade</h3><ul>{reasons or '<li>No reason was given.</li>'}</ul>"
        f"<h3>Size and uncertainty</h3>{table(numbers)}"
        f"<h3>Can the numbers be trusted?</h3>{table(checks)}"
    )


def _trusted(target: Mapping[str, Any]) -> str:
    """Up to where a contour can be trusted, in words; nothing where its summary says nothing."""
    unit, grade = _band(target)[0], target.get("grade", {})
    name = f"trusted_to_{unit}"
    return trust_in_words(grade[name], unit) if name in grade else ""


def _green_from(target: Mapping[str, Any]) -> str:
    """The tolerance from which on a contour is green, and places on it are."""
    unit, _ = _band(target)
    whole = _trusted(target).removeprefix("trusted ").removeprefix("to ")
    places = target["grade"].get(f"trusted_to_by_place_{unit}", {})
    shares = (("half of its places", "median"), ("95% of them", "q95"), ("all", "max"))
    told = [f"{words} {number(places[key])}" for words, key in shares if places.get(key)]
    said = "none, for the reasons above" if whole.startswith("at no") else whole
    return f"{said} ({', '.join(told)} {unit})" if told else said


def _badge(target: Mapping[str, Any]) -> str:
    return _mark(str(target.get("grade", {}).get("case", "")))


def _mark(case: str) -> str:
    """A grade as a shape and a word, so that no colour is needed to read it."""
    if case not in MARKS:
        return '<span class="grade">not graded</span>'
    return f'<span class="grade {case}">{MARKS[case]} {case}</span>'


def _quantities(summary: Mapping[str, Any]) -> str:
    """What the values of channels from DICOM are, and the attributes that they come from."""
    found = summary.get("quantities", {})
    rows = [
        f'<p class="about">{safe(name)} is {safe(str(one["quantity"]))}, from '
        + safe(", ".join(f"{key}: {value}" for key, value in one["from"].items()))
        + safe("".join(f"; {note}" for note in one.get("notes", ())))
        + "</p>"
        for name, one in found.items()
        if one.get("from")
    ]
    return f"<details><summary>Values of the image</summary>{''.join(rows)}</details>" * bool(rows)


def _settings(summary: Mapping[str, Any]) -> str:
    """Level and tolerance, where the summary has them."""
    found = summary.get("settings", {})
    why = f" ({found['tolerance_reason']})" if "tolerance_reason" in found else ""
    said = [f" · tolerance {found[f'tolerance_{unit}']:g} {unit}{why}"
            for unit in ("mm", "px") if f"tolerance_{unit}" in found]  # fmt: skip
    chosen = summary.get("chosen", {})
    if "dims" in chosen:
        how = "as a surface" if chosen["dims"] == 3 else "slice by slice"
        said.append(f" · contoured {how}: {chosen['reason']}")
    charts = [(one["id"], one["chart"], one["reason"]) for one in chosen.get("charts", ())]
    said += [f" · {sentence}" for sentence in in_words(charts)]
    return "".join(said)


def _file_name(name: str) -> str:
    """An input without its folder; words that are no path stay as they are."""
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return path.name if path.is_absolute() or path.suffix else name


def _band(target: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The unit and the numbers of the band's half-width, in mm or, without spacing, px."""
    for unit in ("mm", "px"):
        if f"band_half_width_{unit}" in target:
            return unit, target[f"band_half_width_{unit}"]
    return "", {}


def _one_place(target: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The half-width at any one place; older summaries have none."""
    unit, _ = _band(target)
    if (width := target.get(f"pointwise_half_width_{unit}")) is None:
        return []
    said = f"median {number(width.get('median'))}, largest {number(width.get('max'))} {unit}"
    return [("Half-width at any one place (pointwise)", said)]


def _size(target: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers of the size; a volume of a millilitre or more in ml."""
    size = target.get("size", {})
    if size.get("unit") != "mm3" or not (size.get("q500") or 0.0) >= ML:
        return size
    return {name: "ml" if name == "unit" else value / ML for name, value in size.items()}


def _power(unit: Any) -> str:
    return str(unit or "").replace("2", "²").replace("3", "³")


def _share(value: Any) -> str:
    return "-" if value is None else f"{float(value):.0%}"
