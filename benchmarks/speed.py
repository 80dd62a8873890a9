"""How fast is a posterior contour? All ratios are measured side by side, in one run.

The comparator is the model a statistician would write first: a likelihood over all pixels in
NumPyro, the boundary a soft step, NUTS with NumPyro's defaults.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._threads import one_blas_thread
from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.boundary.prior import Prior
from aistat_jax.boundary.targets import Target
from aistat_jax.data.phantoms import pet_ct_phantom
from aistat_jax.data.simulators import blurred_step_image
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.diagnostics import chain_diagnostics
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import by_laplace
from aistat_jax.inference.transport import Density, find_transport
from aistat_jax.space.basis import circle_basis, spectral_variance
from aistat_jax.space.image import Image
from benchmarks._table import Result, Row, median_seconds

RADIUS, FIELD = 20.0, 256.0  # mm
HARMONICS = 16
STEPS = 100  # gradients a timing
START = """
import time
start = time.perf_counter()
from benchmarks.speed import lesion
from aistat_jax.inference.fit import fit
fit(lesion(0), "laplace")
print(time.perf_counter() - start)
"""
IMPORT = """
import time
import jax
start = time.perf_counter()
import aistat_jax
print(time.perf_counter() - start)
"""


def lesion(
    seed: int,
    size: int = 256,
    channels: tuple[str, ...] = ("PT", "CT"),
    temper: float | str = "auto",
) -> BoundaryModel:
    """A lesion of 20 mm on size^2 pixels of PET and of CT over 256 mm, with a wobble of its own.

    The amplitude is a draw from a log-normal of median .15 and log-sd .3, the rest as
    `pet_ct_phantom` has it.
    """
    amplitude = 0.15 * float(np.exp(0.3 * np.random.default_rng(seed).standard_normal()))
    spacing = FIELD / size
    phantom = pet_ct_phantom(
        seed, shape=(size, size), spacing_mm=(spacing, spacing), ct_spacing_mm=spacing,
        radius_mm=RADIUS, amplitude=min(amplitude, 0.25),
    )  # fmt: skip
    target = Target(phantom.centre[:2], RADIUS, phantom.plane, f"lesion{seed}")
    evidence = intensity(phantom.image, channels, temper=temper)
    return boundary_model(target, evidence, harmonics=HARMONICS)


def run(quick: bool) -> Result:
    rows = gradients(10 if quick else 60)
    rows += laplace(3 if quick else 12, 3 if quick else 10)
    rows += many(16 if quick else 64, 1 if quick else 5)
    rows += starting(1 if quick else 5)
    rows += comparison(60 if quick else 200)
    notes = [
        "Warm: compiled before, the median over repeats. An effective draw of Laplace is counted "
        "at most once for each draw returned.",
        "Effective draws of chains are minimum bulk ESS over radii on every fourth ray, log area "
        "and the hyperparameters, per second of warm-up and sampling together.",
        f"The comparator samples in single precision (NumPyro's default) with {2 * HARMONICS + 1} "
        "non-centred coefficients, the same priors, amplitude and lengthscale sampled too; its "
        "compile time is subtracted.",
    ]
    return Result("Speed", rows, notes)


# -------------------------------------------------------------------------------- gradients


def gradients(rounds: int) -> list[Row]:
    """Gradient of the log density, the same lesion and blur on finer and finer pixels."""
    sizes = (64, 256, 1024)
    calls = {}
    for size in sizes:
        model = lesion(0, size, temper=0.1)
        with jax.enable_x64(True):
            data = jax.device_put(model.data)
            transport = find_transport(model.program, data)
            place = (transport.hyper_mean, transport.mode)
        calls[size] = partial(_climb, model.program, data, place)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    with jax.enable_x64(True):
        for call in calls.values():
            call()
        for _ in range(rounds):
            for size, call in calls.items():
                start = time.perf_counter()
                call()
                times[size].append((time.perf_counter() - start) / STEPS)
    each = {size: float(np.median(found)) for size, found in times.items()}
    note = ", ".join(f"{size}²: {1e6 * seconds:.0f} µs" for size, seconds in each.items())
    ratio = max(each.values()) / min(each.values())
    return [
        Row("gradient of the log density, slowest over fastest of 64², 256², 1024² pixels", ratio,
            at_most=1.3, note=f"two channels; {note}")
    ]  # fmt: skip


def _climb(program: Any, data: Any, place: tuple[jax.Array, jax.Array]) -> None:
    jax.block_until_ready(_gradient_steps(program, data, place))


@partial(jax.jit, static_argnames="program")
def _gradient_steps(program: Any, data: Any, place: Any) -> Any:
    """STEPS gradients, each a hair away from the last, so that none can be skipped."""
    density = Density(program, data)

    def step(_: Any, place: Any) -> Any:
        slope = jax.grad(lambda p: density.log_joint(*p))(place)
        return jax.tree.map(lambda x, g: x + 1e-12 * g, place, slope)

    return jax.lax.fori_loop(0, STEPS, step, place)


# ------------------------------------------------------------------------------------- fits


def laplace(phantoms: int, repeats: int) -> list[Row]:
    """Laplace and NUTS fits of two-channel slices of 256^2 pixels."""
    models = [lesion(seed) for seed in range(phantoms)]
    fit(models[0], "laplace")
    seconds, rates, khats, bare, unpaired = [], [], [], [], []
    for model in models:
        draw = partial(by_laplace, model, draws=1000, seed=0, look=False)
        with one_blas_thread():
            bare.append(median_seconds(draw, repeats))
        alone = partial(fit, model, "laplace", fallback=False, compare=False)
        unpaired.append(median_seconds(alone, repeats))
        seconds.append(median_seconds(partial(fit, model, "laplace", fallback=False), repeats))
        found = fit(model, "laplace", fallback=False)
        rates.append(min(found.diagnostics.ess_min, len(found.draws)) / seconds[-1])
        khats.append(found.diagnostics.khat)
    fit(models[0], "nuts", draws=4000)
    nuts = []
    for model in models[:3]:
        posterior = fit(model, "nuts", draws=4000, seed=1)
        nuts.append(posterior.diagnostics.ess_min / posterior.seconds["fit"])
    spread = f"{phantoms} phantoms, {1e3 * min(seconds):.0f} to {1e3 * max(seconds):.0f} ms"
    return [
        Row("Laplace fit, two-channel 256² slice, 16 harmonics, median",
            1e3 * float(np.median(seconds)), "ms", at_most=50, note=spread),
        Row("of which Laplace's own draws", 1e3 * float(np.median(bare)), "ms"),
        Row("of which what the images have against them",
            1e3 * float(np.median(np.array(unpaired) - bare)), "ms"),
        Row("of which each image alone, to be compared",
            1e3 * float(np.median(np.array(seconds) - unpaired)), "ms"),
        Row("Laplace effective draws a second, median", float(np.median(rates)), "/s",
            at_least=10_000, note=f"khat at most {max(khats):.2f}; 1,000 draws"),
        Row("reading the evidence of that slice, median",
            1e3 * float(np.median([model.seconds for model in models])), "ms"),
        Row("NUTS minimum bulk ESS a second, median", float(np.median(nuts)), "/s", at_least=500,
            note="4,000 draws, 4 chains, two-channel 256² slice"),
    ]  # fmt: skip


def many(count: int, repeats: int) -> list[Row]:
    """A batch of two-channel slices in one call, refits included."""
    rows = []
    for channels in (("PT", "CT"), ("PT",)):
        models = [lesion(seed, channels=channels) for seed in range(count)]
        refitted = sum(p.method != "laplace" for p in fit_many(models))
        each = median_seconds(partial(fit_many, models, fallback=False), repeats) / count
        rows.append(
            Row(f"fit_many of {count} contours, {len(channels)} channel(s), each", 1e3 * each, "ms",
                at_most=10, note=f"{refitted} of them would be fitted anew")
        )  # fmt: skip
    return rows


def starting(repeats: int) -> list[Row]:
    """Fresh processes: the first fit, and the import alone."""
    first = [_fresh(START) for _ in range(min(repeats, 3))]
    alone = [_fresh(IMPORT) for _ in range(repeats)]
    return [
        Row("first fit in a fresh process, import and image included, median",
            float(np.median(first)), "s", at_most=10),
        Row("import aistat_jax above import jax, median", float(np.median(alone)), "s",
            at_most=0.5),
    ]  # fmt: skip


def _fresh(script: str) -> float:
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


# ------------------------------------------------------------------------------- comparator


def comparison(draws: int) -> list[Row]:
    """Laplace, NUTS and the per-pixel model on one image of 100 x 100 pixels."""
    angles = 2 * np.pi * np.arange(128) / 128
    truth = 22.0 * np.exp(0.12 * np.cos(2 * angles) + 0.06 * np.sin(3 * angles))
    blank = Image.from_arrays(A=np.eye(100)).primary.grid.plane(0)
    centre, spread = (49.5, 49.5), 1.5
    values = blurred_step_image(
        np.random.default_rng(0), truth, blank, centre=centre, inside=3.0, outside=0.0, sigma=1.5,
        psf=spread,
    )  # fmt: skip
    image = Image.from_arrays(A=values)
    target = Target(np.array(centre), 20.0, image.primary.grid.plane(0), "comparison")
    model = boundary_model(target, intensity(image, blur=spread, temper=1.0), harmonics=HARMONICS)
    rates = {}
    fit(model, "laplace")
    seconds = median_seconds(partial(fit, model, "laplace", fallback=False), 10)
    found = fit(model, "laplace", fallback=False)
    rates["Laplace"] = min(found.diagnostics.ess_min, len(found.draws)) / seconds
    fit(model, "nuts", draws=4000)
    chains = fit(model, "nuts", draws=4000, seed=1)
    rates["NUTS"] = chains.diagnostics.ess_min / chains.seconds["fit"]
    other = per_pixel(model, values, blank.points() - np.array(centre), spread, draws)
    note = (
        f"{draws} warm-up and {draws} draws took {other['seconds']:.0f} s, minimum ESS "
        f"{other['ess']:.1f}, {other['steps']:.0f} leapfrog steps a draw"
    )
    return [
        Row("per-pixel model, minimum ESS a second", other["rate"], "/s", note=note),
        Row("Laplace over the per-pixel model, 100² pixels", rates["Laplace"] / other["rate"], "x",
            at_least=1000, note=f"{rates['Laplace']:,.0f} /s"),
        Row("NUTS over the per-pixel model, 100² pixels", rates["NUTS"] / other["rate"], "x",
            at_least=50, note=f"{rates['NUTS']:,.0f} /s"),
    ]  # fmt: skip


def per_pixel(
    model: BoundaryModel, values: np.ndarray, offset: np.ndarray, spread: float, draws: int
) -> dict[str, float]:
    """The model a statistician would write first, by NumPyro's NUTS."""
    from numpyro.infer import MCMC, NUTS

    angle = np.arctan2(offset[..., 1], offset[..., 0]).ravel()
    distance = np.hypot(offset[..., 0], offset[..., 1]).ravel()
    basis = circle_basis(angle, HARMONICS)
    program = partial(
        _pixels, np.asarray(basis.functions), np.asarray(basis.eigenvalues), distance,
        values.ravel(), spread, float(np.exp(np.mean(model.data.mean))),
    )  # fmt: skip
    sampler = MCMC(NUTS(program), num_warmup=draws, num_samples=draws, progress_bar=False)
    with _compile_seconds() as compiling:
        start = time.perf_counter()
        sampler.run(jax.random.key(0), extra_fields=("num_steps",))
        jax.block_until_ready(sampler.get_samples())
        seconds = time.perf_counter() - start - compiling()
    samples = {name: np.asarray(v)[None] for name, v in sampler.get_samples().items()}
    coefficients = samples.pop("coefficients")
    radii = np.exp(np.asarray(model.data.mean) + coefficients @ np.asarray(
        model.data.basis.functions).T)  # fmt: skip
    hyper = {name: samples[name] for name in ("amplitude", "lengthscale")}
    ess = chain_diagnostics(hyper, radii, model.chart, None).ess_min
    steps = float(np.mean(np.asarray(sampler.get_extra_fields()["num_steps"])))
    return {"ess": ess, "seconds": seconds, "rate": ess / seconds, "steps": steps}


