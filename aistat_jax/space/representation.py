"""How near can a chart come to a shape at all, before any image is read?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array, ArrayLike, Bool, Float
from aistat_jax.space.basis import Basis
from aistat_jax.space.chart import Chart, linked, unlinked

# Steps of least squares to the nearest boundary where predictors are bent.
STEPS = 3


def represented(
    chart: Chart,
    shape: Any,
    mask: Bool[np.ndarray, "*grid"],
    points: Float[np.ndarray, "*grid dims"],
    basis: Basis | None = None,
    mean: Float[ArrayLike, "*site"] | float = 0.0,
    bend: Callable[[Array], Array] = jnp.asarray,
) -> float:
    """Dice of a mask with the boundary of a chart that comes nearest to its outline.

    `shape` is the mask's outline (a `Curve`, or a `Mesh` in space), `points` are the centres of its
    voxels. With a `basis` the boundary is one that a model can have whose predictor is mean +
    bend(functions @ coefficients), by least squares of the predictor. Edges and triangles between
    sites on a round shape lie within it: the same boundary made as large as the mask is tried too.
    Raises InputError where the chart has no boundary near to the shape.
    """
    values = chart.values_of(shape)
    low, high = chart.ends
    if chart.link == "log":
        low = np.maximum(low, 1e-3 * high)
    if basis is not None:
        wanted = unlinked(chart.link, np.clip(values, low, high)) - np.asarray(mean)
        fitted = np.asarray(mean) + _fitted(np.asarray(basis.functions), wanted, bend)
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


def _fitted(
    functions: Float[np.ndarray, "site basis"],
    wanted: Float[np.ndarray, " site"],
    bend: Callable[[Array], Array],
) -> Float[np.ndarray, " site"]:
    """The nearest of bend(functions @ coefficients), by Gauss and Newton's steps."""
    coefficients, tried = np.linalg.lstsq(functions, wanted)[0], []
    for step in range(1 + STEPS):
        field = jnp.asarray(functions @ coefficients)
        bent, slope = (np.asarray(v) for v in jax.jvp(bend, (field,), (jnp.ones_like(field),)))
        tried.append(bent)
        if step == STEPS or (slope == 1).all():
            break
        coefficients += np.linalg.lstsq(slope[:, None] * functions, wanted - bent)[0]
    return min(tried, key=lambda bent: float(np.square(wanted - bent).sum()))


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())
