"""How far off may a contour be and still count as right, where nobody says?

An edge cannot be asked for more than its image, and those who draw it, can tell. This project's own
rule, stated with its grounds in docs/mathematics.md; whoever knows better passes a tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, Image

# By quantity: what is shown, the least tolerance in mm, and why no less.
SHOWN = {
    "SUV": ("PET", 3.0, "whose edges are blurred by about as much"),
    "HU": ("CT", 2.0, "on which experts differ by about as much"),
}
LEAST_MM, LEAST_PX = 2.0, 1.0
# At most this share of the radius of a lesion, lest whatever is drawn of a small one counts.
RADIUS_SHARE = 0.25
# Slices of one lesion are no further apart than so many of them are thick.
_NEXT = 1.5


class Tolerance(NamedTuple):
    """A length in `unit`, and why it is this one."""

    value: float
    unit: str
    reason: str

    def __str__(self) -> str:
        return f"tolerance {self.value:g} {self.unit}: {self.reason}"


def default_tolerance(image: Image, posteriors: Sequence[Posterior] = ()) -> Tolerance:
    """The tolerance that an image is graded at where nobody says another, with its reason.

    A voxel of the channel that the contours are of (the first, unless they lie in slices of
    another), at least 3 mm in a PET, 2 mm in a CT or whatever else has a spacing; 1 pixel without
    one. The voxel is the side of a square, or for surfaces a cube, of the same content. Of the
    `posteriors` of what was found it is never more than a quarter of the radius of the smallest
    lesion: in space three volumes over the surface, in slices two areas over the boundary, the
    largest of those that lie on one another. Two significant figures.

    >>> values = np.arange(128.0).reshape(8, 8, 2)
    >>> image = Image.from_arrays(PT=values, spacing_mm=4.0)
    >>> print(default_tolerance(image))
    tolerance 4 mm: PET with voxels of 4.0 mm
    """
    channel = _channel_of(image, posteriors)
    found = _of_image(channel, any(p.chart.dims == 3 for p in posteriors))
    if not posteriors:
        return found
    radius = min(_lesion_radii(posteriors))
    if found.value <= RADIUS_SHARE * radius:
        return found
    which = "the lesion's radius" if len(posteriors) == 1 else "the radius of the smallest lesion"
    bound = _figures(RADIUS_SHARE * radius, down=True)
    why = f"a quarter of {which}, {radius:.2g} {found.unit}, as {found.value:g} would say little"
    return Tolerance(bound, found.unit, f"{why} ({found.reason})")


def _channel_of(image: Image, posteriors: Sequence[Posterior]) -> Channel:
    planes = [p.chart.plane for p in posteriors if p.chart.dims == 2]
    return (image.home_of(planes) if planes else None) or image.primary


def _of_image(channel: Channel, solid: bool) -> Tolerance:
    if channel.unit == "px":
        return Tolerance(LEAST_PX, "px", "one pixel of an image without spacing")
    sides = channel.grid.spacing
    voxel = float(np.prod(sides[: 3 if solid else 2]) ** (1 / (3 if solid else 2)))
    other = channel.name, LEAST_MM, "what is common where nothing is known of an image's edges"
    shown, least, why = SHOWN.get(channel.quantity, other)
    if voxel > least:
        return Tolerance(_figures(voxel), "mm", f"{shown} with voxels of {voxel:.1f} mm")
    return Tolerance(least, "mm", f"{shown} with voxels of {voxel:.2g} mm, {why}")


def _lesion_radii(posteriors: Sequence[Posterior]) -> list[float]:
    """The radius of every lesion; of what lies on one another in neighbouring slices one."""
    radii = [radius_of(p) for p in posteriors]
    lesion = list(range(len(posteriors)))
    for n, one in enumerate(posteriors):
        for m, other in enumerate(posteriors[:n]):
            if lesion[n] != lesion[m] and _on_one_another(one, other):
                lesion = [lesion[m] if each == lesion[n] else each for each in lesion]
    return [max(r for r, of in zip(radii, lesion, strict=True) if of == n) for n in set(lesion)]


def radius_of(posterior: Posterior) -> float:
    """The radius of a disc, or ball, of as much content for its boundary."""
    chart, estimate = posterior.chart, np.asarray(posterior.estimate, dtype=float)
    return chart.dims * float(chart.content(estimate)) / float(chart.weights(estimate).sum())


def _on_one_another(one: Posterior, other: Posterior) -> bool:
    """Whether two contours lie in neighbouring slices, and the middle of either in the other."""
    if one.chart.dims == 3 or other.chart.dims == 3:
        return False
    below, above = one.chart.plane, other.chart.plane
    apart = abs(above.offset - below.offset) / max(above.thickness, below.thickness)
    if not (0.1 < apart <= _NEXT and _parallel(below, above)):
        return False
    pairs = ((one, other), (other, one))
    return any(
        bool(b.chart.inside(b.estimate[None], a.chart.points(a.estimate).mean(axis=0)[None]).any())
        for a, b in pairs
    )


def _parallel(one: Plane, other: Plane) -> bool:
    return bool(np.allclose(one.frame, other.frame, atol=1e-3))


def _figures(length: float, down: bool = False) -> float:
    """A length to two significant figures, the nearest, or down to them."""
    unit = 10.0 ** (np.floor(np.log10(length)) - 1)
    whole = np.floor(length / unit + 1e-9) if down else np.round(length / unit)
    return float(f"{whole * unit:.2g}")
