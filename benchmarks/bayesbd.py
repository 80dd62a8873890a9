"""How near does the posterior come to the published simulation of BayesBD?

Syring & Li 2017, The R Journal 9(2), tables 3 and 4: 100 x 100 observations in the unit square,
hard steps, 100 replicates of each of three scenarios. The prior knows nothing of the truth: the
package's own weak hyperpriors, the squared-exponential spectrum that BayesBD itself uses, and a
rough radius of a quarter of the square's side.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from aistat_jax.boundary.intensity import point_intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.targets import Target
from aistat_jax.data.simulators import BayesBDImage, bayesbd_image
from aistat_jax.inference.fit import fit
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.overlap import lebesgue_error
from aistat_jax.uncertainty.surface_distance import surface_distances
from benchmarks._table import Result, Row, share_interval

FAMILIES = {"S1": "bernoulli", "S2": "bernoulli", "S3": "gaussian"}
# Lebesgue error, Hausdorff distance: asked; then published with seconds a replicate.
ASKED = {"S1": (0.01, 0.02), "S2": (0.02, 0.09), "S3": (0.005, 0.01)}
PUBLISHED = {"S1": (0.01, 0.02, 100), "S2": (0.02, 0.09, 82), "S3": (0.00, 0.01, 488)}
COVERED = {"S1": 0.9, "S3": 0.9}
ROUGH_RADIUS, RADIUS_MAX = 0.25, 0.7
# A hard step needs rays finer than a pixel: points between two rays are shared linearly, which
# smooths the step where the boundary runs at a slant.
RAYS, HARMONICS, DRAWS = 1024, 16, 1024
SEEDS = range(100, 200)
PROCESSES = 2
PRIOR = Prior(smoothness=float("inf"))


def model_of(
    image: BayesBDImage,
    *,
    rays: int = RAYS,
    harmonics: int = HARMONICS,
    prior: Prior = PRIOR,
) -> BoundaryModel:
    """The hard-step model of one simulated image, with weak hyperpriors."""
    target = Target(image.reference, ROUGH_RADIUS, image.plane, image.scenario)
    evidence = point_intensity(image.positions, image.values, family=FAMILIES[image.scenario])
    return boundary_model(
        target, evidence, rays=rays, harmonics=harmonics, radius_max=RADIUS_MAX, prior=prior
    )


def replicate(scenario: str, seed: int, **settings: Any) -> dict[str, Any]:
    """One image simulated, fitted and compared with its truth."""
    image = bayesbd_image(seed, scenario)
    fitting = {"method": "smc", "draws": DRAWS} | settings.pop("fitting", {})
    start = time.perf_counter()
    model = model_of(image, **settings)
    posterior = fit(model, seed=seed, **fitting)
    seconds = time.perf_counter() - start
    band = simultaneous_band(posterior, 0.95)
    curve = posterior.chart.surface(posterior.estimate)
    diagnostics = posterior.diagnostics
    return {
        "lebesgue": lebesgue_error(curve, image.truth),
        "hausdorff": surface_distances(curve, image.truth).hausdorff,
        "held": bool(band.contains(image.true_radii(posterior.chart.angles))),
        "half_width": float(np.median(band.half_width)),
        "seconds": seconds,
        "ess": diagnostics.ess_min,
        "rhat": diagnostics.rhat_max or 1.0,
        "converged": diagnostics.converged,
    }


def replicates_of(scenario: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Replicates in PROCESSES processes, each of which compiles first."""
    context = multiprocessing.get_context("spawn")
    compiles = (scenario, 10_000)
    with ProcessPoolExecutor(
        PROCESSES, mp_context=context, initializer=replicate, initargs=compiles
    ) as pool:
        return list(pool.map(partial(replicate, scenario), seeds))


def run(quick: bool, scenario: str) -> Result:
    seeds = SEEDS[:3] if quick else SEEDS
    found = replicates_of(scenario, seeds)
    column = {name: np.array([each[name] for each in found]) for name in found[0]}
    area, distance = ASKED[scenario]
    before = PUBLISHED[scenario]
    hits = int(column["held"].sum())
    low, high = share_interval(hits, len(seeds))
    rows = [
        Row("Lebesgue error, mean", float(column["lebesgue"].mean()),
            at_most=area, note=f"published {before[0]:.2f}; {_error(column['lebesgue'])}"),
        Row("Hausdorff distance, mean", float(column["hausdorff"].mean()),
            at_most=distance, note=f"published {before[1]:.2f}; {_error(column['hausdorff'])}"),
        Row("95% band holds the whole boundary", hits / len(seeds),
            at_least=COVERED.get(scenario), note=f"95% interval {low:.3f} to {high:.3f}"),
        Row("seconds a replicate, warm", float(column["seconds"].mean()), "s",
            note=f"published {before[2]} s on the authors' machine"),
        Row("effective draws a second", float((column["ess"] / column["seconds"]).mean()), "/s"),
    ]  # fmt: skip
    worst = int(column["hausdorff"].argmax())
    details = [
        {
            "replicates": len(seeds),
            "diagnostics passed": float(column["converged"].mean()),
            "largest R-hat": float(column["rhat"].max()),
            "smallest ESS": float(column["ess"].min()),
            "band half-width, median": float(np.median(column["half_width"])),
            "Lebesgue error, median": float(np.median(column["lebesgue"])),
            "Hausdorff, median": float(np.median(column["hausdorff"])),
            "Hausdorff, largest": float(column["hausdorff"][worst]),
            "its seed": seeds[worst],
        }
    ]
    notes = [
        "Weak hyperpriors, squared-exponential spectrum, "
        f"rough radius {ROUGH_RADIUS}, radius_max {RADIUS_MAX}, {RAYS} rays, "
        f"{HARMONICS} harmonics, {DRAWS} draws by tempered sequential Monte Carlo in four "
        f"populations. Seeds {seeds[0]} to {seeds[-1]}. The settings were chosen on seeds 1000 to "
        "1002; a first run on seeds 0 to 99 showed that the sampler's start could be too narrow, "
        "which was mended; neither is scored.",
        f"{PROCESSES} replicates run side by side, each on one core.",
        "Lengths are shares of the square's side; the estimate is the posterior mean radius.",
    ]
    return Result(f"The published simulation of BayesBD, {scenario}", rows, notes, details)


def _error(values: np.ndarray) -> str:
    return f"standard error {values.std(ddof=1) / np.sqrt(len(values)):.2g}"
