"""What is an image? Named channels, each on its own native grid in canonical axis order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import ArrayLike, Bool, Float
from aistat_jax.space.grid import (
    Axes,
    Grid,
    Plane,
    canonical_axes,
    canonical_grid,
    check_affine,
    to_canonical,
)
from aistat_jax.space.origin import Origin


@dataclass(frozen=True)
class Storage:
    """How the input stored its voxels; what writing back needs. Hashable.

    axes: canonical axis -> (stored axis, flipped). shape and affine (row by row) are those of
    the file, in the file's own length unit; mm_per_unit converts it; codes are (sform, qform).
    qform is the file's second transform (row by row), where that is another one.
    """

    axes: Axes
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    mm_per_unit: float = 1.0
    codes: tuple[int, int] = (1, 1)
    qform: tuple[tuple[float, ...], ...] | None = None


@record
class ChannelSlice:
    """One slice of one channel. Shapes: values (nu, nv), one value a pixel of `plane`."""

    values: Float[np.ndarray, "nu nv"]
    plane: Plane
    name: str = static(default="image")
    quantity: str = static(default="a.u.")

    @property
    def sides(self) -> Float[np.ndarray, "2"]:
        """Of a pixel."""
        return self.plane.spacing

    def points(self) -> Float[np.ndarray, "nu nv 2"]:
        """In-plane coordinates of every pixel centre."""
        return self.plane.points()

    def around(self, centre: ArrayLike, reach: float) -> ChannelSlice:
        """The pixels of a box around a point (2,) that holds all within a distance of it."""
        middle, apart = self.plane.to_index(centre), reach / self.plane.spacing
        last = np.asarray(self.plane.shape)
        low = np.clip(np.ceil(middle - apart), 0, last).astype(int)
        high = np.clip(np.floor(middle + apart) + 1, low, last).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        return replace(self, values=self.values[box], plane=self.plane.part(low, high))

    def at(self, points: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Values at in-plane points (..., 2), interpolated linearly; NaN beyond the outer pixels.

        >>> plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(2, 2), unit="px")
        >>> shown = ChannelSlice(np.array([[0.0, 1.0], [2.0, 3.0]]), plane)
        >>> [float(value) for value in shown.at(np.array([[0.5, 0.0], [0.5, 0.5], [-1.0, 0.0]]))]
        [1.0, 1.5, nan]
        """
        from scipy import ndimage

        index = np.moveaxis(self.plane.to_index(points), -1, 0)
        return np.asarray(
            ndimage.map_coordinates(self.values, index, order=1, mode="constant", cval=np.nan)
        )


