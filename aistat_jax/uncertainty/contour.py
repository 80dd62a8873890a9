"""What is known of the boundary of one target? A contour: posterior, band, grade and reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._record import record
from aistat_jax._typing import Bool
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.chart import Chart
from aistat_jax.space.curve import Curve, coverage_from_contours
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Channel
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.bands import Band, simultaneous_band
from aistat_jax.uncertainty.grading import Grade, grade
from aistat_jax.uncertainty.probability import SizePosterior, area_posterior, shown_in

Reference = Curve | Ring | Mesh | tuple[Curve, ...] | None
"""The boundary that somebody else drew: closed curves in the slice, a surface in space, or none."""


@record
class Contour:
    """The posterior of one target, its band and grade, and a reference to compare with, if any.

    In a slice or in space, as the dims of its chart say; `sections` are what a slice shows of it.
    `other` is what another reading of the image shows there, where there is one: none of its curves
    may lie in this slice.
    """

    posterior: Posterior
    band: Band
    grade: Grade
    reference: Reference = None
    other: Reference = None

    @property
    def id(self) -> str:
        return self.posterior.target_id

    @property
    def chart(self) -> Chart:
        return self.posterior.chart

    @property
    def unit(self) -> str:
        return self.posterior.unit

    @property
    def content(self) -> SizePosterior:
        """Area, or volume, inside: its mean, sd and 95% interval."""
        return area_posterior(self.posterior)

    @property
    def drawn(self) -> tuple[Curve, ...] | None:
        """The curves of a reference in a slice; None where there is none."""
        if isinstance(self.reference, Curve):
            return (self.reference,)
        if isinstance(self.reference, Ring):
            return self.reference.curves
        return self.reference if isinstance(self.reference, tuple) else None

    def sections(self, plane: Plane) -> list[Curve]:
        """The curves of the estimate in one of the slices that show it (`shown_in`)."""
        chart = self.posterior.chart
        return chart.sections(self.posterior.estimate, chart.plane if chart.dims == 2 else plane)


def contour_of(
    posterior: Posterior,
    *,
    level: float = 0.95,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    reference: Reference = None,
) -> Contour:
    """A posterior with its simultaneous band and its grade.

    Raises InputError for whatever `simultaneous_band` and `grade` refuse.
    """
    found = grade(posterior, tolerance_mm=tolerance_mm, tolerance_px=tolerance_px)
    return Contour(posterior, simultaneous_band(posterior, level), found, reference)


def voxels_of(mesh: Mesh, grid: Grid) -> Bool[np.ndarray, "i j k"]:
    """Voxels at least half inside a closed surface."""
    slices = [grid.plane(k) for k in range(grid.shape[2])]
    covered = [coverage_from_contours(mesh.section(plane), plane) >= 0.5 for plane in slices]
    return np.stack(covered, axis=-1)


def estimate_volume(contours: Sequence[Contour], like: Channel) -> Bool[np.ndarray, "i j k"]:
    """Voxels at least half inside an estimate, on the grid of `like`."""
    volume = np.zeros(like.grid.shape, dtype=bool)
    shown = shown_in([contour.chart for contour in contours], like.grid, like.name)
    for contour, slices in zip(contours, shown, strict=True):
        for plane in slices:
            curves = contour.sections(plane)
            volume[:, :, plane.index] |= coverage_from_contours(curves, plane) >= 0.5
    return volume
