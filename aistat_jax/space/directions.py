"""Which way does a direction in a slice point in the patient?"""

from __future__ import annotations

import numpy as np

from aistat_jax.space.grid import Plane

_WORDS = (("right", "left"), ("front", "back"), ("head", "feet"))
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
    xyz = _world(plane, direction)
    first, second = np.argsort(-np.abs(xyz), kind="stable")[:2]
    words = [_WORDS[first][0 if xyz[first] > 0 else 1]]
    if abs(xyz[second]) > _SHARE * abs(xyz[first]):
        words.append(_WORDS[second][0 if xyz[second] > 0 else 1])
    return f"towards the patient's {' and '.join(words)}"


def _world(plane: Plane, direction: tuple[float, float]) -> np.ndarray:
    return np.asarray(plane.frame) @ np.array([direction[0], direction[1], 0.0])
