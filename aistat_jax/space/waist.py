"""Does a contour narrow between two parts, as two lesions do that touch?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Float
from aistat_jax.space.curve import Curve

# Pixels along the longer side of a contour, and depths at which it is cut apart.
PIXELS, DEPTHS = 72, 19
# A part narrower than this many pixels is a corner of the drawing.
NARROWEST = 4


class Waist(NamedTuple):
    """The width of the narrowest place, and of the narrower of the two parts beside it."""

    width: float
    part: float


def waist(points: Float[np.ndarray, "point 2"]) -> Waist | None:
    """The narrowest place of a closed curve in proportion to the parts that it joins.

    A disc rolled inside the curve passes from one part to the other if it is as wide as the place;
    the width of a part is that of the largest disc in it. None for a curve of one part only.
    """
    from scipy import ndimage

    low, high = points.min(axis=0), points.max(axis=0)
    pixel = float((high - low).max()) / PIXELS
    axes = [np.arange(low[i] - 1.5 * pixel, high[i] + 1.5 * pixel, pixel) for i in (0, 1)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = Curve(points).contains(grid)
    depth = pixel * np.asarray(ndimage.distance_transform_edt(inside))
    found = None
    for cut in np.linspace(0, depth.max(), DEPTHS + 2)[1:-1]:
        parts, count = ndimage.label(depth >= cut)  # pyright: ignore[reportGeneralTypeIssues]
        if count < 2:
            continue
        second = float(np.sort(ndimage.maximum(depth, parts, range(1, count + 1)))[-2])
        if 2 * second < NARROWEST * pixel:
            continue
        if found is None or cut / second < found.width / found.part:
            found = Waist(2 * float(cut), 2 * second)
    return found
