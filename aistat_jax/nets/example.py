"""What does a network learn from? An image, what people drew on it, and what was asked for."""

from __future__ import annotations

from aistat_jax._record import record
from aistat_jax._typing import ArrayLike, Float, Int


@record
class Example:
    """What a network learns from: an image, its labels and, if several people drew, each of them.

    Shapes: image (*space, channel) normalised intensities; labels (*space,) whole numbers, 0 is
    background; raters (*space, rater) each rater's probability of foreground, or None; guidance
    (*space, guide) what was pointed at (prompts.py), or None. space is (u, v) or (i, j, k). A batch
    of examples has one more axis in front.
    """

    image: Float[ArrayLike, "*space channel"]
    labels: Int[ArrayLike, "*space"]
    raters: Float[ArrayLike, "*space rater"] | None = None
    guidance: Float[ArrayLike, "*space guide"] | None = None
