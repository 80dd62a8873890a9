"""How is one training example turned into many?

One random deformation is drawn for an example, as a field of source positions, and image, labels,
raters and guidance are all read through it (deform.py). Then the image alone is changed in
intensity and resolution (intensities.py). How far and how often is a matter of Settings
(variation.py).

All of it is float32, whatever the x64 flag says, and runs under jit, vmap and grad.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax._typing import ArrayLike, Float, Int, Key
from aistat_jax.nets.deform import deformation, sample
from aistat_jax.nets.example import Example
from aistat_jax.nets.intensities import vary_intensity
from aistat_jax.nets.variation import Settings


def augment(
    key: Key,
    example: Example,
    spacing_mm: Sequence[float] | Float[ArrayLike, " axis"],
    settings: Settings,
    *,
    patch: tuple[int, ...] | None = None,
    centre: Int[ArrayLike, " axis"] | None = None,
    outside: float | Float[ArrayLike, " channel"] = 0.0,
) -> Example:
    """A patch of an example, deformed about its own middle and changed in intensity.

    The patch is read straight from the whole array, so that what turns or stretches into it is
    real image as far as the array reaches. Beyond the array (voxel centres, with a linear fade
    over one voxel) the image is `outside`, all else is 0.

    Shapes: patch (axis,) sizes of what returns, by default the example's own; centre (axis,) the
    voxel that comes to index patch // 2 when nothing is deformed, by default the middle one;
    spacing_mm (axis,); outside one number, or (channel,). Returns float32 image (*patch, channel),
    int32 labels (*patch,), float32 raters (*patch, rater) and guidance (*patch, guide).
    Raises InputError when arrays, patch and spacing do not fit each other.

    >>> from aistat_jax.nets.variation import NO_AUGMENTATION
    >>> example = Example(jnp.ones((8, 8, 1)), jnp.ones((8, 8), dtype=jnp.int32))
    >>> key = jax.random.key(0)
    >>> augment(key, example, (2.0, 2.0), NO_AUGMENTATION, patch=(4, 4)).image.shape
    (4, 4, 1)
    """
    shape = example.labels.shape
    patch = shape if patch is None else tuple(patch)
    _check(example, patch, np.shape(spacing_mm))
    for_space, for_intensity = jax.random.split(key)
    middle = np.array(shape) // 2 if centre is None else centre
    start = jnp.asarray(middle, jnp.float32) - np.array(patch, np.float32) // 2
    source = deformation(for_space, patch, spacing_mm, settings)
    moved = sample(example, source + start.reshape(-1, *[1] * len(patch)), outside)
    return replace(moved, image=vary_intensity(for_intensity, jnp.asarray(moved.image), settings))


def augment_batch(
    key: Key,
    examples: Example,
    spacing_mm: Sequence[float] | Float[ArrayLike, " axis"],
    settings: Settings,
    *,
    patch: tuple[int, ...] | None = None,
    centres: Int[ArrayLike, "batch axis"] | None = None,
    outside: float | Float[ArrayLike, " channel"] = 0.0,
) -> Example:
    """`augment` for a batch: every example has its own key, and its own centre if given.

    Shapes: each array of examples has a leading axis batch; so has what returns.
    """

    def one(key: Key, example: Example, centre: ArrayLike | None) -> Example:
        return augment(
            key, example, spacing_mm, settings, patch=patch, centre=centre, outside=outside
        )

    keys = jax.random.split(key, len(examples.labels))
    return jax.vmap(one)(keys, examples, centres)


def _check(example: Example, patch: tuple[int, ...], spacing_shape: tuple[int, ...]) -> None:
    shape = example.labels.shape
    if len(shape) not in (2, 3):
        raise InputError(f"labels must be (u, v) or (i, j, k), got shape {shape}; vmap a batch")
    for name in ("image", "raters", "guidance"):
        array = getattr(example, name)
        if array is not None and (array.ndim != len(shape) + 1 or array.shape[:-1] != shape):
            raise InputError(
                f"{name} of shape {array.shape} does not match labels of shape {shape}; "
                f"expected {shape} and one more axis"
            )
    if len(patch) != len(shape) or spacing_shape != (len(shape),):
        raise InputError(
            f"labels of shape {shape} need a patch and a spacing of {len(shape)} numbers, "
            f"got patch {patch} and spacing of shape {spacing_shape}"
        )
