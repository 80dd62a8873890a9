"""How much nearer to what an expert drew does a contour come by a few points that the expert puts?

A simulated expert looks at the estimate, finds the place at which it and what was drawn are
farthest apart (of either boundary, from the other), and puts one point on the drawn edge there; the
lesion is contoured anew with all points so far; and so on. A contour that is refused leaves the
last one as it was. Where contours are slices, points lie on the outlines in slices.

Two controls get as many points, all at once: at random places of the drawn edge, which are true but
not where it matters, and at random places of the estimate itself, which say what it says already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.hints import ROUGH
from aistat_jax.boundary.meant import largest
from aistat_jax.case import Case
from aistat_jax.space.mesh import surface_from_mask
from aistat_jax.uncertainty.contour import estimate_volume
from aistat_jax.uncertainty.overlap import dice
from benchmarks._table import Result, Row
from benchmarks.edges import WITHIN, departures_from_star, edge_of, scale_of

COUNT, POOR = 3, 0.5
AFTER = tuple(f"Dice after {n}" for n in range(COUNT + 1))
CONTROLS = "random places of the drawn edge", "random places of the estimate"
# Asked of the median Dice after so many corrections, and of the mean, and at most of the share of
# patients below POOR.
MEDIAN, MEAN, BELOW = {0: 0.80, COUNT: 0.88}, {0: 0.77}, {0: 0.05}


def corrected(
    contoured: Callable[..., Case],
    first: Case,
    mask: Bool[np.ndarray, "i j k"],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Dice after each correction of a first case, and of both controls.

    `contoured(edge_mm=points)` contours the same lesion anew. Shapes: mask (i, j, k), what was
    drawn, on the grid of the image's first channel.
    """
    channel = first.image.primary
    flat = first[0].chart.dims == 2
    at_first = estimate_volume(list(first), channel)
    drawn, own = edge_of(mask, channel.grid, flat), edge_of(at_first, channel.grid, flat)
    row: dict[str, Any] = {"a surface": not flat, AFTER[0]: dice(at_first, mask)}
    refused = ""
    estimate, points, apart = at_first, [], []
    began = time.perf_counter()
    for n in range(1, COUNT + 1):
        place, away = worst_place(edge_of(estimate, channel.grid, flat), drawn)
        points.append(place)
        apart.append(away)
        if n == 1 and not flat:
            row["off any star"] = _off_any_star(first, mask, place)
        try:
            case = contoured(edge_mm=np.array(points))
        except InputError as error:
            refused += f"{n}: {error} "
            points.pop()
        else:
            estimate = estimate_volume(list(case), channel)
        row[AFTER[n]] = dice(estimate, mask)
    row["seconds a correction"] = (time.perf_counter() - began) / COUNT
    row["worst, mm"] = "/".join(f"{away:.0f}" for away in apart)
    for name, edge in zip(CONTROLS, (drawn, own), strict=True):
        some = edge[rng.choice(len(edge), COUNT, replace=False)]
        try:
            told = estimate_volume(list(contoured(edge_mm=some)), channel)
        except InputError as error:
            refused += f"{name}: {error} "
            told = at_first
        row[name] = dice(told, mask)
    return row | {"refused": refused}


def unseen(why: str) -> dict[str, Any]:
    """What is found of a patient of whom no first contour was made."""
    return dict.fromkeys((*AFTER, *CONTROLS), 0.0) | {"refused": why}


def of_corrections(title: str, details: list[dict[str, Any]]) -> Result:
    """What corrections come to, beside their controls."""
    rows, first = [], np.array([row[AFTER[0]] for row in details])
    for n, name in enumerate(AFTER):
        found = np.array([row[name] for row in details])
        rows += [
            Row(f"{name} corrections, median", float(np.median(found)), at_least=MEDIAN.get(n)),
            Row(f"{name}, mean", float(found.mean()), at_least=MEAN.get(n)),
            Row(f"{name}, share of patients below {POOR}", float((found < POOR).mean()),
                at_most=BELOW.get(n)),
        ]  # fmt: skip
    gains = {
        name: np.array([row[name] for row in details]) - first for name in (AFTER[-1], *CONTROLS)
    }
    for name in CONTROLS:
        more = gains[AFTER[-1]] - gains[name]
        rows += [
            Row(f"control, {name}: mean gain", float(gains[name].mean()), note=_error(gains[name])),
            Row(f"corrections gain more than {name}, mean", float(more.mean()), at_least=0.0,
                note=_error(more)),
        ]  # fmt: skip
    rows.insert(-4, Row("mean gain of the corrections", float(gains[AFTER[-1]].mean()),
                        note=_error(gains[AFTER[-1]])))  # fmt: skip
    seconds = [row["seconds a correction"] for row in details if "seconds a correction" in row]
    rows.append(Row("seconds a correction, median", float(np.median(seconds)), "s",
                    note=f"at most {max(seconds, default=0.0):.0f}"))  # fmt: skip
    off = [
        np.array([row["off any star"]]) for row in details if row.get("off any star") is not None
    ]
    if len(off) > 1:
        rows.append(
            Row("first places, from the nearest star: scale of a Student t of 2 degrees over the "
                "rough radius", scale_of(off), at_least=ROUGH[3] / WITHIN,
                at_most=ROUGH[3] * WITHIN, note=f"in use {ROUGH[3]:g}; {len(off)} surfaces")
        )  # fmt: skip
    refused = [f"{row['patient']}: {row['refused']}" for row in details if row["refused"]]
    notes = [
        f"{len(details)} patients, from the deepest voxel of the expert's mask. A correction is "
        "one point on the drawn edge, where it and the estimate are farthest apart; one that is "
        "refused changes nothing, nor does a control. Readings are weighed as `real_pet` says. "
        "Controls are of as many points, told at once. ± is the standard error over patients.",
        *refused,
    ]
    return Result(title, rows, notes, details)


def _off_any_star(case: Case, mask: Bool[np.ndarray, "i j k"], place: np.ndarray) -> float | None:
    """How far a place lies from the star nearest to what was drawn, over the rough radius."""
    target = case[0].posterior.model.target
    try:
        outline = surface_from_mask(largest(mask), case.image.primary.grid, 0.0)
        return float(departures_from_star(target, outline, place[None])[0])
    except InputError:
        return None


def _error(values: Float[np.ndarray, " patient"]) -> str:
    return f"± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def worst_place(
    found: Float[np.ndarray, "face 3"], drawn: Float[np.ndarray, "edge 3"]
) -> tuple[Float[np.ndarray, " 3"], float]:
    """The place of the drawn edge at which two boundaries are farthest apart, and how far.

    Where a place of what was found is the farthest, the drawn edge nearest to it.
    """
    from scipy.spatial import KDTree

    to_drawn, nearest = KDTree(drawn).query(found)
    to_found, _ = KDTree(found).query(drawn)
    if to_drawn.max() > to_found.max():
        return drawn[nearest[to_drawn.argmax()]], float(to_drawn.max())
    return drawn[to_found.argmax()], float(to_found.max())
