"""What else was said of a lesion than one point in it? More points, its edge, a box around it.

A hint is weighed as a click that may slip: a region that a point speaks against keeps the share
SLIP of its likelihood, and one that leaves a box too. A point on the edge is put where a contour is
wrong, and there no region, and no star, comes near to what is drawn: its law has heavy tails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Bool, Float, Int
from aistat_jax.boundary.evidence import NOTHING, Evidence
from aistat_jax.boundary.opinions import anchors
from aistat_jax.boundary.targets import AnyTarget, Targets
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel

Points = Sequence[float] | Sequence[Sequence[float]] | np.ndarray
"""A point (x, y, z), or several."""

SLIP = 0.02
# A point on the edge is this far, mm or px, from a region's surface, and CLICK_SD from a boundary;
# and what is drawn leaves the nearest star by a Student t of two degrees of freedom, whose scale is
# this share of the rough radius: in slices anywhere (`python -m benchmarks edges`), in space where
# a contour is farthest off (`real_pet:expert corrected`).
EDGE_SD = {"mm": 4.0, "px": 3.0}
CLICK_SD = 1.0
FARTHEST = 12.0  # scales: what is farther is taken to be as far
ROUGH = {2: 0.013, 3: 0.17}
# A region of which a larger share lies outside a box has left it. Its extent along each axis is
# the box's but for a factor whose log has the second number as sd.
BOX_OUT, BOX_SD = 0.1, 0.25
LARGEST_BOX = 0.4  # of the image


@record
class Hints:
    """Patient points (n, 3) inside, outside and on the edge of a lesion, and a box (2, 3).

    Of a box alone no point is known to be inside.
    """

    inside: Float[np.ndarray, "_ 3"]
    outside: Float[np.ndarray, "_ 3"]
    edge: Float[np.ndarray, "_ 3"]
    box: Float[np.ndarray, "2 3"] | None = None

    @property
    def more(self) -> bool:
        """Whether they say more than one point does."""
        return len(self.inside) > 1 or bool(len(self.outside) + len(self.edge)) or self.boxed

    @property
    def boxed(self) -> bool:
        return self.box is not None

    @property
    def places(self) -> Float[np.ndarray, "point 3"]:
        """Where to look from: the points inside, or the middle of a box that came without."""
        return self.inside if self.box is None or len(self.inside) else self.box.mean(axis=0)[None]

    def weigh(
        self, masks: Bool[np.ndarray, "reading i j k"], box: tuple[slice, ...], grid: Grid
    ) -> tuple[Float[np.ndarray, " reading"], Bool[np.ndarray, " reading"]]:
        """Log-likelihood of regions, and which of them obey all that was said.

        A point inside may lie a voxel beyond the edge. Shapes: masks (n, i, j, k) within `box`,
        slices of the grid.
        """
        start = np.array([side.start for side in box])
        log = np.zeros(len(masks))
        obeys = np.ones(len(masks), dtype=bool)
        for points, meant in ((self.inside, True), (self.outside, False)):
            for place in voxels(points, grid) - start:
                held = _held(masks, place)
                log += np.where(held == meant, np.log1p(-SLIP), np.log(SLIP))
                beside = np.array([_held(masks, place + step) for step in _BESIDE])
                obeys &= beside.any(axis=0) if meant else ~held
        if len(self.edge):
            log += self._near(masks, start, grid)
        if self.box is not None:
            within = in_box(self.box, grid, box)
            whole = masks.sum(axis=(1, 2, 3))
            beyond = 1 - (masks & within).sum(axis=(1, 2, 3)) / np.maximum(whole, 1)
            sides = np.abs(grid.frame.T) @ (self.box[1] - self.box[0])
            log += np.where(beyond <= BOX_OUT, np.log1p(-SLIP), np.log(SLIP))
            log += _size_prior(masks, grid.spacing, sides)
            obeys &= beyond <= BOX_OUT
        return log, obeys

    def _near(
        self, masks: Bool[np.ndarray, "reading i j k"], start: Int[np.ndarray, "3"], grid: Grid
    ) -> Float[np.ndarray, " reading"]:
        """Log density, but for a constant, of the points on the edge about regions' surfaces."""
        dims = 2 if grid.shape[2] == 1 else 3
        content = masks.sum(axis=(1, 2, 3)) * np.prod(grid.spacing[:dims])
        radius = (content / np.pi) ** 0.5 if dims == 2 else (0.75 * content / np.pi) ** (1 / 3)
        scale, log = np.hypot(EDGE_SD[grid.unit], ROUGH[dims] * radius), np.zeros(len(masks))
        for place in voxels(self.edge, grid) - start:
            away = np.array([
                _from_surface(mask, place, grid, FARTHEST * sd)
                for mask, sd in zip(masks, scale, strict=True)
            ])  # fmt: skip
            log -= 1.5 * np.log(2 + (away / scale) ** 2) + np.log(scale)
        return log

    def asked(self) -> str:
        """What a region has to hold and to leave out, in words."""
        said = [
            *([f"holds {_listed(self.inside)}"] if len(self.inside) else []),
            *([f"leaves out {_listed(self.outside)}"] if len(self.outside) else []),
            *(["keeps to the box"] if self.boxed else []),
        ]
        return " and ".join(said)

    def refusal(self) -> InputError:
        """That no region obeys."""
        return InputError(
            f"no reading of the image {self.asked()}; move one of these points, contour what lies "
            "apart one by one, or pass a mask"
        )


