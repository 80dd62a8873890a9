"""What may a piece of evidence answer, beside what it says of a boundary?

A piece (`evidence.Piece`) has to be read along the rays of a chart, and no more. Each protocol
here is a question that some other part of the package asks: those that answer it take part, and
the others are left out, or refused by name where nothing could stand for them.

* `evidence.Named`: as what its terms are compared with other sources (`inference.conflict`).
* `Redrawn`: which data a boundary would give (`simulate`).
* `Pictured`: which channels of an image it reads (`simulate_image`, and how fine an image is).
* `Counted`: which voxels it counts, to look at what is left of them (`inference.predictive`).
* `Observed`: how likely each of its observations is, and which would come next (`to_arviz`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.boundary.evidence import Named, Piece
from aistat_jax.boundary.families import Term
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.chart import Chart
from aistat_jax.space.image import Image

if TYPE_CHECKING:
    from aistat_jax.boundary.observed import Voxels
else:
    Voxels = Any

Levels = Sequence[float]
"""(outside, inside, sd), of a ring (outside, wall, core, sd), or the two probabilities or rates of
a Bernoulli or Poisson step."""


class Tabulated(NamedTuple):
    """A piece of evidence as a model has read it: its terms, for a target on a chart."""

    terms: tuple[Term, ...]
    target: AnyTarget
    chart: Chart


class Truth(NamedTuple):
    """What data are drawn from: a boundary, its values (site,) on the chart, and stated levels."""

    values: Float[np.ndarray, " site"]
    levels: Levels | Mapping[str, Levels] | None = None
    correlation_px: float = 0.0

    def levels_of(self, name: str) -> Levels | None:
        """Those of one channel; None where they are to be drawn from a prior."""
        return self.levels.get(name) if isinstance(self.levels, Mapping) else self.levels


class Observation(NamedTuple):
    """Of one source: its name, log-likelihoods (draw, unit), and what was seen and predicted.

    `unit` names what a log-likelihood is of ("rater"). `seen` is (part,) or (part, ray), and
    `predicted` has the chosen draws in front; both are None where nothing is predicted. `places`
    are coordinates of parts.
    """

    name: str
    logs: np.ndarray
    unit: str
    seen: np.ndarray | None
    predicted: np.ndarray | None
    part: str
    places: Mapping[str, np.ndarray] = MappingProxyType({})


@runtime_checkable
class Redrawn(Protocol):
    """The same piece with data drawn anew from its own likelihood, given a boundary."""

    def redrawn(self, rng: np.random.Generator, read: Tabulated, truth: Truth) -> Piece: ...


@runtime_checkable
class Pictured(Protocol):
    """The channels of an image that it reads the levels of; no image where points are scattered."""

    @property
    def image(self) -> Image | None: ...

    @property
    def channels(self) -> tuple[str, ...]: ...


@runtime_checkable
class Counted(Protocol):
    """What its terms count, voxel by voxel, of those that have one level on either side."""

    def counted(self, read: Tabulated) -> Sequence[Voxels]: ...


@runtime_checkable
class Observed(Protocol):
    """Observations other than voxels, given draws (draw, site) of a boundary.

    What comes next is predicted for the draws with the numbers `chosen`.
    """

    def observations(
        self,
        rng: np.random.Generator,
        read: Tabulated,
        draws: Float[np.ndarray, "draw site"],
        chosen: np.ndarray,
    ) -> Sequence[Observation]: ...


def pieces_read(model: BoundaryModel) -> Iterator[tuple[Any, Tabulated]]:
    """Each piece of a model's evidence, and what the model has read of it."""
    terms = list(model.data.terms)
    for piece in model.evidence.pieces:
        named = isinstance(piece, Named)
        count = len(piece.names if named else piece.tabulate(model.target, model.chart))
        yield piece, Tabulated(tuple(terms[:count]), model.target, model.chart)
        del terms[:count]


def names_of(piece: Any, read: Tabulated) -> tuple[str, ...]:
    """What the terms of a piece are called where sources are compared."""
    if isinstance(piece, Named):
        return piece.names
    return (f"the {type(piece).__name__.lower()}",) * len(read.terms)


def pictures(model: BoundaryModel) -> list[tuple[Image, str]]:
    """The channels that a model reads the levels of, each with its image."""
    return [
        (piece.image, name)
        for piece in model.evidence.pieces
        if isinstance(piece, Pictured) and piece.image is not None
        for name in piece.channels
    ]
