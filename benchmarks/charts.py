"""Do the posteriors of every chart mean what they say? Calibration of surfaces, offsets and rings.

As in `calibration`: truths from the prior of the fit, intensities from the conjugate prior of the
fit, and data from the model itself at points that lie exactly on the rays or normals of the chart,
where the simulated and the fitted model are one and the same. Noise that neighbours share is
judged by the band alone (`voxels`), of lesions in voxels as a scanner sees them.

Replicates are independent, and run in as many processes as `workers` says; the figures do not
depend on how many.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np

from aistat_jax._record import replace
from aistat_jax.boundary.families import StepPrior
from aistat_jax.boundary.intensity import intensity, point_intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.nested import nested_prior
from aistat_jax.boundary.offsets import offset_target
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.rings import ring_target
from aistat_jax.boundary.volume import VolumeTarget
from aistat_jax.data.textures import correlated_noise
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.prior import prior_draws
from aistat_jax.space.chart import LINKS, interpolated
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.calibration import Ranks, sbc_ranks
from benchmarks._table import Result, Row, share_interval
from benchmarks.calibration import BLUR, FALSE_ALARM, PRIOR, STEP, shrunk

COUNT, CONTROLS, FEW = 300, 60, 6
TOGETHER = 3
SHRINK = 0.7
# Truths of offsets keep to the reach of their normals, and walls to some blurs.
NEAR = Prior(amplitude=0.05, amplitude_log_sd=0.3, lengthscale_log_sd=0.3, mean_log_sd=0.05)
# Steps of five sds up into the wall, and of either sign, 2 sds large, into the core.
RING_STEP = StepPrior(np.array([0.0, 5.0]), np.array([1.0, 0.25]), np.asarray(8.0), np.asarray(8.0))
PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (96, 96), "px")
GRID = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (40, 40, 16))
# Voxels of PET: as wide as the point spread, noise alike so far that one in twenty counts.
SPACING, SHAPE, SPREAD, CORRELATION = (3.0, 3.0, 4.0), (28, 28, 22), 3.0, 1.5
RADIUS, CONTRAST, NOISE, FINE = 20.0, 3.0, 0.5, 3


@dataclass(frozen=True)
class Kind:
    """A chart's target, what is believed of its boundary and its levels, and points on a site."""

    target: Any
    prior: Prior
    step: StepPrior
    points: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What some replicates showed.

    `ranks` and `held` are of the posteriors, and of those scaled by SHRINK about their mean;
    `layers` is what each layer's own band held. Shapes: held (2, replicate), layers (replicate,
    layer).
    """

    ranks: tuple[Ranks, Ranks]
    held: np.ndarray
    layers: np.ndarray
    others: np.ndarray
    seconds: np.ndarray


# -------------------------------------------------------------------------------- the charts


def _sphere() -> Kind:
    return Kind(VolumeTarget(np.full(3, 47.5), 10.0), PRIOR, STEP, 24, {"radius_max": 40.0})


def _offset_curve() -> Kind:
    """Offsets from a strip along an open ring, which no star sees."""
    from tests.helpers import horseshoe_depth

    target = offset_target(horseshoe_depth(PLANE.points()) > 0, PLANE)
    return Kind(target, NEAR, STEP, 24, {"rays": 128, "harmonics": 16})


def _offset_mesh() -> Kind:
    """Offsets from a bent tube."""
    from tests.helpers import tube_depth

    return Kind(offset_target(tube_depth(GRID.points()) > 0, GRID), NEAR, STEP, 24, {})


def _ring() -> Kind:
    """A wall of 13 pixels about a core of 11."""
    depth = np.linalg.norm(PLANE.points() - 47.5, axis=-1)
    target = ring_target((depth < 24) & (depth > 11), PLANE)
    settings = {"rays": 64, "harmonics": 8, "radius_max": 38.0}
    return Kind(target, NEAR, RING_STEP, 24, settings)


KINDS: dict[str, Callable[[], Kind]] = {
    "sphere": _sphere, "offset curve": _offset_curve, "offset mesh": _offset_mesh, "ring": _ring,
}  # fmt: skip


@cache
def _made(name: str) -> tuple[Kind, BoundaryModel]:
    """A kind and its prior; the chart in it is that of every fit."""
    kind = KINDS[name]()
    return kind, boundary_model(kind.target, prior=kind.prior, **kind.settings)


# -------------------------------------------------------------------------------- replicates


def simulate(name: str, seed: int, *, wrong: bool = False) -> tuple[BoundaryModel, Posterior]:
    """A truth of a chart from its prior, and the model fitted to data of it.

    A `wrong` model believes in a third of the amplitude.
    """
    from scipy.special import ndtr

    kind, prior = _made(name)
    chart, truth = prior.chart, prior_draws(prior, 1, seed)
    rng = np.random.default_rng([seed, 5])
    layers, (low, high) = LINKS[chart.link].layers, chart.ends
    lines = chart.sites // layers
    place = (np.arange(kind.points) + rng.uniform(size=(lines, kind.points))) / kind.points
    position = low[:lines, None] + (high - low)[:lines, None] * place
    edges = np.clip(truth.draws[0], low, high)  # as the tables do, beyond their end
    insides = ndtr((edges.reshape(layers, lines, 1) - position) / BLUR)
    step = kind.step
    mean, precision = (step.mean, step.precision) if layers == 1 else nested_prior(step)
    sd = np.sqrt(float(step.rate) / rng.gamma(float(step.shape)))
    level, *steps = mean + sd / np.sqrt(precision) * rng.standard_normal(1 + layers)
    values = level + np.tensordot(steps, insides, 1) + sd * rng.standard_normal(position.shape)
    points = np.stack([chart.line(site, row) for site, row in enumerate(position)])
    evidence = point_intensity(
        points.reshape(-1, chart.dims), values.ravel(), family="blurred", blur=BLUR, prior=step
    )
    believed = kind.prior
    if wrong:
        believed = replace(believed, amplitude=believed.amplitude / 3, amplitude_log_sd=0.2)
    settings = {"chart": chart, "harmonics": kind.settings.get("harmonics")}
    return boundary_model(kind.target, evidence, prior=believed, **settings), truth


def replicated(name: str, seeds: tuple[int, ...], wrong: bool) -> Part:
    """Some replicates, one after the other."""
    prior = _made(name)[1]
    fitted, truths, seconds = [], [], []
    for seed in seeds:
        start = time.process_time()
        model, truth = simulate(name, seed, wrong=wrong)
        # A wrong prior is a control: its doubtful fits stay.
        fitted.append(fit(model, fallback=not wrong, seed=seed))
        truths.append(truth)
        seconds.append(time.process_time() - start)
    true = np.concatenate([truth.radii for truth in truths], axis=1)
    together = {
        n: np.concatenate([t.samples[n] for t in truths], axis=1) for n in truths[0].samples
    }
    drawn = replace(truths[0], radii=true, samples=together)
    ranks, narrow = (sbc_ranks(fitted, drawn, shrink=by, seed=seeds[0]) for by in (1.0, SHRINK))
    pairs = list(zip(fitted, true[0], strict=True))
    held = [[_holds(shrunk(one, by), truth) for one, truth in pairs] for by in (1.0, SHRINK)]
    layers = LINKS[prior.chart.link].layers
    each = [
        [
            _holds(replace(one, radii=half[None]), edge)
            for half, edge in zip(
                np.split(one.draws, layers, axis=1), np.split(truth, layers), strict=True
            )
        ]
        for one, truth in pairs
    ]
    others = np.array([one.method != "laplace" for one in fitted])
    return Part((ranks, narrow), np.array(held), np.array(each), others, np.array(seconds))


def _holds(posterior: Posterior, truth: np.ndarray) -> bool:
    return bool(simultaneous_band(posterior).contains(truth))


def spread(
    job: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Any]:
    """What a job makes of each task, in their order, in so many processes of one thread each."""
    if workers == 1:
        yield from (job(*task) for task in tasks)
        return
    for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(threads, "1")
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(job, *zip(*tasks, strict=True))


def calibrate(name: str, count: int, *, wrong: bool = False, workers: int = 1) -> Part:
    """`count` replicates of a chart; ranks are among 99 draws."""
    some = np.array_split(np.arange(count), max(1, count // TOGETHER))
    tasks = [(name, tuple(int(n) for n in seeds), wrong) for seeds in some]
    parts = list(spread(replicated, tasks, workers))
    ranks = [
        replace(part[0], values=np.concatenate([one.values for one in part]))
        for part in zip(*[part.ranks for part in parts], strict=True)
    ]
    return Part(
        (ranks[0], ranks[1]),
        np.concatenate([part.held for part in parts], axis=1),
        *(np.concatenate([getattr(part, key) for part in parts])
          for key in ("layers", "others", "seconds")),
    )  # fmt: skip


# ------------------------------------------------------------------------- correlated noise


def voxel_image(seed: int) -> tuple[Image, VolumeTarget, np.ndarray]:
    """A lesion from the prior as a PET scanner sees it: contrast 3, noise of sd 0.5.

    Point spread of sd 3 mm, each voxel the mean over its volume (on a grid three times finer along
    each axis), noise of correlation exp(-(d / 1.5)^2) at d voxels along each axis.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([seed, 6])
    sides = np.asarray(SPACING)
    centre = sides * (np.asarray(SHAPE) - 1) / 2 + rng.uniform(-1.5, 1.5, 3)
    target = VolumeTarget(centre, RADIUS, id=f"voxels{seed}")
    prior = boundary_model(target, prior=PRIOR)
    radii = prior_draws(prior, 1, seed).draws[0]
    axes = [
        side * ((np.arange(FINE * n) + 0.5) / FINE - 0.5)
        for side, n in zip(sides, SHAPE, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = np.linalg.norm(points - centre, axis=-1)
    inside = (distance < radii.min()).astype(float)
    shell = (distance >= radii.min() - 2) & (distance < radii.max() + 2)
    edge = interpolated(prior.chart, radii, points[shell])
    width = float(np.prod(sides) ** (1 / 3)) / FINE
    inside[shell] = np.clip(0.5 + (edge - distance[shell]) / width, 0.0, 1.0)
    blurred = gaussian_filter(inside, SPREAD * FINE / sides)
    i, j, k = SHAPE
    clean = blurred.reshape(i, FINE, j, FINE, k, FINE).mean(axis=(1, 3, 5))
    values = CONTRAST * clean + NOISE * correlated_noise(rng, SHAPE, CORRELATION)
    return Image.from_arrays(PT=values, spacing_mm=SPACING), target, radii


def voxels(seed: int, temper: float | str) -> tuple[bool, float, float]:
    """Whether the 95% band held the whole surface, the effective share of voxels, and seconds."""
    start = time.process_time()
    image, target, radii = voxel_image(seed)
    model = boundary_model(target, intensity(image, blur=SPREAD, temper=temper), prior=PRIOR)
    hold = _holds(fit(model, seed=seed, fallback=temper == "auto"), radii)
    share = float(np.asarray(model.data.terms[0].eta))  # pyright: ignore[reportAttributeAccessIssue]
    return hold, share, time.process_time() - start


# -------------------------------------------------------------------------------- benchmark


def run(quick: bool, chart: str, *, workers: int = 1, replicates: int | None = None) -> Result:
    """The figures of one chart, or of "voxels"."""
    count = replicates or (FEW if quick else COUNT)
    control = min(count, FEW if quick else CONTROLS)
    if chart == "voxels":
        return _noise(count, control, workers)
    title = f"Charts: calibration, {chart}"
    right = calibrate(chart, count, workers=workers)
    wrong = calibrate(chart, control, wrong=True, workers=workers)
    layers = right.layers.shape[1]
    rows = [
        *_judged("Laplace", right.ranks[0], right.held[0], good=True),
        *(
            _covers(f"{which} boundary alone: its own 95% band covers", held, (None, None))
            for which, held in zip(("outer", "inner"), right.layers.T, strict=False)
            if layers > 1
        ),
        Row("share sampled by chains or particles", float(right.others.mean())),
        Row("a replicate, on one core, median", float(np.median(right.seconds)), "s"),
        *_judged(
            f"control, posterior scaled by {SHRINK}", right.ranks[1], right.held[1], good=False
        ),
        *_judged("control, a third of the amplitude", wrong.ranks[0], wrong.held[0], good=False),
    ]
    notes = [
        f"Alarm at a family-wise p below {FALSE_ALARM:g} (Bonferroni over "
        f"{len(right.ranks[0].names)} quantities and two tests: chi-square and ECDF).",
        "Points lie exactly on the rays or normals of the chart.",
    ]
    details = [
        {"quantity": name, "chi-square p": chi, "ECDF p": ecdf}
        for name, (chi, ecdf) in right.ranks[0].p_values().items()
    ]
    return Result(title, rows, notes, details)


def _judged(name: str, ranks: Ranks, held: np.ndarray, *, good: bool) -> list[Row]:
    note = f"{len(held)} prior draws" + ("" if good else "; must fail")
    bounds = (FALSE_ALARM, None) if good else (None, FALSE_ALARM)
    return [
        Row(f"{name}: ranks uniform, family-wise p", ranks.p, "", *bounds, note=note),
        _covers(
            f"{name}: 95% simultaneous band covers", held, (0.93, 0.97) if good else (None, 0.93)
        ),
    ]


def _covers(
    name: str, held: np.ndarray, bounds: tuple[float | None, float | None], more: str = ""
) -> Row:
    """A share, with its Monte-Carlo error and interval."""
    share, (low, high) = float(held.mean()), share_interval(int(held.sum()), len(held))
    error = np.sqrt(share * (1 - share) / len(held))
    note = (
        f"{len(held)} replicates, standard error {error:.3f}, 95% interval {low:.3f} to {high:.3f}"
    )
    return Row(name, share, "", *bounds, note=note + more)


def _noise(count: int, control: int, workers: int) -> Result:
    rows = []
    cases: tuple[tuple[str, float | str, int, tuple[float | None, float | None]], ...] = (
        ("tempered", "auto", count, (0.9, None)),
        ("control, untempered", 1.0, control, (None, 0.9)),
    )
    for name, temper, many, bounds in cases:
        found = list(spread(voxels, [(seed, temper) for seed in range(many)], workers))
        held, share, seconds = (np.array(column) for column in zip(*found, strict=True))
        more = f"; mean effective share of voxels {share.mean():.3f}"
        rows.append(_covers(f"{name}: 95% band holds the whole surface", held, bounds, more))
        rows.append(Row(f"{name}: a replicate, median", float(np.median(seconds)), "s"))
    note = (
        f"Voxels of {SPACING} mm, point spread {SPREAD:g} mm, radius {RADIUS:g} mm, contrast "
        f"{CONTRAST:g}, noise of sd {NOISE:g} and correlation exp(-(d / {CORRELATION:g})^2) at d "
        "voxels along every axis, of which the model knows by its temper alone."
    )
    return Result("Charts: noise that neighbours share, in space", rows, [note])
