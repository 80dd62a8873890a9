"""How far apart are two contours, or two volumes?

Distances follow the definitions of surface-distance (Nikolov et al. 2021): directed distances
from each boundary to the other, every piece of boundary weighted by its own length or area.
"""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Float
from aistat_jax.space.curve import Curve

_SAMPLES = 1000  # points along the shorter curve when no step is given


@record
class SurfaceDistances:
    """Distances from each of two boundaries to the other, with the size of every piece.

    Names without a unit (`assd`, `hd95`) are in `unit`; names ending in _mm refuse "px".

    Shapes: a_to_b, a_weight (piece of a,); b_to_a, b_weight (piece of b,). Weights are lengths
    (curves) or areas (volumes).
    """

    a_to_b: Float[np.ndarray, " a_piece"]
    b_to_a: Float[np.ndarray, " b_piece"]
    a_weight: Float[np.ndarray, " a_piece"]
    b_weight: Float[np.ndarray, " b_piece"]
    unit: str = static()

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: mean over all of both boundaries."""
        total = self.a_weight.sum() + self.b_weight.sum()
        return float((self.a_to_b @ self.a_weight + self.b_to_a @ self.b_weight) / total)

    @property
    def hausdorff(self) -> float:
        """The largest distance from either boundary to the other."""
        return float(max(self.a_to_b.max(), self.b_to_a.max()))

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95% points (weighted by boundary)."""
        return max(
            _weighted_quantile(self.a_to_b, self.a_weight, 0.95),
            _weighted_quantile(self.b_to_a, self.b_weight, 0.95),
        )

    def surface_dice(self, tolerance: float) -> float:
        """Share of both boundaries that lies within `tolerance` of the other."""
        if not tolerance >= 0:
            raise InputError(f"a surface Dice needs a tolerance of 0 or more, got {tolerance}")
        slack = tolerance * (1 + 1e-9)
        close = self.a_weight[self.a_to_b <= slack].sum()
        close += self.b_weight[self.b_to_a <= slack].sum()
        return float(close / (self.a_weight.sum() + self.b_weight.sum()))

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


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the common part over the sum of two masks of one shape (2D or 3D).

    nan when both masks are empty. Raises InputError when the shapes differ.

    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    a, b = _two_masks(a, b)
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else float("nan")


def stray_volume(a: np.ndarray, b: np.ndarray, voxel: float = 1.0) -> float:
    """Volume of the pieces of mask `a` that touch nothing of `b`, each voxel of volume `voxel`.

    Of a prediction against its reference this is autoPET's false-positive volume, of a reference
    against its prediction its false-negative volume. Pieces are connected by faces and edges (18
    neighbours), as in the challenge's own code (Gatidis et al. 2024, Nature Machine Intelligence
    6, 1396-1405). Raises InputError when the shapes differ.

    >>> stray_volume(np.array([1, 1, 0, 1, 0, 1]), np.array([0, 1, 1, 0, 0, 0]), voxel=4.0)
    8.0
    """
    from scipy import ndimage

    a, b = _two_masks(a, b)
    labels = np.zeros(a.shape, dtype=np.int32)
    ndimage.label(a, ndimage.generate_binary_structure(a.ndim, min(2, a.ndim)), output=labels)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[np.unique(labels[b])] = 0
    return float(sizes.sum() * voxel)


def surface_distances(a: Curve, b: Curve, step: float | None = None) -> SurfaceDistances:
    """Distances between two closed curves, sampled every `step` along each of them.

    Both curves are resampled at equal arc length, so every sample weighs the same length of
    its curve; distances are to the other curve's own polyline. `step` (in the curves' unit)
    defaults to a thousandth of the shorter perimeter.

    Raises InputError when the units differ or the step is not positive.
    """
    if a.unit != b.unit:
        raise InputError(f"cannot compare a contour in {a.unit} with one in {b.unit}")
    if step is None:
        step = min(a.perimeter, b.perimeter) / _SAMPLES
    if not step > 0:
        raise InputError(f"the sampling step along a contour must be positive, got {step}")
    (a_points, a_weight), (b_points, b_weight) = _pieces(a, step), _pieces(b, step)
    return SurfaceDistances(
        a_to_b=b.distance_to(a_points),
        b_to_a=a.distance_to(b_points),
        a_weight=a_weight,
        b_weight=b_weight,
        unit=a.unit,
    )


def lebesgue_error(a: Curve, b: Curve) -> float:
    """Area inside one closed curve but not the other, in the square of their unit.

    A curve that crosses itself is first made valid (its even-odd region).
    Raises InputError when the units differ.
    """
    from shapely import make_valid
    from shapely.geometry import Polygon

    if a.unit != b.unit:
        raise InputError(f"cannot compare a contour in {a.unit} with one in {b.unit}")
    first, second = (make_valid(Polygon(curve.points)) for curve in (a, b))
    return float(first.symmetric_difference(second).area)


