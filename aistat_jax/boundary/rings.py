"""What is to be contoured that has a hole? Targets with an outer and an inner boundary."""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.targets import HARMONICS, MIN_PIXELS, RAYS
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Chart
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice
from aistat_jax.space.reference import checked_curve
from aistat_jax.space.ring import Ring, RingChart, ring_chart


@record
class RingTarget:
    """Where a ring is sought: about a rough one in a slice, seen from a centre in its hole.

    See `targets.Target` for `seen_through` and `doubts`.
    """

    centre: Float[np.ndarray, "2"]
    outline: Ring
    plane: Plane
    id: str = static(default="target")
    seen_through: float = static(default=0.0)
    doubts: tuple[str, ...] = static(default=())

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def link(self) -> str:
        """That of its charts: values are outer radii, then inner ones."""
        return "ring"

    @property
    def radius(self) -> float:
        """Of the disc of the outer curve's area."""
        return _radius(self.outline.outer)

    @property
    def size(self) -> tuple[Float[np.ndarray, "2"], float]:
        """Its outer and inner radius, and no more doubt of them than a prior has."""
        return np.array([self.radius, _radius(self.outline.inner)]), 0.0

    @property
    def content(self) -> float:
        """The area between the curves."""
        return self.outline.area

    def expected(self, chart: Chart, basis: Basis) -> None:
        """None: a prior knows but its size."""
        return None

    @property
    def taper(self) -> None:
        """None: sections are taken to be alike from slice to slice."""
        return None

    @property
    def harmonics(self) -> int:
        """How many harmonics of either boundary are told apart where nobody says."""
        return HARMONICS

    def seen_as_disc(self, blur: float) -> bool:
        """Never: it has a hole."""
        return False

    def chart(self, reach: float, rays: int | None = None) -> RingChart:
        """Rays in its plane, by default RAYS."""
        return ring_chart(self.centre, reach, self.plane, rays or RAYS)

    def part_of(self, channel: Channel, reach: float) -> ChannelSlice:
        """A box around it of the slice of a channel that is nearest."""
        return channel.slice_at(self.plane).around(self.centre, reach)

    def elsewhere(self, points: Float[np.ndarray, "*batch 2"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points belong to another target: none is known to."""
        return np.zeros(points.shape[:-1], dtype=bool)


def ring_target(reference: Any, plane: Plane, name: str = "target") -> RingTarget:
    """A target with an outer and an inner boundary in a slice: a rim about a core, a heart's wall.

    `reference` is a boolean mask (nu, nv) of the plane, of whose largest region the outline and the
    largest hole count, the two closed curves (outer, inner), or a `Ring`. Fits start from them, and
    radii of both boundaries are sought along rays from a centre in the hole.

    Raises InputError for a mask without a hole, or one of too few pixels; curves that are open,
    cross themselves or are in another unit; an inner curve that is not within the outer; and a
    ring whose hole is not seen from its middle.

    >>> target = ring_target(wall, image.primary.grid.plane(4))  # doctest: +SKIP
    >>> posterior = fit(boundary_model(target, intensity(image)))  # doctest: +SKIP
    """
    outer, inner = (checked_curve(curve, plane) for curve in _curves(reference, plane, name))
    ring = Ring(outer, inner).check()
    target = RingTarget(_middle(inner), ring, plane, name)
    target.chart(2 * target.radius).values_of(ring)
    return target


def _curves(reference: Any, plane: Plane, name: str) -> tuple[Curve, Curve]:
    if isinstance(reference, np.ndarray):
        return _edges(reference, plane, name)
    if isinstance(reference, Ring):
        return reference.outer, reference.inner
    if not (
        isinstance(reference, tuple | list)
        and len(reference) == 2
        and all(isinstance(curve, Curve) for curve in reference)
    ):
        raise InputError(
            f"target {name}: a ring is a boolean mask with a hole, or the curves (outer, inner), "
            f"got a {type(reference).__name__}"
        )
    return reference[0], reference[1]


def _edges(mask: np.ndarray, plane: Plane, name: str) -> tuple[Curve, Curve]:
    """The outline of a mask's largest region, and that of its largest hole."""
    if mask.dtype != bool:
        raise InputError(f"target {name}: a mask must be boolean, got an array of {mask.dtype}")
    found = contours_from_mask(mask, plane)
    outer = next((curve for curve in found if curve.is_ccw), None)
    if outer is None or outer.area < MIN_PIXELS * plane.pixel_area:
        raise InputError(f"target {name}: the mask has no region of {MIN_PIXELS} pixels")
    holes = [c for c in found if not c.is_ccw and bool(outer.contains(c.points[:1])[0])]
    if not holes or holes[0].area < MIN_PIXELS * plane.pixel_area:
        raise InputError(
            f"target {name}: the mask's largest region has no hole of {MIN_PIXELS} pixels; a ring "
            "has one, and what has none is contoured by find_targets"
        )
    return outer, holes[0]


def _middle(curve: Curve) -> np.ndarray:
    """The centre of mass of what is inside of a curve, or a point in it where that is not."""
    import shapely

    if bool(curve.contains(curve.centroid[None])[0]):
        return curve.centroid
    point = shapely.Polygon(curve.points).representative_point()
    return np.array([point.x, point.y])


def _radius(curve: Curve) -> float:
    return float(np.sqrt(curve.area / np.pi))
