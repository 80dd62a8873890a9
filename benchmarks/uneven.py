"""Do bands hold lesions of uneven uptake, and how much wider are they for it?

Discs as a network of phantoms draws them: smooth, with lumps (log-sd 0.3, alike over a third of the
radius), with a cold core, and with both, each read with even and with uneven levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.data.phantoms import pet_ct_phantom
from aistat_jax.inference.batch import fit_many
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import grade
from benchmarks._table import Result, Row

KINDS: dict[str, dict[str, Any]] = {
    "smooth": {},
    "lumpy": {"heterogeneity": 0.3},
    "cold core": {"necrosis": True, "radius_mm": 25.0},
    "lumpy with a cold core": {"necrosis": True, "heterogeneity": 0.3, "radius_mm": 25.0},
}
TOLERANCE_MM = 3.0


def run(quick: bool, replicates: int = 100) -> Result:
    count = 4 if quick else replicates
    rows, details = [], []
    for kind, settings in KINDS.items():
        phantoms = [pet_ct_phantom(seed, **settings) for seed in range(count)]
        targets = [
            find_targets(p.image, point_mm=(*p.centre[:2], 0.0), slices="point")[0]
            for p in phantoms
        ]
        for levels in ("even", "uneven"):
            models = [
                boundary_model(target, intensity(phantom.image, "PT", levels=levels))
                for phantom, target in zip(phantoms, targets, strict=True)
            ]
            held, widths, wrong = [], [], 0
            for phantom, posterior in zip(phantoms, fit_many(models), strict=True):
                band = simultaneous_band(posterior)
                held.append(bool(band.holds(phantom.truth)))
                widths.append(float(np.median(band.half_width)))
                green = grade(posterior, tolerance_mm=TOLERANCE_MM).case == "green"
                wrong += green and not held[-1]
            asked = 0.9 if levels == "uneven" else None
            name = f"{kind}, {levels} levels"
            rows += [
                Row(f"{name}: 95% band holds the boundary", float(np.mean(held)), "", asked),
                Row(f"{name}: median half-width", float(np.median(widths)), "mm"),
                Row(f"{name}: green, and not held", float(wrong), f"of {count}"),
            ]
            seeds = " ".join(str(seed) for seed, holds in enumerate(held) if not holds)
            details.append({"lesions": kind, "levels": levels, "seeds not held": seeds})
    notes = [f"Contoured from a point in the middle, PET alone; green at {TOLERANCE_MM:g} mm."]
    return Result("Uneven uptake: coverage and width", rows, notes, details)
