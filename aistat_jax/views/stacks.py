"""Through which planes is an image walked? Parallel ones, or three stacks that meet in a point.

A contour lies in a slice, and is seen in the slices of its own channel: one stack. A surface is
seen in three, axial, coronal and sagittal, the patient's however the voxels lie; they are linked
by a point of the world, the cross-hair, through which all of them pass. What shows an image walks
a tuple of stacks.

A stack counts its planes from 0; a number need not be whole, for a cross-hair may lie anywhere. A
point *of* a plane, (u, v), is turned by it into a point in the coordinates of the boundaries that
are seen: itself in a slice, (x, y, z) in space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.space.grid import Plane
from aistat_jax.space.image import Channel, ChannelSlice

# Columns u, v, w of each plane in patient coordinates, and the axis that it lies across.
PLANES = {
    "axial": (np.eye(3), 2),
    "coronal": (np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).T, 1),
    "sagittal": (np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]).T, 0),
}


@runtime_checkable
class Stack(Protocol):
    """Parallel planes through an image, `count` of them `step` apart."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def step(self) -> float: ...

    def plane(self, number: float) -> Plane: ...

    def number_of(self, point: Float[np.ndarray, "3"]) -> float:
        """Where in the stack a point of the world lies."""
        ...

    def shown(self, channel: Channel, number: float) -> ChannelSlice:
        """What a plane shows of a channel. Raises InputError where it shows nothing."""
        ...

    def point(self, uv: tuple[float, float], number: float) -> tuple[float, ...]:
        """A point of a plane in the coordinates of the boundaries that are seen."""
        ...

    def words(self, number: float) -> str:
        """Which plane it is."""
        ...


@dataclass(frozen=True)
class Slices:
    """The slices of a channel."""

    home: Channel
    name: str = "slice"

    @property
    def count(self) -> int:
        return self.home.grid.shape[2]

    @property
    def step(self) -> float:
        return float(self.home.grid.spacing[2])

    def plane(self, number: float) -> Plane:
        return self.home.grid.plane(round(number))

    def number_of(self, point: Float[np.ndarray, "3"]) -> float:
        return float(np.rint(self.home.grid.to_index(point)[2]))

    def shown(self, channel: Channel, number: float) -> ChannelSlice:
        return channel.slice_at(self.plane(number))

    def point(self, uv: tuple[float, float], number: float) -> tuple[float, ...]:
        return uv

    def words(self, number: float) -> str:
        return ""


@dataclass(frozen=True)
class BodyPlanes:
    """Planes of the patient of one name through a channel: as far apart as its voxels there.

    On axes of the patient's they are the channel's own voxels, row by row.
    """

    home: Channel
    name: str

    @property
    def count(self) -> int:
        return self._lie(self.home)[2][2]

    @property
    def step(self) -> float:
        return float(self._lie(self.home)[1][2])

    @property
    def _turned(self) -> bool:
        """Whether the stack is counted against its third axis: numbers grow with x, y and z."""
        frame, across = PLANES[self.name]
        return bool(frame[across, 2] < 0)

    def plane(self, number: float) -> Plane:
        return self._plane(self.home, number)

    def number_of(self, point: Float[np.ndarray, "3"]) -> float:
        first, step, count = self._lie(self.home)
        place = float((np.asarray(point) @ PLANES[self.name][0])[2] - first[2]) / step[2]
        return count[2] - 1 - place if self._turned else place

    def shown(self, channel: Channel, number: float) -> ChannelSlice:
        return channel.resliced(self._plane(channel, number))

    def point(self, uv: tuple[float, float], number: float) -> tuple[float, ...]:
        x, y, z = self.plane(number).to_world(np.array(uv))
        return float(x), float(y), float(z)

    def words(self, number: float) -> str:
        plane, across = self.plane(number), PLANES[self.name][1]
        place = float((plane.frame[:, 2] * plane.offset)[across])
        where = f"{'xyz'[across]} = {place:.0f} {plane.unit}".replace("-", "\u2212")
        return f"{self.name}, {where}" if plane.unit == "mm" else where

    def _plane(self, channel: Channel, number: float) -> Plane:
        """A plane of the home's stack, on the pixels of a channel."""
        first, step, count = self._lie(self.home)
        place = count[2] - 1 - number if self._turned else number
        origin, spacing, shape = self._lie(channel)
        return Plane(
            origin=origin[:2], spacing=spacing[:2], offset=float(first[2] + place * step[2]),
            thickness=float(step[2]), frame=PLANES[self.name][0], shape=(shape[0], shape[1]),
            unit=channel.unit, index=round(number),
        )  # fmt: skip

    def _lie(self, channel: Channel) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
        """First voxel centre, spacing and count along u, v and w: of the axis nearest to each."""
        grid, frame = channel.grid, PLANES[self.name][0]
        corners = np.stack(np.meshgrid(*([0, n - 1] for n in grid.shape)), axis=-1).reshape(-1, 3)
        ends = grid.to_world(corners) @ frame
        low, high = ends.min(axis=0), ends.max(axis=0)
        nearest = np.abs(grid.frame.T @ frame).argmax(axis=0)
        step = grid.spacing[nearest]
        count = [int(n) for n in np.floor((high - low) / step + 1.001)]
        return low, step, (count[0], count[1], count[2])


def stacks_of(home: Channel, dims: int) -> tuple[Stack, ...]:
    """The stacks in which boundaries of so many dimensions are seen."""
    if dims == 2:
        return (Slices(home),)
    return tuple(BodyPlanes(home, name) for name in PLANES)
