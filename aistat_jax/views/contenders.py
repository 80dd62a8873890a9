"""What can be laid side by side on one slice? Posteriors, whatever their centre, and contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import LINKS
from aistat_jax.space.curve import Curve, last_exits
from aistat_jax.space.grid import PARALLEL_TOLERANCE, Plane
from aistat_jax.space.outlines import Region, outlines
from aistat_jax.space.star import StarChart
from aistat_jax.uncertainty.probability import area_posterior

_AT_ONCE = 1_000_000  # ray-edge pairs looked at together


@dataclass(frozen=True)
class Contender:
    """A posterior, or the outlines of a contour or mask, and what it is called."""

    name: str
    curves: tuple[Curve, ...]
    posterior: Posterior | None

    @property
    def size(self) -> str:
        """Area, with its 95% interval where there is one."""
        if self.posterior is None:
            area = sum(curve.signed_area if len(self.curves) > 1 else curve.area
                       for curve in self.curves)  # fmt: skip
            unit = self.curves[0].unit if self.curves else ""
            return f"{area:,.0f}\u00a0{unit}²" if self.curves else "empty in this slice"
        area = area_posterior(self.posterior)
        if area.quantile(0.5) > self.posterior.chart.extent:
            return "beyond the region searched"
        return str(area).replace(" ", "\u00a0").replace("\u00a0(", " (")


def contenders_of(named: Mapping[str, Posterior | Region]) -> list[Contender]:
    """All that is compared, in the slice of the first posterior among them.

    Raises InputError where there is no posterior, or one of them lies in another slice.
    """
    posteriors = {name: p for name, p in named.items() if isinstance(p, Posterior)}
    if not posteriors:
        raise InputError(
            "a comparison needs at least one posterior, whose slice is shown; "
            "draw contours alone as the reference of plot_contours"
        )
    home, first = next(iter(posteriors.items()))
    plane = first.chart.plane
    found = []
    for name, one in named.items():
        if not isinstance(one, Posterior):
            found.append(Contender(name, outlines(one, plane), None))
            continue
        _check_slice(name, one.chart.plane, home, plane)
        found.append(Contender(name, tuple(_curves(one)), one))
    return found


def _curves(posterior: Posterior) -> list[Curve]:
    """The curves of an estimate in its own slice."""
    chart = posterior.chart
    return chart.sections(posterior.estimate, chart.plane)


def common_chart(several: Sequence[Contender]) -> StarChart | None:
    """Rays from the first centre that all contours, and all draws, have inside; None if none is.

    A contour of several pieces, or none, has no such centre, nor have offsets and rings.
    """
    for one in several:
        if one.posterior is not None and one.posterior.chart.link == "log":
            chart = one.posterior.chart
            if all(_sees(chart, other) for other in several):
                return chart
    return None


def radii_about(chart: StarChart, one: Contender) -> np.ndarray:
    """(draw, ray): where rays of a chart leave a contender's draws, or contour, for the last time.

    The chart's centre must be inside all of them, as `common_chart` sees to.
    """
    if one.posterior is None:
        return chart.values_of(one.curves[0])[None]
    own = one.posterior.chart
    if own.link == "log" and own.sites == chart.sites and (own.centre == chart.centre).all():
        return np.asarray(one.posterior.draws)
    polygons = own.points(one.posterior.draws)
    parts = max(1, polygons.shape[0] * polygons.shape[1] * chart.sites // _AT_ONCE)
    exits = [
        last_exits(part, chart.centre, chart.directions) for part in np.array_split(polygons, parts)
    ]
    return np.concatenate(exits)


def _sees(chart: StarChart, one: Contender) -> bool:
    """Whether a chart's centre lies inside a contender: all its draws, or its one outline."""
    if one.posterior is None:
        return len(one.curves) == 1 and chart.sees(one.curves[0])
    own = one.posterior.chart
    if LINKS[own.link].layers > 1:
        return False
    if own.link == "log" and np.array_equal(own.centre, chart.centre):
        return True
    return bool(own.inside(one.posterior.draws, chart.centre).all())


def _check_slice(name: str, plane: Plane, home: str, first: Plane) -> None:
    gap = abs(plane.offset - first.offset)
    turn = float(np.abs(plane.frame - first.frame).max())
    if (
        plane.unit != first.unit
        or turn > PARALLEL_TOLERANCE
        or gap > max(plane.thickness, first.thickness) / 2 + 1e-3
    ):
        raise InputError(
            f"what is compared must lie in one slice, but {home!r} is in slice {first.index} at "
            f"{first.offset:.1f} {first.unit} and {name!r} in slice {plane.index} at "
            f"{plane.offset:.1f} {plane.unit}; choose posteriors of one slice"
        )