def surface_distances_3d(
    a: np.ndarray,
    b: np.ndarray,
    spacing_mm: tuple[float, float, float] | np.ndarray,
) -> SurfaceDistances:
    """Distances between the surfaces of two 3D masks on one grid, in millimetres.

    The surface is the set of voxel corners whose eight voxels are not all alike. Each corner
    carries the area |gradient of the mask| x voxel volume (co-area formula): exact for planes
    along an axis, a face diagonal or a body diagonal of cubic voxels, a few percent too large
    in between. Distances are between corners, by an exact Euclidean distance transform; like
    every distance between staircases they come out up to about half a voxel short.

    Shapes: a, b (i, j, k) masks of one shape; spacing_mm (3,) along i, j, k.
    Raises InputError when the shapes differ, a mask is empty or the spacing is not positive.
    """
    a, b = _two_masks(a, b)
    spacing = np.asarray(spacing_mm, dtype=float)
    if a.ndim != 3:
        raise InputError(f"surface_distances_3d needs 3D masks, got {a.ndim}D")
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise InputError(f"spacing_mm must be three positive lengths, got {spacing_mm}")
    return _between_masks(a, b, spacing, "mm")


def mask_distances(
    a: np.ndarray, b: np.ndarray, spacing: tuple[float, float, float] | np.ndarray, unit: str
) -> SurfaceDistances:
    """`surface_distances_3d` in mm or px; volumes of one slice are compared by their outlines.

    A slice alone has no surface above and below: its outline is the set of pixel corners whose
    four pixels are not all alike, each carrying the length |gradient of the mask| x pixel area.
    Shapes: a, b (i, j, k) masks of one shape; spacing (3,) along i, j, k in `unit`.
    Raises InputError as `surface_distances_3d` does.
    """
    a, b = _two_masks(a, b)
    if a.ndim != 3 or a.shape[2] != 1:
        return replace(surface_distances_3d(a, b, spacing), unit=unit)
    return _between_masks(a[..., 0], b[..., 0], np.asarray(spacing, dtype=float)[:2], unit)


def _between_masks(
    a: np.ndarray, b: np.ndarray, spacing: np.ndarray, unit: str
) -> SurfaceDistances:
    for name, mask in (("first", a), ("second", b)):
        if not mask.any():
            raise InputError(f"the {name} mask is empty, so it has no surface to measure from")
    a, b = _cropped_together(a, b)
    a_surface, a_area = _corner_surface(a, spacing)
    b_surface, b_area = _corner_surface(b, spacing)
    from scipy.ndimage import distance_transform_edt as transform

    to_b = np.asarray(transform(~b_surface, sampling=spacing))
    to_a = np.asarray(transform(~a_surface, sampling=spacing))
    return SurfaceDistances(
        a_to_b=to_b[a_surface],
        b_to_a=to_a[b_surface],
        a_weight=a_area[a_surface],
        b_weight=b_area[b_surface],
        unit=unit,
    )


def _pieces(curve: Curve, step: float) -> tuple[np.ndarray, np.ndarray]:
    count = max(16, int(np.ceil(curve.perimeter / step)))
    return curve.resample(count).points, np.full(count, curve.perimeter / count)


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(np.searchsorted(share, level), len(values) - 1)])


def _two_masks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape:
        raise InputError(f"mask shapes {a.shape} and {b.shape} differ; resample one of them")
    return a, b


def _cropped_together(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks in their common bounding box, with a border of one empty voxel."""
    where = np.nonzero(a | b)
    box = tuple(slice(index.min(), index.max() + 1) for index in where)
    return np.pad(a[box], 1), np.pad(b[box], 1)


def _corner_surface(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which voxel corners lie on the surface, and the area (in 2D length) each stands for."""
    value = mask.astype(float)
    axes = range(value.ndim)
    means = value
    for axis in axes:
        means = _pair_mean(means, axis)
    squared = np.zeros(means.shape)
    for axis in axes:
        slope = np.diff(value, axis=axis) / spacing[axis]
        for other in axes:
            if other != axis:
                slope = _pair_mean(slope, other)
        squared += slope**2
    return (means > 0) & (means < 1), np.sqrt(squared) * np.prod(spacing)


def _pair_mean(values: np.ndarray, axis: int) -> np.ndarray:
    front = np.take(values, range(values.shape[axis] - 1), axis=axis)
    return 0.5 * (front + np.take(values, range(1, values.shape[axis]), axis=axis))
