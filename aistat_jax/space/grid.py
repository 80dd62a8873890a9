"""Where is a voxel? Index <-> patient millimetres, and the plane of one slice.

This is the only module that knows about axis order and handedness. World coordinates are
patient RAS+ millimetres (x to the Right, y to the Anterior, z to the Superior); an image
without spacing lives in pixels (unit "px").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import ArrayLike, Bool, Float, Int

Axes = tuple[tuple[int, bool], tuple[int, bool], tuple[int, bool]]
"""For each canonical axis: the stored axis it comes from, and whether that is flipped."""

SHEAR_TOLERANCE = 1e-3
PARALLEL_TOLERANCE = 1e-3


@record
class Plane:
    """One slice of a grid, in in-plane coordinates.

    In-plane coordinates (u, v) are the first two of frame.T @ xyz = (u, v, w), so that on an
    axis-aligned grid u = x, v = y and w = z exactly. Pixel (0, 0) has its centre at `origin`.

    Shapes: origin (2,), spacing (2,), frame (3, 3) with orthonormal columns; offset is w and
    thickness the distance between slices; lengths in `unit` ("mm" or "px"). shape (nu, nv) and
    index (the slice number on the third axis of the canonical grid) are static.
    """

    origin: Float[np.ndarray, "2"]
    spacing: Float[np.ndarray, "2"]
    offset: float
    thickness: float
    frame: Float[np.ndarray, "3 3"]
    shape: tuple[int, int] = static()
    unit: str = static(default="mm")
    index: int = static(default=0)

    def is_slice(self, other: Plane) -> bool:
        """Whether another plane is the same slice, to a thousandth of it and of a right angle."""
        apart = abs(self.offset - other.offset) / max(self.thickness, other.thickness)
        turned = float(np.abs(self.frame - other.frame).max())
        return max(apart, turned) < PARALLEL_TOLERANCE

    def points(
        self, box: tuple[slice, slice] = (slice(None), slice(None))
    ) -> Float[np.ndarray, "nu nv 2"]:
        """In-plane coordinates of every pixel centre, or of those in a box of pixels."""
        u = self.origin[0] + self.spacing[0] * np.arange(self.shape[0])[box[0]]
        v = self.origin[1] + self.spacing[1] * np.arange(self.shape[1])[box[1]]
        return np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1)

    def places(self, dims: int) -> Float[np.ndarray, "nu nv dims"]:
        """Every pixel centre as a chart of so many dimensions counts: in the plane, or in space."""
        return self.points() if dims == 2 else self.to_world(self.points())

    def to_world(self, uv: ArrayLike) -> Float[np.ndarray, "*batch 3"]:
        """Patient coordinates (..., 3) of in-plane points (..., 2)."""
        uv = np.asarray(uv, dtype=float)
        w = np.full((*uv.shape[:-1], 1), float(self.offset))
        return np.concatenate([uv, w], axis=-1) @ self.frame.T

    def to_uv(self, world: ArrayLike) -> Float[np.ndarray, "*batch 2"]:
        """In-plane coordinates (..., 2) of patient points (..., 3), dropped onto the plane."""
        return (np.asarray(world, dtype=float) @ self.frame)[..., :2]

    def to_index(self, uv: ArrayLike) -> Float[np.ndarray, "*batch 2"]:
        """Fractional pixel index (..., 2) of in-plane points; whole numbers at pixel centres."""
        return (np.asarray(uv, dtype=float) - self.origin) / self.spacing

    def part(self, low: Int[np.ndarray, "2"], high: Int[np.ndarray, "2"]) -> Plane:
        """The pixels from index `low` to before `high` of the same slice."""
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        return replace(self, origin=self.origin + low * self.spacing, shape=size)

    def seen_from(self, other: Plane) -> Plane:
        """This slice in the coordinates of one that is parallel to it."""
        if not np.abs(other.frame.T @ self.frame - np.eye(3)).max():
            return self
        middle = (np.asarray(self.shape) - 1) / 2 * self.spacing
        centre = other.to_uv(self.to_world(self.origin + middle))
        return replace(self, frame=other.frame, origin=centre - middle)

    def box_around(self, points: Float[np.ndarray, "point 2"]) -> tuple[slice, slice]:
        """The pixels that hold all points, and one more to every side, as far as there are any."""
        index = self.to_index(points)
        last = np.asarray(self.shape)
        low = np.clip(np.floor(index.min(axis=0)).astype(int) - 1, 0, last)
        high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 2, low, last)
        return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Outer edges (u_min, u_max, v_min, v_max) of the pixels, as `imshow` wants them."""
        low = self.origin - self.spacing / 2
        high = low + self.spacing * np.asarray(self.shape)
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])

    @property
    def pixel_area(self) -> float:
        """Area of one pixel in unit squared."""
        return float(self.spacing[0] * self.spacing[1])


