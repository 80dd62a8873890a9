"""How does an image become what the network sees, and back? Resample, normalise, restore.

All resampling goes by affines: a voxel of the target is looked up at its own place in patient
coordinates, never at a ratio of array edges, so that nothing moves by half a voxel.
"""

from __future__ import annotations

import math

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Bool, Float, Int
from aistat_jax.nets.plan import Normalisation, Plan
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.plausible import implausible

SAME_SPACING = 1e-3  # relative difference below which an axis is left as it is
SAME_PLACE = 1e-3  # voxels between two grids below which nothing is interpolated
LEAST_SD = 1e-8  # of a z-score, as nnU-Net has it
FWHM_PER_SD = math.sqrt(8 * math.log(2))


@record
class Prepared:
    """What a network sees of one image.

    Shapes: values (i, j, k, channel) float32, normalised, in canonical axis order on `grid`,
    the working grid; native is the primary channel's own grid.
    """

    values: Float[np.ndarray, "i j k channel"]
    grid: Grid
    native: Grid


def prepare(plan: Plan, image: Image) -> Prepared:
    """The channels of a plan, resampled to the working grid and normalised.

    The working grid has the plan's spacing along the axes of the image's primary channel, and
    its centre; in 2D its planes are those of the primary channel. Every channel is interpolated
    onto it linearly by its own affine. A channel finer than the working grid is first smoothed
    along its finer axes, to a resolution (full width at half maximum) of one working voxel, for
    else noise and edges between the samples would alias. Beyond its field of view a channel
    takes its lowest value. An image or a plan in px keeps the image's own grid.

    Neighbouring planes of a 2.5D network are joined later (`join_planes`). Shapes: see `Prepared`.
    Raises InputError for a channel of the plan that the image lacks, holds in another quantity or
    with values that cannot be of it (see `implausible`), or that does not overlap the primary
    channel.
    """
    native = image.primary.grid
    grid = working_grid(plan, native)
    values = np.empty((*grid.shape, len(plan.channels)), dtype=np.float32)
    for n, (name, quantity) in enumerate(zip(plan.channels, plan.quantities, strict=True)):
        channel = _channel_of(plan, image, name, quantity)
        resampled = resample(channel.values, channel.grid, grid, smooth=True)
        if not channel.grid.matches(native):
            seen = field_of_view(channel.grid, grid)
            if not seen.any():
                raise InputError(
                    f"channel {name} does not overlap channel {image.primary.name}; check that "
                    "both are of one patient and one session"
                )
            resampled[~seen] = channel.values.min()
        values[..., n] = normalise(plan.normalisations[n], resampled, channel.values)
    return Prepared(values, grid, native)