def _pixels(
    functions: np.ndarray,
    frequency: np.ndarray,
    distance: np.ndarray,
    values: np.ndarray,
    spread: float,
    radius: float,
) -> None:
    import numpyro
    from numpyro import distributions as dist

    prior = Prior()
    amplitude = numpyro.sample(
        "amplitude", dist.LogNormal(np.log(prior.amplitude), prior.amplitude_log_sd)
    )
    lengthscale = numpyro.sample(
        "lengthscale", dist.LogNormal(np.log(prior.lengthscale), prior.lengthscale_log_sd)
    )
    outside = numpyro.sample("outside", dist.Normal(0.0, 10.0))
    step = numpyro.sample("step", dist.Normal(0.0, 10.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([functions.shape[1]]).to_event(1))
    variance = spectral_variance(
        jnp.asarray(frequency), jnp.asarray(amplitude), jnp.asarray(lengthscale), prior.smoothness
    )
    scale = jnp.sqrt(variance.at[0].set(prior.mean_log_sd**2))
    coefficients = jnp.asarray(numpyro.deterministic("coefficients", scale * z))
    boundary = radius * jnp.exp(jnp.asarray(functions) @ coefficients)
    inside = jax.scipy.special.ndtr((boundary - distance) / spread)
    numpyro.sample("values", dist.Normal(outside + step * inside, sigma), obs=values)


class _compile_seconds:
    """Counts the seconds JAX spends tracing and compiling while the block runs."""

    def __enter__(self) -> Callable[[], float]:
        self.total, self.open = 0.0, True
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return lambda: self.total

    def __exit__(self, *_: object) -> None:
        self.open = False

    def _heard(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if self.open and event.startswith("/jax/core/compile"):
            self.total += duration_secs