@record
class Grid:
    """Voxel centres of a volume: world = affine @ (i, j, k, 1).

    Shapes: affine (4, 4); shape (i, j, k) and unit ("mm" or "px") are static.

    >>> grid = Grid(affine=np.diag([2.0, 2.0, 3.0, 1.0]), shape=(4, 4, 2))
    >>> [float(s) for s in grid.spacing]
    [2.0, 2.0, 3.0]
    >>> grid.plane(1).offset
    3.0
    """

    affine: Float[np.ndarray, "4 4"]
    shape: tuple[int, int, int] = static()
    unit: str = static(default="mm")

    @property
    def spacing(self) -> Float[np.ndarray, "3"]:
        """Distance between voxel centres along each index axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def frame(self) -> Float[np.ndarray, "3 3"]:
        """Unit vectors of the index axes as orthonormal columns."""
        directions = self.affine[:3, :3] / self.spacing
        if np.array_equal(directions, np.eye(3)):
            return np.eye(3)
        left, _, right = np.linalg.svd(directions)
        return left @ right

    def to_world(self, index: ArrayLike) -> Float[np.ndarray, "*batch 3"]:
        """World coordinates (..., 3) of fractional indices (..., 3)."""
        return np.asarray(index, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, world: ArrayLike) -> Float[np.ndarray, "*batch 3"]:
        """Fractional indices (..., 3) of world coordinates (..., 3)."""
        offset = np.asarray(world, dtype=float) - self.affine[:3, 3]
        return np.linalg.solve(self.affine[:3, :3], offset[..., None])[..., 0]

    def points(self) -> Float[np.ndarray, "i j k 3"]:
        """World coordinates of every voxel centre."""
        return self.to_world(np.moveaxis(np.indices(self.shape), 0, -1))

    def places(self, dims: int) -> Float[np.ndarray, "i j k 3"]:
        """Every voxel centre, for a chart in space. Raises InputError for one in a plane."""
        if dims == 2:
            raise InputError(
                "a contour in a slice has no volume; say where with a plane of the grid"
            )
        return self.points()

    def part(self, box: tuple[slice, ...]) -> Grid:
        """The voxels in a box, slices of whole numbers, of the same grid."""
        affine = np.array(self.affine, dtype=float)
        affine[:3, 3] = self.to_world(np.array([side.start for side in box]))
        i, j, k = (int(side.stop - side.start) for side in box)
        return replace(self, affine=affine, shape=(i, j, k))

    def contains(self, world: ArrayLike) -> Bool[np.ndarray, "*batch"]:
        """Whether world points (..., 3) lie in the box of voxels, outer voxel edges included."""
        index = self.to_index(world)
        inside = (index >= -0.5 - 1e-9) & (index <= np.asarray(self.shape) - 0.5 + 1e-9)
        return np.asarray(inside.all(axis=-1))

    def plane(self, k: int | np.integer) -> Plane:
        """The k-th slice along the third index axis. Raises InputError outside the volume."""
        if not 0 <= k < self.shape[2]:
            raise InputError(
                f"slice {k} lies outside the volume, whose slices are 0 to {self.shape[2] - 1}; "
                "choose one of those"
            )
        frame, spacing = self.frame, self.spacing
        uvw = self.to_world(np.array([0.0, 0.0, float(k)])) @ frame
        return Plane(
            origin=uvw[:2],
            spacing=spacing[:2],
            offset=float(uvw[2]),
            thickness=float(spacing[2]),
            frame=frame,
            shape=(self.shape[0], self.shape[1]),
            unit=self.unit,
            index=int(k),
        )

    def number_of(self, plane: Plane) -> int:
        """Which slice lies nearest to a plane."""
        first = self.plane(0)
        place = np.rint((plane.offset - first.offset) / first.thickness)
        return int(np.clip(place, 0, self.shape[2] - 1))

    def beside(self, plane: Plane, name: str = "image") -> Plane:
        """The slice nearest to a plane, such as one of another grid, in that one's coordinates.

        `name` is the channel's, in sentences. Raises InputError when the two are not parallel
        within 1e-3, or no slice lies within half this grid's slice thickness.
        """
        self.check_parallel(plane, name)
        own = self.plane(self.number_of(plane))
        if not self.covers(plane):
            raise InputError(
                f"channel {name} has no slice at {plane.offset:.2f} {self.unit}: its nearest is "
                f"{abs(own.offset - plane.offset):.2f} {self.unit} away; choose a slice that both "
                "images cover"
            )
        return own.seen_from(plane)

    def covers(self, plane: Plane) -> bool:
        """Whether a plane is parallel to the slices, and within half of their thickness of one."""
        own = self.plane(self.number_of(plane))
        near = abs(own.offset - plane.offset) <= own.thickness / 2 + 1e-3
        turn = np.abs(plane.frame.T @ self.frame - np.eye(3)).max()
        return bool(near and turn <= PARALLEL_TOLERANCE and plane.unit == self.unit)

    def has(self, plane: Plane) -> bool:
        """Whether a plane is one of its slices, pixel by pixel."""
        if plane.unit != self.unit or plane.shape != self.shape[:2]:
            return False
        own = self.plane(self.number_of(plane))
        fine = 0.01 * float(np.min(own.spacing))
        same = [(own.offset, plane.offset), (own.origin, plane.origin)]
        same.append((own.spacing, plane.spacing))
        alike = all(np.allclose(a, b, rtol=0, atol=fine) for a, b in same)
        return alike and np.allclose(own.frame, plane.frame, atol=PARALLEL_TOLERANCE)

    def showing(self, planes: Sequence[Plane], name: str = "image") -> list[list[Plane]]:
        """For each plane the slices that show it, in its own coordinates.

        A slice shows what lies within half of its own thickness, or of the plane's where that is
        more: of planes of one stack the nearest alone. Of planes that are its slices it shows each
        once. Raises InputError where they are not parallel within 1e-3.
        """
        if not planes:
            return []
        for plane in planes:
            self.check_parallel(plane, name)
        stacks = np.array([(*p.origin, *p.spacing, p.thickness, *p.shape) for p in planes])
        alike = np.asarray(np.isclose(stacks[:, None], stacks[None]).all(axis=-1))
        shown: list[list[Plane]] = [[] for _ in planes]
        offsets = np.array([plane.offset for plane in planes])
        reach = np.array([max(plane.thickness, self.spacing[2]) for plane in planes]) / 2
        for there in map(self.plane, range(self.shape[2])):
            gap = np.abs(offsets - there.offset)
            gap[gap > reach + 1e-3] = np.inf
            for n, plane in enumerate(planes):
                rivals = alike[n] & (gap <= gap[alike[n]].min() + 1e-6)
                lowest = offsets[n] < offsets[rivals].min() + 1e-6
                if np.isfinite(gap[n]) and rivals[n] and lowest:
                    shown[n].append(there.seen_from(plane))
        return shown

    def check_parallel(self, plane: Plane, name: str = "image") -> None:
        """Refuse a plane in another unit, or one that is turned against the slices."""
        if plane.unit != self.unit:
            raise InputError(
                f"channel {name} is in {self.unit} but the plane is in {plane.unit}; "
                "give every image a spacing, or none"
            )
        turn = np.abs(plane.frame.T @ self.frame - np.eye(3)).max()
        if turn > PARALLEL_TOLERANCE:
            raise InputError(
                f"channel {name} is turned against the plane asked for (direction cosines "
                f"differ by {turn:.2g}); resample it to the other image's orientation"
            )

    def matches(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """Whether two grids have the same shape and no voxel apart by over `tolerance` pixels."""
        if self.shape != other.shape or self.unit != other.unit:
            return False
        last = np.asarray(self.shape) - 1
        corners = np.array(list(np.ndindex(2, 2, 2))) * last
        drift = np.linalg.norm(self.to_world(corners) - other.to_world(corners), axis=-1)
        return bool(drift.max() <= tolerance * self.spacing.min())


def check_affine(affine: Float[np.ndarray, "4 4"], where: str) -> None:
    """Refuse an affine that is not finite, has no spacing, or is sheared beyond 1e-3.

    `where` names the file or channel in the sentence. Raises InputError.
    """
    linear = affine[:3, :3]
    if not np.isfinite(affine).all():
        raise InputError(f"{where}: the affine holds values that are not finite; repair the header")
    spacing = np.linalg.norm(linear, axis=0)
    if (spacing < 1e-6).any():
        shown = ", ".join(f"{s:g}" for s in spacing)
        raise InputError(
            f"{where}: the voxel spacing is ({shown}) mm and must be positive along every axis; "
            "repair the header"
        )
    directions = linear / spacing
    shear = np.abs(directions.T @ directions - np.eye(3)).max()
    if shear > SHEAR_TOLERANCE:
        raise InputError(
            f"{where}: the affine is sheared (axes off a right angle by {shear:.2g}); "
            "resample the image to a grid with perpendicular axes"
        )


def canonical_axes(affine: Float[np.ndarray, "4 4"]) -> Axes:
    """Which stored axis becomes which canonical one, so that axes run closest to R, A and S.

    The third canonical axis is the stored axis closest to Superior; of the two ways to assign
    the others, the one closest to Right and Anterior. Depends on the directions only, so any
    stored order of the same physical grid gives the same canonical grid.

    >>> canonical_axes(np.diag([-1.0, -1.0, 1.0, 1.0]))
    ((0, True), (1, True), (2, False))
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.round(np.abs(directions), 6)
    lean = np.round(directions[0] * directions[1], 6)  # settles ties, whatever the stored order
    up = max(range(3), key=lambda axis: (cosine[2, axis], -cosine[0, axis], lean[axis]))
    rest = [axis for axis in range(3) if axis != up]

    def closeness(pair: tuple[int, ...]) -> tuple[float, float]:
        return round(cosine[0, pair[0]] + cosine[1, pair[1]], 5), lean[pair[0]]

    right, front = max(permutations(rest), key=closeness)
    signs = [bool(directions[row, axis] < 0) for row, axis in enumerate((right, front, up))]
    return ((right, signs[0]), (front, signs[1]), (up, signs[2]))


