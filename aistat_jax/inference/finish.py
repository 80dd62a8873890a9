"""What becomes of draws of a boundary? A Posterior, once all has been said about them."""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.posterior import Diagnostics, Finding, Posterior
from aistat_jax.inference.predictive import image_findings

MIN_DRAWS = 100


def check_draws(draws: int) -> None:
    """Raises InputError for too few draws for a band."""
    if draws < MIN_DRAWS:
        raise InputError(f"at least {MIN_DRAWS} draws are needed for a band, got {draws}")


def finished(
    model: BoundaryModel,
    samples: dict[str, np.ndarray],
    diagnostics: Diagnostics,
    method: str,
    seed: int,
    seconds: float,
    evidence: tuple[float, float] | None = None,
    notes: dict[str, np.ndarray] | None = None,
    look: bool = True,
) -> Posterior:
    """The record, with its timings: reading the evidence, fitting, and both.

    Unless `look` is False the images are asked what they have against it.
    The draws of radii are what the images show; what these leave unknown of the target's taper
    (`BoundaryModel.square_error`) is drawn in addition.
    """
    seen = samples.pop("radii")
    draws = seen.reshape(-1, seen.shape[-1])
    look = look and bool(np.isfinite(draws).all())  # a fit that failed is asked nothing
    images, voxel = image_findings(model, draws) if look else ((), None)
    radii = with_taper_unknown(seen, model.square_error, seed)
    doubts = tuple(Finding("red", doubt, "target") for doubt in model.target.doubts)
    diagnostics = replace(diagnostics, findings=doubts + images, voxel=voxel)
    timings = {
        "evidence": model.seconds,
        "fit": seconds,
        "total": model.seconds + seconds,
    }
    return Posterior(
        model.chart, radii, samples, diagnostics, method, seed, model.target.id, timings,
        model.presence, model, *(evidence or (None, None)), notes or {},
    )  # fmt: skip


def with_taper_unknown(
    radii: Float[np.ndarray, "chain draw ray"], square_error: float, seed: int
) -> Float[np.ndarray, "chain draw ray"]:
    """Each boundary larger or smaller as a whole by an error of its mean squared radius.

    To first order the images tell the sum of the squared radius and of what the taper adds to it,
    and nothing about its parts: what is unknown of the one is unknown of the other.
    """
    if square_error == 0:
        return radii
    error = square_error * np.random.default_rng(seed).standard_normal((*radii.shape[:2], 1))
    return radii * np.exp(0.5 * error / np.square(radii).mean(axis=-1, keepdims=True))
