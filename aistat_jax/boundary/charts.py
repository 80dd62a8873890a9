"""How does a chart turn a voxel near a boundary into a pair (ray, position along it)?"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import ArrayLike, Float
from aistat_jax.space.basis import equal_angles
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane


@record
class StarChart:
    """Rays from a centre; a boundary is a positive radius along each of them.

    Angles run counter-clockwise from the +u axis of the plane, equally spaced from 0.

    Shapes: centre (2,) in-plane coordinates, angles (ray,) radians, radius_max a scalar;
    lengths in the unit of the plane (mm, or px for images without spacing).
    """

    centre: Float[np.ndarray, "2"]
    angles: Float[np.ndarray, " ray"]
    radius_max: float
    plane: Plane

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def directions(self) -> Float[np.ndarray, "ray 2"]:
        return np.stack([np.cos(self.angles), np.sin(self.angles)], axis=-1)

    def points(self, radii: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch ray 2"]:
        """In-plane points of boundaries given by their radii."""
        return self.centre + np.asarray(radii)[..., None] * self.directions

    def curve(self, radii: Float[np.ndarray, " ray"]) -> Curve:
        """The closed, counter-clockwise curve of one boundary."""
        return Curve(points=self.points(radii), unit=self.unit)

    def areas(self, radii: Float[np.ndarray, "*batch ray"]) -> Float[np.ndarray, "*batch"]:
        """Area inside the polygon of each boundary."""
        sine = np.sin(self.angles[1] - self.angles[0])
        return 0.5 * sine * np.sum(radii * np.roll(radii, -1, axis=-1), axis=-1)

    def polar(self, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Radius and angle in [0, 2 pi) of in-plane points (..., 2)."""
        offset = np.asarray(points, dtype=float) - self.centre
        angle = np.mod(np.arctan2(offset[..., 1], offset[..., 0]), 2 * np.pi)
        return np.hypot(offset[..., 0], offset[..., 1]), angle

    def radii_of(self, curve: Curve) -> Float[np.ndarray, " ray"]:
        """Where each ray leaves a closed curve for the last time.

        Raises InputError when the centre lies outside the curve.
        """
        if not bool(curve.contains(self.centre[None])[0]):
            raise InputError(
                f"the chart's centre {tuple(np.round(self.centre, 2))} lies outside the contour; "
                "choose a centre inside it"
            )
        start = curve.points - self.centre
        step = np.roll(start, -1, axis=0) - start
        d = self.directions[:, None, :]
        denominator = d[..., 0] * step[:, 1] - d[..., 1] * step[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            along_ray = (start[:, 0] * step[:, 1] - start[:, 1] * step[:, 0]) / denominator
            along_edge = (start[:, 0] * d[..., 1] - start[:, 1] * d[..., 0]) / denominator
        hit = (along_edge >= -1e-12) & (along_edge < 1 + 1e-12) & (along_ray > 0)
        return np.where(hit, along_ray, 0.0).max(axis=1)


def star_chart(centre: ArrayLike, radius_max: float, plane: Plane, rays: int = 128) -> StarChart:
    """A star chart with equally spaced rays.

    Raises InputError for fewer than 8 rays or a radius that is not positive.
    """
    if rays < 8:
        raise InputError(f"a star chart needs at least 8 rays, got {rays}")
    if not radius_max > 0:
        raise InputError(f"the chart's outer radius must be positive, got {radius_max}")
    angles = equal_angles(rays)
    return StarChart(np.asarray(centre, dtype=float), angles, float(radius_max), plane)
