"""How near can a chart come to a shape at all, before any image is read?"""

from __future__ import annotations

from typing import Any

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.space.chart import Chart, linked, unlinked


def represented(
    chart: Chart,
    shape: Any,
    mask: Bool[np.ndarray, "*grid"],
    points: Float[np.ndarray, "*grid dims"],
    order: int | None = None,
    target: Any = None,
) -> float:
    """Dice of a mask with the boundary of a chart that comes nearest to its outline.

    `shape` is the mask's outline (a `Curve`, or a `Mesh` in space), `points` are the centres of its
    voxels. With an `order` the boundary is one that a model of so many functions can have: the
    least-squares fit of the predictor by the chart's basis, of what it differs by from the values
    that a `target` expects, where one is given. Edges and triangles between sites on a round shape
    lie within it: the same boundary made as large as the mask is tried too. Raises InputError where
    the chart has no boundary near to the shape.
    """
    values = chart.values_of(shape)
    low, high = chart.ends
    if chart.link == "log":
        low = np.maximum(low, 1e-3 * high)
    if order is not None:
        basis = chart.basis(order)
        functions = np.asarray(basis.functions)
        predictor = unlinked(chart.link, np.clip(values, low, high))
        expected = None if target is None else target.expected(chart, basis)
        known = 0.0 if expected is None else unlinked(chart.link, expected)
        fitted = known + functions @ np.linalg.lstsq(functions, predictor - known)[0]
        values = np.clip(linked(chart.link, fitted), *chart.ends)
    inside = chart.inside(values[None], points)[0]
    found, wanted = _dice(inside, mask), float(mask.sum())
    content = float(chart.content(values))
    more = content * (wanted / max(float(inside.sum()), 1.0) - 1)
    if chart.link == "log":
        values = values * (1 + more / max(content, 1e-300)) ** (1 / chart.dims)
    else:
        values = values + more / float(chart.weights(values).sum())
    whole = chart.inside(np.clip(values, low, high)[None], points)[0]
    return max(found, _dice(whole, mask))


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())
