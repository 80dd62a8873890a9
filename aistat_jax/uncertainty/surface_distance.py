"""How far apart are two boundaries: closed curves, meshes, or masks in 2D or 3D?

Definitions are those of surface-distance (Nikolov et al. 2021, Clinically applicable segmentation
of head and neck anatomy for radiotherapy, J Med Internet Res 23, e26151): directed distances from
each boundary to the other, every element of a boundary weighted by its own length or area.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Bool, Float, Int
from aistat_jax.space.curve import Curve
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.overlap import two_masks
from aistat_jax.uncertainty.surface_elements import surface_elements

# A distance transform looks at every voxel, a tree at every element, which takes so much longer.
_TREE, _LEAF = 10, 32
# How far around each element the other surface is looked for first, in the shortest side of voxels.
_NEAR = 4


@record
class SurfaceDistances:
    """Distances from each of two boundaries to the other, with the size of every element.

    Names without a unit (`assd`, `hd95`) are in `unit`; names ending in _mm refuse "px".
    A boundary that is not there (an empty mask) has no elements, and distances to it are infinite:
    then `hausdorff`, `hd95` and, where the other is there, `assd` are infinite and the surface Dice
    is 0; where neither is there, means, overlaps and the surface Dice are NaN.

    Shapes: a_to_b, a_weight (element of a,); b_to_a, b_weight (element of b,). Weights are lengths
    (curves, masks in 2D) or areas (meshes, masks in 3D).
    """

    a_to_b: Float[np.ndarray, " a_element"]
    b_to_a: Float[np.ndarray, " b_element"]
    a_weight: Float[np.ndarray, " a_element"]
    b_weight: Float[np.ndarray, " b_element"]
    unit: str = static()

    @property
    def average_distances(self) -> tuple[float, float]:
        """Mean distance from a to b, and from b to a."""
        return (
            _ratio(self.a_to_b @ self.a_weight, self.a_weight.sum()),
            _ratio(self.b_to_a @ self.b_weight, self.b_weight.sum()),
        )

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: mean over all of both boundaries."""
        total = self.a_weight.sum() + self.b_weight.sum()
        return _ratio(self.a_to_b @ self.a_weight + self.b_to_a @ self.b_weight, total)

    @property
    def hausdorff(self) -> float:
        """The largest distance from either boundary to the other."""
        return max(_largest(self.a_to_b), _largest(self.b_to_a))

    def robust_hausdorff(self, percent: float) -> float:
        """The larger of the two directed percentiles (weighted by boundary).

        Raises InputError for a percentage outside (0, 100].
        """
        if not 0 < percent <= 100:
            raise InputError(f"a percentage must lie above 0 and up to 100, got {percent}")
        return max(
            _weighted_quantile(self.a_to_b, self.a_weight, percent / 100),
            _weighted_quantile(self.b_to_a, self.b_weight, percent / 100),
        )

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95% points (weighted by boundary)."""
        return self.robust_hausdorff(95)

    def surface_overlap(self, tolerance: float) -> tuple[float, float]:
        """Share of a that lies within `tolerance` of b, and of b within it of a."""
        near_a, near_b = self._near(tolerance)
        return _ratio(near_a, self.a_weight.sum()), _ratio(near_b, self.b_weight.sum())

    def surface_dice(self, tolerance: float) -> float:
        """Share of both boundaries that lies within `tolerance` of the other."""
        return _ratio(sum(self._near(tolerance)), self.a_weight.sum() + self.b_weight.sum())

    def _near(self, tolerance: float) -> tuple[float, float]:
        """How much of each boundary lies within a tolerance of the other, rounding forgiven."""
        if not tolerance >= 0:
            raise InputError(f"a surface Dice needs a tolerance of 0 or more, got {tolerance}")
        slack = tolerance * (1 + 1e-9)
        return (
            float(self.a_weight[self.a_to_b <= slack].sum()),
            float(self.b_weight[self.b_to_a <= slack].sum()),
        )

    @property
    def assd_mm(self) -> float:
        return self._in_mm("assd")

    @property
    def hd95_mm(self) -> float:
        return self._in_mm("hd95")

    @property
    def hausdorff_mm(self) -> float:
        return self._in_mm("hausdorff")

    def _in_mm(self, name: str) -> float:
        if self.unit != "mm":
            raise InputError(
                f"{name}_mm asks for millimetres but the contours are in {self.unit}; "
                f"use {name}, or give the image a spacing"
            )
        return getattr(self, name)


Boundary = Curve | Ring | Mesh | Bool[np.ndarray, "..."]


def surface_distances(
    a: Boundary,
    b: Boundary,
    spacing: Any = None,
    *,
    unit: str = "mm",
    step: float | None = None,
) -> SurfaceDistances:
    """Distances between two boundaries of one kind.

    Curves are sampled at equal arc length, every `step` (a thousandth of their perimeter), meshes
    at the middles of their triangles, cut up until no side is longer than `step` (as they are);
    distances are to the other's own edges and triangles, below the size of a voxel.

    Masks, in 2D or 3D on one grid, have the elements of `surface_elements` at voxel corners, and
    distances are between corners: those of surface-distance to rounding (but for distances that
    differ from the tolerance by rounding alone, which count as within it). Like every distance
    between staircases they come out up to about half a voxel short.

    Shapes: masks of one shape; spacing (2,) or (3,) along their axes, in `unit` ("mm" or "px").
    Raises InputError for boundaries of two kinds or units, a step that is not positive, masks of
    different shapes or of other than 2 or 3 dimensions, and a spacing that is not positive.
    """
    shapes = Curve | Ring | Mesh
    if isinstance(a, shapes) or isinstance(b, shapes):
        return _between_shapes(a, b, step)
    a, b = two_masks(a, b)
    if a.ndim not in (2, 3):
        raise InputError(f"surface distances are of masks in 2D or 3D, got {a.ndim}D")
    sides = np.asarray(np.nan if spacing is None else spacing, dtype=float)
    if sides.shape != (a.ndim,) or not np.all(np.isfinite(sides) & (sides > 0)):
        raise InputError(
            f"the spacing of masks in {a.ndim}D must be {a.ndim} positive lengths, got {spacing}"
        )
    box = _box(a | b)
    (a_surface, a_weight), (b_surface, b_weight) = (
        surface_elements(np.ascontiguousarray(mask[box]), sides) for mask in (a, b)
    )
    return SurfaceDistances(
        a_to_b=_distances(a_surface, b_surface, sides),
        b_to_a=_distances(b_surface, a_surface, sides),
        a_weight=a_weight,
        b_weight=b_weight,
        unit=unit,
    )


def added_path_length(
    drawn: Boundary,
    reference: Boundary,
    spacing: Any = None,
    *,
    tolerance: float = 0.0,
    step: float | None = None,
) -> float:
    """Length of the reference contour that is still to be drawn: further than `tolerance` away.

    Of volumes the sum over slices along their last axis; a slice in which nothing was drawn counts
    whole. Vaassen et al. 2020 (Phys Imaging Radiat Oncol 13, 1-6) count the pixels of the contour,
    this is the length of its elements. Curves hardly ever coincide: give them a tolerance.
    Arguments and refusals are those of `surface_distances`, and meshes, which are in no slices.
    """
    if isinstance(drawn, Mesh) or isinstance(reference, Mesh):
        raise InputError("an added path length is of contours in slices; cut the meshes by planes")
    if not isinstance(reference, Curve | Ring) and np.ndim(reference) == 3:
        drawn, reference = two_masks(drawn, reference)
        sides = None if spacing is None else np.asarray(spacing, dtype=float)[:2]
        return sum(
            added_path_length(drawn[..., k], reference[..., k], sides, tolerance=tolerance)
            for k in np.flatnonzero(reference.any(axis=(0, 1)))
        )
    found = surface_distances(drawn, reference, spacing, step=step)
    near = found._near(tolerance)[1]
    return float(found.b_weight.sum() - near)


def _between_shapes(a: Any, b: Any, step: float | None) -> SurfaceDistances:
    if type(a) is not type(b):
        raise InputError(
            f"a {type(a).__name__} cannot be compared with a {type(b).__name__}; pass two curves, "
            "two rings, two meshes or two masks"
        )
    if a.unit != b.unit:
        raise InputError(f"cannot compare a contour in {a.unit} with one in {b.unit}")
    if step is not None and not step > 0:
        raise InputError(f"the sampling step along a contour must be positive, got {step}")
    (a_points, a_weight), (b_points, b_weight) = a.pieces(step), b.pieces(step)
    return SurfaceDistances(
        a_to_b=b.distance_to(a_points),
        b_to_a=a.distance_to(b_points),
        a_weight=a_weight,
        b_weight=b_weight,
        unit=a.unit,
    )


def _distances(
    here: Bool[np.ndarray, "*corner"],
    there: Bool[np.ndarray, "*corner"],
    sides: Float[np.ndarray, " dims"],
) -> Float[np.ndarray, " element"]:
    """Distance from every corner of one surface to the nearest of another.

    First the corners around each are looked at, nearest first, then what is left is sought further.
    """
    count = int(here.sum())
    if not count or not there.any():
        return np.full(count, np.inf)
    reach = np.floor(_NEAR * sides.min() / sides).astype(int)
    border = [(int(each), int(each)) for each in reach]
    here, there = np.pad(here, border), np.pad(there, border)
    places, aims = np.flatnonzero(here), there.ravel()
    apart, left = np.zeros(count), np.arange(count)
    for step, distance in _steps(reach, sides, np.array(there.strides)):
        met = aims[places + step]
        apart[left[met]] = distance
        left, places = left[~met], places[~met]
        if not len(left):
            return apart
    apart[left] = _further(places, there, sides)
    return apart


def _steps(
    reach: Int[np.ndarray, " dims"], sides: Float[np.ndarray, " dims"], strides: np.ndarray
) -> Iterator[tuple[int, float]]:
    """Steps to the corners around one, as far as all of them are known, nearest first."""
    axes = [np.arange(-each, each + 1) for each in reach]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(reach))
    lengths = np.linalg.norm(steps * sides, axis=1)
    for n in np.argsort(lengths):
        if lengths[n] <= _NEAR * sides.min():
            yield int(steps[n] @ strides), float(lengths[n])


def _further(
    places: Int[np.ndarray, " element"],
    there: Bool[np.ndarray, "*corner"],
    sides: Float[np.ndarray, " dims"],
) -> Float[np.ndarray, " element"]:
    """Distance from flat places to the nearest corner of a surface."""
    at = np.stack(np.unravel_index(places, there.shape))
    if _TREE * max(len(places), int(there.sum())) > there.size:
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(
            ~there, sampling=sides, return_distances=False, return_indices=True
        )
        away = np.asarray(nearest).reshape(there.ndim, -1)[:, places] - at
        return np.sqrt(((away * sides[:, None]) ** 2).sum(axis=0))
    from scipy.spatial import KDTree

    tree = KDTree(np.argwhere(there) * sides, _LEAF, compact_nodes=False, balanced_tree=False)
    return np.asarray(tree.query(at.T * sides)[0])


def _box(mask: Bool[np.ndarray, "*voxel"]) -> tuple[slice, ...]:
    """The smallest box of a mask's voxels; empty for an empty one."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        met = np.flatnonzero(mask.any(axis=others))
        found.append(slice(met[0], met[-1] + 1) if len(met) else slice(0, 0))
    return tuple(found)


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")


def _largest(distances: Float[np.ndarray, " element"]) -> float:
    return float(distances.max()) if len(distances) else float("inf")


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    if not len(values):
        return float("inf")
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(np.searchsorted(share, level), len(values) - 1)])
