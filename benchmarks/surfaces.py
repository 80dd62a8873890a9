"""Do volumes of surfaces hold, and what do surfaces cost?

Balls seen through a point spread, in noise that neighbours share in all three directions; whether
whole surfaces hold, `charts` tells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from aistat_jax._record import replace
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.data.textures import correlated_noise
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.probability import area_posterior
from benchmarks._table import Result, Row, share_interval

BALLS, SPACING, CORRELATION = (8.0, 12.0, 20.0), (3.0, 3.0, 4.0), 1.0
SCRIPT = """
import json, os, resource, sys, time
import numpy as np
from benchmarks.surfaces import two_channels
import aistat_jax as aj
side = int(sys.argv[1])
image, point = two_channels(side)
target = aj.find_targets(image, point_mm=point, dims=3)[0]
start = time.perf_counter()
model = aj.boundary_model(target, aj.intensity(image))
read = time.perf_counter() - start
seconds = []
for seed in range(int(sys.argv[2])):
    start = time.perf_counter()
    posterior = aj.fit(model, seed=seed, fallback=False, compare=False)
    aj.area_posterior(posterior)
    seconds.append(time.perf_counter() - start)
density = aj.log_density(model)
import jax
with jax.enable_x64(True):
    gradient = jax.jit(jax.grad(density))
    at = np.zeros(density.dim)
    gradient(at).block_until_ready()
    start = time.perf_counter()
    for _ in range(50):
        gradient(at).block_until_ready()
    slope = (time.perf_counter() - start) / 50
print(json.dumps({"read": read, "first": seconds[0], "warm": float(np.median(seconds[1:] or [0])),
    "khat": posterior.diagnostics.khat, "gradient": slope,
    "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def run(quick: bool) -> Result:
    rows = [*_volumes(5 if quick else 50), *_cost(quick)]
    notes = [
        f"Balls: uptake 8 in 1, point spread 3 mm, "
        f"voxels of {SPACING} mm, noise of sd 0.3 alike within {CORRELATION:g} voxel along every "
        "axis; the surface is sought from a point. Costs: two channels of PET and CT, degree 12, "
        "in a process of its own; memory is the process's, image and all.",
    ]
    return Result("Surfaces: volumes and cost", rows, notes)


def _share(name: str, held: list[bool], asked: tuple[float | None, float | None]) -> Row:
    low, high = share_interval(sum(held), len(held))
    note = f"{len(held)} surfaces; {low:.3f} to {high:.3f}"
    return Row(name, float(np.mean(held)), at_least=asked[0], at_most=asked[1], note=note)


def _ball(seed: int, radius: float) -> tuple[Image, Ball]:
    rng = np.random.default_rng([seed, 4])
    shape = tuple(int(2 * np.ceil(2.4 * radius / side + 3)) for side in SPACING)
    middle = np.asarray(SPACING) * (np.asarray(shape) - 1) / 2 + rng.uniform(-2, 2, 3)
    x, y, z = (float(v) for v in middle)
    ball = Ball((x, y, z), radius, 7.0)
    clean = image_of_balls([ball], seed=seed, shape=shape, spacing_mm=SPACING, noise=0.0)
    noise = 0.3 * correlated_noise(rng, shape, CORRELATION)
    return Image.from_arrays(PT=clean.primary.values + noise, spacing_mm=SPACING), ball


def _volumes(count: int) -> list[Row]:
    rows = []
    for temper, asked in (("auto", (0.9, None)), (1.0, (None, 0.9))):
        inside: list[bool] = []
        for radius in BALLS:
            models, truth = [], 4 / 3 * np.pi * radius**3
            for seed in range(count):
                image, ball = _ball(seed, radius)
                target = find_targets(image, point_mm=ball.centre, dims=3)[0]
                models.append(boundary_model(target, intensity(image, temper=temper)))
            fitted: list[Posterior] = fit_many(models)
            found = [area_posterior(posterior).quantiles for posterior in fitted]
            held = [one["q025"] <= truth <= one["q975"] for one in found]
            inside += held
            if temper == "auto":
                half = [(one["q975"] - one["q025"]) / (2 * one["q500"]) for one in found]
                error = [one["q500"] / truth - 1 for one in found]
                row = _share(f"95% interval holds the volume of a ball of {radius:g} mm", held,
                             (None, None))  # fmt: skip
                width = f"; half-width {np.median(half):.1%}, median error {np.median(error):.1%}"
                rows.append(replace(row, note=row.note + width))
        name = "tempered" if temper == "auto" else "control, untempered"
        rows.append(_share(f"{name}: 95% intervals hold the volumes", inside, asked))
    return rows


def two_channels(side: int) -> tuple[Image, tuple[float, float, float]]:
    """PET and CT of a ball of 20 mm, each on side^3 voxels of 2 mm."""
    centre = (side - 1.0, side - 1.0, side - 1.0)
    shape = (side, side, side)
    settings: dict[str, Any] = {"shape": shape, "spacing_mm": (2.0, 2.0, 2.0)}
    pet = image_of_balls([Ball(centre, 20.0, 7.0)], seed=0, noise=0.3, grows=False, **settings)
    ct = image_of_balls([Ball(centre, 20.0, 80.0)], seed=1, noise=20.0, psf_mm=1.0, grows=False,
                        background=0.0, **settings)  # fmt: skip
    channels = {"PT": pet.primary.values, "CT": ct.primary.values}
    return Image.from_arrays(spacing_mm=(2.0, 2.0, 2.0), **channels), centre


def _cost(quick: bool) -> list[Row]:
    repeats, sides = (3, (48, 64)) if quick else (11, (64, 128, 192))
    with tempfile.TemporaryDirectory() as cache:
        cold = _fresh(cache, sides[1], repeats)
        kept = _fresh(cache, sides[1], repeats)
        gradients = {side: _fresh(cache, side, 2)["gradient"] for side in (sides[0], sides[-1])}
    at = f"at {sides[1]}^3"
    return [
        Row(f"a warm fit {at}, with 1000 volumes", cold["warm"], "s", at_most=0.5,
            note=f"khat {cold['khat']:.2f}"),
        Row(f"memory {at}", cold["MB"], "MB", at_most=2048),
        Row(f"reading the evidence {at}", cold["read"], "s"),
        Row("a first fit, nothing compiled", cold["first"], "s", at_most=30),
        Row("a first fit, compiled programs kept on disk", kept["first"], "s", at_most=15),
        Row(f"gradient at {sides[-1]}^3 over that at {sides[0]}^3",
            gradients[sides[-1]] / gradients[sides[0]], at_most=1.3,
            note=f"{1e3 * gradients[sides[0]]:.2f} ms"),
    ]  # fmt: skip


def _fresh(cache: str, side: int, repeats: int) -> dict[str, float]:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, str(side), str(repeats)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
