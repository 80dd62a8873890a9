"""How probable is it that a point lies inside, and how large is the region?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import sided
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.mesh import Mesh

ML = 1000.0  # cubic millimetres


def probability_map(
    posterior: Posterior | Sequence[Posterior], where: Plane | Grid | None = None
) -> Float[np.ndarray, "*grid"]:
    """Posterior probability that there is a target and each voxel's centre lies inside it.

    Each draw is the closed shape through its radii, as in `Posterior.curves`. Of several targets it
    is the probability that a voxel lies inside of any, were they independent.

    Returns (nu, nv) on a plane, by default the slice on which the boundary was fitted; or (i, j, k)
    on a grid, where contours in slices fill the slices that show them (`Grid.showing`) and nothing
    else. Raises InputError for a surface in space, or several targets, without a place.
    """
    if isinstance(posterior, Posterior):
        if not isinstance(where, Grid):
            return _share(posterior, _points(posterior, where))
        posterior = [posterior]
    if not isinstance(where, Grid):
        raise InputError("several targets have no slice of their own; say where: a Grid")
    found = np.zeros(where.shape)
    for one, slices in zip(posterior, shown_in([p.chart for p in posterior], where), strict=True):
        if one.chart.dims == 3:
            found += (1 - found) * _share(one, _points(one, where))
        for plane in slices if one.chart.dims == 2 else ():
            box = plane.box_around(one.chart.points(one.draws.max(axis=0)))
            part = found[(*box, plane.index)]
            part += (1 - part) * _share(one, plane.points(box))
    return found


def shown_in(charts: Sequence[Any], grid: Grid, name: str = "image") -> list[list[Plane]]:
    """The slices of a grid that show each of several targets: a surface may be in any of them.

    See `Grid.showing` for contours in slices, and for what is refused.
    """
    flat = iter(grid.showing([chart.plane for chart in charts if chart.dims == 2], name))
    every = [grid.plane(k) for k in range(grid.shape[2])]
    return [next(flat) if chart.dims == 2 else every for chart in charts]


def _share(
    posterior: Posterior, points: Float[np.ndarray, "*grid dims"]
) -> Float[np.ndarray, "*grid"]:
    return posterior.presence * posterior.chart.inside_share(posterior.draws, points)


def _points(posterior: Posterior, where: Plane | Grid | None) -> Float[np.ndarray, "*grid dims"]:
    """Voxel centres of a slice or volume, in the coordinates of the boundary's chart."""
    chart = posterior.chart
    if chart.dims == 3 and where is None:
        raise InputError(
            "a surface has no slice of its own; say where: image.primary.grid, or a plane of it"
        )
    return (chart.plane if where is None else where).places(chart.dims)


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
    the image's pixels, and nested (a higher level lies within a lower one). Of a ring it is that
    of the outer boundary and the p quantile of the inner one: exact where no place is beyond the
    outer boundary of one draw and within the inner one of another.

    Returns a list of curves for each level, of a ring both, in the order given.
    Raises InputError for a level outside (0, 1).
    """
    for level in levels:
        if not 0 < level < 1:
            raise InputError(
                f"a probability contour's level must lie strictly between 0 and 1, got {level}"
            )
    chart, found = posterior.chart, {level: values_within(posterior, level) for level in levels}
    if chart.dims == 3:
        return {level: [chart.surface(values)] for level, values in found.items()}
    return {level: chart.sections(values, chart.plane) for level, values in found.items()}


def values_within(posterior: Posterior, level: float) -> Float[np.ndarray, " site"]:
    """Values of the contour within which every point is inside with probability `level`."""
    near, far = np.quantile(posterior.draws, [1 - level, level], axis=0)
    return sided(posterior.chart, near, far)


@record
class SizePosterior:
    """What is known about how much lies inside the boundary.

    Shapes: draws (draw,) in `unit`: "mm2" of a contour, "mm3" of a surface, "px2" and "px3" without
    spacing.
    """

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
        """Median and 95% interval: a boundary that is hardly known has no useful mean size."""
        (low, middle, high), unit = self._shown()
        return f"{middle} {unit} ({low} to {high})"

    @property
    def middle(self) -> str:
        """The median alone, in words."""
        (_, middle, _), unit = self._shown()
        return f"{middle} {unit}"

    def _shown(self) -> tuple[list[str], str]:
        """Quantiles and their unit as they are said: a volume of a millilitre or more in ml."""
        values, digits, unit = np.array(list(self.quantiles.values())), 0, self.unit
        if unit == "mm3" and values[1] >= ML:
            values, unit = values / ML, "ml"
            digits = max(0, 2 - int(np.log10(values[1])))
        unit = unit.replace("2", "²").replace("3", "³")
        return [f"{value:,.{digits}f}" for value in values], unit

    @property
    def quantiles(self) -> dict[str, float]:
        """The 2.5%, 50% and 97.5% points, named as in summary.json."""
        return {
            "q025": self.quantile(0.025),
            "q500": self.quantile(0.5),
            "q975": self.quantile(0.975),
        }


def area_posterior(posterior: Posterior) -> SizePosterior:
    """Area inside each draw's polygon, in the square of the chart's unit.

    Of a surface in space it is the volume, as `volume_posterior` says.
    """
    sizes = posterior.chart.content(np.asarray(posterior.draws, dtype=float))
    return SizePosterior(draws=sizes, unit=f"{posterior.unit}{posterior.chart.dims}")


def volume_posterior(posterior: Posterior) -> SizePosterior:
    """Volume inside each draw's surface, in the cube of the chart's unit; said in ml from 1 ml on.

    Raises InputError for a contour in a slice.
    """
    if posterior.chart.dims != 3:
        raise InputError(
            f"{posterior.target_id} is a contour in a slice and has no volume; pass a surface in "
            "space (find_targets with dims=3), or use area_posterior"
        )
    return area_posterior(posterior)