def to_canonical(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Stored voxels (i, j, k) with axes permuted and flipped into canonical order."""
    moved = np.transpose(values, [axis for axis, _ in axes])
    return np.flip(moved, tuple(n for n, (_, flip) in enumerate(axes) if flip))


def from_canonical(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Canonical voxels put back into stored order: the inverse of `to_canonical`."""
    unflipped = np.flip(values, tuple(n for n, (_, flip) in enumerate(axes) if flip))
    return np.transpose(unflipped, np.argsort([axis for axis, _ in axes]))


def canonical_grid(
    affine: Float[np.ndarray, "4 4"], shape: tuple[int, int, int], axes: Axes, unit: str = "mm"
) -> Grid:
    """The canonical grid of voxels stored with `affine` and `shape`."""
    stored_from_canonical = np.zeros((4, 4))
    stored_from_canonical[3, 3] = 1.0
    for n, (axis, flip) in enumerate(axes):
        stored_from_canonical[axis, n] = -1.0 if flip else 1.0
        stored_from_canonical[axis, 3] = shape[axis] - 1.0 if flip else 0.0
    first, second, third = (int(shape[axis]) for axis, _ in axes)
    return Grid(
        affine=affine @ stored_from_canonical + 0.0, shape=(first, second, third), unit=unit
    )


def box_about(mask: Bool[np.ndarray, "*grid"], beside: int) -> tuple[slice, ...]:
    """The box of what a mask marks, and so many voxels beside it as far as the grid goes."""
    box = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        low, high = np.flatnonzero(mask.any(axis=others))[[0, -1]]
        box.append(slice(max(int(low) - beside, 0), min(int(high) + 1 + beside, size)))
    return tuple(box)
