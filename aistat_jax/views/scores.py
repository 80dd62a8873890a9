"""What does a person see of scores? scores.csv, scores.json, and a table of means."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aistat_jax
from aistat_jax._files import write_whole
from aistat_jax.uncertainty.scores import (
    METRICS,
    LabelScore,
    column,
    means_content,
    summarise,
)

SCHEMA = 1
_VOLUMES = ("predicted_volume", "reference_volume")
_TITLES = {
    "dice": "Dice",
    "surface_dice": "surface Dice",
    "hd95": "HD95",
    "assd": "ASSD",
    "volume_error": "volume error",
    "false_positive_volume": "false-positive volume",
    "false_negative_volume": "false-negative volume",
}


def write_scores(
    folder: Path, scores: Sequence[LabelScore], seed: int = 0, about: dict[str, Any] | None = None
) -> list[str]:
    """scores.csv, one row a case and label (empty where not defined), and scores.json, the means.

    about: more to say in scores.json. Returns the files' names.
    """
    unit = scores[0].unit
    names = (*METRICS, *_VOLUMES)
    with io.StringIO(newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["case", "patient", "label", *(column(name, unit) for name in names)])
        for score in scores:
            values = asdict(score)
            cells = ["" if math.isnan(values[n]) else f"{values[n]:.6g}" for n in names]
            rows.writerow([score.case, score.patient, score.label, *cells])
        write_whole(folder / "scores.csv", stream.getvalue())
    content = {"schema": SCHEMA, "version": aistat_jax.__version__, "seed": seed}
    content |= (about or {}) | means_content(scores, seed)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "scores.json", text + "\n")
    return ["scores.csv", "scores.json"]


def scores_table(scores: Sequence[LabelScore], seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: every label's means with their 95% intervals, and the cases."""
    unit, tolerance = scores[0].unit, scores[0].tolerance
    units = {"surface_dice": f" at {tolerance:g} {unit}", "hd95": f", {unit}", "assd": f", {unit}"}
    units |= {name: f", {unit}³" for name in METRICS if name.endswith("_volume")}
    head = ["label", "cases", "Dice, aggregated"]
    head[2:2] = [_TITLES[name] + units.get(name, "") for name in METRICS]
    rows = []
    for one in summarise(scores, seed=seed):
        left_out = [
            f"{count} {word}"
            for count, word in (
                (one.absent, "absent"), (one.missed, "missed"), (one.invented, "invented"),
            )
            if count
        ]  # fmt: skip
        cases = f"{one.cases} ({', '.join(left_out)})" if left_out else f"{one.cases}"
        means = [_interval(one.means[name], name) for name in METRICS]
        rows.append([one.label, cases, *means, _interval(one.aggregated_dice, "dice")])
    return head, rows


def scores_text(scores: Sequence[LabelScore], seed: int = 0) -> str:
    """The table of means in columns, for a terminal."""
    head, rows = scores_table(scores, seed)
    lines = [head, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _interval(mean: Any, name: str) -> str:
    if not mean.count:
        return "-"
    form = {"volume_error": "+.0%"}.get(name, ".2f" if name in ("hd95", "assd") else ".3f")
    form = ",.0f" if name.endswith("_volume") else form
    text = f"{mean.value:{form}}"
    return text if math.isnan(mean.low) else f"{text} ({mean.low:{form}} to {mean.high:{form}})"
