"""What margin does the usual recipe ask for? 2.5 Sigma + 0.7 sigma, by direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.planning.margins import (
    SafetyMargin,
    check_margin,
    covers_of,
    outwards,
    patient_directions,
)

SYSTEMATIC, RANDOM = 2.5, 0.7
# A ray that meets the boundary at a flatter angle than this (cosine) is taken to meet it so.
_FLATTEST = 0.5


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
    independent: along a unit vector u the variance is sum (u_i s_i)^2. Along a ray that meets the
    boundary aslant an error of the whole shape counts by 1 / cos of the angle.

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
    along, median = patient_directions(chart), np.median(draws, axis=0)
    slant = _slant(chart, median)
    setup, random = (
        _along(name, sd, along) / slant
        for name, sd in (("systematic_mm", systematic_mm), ("random_mm", random_mm))
    )
    systematic = np.hypot(draws.std(axis=0, ddof=1), setup)
    outer = median + outwards(chart) * (SYSTEMATIC * systematic + RANDOM * random)
    if chart.link != "identity":
        outer = np.maximum(outer, chart.reach[0])
    covers = covers_of(chart, draws, outer, share)
    return SafetyMargin(
        chart, median, outer, None, covers, None, "van Herk", share, None, posterior.target_id
    )


def _along(
    name: str, sd: float | Sequence[float], directions: Float[np.ndarray, "site 3"]
) -> Float[np.ndarray, " site"]:
    """The sd along each direction of errors that are independent along the patient's axes."""
    each = np.broadcast_to(np.asarray(sd, dtype=float), (3,)) if np.ndim(sd) == 0 else sd
    each = np.asarray(each, dtype=float)
    if each.shape != (3,) or not (np.isfinite(each).all() and (each >= 0).all()):
        raise InputError(
            f"{name} must be one length of 0 or more, or three (R-L, A-P, S-I), got {sd}"
        )
    return np.linalg.norm(directions * each, axis=1)


def _slant(chart: Any, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, " site"]:
    """The cosine between each site's direction and the boundary's normal.

    It is by how much the region grows with a value, over the boundary that the site stands for.
    """
    step = 1e-4 * (np.ptp(chart.points(values)) or 1.0)
    rise = (chart.sectors(values + step) - chart.sectors(values - step)) / (2 * step)
    return np.clip(np.abs(rise) / np.maximum(chart.weights(values), 1e-12), _FLATTEST, 1.0)
