"""What margin does the usual recipe ask for? 2.5 Sigma + 0.7 sigma, by direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.planning.margins import (
    SafetyMargin,
    check_margin,
    covers_of,
    patient_directions,
)
from aistat_jax.space.chart import FLATTEST, outwards, slant

SYSTEMATIC, RANDOM = 2.5, 0.7


def van_herk_margin(
    posterior: Posterior,
    *,
    systematic_mm: float | Sequence[float] = 0.0,
    random_mm: float | Sequence[float] = 0.0,
    share: float = 0.98,
) -> SafetyMargin:
    """The median contour grown by van Herk's recipe, 2.5 Sigma + 0.7 sigma in every direction.

    Sigma is made of the posterior's sd of the boundary along each site's direction, the systematic
    error of delineation, and of `systematic_mm`, that of everything else (set-up, motion); sigma is
    `random_mm`. Both are sds in mm, one for all directions or one each along R-L, A-P and S-I,
    independent.
    An error of the whole shape counts by how far the boundary moves along each site's direction.

    `share` is what counts as covered in `outer_covers`, which is of delineation alone. There is no
    inner contour. The recipe is meant to give the whole target 95% of the dose in 90% of patients,
    for Gaussian errors that move the target as one, and a penumbra of 3.2 mm; errors of a
    delineation do not move it as one.

    Raises InputError for an image without spacing, lengths that are negative or not three, and
    fewer than 100 draws. Source: van Herk et al. 2000, Int J Radiat Oncol 47(4).
    """
    check_margin(posterior, share=share)
    if posterior.unit != "mm":
        raise InputError(
            "a margin by van Herk's recipe is in mm, and the image has no spacing; pass spacing_mm "
            "to Image.from_arrays, or ask for a coverage_margin"
        )
    chart, draws = posterior.chart, np.asarray(posterior.draws, dtype=float)
    median = np.median(draws, axis=0)
    moved = _moved(chart, median)
    setup, random = (
        np.linalg.norm(moved * _lengths(name, sd), axis=1)
        for name, sd in (("systematic_mm", systematic_mm), ("random_mm", random_mm))
    )
    systematic = np.hypot(draws.std(axis=0, ddof=1), setup)
    outer = median + outwards(chart) * (SYSTEMATIC * systematic + RANDOM * random)
    if chart.link != "identity":
        outer = np.maximum(outer, chart.ends[0])
    covers = covers_of(chart, draws, outer, share)
    return SafetyMargin(
        chart, median, outer, None, covers, None, "van Herk", share, None, posterior.target_id
    )


def _lengths(name: str, sd: float | Sequence[float]) -> Float[np.ndarray, "3"]:
    """Sds along the patient's axes."""
    each = np.broadcast_to(np.asarray(sd, dtype=float), (3,)) if np.ndim(sd) == 0 else sd
    each = np.asarray(each, dtype=float)
    if each.shape != (3,) or not (np.isfinite(each).all() and (each >= 0).all()):
        raise InputError(
            f"{name} must be one length of 0 or more, or three (R-L, A-P, S-I), got {sd}"
        )
    return each


def _moved(chart: Any, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, "site 3"]:
    """By how much a value grows as the whole shape moves by 1 along each patient axis.

    n / (d . n), of the boundary's normal n and the site's direction d. Where the chart has no
    values of another shape (rings, offsets) n is taken to be d, up to the cosine between them.
    """
    if chart.link != "log":
        return patient_directions(chart) / slant(chart, values)[:, None]
    axes = np.asarray(chart.plane.frame)[:, :2] if chart.dims == 2 else np.eye(3)
    shape, step = chart.surface(values), 0.02 * float(np.median(values))
    there = [
        [
            chart.values_of(replace(shape, points=shape.points + way * step * axis))
            for way in (1, -1)
        ]
        for axis in axes
    ]
    moved = np.stack([(ahead - behind) / (2 * step) for ahead, behind in there], axis=1)
    return np.clip(moved, -1 / FLATTEST, 1 / FLATTEST)
