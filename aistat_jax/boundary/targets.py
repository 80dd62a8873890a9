"""What is to be contoured? A target: a slice, a centre in it and a rough radius.

`find_targets` makes one target per slice from a point, a mask or a threshold. From a point it
looks for the lesion first (`region_at`): among the connected regions around the point at many
intensity levels, the one whose boundary runs along the steepest uptake. The posterior contours
then start from, but are not held to, that region.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float
from aistat_jax.space.curve import Curve, contours_from_mask
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, Image

LEVELS = 40
# A point may lie in a cold core: hot tissue within the first length belongs to the lesion, and
# the region may pass the point by at most the second; a region that does counts for less.
LENGTHS = {"mm": (20.0, 15.0), "px": (5.0, 4.0)}
# Below this uptake (SUV) differences are noise, not tissue.
SUV_FLOOR = 0.2
# Large regions are preferred a little, regions cut off by the image border much less.
SIZE_POWER, BORDER_POWER = 0.1, 3
MIN_VOXELS = 8
MIN_PIXELS = 6


@record
class Target:
    """Where a contour is sought.

    Shapes: centre (2,) in-plane coordinates, radius a scalar (of the circle of equal area); unit
    of the plane. `outline` is a rough contour, where one is known: fits start from it. It is not
    evidence: it was read off the same image.
    """

    centre: Float[np.ndarray, "2"]
    radius: float
    plane: Plane
    id: str = static(default="target")
    outline: Curve | None = None

    @property
    def unit(self) -> str:
        return self.plane.unit

    @staticmethod
    def from_mask(mask: Bool[np.ndarray, "nu nv"], plane: Plane, name: str = "target") -> Target:
        """The target of one slice's mask: its largest component, seen from a good centre.

        Of the centroid, the deepest point and points between them, the centre is the one from
        which the star of first exits covers the component best.
        """
        from scipy import ndimage

        labels, count = _components(mask)
        if count == 0:
            raise InputError(f"target {name}: the mask is empty in slice {plane.index}")
        sizes = np.bincount(labels.ravel())[1:]
        component = labels == int(sizes.argmax()) + 1
        points = plane.points()
        centroid = points[component].mean(axis=0)
        depth = np.asarray(ndimage.distance_transform_edt(component, sampling=plane.spacing))
        deepest = points[np.unravel_index(int(np.argmax(depth)), depth.shape)]
        candidates = [centroid + s * (deepest - centroid) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
        seen = [_seen_from(centre, component, plane) for centre in candidates]
        radius = float(np.sqrt(component.sum() * plane.pixel_area / np.pi))
        centre = candidates[int(np.argmax(seen))]
        outline = contours_from_mask(component, plane)[0]
        if not bool(outline.contains(centre[None])[0]):  # a hole, or a shape seen from no point
            centre = deepest
        return Target(centre, radius, plane, name, outline)


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected components numbered from 1, and how many there are."""
    from scipy import ndimage

    labels = np.asarray(ndimage.label(mask)[0])  # pyright: ignore[reportIndexIssue]
    return labels, int(labels.max())


def _seen_from(centre: np.ndarray, component: np.ndarray, plane: Plane) -> float:
    """Area of the component that straight rays from the centre reach without leaving it."""
    step = float(plane.spacing.min()) / 2
    reach = float(np.hypot(*(np.array(plane.shape) * plane.spacing)))
    angles = 2 * np.pi * np.arange(64) / 64
    radii = np.arange(step / 2, reach, step)
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    index = np.rint(plane.to_index(centre + radii[None, :, None] * rays[:, None, :])).astype(int)
    inside = np.asarray(((index >= 0) & (index < np.array(plane.shape))).all(axis=-1))
    index = np.where(inside[..., None], index, 0)
    hit = component[index[..., 0], index[..., 1]] & inside
    first_exit = np.where(hit.all(axis=1), len(radii), hit.argmin(axis=1))
    return float(np.square(first_exit * step).sum())


def find_targets(
    image: Image,
    *,
    point_mm: Sequence[float] | np.ndarray | None = None,
    mask: Bool[np.ndarray, "i j k"] | None = None,
    threshold: float | None = None,
    channel: str | None = None,
    slices: str | Sequence[int] = "all",
) -> list[Target]:
    """Targets, one per slice, from a point, a mask or a threshold.

    `point_mm` is a patient point (x, y, z) inside the lesion (RAS mm; pixels for images without
    spacing); `mask` is boolean on the channel's canonical grid; `threshold` is in the channel's
    quantity and, with a point, keeps the component that holds it, else the largest one. `slices`
    is "all" that the target meets, "point" for the slice of the point (of the largest area
    without one), or slice numbers.

    Raises InputError for a point outside the image or in air, an empty mask or threshold, or
    slices that the target does not meet.
    """
    chosen = image.primary if channel is None else image[channel]
    index = None if point_mm is None else _voxel_of(point_mm, chosen)
    if mask is not None:
        region = np.asarray(mask, dtype=bool)
        if region.shape != chosen.values.shape:
            raise InputError(
                f"the mask's grid {region.shape} does not match channel {chosen.name}'s "
                f"{chosen.values.shape}; resample the mask onto the image"
            )
        if not region.any():
            raise InputError("the mask is empty; pass one that marks the target")
    elif threshold is not None:
        region = _component_at(chosen.values >= threshold, index, chosen, threshold)
    elif index is not None:
        region = region_at(chosen, index)
    else:
        raise InputError("a target needs a point, a mask or a threshold")
    area = region.sum(axis=(0, 1))
    met = [int(k) for k in np.flatnonzero(area >= min(MIN_PIXELS, int(area.max())))]
    return [
        Target.from_mask(region[:, :, k], chosen.grid.plane(k), f"z{k:03d}")
        for k in _choose(slices, met, index, area)
    ]


