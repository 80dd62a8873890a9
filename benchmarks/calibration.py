"""Do the posteriors mean what they say? Simulation-based calibration and band coverage.

Truths are drawn from the prior that the fit uses, intensities from the conjugate prior it uses,
and images from the model itself, so that ranks of the truth among posterior draws are uniform if
and only if the computation is right (Talts et al. 2018). The points of an image lie exactly on the
rays of the chart: a point between two rays is shared out between them by interpolation, which is
an approximation of the likelihood, while on a ray the simulated and the fitted model are one and
the same, voxel by voxel. Pixels with footprints, a point spread in two dimensions and correlated
noise come in `correlated_coverage`, where only the band is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from aistat_jax._record import replace
from aistat_jax.boundary.families import BlurredStep, StepPrior
from aistat_jax.boundary.intensity import intensity, point_intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.redrawn import blurred_values
from aistat_jax.boundary.targets import Target
from aistat_jax.data.simulators import interpolate_radii
from aistat_jax.data.textures import correlated_noise
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.fit import fit
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.prior import prior_draws
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Image
from aistat_jax.space.star import StarChart
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.calibration import Ranks, sbc_ranks
from benchmarks._table import Result, Row, share_interval

PRIOR = Prior(
    amplitude=0.15, amplitude_log_sd=0.4, lengthscale=0.45, lengthscale_log_sd=0.3, mean_log_sd=0.15
)
WRONG_PRIOR = replace(PRIOR, amplitude=0.05, amplitude_log_sd=0.2)
# (mu_out, delta) ~ N((0, 3), sigma^2 / (1, 4)), sigma^2 ~ InvGamma(8, 8): a clear contrast.
STEP = StepPrior(np.array([0.0, 3.0]), np.array([1.0, 4.0]), np.asarray(8.0), np.asarray(8.0))
RADIUS, RADIUS_MAX, BLUR = 10.0, 40.0, 1.0
RAYS, HARMONICS, POINTS_A_RAY = 128, 16, 64
FALSE_ALARM = 0.01
# Of the seeds from 0 on the first 120 truths have lengthscales 2.7 standard errors too long, by
# chance: of 20,000 and of 3,000 others the mean is right to .7 and .3 of one.
FIRST = 1000
Bounds = tuple[float | None, float | None]
PLANE = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), (96, 96), "px")


@dataclass(frozen=True)
class Calibration:
    """Ranks of the truths among draws of their posteriors, and what bands held."""

    ranks: Ranks
    held: np.ndarray
    fallbacks: float

    @property
    def covered(self) -> float:
        return float(self.held.mean())


# ------------------------------------------------------------------------------- simulation


def prior_truth(
    seed: int, centre: np.ndarray, radius: float
) -> tuple[StarChart, np.ndarray, dict[str, float]]:
    """A chart, a boundary on it drawn from PRIOR, and the hyperparameters it was drawn with."""
    target = Target(centre, radius, PLANE)
    model = boundary_model(
        target, prior=PRIOR, rays=RAYS, harmonics=HARMONICS, radius_max=RADIUS_MAX
    )
    found = prior_draws(model, 1, FIRST + seed)
    hyper = {name: float(found.samples[name][0, 0]) for name in ("amplitude", "lengthscale")}
    return model.chart, found.draws[0], hyper


def simulate(
    seed: int, prior: Prior = PRIOR, blur: float = BLUR
) -> tuple[BoundaryModel, dict[str, Any]]:
    """A truth from the prior, an image from the model, and the model fitted to it.

    `prior` and `blur` are those of the fit; the simulation always uses PRIOR and BLUR.
    """
    from scipy.special import ndtr

    rng = np.random.default_rng([seed, 1])
    centre = np.full(2, 47.5)
    chart, radii, hyper = prior_truth(seed, centre, RADIUS)
    position = RADIUS_MAX * (np.arange(POINTS_A_RAY) + rng.uniform(size=(RAYS, POINTS_A_RAY)))
    position = position / POINTS_A_RAY
    # as the tables do, beyond their end
    inside = ndtr((np.minimum(radii, RADIUS_MAX)[:, None] - position) / BLUR)
    values = blurred_values(rng, inside, STEP)
    points = np.stack([chart.line(ray, position[ray]) for ray in range(RAYS)])
    evidence = point_intensity(
        points.reshape(-1, 2), values.ravel(), family="blurred", blur=blur, prior=STEP
    )
    model = boundary_model(
        Target(centre, RADIUS, PLANE, f"prior{seed}"), evidence, prior=prior, rays=RAYS,
        harmonics=HARMONICS, radius_max=RADIUS_MAX,
    )  # fmt: skip
    return model, {"radii": radii} | hyper


def shrunk(posterior: Posterior, shrink: float) -> Posterior:
    """The posterior with its boundaries scaled about their mean: the negative control."""
    if shrink == 1:
        return posterior
    mean = posterior.estimate
    return replace(posterior, radii=mean + shrink * (posterior.radii - mean))


def held(
    posteriors: Sequence[Posterior], truths: Sequence[np.ndarray] | np.ndarray, shrink: float = 1.0
) -> np.ndarray:
    """Whether each simultaneous 95% band holds its whole truth (posterior, site)."""
    pairs = zip(posteriors, truths, strict=True)
    bands = ((simultaneous_band(shrunk(one, shrink)), truth) for one, truth in pairs)
    return np.array([bool(band.contains(truth)) for band, truth in bands])


@cache
def posteriors(
    count: int, method: str = "laplace", prior: str = "right", draws: int = 1000
) -> tuple[tuple[Posterior, dict[str, Any]], ...]:
    """Posteriors of `count` truths; `prior` "wrong" fits with WRONG_PRIOR instead."""
    used = PRIOR if prior == "right" else WRONG_PRIOR
    pairs = [simulate(seed, used) for seed in range(count)]
    models, truths = [model for model, _ in pairs], [truth for _, truth in pairs]
    if method == "laplace":
        # A wrong prior is a control: its doubtful fits stay, since refitting them takes minutes.
        fitted = fit_many(models, draws=draws, seed=0, fallback=prior == "right")
    else:
        fitted = [fit(model, method, draws=draws, seed=seed) for seed, model in enumerate(models)]
    return tuple(zip(fitted, truths, strict=True))


def calibrate(
    count: int, method: str = "laplace", *, shrink: float = 1.0, prior: str = "right"
) -> Calibration:
    """Ranks and band coverage over `count` draws from the prior."""
    pairs = posteriors(count, method, prior)
    fitted, true = [post for post, _ in pairs], [truth for _, truth in pairs]
    sites = {name: np.array([[t[name] for t in true]]) for name in ("amplitude", "lengthscale")}
    truths = replace(fitted[0], radii=np.stack([t["radii"] for t in true])[None], samples=sites)
    hold = held(fitted, truths.draws, shrink)
    others = float(np.mean([post.method != method for post, _ in pairs]))
    return Calibration(sbc_ranks(fitted, truths, shrink=shrink), hold, others)


# -------------------------------------------------------------------------- correlated noise


def pixel_image(seed: int, correlation_px: float) -> tuple[Image, dict[str, Any]]:
    """A lesion on 96 x 96 pixels as a scanner sees it, contrast 3, noise of sd 1.

    Point spread of sd 1.5 px in two dimensions, each pixel the mean over its area (on a grid five
    times finer), noise of correlation exp(-(d / correlation_px)^2): white noise smoothed by a
    Gaussian of sd 1 px has correlation_px 2.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([seed, 2])
    fine, size, spread = 5, 96, 1.5
    centre = 47.5 + rng.uniform(-0.5, 0.5, 2)
    _, radii, hyper = prior_truth(seed, centre, 14.0)
    axis = (np.arange(fine * size) + 0.5) / fine - 0.5
    u, v = np.meshgrid(axis - centre[0], axis - centre[1], indexing="ij")
    dense = 2 * np.pi * np.arange(4096) / 4096
    edge = np.interp(np.arctan2(v, u), dense, interpolate_radii(radii, dense), period=2 * np.pi)
    depth = edge - np.hypot(u, v)
    inside = gaussian_filter(np.clip(0.5 + fine * depth, 0.0, 1.0), spread * fine)
    mean = 3.0 * inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    values = mean + correlated_noise(rng, (size, size), correlation_px)
    return Image.from_arrays(A=values), {"radii": radii, "centre": centre} | hyper


