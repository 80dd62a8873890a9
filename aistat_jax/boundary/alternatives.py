"""Which other region may be meant than the one that was voted for? Those with an edge of their own.

Levels that cut out about the same outvote, by their number, a reading that few of them make, so
that a vote says little of how sure it is. What can be meant beside it shows in the image: a part on
the point's side of a *neck*, as of two lesions that touch, and a region within it or around it
whose own edge is a second maximum of steepness over levels, as of a hot spot in a warm organ. Their
shares follow from the same FEATURES but for agreement, which counts neighbouring levels. How
probable what stands apart is, is another question (odds.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax._record import record, static
from aistat_jax._typing import Bool
from aistat_jax.boundary.odds import SAME, Group
from aistat_jax.boundary.readings import (
    FEATURES,
    Readings,
    depth_in,
    form_and_contrast,
    weights_now,
)
from aistat_jax.boundary.regions import tone_at
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Channel
from aistat_jax.space.mesh import Mesh, surface_from_mask

# Candidates whose Dice with a region is less than the first (a lesion beside one with its like:
# .67) are another reading than it, as is a part at a neck that is not the same; a reading is spoken
# of from the second, a probability, on.
OTHER, SPOKEN = 0.7, 0.15
# A neck is narrower than this share of the narrower of two parts, which is so wide a part of the
# wider one, and two voxels deep; it is looked for at so many depths.
NECK, NARROWER, DEPTHS = 0.85, 0.5, 20
# A second maximum stands out from the valley before the first by this share of itself, and is at
# least so large a part of it; what is smaller than a ball of this radius in mm is no region.
STANDS_OUT, STEEP_ENOUGH, SMALLEST = 0.15, 0.5, 5.0


class Alternative(NamedTuple):
    """A region in the box of readings, the level that cut it out (NaN) and how steep its edge is.

    `features` are FEATURES, without agreement; `odds` those of its being meant against the region
    that was voted for.
    """

    mask: np.ndarray
    level: float
    edge: float
    features: np.ndarray
    odds: float


@record
class SecondReading:
    """What else may be meant by a point, and the place that would tell.

    Shapes: mask (i, j, k) on `grid`. `probabilities` (of being nearest to what is meant, see
    odds.py) and `sizes` in ml are those of the reading that is contoured and of this one. `place`
    is a patient point (x, y, z) deep in what belongs to one of the two only: to this one, if
    `holds_place`.
    """

    mask: Bool[np.ndarray, "i j k"]
    grid: Grid
    probabilities: tuple[float, float] = static()
    sizes: tuple[float, float] = static()
    place: tuple[float, float, float] = static()
    holds_place: bool = static(default=False)

    def question(self, inside: str = "point_mm", outside: str = "outside_mm") -> str:
        """What was found, and what to ask of whom has the image before them, in a sentence."""
        (first, second), (size, other) = self.probabilities, self.sizes
        return (
            f"two readings of the point: {size:.3g} ml, which is contoured, with probability "
            f"{first:.0%}, or {other:.3g} ml ({second:.0%}); give the place {self.place} mm as "
            f"{inside} if it belongs to what is meant, as {outside} if not"
        )

    def outline(self, plane: Plane) -> list[Curve]:
        """Its outer curves in the slice of its grid that lies nearest to a plane."""
        if not self.grid.covers(plane):
            return []
        own = self.grid.beside(plane)
        curves = contours_from_mask(self.mask[:, :, own.index], own)
        return [curve for curve in curves if curve.is_ccw]

    @property
    def surface(self) -> Mesh:
        return surface_from_mask(self.mask, self.grid)


def alternatives(
    channel: Channel, places: np.ndarray, readings: Readings, region: Bool[np.ndarray, "i j k"]
) -> list[Alternative]:
    """Regions other than one in the box of readings that have an edge of their own.

    Shapes: places (n, 3), voxels of the channel that were pointed at.
    """
    spacing = np.asarray(channel.grid.spacing)
    heres = np.atleast_2d(places) - [side.start for side in readings.box]
    tone = tone_at(channel, np.atleast_2d(places)[0]).values[readings.box]
    weights = np.where(np.array(FEATURES) == "agreement", 0.0, weights_now())

    def features_of(mask: np.ndarray) -> np.ndarray:
        found = form_and_contrast(mask, tone, heres, spacing)
        return np.insert(found, FEATURES.index("agreement"), 0.0)

    part = part_at_neck(region, heres[0], spacing)
    found = [] if part is None else [(part, np.nan, 0.0)]
    found += [
        (readings.masks[n], float(readings.level[n]), float(readings.edge[n]))
        for n in _with_own_edge(readings, spacing)
    ]
    apart: list[Alternative] = []
    voted = float(features_of(region) @ weights) if found else 0.0
    for mask, level, edge in found:
        least = SAME if mask is part else OTHER
        if dice(mask, region) >= least or any(dice(mask, one.mask) >= SAME for one in apart):
            continue
        features = features_of(mask)
        odds = float(np.exp(features @ weights - voted))
        apart.append(Alternative(mask, level, edge, features, odds))
    return apart


def joined(
    readings: Readings, region: Bool[np.ndarray, "i j k"], others: list[Alternative]
) -> Readings:
    """Readings with alternatives to a region among them, by their odds against what is like it."""
    if not others:
        return readings
    alike = [readings.likeness(one.mask) >= SAME for one in others]
    own = float(readings.share[(readings.likeness(region) >= OTHER) & ~np.any(alike, axis=0)].sum())
    share = np.append(readings.share, [one.odds * own for one in others])
    return Readings(
        np.concatenate([readings.masks, np.stack([one.mask for one in others])]),
        np.concatenate([readings.features, np.stack([one.features for one in others])]),
        share / share.sum(),
        np.append(readings.level, [one.level for one in others]),
        np.append(readings.edge, [one.edge for one in others]),
        readings.box,
    )


def unlike(
    readings: Readings, region: Bool[np.ndarray, "i j k"], others: int
) -> Bool[np.ndarray, " reading"]:
    """Which readings are others than a region; the last so many have an edge of their own."""
    own = np.arange(len(readings.share)) >= len(readings.share) - others
    return readings.likeness(region) < np.where(own, SAME, OTHER)


def second_reading(
    channel: Channel,
    box: tuple[slice, ...],
    region: Bool[np.ndarray, "i j k"],
    groups: Sequence[Group],
    probabilities: np.ndarray,
) -> SecondReading | None:
    """The most probable of the groups beside a region, where it is spoken of.

    `region` and the groups are in the box; the first of the probabilities is the region's.
    """
    n = int(probabilities[1:].argmax()) if groups else 0
    if not groups or probabilities[n + 1] < SPOKEN:
        return None
    mask, chances = groups[n].mask, (float(probabilities[0]), float(probabilities[n + 1]))
    grid = channel.grid
    whole = np.zeros(channel.values.shape, dtype=bool)
    whole[box] = mask
    voxel = float(np.prod(grid.spacing)) / 1000
    deepest = [
        (float(depth.max()), np.unravel_index(int(depth.argmax()), depth.shape), of_second)
        for only, of_second in ((mask & ~region, True), (region & ~mask, False))
        for depth in [depth_in(only, np.asarray(grid.spacing))]
    ]
    _, place, of_second = max(deepest, key=lambda each: each[0])
    at = np.array(place) + [side.start for side in box]
    x, y, z = (round(float(value), 1) + 0.0 for value in grid.to_world(at))
    sizes = float(region.sum() * voxel), float(mask.sum() * voxel)
    return SecondReading(whole, grid, chances, sizes, (x, y, z), of_second)


def part_at_neck(
    mask: Bool[np.ndarray, "i j k"], here: np.ndarray, spacing: np.ndarray
) -> Bool[np.ndarray, "i j k"] | None:
    """The part of a region on a voxel's side of its narrowest neck; None where it has none.

    A ball rolled inside the region passes from one part to the other if it is as small as the neck.
    """
    from scipy import ndimage

    met = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    tight = tuple(slice(int(each[0]), int(each[-1]) + 1) for each in met)
    part = mask[tight]
    depth = depth_in(part, spacing)
    found: tuple[float, np.ndarray, np.ndarray] | None = None
    for cut in np.linspace(0, depth.max(), DEPTHS + 1)[1:-1]:
        labels, count = ndimage.label(depth >= cut)  # pyright: ignore[reportGeneralTypeIssues]
        if count < 2:
            continue
        widest = np.asarray(ndimage.maximum(depth, labels, range(1, count + 1)))
        two = np.argsort(-widest)[:2]
        narrower = float(widest[two[1]])
        if narrower < max(NARROWER * depth.max(), 2 * spacing.max()):
            continue
        if cut <= NECK * narrower and (found is None or cut / narrower < found[0]):
            found = float(cut / narrower), labels, two + 1
    if found is None:
        return None
    _, labels, two = found
    seeds = np.isin(labels, two)
    nearest = np.asarray(
        ndimage.distance_transform_edt(
            ~seeds, sampling=spacing, return_distances=False, return_indices=True
        )
    )
    sides = np.asarray(labels[tuple(nearest)])
    place = np.clip(here - [side.start for side in tight], 0, np.array(part.shape) - 1)
    own = np.zeros_like(mask)
    own[tight] = part & (sides == sides[tuple(place)])
    return own


def _with_own_edge(readings: Readings, spacing: np.ndarray) -> list[int]:
    """The readings of levels at which the edge is steeper than at those about them, and beyond."""
    from scipy.signal import find_peaks

    least = 4 / 3 * np.pi * SMALLEST**3 / float(np.prod(spacing))
    at = np.flatnonzero(np.isfinite(readings.level))
    at = at[np.argsort(readings.level[at])]
    edge = readings.edge[at]
    if not len(edge):
        return []
    framed = np.concatenate([[0.0], edge, [0.0]])  # the first and the last may be maxima
    peaks, about = find_peaks(framed, prominence=0.0)
    return [
        int(at[peak - 1])
        for peak, prominence in zip(peaks, about["prominences"], strict=True)
        if prominence >= STANDS_OUT * framed[peak]
        and framed[peak] >= STEEP_ENOUGH * edge.max()
        and readings.masks[at[peak - 1]].sum() >= least
    ]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))
