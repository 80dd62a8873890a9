"""How likely are the data under a whole model? The log of a mean of weights, and its error."""

from __future__ import annotations

import numpy as np

from aistat_jax._typing import ArrayLike, Float


def log_mean(log_values: Float[ArrayLike, " value"]) -> tuple[float, float]:
    """log of the mean of exp(log_values), and the standard error of that log.

    The error is that of a mean of independent values, over the mean (delta method). What is not
    finite counts as nothing: exp(-inf). Where all is nothing, so is the mean: (-inf, inf).
    """
    values = np.asarray(log_values, dtype=float)
    values = np.where(np.isfinite(values), values, -np.inf)
    count, highest = len(values), float(values.max())
    if not np.isfinite(highest):
        return -np.inf, np.inf
    relative = np.exp(values - highest)
    mean = float(relative.mean())
    return highest + float(np.log(mean)), float(relative.std(ddof=1) / mean / np.sqrt(count))
