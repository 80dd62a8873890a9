"""Which region of an image is meant by a point in it, and can that be trusted?

Somebody may have said how large it is (`ball_at`). Else it has to be found.

Among the connected regions around the point at many intensity levels, `region_at` takes the one
whose boundary runs along the steepest intensity, seen in a scale that fits the quantity: log uptake
for PET, and for all else a window about what is at the point, so that air and bone far from it do
not count. What speaks against the region is said in sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool, Float
from aistat_jax.space.image import Channel

# Standard deviation of the point spread, mm, where the user states none.
BLUR_MM = {"SUV": 3.0, "HU": 0.8}
LEVELS = 40
# A point may lie in a cold core: hot tissue within the first length belongs to the lesion, and
# the region may pass the point by at most the second; a region that does counts for less.
LENGTHS = {"mm": (20.0, 15.0), "px": (5.0, 4.0)}
# Below this uptake (SUV) differences are noise, not tissue; the grey values of a picture, whatever
# they are counted in, have this share of their peak instead.
SUV_FLOOR, PICTURE_FLOOR = 0.2, 0.02
# Large regions are preferred a little, regions cut off by the image border much less.
SIZE_POWER, BORDER_POWER = 0.1, 3
MIN_VOXELS = 8
# The dark end of the window is this quantile of what lies within twice the first length.
DARK = 0.1
# Doubted: regions of which more than these shares are cut off by the border, or of the image, ...
CUT_SHARE, LARGE_SHARE = 0.02, 0.3
# ... surrounded by what is darker than lung (HU), or brighter by far than what was pointed at.
AIR_HU = -950.0
DARKER = 0.4


class Region(NamedTuple):
    """Voxels (i, j, k), and reasons to doubt that they are what was meant, in sentences.

    `level` is the intensity at which they were cut out, None for voxels that somebody marked;
    `second` what else may be meant (alternatives.py), where there is something.
    """

    mask: np.ndarray
    level: float | None = None
    doubts: tuple[str, ...] = ()
    second: Any = None


def point_spread(channel: Channel) -> float:
    """Sd of a channel's point spread, where nobody states one: its quantity's, or a voxel."""
    if channel.unit == "px":
        return 1.0
    voxel = float(np.sqrt(channel.grid.plane(0).pixel_area))
    return BLUR_MM.get(channel.quantity, voxel)


class Tone(NamedTuple):
    """An image in a scale in which differences near a point are alike; its dark and bright end."""

    values: np.ndarray
    levels: np.ndarray
    dark: float
    here: float


def region_at(channel: Channel, index: np.ndarray) -> Region:
    """The bright region around a voxel whose boundary runs along the steepest intensity.

    For each of LEVELS levels the component at (or next to) the voxel is scored by the mean
    gradient along its surface (see `tone_at` for the scale), by its size and by how far it passes
    the voxel by. See `doubts_at` for what is said against it.

    Raises InputError when nothing around the voxel stands out (the point lies in air).
    """
    parts, scores = scored_levels(channel, index)
    return region_of_level(channel, index, *parts[int(scores.argmax())])


def region_of_level(channel: Channel, index: np.ndarray, level: float, part: Part) -> Region:
    """What a level cut out around a voxel, and what speaks against it."""
    mask = part.whole(channel.values.shape)
    return Region(mask, level, doubts_at(channel, mask, index))


def scored_levels(
    channel: Channel, index: np.ndarray
) -> tuple[list[tuple[float, Part]], Float[np.ndarray, " part"]]:
    """What each level cuts out around a voxel, and how steep its edge is.

    Raises InputError when nothing around the voxel stands out.
    """
    tone = tone_at(channel, index)
    spacing, unit = channel.grid.spacing, channel.grid.unit
    parts = list(components_at(channel.values, index, tone.levels, spacing, unit))
    scores = edge_scores(tone.values, [part for _, part in parts], index, spacing, unit)
    if not np.any(scores > 0):
        raise InputError(
            f"no region around the point has an edge inside channel {channel.name}; "
            "move the point into the target or pass a mask"
        )
    return parts, scores


def edge_scores(
    tone: Float[np.ndarray, "i j k"],
    parts: Sequence[Part],
    index: np.ndarray,
    spacing: np.ndarray,
    unit: str,
) -> Float[np.ndarray, " part"]:
    """How steep `tone` is along the surface of each part; more for large ones.

    Less for those that pass a voxel by, or that the border cuts.
    """
    from scipy import ndimage

    smooth, gap = ndimage.gaussian_filter(tone, 0.7), LENGTHS[unit][1]
    used = [axis for axis in range(3) if tone.shape[axis] > 1]
    steepness = np.zeros(tone.shape)  # in place: images are large
    for axis in used:
        slope = np.gradient(smooth, spacing[axis], axis=axis)
        steepness += np.square(slope, out=slope)
        del slope
    np.sqrt(steepness, out=steepness)
    del smooth
    scores = np.zeros(len(parts))
    for n, part in enumerate(parts):
        scores[n] = _edge_score(part.mask, steepness[part.box], used)
        scores[n] *= int(part.mask.sum()) ** SIZE_POWER
        if not part.holds(index):
            scores[n] *= 1 - 0.5 * part.passed_by / gap
    return scores


class Part(NamedTuple):
    """A component in its box of an image, and how far it passes a voxel by."""

    mask: np.ndarray
    box: tuple[slice, ...]
    passed_by: float

    def whole(self, shape: tuple[int, ...]) -> np.ndarray:
        """It in the whole image."""
        mask = np.zeros(shape, dtype=bool)
        mask[self.box] = self.mask
        return mask

    def holds(self, index: np.ndarray) -> bool:
        """Whether it holds a voxel of the image."""
        place = tuple(int(i) - side.start for i, side in zip(index, self.box, strict=True))
        within = all(0 <= i < n for i, n in zip(place, self.mask.shape, strict=True))
        return within and bool(self.mask[place])


def components_at(
    values: Float[np.ndarray, "i j k"],
    index: np.ndarray,
    levels: Float[np.ndarray, " level"],
    spacing: np.ndarray,
    unit: str,
) -> Iterator[tuple[float, Part]]:
    """What each level cuts out at a voxel, or next to it; holes in a slice (necrosis) are filled.

    Left out are levels whose components pass the voxel by too far, or are next to nothing.
    """
    from scipy import ndimage

    gap, distance = LENGTHS[unit][1], distances(values.shape, spacing, index)
    for level in levels:
        labels = np.asarray(ndimage.label(values >= level)[0])  # pyright: ignore[reportIndexIssue]
        label, passed_by = int(labels[tuple(index)]), 0.0
        if label == 0:
            beside = np.where(labels > 0, distance, np.inf)
            nearest = np.unravel_index(int(beside.argmin()), values.shape)
            passed_by = float(beside[nearest])
            if passed_by > gap:
                continue
            label = int(labels[nearest])
        box = _box_around(labels == label)
        region = _filled(labels[box] == label)
        if int(region.sum()) >= min(MIN_VOXELS, values.size // 4):
            yield float(level), Part(region, box, passed_by)


def ball_at(channel: Channel, point: np.ndarray, radius: float) -> Region:
    """All within a radius of a point: what somebody means who points at a middle and at an edge.

    Raises InputError for a radius that is not positive, for one that the image does not hold, and
    when nothing around the point stands out.
    """
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"the radius must be a positive number, got {radius}")
    sides, unit = np.array(channel.values.shape) * channel.grid.spacing, channel.grid.unit
    if 2 * radius > sides.max():
        raise InputError(
            f"a ball of radius {radius:g} {unit} is larger than channel {channel.name}, which is "
            f"{' x '.join(f'{side:.0f}' for side in sides)} {unit}"
        )
    place = channel.grid.to_index(point)
    tone_at(channel, np.rint(place).astype(int))
    mask = distances(channel.values.shape, channel.grid.spacing, place) <= radius
    return Region(mask, None, cut_off_doubts(mask))


def distances(
    shape: tuple[int, ...], spacing: np.ndarray, index: np.ndarray
) -> Float[np.ndarray, "i j k"]:
    """How far the middle of each voxel lies from a place, given as an index."""
    i, j, k = (
        np.square((np.arange(n) - at) * side)
        for n, at, side in zip(shape, index, spacing, strict=True)
    )
    return np.sqrt(i[:, None, None] + j[:, None] + k)


def _box_around(region: Bool[np.ndarray, "i j k"]) -> tuple[slice, ...]:
    """The box of a region and one voxel more to every side that the image has."""
    sides = []
    for axis in range(3):
        rest = tuple(other for other in range(3) if other != axis)
        held = np.flatnonzero(region.any(axis=rest))
        sides.append(slice(max(int(held[0]) - 1, 0), int(held[-1]) + 2))
    return tuple(sides)


def section_areas(channel: Channel, region: Region) -> Float[np.ndarray, " k"]:
    """Area of a region in every slice: within its level, interpolated between voxels.

    Whole voxels where it has no level. In the square of the channel's unit.
    """
    from scipy import ndimage

    pixel = channel.grid.plane(0).pixel_area
    area = pixel * region.mask.sum(axis=(0, 1)).astype(float)
    if region.level is None:
        return area
    beside = np.ones((3, 3, 1), dtype=bool)
    around = np.asarray(ndimage.binary_dilation(region.mask, beside))
    above = np.where(around, channel.values - region.level, -np.inf)
    above = np.where(region.mask, np.maximum(above, 0.0), above)
    for k in np.flatnonzero(area):
        area[k] = pixel * _area_above(above[:, :, k])
    return area


def _area_above(above: Float[np.ndarray, "i j"]) -> float:
    """Area, in pixels, in which a field is positive, by linear interpolation."""
    import contourpy

    low = min(float(above[np.isfinite(above)].min()), -1e-9)
    field = np.pad(np.where(np.isfinite(above), above, low), 1, constant_values=low)
    total = 0.0
    for line in contourpy.contour_generator(z=field).lines(0.0):
        x, y = np.asarray(line, dtype=float).T
        total += 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
    return abs(total)


def tone_at(channel: Channel, index: np.ndarray) -> Tone:
    """The scale in which an image is looked at from a voxel, and the levels to try.

    Of log uptake for SUV: a hot spot inside a lesion then counts for no more than the lesion's own
    edge. Else the intensity itself, cut off at the dark end of what lies around the voxel and as
    far above what is there. A picture, which has no spacing, is the same stored as 0 to 255 or as 0
    to 1. Raises InputError when nothing stands out.
    """
    values, distance = channel.values, distances(channel.values.shape, channel.grid.spacing, index)
    reach, _ = LENGTHS[channel.grid.unit]
    near = values[distance <= reach]
    corner = tuple(slice(max(i - 1, 0), i + 2) for i in index)
    here = float(np.median(values[corner]))
    suv, peak = channel.quantity == "SUV", float(near.max())
    dark = float(np.median(values) if suv else np.quantile(values[distance <= 2 * reach], DARK))
    floor = SUV_FLOOR if channel.unit == "mm" else PICTURE_FLOOR * abs(peak)
    if not peak > dark + (floor if suv else 0.0):
        raise InputError(
            f"nothing within {reach:.0f} {channel.grid.unit} of the point stands out from the "
            f"background of channel {channel.name} (peak {peak:.3g}, background {dark:.3g} "
            f"{channel.quantity}); move the point into the target or pass a mask"
        )
    if suv:
        levels = np.geomspace(max(0.1 * peak, 1e-6), 0.95 * peak, LEVELS)
        return Tone(np.log(np.maximum(values, 0.0) + floor), levels, dark, here)
    bright = float(np.quantile(near, 0.995))
    if here - dark > 0.25 * (bright - dark):
        bright = max(2 * here - dark, here)
    bright = bright if bright > dark else peak
    levels = np.linspace(dark, bright, LEVELS + 2)[1:-1]
    return Tone(np.clip(values, dark, bright), levels, dark, here)


def doubts_at(channel: Channel, region: np.ndarray, index: np.ndarray) -> tuple[str, ...]:
    """What speaks against a region as what was meant by a voxel, in sentences.

    Doubted is a region that the border cuts off, that holds a large share of the image, and what
    `doubts_near` says.
    """
    return (*cut_off_doubts(region), *doubts_near(channel, region, index))


def doubts_near(channel: Channel, region: np.ndarray, index: np.ndarray) -> tuple[str, ...]:
    """What speaks against a region by what the image shows about it, in sentences.

    Doubted is one that lies in air, that does not hold the voxel, or that is brighter by far than
    what is there.
    """
    from scipy import ndimage

    tone = tone_at(channel, index)
    unit, found = channel.grid.unit, []
    if channel.quantity == "HU":
        shell = np.asarray(ndimage.binary_dilation(region, iterations=2)) & ~region
        if shell.any() and float(np.median(channel.values[shell])) < AIR_HU:
            found.append("the region around the point is bounded by air")
    if not region[tuple(index)]:
        distance = distances(region.shape, channel.grid.spacing, index)
        away = float(distance[region].min())
        found.append(
            f"the region found passes the point by at {away:.0f} {unit}: a neighbour, or the rim "
            "of a cold core, may have been taken for what was meant"
        )
    else:
        inside = float(np.median(channel.values[region]))
        if tone.here - tone.dark < DARKER * (inside - tone.dark):
            found.append(
                f"what was pointed at ({tone.here:.3g} {channel.quantity}) is much darker than the "
                f"region found around it ({inside:.3g}): a cold core, or a neighbour taken with it"
            )
    return tuple(found)


def cut_off_doubts(region: np.ndarray) -> tuple[str, ...]:
    """A sentence about a region of which the image shows but a part, or which is most of it."""
    slices = region.sum(axis=(0, 1)) / np.prod(region.shape[:2])
    share = max(float(region.mean()), float(slices.max()))
    if share > LARGE_SHARE:
        return (f"the region around the point holds {share:.0%} of the image",)
    if _cut_share(region) > CUT_SHARE:
        return ("the region around the point runs into the border of the image",)
    return ()


def _cut_share(region: np.ndarray) -> float:
    """The share of a region's outline, over all slices, that lies on the border of the image."""
    surface = cut = 0
    for axis in (0, 1):
        faces = np.diff(region.astype(np.int8), axis=axis)
        ends = int(region.take(0, axis=axis).sum() + region.take(-1, axis=axis).sum())
        surface += int(np.abs(faces).sum()) + ends
        cut += ends
    return cut / max(surface, 1)


def _filled(region: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    from scipy import ndimage

    slices = np.moveaxis(region, 2, 0)
    return np.stack([np.asarray(ndimage.binary_fill_holes(s)) for s in slices], axis=2).astype(bool)


def _edge_score(region: np.ndarray, steepness: np.ndarray, axes: list[int]) -> float:
    """Mean steepness on both sides of a region's surface, less what the image border cuts."""
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, 1)
    for axis in set(range(3)) - set(axes):
        structure = structure & (np.indices((3, 3, 3))[axis] == 1)
    eroded = np.asarray(ndimage.binary_erosion(region, structure, border_value=1), dtype=bool)
    inner = region & ~eroded
    outer = np.asarray(ndimage.binary_dilation(region, structure)) & ~region
    edge = inner | outer
    if not edge.any():
        return 0.0
    sides = sum(region.take(end, axis=a).sum() for a in axes[:2] for end in (0, -1))
    cut = min(float(sides) / max(int(inner.sum()), 1), 1.0)
    return float(steepness[edge].mean()) * (1 - cut) ** BORDER_POWER
