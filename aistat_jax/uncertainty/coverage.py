"""How often does the band hold the whole truth, level by level, and how wide is it for that?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float, Int
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.uncertainty.bands import simultaneous_band

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@record
class Coverage:
    """Nominal levels of a simultaneous band, how many truths it held, and its half-width.

    Shapes: levels and held (level,), of `count` truths each; half_width (replicate, level) is the
    mean over the boundary, in `unit`.
    """

    levels: Float[np.ndarray, " level"]
    held: Int[np.ndarray, " level"]
    half_width: Float[np.ndarray, "replicate level"]
    unit: str = static(default="mm")

    @property
    def count(self) -> int:
        return len(self.half_width)

    @property
    def share(self) -> Float[np.ndarray, " level"]:
        """Empirical coverage: the share of truths that lie wholly inside the band."""
        return self.held / self.count

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Clopper-Pearson bounds of the coverage, each (level,), were the truths independent."""
        return binomial_interval(self.held, self.count, level)


def binomial_interval(
    held: Int[np.ndarray, " level"], count: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson bounds of the probabilities of which `held` are counts out of `count`."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    # shapes of 0 belong to the ends, where the bound is 0 or 1
    low = beta.ppf(tail, np.maximum(held, 1e-300), count - held + 1)
    high = beta.ppf(1 - tail, held + 1, np.maximum(count - held, 1e-300))
    low = np.where(held == 0, 0.0, low)
    return low, np.where(held == count, 1.0, high)


def coverage(
    posteriors: Sequence[Posterior],
    truths: Sequence[Curve],
    levels: Sequence[float] = LEVELS,
) -> Coverage:
    """Hold one truth against the simultaneous bands of its posterior, at every level.

    A truth is held when it lies within the band in every direction; one that does not enclose the
    chart's centre is held by none. Truths are to be of independent lesions: slices of one lesion
    are not, and the binomial intervals would be too narrow for them.

    Raises InputError when there are not as many truths as posteriors, none at all, or for a level
    outside (0, 1).
    """
    if not posteriors or len(posteriors) != len(truths):
        raise InputError(
            f"coverage needs one truth for each posterior, got {len(posteriors)} posteriors and "
            f"{len(truths)} truths"
        )
    units = {posterior.unit for posterior in posteriors}
    if len(units) > 1:
        raise InputError("coverage is of posteriors in one unit, got both mm and px")
    held, widths = np.zeros(len(levels), dtype=int), []
    for posterior, truth in zip(posteriors, truths, strict=True):
        bands = [simultaneous_band(posterior, level) for level in levels]
        widths.append([band.half_width.mean() for band in bands])
        held += np.array([int(band.holds(truth)) for band in bands])
    return Coverage(np.asarray(levels, dtype=float), held, np.asarray(widths), units.pop())