_BESIDE = np.array([[0, 0, 0], *np.eye(3, dtype=int), *-np.eye(3, dtype=int)])


def hints_of(
    channel: Channel,
    point_mm: Points | None,
    outside_mm: Points | None = None,
    edge_mm: Points | None = None,
    box_mm: Points | None = None,
) -> Hints | None:
    """What was said of one lesion, checked; None where nothing was.

    A box alone is one with its middle. Raises InputError for points outside the image or that are
    none, for points that contradict each other, and for a box that leaves the image, has no volume
    or is more than 40% of the image.
    """
    box = None if box_mm is None else _box(box_mm, channel)
    if point_mm is None and box is None:
        if outside_mm is not None or edge_mm is not None:
            raise InputError(
                "`outside_mm` and `edge_mm` say more of what lies at `point_mm`; pass it"
            )
        return None
    found = Hints(
        _points(point_mm, channel, "a point"),
        _points(outside_mm, channel, "a point outside"),
        _points(edge_mm, channel, "a point on the edge"),
        box,
    )
    _check(found, channel.grid)
    return found


def voxels(points: Float[np.ndarray, "point 3"], grid: Grid) -> Int[np.ndarray, "point 3"]:
    """Indices of the voxels that hold patient points."""
    return np.rint(grid.to_index(points)).astype(int).reshape(-1, 3)


def in_box(
    box: Float[np.ndarray, "2 3"], grid: Grid, part: tuple[slice, ...]
) -> Bool[np.ndarray, "i j k"]:
    """Voxels, of a part of a grid, whose centres lie in a box, or that hold its middle."""

    def within(points: np.ndarray) -> np.ndarray:
        return ((points >= box[0] - 1e-6) & (points <= box[1] + 1e-6)).all(axis=-1)

    return _voxels_of(within, box, grid.part(part))


def ellipsoid_in(box: Float[np.ndarray, "2 3"], grid: Grid) -> Bool[np.ndarray, "i j k"]:
    """Voxels of the ellipsoid that fills a box, or that hold its middle."""
    middle, half = box.mean(axis=0), (box[1] - box[0]) / 2
    return _voxels_of(
        lambda points: np.square((points - middle) / half).sum(axis=-1) <= 1.0, box, grid
    )


def around(box: Float[np.ndarray, "2 3"], grid: Grid, by: float = 0.0) -> tuple[slice, ...]:
    """The voxels of a grid that a box reaches, and those within a distance along its axes."""
    corners = np.stack(np.meshgrid(*box.T, indexing="ij"), axis=-1).reshape(-1, 3)
    index, more = grid.to_index(corners), by / grid.spacing
    low = np.clip(np.floor(index.min(axis=0) - more), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0) + more) + 1, low + 1, grid.shape).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _voxels_of(
    inside: Callable[[np.ndarray], np.ndarray], box: Float[np.ndarray, "2 3"], grid: Grid
) -> Bool[np.ndarray, "i j k"]:
    """Voxels whose centres are inside of what fills a box, and that of its middle.

    Looked at slice by slice, for points of a large image take gigabytes.
    """
    found = np.zeros(grid.shape, dtype=bool)
    *sides, height = around(box, grid)
    for k in range(height.start, height.stop):
        one = (*sides, slice(k, k + 1))
        found[one] = inside(grid.part(one).points())
    middle = voxels(box.mean(axis=0)[None], grid)[0]
    if ((middle >= 0) & (middle < grid.shape)).all():
        found[tuple(middle)] = True
    return found


def clicks_on(targets: Targets, target: AnyTarget) -> Evidence:
    """The points that were given of a target, as evidence of its boundary (`anchors`).

    A point on what an expert draws is not on a star: where straight rays leave the lesion twice it
    may be centimetres away, and a law of light tails would bring the whole boundary there.
    """
    own = [(point, kind) for name, kind, point in targets.clicks if name == target.id]
    if not own:
        return NOTHING
    sd = float(np.hypot(CLICK_SD, ROUGH[len(target.centre)] * target.radius))
    kinds = [kind for _, kind in own]
    return anchors([point for point, _ in own], kind=kinds, sd=sd, heavy=True)


