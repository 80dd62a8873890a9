"""What does anything that reads or draws a boundary ask of geometry?

A boundary is one value a site. A `Chart` says where the sites are and what the values mean: radii
along the rays of a star, offsets along the normals of a curve. Nothing else knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array, ArrayLike, Bool, Float, Int
from aistat_jax.space.basis import Basis
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane

# A site that meets the boundary at a flatter angle than this (cosine) is taken to meet it so.
FLATTEST = 0.5
Function = Callable[[Any], Any]
Points = ArrayLike | Sequence[Any]


class Link(NamedTuple):
    """How values come from a Gaussian process, and how both grow with the size of a boundary.

    `values` of a predictor, and `predictor` of values. `times(size, factor)` is the value of a
    boundary `factor` times as large as one of a size; `share(size)` is what the predictor gains
    where that factor grows from 1, by how much it does. With several `layers`, boundaries one
    within the other, values are those of the first layer, then those of the next, and sizes
    (layer,).
    """

    values: Function
    predictor: Function
    times: Callable[[Any, float], Any]
    share: Callable[[Any], float]
    layers: int = 1


def _nested(predictor: Any) -> Array:
    """Outer radii exp(f) and inner ones exp(f) / (1 + exp(-g)), halves of the last axis."""
    size, share = jnp.split(jnp.asarray(predictor), 2, axis=-1)
    outer = jnp.exp(size)
    return jnp.concatenate([outer, outer * jax.nn.sigmoid(share)], axis=-1)


def _unnested(values: Any) -> np.ndarray:
    outer, inner = np.split(np.asarray(values, dtype=float), 2, axis=-1)
    return np.concatenate([np.log(outer), np.log(inner) - np.log(outer - inner)], axis=-1)


# Radii are positive, offsets are not, and the inner radii of a ring are smaller than the outer.
LINKS = {
    "log": Link(jnp.exp, np.log, lambda size, factor: size * factor, lambda size: 1.0),
    "identity": Link(jnp.asarray, np.asarray, lambda size, factor: size * (factor - 1), float),
    "ring": Link(_nested, _unnested, lambda size, factor: size * factor, lambda size: 1.0, 2),
}


def linked(link: str, predictor: Float[ArrayLike, "*batch site"]) -> Float[Array, "*batch site"]:
    """The values of a linear predictor."""
    return LINKS[link].values(predictor)


def unlinked(link: str, values: ArrayLike | float) -> Float[np.ndarray, "*batch"]:
    """The linear predictor of values."""
    return np.asarray(LINKS[link].predictor(values))


class Shares(NamedTuple):
    """Voxels shared out to sites: for each pair the voxel, the site, its share, and its position.

    Shapes: all (pair,); the shares of one voxel sum to one, or to the number of layers where a
    chart has several (`Link.layers`): it is shared out to the sites of each. A voxel lies inside a
    boundary whose value at its site is larger than its position.
    """

    voxel: np.ndarray
    site: np.ndarray
    share: np.ndarray
    position: np.ndarray


@runtime_checkable
class Bending(Protocol):
    """Where a boundary seems to lie once it has been blurred; a record that JAX can walk."""

    @property
    def shrinkage(self) -> Float[ArrayLike, ""]:
        """1; or 0 where the shrinking of the mean boundary is left to what reads the values."""
        ...

    def __call__(self, values: Float[ArrayLike, " site"]) -> Float[Array, " site"]: ...


@runtime_checkable
class Chart(Protocol):
    """Sites, and what one value at each makes of a boundary.

    Points are coordinates (..., dims) in `unit`. `reach` are the values that were looked at:
    (0, outer radius) for a star, (-w, w) for an offset. `link` is the name, in LINKS, of what makes
    values of a Gaussian process: "log" where they are positive, "identity" for offsets, "ring"
    where one boundary lies within another.
    """

    @property
    def unit(self) -> str: ...

    @property
    def dims(self) -> int: ...

    @property
    def sites(self) -> int: ...

    @property
    def reach(self) -> tuple[float, float]: ...

    @property
    def ends(self) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
        """How far each site was looked at: nowhere beyond the reach, see `even_ends`."""
        ...

    @property
    def link(self) -> str: ...

    @property
    def extent(self) -> float:
        """The area (volume) that was looked at."""
        ...

    @property
    def directions(self) -> Float[np.ndarray, "site dims"]:
        """Unit vectors in which a boundary moves where its value grows."""
        ...

    def basis(self, order: int) -> Basis:
        """Eigenfunctions of the Laplace-Beltrami operator on the sites, to an order."""
        ...

    # ------------------------------------------------------------------------ of points

    def share(self, points: Float[np.ndarray, "voxel dims"], footprint: float = 0.0) -> Shares:
        """Voxels of a width shared out to the sites they meet; points by linear interpolation."""
        ...

    def position(self, points: Points) -> Float[np.ndarray, "*batch"]:
        """The value of a boundary that passes through each point."""
        ...

    def nearest(self, points: Points) -> Int[np.ndarray, "*batch"]:
        """The site that each point is nearest to, whatever its position."""
        ...

    def outward(self, points: Points) -> Float[np.ndarray, "*batch dims"]:
        """Unit vectors in which the position of each point grows."""
        ...

    def beside(self, points: Points, turn: float) -> Float[np.ndarray, "side *batch dims"]:
        """Points at the same position, `turn` radians to every side, seen from the middle."""
        ...

    def apart(self, first: Points, second: Points) -> Float[np.ndarray, "*batch"]:
        """How far apart two points are along a boundary that passes between them."""
        ...

    def words(self, direction: ArrayLike) -> str:
        """Where a direction leads to in the patient, or in the image."""
        ...

    # -------------------------------------------------------------------- of boundaries

    def points(
        self, values: Float[np.ndarray, "*batch site"]
    ) -> Float[np.ndarray, "*batch site dims"]:
        """Where boundaries pass."""
        ...

    def line(
        self, site: int, positions: Float[np.ndarray, " place"]
    ) -> Float[np.ndarray, "place dims"]:
        """Points of one site at several positions."""
        ...

    def surface(self, values: Float[np.ndarray, " site"]) -> Any:
        """One boundary as a closed shape: a `Curve` in a plane, a `Mesh` in space."""
        ...

    def sees(self, surface: Any) -> bool:
        """Whether there is a boundary that comes near to a closed shape."""
        ...

    def values_of(self, surface: Any) -> Float[np.ndarray, " site"]:
        """The boundary that comes nearest to a closed shape, or InputError where none does."""
        ...

    def sections(self, values: Float[np.ndarray, " site"], plane: Plane) -> list[Curve]:
        """What a slice shows of a boundary: any number of closed curves."""
        ...

    def inside(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch dims"]
    ) -> Bool[np.ndarray, "draw ..."]:
        """Whether points lie inside of each boundary."""
        ...

    def inside_share(
        self, values: Float[np.ndarray, "draw site"], points: Float[np.ndarray, "*batch dims"]
    ) -> Float[np.ndarray, "*batch"]:
        """The share of boundaries that each point lies inside of: the mean of `inside`."""
        ...

    def content(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch"]:
        """Area (volume) inside of the closed shape of each boundary."""
        ...

    def sectors(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """The area (volume) that each site stands for; it depends on the value there alone."""
        ...

    def weights(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch site"]:
        """The length (area) of the boundary that each site stands for."""
        ...

    def gap(
        self, values: Float[np.ndarray, "draw site"], others: Float[np.ndarray, "draw site"]
    ) -> Float[np.ndarray, "draw site"]:
        """How far each point of boundaries lies from the other boundary."""
        ...

    def distance(self, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, "site site"]:
        """How far apart sites are along a boundary of about these values."""
        ...

    def bending(self, blur: float, shrinkage: float = 1.0) -> Bending:
        """Where boundaries seem to lie under a Gaussian point spread of sd `blur`."""
        ...


def even_ends(
    reach: tuple[float, float], sites: int
) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
    """The `ends` of a chart all of whose sites were looked at as far as its reach."""
    low, high = reach
    return np.full(sites, float(low)), np.full(sites, float(high))


def own_ends(
    limits: Float[np.ndarray, "site 2"] | None, reach: tuple[float, float], sites: int
) -> tuple[Float[np.ndarray, " site"], Float[np.ndarray, " site"]]:
    """The `ends` of a chart whose sites have limits of their own, or None."""
    return even_ends(reach, sites) if limits is None else (limits[:, 0], limits[:, 1])


def interpolated(
    chart: Chart, values: Float[np.ndarray, "*batch site"], points: Float[np.ndarray, "point dims"]
) -> Float[np.ndarray, "*batch point"]:
    """The values of boundaries at the places of points, linear between sites."""
    shared = chart.share(points)
    found = np.zeros((*np.shape(values)[:-1], len(points)))
    parts = np.asarray(values)[..., shared.site] * shared.share
    np.add.at(found.T, shared.voxel, parts.T)
    return found


def layered(chart: Chart, each: ArrayLike) -> list[np.ndarray]:
    """What belongs to the sites of a chart (site, ...) by boundary: one part, or one a layer."""
    return np.split(np.asarray(each), LINKS[chart.link].layers)


def outwards(chart: Chart) -> Float[np.ndarray, " site"]:
    """1 where a region grows with a site's value, -1 at the inner boundary of a ring."""
    first, *inner = layered(chart, np.ones(chart.sites))
    return np.concatenate([first, *(-each for each in inner)])


def sided(chart: Chart, outer: ArrayLike, inner: ArrayLike) -> np.ndarray:
    """`outer` values, and `inner` ones where a region shrinks with a site's value."""
    return np.where(outwards(chart) > 0, outer, inner)


def slant(chart: Chart, values: Float[np.ndarray, " site"]) -> Float[np.ndarray, " site"]:
    """The cosine between each site's direction and the boundary's normal.

    It is by how much the region grows with a value, over the boundary that the site stands for.
    """
    step = 1e-4 * (np.ptp(chart.points(values)) or 1.0)
    rise = (chart.sectors(values + step) - chart.sectors(values - step)) / (2 * step)
    return np.clip(np.abs(rise) / np.maximum(chart.weights(values), 1e-12), FLATTEST, 1.0)
