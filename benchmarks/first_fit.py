"""What does the first contour cost, before anything is compiled? And the next one of another kind?

Each is measured in a fresh process, once with an empty cache of compiled programs and once with the
cache that the first left behind. On a busy machine the processor's seconds are the ones to compare.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._table import Result, Row

STEPS = {
    "default": "a first fit, default prior, PET and CT",
    "smoothness": "then a prior of smoothness 0.5",
    "smooth": "then a squared exponential",
    "term": "then a term of one's own beside the images",
    "term again": "then the same term with other values",
    "raters": "then three raters' contours instead",
    "default again": "a warm fit of the first, median of 20",
}


def run(quick: bool) -> Result:
    repeats = 1 if quick else 3
    cold, kept = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(_fresh(cache))
            kept.append(_fresh(cache))
    rows = []
    for name, what in STEPS.items():
        cpu, wall = _median(cold, name)
        limit = 0.5 if name in ("smoothness", "smooth", "term again") else None
        again, _ = _median(kept, name)
        note = f"{wall:.3g} s by the clock; {again:.3g} s with a cache on disk"
        rows.append(Row(what, cpu, "s", at_most=limit, note=note))
    notes = [
        "Processor's seconds of all threads, without importing the package and reading the image; "
        f"medians over {repeats} fresh processes, 1,000 draws. Steps with a limit are to compile "
        "nothing.",
        "The cache on disk is JAX's own (`JAX_COMPILATION_CACHE_DIR`, with "
        "`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`).",
    ]
    return Result("The first fit", rows, notes)


def _median(found: list[dict[str, list[float]]], name: str) -> tuple[float, float]:
    cpu, wall = np.median([each[name] for each in found], axis=0)
    return float(cpu), float(wall)


def _fresh(cache: str) -> dict[str, list[float]]:
    kept = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "benchmarks.first_fit"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **kept}
    )
    return json.loads(done.stdout.splitlines()[-1])


def steps() -> dict[str, tuple[float, float]]:
    """Seconds of the processor and of the clock of every step, in this process."""
    import jax.numpy as jnp

    import aistat_jax as aj
    from aistat_jax.data.phantoms import pet_ct_phantom

    phantom = pet_ct_phantom(0)
    target = aj.Target(phantom.centre[:2], 20.0, phantom.plane, "lesion")
    images = aj.intensity(phantom.image)

    def diameter(radii: Any, measured: Any, sd: Any) -> Any:
        across = radii[0] + radii[len(radii) // 2]
        return -0.5 * jnp.square((across - measured) / sd)

    def fitted(evidence: aj.Evidence, **prior: float) -> Callable[[], Any]:
        model = aj.boundary_model(target, evidence, prior=aj.Prior(**prior))
        return lambda: aj.fit(model, fallback=False)

    plain = aj.boundary_model(target, images)
    radii = phantom.truth_radii(plain.chart.angles, target.centre)
    curves = [plain.chart.surface(radii * share) for share in (0.97, 1.0, 1.02)]
    calls = {
        "default": fitted(images),
        "smoothness": fitted(images, smoothness=0.5),
        "smooth": fitted(images, smoothness=np.inf),
        "term": fitted(images + aj.term(diameter, 40.0, 2.0)),
        "term again": fitted(images + aj.term(diameter, 41.0, 3.0)),
        "raters": fitted(aj.raters(curves)),
    }
    found = {name: _seconds(call) for name, call in calls.items()}
    warm = np.median([_seconds(calls["default"]) for _ in range(20)], axis=0)
    return {**found, "default again": (float(warm[0]), float(warm[1]))}


def _seconds(call: Callable[[], Any]) -> tuple[float, float]:
    import time

    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    print(json.dumps(steps()))
