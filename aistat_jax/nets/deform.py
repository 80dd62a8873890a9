"""How do image and labels move together? Both are read through one field of source positions.

Mirror, rotation and zoom, in millimetres, after a random displacement by a cubic B-spline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array, ArrayLike, Float, Int, Key
from aistat_jax.nets.example import Example
from aistat_jax.nets.variation import Settings

# Mean over position of the squared cubic B-spline weights along one axis.
_MEAN_SQUARE_WEIGHT = 151 / 315
# A cubic B-spline deformation is locally injective while no control moves further than 1 / 2.479 =
# 0.403 of the control spacing along any axis in 3D, 1 / 2.046 = 0.488 in 2D (Choi & Lee 2000,
# Graphical Models 62).
_LARGEST_MOVE = 0.4
_EXACT = jax.lax.Precision.HIGHEST  # positions in the TF32 of a GPU would be off by 0.1 voxel


def deformation(
    key: Key,
    patch: tuple[int, ...],
    spacing_mm: Sequence[float] | Float[ArrayLike, " axis"],
    settings: Settings,
) -> Float[Array, "axis ..."]:
    """Where each voxel of a patch is read from, as a position in the patch's own voxels.

    source = middle + A (x - middle + d(x)), in mm: A undoes mirror, rotation and zoom about the
    middle (n - 1) / 2 of the patch, d is the B-spline displacement. Neither folds, so neither
    does the whole. A positive angle turns the image from each axis towards the next.
    """
    dim = len(patch)
    spacing = jnp.asarray(spacing_mm, jnp.float32)
    for_affine, for_elastic = jax.random.split(key)
    # Spacing enters as ratios, so that the identity is exact.
    matrix = _affine(for_affine, dim, settings) * spacing[None, :] / spacing[:, None]
    middle = [np.float32((n - 1) / 2) for n in patch]
    places: list[Array] = [
        (jnp.arange(patch[a], dtype=jnp.float32) - middle[a]).reshape(
            [-1 if a == b else 1 for b in range(dim)]
        )
        for a in range(dim)
    ]
    if settings.elastic_sd_mm.probability > 0:
        moved = 2 if settings.planar else dim
        shift = _displacement(for_elastic, patch[:moved], spacing[:moved], settings)
        for axis in range(moved):
            # A planar displacement is the same in every slice.
            whole = shift[axis].reshape(patch[:moved] + (1,) * (dim - moved))
            places[axis] = places[axis] + whole / spacing[axis]
    rows = [sum((matrix[a, b] * places[b] for b in range(dim)), middle[a]) for a in range(dim)]
    return jnp.stack([jnp.broadcast_to(row, patch) for row in rows])


def sample(
    example: Example,
    source: Float[Array, "axis ..."],
    outside: float | Float[ArrayLike, " channel"] = 0.0,
) -> Example:
    """Image, labels, raters and guidance at fractional voxel positions, interpolated linearly.

    A label is the one with the largest linearly interpolated indicator (the lowest corner's in a
    tie). So two classes meet where the indicator crosses one half, as in `contours_from_mask`,
    and where an image of the same mask, read at the same places, does; the nearest label would
    leave steps. The indicators are compared over the corners of a cell only, so that neither the
    number of classes nor a one-hot array is needed.

    Shapes: source (axis, *patch), index (0, 0) at the first voxel's centre.
    """
    shape = example.labels.shape
    dim, patch = len(shape), source.shape[1:]
    below = jnp.floor(source)
    above = source - below
    below = below.astype(jnp.int32)
    strides = np.append(np.cumprod(shape[:0:-1])[::-1], 1).astype(np.int32)

    def flat(array: ArrayLike, dtype: type = jnp.float32) -> Array:
        return jnp.asarray(array, dtype).reshape(-1, *np.shape(array)[dim:])

    def corner(step: Sequence[int] | Array) -> tuple[Array, Array, Array]:
        """Flat index and weight of one corner of every cell, and whether it is in the array."""
        index, weight, inside = jnp.int32(0), jnp.float32(1), jnp.bool_(True)
        for axis in range(dim):
            at = below[axis] + step[axis]
            inside &= (at >= 0) & (at < shape[axis])
            index += at * strides[axis]
            weight *= jnp.where(step[axis] == 1, above[axis], 1 - above[axis])
        return jnp.where(inside, index, 0), weight, inside

    soft = {name: getattr(example, name) for name in ("raters", "guidance")}
    soft = {name: array for name, array in soft.items() if array is not None}
    fields = [flat(x) for x in (example.image, *soft.values())]
    beyond = [outside, 0.0, 0.0]

    def add(sums: list[Array], step: Array) -> tuple[list[Array], None]:
        index, weight, inside = corner(step)
        within = jnp.where(inside, weight, 0)[..., None]
        values = [field.at[index].get(mode="promise_in_bounds") for field in fields]
        each = zip(sums, values, beyond, strict=False)
        return [total + within * (value - far) for total, value, far in each], None

    # A scan, because XLA on CPU would put an unrolled sum into each of its later uses, and so
    # read the image seven times over for a blur. The labels have one use: unrolled is faster.
    steps = [*product((0, 1), repeat=dim)]
    zeros = [jnp.zeros((*patch, field.shape[1]), jnp.float32) for field in fields]
    sums, _ = jax.lax.scan(add, zeros, jnp.array(steps, dtype=jnp.int32))
    labels, votes = flat(example.labels, jnp.int32), []
    for step in steps:
        index, weight, inside = corner(step)
        label = labels.at[index].get(mode="promise_in_bounds")
        votes.append((jnp.where(inside, label, 0), weight))
    return Example(sums[0] + outside, _majority(votes), **dict(zip(soft, sums[1:], strict=True)))


def bspline_basis(count: int, spacing: float) -> Float[np.ndarray, "voxel control"]:
    """Weight of each control point of a uniform cubic B-spline at voxels 0 ... count - 1.

    Control point k lies at voxel (k - 1) * spacing. Rows sum to one.
    """
    cell, t = np.divmod(np.arange(count) / spacing, 1.0)
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    basis = np.zeros((count, int(cell[-1]) + 4))
    control = cell.astype(int)[:, None] + np.arange(4)
    np.put_along_axis(basis, control, weights / 6, axis=1)
    return basis.astype(np.float32)


def bspline_field(
    coefficients: Float[ArrayLike, "axis ..."], bases: Sequence[Float[ArrayLike, "_ _"]]
) -> Float[Array, "axis ..."]:
    """The tensor-product B-spline with these coefficients, one basis (voxel, control) an axis."""
    field = jnp.asarray(coefficients, jnp.float32)
    for basis in bases:
        field = jnp.tensordot(field, jnp.asarray(basis), axes=((1,), (1,)), precision=_EXACT)
    return field


def _affine(key: Key, dim: int, settings: Settings) -> Float[Array, "axis axis"]:
    """The matrix, in mm, from an offset in the patch to the offset it is read from."""
    keys = jax.random.split(key, 3)
    flat = dim == 2 or settings.planar
    turns = settings.rotation_deg.draw(keys[0], 0.0, (1 if flat else 3,))
    angles = jnp.deg2rad(turns)
    rotation = jnp.eye(dim, dtype=jnp.float32)
    for n, (a, b) in enumerate(((0, 1), (1, 2), (2, 0))[: len(turns)]):
        cos, sin = jnp.cos(angles[n]), jnp.sin(angles[n])
        plane = jnp.eye(dim, dtype=jnp.float32).at[a, a].set(cos).at[b, b].set(cos)
        plane = plane.at[b, a].set(sin).at[a, b].set(-sin)
        rotation = jnp.matmul(plane, rotation, precision=_EXACT)
    zoom = settings.zoom._replace(
        low=math.log(settings.zoom.low or 1.0), high=math.log(settings.zoom.high or 1.0)
    )
    scale = jnp.exp(zoom.draw(keys[1], 0.0)) * np.ones(dim, np.float32)
    if settings.planar:
        scale = scale.at[2:].set(1.0)
    axes = range(dim) if settings.mirror_axes is None else settings.mirror_axes
    allowed = np.isin(np.arange(dim), axes)
    flips = jax.random.uniform(keys[2], (dim,), jnp.float32) < settings.mirror_probability
    mirror = jnp.where(flips & allowed, -1.0, 1.0).astype(jnp.float32)
    return rotation.T * (mirror / scale)[None, :]


def _displacement(
    key: Key, patch: tuple[int, ...], spacing_mm: Float[Array, " axis"], settings: Settings
) -> Float[Array, "axis ..."]:
    """A random B-spline displacement in mm, of the drawn root mean square along each axis."""
    for_sd, for_controls = jax.random.split(key)
    dim = len(patch)
    bases = [bspline_basis(n, settings.elastic_spacing) for n in patch]
    sd = settings.elastic_sd_mm.draw(for_sd, 0.0) / _MEAN_SQUARE_WEIGHT ** (dim / 2)
    controls = (dim, *(basis.shape[1] for basis in bases))
    moves = sd * jax.random.normal(for_controls, controls, jnp.float32)
    limit = _LARGEST_MOVE * settings.elastic_spacing * spacing_mm.reshape(-1, *[1] * dim)
    return bspline_field(jnp.clip(moves, -limit, limit), bases)


def _majority(votes: Sequence[tuple[Array, Array]]) -> Int[Array, "*patch"]:
    """The label with the largest sum of weights over the corners of a cell."""
    best, most = votes[0][0], jnp.float32(-1)
    for label, _ in votes:
        count = sum(jnp.where(other == label, weight, 0) for other, weight in votes)
        best = jnp.where(count > most, label, best)
        most = jnp.maximum(count, most)
    return best
