"""How is a convolution computed? On a CPU by what XLA does well there, elsewhere natively.

XLA convolves 2D channels-last arrays well on a CPU and 3D ones badly, so that there a 3D
convolution is made of 2D ones along its slices, as few of them as Winograd's minimal filtering
allows; and the gradient of a kernel is a sum of matrix products. Weights and results are the same
everywhere, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._typing import Array, Float

BLOCK = 2048  # outputs a block of the kernel gradient: they stay in the cache
FEW = 128**2  # outputs of an image up to which sums of its rows stay there too
FEWEST = 8  # features: at 4 neither is faster (96^3, 2 cores), and joining takes less memory


def convolve(
    x: Float[Array, "batch *space feature"],
    kernel: Float[Array, "*window feature out"],
    strides: Sequence[int],
) -> Float[Array, "batch *smaller out"]:
    """Cross-correlation with odd windows and zero padding of half a window on either side.

    Shapes: x (batch, *space, feature); kernel (*window, feature, out), 2D or 3D; strides (dims,).
    """
    strides = tuple(strides)
    window = kernel.shape[:-2]
    if math.prod(window) == math.prod(strides) == 1:
        return x @ kernel.reshape(kernel.shape[-2:])
    on_cpu = by_rows if len(window) == 2 else by_slices
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, w: on_cpu(x, w, strides),
        default=lambda x, w: _native(x, w, strides),
    )


def _native(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    letters = "DHW"[-len(strides) :]
    return jax.lax.conv_general_dilated(
        x, kernel, strides, [(size // 2, size // 2) for size in kernel.shape[:-2]],
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )  # fmt: skip


def by_slices(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """A 3D convolution made of 2D ones over slices."""
    minimal = kernel.shape[0] == 3 and math.prod(strides) == 1 and x.dtype == jnp.float32
    if minimal and x.shape[-1] >= FEWEST and x.shape[1] > 1:
        return by_filtering(x, kernel)
    return by_joining(x, kernel, strides)


def by_joining(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """A 3D convolution as one 2D convolution over slices joined with their neighbours."""
    depth, window = x.shape[1], kernel.shape[0]
    half = window // 2
    padded = _padded_slices(x, half, half)
    last = depth + 2 * half - window + 1
    slices = [padded[:, k : k + last : strides[0]] for k in range(window)]
    joined = jnp.concatenate(slices, axis=-1)
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    out = jnp.asarray(by_rows(_over_slices(joined), flat, strides[1:]))
    return out.reshape(*joined.shape[:2], *out.shape[1:])


class Filtering(NamedTuple):
    """Winograd's F(n, 3): n neighbouring outputs of a window of three by n + 2 products, not 3 n.

    With x the n + 2 values they depend on, the outputs are A' [(G kernel) * (B' x)]: here
    `inputs` is B' (product, value), `kernel` G (product, 3) and `outputs` A (product, output).
    Source: Winograd 1980; Lavin & Gray 2016, equations 4 to 7 and section 4.3.
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray


TWO = Filtering(
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 0], [1, 1], [1, -1], [0, -1]], float),
)
FOUR = Filtering(
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        float,
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array(
        [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]],
        float,
    ),
)


def _filtering(depth: int) -> tuple[Filtering, int]:
    """The filtering with fewer products, and how many groups of slices it takes."""

    def products(f: Filtering) -> int:
        return len(f.outputs) * _groups(depth, f)

    best = min((TWO, FOUR), key=products)
    return best, _groups(depth, best)


