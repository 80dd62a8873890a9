"""Which planes are the slices of a DICOM series, and which instance is each?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Channel
from aistat_jax.space.origin import Origin


class Slice(NamedTuple):
    """One image of a series: its plane among even ones, the UID of its instance, and the way from
    the plane to where the instance lies.

    Shapes: off (3,), RAS mm.
    """

    plane: Plane
    instance: str
    off: Float[np.ndarray, "3"]


def origin_of(channel: Channel) -> Origin:
    """The series that a channel was read from.

    Raises InputError where it is from no DICOM series, or from one without a frame of reference or
    a study.
    """
    if channel.origin is None or channel.storage is None:
        raise InputError(
            f"channel {channel.name} was not read from a DICOM series, which an object has to "
            "refer to; read the image from its DICOM folder"
        )
    if not channel.origin.frame_uid:
        raise InputError(
            f"channel {channel.name}: its series has no FrameOfReferenceUID (0020,0052), so that "
            "contours would have no place; use the original series"
        )
    if not dict(channel.origin.patient).get("StudyInstanceUID"):
        raise InputError(
            f"channel {channel.name}: its series has no StudyInstanceUID (0020,000D), so that an "
            "object would be of no study; use the original series"
        )
    return channel.origin


def series_grid(channel: Channel) -> Grid:
    """The grid of a channel with the series' own slices along its third axis.

    That is the canonical one, unless the series is sagittal or coronal.
    """
    if channel.storage is None:
        return channel.grid
    (across,) = (n for n, (axis, _) in enumerate(channel.storage.axes) if axis == 2)
    order = [*(n for n in range(3) if n != across), across]
    affine = channel.grid.affine.copy()
    affine[:3, :3] = affine[:3, :3][:, order]
    first, second, third = (channel.grid.shape[n] for n in order)
    return replace(channel.grid, affine=affine, shape=(first, second, third))


def slices_of(channel: Channel) -> list[Slice]:
    """The slices of a channel's series along `series_grid`. Raises InputError as `origin_of`."""
    origin, grid = origin_of(channel), series_grid(channel)
    assert channel.storage is not None
    (flipped,) = (flip for axis, flip in channel.storage.axes if axis == 2)
    along = np.asarray(channel.storage.affine)[:3, 2]
    off = np.asarray(origin.off_even or [0.0] * len(origin.instances))
    off = off[:, None] * along / np.linalg.norm(along)
    step = -1 if flipped else 1
    found = zip(origin.instances[::step], off[::step], strict=True)
    return [Slice(grid.plane(k), instance, way) for k, (instance, way) in enumerate(found)]
