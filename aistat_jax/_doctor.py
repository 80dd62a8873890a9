"""Is this computer fit for the work? Versions, devices, precision, disk, and a small fit."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aistat_jax._errors import InputError

_PACKAGES = ("jax", "jaxlib", "numpyro", "blackjax", "numpy", "scipy", "nibabel", "matplotlib")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is sound, and what was seen, in words."""

    name: str
    sound: bool
    text: str


def examine(out: Path, seed: int = 0) -> Iterator[Finding]:
    """Look at one thing after another; nothing raises, a failure is a finding."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("versions", _versions),
        ("writing", lambda: _writing(out)),
        ("devices", devices),
        ("double precision", _precision),
        ("self test", lambda: _self_test(seed)),
    )
    for name, check in checks:
        try:
            yield Finding(name, True, check())
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            yield Finding(name, False, text)
            if name == "devices":
                return  # the rest needs one


def _versions() -> str:
    import aistat_jax

    found = [f"Python {platform.python_version()}", f"aistat_jax {aistat_jax.__version__}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError as error:
            raise RuntimeError(f"{name} is not installed; run pip install aistat_jax") from error
    return ", ".join(found)


def devices() -> str:
    """The devices that JAX uses. Raises InputError where it cannot use what it is told to."""
    import os

    import jax

    try:
        found = jax.devices()
    except Exception as error:  # RuntimeError, or AssertionError without a word
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX cannot use the device that JAX_PLATFORMS={asked} asks for; unset JAX_PLATFORMS, "
            "set it to cpu, or install JAX for that device"
        ) from error
    return ", ".join(f"{device.device_kind} ({device.platform})" for device in found)


def _precision() -> str:
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        kind = jnp.zeros(()).dtype
    if kind != jnp.float64:
        raise RuntimeError(f"fits would run in {kind} instead of float64")
    state = "on" if jax.config.read("jax_enable_x64") else "off"
    return f"fits run in float64 (the global flag is {state} and need not be set)"


def _writing(out: Path) -> str:
    import shutil

    from aistat_jax._files import check_writable

    check_writable(out)
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    return f"{out.absolute()} can be written, {shutil.disk_usage(there).free / 1e9:,.1f} GB free"


def _self_test(seed: int) -> str:
    """Contour a small phantom whose boundary is known; the estimate must be near it."""
    import numpy as np

    from aistat_jax import intensity
    from aistat_jax.boundary.model import boundary_model
    from aistat_jax.boundary.targets import Target
    from aistat_jax.data.phantoms import pet_ct_phantom
    from aistat_jax.inference.fit import fit

    phantom = pet_ct_phantom(seed, shape=(24, 24), radius_mm=22.0, contrast=6.0)
    target = Target(phantom.centre[:2], phantom.radius_mm, phantom.plane, "self-test")
    model = boundary_model(target, intensity(phantom.image, "PT"))
    start = time.perf_counter()
    posterior = fit(model, draws=200, seed=seed, fallback=False)
    first = time.perf_counter() - start
    again = fit(model, draws=200, seed=seed, fallback=False)
    warm = time.perf_counter() - start - first
    if not np.array_equal(posterior.radii, again.radii):
        raise RuntimeError("two fits with one seed differ; results will not be reproducible")
    truth = phantom.truth_radii(posterior.chart.angles)
    error = float(np.abs(posterior.estimate - truth).mean())
    if not error < 4.0:
        raise RuntimeError(f"the contour of a phantom is {error:.1f} mm off in the mean")
    return (
        f"a phantom's contour is {error:.1f} mm off in the mean; first fit {first:.1f} s with "
        f"compiling, then {1000 * warm:.0f} ms"
    )