def _choose(
    slices: str | Sequence[int], met: list[int], index: np.ndarray | None, area: np.ndarray
) -> list[int]:
    if isinstance(slices, str):
        if slices == "all":
            return met
        if slices != "point":
            raise InputError(f"slices must be 'all', 'point' or slice numbers, got {slices!r}")
        wanted = [int(index[2]) if index is not None else int(area.argmax())]
        if not set(wanted) <= set(met):  # the lesion may pass the point by in its own slice
            wanted = [min(met, key=lambda k: abs(k - wanted[0]))]
        return wanted
    missing = sorted(set(slices) - set(met))
    if missing:
        raise InputError(
            f"the target does not meet slice {missing[0]}; it meets {met[0]} to {met[-1]}"
        )
    return sorted(set(slices))


def _voxel_of(point: Sequence[float] | np.ndarray, channel: Channel) -> np.ndarray:
    """Index of the voxel that holds a patient point."""
    xyz = np.asarray(point, dtype=float)
    if xyz.shape != (3,) or not np.isfinite(xyz).all():
        raise InputError(f"a point needs three finite coordinates x,y,z, got {point}")
    index = np.rint(channel.grid.to_index(xyz)).astype(int)
    shape = np.array(channel.values.shape)
    if (index < 0).any() or (index >= shape).any():
        corners = channel.grid.to_world(np.stack([np.zeros(3), shape - 1.0]))
        low, high = corners.min(axis=0).round(1), corners.max(axis=0).round(1)
        raise InputError(
            f"the point {tuple(xyz.tolist())} lies outside channel {channel.name}, which covers "
            f"{tuple(low.tolist())} to {tuple(high.tolist())} {channel.grid.unit}"
        )
    return index


def _component_at(
    hot: np.ndarray, index: np.ndarray | None, channel: Channel, threshold: float
) -> np.ndarray:
    labels, count = _components(hot)
    if count == 0 or hot.all():
        raise InputError(
            f"threshold {threshold} {channel.quantity} marks "
            f"{'everything' if count else 'nothing'} in channel {channel.name}; "
            f"its values run from {channel.values.min():.3g} to {channel.values.max():.3g}"
        )
    if index is None:
        wanted = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    else:
        wanted = int(labels[tuple(index)])
        if wanted == 0:
            value = channel.values[tuple(index)]
            raise InputError(
                f"the point's value {value:.3g} {channel.quantity} is below the threshold "
                f"{threshold}; move the point into the target or lower the threshold"
            )
    return labels == wanted


def region_at(channel: Channel, index: np.ndarray) -> Bool[np.ndarray, "i j k"]:
    """The bright region around a voxel whose boundary runs along the steepest intensity.

    For each of LEVELS levels the component at (or next to) the voxel is scored by the mean
    gradient along its surface, of log uptake for SUV (a hot spot inside a lesion then counts
    for no more than the lesion's own edge) and of the intensity itself otherwise; by its size
    and by how far it passes the voxel by. Holes in a slice (necrosis) are filled.

    Raises InputError when nothing around the voxel stands out (the point lies in air).
    """
    from scipy import ndimage

    values, spacing = channel.values, channel.grid.spacing
    suv = channel.quantity == "SUV"
    tone = np.log(np.maximum(values, 0.0) + SUV_FLOOR) if suv else values
    smooth = ndimage.gaussian_filter(tone, 0.7)
    used = [axis for axis in range(3) if values.shape[axis] > 1]
    steepness = np.sqrt(
        sum(np.square(np.gradient(smooth, spacing[axis], axis=axis)) for axis in used)
    )
    offset = (np.indices(values.shape).reshape(3, -1).T - index) * spacing
    distance = np.linalg.norm(offset, axis=1).reshape(values.shape)
    reach, gap = LENGTHS[channel.grid.unit]
    near = values[distance <= reach]
    floor, peak = float(np.median(values)), float(near.max())
    if not peak > floor + (SUV_FLOOR if suv else 0.0):
        raise InputError(
            f"nothing within {reach:.0f} {channel.grid.unit} of the point stands out from the "
            f"background of channel {channel.name} (peak {peak:.3g}, background {floor:.3g} "
            f"{channel.quantity}); move the point into the target or pass a mask"
        )
    low = max(0.1 * peak, 1e-6) if suv else floor
    levels = np.geomspace(low, 0.95 * peak, LEVELS) if suv else np.linspace(low, peak, LEVELS + 2)
    best, best_score = None, 0.0
    for level in levels[: None if suv else -1]:
        labels, _ = _components(values >= level)
        label, passed_by = int(labels[tuple(index)]), 0.0
        if label == 0:
            beside = np.where(labels > 0, distance, np.inf)
            nearest = np.unravel_index(int(beside.argmin()), values.shape)
            passed_by = float(beside[nearest])
            if passed_by > gap:
                continue
            label = int(labels[nearest])
        region = _filled(labels == label)
        volume = int(region.sum())
        if volume < min(MIN_VOXELS, region.size // 4):
            continue
        score = _edge_score(region, steepness, used) * volume**SIZE_POWER
        if not region[tuple(index)]:
            score *= 1 - 0.5 * passed_by / gap
        if score > best_score:
            best, best_score = region, score
    if best is None:
        raise InputError(
            f"no region around the point has an edge inside channel {channel.name}; "
            "move the point into the target or pass a mask"
        )
    return best


def _filled(region: np.ndarray) -> np.ndarray:
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
