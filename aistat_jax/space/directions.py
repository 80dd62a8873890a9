"""Which way does a direction in a slice point in the patient?"""

from __future__ import annotations

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.space.grid import Plane

_WORDS = (("right", "left"), ("front", "back"), ("head", "feet"))
_AXES = (("+x", "-x"), ("+y", "-y"), ("+z", "-z"))
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
_SHARE = np.tan(np.pi / 8)  # a second word when the direction is nearer to the diagonal


def direction_letter(plane: Plane, direction: tuple[float, float]) -> str:
    """The patient axis (R, L, A, P, S or I) nearest to an in-plane direction (du, dv).

    World axes are RAS+: x to the patient's Right, y to the Anterior, z to the Superior.
    """
    xyz = _world(plane, direction)
    axis = int(np.abs(xyz).argmax())
    return _LETTERS[axis][0 if xyz[axis] > 0 else 1]


def direction_words(plane: Plane, direction: tuple[float, float]) -> str:
    """A phrase such as "towards the patient's left and front" for an in-plane direction.

    An image without spacing has no patient axes: the phrase then gives the angle,
    counter-clockwise from the +u axis.
    """
    if plane.unit == "px":
        angle = np.degrees(np.arctan2(direction[1], direction[0])) % 360
        return f"at {angle:.0f} degrees counter-clockwise from the image's +u axis"
    return words_in_space(_world(plane, direction), plane.unit)


def words_in_space(direction: Float[np.ndarray, "3"], unit: str = "mm") -> str:
    """A phrase such as "towards the patient's left and front" for a direction (dx, dy, dz).

    Without spacing (unit "px") there are no patient axes: the phrase names the voxels' own.
    """
    first, second = np.argsort(-np.abs(direction), kind="stable")[:2]
    names = _WORDS if unit == "mm" else _AXES
    words = [names[first][0 if direction[first] > 0 else 1]]
    if abs(direction[second]) > _SHARE * abs(direction[first]):
        words.append(names[second][0 if direction[second] > 0 else 1])
    whose = "the patient's " if unit == "mm" else ""
    return f"towards {whose}{' and '.join(words)}"


def _world(plane: Plane, direction: tuple[float, float]) -> np.ndarray:
    return np.asarray(plane.frame) @ np.array([direction[0], direction[1], 0.0])
