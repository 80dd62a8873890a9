"""Do bands hold lesions of uneven uptake, and how much wider are they for it?

Discs as a network of phantoms draws them: smooth, with lumps (log-sd 0.3, alike over a third of the
radius), with a cold core, and with both, each read with even and with uneven levels, and fitted as
`fit` does: what Laplace cannot be trusted with is fitted again, or sampled. The seeds are none of
those that the weight of a voxel among lumps was chosen on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.data.phantoms import pet_ct_phantom
from aistat_jax.inference.batch import alike
from aistat_jax.inference.diagnostics import KHAT_LIMIT, trustworthy
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import Laplace
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import grade
from benchmarks._table import Result, Row, share_interval

KINDS: dict[str, dict[str, Any]] = {
    "smooth": {},
    "lumpy": {"heterogeneity": 0.3},
    "cold core": {"necrosis": True, "radius_mm": 25.0},
    "lumpy with a cold core": {"necrosis": True, "heterogeneity": 0.3, "radius_mm": 25.0},
}
NOISE = {"smooth": ("constant",), "lumpy": ("constant", "poisson")}
# Asked of the share that a 95% band holds, with uneven levels: at least, and of smooth lesions, for
# which they are not needed, at most.
LEAST, SMOOTH = 0.9, (0.93, 0.97)
TOLERANCE_MM = 3.0
FIRST_SEED, DRAWS = 1000, 1000


class Read(NamedTuple):
    """One lesion as it was contoured: errors of the band's centre are means over rays, in mm."""

    held: bool
    half_width: float
    green: bool
    error: float
    outwards: float
    khat: float
    method: str
    seconds: float


def run(quick: bool, replicates: int = 100) -> Result:
    """Quick: two kinds, three lesions each."""
    cases = [(kind, noise) for kind in KINDS for noise in NOISE.get(kind, ("constant",))]
    cases = cases[:2] if quick else cases
    seeds = range(FIRST_SEED, FIRST_SEED + (3 if quick else replicates))
    found: dict[tuple[str, str, str], list[Read]] = {}
    for levels in ("even", "uneven"):
        lesions = [(kind, noise, seed) for seed in seeds for kind, noise in cases]
        for (kind, noise, _), read in zip(lesions, contoured(lesions, levels), strict=True):
            found.setdefault((kind, noise, levels), []).append(read)
    said = [_said(*case, found[case]) for case in sorted(found)]
    notes = [
        f"Contoured from a point in the middle, PET alone; green at {TOLERANCE_MM:g} mm. Seeds "
        f"from {FIRST_SEED}. Seconds are those of one fit, with what is compiled during it."
    ]
    rows = [row for rows, _ in said for row in rows]
    return Result("Uneven uptake: coverage and width", rows, notes, [detail for _, detail in said])


def contoured(lesions: Sequence[tuple[str, str, int]], levels: str) -> Iterator[Read]:
    """Lesions (kind, noise, seed), contoured one after another by one compiled program."""
    phantoms = [pet_ct_phantom(seed, **KINDS[kind]) for kind, _, seed in lesions]
    models, _ = alike([
        boundary_model(
            find_targets(p.image, point_mm=(*p.centre[:2], 0.0), slices="point")[0],
            intensity(p.image, "PT", noise=noise, levels=levels),
        )
        for p, (_, noise, _) in zip(phantoms, lesions, strict=True)
    ])  # fmt: skip
    fit(models[0], Laplace(fallback=False), draws=DRAWS)  # compiled before the clock starts
    for (_, _, seed), model, phantom in zip(lesions, models, phantoms, strict=True):
        start = time.perf_counter()
        posterior = fit(model, Laplace(fallback=False), draws=DRAWS, seed=seed)
        khat = posterior.diagnostics.khat
        if not trustworthy(posterior.diagnostics, DRAWS):
            posterior = Laplace().again(model, posterior, draws=DRAWS, seed=seed)
        seconds = time.perf_counter() - start
        band = simultaneous_band(posterior)
        off = posterior.draws.mean(axis=0)
        off = off - phantom.truth_radii(model.chart.angles, model.target.centre)
        yield Read(
            bool(band.holds(phantom.truth)),
            float(np.median(band.half_width)),
            grade(posterior, tolerance_mm=TOLERANCE_MM).case == "green",
            float(np.abs(off).mean()),
            float(off.mean()),
            np.inf if khat is None else float(khat),
            posterior.method,
            seconds,
        )


def _said(
    kind: str, noise: str, levels: str, reads: list[Read]
) -> tuple[list[Row], dict[str, Any]]:
    count, asked = len(reads), SMOOTH if kind == "smooth" else (LEAST, None)
    least, most = asked if levels == "uneven" else (None, None)
    held = np.array([read.held for read in reads])
    low, high = share_interval(int(held.sum()), count)
    name = f"{kind}, {levels} levels" + (", noise that grows" if noise == "poisson" else "")
    wrong = sum(read.green and not read.held for read in reads)
    seconds = [read.seconds for read in reads]
    rows = [
        Row(
            f"{name}: 95% band holds the boundary", float(held.mean()), "", least, most,
            note=f"95% interval {low:.2f} to {high:.2f}",
        ),
        Row(f"{name}: median half-width", float(np.median([r.half_width for r in reads])), "mm"),
        Row(f"{name}: green, and not held", float(wrong), f"of {count}"),
        Row(f"{name}: mean error", float(np.mean([read.error for read in reads])), "mm"),
        Row(f"{name}: mean error outwards", float(np.mean([r.outwards for r in reads])), "mm"),
        Row(f"{name}: khat above 0.7", float(np.mean([r.khat > KHAT_LIMIT for r in reads]))),
        Row(f"{name}: median seconds", float(np.median(seconds)), "s"),
        Row(f"{name}: longest", float(np.max(seconds)), "s"),
    ]  # fmt: skip
    lost = " ".join(str(FIRST_SEED + k) for k in np.flatnonzero(~held))
    green = sum(read.green for read in reads)
    sampled = sum(read.method != "laplace" for read in reads)
    detail = {
        "lesions": kind, "noise": noise, "levels": levels, "green": green,
        "sampled": sampled, "seeds not held": lost,
    }  # fmt: skip
    return rows, detail