@record
class Channel:
    """One modality on its own grid.

    Convention: stored axes are permuted and flipped so that they run closest to RAS+.
    Shapes: values (i, j, k) float64 in `quantity` ("SUV", "HU", "a.u."). `origin` is the DICOM
    series that it was read from, if any.
    """

    values: Float[np.ndarray, "i j k"]
    grid: Grid
    name: str = static(default="image")
    quantity: str = static(default="a.u.")
    source: str = static(default="")
    storage: Storage | None = static(default=None)
    origin: Origin | None = static(default=None)

    @property
    def unit(self) -> str:
        return self.grid.unit

    def slice(self, k: int | np.integer) -> ChannelSlice:
        """The k-th slice along the canonical third axis. Raises InputError outside the volume."""
        plane = self.grid.plane(k)
        return ChannelSlice(self.values[:, :, plane.index], plane, self.name, self.quantity)

    def at(self, points: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Values at points of the world (..., 3), linear between voxel centres; NaN beyond them."""
        from scipy import ndimage

        index = np.moveaxis(self.grid.to_index(points), -1, 0)
        return np.asarray(
            ndimage.map_coordinates(self.values, index, order=1, mode="constant", cval=np.nan)
        )

    def resliced(self, plane: Plane) -> ChannelSlice:
        """Any plane through the volume, whatever its direction, on the plane's own pixels.

        Values are interpolated linearly between voxel centres, keep the last one's out to its edge,
        and are NaN beyond. Raises InputError for a plane in another unit.
        """
        from scipy import ndimage

        if plane.unit != self.unit:
            raise InputError(
                f"channel {self.name} is in {self.unit} but the plane is in {plane.unit}"
            )
        points = plane.to_world(plane.points())
        index = np.moveaxis(self.grid.to_index(points), -1, 0)
        values = ndimage.map_coordinates(self.values, index, order=1, mode="nearest")
        values = np.where(self.grid.contains(points), values, np.nan)
        return ChannelSlice(values, plane, self.name, self.quantity)

    def block_at(self, centre: ArrayLike, reach: float) -> ChannelBlock:
        """The voxels of a box around a point (3,) that holds all within a distance of it.

        Raises InputError where the channel has none.
        """
        middle = self.grid.to_index(centre)
        apart = reach / self.grid.spacing
        last = np.asarray(self.grid.shape)
        low = np.clip(np.ceil(middle - apart).astype(int), 0, last)
        high = np.clip(np.floor(middle + apart).astype(int) + 1, 0, last)
        if (low >= high).any():
            raise InputError(
                f"channel {self.name} has no voxels within {reach:.1f} {self.unit} of the point "
                f"{tuple(np.round(np.asarray(centre, dtype=float), 1).tolist())}"
            )
        affine = self.grid.affine.copy()
        affine[:3, 3] = self.grid.to_world(low)
        i, j, k = (int(n) for n in high - low)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = Grid(affine, (i, j, k), self.unit)
        return ChannelBlock(self.values[box], grid, self.name, self.quantity)

    def place_of(self, part: ChannelBlock | ChannelSlice) -> tuple[slice | int, ...]:
        """Which of its voxels a box of it, or of one of its slices, holds."""
        if isinstance(part, ChannelSlice):
            first = part.plane.to_world(part.plane.origin)
            low = np.rint(self.grid.to_index(first)).astype(int)[:2]
            shape, rest = part.plane.shape, (part.plane.index,)
        else:
            low = np.rint(self.grid.to_index(part.grid.affine[:3, 3])).astype(int)
            shape, rest = part.grid.shape, ()
        return *(slice(a, a + n) for a, n in zip(low, shape, strict=False)), *rest

    def slice_at(self, plane: Plane) -> ChannelSlice:
        """The slice of this channel nearest to a plane, such as one of another channel.

        Its in-plane coordinates are those of `plane`. Raises InputError when the two are not
        parallel within 1e-3, or no slice lies within half this channel's slice thickness.
        """
        own = self.grid.beside(plane, self.name)
        return ChannelSlice(self.values[:, :, own.index], own, self.name, self.quantity)


@record
class ChannelBlock:
    """A box of voxels of one channel. Shapes: values (i, j, k), one value a voxel of `grid`."""

    values: Float[np.ndarray, "i j k"]
    grid: Grid
    name: str = static(default="image")
    quantity: str = static(default="a.u.")

    @property
    def sides(self) -> Float[np.ndarray, "3"]:
        """Of a voxel."""
        return self.grid.spacing

    def points(self) -> Float[np.ndarray, "i j k 3"]:
        """Patient coordinates of every voxel centre."""
        return self.grid.points()


@record
class Image:
    """Named channels; the first is the primary one. All in mm, or all in px.

    >>> image = Image.from_arrays(PT=np.arange(12.0).reshape(3, 4), spacing_mm=2.0)
    >>> image.names, image.unit, image["PT"].grid.shape
    (('PT',), 'mm', (3, 4, 1))
    """

    channels: dict[str, Channel]
    names: tuple[str, ...] = static(default=())

    def __post_init__(self) -> None:
        if not self.names:  # JAX sorts dictionary keys, so the order is kept apart
            object.__setattr__(self, "names", tuple(self.channels))

    @staticmethod
    def of(*channels: Channel) -> Image:
        """An image of the given channels. Raises InputError for mixed units or equal names."""
        if not channels:
            raise InputError("an image needs at least one channel, such as PT='pet.nii.gz'")
        names = tuple(channel.name for channel in channels)
        if len(set(names)) < len(names):
            raise InputError(f"channel names {names} repeat; give each channel its own name")
        if len({channel.unit for channel in channels}) > 1:
            units = ", ".join(f"{channel.name} in {channel.unit}" for channel in channels)
            raise InputError(f"channels mix units ({units}); give every image a spacing, or none")
        return Image(dict(zip(names, channels, strict=True)), names)

    @staticmethod
    def from_arrays(
        spacing_mm: float | Sequence[float] | None = None, **arrays: ArrayLike
    ) -> Image:
        """An image from arrays indexed (u, v) or (u, v, w); a 2D array becomes one slice.

        spacing_mm is one number or one a axis, shared by all channels; None means pixels.
        The first voxel's centre is the origin. Raises InputError for unusable values.
        """
        return Image.of(
            *(
                channel_from_array(
                    values, _affine_of(spacing_mm, name), name=name, in_px=spacing_mm is None
                )
                for name, values in arrays.items()
            )
        )

    @property
    def primary(self) -> Channel:
        return self.channels[self.names[0]]

    @property
    def unit(self) -> str:
        return self.primary.unit

    def home_of(self, planes: Sequence[Plane]) -> Channel | None:
        """The first channel whose slices planes are, None where they are those of none."""
        for name in self.names:
            if all(self.channels[name].grid.has(plane) for plane in planes):
                return self.channels[name]
        return None

    def __getitem__(self, name: str) -> Channel:
        if name not in self.channels:
            raise InputError(f"the image has no channel {name!r}; it has {', '.join(self.names)}")
        return self.channels[name]


def quantity_of(name: str) -> str:
    """The physical quantity a channel's name stands for.

    >>> quantity_of("PT"), quantity_of("CT"), quantity_of("T1")
    ('SUV', 'HU', 'a.u.')
    """
    return {"PT": "SUV", "PET": "SUV", "CT": "HU"}.get(name.upper(), "a.u.")


def channel_from_array(
    values: ArrayLike,
    affine: Float[np.ndarray, "4 4"],
    *,
    name: str = "image",
    quantity: str | None = None,
    source: str = "",
    in_px: bool = False,
    mm_per_unit: float = 1.0,
    codes: tuple[int, int] = (1, 1),
    qform: Float[np.ndarray, "4 4"] | None = None,
) -> Channel:
    """A channel from voxels in any stored order, brought into canonical order.

    Shapes: values (i, j), (i, j, k), or (i, j, k, 1); affine (4, 4) from stored index to world.
    in_px: the image has no spacing; stored order is kept and coordinates are pixel indices.
    Raises InputError for values that are not finite or constant, more than three dimensions, or
    an affine without spacing or with shear.
    """
    where = source or f"channel {name}"
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{where}: voxels of type {array.dtype} are not real numbers; "
            "store one real value a voxel"
        )
    volume = as_volume(array, where).astype(np.float64)
    if not np.isfinite(volume).all():
        bad = int(np.count_nonzero(~np.isfinite(volume)))
        raise InputError(
            f"{where}: {bad} voxels are NaN or infinite; replace them with real values "
            "or crop the image"
        )
    if volume.min() == volume.max():
        raise InputError(
            f"{where}: every voxel is {volume.min():g}, so there is nothing to contour; "
            "check that this is the right file"
        )
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, where)
    unit = "px" if in_px else "mm"
    stored_shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    world = affine * np.array([[mm_per_unit]] * 3 + [[1.0]])
    axes = canonical_axes(world)
    storage = Storage(
        axes=axes,
        shape=tuple(int(n) for n in array.shape),
        affine=tuple(tuple(float(a) for a in row) for row in affine),
        mm_per_unit=float(mm_per_unit),
        codes=codes,
        qform=None if qform is None else tuple(tuple(float(a) for a in row) for row in qform),
    )
    return Channel(
        values=np.ascontiguousarray(to_canonical(volume, axes)),
        grid=canonical_grid(world, stored_shape, axes, unit),
        name=name,
        quantity=quantity_of(name) if quantity is None else quantity,
        source=source,
        storage=storage,
    )


def as_volume(array: np.ndarray, where: str) -> np.ndarray:
    """An array as three dimensions: 2D becomes one slice, trailing dimensions of one go.

    Raises InputError for anything else, naming `where`.
    """
    if array.size == 0:
        raise InputError(f"{where}: there is no voxel in shape {array.shape}; export it again")
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim > 3 and set(array.shape[3:]) == {1}:
        return array.reshape(array.shape[:3])
    if array.ndim != 3:
        raise InputError(
            f"{where}: the image has shape {tuple(array.shape)} and must have two or three "
            "dimensions; extract a single volume first"
        )
    return array


def _affine_of(spacing_mm: float | Sequence[float] | None, name: str) -> np.ndarray:
    if spacing_mm is None:
        return np.eye(4)
    spacing = np.atleast_1d(np.asarray(spacing_mm, dtype=np.float64))
    if spacing.shape == (1,):
        spacing = np.repeat(spacing, 3)
    elif spacing.shape == (2,):
        spacing = np.append(spacing, spacing.max())
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InputError(
            f"channel {name}: spacing_mm is {spacing_mm} and must be one, two or three "
            "positive numbers, in millimetres"
        )
    return np.diag(np.append(spacing, 1.0))


def one_region(values: np.ndarray, what: str) -> Bool[np.ndarray, "*grid"]:
    """The voxels of one region: those of a mask that hold its only value but 0.

    Raises InputError for several labels, fractions, and values below 0 or without a number; `what`
    the mask is called there.
    """
    if values.dtype == bool:
        return values
    found = np.unique(values) + 0.0
    if not np.isfinite(found).all():
        raise InputError(f"{what} holds NaN or infinite voxels; save it as 0 and 1")
    if np.count_nonzero(found) > 1 or found[:1].min(initial=0) < 0:
        shown = ", ".join(f"{v:g}" for v in found[:4]) + (", ..." if len(found) > 4 else "")
        raise InputError(
            f"{what} holds the values {shown}; mark the one region wanted by 1 and everything else "
            "by 0"
        )
    return values > 0
