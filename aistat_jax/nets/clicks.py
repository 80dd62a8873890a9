"""What would a person point at? Prompts made up for the windows that a network learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._record import replace
from aistat_jax._typing import Bool, Float
from aistat_jax.nets.example import Example
from aistat_jax.nets.prompts import GUIDES, guide_maps

NOTHING = 0.2  # share of windows with a lesion in the middle about which nothing is asked
BOX = 0.3  # of the others have a box
CLICK_WITH_BOX = 0.5  # of these have a foreground click too; without a box there always is one
BACKGROUND = 0.3  # have a background click
ON_ANOTHER = 0.5  # of these, where there is another lesion, click on it
DEPTH = 0.5  # least depth of a foreground click, as a share of the largest there is
JITTER = 0.1  # of a box's edge, by which a face may lie too far in or out (out: or a voxel)


def point_at(
    rng: np.random.Generator,
    example: Example,
    classes: int,
    patch: tuple[int, ...],
    centre: Sequence[int],
    spacing_mm: Sequence[float],
    voxel: Sequence[int] | None = None,
) -> Example:
    """A window with prompts for one connected component, and only that left to be found.

    Components are those of one label, or where there are raters of the voxels that any of them
    gave it; voxels that touch at a corner are connected. It is the component at `voxel`, or
    without one any of those that reach the middle half of the patch. The click lies in that middle
    half if the component reaches it, for there turning and zooming rarely take it out of the
    patch, and at least half as deep as one can get there. Where there is no such component, and
    in a fifth of the other windows, nothing is asked and all labels stay.

    A box has its faces moved by up to a tenth of its edge, outwards by a voxel if that is more. A
    background click lies anywhere in the patch, half of the time on another component if there is
    one.

    Shapes: an example without a batch, raters (*window, class - 1) being shares; patch, centre
    (the voxel that comes to patch // 2), spacing_mm and voxel (axis,). Returns an example with
    guidance (*window, 3) float32. It depends on its arguments and the random numbers alone.
    """
    marks = _marks(example, classes)
    middle = _around(patch, centre, 4)
    near = middle if voxel is None else tuple(slice(v, v + 1) for v in voxel)
    asked = rng.random() >= NOTHING
    found = _component(rng, marks, near) if asked else None
    if found is None:
        return replace(example, guidance=np.zeros((*marks.shape[:-1], GUIDES), np.float32))
    label, part = found
    boxed = rng.random() < BOX
    clicked = not boxed or rng.random() < CLICK_WITH_BOX
    whole = _around(patch, centre, 2)
    click = _deep(rng, part, middle if part[middle].any() else whole, spacing_mm)
    against = _against(rng, np.asarray(marks.any(axis=-1)), part, whole)
    kept: dict[str, np.ndarray] = {"labels": np.where(part, example.labels, 0)}
    if example.raters is not None:
        one = np.arange(classes - 1) == label
        kept["raters"] = np.where(part[..., None] & one, example.raters, np.float32(0))
    maps = guide_maps(
        part.shape, click[: int(clicked)], against, _jittered(rng, part) if boxed else None
    )
    return replace(example, guidance=maps, **kept)


def _marks(example: Example, classes: int) -> Bool[np.ndarray, "*space label"]:
    """Where anyone gave each label but the background."""
    if example.raters is not None:
        return np.asarray(example.raters) > 0
    return np.asarray(example.labels)[..., None] == np.arange(1, classes)


def _around(patch: Sequence[int], centre: Sequence[int], part: int) -> tuple[slice, ...]:
    """The patch (part 2) or its middle half (part 4) in a window."""
    first = [max(0, c - n // part) for n, c in zip(patch, centre, strict=True)]
    return tuple(
        slice(f, c - n // part + max(1, 2 * n // part))
        for f, n, c in zip(first, patch, centre, strict=True)
    )


def _component(
    rng: np.random.Generator, marks: Bool[np.ndarray, "*space label"], near: tuple[slice, ...]
) -> tuple[int, Bool[np.ndarray, "*space"]] | None:
    """The number of a label and one of its components, drawn evenly from those in a region."""
    from scipy import ndimage

    touching = np.ones((3,) * (marks.ndim - 1))
    found = []
    for label in range(marks.shape[-1]):
        if marks[(*near, label)].any():
            numbered = ndimage.label(marks[..., label], touching)
            parts = np.asarray(numbered[0])  # pyright: ignore[reportIndexIssue]
            found += [(label, parts, n) for n in np.unique(parts[near]) if n]
    if not found:
        return None
    label, parts, number = found[rng.integers(len(found))]
    return label, parts == number


def _deep(
    rng: np.random.Generator,
    part: Bool[np.ndarray, "*space"],
    region: tuple[slice, ...],
    spacing_mm: Sequence[float],
) -> Float[np.ndarray, "1 axis"]:
    """A voxel of a component in a region, at least DEPTH of the largest depth there."""
    from scipy import ndimage

    bounds = _bounds(part)
    # One voxel more on all sides: beyond the window is outside.
    padded = np.pad(part[bounds], 1)
    inside = np.asarray(ndimage.distance_transform_edt(padded, sampling=spacing_mm))
    depth = np.zeros(part.shape)
    depth[bounds] = inside[(slice(1, -1),) * part.ndim]
    return _one_of(rng, part & (depth >= DEPTH * depth[region].max()), region)


def _against(
    rng: np.random.Generator,
    foreground: Bool[np.ndarray, "*space"],
    part: Bool[np.ndarray, "*space"],
    region: tuple[slice, ...],
) -> Float[np.ndarray, "point axis"]:
    """A voxel in a region that is not in the component, on another or not; or none at all."""
    other = foreground & ~part
    on_another = rng.random() < ON_ANOTHER and other[region].any()
    places = other if on_another else ~foreground
    if rng.random() >= BACKGROUND or not places[region].any():
        return np.zeros((0, part.ndim))
    return _one_of(rng, places, region)


def _jittered(
    rng: np.random.Generator, part: Bool[np.ndarray, "*space"]
) -> Float[np.ndarray, "2 axis"]:
    """Lowest and highest corner of a box drawn about a component, none too exactly."""
    low, high = np.array([(s.start - 0.5, s.stop - 0.5) for s in _bounds(part)]).T
    inward = JITTER * (high - low)
    out = rng.uniform(-inward, np.maximum(inward, 1.0), (2, part.ndim))
    return np.stack([low - out[0], high + out[1]])


def _bounds(part: Bool[np.ndarray, "*space"]) -> tuple[slice, ...]:
    from scipy import ndimage

    return ndimage.find_objects(part.astype(np.int8))[0]


def _one_of(
    rng: np.random.Generator, places: Bool[np.ndarray, "*space"], region: tuple[slice, ...]
) -> Float[np.ndarray, "1 axis"]:
    """One of the voxels of a mask in a region, each as likely."""
    flat = np.flatnonzero(places[region])
    at = np.unravel_index(flat[rng.integers(len(flat))], places[region].shape)
    return np.array([[float(n + s.start) for n, s in zip(at, region, strict=True)]])
