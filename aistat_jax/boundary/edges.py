"""How much of what an image shows lies inside of a boundary, and where does its edge appear?"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from aistat_jax._typing import Float
from aistat_jax.space.chart import Bending


@runtime_checkable
class Edged(Protocol):
    """A term that says how much of what it counts lies inside of a boundary.

    `width` is how wide the edge is that it expects, 0 where that is a jump; `edges` where it looks
    for the edge of boundaries; `within` the share of the step at positions (place,), of edges
    (draw, place) that are there.
    """

    @property
    def width(self) -> float: ...

    def edges(self, radii: Float[np.ndarray, "draw ray"]) -> Float[np.ndarray, "draw ray"]: ...

    def within(self, position: np.ndarray, edge: np.ndarray, dims: int) -> np.ndarray: ...


@jax.jit
def _bent(bending: Any, radii: Any) -> Any:
    return jax.vmap(bending)(radii)


def bent(
    bending: Bending | None, radii: Float[np.ndarray, "draw ray"]
) -> Float[np.ndarray, "draw ray"]:
    """Where the edges of boundaries appear through a point spread."""
    if bending is None:
        return radii
    with jax.enable_x64(True):
        return np.asarray(_bent(bending, radii))


def straight(position: np.ndarray, edge: np.ndarray, blur: float) -> np.ndarray:
    """The share of a straight step that is seen at positions, of edges: Phi((edge - t) / blur)."""
    from scipy.special import ndtr

    return ndtr((edge - position) / blur)
