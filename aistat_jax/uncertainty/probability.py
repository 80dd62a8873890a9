"""How probable is it that a point lies inside, and how large is the region?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.mesh import Mesh


def probability_map(
    posterior: Posterior, where: Plane | Grid | None = None
) -> Float[np.ndarray, "*grid"]:
    """Posterior probability that there is a target and each voxel's centre lies inside it.

    Each draw is the closed shape through its radii, as in `Posterior.curves`.

    Returns (nu, nv) on a plane, by default the slice on which the boundary was fitted; of a surface
    in space on a plane or (i, j, k) on a grid, one of which has to be given.
    """
    return posterior.presence * posterior.chart.inside_share(
        posterior.draws, _points(posterior, where)
    )


def _points(posterior: Posterior, where: Plane | Grid | None) -> Float[np.ndarray, "*grid dims"]:
    """Voxel centres of a slice or volume, in the coordinates of the boundary's chart."""
    chart = posterior.chart
    if chart.dims == 3:
        if where is None:
            raise InputError(
                "a surface has no slice of its own; say where: image.primary.grid, or a plane of it"
            )
        return where.points() if isinstance(where, Grid) else where.to_world(where.points())
    if isinstance(where, Grid):
        raise InputError("a contour in a slice has no volume; say where with a plane of the grid")
    plane: Plane = chart.plane if where is None else where
    return plane.points()


def sample_masks(
    posterior: Posterior, count: int, seed: int = 0, where: Plane | Grid | None = None
) -> Bool[np.ndarray, "sample ..."]:
    """Regions drawn from the posterior, empty with probability 1 - presence.

    A voxel belongs to a region when its centre lies inside the draw's closed shape; (count, nu, nv)
    or (count, i, j, k), `where` as in `probability_map`. Raises InputError for no count.
    """
    if count < 1:
        raise InputError(f"at least one sample must be drawn, got {count}")
    rng = np.random.default_rng(seed)
    there = rng.random(count) < posterior.presence
    radii = posterior.draws[rng.integers(len(posterior.draws), size=int(there.sum()))]
    points = _points(posterior, where)
    masks = np.zeros((count, *points.shape[:-1]), dtype=bool)
    masks[there] = posterior.chart.inside(radii, points)
    return masks


def draw_masks(
    posterior: Posterior, where: Plane | Grid | None = None
) -> Bool[np.ndarray, "draw ..."]:
    """The region inside every draw, whatever the presence; see `sample_masks` for the voxels."""
    return posterior.chart.inside(posterior.draws, _points(posterior, where))


def probability_contours(
    posterior: Posterior, levels: Sequence[float]
) -> dict[float, list[Curve | Mesh]]:
    """Contours within which every point is inside with probability at least `level`.

    For a star-shaped boundary a point at radius t is inside when gamma > t, so the contour
    at level p is the (1 - p) quantile of gamma along each ray: exact at the rays, free of
    the image's pixels, and nested (a higher level lies within a lower one).

    Returns a list of curves for each level, in the order given.
    Raises InputError for a level outside (0, 1).
    """
    for level in levels:
        if not 0 < level < 1:
            raise InputError(
                f"a probability contour's level must lie strictly between 0 and 1, got {level}"
            )
    radii = np.quantile(posterior.draws, 1 - np.asarray(levels, dtype=float), axis=0)
    return {level: [posterior.chart.surface(row)] for level, row in zip(levels, radii, strict=True)}


@record
class AreaPosterior:
    """What is known about the area inside the boundary; unit "mm2", or "px2" without spacing."""

    draws: Float[np.ndarray, " draw"]
    unit: str = static()

    @property
    def mean(self) -> float:
        return float(self.draws.mean())

    @property
    def sd(self) -> float:
        return float(self.draws.std(ddof=1))

    def quantile(self, level: float) -> float:
        return float(np.quantile(self.draws, level))

    def __str__(self) -> str:
        """Median and 95% interval: a boundary that is hardly known has no useful mean area."""
        low, middle, high = self.quantiles.values()
        return f"{middle:,.0f} {self.unit.replace('2', '²')} ({low:,.0f} to {high:,.0f})"

    @property
    def quantiles(self) -> dict[str, float]:
        """The 2.5%, 50% and 97.5% points, named as in summary.json."""
        return {
            "q025": self.quantile(0.025),
            "q500": self.quantile(0.5),
            "q975": self.quantile(0.975),
        }


def area_posterior(posterior: Posterior) -> AreaPosterior:
    """Area inside each draw's polygon, in the square of the chart's unit."""
    areas = posterior.chart.content(np.asarray(posterior.draws, dtype=float))
    return AreaPosterior(draws=areas, unit=f"{posterior.unit}{posterior.chart.dims}")
