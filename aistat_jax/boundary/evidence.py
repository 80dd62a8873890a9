"""What is known about a boundary? Pieces of evidence that add.

A piece of evidence is a description (which channel, which blur, whose contours). Adding pieces
gives an `Evidence`; `tabulate` reads the images once along the rays of a chart and gives the
terms the boundary model multiplies. Every modality keeps its own native grid. The pieces live
next door: intensity.py for images, opinions.py for classifiers, raters and clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.doors import value_of
from aistat_jax.boundary.families import Term
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.chart import Chart
from aistat_jax.space.image import ChannelBlock, ChannelSlice, Image

MIN_VOXELS = 20
# Background is read as far as this multiple of a chart's reach, in a plane and in space, where even
# a thin shell holds many voxels.
BACKGROUND = {2: 2.0, 3: 1.3}


@runtime_checkable
class Piece(Protocol):
    """Anything that can be tabulated along the rays of a chart."""

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]: ...


@runtime_checkable
class Named(Protocol):
    """One name a term, as in "PT and the term `mine` contradict each other".

    An empty name is no source: clicks are made to overrule. Terms of other pieces are called by the
    class of the piece.
    """

    @property
    def names(self) -> tuple[str, ...]: ...


@record
class Evidence:
    """A sum of pieces; `a + b` adds two."""

    pieces: tuple[Piece, ...]

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.pieces + other.pieces)

    def __radd__(self, other: object) -> Evidence:
        if other is None:
            raise InputError(
                "there is no model to add evidence to: a posterior read from a file has none; "
                "use model_from_draws(posterior) + evidence, or the model that was fitted"
            )
        return NotImplemented

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[Term, ...]:
        """The terms of every piece for one target."""
        found: list[Term] = []
        for piece in self.pieces:
            terms = tuple(piece.tabulate(target, chart))
            if isinstance(piece, Named) and len(piece.names) != len(terms):
                raise InputError(
                    f"evidence of kind {type(piece).__name__} has {len(terms)} terms and "
                    f"{len(piece.names)} names; let `names` have one for each"
                )
            found += terms
        return tuple(found)


NOTHING = Evidence(())


def log_likelihood(
    terms: Sequence[Term],
    radii: Float[ArrayLike, " ray"],
    weights: Float[ArrayLike, " term"] | None = None,
) -> Float[Array, ""]:
    """Sum of the terms' log-likelihoods of one boundary; costs a look-up per ray and term.

    Each counts once, or `weights` (term,) times. Raises InputError for a term whose log-likelihood
    is not one real number.
    """
    radii = jnp.asarray(radii)
    total = jnp.zeros(())
    for k, term in enumerate(terms):
        value = value_of(term, radii)
        total = total + (value if weights is None else weights[k] * value)
    return total


class Voxels(NamedTuple):
    """The voxels of one channel, in a slice or a box, that a chart reaches.

    Shapes: points (voxel, dims), values (voxel,), width their side (of a square or cube of equal
    content), inside where they are in `part`, radius the position of every voxel of that part.
    """

    points: np.ndarray
    values: np.ndarray
    width: float
    inside: np.ndarray
    radius: np.ndarray
    part: ChannelSlice | ChannelBlock


def voxels_around(image: Image, name: str, target: AnyTarget, chart: Chart) -> Voxels:
    """Voxels of a channel, on its native grid, within the chart's reach and no other target's.

    Raises InputError when the target's surroundings hold too few of them.
    """
    part = target.part_of(image[name], BACKGROUND[chart.dims] * chart.reach[1])
    points = part.points()
    radius, high = chart.position(points), chart.reach[1]
    radius = np.where(target.elsewhere(points), np.inf, radius)
    inside = radius <= high  # what is nearer than where a chart starts is inside of every boundary
    if inside.sum() < MIN_VOXELS:
        raise InputError(
            f"channel {name} has only {int(inside.sum())} voxels within "
            f"{high:.1f} {chart.unit} of the target's centre; "
            "choose a target inside the image or a larger radius"
        )
    width = float(np.prod(part.sides) ** (1 / chart.dims))
    return Voxels(points[inside], part.values[inside], width, inside, radius, part)


def check_channel(image: Image, name: str) -> None:
    """Refuse the name of a channel that the image does not have."""
    if name not in image.names:
        raise InputError(f"the image has no channel {name!r}; it has {', '.join(image.names)}")