def prepare_labels(
    plan: Plan, labels: Int[np.ndarray, "i j k"], channel_grid: Grid
) -> Int[np.ndarray, "x y z"]:
    """Labels on the working grid of the channel they were drawn on.

    Each label's indicator is interpolated linearly and the largest wins (the lower label where
    two are equal), so that outlines keep their place to a fraction of a voxel.
    Shapes: labels (i, j, k) on `channel_grid`, in 0 to the plan's last label. Returns int32 on
    the grid of `prepare` for an image with that primary grid.
    Raises InputError for another shape or other values.
    """
    if labels.shape != channel_grid.shape:
        raise InputError(
            f"labels of shape {labels.shape} do not match the channel's {channel_grid.shape}; "
            "pass labels on the channel's own grid"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(plan.labels):
        raise InputError(
            f"labels run from {low} to {high} and the plan has 0 to "
            f"{len(plan.labels) - 1} ({', '.join(plan.labels)}); correct the one or the other"
        )
    grid = working_grid(plan, channel_grid)
    if grid is channel_grid:
        return labels.astype(np.int32)
    found = np.full(grid.shape, low, dtype=np.int32)
    largest = np.zeros(grid.shape, dtype=np.float32)
    for label in np.flatnonzero(np.bincount(labels.ravel())):
        part = resample((labels == label).astype(np.float32), channel_grid, grid)
        wins = part > largest
        found[wins], largest[wins] = label, part[wins]
    return found


def restore(
    prepared: Prepared, values: Float[np.ndarray, "i j k c"]
) -> Float[np.ndarray, "x y z c"]:
    """Values on the working grid, such as probabilities, on the primary channel's native grid.

    Interpolated linearly at the centre of every native voxel; a centre beyond the outermost
    working voxels takes the nearest value. Shapes: values (i, j, k, c) on `prepared.grid`;
    returns the same type, (*native.shape, c). Raises InputError for another shape.
    """
    if values.shape[:3] != prepared.grid.shape:
        raise InputError(
            f"values of shape {values.shape[:3]} do not match the working grid "
            f"{prepared.grid.shape}; pass the network's output for this very image"
        )
    restored = np.empty((*prepared.native.shape, values.shape[3]), dtype=values.dtype)
    for c in range(values.shape[3]):
        restored[..., c] = resample(values[..., c], prepared.grid, prepared.native)
    return restored


def join_planes(
    values: Float[np.ndarray, "i j k channel"], k: int, slices: int
) -> Float[np.ndarray, "i j feature"]:
    """Plane k and its neighbours as channels of one plane; the outermost planes are repeated.

    Shapes: returns (i, j, slices * channel), all channels of the lowest plane first.
    """
    half = slices // 2
    planes = np.clip(np.arange(k - half, k + half + 1), 0, values.shape[2] - 1)
    return values[:, :, planes].reshape(*values.shape[:2], -1)


def working_grid(plan: Plan, native: Grid) -> Grid:
    """The grid a network works on for an image whose primary channel lies on `native`.

    It has the same axes and the same centre, exactly the plan's spacing, and just enough voxels
    to cover the native ones. An axis whose spacing is right within 0.1% is kept, as are the
    planes in 2D and, for an image or plan in px, all axes; if all are kept it is `native` itself.
    """
    spacing, size = native.spacing, np.array(native.shape)
    wanted = np.array(plan.spacing_mm, dtype=np.float64)
    kept = np.abs(spacing / wanted - 1) < SAME_SPACING
    if plan.architecture.dims == 2:
        kept[2] = True
    if kept.all() or "px" in (native.unit, plan.unit):
        return native
    step = np.where(kept, 1.0, wanted / spacing)
    shape = np.where(kept, size, np.maximum(1, np.ceil(size / step - 0.01))).astype(int)
    # first voxel, in native indices: both centres are at the same place
    first = (size - 1) / 2 - step * (shape - 1) / 2
    affine = native.affine.copy()
    affine[:3, :3] = native.affine[:3, :3] * step
    affine[:3, 3] = native.to_world(first)
    return Grid(affine, (int(shape[0]), int(shape[1]), int(shape[2])), native.unit)


def resample(
    values: Float[np.ndarray, "i j k"], source: Grid, target: Grid, *, smooth: bool = False
) -> Float[np.ndarray, "x y z"]:
    """Values at the voxel centres of another grid, linear between centres, clamped outside.

    smooth: where the target is coarser, first a Gaussian along each source axis whose full width
    at half maximum is sqrt(f^2 - 1) voxels, f the target's step along that axis in source voxels
    ("scale factor point spread function matching", Cardoso et al. 2015, MICCAI). It leaves a
    linear ramp as it is. Shapes: values (*source.shape); returns the same type, (*target.shape).
    """
    from scipy import ndimage

    if source is target or source.matches(target, SAME_PLACE):
        return values.copy()
    matrix = _index_map(source, target)
    if smooth:
        step = np.linalg.norm(matrix[:3, :3], axis=1)
        sd = np.sqrt(np.maximum(step**2 - 1, 0.0)) / FWHM_PER_SD
        sd[(step < 1 + SAME_SPACING) | (np.array(source.shape) == 1)] = 0.0
        if sd.any():
            values = ndimage.gaussian_filter(values, sd, mode="nearest")
    return ndimage.affine_transform(
        values, matrix, output_shape=target.shape, order=1, mode="nearest"
    )


def field_of_view(source: Grid, target: Grid) -> Bool[np.ndarray, "x y z"]:
    """Which voxel centres of `target` lie in the box of `source`, outer voxel edges included."""
    matrix = _index_map(source, target)
    i, j, k = np.ogrid[: target.shape[0], : target.shape[1], : target.shape[2]]
    inside = np.ones(target.shape, dtype=bool)
    for row, size in zip(matrix[:3], source.shape, strict=True):
        index = row[0] * i + row[1] * j + row[2] * k + row[3]
        inside &= np.abs(index - (size - 1) / 2) <= size / 2 + SAME_PLACE
    return inside


def normalise(
    how: Normalisation, values: Float[np.ndarray, "i j k"], native: Float[np.ndarray, "x y z"]
) -> Float[np.ndarray, "i j k"]:
    """A channel's values as a network's input; see `Normalisation` for the formulas.

    Shapes: values (i, j, k), returned in the same shape; native, any shape, are the channel's
    voxels before resampling, from which a z-score takes its mean and sd.
    """
    if how.kind == "zscore":
        return (values - native.mean()) / native.std()
    if how.kind == "zscore-box":
        inside = native[_box(native != 0)]
        return (values - inside.mean()) / max(float(inside.std()), LEAST_SD)
    if how.kind == "zscore-mask":
        inside = native[_filled(native != 0)]
        scaled = (values - inside.mean()) / max(float(inside.std()), LEAST_SD)
        return np.where(_filled(values != 0), scaled, 0.0)
    clipped = np.clip(values, how.low, how.high)
    if how.kind == "suv":
        return np.log2(1 + clipped / how.scale)
    return (clipped - how.centre) / how.scale


def _filled(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.binary_fill_holes(mask)) if mask.any() else ~mask


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    from scipy import ndimage

    return ndimage.find_objects(mask.astype(np.int8))[0] if mask.any() else (slice(None),)


def _index_map(source: Grid, target: Grid) -> np.ndarray:
    """Affine (4, 4) from indices of `target` to indices of `source`."""
    return np.linalg.solve(source.affine, target.affine)


def _channel_of(plan: Plan, image: Image, name: str, quantity: str) -> Channel:
    if name not in image.names:
        raise InputError(
            f"the network {plan.name} needs channel {name} ({quantity}) and the image has "
            f"{', '.join(image.names)}; pass {name}='...' too, or name the "
            f"channel {name} if that is what it shows"
        )
    channel = image[name]
    if channel.quantity != quantity:
        raise InputError(
            f"channel {name} is in {channel.quantity} but the network {plan.name} was trained on "
            f"{quantity}; convert it first"
        )
    doubt = implausible(channel.values, quantity) if channel.unit == "mm" else None
    if doubt is not None:
        raise InputError(f"{channel.source or f'channel {name}'}: {doubt}")
    return channel
