"""What is to be contoured? A target: a slice, a centre in it and a rough radius.

Posterior contours start from, but are not held to, the region it was found as (finders.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Bool, Float
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Chart
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelBlock, ChannelSlice
from aistat_jax.space.neighbours import Neighbours
from aistat_jax.space.seen import best_seen
from aistat_jax.space.star import StarChart, star_chart

MIN_PIXELS = 6
RAYS, HARMONICS = 128, 16
# From this many blurs on the radius of a target is so large that the edge of its disc is straight
# but for a shift: where its sections do not change from slice to slice, and where they do.
FLAT, TAPERED = 5.0, 15.0


@runtime_checkable
class AnyTarget(Protocol):
    """Where a boundary is sought, in a slice or in space: what a model asks of it.

    `radius` is its rough size, `size` that without the blur it was found through (one number, or
    one a layer of its boundary) and what this adds to its log sd; `link` is that of its charts.
    See `Target` for the others.
    """

    @property
    def id(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def link(self) -> str: ...

    @property
    def centre(self) -> Float[np.ndarray, " axis"]: ...

    @property
    def radius(self) -> float: ...

    @property
    def size(self) -> tuple[Any, float]: ...

    @property
    def content(self) -> float: ...

    @property
    def harmonics(self) -> int: ...

    @property
    def outline(self) -> Any: ...

    def expected(self, chart: Chart, basis: Basis) -> Float[np.ndarray, " site"] | None:
        """The values that a prior's mean follows, None where it knows but a size."""
        ...

    @property
    def taper(self) -> Taper | None: ...

    @property
    def seen_through(self) -> float: ...

    @property
    def doubts(self) -> tuple[str, ...]: ...

    def seen_as_disc(self, blur: float) -> bool:
        """Whether the image of a disc, or ball, stands in for a step seen through a blur."""
        ...

    def chart(self, reach: float, rays: int | None = None) -> Chart:
        """A chart of its surroundings, with about so many sites where that is said."""
        ...

    def part_of(self, channel: Channel, reach: float) -> ChannelSlice | ChannelBlock:
        """The voxels of a channel around it."""
        ...

    def elsewhere(self, points: Float[np.ndarray, "*batch axis"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points belong to another target, and say nothing about this one."""
        ...


@dataclass(frozen=True)
class Targets(Sequence[Any]):
    """Targets in order, also by id, `targets["z003.2"]`; and what was left out, (id, reason).

    `chosen` is by which of 2 and 3 dimensions they were made, and why, where nobody had said;
    `charts` likewise by which kind of boundary each was, (id, "star" or "offset", reason).
    `clicks` are points that were given of a target, (id, kind, point in its own coordinates), which
    `hints.clicks_on` makes evidence of; `second` is another reading of the point, if there is one.
    """

    found: tuple[Any, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    chosen: tuple[int, str] | None = None
    charts: tuple[tuple[str, str, str], ...] = ()
    clicks: tuple[tuple[str, str, tuple[float, ...]], ...] = ()
    second: Any = None

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, str):
            return self.found[which]
        there = {target.id: target for target in self.found}
        if which not in there:
            raise InputError(f"there is no target {which}; there are {', '.join(there)}")
        return there[which]

    def __len__(self) -> int:
        return len(self.found)


@record
class Taper:
    """How the sections of a target change across its slices: a parabola.

    area / pi = (area / pi here) + slope z + bend z^2 / 2 at a height z above the slice, in the
    plane's unit. A ball has bend -2 everywhere, a cylinder no taper at all. `bend_sd` is how
    uncertain the bend is.
    """

    slope: float
    bend: float
    bend_sd: float = 0.0


@record
class Target:
    """Where a contour is sought.

    Shapes: centre (2,) in-plane coordinates, radius a scalar (of the circle of equal area); unit
    of the plane. `outline` is a rough contour, where one is known: fits start from it. It is not
    evidence: it was read off the same image. `taper` says how the target changes across slices,
    None where it is not known to: it is then taken to be the same all along. `seen_through` is the
    sd of the point spread that has widened the rough region, 0 for one that somebody drew.
    `doubts` are reasons not to trust that this is what was meant, in sentences: whatever is fitted
    here is graded red. `beside` are the objects around it, if it is one of many.
    """

    centre: Float[np.ndarray, "2"]
    radius: float
    plane: Plane
    id: str = static(default="target")
    outline: Curve | None = None
    taper: Taper | None = None
    seen_through: float = static(default=0.0)
    doubts: tuple[str, ...] = static(default=())
    beside: Neighbours | None = None

    @property
    def unit(self) -> str:
        return self.plane.unit

    @property
    def size(self) -> tuple[float, float]:
        """Its radius without the blur it was found through, and what that adds to its log sd."""
        return unblurred(self.radius, self.seen_through)

    @property
    def link(self) -> str:
        """That of its charts: values are radii."""
        return "log"

    @property
    def harmonics(self) -> int:
        """How many harmonics of a boundary are told apart where nobody says."""
        return HARMONICS

    def expected(self, chart: Chart, basis: Basis) -> None:
        """None: a prior knows but its size."""
        return None

    def seen_as_disc(self, blur: float) -> bool:
        """Whether it is small enough for the image of a disc to stand in for a blurred step."""
        return self.radius < (FLAT if self.taper is None else TAPERED) * blur

    @property
    def content(self) -> float:
        """Its rough area, without the blur it was found through."""
        return float(np.pi * self.size[0] ** 2)

    def chart(self, reach: float, rays: int | None = None) -> StarChart:
        """Rays in its plane, by default RAYS."""
        return star_chart(self.centre, reach, self.plane, rays or RAYS)

    def part_of(self, channel: Channel, reach: float) -> ChannelSlice:
        """A box around it of the slice of a channel that is nearest."""
        return channel.slice_at(self.plane).around(self.centre, reach)

    def elsewhere(self, points: Float[np.ndarray, "*batch 2"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points belong to another target, and say nothing about this one."""
        if self.beside is None:
            return np.zeros(points.shape[:-1], dtype=bool)
        return self.beside.hold(points)

    @staticmethod
    def from_mask(mask: Bool[np.ndarray, "nu nv"], plane: Plane, name: str = "target") -> Target:
        """The target of one slice's mask: its largest component, seen from a good centre.

        Of the centroid, the deepest point and points between them, the centre is the one from
        which the star of first exits covers the component best.
        """
        labels, sizes = by_size(mask)
        if len(sizes) == 0:
            raise InputError(f"target {name}: the mask is empty in slice {plane.index}")
        return target_of(labels == 1, plane, name)


def target_of(component: Bool[np.ndarray, "nu nv"], plane: Plane, name: str) -> Target:
    """The target of one component; what lies further from it than a pixel is not looked at."""
    met = [np.flatnonzero(component.any(axis=axis)) for axis in (1, 0)]
    low = np.array([max(0, int(each[0]) - 1) for each in met])
    part = component[low[0] : met[0][-1] + 2, low[1] : met[1][-1] + 2]
    seen = best_seen(part, low, plane)
    radius = float(np.sqrt(part.sum() * plane.pixel_area / np.pi))
    counted = replace(plane, origin=low.astype(float), spacing=np.ones(2), shape=part.shape)
    drawn = contours_from_mask(part, counted)[0].points  # in pixels
    outline = Curve(plane.origin + drawn * plane.spacing, plane.unit)
    # in a hole, or of a shape that is seen from no point
    hidden = not bool(outline.contains(seen.centre[None])[0])
    return Target(seen.deepest if hidden else seen.centre, radius, plane, name, outline)


def unblurred(radius: float, spread: float) -> tuple[float, float]:
    """A radius without the blur it was found through, and what that adds to its log sd.

    The steepest edge of something small and blurred lies outside of its own: by squares, about
    twice the point spread's sd.
    """
    share = spread / radius if radius > 0 else 0.0
    return radius * float(np.sqrt(max(1 - 2 * share**2, 0.25))), share**2


def by_size(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components numbered from 1, the largest first, and their sizes."""
    from scipy import ndimage

    if not mask.any():  # as most slices of a large image are: without room for each
        return np.broadcast_to(np.int64(0), mask.shape), np.zeros(0, dtype=int)
    labels = np.asarray(ndimage.label(mask)[0])  # pyright: ignore[reportIndexIssue]
    sizes = np.bincount(labels.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    number: Any = np.zeros(len(sizes) + 1, dtype=int)
    number[order + 1] = np.arange(1, len(sizes) + 1)
    return number[labels], sizes[order]
