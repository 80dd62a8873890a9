"""Which objects does an image hold? Many at once: a map of labels, and a target for each.

Cells, nuclei, nodes: objects that lie close to each other. What belongs to a neighbour is neither
inside nor background, and is no evidence about this one.
"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Bool, Int
from aistat_jax.boundary.targets import MIN_PIXELS, Target, Targets
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.neighbours import Neighbours

# The middles of two objects that touch lie apart by a dip of the distance from the background to
# less than this share of the smaller one's.
DIP = 0.75
# A dip of the distance transform shallower than this many pixels is the pixels' own.
GRAIN = 0.75
# Pixels around a label's box that are looked at with it.
MARGIN = 2


def label_objects(
    image: Image,
    *,
    channel: str | None = None,
    threshold: float | None = None,
    dark: bool = False,
    smallest: float | None = None,
) -> Int[np.ndarray, "i j k"]:
    """The objects of an image, numbered from 1 in every slice anew; 0 is background.

    Above `threshold` (by default that of Otsu 1979), or below where objects are `dark`; holes are
    filled. Where a part of that is two discs that touch, as the distance from its border tells, it
    is cut apart by a watershed. Objects of less than `smallest` (an area, in the square of the
    image's unit; by default 20 pixels) are left out.

    Raises InputError for a threshold that marks nothing or everything, and for an image of one
    value.
    """
    chosen = image.primary if channel is None else image[channel]
    cut = _threshold(chosen, threshold)
    hot = chosen.values < cut if dark else chosen.values > cut
    if hot.all() or not hot.any():
        marked = "everything" if hot.all() else "nothing"
        raise InputError(
            f"threshold {cut:.4g} {chosen.quantity} marks {marked} in channel {chosen.name}; its "
            f"values run from {chosen.values.min():.4g} to {chosen.values.max():.4g}"
        )
    area = chosen.grid.plane(0).pixel_area
    least = 20 if smallest is None else max(1, int(np.ceil(smallest / area)))
    return np.stack([_cut_apart(hot[:, :, k], least) for k in range(hot.shape[2])], axis=-1)


def _threshold(channel: Channel, given: float | None) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(channel.values.ravel())) if given is None else float(given)


def _cut_apart(hot: Bool[np.ndarray, "nu nv"], least: int) -> Int[np.ndarray, "nu nv"]:
    """Filled parts, those that narrow cut apart, those of fewer pixels than `least` left out."""
    from scipy import ndimage
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    filled = np.asarray(ndimage.binary_fill_holes(hot))
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(filled, 1)))[1:-1, 1:-1]
    dipped = np.minimum(DIP * depth, depth - GRAIN)
    levelled = np.asarray(reconstruction(np.maximum(dipped, 0.0), depth))
    peaks = np.asarray(local_maxima(levelled)) & filled
    seeds = np.asarray(ndimage.label(peaks, np.ones((3, 3)))[0])  # pyright: ignore[reportIndexIssue]
    labels = np.asarray(watershed(-depth, seeds, mask=filled))
    sizes = np.bincount(labels.ravel())
    kept = np.flatnonzero((sizes >= least) & (np.arange(len(sizes)) > 0))
    number = np.zeros(len(sizes), dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return number[labels]


def labelled_targets(
    labels: Int[np.ndarray, "nu nv"], plane: Plane, *, least: int = MIN_PIXELS, spread: float = 0.0
) -> Targets:
    """A target for every label of a slice, in the order of the labels: "z003.17" for label 17.

    Of a label in several pieces the largest is meant. `least` is the fewest pixels that a target
    has; labels of fewer are named in `skipped`. `spread` is the sd of the point spread through
    which objects were found, in the unit of the plane; 0 where somebody drew them.
    """
    from scipy import ndimage

    found, skipped = [], []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        name = f"z{plane.index:03d}.{label}"
        if box is None:
            continue
        low = np.array([max(side.start - MARGIN, 0) for side in box])
        high = np.minimum([side.stop + MARGIN for side in box], plane.shape)
        part = labels[low[0] : high[0], low[1] : high[1]] == label
        if (pixels := int(part.sum())) < least:
            few = "1 pixel is" if pixels == 1 else f"{pixels} pixels are"
            skipped.append((name, f"{few} too few for a contour (at least {least})"))
            continue
        target = Target.from_mask(part, plane.part(low, high), name)
        beside = Neighbours(labels, plane, label)
        found.append(replace(target, plane=plane, seen_through=spread, beside=beside))
    return Targets(tuple(found), tuple(skipped))
