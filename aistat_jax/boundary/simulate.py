"""Which data would a boundary give, if a model were right?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.boundary.answers import Levels, Pictured, Redrawn, Truth, pieces_read
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.space.image import Image


def simulate(
    model: BoundaryModel,
    radii: Float[np.ndarray, " ray"],
    *,
    levels: Levels | Mapping[str, Levels] | None = None,
    correlation_px: float = 0.0,
    seed: int = 0,
) -> Evidence:
    """The evidence of a model, with data drawn anew from its own likelihood given a boundary.

    Images get new values in the model's slice, on their own grids, with the blur, the bent edges
    and the noise that their terms reckon with; scattered points get new values, raters draw anew
    and clicks are made anew. With boundaries from `prior_draws` these are the data of
    simulation-based calibration: fit `boundary_model(target, simulate(model, radii, seed=i), ...)`.

    `levels` (see `Levels`) are in the image's units, for all channels or by name ("points" for
    scattered ones); without them they are drawn from the `prior` (or `hyper`) given to
    `intensity`. `correlation_px` makes the noise alike among neighbours, exp(-(d / px)^2), which
    no term knows of but by its temper.

    Shapes: radii (ray,) on the model's rays. Raises InputError for evidence that does not
    say how its data come about (`answers.Redrawn`), as log-odds and terms of one's own do not, for
    levels that are neither stated nor have a prior, and for a model that was not made by
    `boundary_model`.
    """
    radii = np.asarray(radii, dtype=float)
    rays = model.chart.sites
    if radii.shape != (rays,) or not (np.isfinite(radii) & (radii > model.chart.ends[0])).all():
        raise InputError(
            f"a boundary of this model is {rays} values above {model.chart.reach[0]:g}, "
            f"got shape {radii.shape}"
        )
    if not model.evidence.pieces:
        raise InputError("this model keeps no evidence to draw anew; make it by boundary_model")
    rng, truth = np.random.default_rng(seed), Truth(radii, levels, correlation_px)
    pieces = []
    for piece, read in pieces_read(model):
        if not isinstance(piece, Redrawn):
            raise InputError(
                f"evidence of kind {type(piece).__name__} does not say how its data come about; "
                "give it a method redrawn(rng, read, truth), or simulate the rest and add to it "
                "what you draw yourself"
            )
        pieces.append(piece.redrawn(rng, read, truth))
    return Evidence(tuple(pieces))


def simulate_image(
    model: BoundaryModel,
    radii: Float[np.ndarray, " ray"],
    *,
    levels: Levels | Mapping[str, Levels] | None = None,
    correlation_px: float = 0.0,
    seed: int = 0,
) -> Image:
    """The image in what `simulate` draws, with channels that the model does not read as they are.

    Raises InputError as `simulate` does, and for a model without an image.
    """
    drawn = simulate(model, radii, levels=levels, correlation_px=correlation_px, seed=seed)
    for piece in drawn.pieces:
        if isinstance(piece, Pictured) and piece.image is not None:
            return piece.image
    raise InputError("this model reads no image; use simulate for its other evidence")
