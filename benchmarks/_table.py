"""What is a measured figure, and how are figures kept? Rows, in JSON and as Markdown tables."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._files import write_whole

PACKAGES = ("aistat_jax", "jax", "numpyro", "blackjax", "numpy", "scipy")


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, in which unit, and what was asked of it (inclusive)."""

    figure: str
    measured: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def asked(self) -> str:
        low, high = self.at_least, self.at_most
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        return f"≥ {low:g}" if low is not None else f"≤ {high:g}" if high is not None else ""

    @property
    def met(self) -> bool | None:
        """None where nothing was asked."""
        if self.at_least is None and self.at_most is None:
            return None
        low = -np.inf if self.at_least is None else self.at_least
        high = np.inf if self.at_most is None else self.at_most
        return bool(low <= self.measured <= high)


@dataclass(frozen=True)
class Result:
    """The rows of one benchmark, what a reader must know about them, and a table of details."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    details: Sequence[dict[str, Any]] = field(default=())


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call that has been made once before."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def share_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(hits, count).proportion_ci(level)
    return float(interval.low), float(interval.high)


def save(folder: Path, name: str, result: Result, quick: bool, seconds: float) -> None:
    """Replace one benchmark's part of results.json, and write results.md anew from it."""
    path = folder / "results.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept[name] = {
        "title": result.title,
        "quick": quick,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds, 1),
        "machine": _machine(),
        "rows": [asdict(row) | {"asked": row.asked, "met": row.met} for row in result.rows],
        "notes": list(result.notes),
        "details": list(result.details),
    }
    write_whole(path, json.dumps(kept, indent=1, default=float) + "\n")
    write_whole(folder / "results.md", markdown(kept))


def markdown(kept: dict[str, Any]) -> str:
    """All benchmarks as Markdown: a table of figures each, then notes and details."""
    parts = ["# Measured figures\n\nWritten by `python -m benchmarks`; do not edit.\n"]
    for part in kept.values():
        machine, size = part["machine"], ", few replicates (--quick)" if part["quick"] else ""
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        parts.append(
            f"## {part['title']}\n\n{part['date']}, {part['seconds']:g} s{size}; "
            f"{machine['cores']} cores of {machine['processor']}, load {machine['load']:g}; "
            f"Python {machine['python']}, {packages}\n"
        )
        rows = [
            {
                "figure": row["figure"],
                "asked": row["asked"],
                "measured": f"{_number(row['measured'])} {row['unit']}".strip(),
                "met": {True: "yes", False: "**no**", None: ""}[row["met"]],
                "note": row["note"],
            }
            for row in part["rows"]
        ]
        parts.append(_table(rows))
        parts.extend(f"- {note}" for note in part["notes"])
        if part["details"]:
            parts.append("\n" + _table(part["details"]))
        parts.append("")
    return "\n".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(_number(row.get(name, "")) for name in names) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def _machine() -> dict[str, Any]:
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "source"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1,
        "python": platform.python_version(),
        "packages": packages,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
