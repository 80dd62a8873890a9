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
    that a `target` expects, where one is given. Raises InputError where the chart has no boundary
    near to the shape.
    """
    values = chart.values_of(shape)
    if order is not None:
        basis = chart.basis(order)
        functions = np.asarray(basis.functions)
        least = 1e-3 * chart.reach[1] if chart.link == "log" else -np.inf
        predictor = unlinked(chart.link, np.maximum(values, least))
        expected = None if target is None else target.expected(chart, basis)
        known = 0.0 if expected is None else unlinked(chart.link, expected)
        fitted = known + functions @ np.linalg.lstsq(functions, predictor - known)[0]
        values = np.clip(linked(chart.link, fitted), *chart.ends)
    inside = chart.inside(values[None], points)[0]
    return 2 * float((inside & mask).sum()) / float(inside.sum() + mask.sum())
