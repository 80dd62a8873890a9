"""By how much, and where, does a contour leave the median? A safety margin, in mm by direction."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import outwards
from aistat_jax.space.curve import Curve
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring

AXES = ("RL", "AP", "SI")
LEAST_DRAWS = 100
# Patient axes at more than this from a slice (45 degrees) are none of its directions.
_OFF_SLICE = np.sqrt(0.5)


@record
class Covered:
    """How well one region covers another, over the draws of a posterior.

    `expected` is the mean share that is covered, `probability` how often at least the share that
    was asked for is.
    """

    expected: float = static()
    probability: float = static()


@record
class SafetyMargin:
    """The median contour, and contours outside and inside of it that a plan may use.

    `outer` is meant to hold the target, `inner` to be held by it (None where a recipe knows none).
    `share` is the share that counts as covered: of the target by `outer`, whose figures are
    `outer_covers`, and of `inner` by the target, `inner_covered`; both are those of the posterior,
    given that there is a target, and of its delineation alone. `level` holds the probabilities of
    which `outer` and `inner` are the contours, where they are such; 0 and 1 are beyond all draws.

    Shapes: median, outer, inner (site,), values of the chart.
    """

    chart: Any  # a Chart
    median: Float[np.ndarray, " site"]
    outer: Float[np.ndarray, " site"]
    inner: Float[np.ndarray, " site"] | None
    outer_covers: Covered
    inner_covered: Covered | None
    kind: Literal["expected coverage", "van Herk"] = static()
    share: float = static()
    level: tuple[float, float] | None = static(default=None)
    target_id: str = static(default="target")

    @property
    def unit(self) -> str:
        return self.chart.unit

    def values(self, which: str = "outer") -> Float[np.ndarray, " site"]:
        """The chart's values of the "outer", "median" or "inner" contour.

        Raises InputError for another word, and for an inner contour that there is none of.
        """
        if which not in ("outer", "median", "inner"):
            raise InputError(f"{which!r} is no contour of a margin; ask for outer, median or inner")
        found = getattr(self, which)
        if found is None:
            raise InputError(f"a margin by {self.kind} has no inner contour")
        return found

    def surface(self, which: str = "outer") -> Curve | Ring | Mesh:
        """One of the contours as a closed shape: `Curve` or `Ring` in a slice, `Mesh` in space."""
        return self.chart.surface(self.values(which))

    def content(self, which: str = "outer") -> float:
        """Area or volume inside of one of the contours, in `unit` squared or cubed."""
        return float(self.chart.content(self.values(which)[None])[0])

    def by_site(self, which: str = "outer") -> Float[np.ndarray, " site"]:
        """How far the contour lies outside of the median along each of `directions`, in `unit`."""
        return outwards(self.chart) * (self.values(which) - self.median)

    @property
    def directions(self) -> Float[np.ndarray, "site 3"]:
        """Where each site's margin points to, as unit vectors in patient coordinates (RAS)."""
        return patient_directions(self.chart)

    def by_axis(self, which: str = "outer") -> dict[str, float]:
        """How much further than the median a contour reaches along each patient axis, in `unit`.

        R and L, A and P, S and I: the difference of the support functions max(x . u), which is
        the margin exactly where one shape is the other expanded by an ellipsoid, of whatever
        shape. A slice has only the axes that lie within 45 degrees of it, turned into it. Without
        spacing they are the voxels' own, +x for R.
        """
        chart = self.chart
        here, median = (
            _in_space(chart, chart.points(values)) for values in (self.values(which), self.median)
        )
        found = {}
        for axis, letters in enumerate(AXES):
            along = np.eye(3)[axis]
            if chart.dims == 2:
                normal = np.asarray(chart.plane.frame)[:, 2]
                along = along - normal * normal[axis]
                if abs(normal[axis]) > _OFF_SLICE:
                    continue
                along /= np.linalg.norm(along)
            for letter, sign in zip(letters, (1.0, -1.0), strict=True):
                reach = [float((sign * points @ along).max()) for points in (here, median)]
                found[letter] = reach[0] - reach[1]
        return found

    def __str__(self) -> str:
        axes = ", ".join(f"{name} {value:.1f}" for name, value in self.by_axis().items())
        covers = self.outer_covers
        return (
            f"{self.kind} margin, {self.unit}: {axes}; covers {100 * covers.expected:.1f}% of the "
            f"target in the mean, {100 * self.share:g}% of it with probability "
            f"{covers.probability:.2f}"
        )


def patient_directions(chart: Any) -> Float[np.ndarray, "site 3"]:
    """Unit vectors of patient coordinates in which a region grows at each site."""
    along = outwards(chart)[:, None] * chart.directions
    return along @ np.asarray(chart.plane.frame)[:, :2].T if chart.dims == 2 else along


def covered_share(
    sectors: Float[np.ndarray, "draw site"], by: Float[np.ndarray, " site"]
) -> Float[np.ndarray, " draw"]:
    """The share of each region that another covers, both told by `Chart.sectors`."""
    return np.minimum(sectors, by).sum(axis=1) / np.maximum(sectors.sum(axis=1), _TINY)


def covers_of(
    chart: Any,
    draws: Float[np.ndarray, "draw site"],
    values: Float[np.ndarray, " site"],
    share: float,
) -> Covered:
    """How well the contour of some values covers the boundaries drawn."""
    found = covered_share(chart.sectors(draws), chart.sectors(values))
    return Covered(float(found.mean()), float((found >= share).mean()))


def check_margin(posterior: Posterior, **between: float) -> None:
    """Raises InputError for shares that are none, and for too few draws."""
    for name, value in between.items():
        if not 0 < value < 1:
            raise InputError(f"{name} must lie strictly between 0 and 1, such as 0.95, got {value}")
    if len(posterior.draws) < LEAST_DRAWS:
        raise InputError(
            f"a margin needs at least {LEAST_DRAWS} posterior draws, got {len(posterior.draws)}; "
            "fit again with more draws"
        )


def _in_space(chart: Any, points: Float[np.ndarray, "site dims"]) -> Float[np.ndarray, "site 3"]:
    return chart.plane.to_world(points) if chart.dims == 2 else points


_TINY = float(np.finfo(float).tiny)
