"""How much faster are distances between masks than those of surface-distance (bench extra)?

Two balls of 256^3 voxels that overlap, tables made beforehand, in seconds of the processor and in
turns; and both must say the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aistat_jax.uncertainty.surface_distance import surface_distances
from benchmarks._table import Result, Row

ASKED = 5.0  # times as fast
SIDE, TURNS = 256, 7


def run(quick: bool, replicates: int = TURNS) -> Result:
    title = "Distances between masks beside surface-distance"
    theirs = reference()
    if theirs is None:
        return Result(title, [], ["Skipped: surface-distance is not installed; it is in `bench`."])
    side, count = (64, 1) if quick else (SIDE, replicates)
    index, scale = np.stack(np.indices((side,) * 3), -1).astype(np.float32), side / SIDE
    a = np.linalg.norm(index - 128 * scale, axis=-1) < 100 * scale
    b = np.linalg.norm(index - scale * np.float32([131, 133, 130]), axis=-1) < 101 * scale
    surface_distances(a[::16, ::16, ::16], b[::16, ::16, ::16], (1.0, 1.0, 1.0))
    ours, others, apart = [], [], 0.0
    for _ in range(count):
        mine, seconds = timed(lambda: surface_distances(a, b, (1.0, 1.0, 1.0)))
        known, longer = timed(lambda: theirs.compute_surface_distances(a, b, (1.0, 1.0, 1.0)))
        apart = max(apart, abs(mine.hd95 - theirs.compute_robust_hausdorff(known, 95)))
        ours.append(seconds)
        others.append(longer)
    ratios = np.array(others) / np.array(ours)
    rows = [
        Row("times as fast, median of turns", float(np.median(ratios)), "x", at_least=ASKED,
            note=f"{ratios.min():.2f} to {ratios.max():.2f}, {count} turns"),
        Row("seconds of the processor, median", float(np.median(ours)), "s",
            note=f"surface-distance {np.median(others):.2f} s"),
        Row("robust Hausdorff distance, largest difference", apart, "voxels", at_most=1e-6),
    ]  # fmt: skip
    return Result(title, rows, [f"Two balls in {side}^3 voxels of side 1."])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def reference() -> Any:
    """surface-distance, with the names that NumPy and SciPy have given up; None without it."""
    from scipy import ndimage

    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        if not hasattr(np, name):
            setattr(np, name, value)
    try:
        from surface_distance import metrics
    except ImportError:
        return None
    found: Any = metrics
    found.ndimage = type("Names", (), {"filters": ndimage, "morphology": ndimage})
    return found
