"""How is an image read once, so that any boundary costs a look-up per ray?

Each voxel gives its weight to the sites its footprint meets (`Chart.share`; weights sum to one). A
statistic of the form sum_i f_i g(gamma(a_i) - t_i) then becomes sum_j T_j(gamma_j), with one
tabulated function T_j per site. Two kinds of table:

* `SmoothTable` for smooth g (a blurred step and its square): quintic Hermite pieces on a uniform
  grid of six nodes per blur width, exact to about 1e-9 of a voxel, twice differentiable.
* `SortedTable` for the hard step g = 1[t < gamma]: cumulative sums over sorted positions, exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._record import record, replace
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.space.chart import Chart, Shares

NODES_PER_BLUR = 6
MOMENTS = 7
NODE_BUCKET = 64
# Voxels this many nodes past the table still reach back into it: Phi(-8) is 6e-16.
MARGIN = 8 * NODES_PER_BLUR
ENTRY_BUCKET = 64


@runtime_checkable
class Table(Protocol):
    """Functions of a boundary's value, one set per site; a record, with what it holds as leaves.

    Tables of one kind are brought to one `length`, so that models share what is compiled.
    """

    @property
    def length(self) -> int:
        """How many entries to a site there are."""
        ...

    def __call__(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]: ...

    def of_length(self, length: int) -> Table:
        """The same functions with more entries; with fewer, the first ones alone."""
        ...


# --------------------------------------------------------------------------- smooth tables


@record
class SmoothTable:
    """Twice differentiable functions of a value, one set per site, as quintic pieces.

    Shapes: pieces (ray, node, stat, 6), polynomial coefficients in ((value - start) / step - node);
    step is the node spacing. Beyond the first and last node the functions stay as they are there.
    """

    pieces: Float[ArrayLike, "ray node stat 6"]
    step: Float[ArrayLike, ""]
    start: Float[ArrayLike, ""]

    def __call__(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        """Values of every statistic on every ray."""
        above = jnp.asarray(radii) - jnp.asarray(self.start)
        return _read(0, jnp.asarray(self.pieces), jnp.asarray(self.step), above)

    @property
    def length(self) -> int:
        return np.shape(self.pieces)[1]

    def of_length(self, length: int) -> SmoothTable:
        """Beyond the last piece the functions stay as they are there."""
        pieces = np.asarray(self.pieces)[:, :length]
        last = np.zeros((len(pieces), length - pieces.shape[1], *pieces.shape[2:]))
        if last.size:
            last[..., 0] = pieces[:, -1:].sum(axis=-1)
        return replace(self, pieces=np.concatenate([pieces, last], axis=1))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _read(order: int, pieces: Array, step: Array, above: Array) -> Array:
    """Derivative `order` of every statistic with respect to how far a value is above the start.

    The derivative is a look-up of its own, so that gradients and Hessians in many directions
    read the table once.
    """
    rays, nodes = pieces.shape[:2]
    place = jnp.clip(above / step, 0.0, nodes * (1 - 1e-12))
    node = jnp.minimum(place.astype(jnp.int32), nodes - 1)  # float32 rounds the clip up
    x = (place - node)[:, None]
    piece = pieces[jnp.arange(rays), node]
    value = jnp.zeros_like(piece[..., 0])
    for power in range(5, order - 1, -1):
        value = value * x + math.perm(power, order) * piece[..., power]
    if order == 0:
        return value
    on_table = (above >= 0) & (above <= nodes * step)
    return jnp.where(on_table[:, None], value / step**order, 0.0)


@_read.defjvp
def _read_jvp(order: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple:
    pieces, step, above = primals
    slope = _read(order + 1, pieces, step, above)
    return _read(order, pieces, step, above), slope * tangents[2][:, None]


def smooth_table(
    chart: Chart,
    shared: Shares,
    statistics: Sequence[tuple[np.ndarray, int]],
    blur: float,
) -> SmoothTable:
    """Tables of sum_i f_i Phi((gamma - t_i) / blur)^power for each (f, power), power 1 or 2.

    Voxels are gathered at their nearest node as local moments; a table and its first two
    derivatives at the nodes are then convolutions of those moments with the derivatives of the
    kernel (a one-level fast multipole expansion), done by FFT for all rays at once.

    Shapes: each f is (voxel,); blur in the chart's unit.
    """
    from scipy.fft import next_fast_len

    step, start = blur / NODES_PER_BLUR, chart.reach[0]
    rays = chart.sites
    nodes = node_count(chart, blur)
    # What lies further below the start than the margin is inside of every boundary all the same.
    place = np.maximum((shared.position - start) / step, -float(MARGIN))
    near = np.rint(place).astype(int)
    below = max(0, -int(near.min(initial=0)))
    cells = below + nodes + 1 + MARGIN
    keep = below + near < cells
    cell = shared.site[keep] * cells + below + near[keep]
    shift = (near[keep] - place[keep]) / NODES_PER_BLUR
    length = int(next_fast_len(2 * cells, real=True) or 0)
    lags = np.arange(length)
    lags = np.where(lags < cells, lags, lags - length) / NODES_PER_BLUR
    kernels = {
        power: np.fft.rfft(_step_derivatives(lags, MOMENTS + 2, power), axis=-1)
        for power in {power for _, power in statistics}
    }

    spectra: dict[int, np.ndarray] = {}
    columns = []
    for f, power in statistics:
        if id(f) not in spectra:
            spectra[id(f)] = np.stack(
                [
                    np.fft.rfft(grid, n=length, axis=-1)
                    for grid in _moments(shared, f, keep, cell, shift, rays, cells)
                ]
            )
        spectrum = spectra[id(f)]
        columns.append(
            [
                np.fft.irfft(
                    np.einsum("mrl,ml->rl", spectrum, kernels[power][d : d + MOMENTS]), n=length
                )[:, below : below + nodes + 1]
                / NODES_PER_BLUR**d
                for d in range(3)
            ]
        )
    return hermite_table(np.array(columns), step, start)


def node_count(chart: Chart, blur: float) -> int:
    """How many pieces a table has over the reach of a chart, in whole buckets."""
    low, high = chart.reach
    return int(np.ceil((high - low) / blur * NODES_PER_BLUR / NODE_BUCKET)) * NODE_BUCKET


def hermite_table(
    columns: Float[np.ndarray, "stat 3 ray node"], step: float, start: float
) -> SmoothTable:
    """The table with these values and two derivatives at its nodes, in units of their spacing."""
    return SmoothTable(_quintic_pieces(columns), np.asarray(step), np.asarray(start))


def _moments(
    shared: Shares,
    f: np.ndarray,
    keep: np.ndarray,
    cell: np.ndarray,
    shift: np.ndarray,
    rays: int,
    nodes: int,
) -> list[np.ndarray]:
    """Local moments sum w f shift^m / m! of voxels about their nearest node, m = 0, 1, ..."""
    weight = (shared.share * f[shared.voxel])[keep]
    grids = []
    for m in range(MOMENTS):
        grids.append(np.bincount(cell, weight, rays * nodes).reshape(rays, nodes))
        weight = weight * shift / (m + 1)
    return grids


def _step_derivatives(x: np.ndarray, count: int, power: int) -> np.ndarray:
    """Derivatives 0 .. count-1 of Phi(x)^power, stacked (count, x)."""
    from scipy.special import ndtr

    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    hermite = [np.ones_like(x), x]
    for n in range(1, count):
        hermite.append(x * hermite[n] - n * hermite[n - 1])
    phi = [ndtr(x)] + [(-1) ** n * hermite[n] * density for n in range(count - 1)]
    if power == 1:
        return np.array(phi)
    from scipy.special import comb

    return np.array(
        [sum(comb(n, k) * phi[k] * phi[n - k] for k in range(n + 1)) for n in range(count)]
    )


def _quintic_pieces(columns: np.ndarray) -> np.ndarray:
    """Quintic Hermite coefficients from (stat, derivative, ray, node) in units of the step."""
    f, d, c = np.moveaxis(columns, 1, 0)
    f0, d0, c0 = f[..., :-1], d[..., :-1], c[..., :-1]
    rise = f[..., 1:] - f0 - d0 - 0.5 * c0
    slope = d[..., 1:] - d0 - c0
    bend = c[..., 1:] - c0
    pieces = np.stack(
        [
            f0,
            d0,
            0.5 * c0,
            10 * rise - 4 * slope + 0.5 * bend,
            -15 * rise + 7 * slope - bend,
            6 * rise - 3 * slope + 0.5 * bend,
        ],
        axis=-1,
    )
    return _aligned(np.moveaxis(pieces, 0, 2))


def _aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy that begins on a 64-byte boundary: JAX on a CPU reads it where it lies."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


# --------------------------------------------------------------------------- sorted tables


@record
class SortedTable:
    """Exact sums over voxels with t < gamma, one set per ray.

    Shapes: positions (ray, entry), sorted, padded with infinity; cumulative
    (ray, entry + 1, stat), the sums over the first 0, 1, 2, ... entries.
    """

    positions: Float[ArrayLike, "ray entry"]
    cumulative: Float[ArrayLike, "ray entries stat"]

    def __call__(self, radii: Float[ArrayLike, " ray"]) -> Float[Array, "ray stat"]:
        """Sums inside the boundary on every ray; piecewise constant, gradient zero."""
        positions = jnp.asarray(self.positions)
        count = jax.vmap(jnp.searchsorted)(positions, jax.lax.stop_gradient(radii))
        return jnp.asarray(self.cumulative)[jnp.arange(len(self.positions)), count]

    @property
    def length(self) -> int:
        return np.shape(self.positions)[1]

    def of_length(self, length: int) -> SortedTable:
        extra = ((0, 0), (0, max(0, length - self.length)))
        positions = np.pad(np.asarray(self.positions), extra, constant_values=np.inf)
        sums = np.pad(np.asarray(self.cumulative), (*extra, (0, 0)), mode="edge")
        return SortedTable(positions[:, :length], sums[:, : length + 1])


def sorted_table(chart: Chart, shared: Shares, statistics: Sequence[np.ndarray]) -> SortedTable:
    """Cumulative sums of each statistic f (voxel,) along every ray."""
    rays = chart.sites
    order = np.lexsort((shared.position, shared.site))
    ray = shared.site[order]
    counts = np.bincount(ray, minlength=rays)
    entries = int(np.ceil(max(counts.max(), 1) / ENTRY_BUCKET)) * ENTRY_BUCKET
    slot = np.arange(len(ray)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.full((rays, entries), np.inf)
    positions[ray, slot] = shared.position[order]
    values = np.zeros((rays, entries + 1, len(statistics)))
    for column, f in enumerate(statistics):
        values[ray, slot + 1, column] = (shared.share * f[shared.voxel])[order]
    return SortedTable(positions, np.cumsum(values, axis=1))