def pixel_coverage(
    count: int, *, correlation_px: float, temper: float | str
) -> tuple[np.ndarray, float]:
    """Whether each 95% band held its whole truth, and the mean effective share of voxels."""
    models, truths = [], []
    for seed in range(count):
        image, truth = pixel_image(seed, correlation_px)
        target = Target(truth["centre"], 14.0, image.primary.grid.plane(0), f"pixels{seed}")
        evidence = intensity(image, blur=1.5, temper=temper)
        models.append(
            boundary_model(target, evidence, prior=PRIOR, rays=RAYS, harmonics=HARMONICS,
                           radius_max=40.0)
        )  # fmt: skip
        truths.append(truth["radii"])
    fitted = fit_many(models, draws=1000, seed=0)
    etas = [_eta(model) for model in models]
    return held(fitted, truths), float(np.mean(etas))


# -------------------------------------------------------------------------------- benchmark


def run(quick: bool) -> Result:
    many, chains, few, pixels = (40, 8, 8, 16) if quick else (500, 500, 150, 200)
    rows: list[Row] = []
    details: list[dict[str, Any]] = []

    def judge(name: str, found: Calibration, *, good: bool) -> None:
        rows.append(
            Row(
                f"{name}: ranks uniform, family-wise p",
                found.ranks.p,
                at_least=FALSE_ALARM if good else None,
                at_most=None if good else FALSE_ALARM,
                note=f"{len(found.held)} prior draws" + ("" if good else "; must fail"),
            )
        )
        bounds = (0.93, 0.97) if good else (None, 0.93)
        rows.append(_coverage(f"{name}: 95% simultaneous band covers", found.held, bounds))
        for quantity, (chi, ecdf) in found.ranks.p_values().items():
            details.append({"fit": name, "quantity": quantity, "chi-square p": chi, "ECDF p": ecdf})

    laplace = calibrate(many)
    judge("Laplace", laplace, good=True)
    rows.append(Row("Laplace: share sampled by chains or particles", laplace.fallbacks))
    judge("NUTS", calibrate(chains, "nuts"), good=True)
    judge("control, posterior scaled by 0.7", calibrate(many, shrink=0.7), good=False)
    judge("control, wrong prior amplitude", calibrate(few, prior="wrong"), good=False)

    cases: tuple[tuple[str, float, float | str, Bounds], ...] = (
        ("white noise, automatic temper", 0.0, "auto", (None, None)),
        ("noise correlated over 1 px, tempered", 2.0, "auto", (0.9, None)),
        ("control, the same untempered", 2.0, 1.0, (None, 0.9)),
    )
    for name, correlation, temper, bounds in cases:
        hold, eta = pixel_coverage(pixels, correlation_px=correlation, temper=temper)
        note = f"mean effective share of voxels {eta:.3f}"
        rows.append(_coverage(f"pixels, {name}: band covers", hold, bounds, note))
    notes = [
        f"Alarm at a family-wise p below {FALSE_ALARM:g} (Bonferroni over "
        f"{len(laplace.ranks.names)} quantities and two tests: chi-square and ECDF, "
        "Sailynoja et al. 2022).",
        f"Points lie exactly on the {RAYS} rays, {POINTS_A_RAY} on each, so that the simulated "
        "model is the fitted one; the rows named pixels use 96 x 96 images as a scanner sees them.",
        "Correlated over 1 px: white noise smoothed by a Gaussian of sd 1 px.",
    ]
    return Result("Calibration", rows, notes, details)


def _coverage(name: str, held: np.ndarray, bounds: Bounds, note: str = "") -> Row:
    low, high = share_interval(int(held.sum()), len(held))
    interval = f"{len(held)} replicates, 95% interval {low:.3f} to {high:.3f}"
    return Row(
        name,
        float(held.mean()),
        at_least=bounds[0],
        at_most=bounds[1],
        note=f"{interval}; {note}" if note else interval,
    )


def _eta(model: BoundaryModel) -> float:
    term = model.data.terms[0]
    assert isinstance(term, BlurredStep)
    return float(np.asarray(term.eta))
