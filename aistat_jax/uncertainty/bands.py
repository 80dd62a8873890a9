"""Between which radii does the boundary lie, everywhere at once or at one ray?"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import sided
from aistat_jax.space.curve import MultiPolygon, as_polygons
from aistat_jax.space.grid import Plane
from aistat_jax.space.outlines import region_in

_MINIMUM_DRAWS = 100
_FOLDS = 5


@record
class Band:
    """A lower, central and upper radius along each ray of a chart.

    "simultaneous": the whole boundary lies between lower and upper with posterior probability
    `level`. "pointwise": the boundary lies between them at any one ray with that probability.
    "conformal": whole surfaces of new patients do so as often as `level` (`conformal_band`).

    Shapes: lower, centre, upper (ray,), in the chart's unit.
    """

    lower: Float[np.ndarray, " ray"]
    centre: Float[np.ndarray, " ray"]
    upper: Float[np.ndarray, " ray"]
    chart: Any  # a Chart; what shows slices asks a star for its plane
    level: float = static()
    kind: Literal["simultaneous", "pointwise", "conformal"] = static()

    @property
    def unit(self) -> str:
        return self.chart.unit

    @property
    def sites(self) -> int:
        return len(self.lower)

    def region(self, plane: Plane | None = None) -> MultiPolygon:
        """What lies between its edges in a plane, as shapely polygons; see `to_shapely`."""
        edges = self.largest, self.smallest
        largest, smallest = (region_in(self.chart, edge, plane) for edge in edges)
        return as_polygons(largest.difference(smallest))

    @property
    def smallest(self) -> Float[np.ndarray, " ray"]:
        """Values of the region that lies within every other in the band."""
        return sided(self.chart, self.lower, self.upper)

    @property
    def largest(self) -> Float[np.ndarray, " ray"]:
        """Values of the region that every other in the band lies within."""
        return sided(self.chart, self.upper, self.lower)

    @property
    def half_width(self) -> Float[np.ndarray, " ray"]:
        """The larger of the distances from the centre to the two edges, along each ray."""
        return np.maximum(self.upper - self.centre, self.centre - self.lower)

    def contains(self, radii: Float[np.ndarray, "*batch ray"]) -> Bool[np.ndarray, "*batch"]:
        """Whether a boundary lies inside the band at every ray (edges included)."""
        slack = 1e-9 * np.maximum(np.abs(self.upper), 1e-300)
        radii = np.asarray(radii, dtype=float)
        return np.asarray(
            np.all((radii >= self.lower - slack) & (radii <= self.upper + slack), axis=-1)
        )

    def holds(self, surface: Any) -> bool:
        """Whether a closed shape lies inside the band, as far as the chart sees it at all."""
        return self.chart.sees(surface) and bool(self.contains(self.chart.values_of(surface)))


def simultaneous_band(posterior: Posterior, level: float = 0.95) -> Band:
    """Band that holds the whole boundary at once with posterior probability `level`.

    The half-width at each ray is the posterior sd there times the `level` quantile, over
    draws, of the largest standardised deviation (Syring & Li 2017, sec. 2.3). Each draw is
    standardised by the mean and sd of draws that it has no part in (`_FOLDS` parts): by those of
    all draws, itself among them, it would look nearer than a new one, and over hundreds of
    sites a 95% band would be one of 92%. The centre is the posterior mean radius; the lower
    edge stops where the chart begins (radius 0), of offsets either edge where normals may cross.

    Raises InputError for a level outside (0, 1) or fewer than 100 draws.
    """
    draws = _checked_draws(posterior, level)
    centre, sd = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    multiple = np.quantile(_largest_deviations(draws), level, method="inverted_cdf")
    return Band(
        lower=np.maximum(centre - multiple * sd, posterior.chart.ends[0]),
        centre=centre,
        upper=upto(posterior.chart, centre + multiple * sd),
        chart=posterior.chart,
        level=float(level),
        kind="simultaneous",
    )


def _largest_deviations(draws: Float[np.ndarray, "draw ray"]) -> Float[np.ndarray, " draw"]:
    """Of each draw the largest of |draw - mean| / sd, by mean and sd of the other parts' draws.

    A part is a run of draws, since those of a chain are like their neighbours; a draw that
    importance sampling repeats is in one part, whole.
    """
    _, first, same = np.unique(draws.sum(axis=1), return_index=True, return_inverse=True)
    if len(first) < _FOLDS:  # hardly a posterior, but a band
        first, same = np.arange(len(draws)), np.arange(len(draws))
    part = np.argsort(np.argsort(first))[same] * _FOLDS // len(first)
    shifted = draws - draws.mean(axis=0)
    found = np.empty(len(draws))
    for n in range(_FOLDS):
        others = shifted[part != n]
        sd = others.std(axis=0, ddof=1)
        deviation = np.abs(shifted[part == n] - others.mean(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[part == n] = np.where(deviation > 0, deviation / sd, 0.0).max(axis=1)
    return found


def upto(chart: Any, upper: Float[np.ndarray, " site"]) -> Float[np.ndarray, " site"]:
    """Upper edges no further than offsets were looked for: beyond, their normals cross."""
    return np.minimum(upper, chart.ends[1]) if chart.link == "identity" else upper


def pointwise_band(posterior: Posterior, level: float = 0.95) -> Band:
    """Equal-tailed interval of the radius at each ray by itself, with the median as centre.

    It holds the whole boundary with a probability well below `level`; use it to talk about
    one place, and `simultaneous_band` to talk about the contour.

    Raises InputError for a level outside (0, 1) or fewer than 100 draws.
    """
    draws = _checked_draws(posterior, level)
    tail = (1 - level) / 2
    lower, centre, upper = np.quantile(draws, [tail, 0.5, 1 - tail], axis=0)
    return Band(lower, centre, upper, posterior.chart, level=float(level), kind="pointwise")


def _checked_draws(posterior: Posterior, level: float) -> Float[np.ndarray, "draw ray"]:
    if not 0 < level < 1:
        raise InputError(f"a band's level must lie strictly between 0 and 1, got {level}")
    draws = np.asarray(posterior.draws, dtype=float)
    if len(draws) < _MINIMUM_DRAWS:
        raise InputError(
            f"a band needs at least {_MINIMUM_DRAWS} posterior draws, got {len(draws)}; "
            "fit again with more draws"
        )
    return draws