def _groups(depth: int, filtering: Filtering) -> int:
    return -(-depth // filtering.outputs.shape[1])


@jax.custom_vjp
def by_filtering(x: Array, kernel: Array) -> Array:
    """A 3D convolution as 2D ones over sums of slices: 6 for every 4 slices, where 12 were due.

    Where fewer do, 4 for every 2. Rounding errors are two to four times those of the direct sum.
    """
    filtering, groups = _filtering(x.shape[1])
    parts = [_over_slices(part) for part in _inputs(x, filtering, groups)]
    sums = _combinations(parts, filtering.inputs)
    kernels = _combinations(kernel, filtering.kernel)
    products = [_native(v, w, (1, 1)) for v, w in zip(sums, kernels, strict=True)]
    outputs = jnp.stack(_combinations(products, filtering.outputs.T), axis=1)
    return outputs.reshape(len(x), -1, *outputs.shape[2:])[:, : x.shape[1]]


def _filtering_forward(x: Array, kernel: Array) -> tuple[Array, Any]:
    return by_filtering(x, kernel), (x, kernel)


def _filtering_backward(saved: Any, slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    turned = jnp.flip(kernel, (0, 1, 2)).swapaxes(-1, -2)
    before = by_slices(slope, turned, (1, 1, 1))
    with jax.named_scope("kernel gradient"):

        def of_slices(v: Array, s: Array) -> Array:
            return _gradient_of_kernel(_over_slices(v), _over_slices(s), kernel[0], (1, 1))

        return before, _filtered_gradient(x, slope, of_slices)


by_filtering.defvjp(_filtering_forward, _filtering_backward)


def _filtered_gradient(x: Array, slope: Array, of_product: Callable[..., Array]) -> Array:
    """That of a kernel of three along the second axis, from those of the products' kernels."""
    filtering, groups = _filtering(x.shape[1])
    n = filtering.outputs.shape[1]
    padded = _padded_slices(slope, 0, n * groups - slope.shape[1])
    sums = _combinations(_inputs(x, filtering, groups), filtering.inputs)
    slopes = _combinations([padded[:, i::n] for i in range(n)], filtering.outputs)
    of_products = [of_product(v, s) for v, s in zip(sums, slopes, strict=True)]
    return jnp.stack(_combinations(of_products, filtering.kernel.T))


def _inputs(x: Array, filtering: Filtering, groups: int) -> list[Array]:
    """The k-th slice that each group of outputs depends on, for every k; slices outside are 0.

    Each entry (batch, groups, *rest of the slice).
    """
    count, n = filtering.outputs.shape
    padded = _padded_slices(x, 1, n * groups - x.shape[1] + 1)
    return [padded[:, k : k + n * (groups - 1) + 1 : n] for k in range(count)]


def _padded_slices(x: Array, before: int, after: int) -> Array:
    return jnp.pad(x, ((0, 0), (before, after), *((0, 0),) * (x.ndim - 2)))


def _over_slices(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])


def _combinations(parts: Sequence[Array] | Array, matrix: np.ndarray) -> list[Array]:
    return [_combined(parts, row) for row in matrix]


def _combined(parts: Sequence[Array] | Array, weights: np.ndarray) -> Array:
    """The weighted sum of parts, written out: a matrix product would copy them first."""
    terms = [
        part if weight == 1 else float(weight) * part
        for part, weight in zip(parts, weights, strict=True)
        if weight
    ]
    return reduce(jnp.add, terms)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def by_rows(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    """A 2D convolution whose kernel gradient is a sum of matrix products.

    XLA's own took one and a half to nine times as long as the forward pass on a CPU (the more, the
    more outputs). Over blocks of rows it is 0.5 to 0.75 of that (16^2 to 256^2 outputs, 32 to 256
    features); where rows are few, minimal filtering of all at once takes half the products.
    """
    return _native(x, kernel, strides)


def _forward(x: Array, kernel: Array, strides: tuple[int, ...]) -> tuple[Array, Any]:
    return _native(x, kernel, strides), (x, kernel)


def _backward(strides: tuple[int, ...], saved: Any, slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if math.prod(strides) == 1:  # as a forward pass, which XLA does faster than its own gradient
        before = _native(slope, jnp.flip(kernel, (0, 1)).swapaxes(-1, -2), strides)
    else:
        _, pull = jax.vjp(lambda x: _native(x, kernel, strides), x)
        before = pull(slope)[0]
    with jax.named_scope("kernel gradient"):
        return before, _gradient_of_kernel(x, slope, kernel, strides)


by_rows.defvjp(_forward, _backward)


def _gradient_of_kernel(x: Array, slope: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
    if math.prod(kernel.shape[:2]) == 1:
        _, pull = jax.vjp(lambda w: _native(x, w, strides), kernel)
        return pull(slope)[0]
    rows, columns, features = x.shape[1:]
    few = math.prod(strides) == 1 and kernel.shape[0] == 3 and rows * columns <= FEW
    if few and min(rows, features) >= FEWEST and x.dtype == jnp.float32:
        return _by_images(x, slope, kernel.shape)
    return _by_blocks(x, slope, kernel.shape, strides)


def _by_images(x: Array, slope: Array, shape: tuple[int, ...]) -> Array:
    """`_filtered_gradient` along rows, summed over as many images at a time as have FEW outputs."""
    batch, rows, columns, _ = slope.shape
    images = _divisor(batch, FEW // (rows * columns))
    of_rows = partial(_of_rows, columns=shape[1])
    if images == batch:
        return _filtered_gradient(x, slope, of_rows)

    def add(total: Array, some: tuple[Array, Array]) -> tuple[Array, None]:
        return total + _filtered_gradient(some[0], some[1], of_rows), None

    xs, slopes = (v.reshape(-1, images, *v.shape[1:]) for v in (x, slope))
    return jax.lax.scan(add, jnp.zeros(shape, x.dtype), (xs, slopes))[0]


def _of_rows(x: Array, slope: Array, columns: int) -> Array:
    """The kernel gradient (columns, feature, out) of a convolution along rows alone.

    What has fewer features is shifted, by all columns at once.
    """
    features, out, half = x.shape[-1], slope.shape[-1], columns // 2
    padding = (*((0, 0),) * (x.ndim - 2), (half, half), (0, 0))
    turned = out <= features
    moved = jnp.pad(slope if turned else x, padding)
    shifts = [moved[..., j : j + x.shape[-2], :] for j in range(columns)]
    wide = jnp.concatenate(shifts[::-1] if turned else shifts, axis=-1)
    if turned:
        found = x.reshape(-1, features).T @ wide.reshape(-1, columns * out)
        return found.reshape(features, columns, out).swapaxes(0, 1)
    return (wide.reshape(-1, columns * features).T @ slope.reshape(-1, out)).reshape(
        columns, features, out
    )


def _by_blocks(x: Array, slope: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """Sum over blocks of about BLOCK outputs of x shifted, transposed, times the slope.

    Where the slope has no more features than x and no steps, it is the slope that is shifted, by
    all columns at once: a third as many products, of matrices three times as wide. Zeros around
    the edge are put in block by block: a padded copy of the whole would leave the cache.
    """
    batch, rows, columns, out = slope.shape
    features = x.shape[-1]
    images = _divisor(batch, BLOCK // (rows * columns))
    height = _divisor(rows, BLOCK // columns)
    reach = [(n - 1) * s + 1 for n, s in zip((height, columns), strides, strict=True)]
    above, beside = (size // 2 for size in shape[:2])
    turned = math.prod(strides) == 1 and out <= features
    in_x, in_slope = (0, beside) if turned else (beside, 0)
    needed = reach[0] + 2 * above
    there = min(needed, x.shape[1])

    def add(total: Array, place: Array) -> tuple[Array, None]:
        image, row = (place // (rows // height)) * images, 0
        if height < rows:
            row = (place % (rows // height)) * height
        wanted = row * strides[0] - above
        start = jnp.clip(wanted, 0, x.shape[1] - there)
        block = jax.lax.dynamic_slice(
            x, (image, start, 0, 0), (images, there, x.shape[2], features)
        )
        block = jnp.pad(block, ((0, 0), (above, above), (in_x, in_x), (0, 0)))
        block = jax.lax.dynamic_slice_in_dim(block, wanted - start + above, needed, 1)
        slopes = jax.lax.dynamic_slice(slope, (image, row, 0, 0), (images, height, columns, out))
        slopes = jnp.pad(slopes, ((0, 0), (0, 0), (in_slope, in_slope), (0, 0)))
        if turned:
            shifts = [slopes[:, :, j : j + columns] for j in reversed(range(shape[1]))]
            wide = jnp.concatenate(shifts, axis=-1).reshape(-1, shape[1] * out)
            shifted = [block[:, i : i + height] for i in range(shape[0])]
        else:
            wide = slopes.reshape(-1, out)
            shifted = [
                block[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]]
                for i in range(shape[0])
                for j in range(shape[1])
            ]
        return total + jnp.stack([part.reshape(-1, features).T @ wide for part in shifted]), None

    blocks = jnp.arange((batch // images) * (rows // height))
    parts, width = (shape[0], shape[1] * out) if turned else (math.prod(shape[:2]), out)
    total, _ = jax.lax.scan(add, jnp.zeros((parts, features, width), slope.dtype), blocks)
    if turned:
        total = total.reshape(shape[0], features, shape[1], out).transpose(0, 2, 1, 3)
    return total.reshape(shape)


def _divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is at most `most`, and at least 1."""
    return max(d for d in range(1, count + 1) if count % d == 0 and d <= max(most, 1))
