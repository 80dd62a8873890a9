"""Which observations does a term count, and how likely is each, given a boundary?

The collapsed likelihood of an image is a function of sums over its voxels. Here it is taken apart
again: the intensities are drawn back from their conjugate conditional given the boundary, and with
them the likelihood, tempered as in the fit, is a product over voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aistat_jax._typing import Float, Int
from aistat_jax.boundary.answers import Counted, pieces_read
from aistat_jax.boundary.edges import Edged
from aistat_jax.boundary.levels import CountedVoxels, Levels, Step, Varied
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.space.chart import Shares
from aistat_jax.space.image import Channel

# Pairs of voxel and ray, times draws, that are held in memory at once.
CHUNK = 4_000_000


@dataclass(frozen=True)
class Voxels:
    """The voxels, or scattered points, that one intensity term counts.

    `values` are those of the image; the term counts (values - centre) / scale, with relative
    `precisions`. `side` is that of a voxel, 0 for points, which have no `channel`.
    Shapes: points (voxel, dims), values, precisions (voxel,).
    """

    name: str
    term: Step
    shared: Shares
    points: Float[np.ndarray, "voxel dims"]
    values: Float[np.ndarray, " voxel"]
    precisions: Float[np.ndarray, " voxel"]
    side: float
    centre: float
    scale: float
    channel: Channel | None = None

    @property
    def counted(self) -> Float[np.ndarray, " voxel"]:
        return (self.values - self.centre) / self.scale

    def levels(self) -> Levels:
        """The law of its intensities given a boundary."""
        return self.term.levels(CountedVoxels(self.counted, self.precisions, self.shared))

    @cached_property
    def position(self) -> Float[np.ndarray, " voxel"]:
        """That of each voxel's centre."""
        found = np.zeros(len(self.values))
        found[self.shared.voxel] = self.shared.position
        return found

    def at(self, values: Float[np.ndarray, "*batch site"]) -> Float[np.ndarray, "*batch voxel"]:
        """Values of sites at each voxel: the mean over those that it meets."""
        from scipy.sparse import csr_array

        size = (values.shape[-1], len(self.values))
        shares = (self.shared.share, (self.shared.site, self.shared.voxel))
        return values @ csr_array(shares, size)

    @cached_property
    def block(self) -> Int[np.ndarray, " voxel"]:
        """Numbers of the squares (cubes) of voxels that are worth about one observation each."""
        side = self.side * np.ceil(1 / np.sqrt(float(self.term.eta)))
        return _blocks(self.points, float(side))


@dataclass(frozen=True)
class Given:
    """Draws given draws of the boundary, in the image's units.

    Shapes: block_log_likelihood (draw, block), in the term's units; predicted (draw, voxel).
    """

    block_log_likelihood: np.ndarray
    predicted: np.ndarray


def voxels_of(model: BoundaryModel) -> list[Voxels]:
    """What every term of a model's images counts, read again from them.

    Rings are left out: their voxels have three levels, and no one share inside.
    """
    return [
        voxels
        for piece, read in pieces_read(model)
        if isinstance(piece, Counted)
        for voxels in piece.counted(read)
    ]


def _blocks(points: np.ndarray, side: float) -> np.ndarray:
    """Numbers of the squares of a side that hold the points; each its own where they have none."""
    if side <= 0:
        return np.arange(len(points))
    cell = np.floor((points - points.min(axis=0)) / side + 1e-6).astype(int)
    return np.unique(cell, axis=0, return_inverse=True)[1].ravel()


def inside_shares(
    term: Edged,
    shared: Shares,
    radii: Float[np.ndarray, "draw ray"],
    dims: int = 2,
) -> Float[np.ndarray, "draw pair"]:
    """How far each pair of voxel and ray lies inside each boundary: h, or 0 and 1."""
    return term.within(shared.position, term.edges(radii)[:, shared.site], dims)


def voxels_inside(
    voxels: Voxels, radii: Float[np.ndarray, "draw ray"]
) -> Float[np.ndarray, "draw voxel"]:
    """How far each voxel lies inside each boundary, at the mean of the rays that it meets."""
    edges = voxels.at(voxels.term.edges(radii))
    return voxels.term.within(voxels.position, edges, voxels.points.shape[1])


def expected(
    voxels: Voxels, share: Float[np.ndarray, " voxel"]
) -> Float[np.ndarray, " voxel"] | None:
    """What levels that differ would have voxels be that lie so far inside; None for even ones."""
    law = voxels.levels()
    if not isinstance(law, Varied):
        return None
    return voxels.centre + voxels.scale * law.expected(share)


def given_boundaries(
    voxels: Voxels, radii: Float[np.ndarray, "draw ray"], rng: np.random.Generator
) -> Given:
    """Log-likelihoods of blocks and predicted voxels, the intensities drawn given each boundary."""
    from scipy.sparse import csr_array

    shared, eta = voxels.shared, float(voxels.term.eta)
    pairs = np.arange(len(shared.voxel))
    blocks = int(voxels.block.max()) + 1
    by_block = csr_array(
        (eta * shared.share, (pairs, voxels.block[shared.voxel])), (len(pairs), blocks)
    )
    by_voxel = csr_array((shared.share, (pairs, shared.voxel)), (len(pairs), len(voxels.values)))
    law = voxels.levels()
    logs, predicted = [], []
    for part in np.array_split(radii, max(1, len(radii) * len(pairs) // CHUNK)):
        inside = inside_shares(voxels.term, shared, part, voxels.points.shape[1])
        parameters = law.parameters(inside, rng)
        logs.append(law.log_density(inside, parameters) @ by_block)
        predicted.append(law.predict(inside @ by_voxel, parameters, rng))
    values = voxels.centre + voxels.scale * np.concatenate(predicted)
    return Given(np.concatenate(logs), values)
