"""How far does each normal of a closed curve or mesh run, inwards and outwards, before it meets
others; and how far may boundaries lie from it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float, Int

# Boundaries keep to this share of the reaches, and a chart reaches at least so many voxels.
KEPT, LEAST = 0.9, 0.25
# A reach is enough if it is so many voxels, or a share of the size where that is less. All sites
# share one that is, if it is at least this share of the median of what each has of its own.
WANTED, SHARE, ALIKE = 1.5, 0.3, 0.5
# Reaches of their own change along the reference by no more than this share of the way; and no
# more than this share of it may have less than LEAST.
SLOPE, NARROW_SHARE = 0.5, 0.05
# Where normals cross at once, boundaries still have so many voxels.
FLOOR = 0.05
# So much of an outline may be missed by the normals of a reference, or lie beyond all of them.
MISSED = 0.02
# Sites whose balls are rolled at a time.
AT_ONCE = 256


class Reaches(NamedTuple):
    """How far normals run inwards and outwards from each site. Shapes: both (site,)."""

    inner: Float[np.ndarray, " site"]
    outer: Float[np.ndarray, " site"]

    @property
    def least(self) -> tuple[float, float]:
        """How far all of them do."""
        return float(self.inner.min()), float(self.outer.min())


class Normals(NamedTuple):
    """A closed curve or mesh as sites: unit normals, who is beside whom, and what each stands for.

    `mass` is the length or area of a site; `size` twice the area over the perimeter, or three times
    the volume over the surface: of a disc or ball the radius. Shapes: points, outward (site, dims);
    edges (edge, 2), of neighbours in one or both orders; mass (site,).
    """

    points: Float[np.ndarray, "site dims"]
    outward: Float[np.ndarray, "site dims"]
    edges: Int[np.ndarray, "edge 2"]
    mass: Float[np.ndarray, " site"]
    size: float
    unit: str

    @property
    def apart(self) -> float:
        """About how far sites are from each other."""
        return float(self.mass.mean() ** (1 / (self.points.shape[1] - 1)))

    def enough(self, voxel: float) -> float:
        """The least reach that all sites may share: WANTED voxels, or SHARE of the size."""
        return min(WANTED * voxel, SHARE * self.size)

    def unheld(
        self, outline: Float[np.ndarray, "point dims"], high: Float[np.ndarray, " site"]
    ) -> float:
        """The share of an outline's points that lie farther from the nearest site than its normal
        runs, or the size, and than sites are apart: parts that a smoothed reference has lost."""
        from scipy.spatial import KDTree

        away, near = (np.asarray(v) for v in KDTree(self.points).query(outline))
        return float((away > np.minimum(high, self.size)[near] + self.apart).mean())


def balls(
    points: Float[np.ndarray, "site dims"],
    normals: Float[np.ndarray, "site dims"],
    beside: Any = None,
) -> Reaches:
    """How far each normal runs inwards and outwards before it meets others.

    The smallest ball that touches there, on that side, and passes through another site (Federer
    1959, theorem 4.18), but those `beside` it, a sparse (site, site). Infinite outside of what is
    convex.
    """
    points = points - points.mean(axis=0)
    square, count = np.square(points).sum(axis=1), len(points)
    inner, outer = np.empty(count), np.empty(count)
    for start in range(0, count, AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, count))
        here, along = points[rows], normals[rows]
        up = along @ points.T - np.einsum("pi,pi->p", along, here)[:, None]
        away = np.maximum(square + square[rows, None] - 2 * here @ points.T, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            radius = away / (2 * np.abs(up))
        if beside is not None:
            near = beside[rows].tocoo()
            radius[near.coords] = np.inf
        radius[rows - start, rows] = np.inf
        inner[rows] = np.where(up < 0, radius, np.inf).min(axis=1)
        outer[rows] = np.where(up > 0, radius, np.inf).min(axis=1)
    return Reaches(inner, outer)


def gentle(
    points: Float[np.ndarray, "site dims"],
    edges: Int[np.ndarray, "edge 2"],
    reach: Float[np.ndarray, " site"],
) -> Float[np.ndarray, " site"]:
    """The largest reaches, none above those given, that change by SLOPE of the way along edges.

    They are min_j (reach_j + SLOPE d_ij) with d the way along the edges, so that a boundary that
    keeps to a share of them bends away from the reference no faster.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    count = len(points)
    known = np.flatnonzero(np.isfinite(reach))
    if len(known) == 0:
        return reach.copy()
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    one, other = edges.T
    length = SLOPE * np.linalg.norm(points[one] - points[other], axis=1)
    start = np.full(len(known), count)  # a place from which each site is as far as its reach
    ways = csr_array(
        (
            np.concatenate([length, np.maximum(reach[known], 1e-300)]),
            (np.concatenate([one, start]), np.concatenate([other, known])),
        ),
        (count + 1, count + 1),
    )
    return np.asarray(dijkstra(ways, directed=True, indices=count))[:count]


