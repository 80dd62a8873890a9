"""What is to be contoured near a reference? A target whose boundary is an offset from a curve."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float
from aistat_jax.boundary.targets import HARMONICS
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice
from aistat_jax.space.offset import OffsetChart, offset_chart
from aistat_jax.space.reference import checked_curve

# Harmonics come in multiples of this, so that targets of about one form share what is compiled.
HARMONICS_BUCKET, MOST_HARMONICS = 8, 64
SITES_A_HARMONIC = 8
# A mask of fewer pixels has no outline to speak of.
MIN_PIXELS = 6


@runtime_checkable
class Estimated(Protocol):
    """What an earlier posterior says: a chart and its mean boundary."""

    @property
    def chart(self) -> Any: ...

    @property
    def estimate(self) -> Float[np.ndarray, " site"]: ...


@record
class OffsetTarget:
    """Where a contour is sought: along the normals of a reference curve in a slice.

    `outline` is the reference as it was given; charts smooth it, fits start from it. `seen_through`
    and `doubts` are those of a `targets.Target`.
    """

    outline: Curve
    plane: Plane
    id: str = static(default="target")
    seen_through: float = static(default=0.0)
    doubts: tuple[str, ...] = static(default=())

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def link(self) -> str:
        """That of its charts: values are offsets."""
        return "identity"

    @property
    def centre(self) -> Float[np.ndarray, "2"]:
        """Of mass of the region inside; it need not lie in it."""
        return self.outline.centroid

    @property
    def content(self) -> float:
        """The area of the reference."""
        return self.outline.area

    @property
    def radius(self) -> float:
        """Twice the area over the perimeter: the radius of a disc, half the width of a strip."""
        return 2 * self.outline.area / self.outline.perimeter

    @property
    def size(self) -> tuple[float, float]:
        """Its radius, and no more doubt of it than a prior has."""
        return self.radius, 0.0

    @property
    def taper(self) -> None:
        """None: sections are taken to be alike from slice to slice."""
        return None

    @property
    def harmonics(self) -> int:
        """As many to an arc as a disc of its area would have."""
        disc = 2 * np.sqrt(np.pi * self.outline.area)
        wanted = np.ceil(HARMONICS * self.outline.perimeter / disc / HARMONICS_BUCKET - 0.25)
        return int(np.clip(wanted * HARMONICS_BUCKET, HARMONICS, MOST_HARMONICS))

    def seen_as_disc(self, blur: float) -> bool:
        """Never: it is not round."""
        return False

    def chart(self, reach: float, rays: int | None = None) -> OffsetChart:
        """The normals of the smoothed reference, by default SITES_A_HARMONIC to a harmonic."""
        sites = rays or SITES_A_HARMONIC * self.harmonics
        return offset_chart(self.outline, reach, self.plane, sites)

    def part_of(self, channel: Channel, reach: float) -> ChannelSlice:
        """The slice of a channel that is nearest to it, whole."""
        return channel.slice_at(self.plane)


def offset_target(reference: Any, plane: Plane, name: str = "target") -> OffsetTarget:
    """A target whose boundary is sought along the normals of a reference, in a slice.

    `reference` is a closed `Curve` in the slice `plane`, a boolean mask (nu, nv) of it, of which
    the largest region counts, or an earlier posterior of any chart. Boundaries are signed distances
    from it, as far as its normals do not cross; nothing has to be seen from a centre.

    Raises InputError for an empty mask or one of fewer than 6 pixels; a curve that is open, crosses
    itself or is in another unit; and one so small or narrow that offsets cannot be told from it.

    >>> target = offset_target(mask, image.primary.grid.plane(12))  # doctest: +SKIP
    >>> posterior = fit(boundary_model(target, intensity(image)))  # doctest: +SKIP
    """
    target = OffsetTarget(checked_curve(_outline(reference, plane, name), plane), plane, name)
    target.chart(target.radius)
    return target


def _outline(reference: Any, plane: Plane, name: str) -> Curve:
    if isinstance(reference, Curve):
        return reference
    if isinstance(reference, np.ndarray):
        if reference.dtype != bool:
            raise InputError(
                f"target {name}: a mask must be boolean, got an array of {reference.dtype}"
            )
        found = contours_from_mask(reference, plane)
        if not found or found[0].area < MIN_PIXELS * plane.pixel_area:
            raise InputError(
                f"target {name}: the mask's largest region has "
                f"{found[0].area / plane.pixel_area if found else 0:.0f} pixels in slice "
                f"{plane.index}, and an outline needs {MIN_PIXELS}"
            )
        return found[0]
    if isinstance(reference, Estimated):
        (curve, *others) = reference.chart.sections(reference.estimate, plane) or [None]
        if curve is None or others:
            raise InputError(
                f"target {name}: the earlier estimate shows {len(others) + bool(curve)} curves in "
                "this slice; pass the one that is meant"
            )
        return curve
    raise InputError(
        f"target {name}: a reference is a Curve, a boolean mask or a posterior, got a "
        f"{type(reference).__name__}"
    )