def _points(given: Points | None, channel: Channel, what: str) -> np.ndarray:
    try:
        points: np.ndarray = np.array([] if given is None else given, dtype=float)
    except (TypeError, ValueError):
        points = np.zeros((1, 1))
    if given is None or points.shape == (3,):
        points = points.reshape(-1, 3)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"{what} needs three finite coordinates x,y,z, got {given}")
    if given is not None and not len(points):
        raise InputError(f"{what} needs three finite coordinates x,y,z, got none")
    index, shape = voxels(points, channel.grid), np.array(channel.values.shape)
    out = ((index < 0) | (index >= shape)).any(axis=1)
    if out.any():
        raise InputError(
            f"the point {_where(points[out][0])} lies outside channel {channel.name}, which "
            f"covers {_covers(channel)}"
        )
    return points


def _check(said: Hints, grid: Grid) -> None:
    """Refuse points of two kinds in one voxel."""
    kinds = {"inside": said.inside, "outside": said.outside, "on the edge": said.edge}
    seen: dict[tuple[int, ...], str] = {}
    for kind, points in kinds.items():
        for point, index in zip(points, voxels(points, grid), strict=True):
            there = seen.setdefault(tuple(index.tolist()), kind)
            if there != kind:
                raise InputError(
                    f"the point {_where(point)} is said to be {there} and {kind}; "
                    "move or drop one of the two"
                )


def _box(given: Points, channel: Channel) -> np.ndarray:
    try:
        corners: np.ndarray = np.array(given, dtype=float)
    except (TypeError, ValueError):
        corners = np.zeros(0)
    if corners.size != 6 or not np.isfinite(corners).all():
        raise InputError(f"`box_mm` needs two corners (x,y,z), (x,y,z), got {given}")
    corners = corners.reshape(2, 3)
    box, grid = np.stack([corners.min(axis=0), corners.max(axis=0)]), channel.grid
    if grid.shape[2] == 1:  # a picture: a box of its one slice
        normal, middle = grid.frame[:, 2], grid.to_world(np.zeros(3))
        flat = np.abs(normal) > 0.9
        half = 0.5 * grid.spacing[2]
        box[:, flat] = np.stack([middle - half, middle + half])[:, flat]
    if not (box[1] > box[0]).all():
        raise InputError(f"the box {_where(box[0])} to {_where(box[1])} has no volume")
    if not grid.contains(np.stack([box[0] + 1e-6, box[1] - 1e-6])).all():
        raise InputError(
            f"the box {_where(box[0])} to {_where(box[1])} reaches out of channel {channel.name}, "
            f"which covers {_covers(channel)}"
        )
    share = float(np.prod((box[1] - box[0]) / (grid.spacing * np.array(grid.shape))))
    if share > LARGEST_BOX:
        raise InputError(
            f"the box holds {share:.0%} of the image; draw it closely around one lesion "
            f"(at most {LARGEST_BOX:.0%})"
        )
    return box


def _held(masks: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Which masks hold a voxel; none does beyond their box."""
    if (place < 0).any() or (place >= masks.shape[1:]).any():
        return np.zeros(len(masks), dtype=bool)
    i, j, k = place
    return masks[:, i, j, k]


def _from_surface(mask: np.ndarray, place: np.ndarray, grid: Grid, farthest: float) -> float:
    """How far the surface of a mask lies from a voxel, at most a distance."""
    reach = np.ceil(farthest / grid.spacing).astype(int)
    low, high = np.maximum(place - reach, 0), np.minimum(place + reach + 1, mask.shape)
    if (high <= low).any():
        return farthest
    part = mask[tuple(map(slice, low, high))]
    here = place - low
    at_hand = (here >= 0).all() and (here < part.shape).all()
    held = at_hand and bool(part[tuple(here)])
    other = np.argwhere(part != held)
    if not len(other):
        return farthest
    steps = np.abs(other - here)
    nearest = np.linalg.norm(np.maximum(steps - 0.5 * (steps > 0), 0) * grid.spacing, axis=1)
    return min(float(nearest.min()), farthest)


def _size_prior(masks: np.ndarray, spacing: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Log density of regions' extents along the axes of the grid under those of a box."""
    log = np.zeros(len(masks))
    for axis in range(3):
        if masks.shape[axis + 1] == 1:
            continue
        rest = tuple(other + 1 for other in range(3) if other != axis)
        met = np.asarray(masks.any(axis=rest))
        span = masks.shape[axis + 1] - met[:, ::-1].argmax(axis=1) - met.argmax(axis=1)
        extent = np.maximum(span, 1) * spacing[axis]
        log -= 0.5 * (np.log(extent / sides[axis]) / BOX_SD) ** 2
    return log


def _covers(channel: Channel) -> str:
    corners = channel.grid.to_world(np.stack([np.zeros(3), np.array(channel.values.shape) - 1.0]))
    low, high = corners.min(axis=0).round(1), corners.max(axis=0).round(1)
    return f"{tuple(low.tolist())} to {tuple(high.tolist())} {channel.grid.unit}"


def _where(point: Sequence[float] | np.ndarray) -> str:
    return str(tuple(np.round(np.asarray(point, dtype=float), 3).tolist()))


def _listed(points: np.ndarray) -> str:
    return " and ".join(_where(point) for point in points)