def ends(
    normals: Normals, found: Reaches, reach: float, voxel: float, *, even: bool = False
) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
    """How far in and out boundaries may lie from each site; both positive.

    As far as `reach`, or as the normals do not cross: all alike if that is enough and hardly less
    than most could, or `even` is asked for; else each as far as its own, made `gentle`. `voxel` is
    the side of the voxels that will be read.
    """
    low, high = (
        np.clip(KEPT * gentle(normals.points, normals.edges, each), FLOOR * voxel, reach)
        for each in found
    )
    alike = all(each.min() >= ALIKE * np.median(each) for each in (low, high))
    if even or (alike and min(found.least) >= normals.enough(voxel)):
        low, high = (np.full(len(low), min(reach, KEPT * each)) for each in found.least)
    return low, high


def narrow_share(
    normals: Normals,
    low: Float[np.ndarray, " site"],
    high: Float[np.ndarray, " site"],
    voxel: float,
) -> float:
    """The share of a curve or surface from which boundaries may lie less than LEAST voxels."""
    return float(normals.mass @ (np.minimum(low, high) < LEAST * voxel) / normals.mass.sum())


def check_room(
    normals: Normals,
    low: Float[np.ndarray, " site"],
    high: Float[np.ndarray, " site"],
    voxel: float,
) -> None:
    """InputError where more than NARROW_SHARE of a curve or surface is that narrow."""
    if narrow_share(normals, low, high, voxel) > NARROW_SHARE:
        least, flat = min(low.min(), high.min()), normals.points.shape[1] == 2
        what, remedy = ("pixel", "a star") if flat else ("voxel", "contour it slice by slice")
        raise InputError(
            f"normals of the reference cross {least:.2g} {normals.unit} from it, less than "
            f"{LEAST} of a {what} ({voxel:.3g} {normals.unit}): it is too small or too narrow for "
            f"offsets; use a finer image, or {remedy}"
        )


def least_lost(tried: Sequence[tuple[float, float]]) -> int:
    """Which of some references, each one smoother than the last, to take.

    Of each the share that is too narrow, and the share of an outline that it loses: the first of
    which hardly anything is either (NARROW_SHARE, MISSED). Else the one that loses least of those
    that are not too narrow, or where all are, the one that comes nearest to both.
    """
    for index, (narrow, lost) in enumerate(tried):
        if narrow <= NARROW_SHARE and lost <= MISSED:
            return index
    wide = [index for index, (narrow, _) in enumerate(tried) if narrow <= NARROW_SHARE]
    if wide:
        return min(wide, key=lambda index: tried[index][1])
    return int(np.argmin([narrow + lost for narrow, lost in tried]))


def limits_of(
    low: Float[np.ndarray, " site"], high: Float[np.ndarray, " site"]
) -> Float[np.ndarray, "site 2"] | None:
    """The ends of each site as a chart keeps them; None where all are alike."""
    alike = np.ptp(low) == np.ptp(high) == 0
    return None if alike else np.stack([-low, high], axis=1)
