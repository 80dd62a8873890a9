"""How does a disc look through a point spread, if its size changes from slice to slice?

A disc of radius gamma about the chart's centre, blurred in its plane by a Gaussian of sd b, shows
at a distance t the share F(t; gamma) = P(|t + b X| < gamma), X standard normal in the plane. Where
its sections change along the slices' normal, area / pi = gamma^2 + slope z + bend z^2 / 2 (a
`Taper`; a ball has bend -2), what is seen is the mean of that over the heights z that the point
spread and the slice's thickness mix. For radii much larger than b and no taper, F is a straight
step at the apparent radius (`star.StarBending`); for small ones it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.boundary.tables import (
    NODES_PER_BLUR,
    SmoothTable,
    hermite_table,
    node_count,
)
from aistat_jax.boundary.targets import Taper
from aistat_jax.space.chart import Chart, Shares

# Quadrature points between two nodes of the radius, and heights that are mixed, in sds.
BETWEEN = 4
HEIGHTS = np.linspace(-5.0, 5.0, 121)
# Values between the nodes of a grid by the polynomial of degree 7 through these around them.
STENCIL = np.arange(-3, 5)
# Beyond a disc's radius plus this many blurs nothing of it is seen.
FAR = 8.0


class Blur(NamedTuple):
    """Standard deviations of the point spread, voxels included: in the plane, across it.

    `offset` is how far the slice that is read lies above the one in which the boundary is sought.
    """

    within: float
    across: float = 0.0
    offset: float = 0.0


def disc_profile(
    distance: Float[np.ndarray, " t"],
    step: float,
    count: int,
    blur: Blur,
    taper: Taper | None = None,
    dims: int = 2,
) -> Float[np.ndarray, "gamma t"]:
    """F(t; gamma) at the radii 0, step, ..., (count - 1) step. Lengths in one unit.

    With `dims` 3 that of a ball, which has no taper: of a vector t + b X in space, X standard
    normal, to be shorter than gamma. In a plane dF/dgamma = (gamma / b^2) exp(-(gamma - t)^2 /
    2 b^2) I_0e(gamma t / b^2), which is integrated from one radius to the next.
    """
    if dims == 3:
        return _ball(distance / blur.within, step / blur.within * np.arange(count))
    if taper is None:
        return _flat(distance, step, count, blur.within)
    height = blur.offset + blur.across * HEIGHTS
    weight = np.exp(-0.5 * HEIGHTS**2)
    gamma = step * np.arange(count)
    square = gamma[:, None] ** 2 + taper.slope * height + 0.5 * taper.bend * height**2
    reach = distance.max() + FAR * blur.within
    place = np.sqrt(np.clip(square, 0.0, reach**2)) / step
    flat = _flat(distance, step, int(reach / step) + len(STENCIL) + 1, blur.within)
    below = np.floor(place).astype(int)
    share = _lagrange(place - below) * (weight / weight.sum())[:, None]
    cell = np.abs(below[..., None] + STENCIL)  # F is even in the radius
    row = np.arange(count)[:, None, None] * len(flat) + cell
    mixed = np.bincount(row.ravel(), share.ravel(), count * len(flat)).reshape(count, len(flat))
    return mixed @ flat


def disc_shares(
    distance: Float[np.ndarray, " voxel"],
    radius: Float[np.ndarray, "*batch voxel"],
    blur: Blur,
    taper: Taper | None = None,
    dims: int = 2,
) -> Float[np.ndarray, "*batch voxel"]:
    """F at pairs of a distance and a radius, interpolated linearly on a grid six to a blur."""
    from scipy import ndimage

    step = blur.within / NODES_PER_BLUR
    # Every place is inside of what is far beyond it; draws of a fit that failed may lie anywhere.
    radius = np.minimum(np.nan_to_num(radius), distance.max(initial=0.0) + FAR * blur.within)
    count = int(np.max(radius) / step) + 2
    cells = int(distance.max() / step) + 2
    profile = disc_profile(step * np.arange(cells), step, count, blur, taper, dims)
    place = np.stack([radius / step, np.broadcast_to(distance / step, radius.shape)])
    return np.asarray(ndimage.map_coordinates(profile, place, order=1, mode="nearest"))


def _ball(
    t: Float[np.ndarray, " t"], gamma: Float[np.ndarray, " gamma"]
) -> Float[np.ndarray, "gamma t"]:
    """The profile of a ball, lengths in blurs: a non-central chi-squared law of three degrees."""
    from scipy.special import ndtr

    gamma = gamma[:, None]
    near, far = gamma - t, gamma + t
    density = np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi)
    # (phi(near) - phi(far)) / t, which tends to 2 gamma phi(gamma) at the centre
    product = gamma * t
    rise = np.where(product > 1e-4, -np.expm1(-2 * product) / np.maximum(product, 1e-4), 2.0)
    return ndtr(near) + ndtr(far) - 1 - gamma * density * rise


def _flat(distance: np.ndarray, step: float, count: int, blur: float) -> np.ndarray:
    """The profile of one disc without taper."""
    from scipy.special import i0e

    node, share = np.polynomial.legendre.leggauss(BETWEEN)
    between = (step * (np.arange(count - 1)[:, None] + 0.5 * (1 + node)) / blur)[..., None]
    t = distance / blur
    slope = between * np.exp(-0.5 * (between - t) ** 2) * i0e(between * t)
    rise = 0.5 * step / blur * np.einsum("gbt,b->gt", slope, share)
    return np.concatenate([np.zeros((1, len(t))), np.cumsum(rise, axis=0)])


def disc_table(
    chart: Chart,
    shared: Shares,
    statistics: Sequence[tuple[np.ndarray, int]],
    blur: Blur,
    taper: Taper | None = None,
) -> SmoothTable:
    """Tables of sum_i f_i F(t_i; gamma)^power for each (f, power), power 1 or 2.

    Shapes: each f is (voxel,). The nodes are those of `tables.smooth_table`; slopes and bends at
    them are those of the quintic spline through the values.
    """
    from scipy.interpolate import make_interp_spline

    rays, step = chart.sites, blur.within / NODES_PER_BLUR
    nodes = node_count(chart, blur.within) + 1
    shared = Shares(*(v[shared.position < nodes * step + FAR * blur.within] for v in shared))
    cells = int(shared.position.max(initial=0.0) / step) + len(STENCIL) + 1
    distance = step * np.abs(np.arange(cells) + STENCIL[0])
    profile = disc_profile(distance, step, nodes, blur, taper, chart.dims)

    place = shared.position / step
    below = np.floor(place).astype(int)
    nearby = _lagrange(place - below) * shared.share[:, None]
    cell = shared.site[:, None] * cells + below[:, None] + STENCIL - STENCIL[0]
    columns = []
    for f, power in statistics:
        mass = f[shared.voxel][:, None] * nearby
        gathered = np.bincount(cell.ravel(), mass.ravel(), rays * cells).reshape(rays, cells)
        spline = make_interp_spline(np.arange(nodes), gathered @ (profile**power).T, k=5, axis=1)
        columns.append([spline(np.arange(nodes), nu) for nu in range(3)])
    return hermite_table(np.array(columns), step, 0.0)


def _lagrange(x: Float[np.ndarray, "*place"]) -> Float[np.ndarray, "*place stencil"]:
    """Weights of the polynomial through the points of STENCIL, at 0 <= x < 1."""
    weights = np.ones((*x.shape, len(STENCIL)))
    for i, here in enumerate(STENCIL):
        for other in np.delete(STENCIL, i):
            weights[..., i] *= (x - other) / (here - other)
    return weights
