"""How is one training example turned into many?

One random deformation is drawn for an example, as a field of source positions, and image, labels
and raters are all read through it. Then the image alone is changed in intensity and resolution.

* Space: mirror, rotation and zoom in millimetres, after a cubic B-spline displacement.
* Intensity: noise, blur, coarser voxels, brightness, contrast, gamma.

All of it is float32, whatever the x64 flag says, and runs under jit, vmap and grad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, ArrayLike, Float, Int, Key

# Mean over position of the squared cubic B-spline weights along one axis.
_MEAN_SQUARE_WEIGHT = 151 / 315
# A B-spline deformation cannot fold while no control moves further than 0.403 of the control
# spacing along any axis in 3D, 0.488 in 2D (Choi & Lee 2000, Graphical Models 62).
_LARGEST_MOVE = 0.4
_DARKEST = 1e-7
_EXACT = jax.lax.Precision.HIGHEST  # positions in the TF32 of a GPU would be off by 0.1 voxel


@record
class Example:
    """What a network learns from: an image, its labels and, if several people drew, each of them.

    Shapes: image (*space, channel) normalised intensities; labels (*space,) whole numbers, 0 is
    background; raters (*space, rater) each rater's probability of foreground, or None. space is
    (u, v) or (i, j, k). A batch of examples has one more axis in front.
    """

    image: Float[ArrayLike, "*space channel"]
    labels: Int[ArrayLike, "*space"]
    raters: Float[ArrayLike, "*space rater"] | None = None


class Sometimes(NamedTuple):
    """A number drawn uniformly from [low, high] with a probability; otherwise nothing happens."""

    probability: float
    low: float
    high: float


NEVER = Sometimes(0.0, 0.0, 0.0)


@record
class Settings:
    """How far, and how often, an example is changed. Nothing here is traced by JAX.

    Ranges and probabilities are those of nnU-Net (Isensee et al. 2021, Nature Methods 18, as in
    the `nnUNetTrainer` of its version 2), with these differences: the elastic deformation, which
    nnU-Net switches off, is this project's own choice; zoom is log-uniform; blur has one sd for
    all axes; coarse voxels average over their width and are interpolated linearly, where nnU-Net
    picks the nearest voxel and interpolates cubically.

    rotation_deg: about the axis across the slices, and in 3D about the other two as well.
    zoom: magnification. mirror_axes: None for all; each is mirrored with mirror_probability.
    elastic_sd_mm: root mean square displacement along each axis, of a B-spline with a control
    point every elastic_spacing voxels. planar: the last of three axes is only mirrored, because
    its voxels are too long ("dummy 2D" in nnU-Net). noise_sd: in units of the image. blur_sd: in
    voxels. coarsening: width of a coarse voxel in voxels, at least 1. brightness: factor.
    contrast: factor about the mean, within the old range. gamma, gamma_inverted: exponent for
    the image and for its negative, mean and sd kept. When blur or coarsening happen, each channel
    is in it with channel_probability.
    """

    rotation_deg: Sometimes = static(default=Sometimes(0.2, -30.0, 30.0))
    zoom: Sometimes = static(default=Sometimes(0.2, 0.7, 1.4))
    mirror_axes: tuple[int, ...] | None = static(default=None)
    mirror_probability: float = static(default=0.5)
    elastic_sd_mm: Sometimes = static(default=Sometimes(0.2, 0.5, 3.0))
    elastic_spacing: float = static(default=32.0)
    planar: bool = static(default=False)
    noise_sd: Sometimes = static(default=Sometimes(0.1, 0.0, 0.1))
    blur_sd: Sometimes = static(default=Sometimes(0.2, 0.5, 1.0))
    coarsening: Sometimes = static(default=Sometimes(0.25, 1.0, 2.0))
    channel_probability: float = static(default=0.5)
    brightness: Sometimes = static(default=Sometimes(0.15, 0.75, 1.25))
    contrast: Sometimes = static(default=Sometimes(0.15, 0.75, 1.25))
    gamma_inverted: Sometimes = static(default=Sometimes(0.1, 0.7, 1.5))
    gamma: Sometimes = static(default=Sometimes(0.3, 0.7, 1.5))


NO_AUGMENTATION = Settings(
    rotation_deg=NEVER,
    zoom=NEVER,
    mirror_probability=0.0,
    elastic_sd_mm=NEVER,
    noise_sd=NEVER,
    blur_sd=NEVER,
    coarsening=NEVER,
    brightness=NEVER,
    contrast=NEVER,
    gamma_inverted=NEVER,
    gamma=NEVER,
)


def settings_for(patch: tuple[int, ...]) -> Settings:
    """nnU-Net's rules for a patch: how far to turn it, and whether to leave the third axis alone.

    2D: any angle, or 15 degrees when one side is over 1.5 times the other. 3D: 30 degrees about
    each axis; when the last side is under a third of the longest, any angle in plane only.

    >>> settings_for((64, 64, 16)).planar, settings_for((128, 64)).rotation_deg.high
    (True, 15.0)
    """
    if len(patch) == 2:
        turn = 15.0 if max(patch) > 1.5 * min(patch) else 180.0
        return Settings(rotation_deg=Sometimes(0.2, -turn, turn))
    if max(patch) > 3 * patch[-1]:
        return Settings(rotation_deg=Sometimes(0.2, -180.0, 180.0), planar=True)
    return Settings()


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
    over one voxel) the image is `outside`, labels and raters are 0.

    Shapes: patch (axis,) sizes of what returns, by default the example's own; centre (axis,) the
    voxel that comes to index patch // 2 when nothing is deformed, by default the middle one;
    spacing_mm (axis,); outside one number, or (channel,). Returns float32 image (*patch, channel),
    int32 labels (*patch,), float32 raters (*patch, rater).
    Raises InputError when image, labels, raters, patch and spacing do not fit each other.

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
    """Image, labels and raters read at fractional voxel positions, all by linear interpolation.

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

    fields = [flat(x) for x in (example.image, example.raters) if x is not None]
    beyond = [outside, 0.0]

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
    return Example(sums[0] + outside, _majority(votes), *sums[1:])


def vary_intensity(
    key: Key, image: Float[Array, "*space channel"], settings: Settings
) -> Float[Array, "*space channel"]:
    """The image with other noise, resolution, brightness, contrast and gamma; same shape.

    Settings of probability 0 cost nothing, and a change that is not drawn leaves the image
    exactly as it was.
    """
    keys = jax.random.split(key, 8)
    # Channel first: XLA on CPU reduces over contiguous axes six times faster.
    image = jnp.moveaxis(image, -1, 0)
    space = tuple(range(1, image.ndim))

    def drawn(key: Key, sometimes: Sometimes, neutral: float, each: float = 1.0) -> Array:
        return _draw(key, sometimes, neutral, image.shape[:1], each).reshape(-1, *[1] * len(space))

    softened = space[:2] if settings.planar else space
    if settings.noise_sd.probability > 0:
        sd = _draw(keys[0], settings.noise_sd, 0.0)
        image = image + sd * jax.random.normal(keys[1], image.shape, jnp.float32)
    if settings.blur_sd.probability > 0:
        sd = drawn(keys[2], settings.blur_sd, 0.0, settings.channel_probability)
        image = _blur(image, sd, softened, reach=int(np.ceil(3 * settings.blur_sd.high)))
    if settings.brightness.probability > 0:
        image = image * drawn(keys[3], settings.brightness, 1.0)
    if settings.contrast.probability > 0:
        factor = drawn(keys[4], settings.contrast, 1.0)
        stretched = image + (factor - 1) * (image - image.mean(space, keepdims=True))
        image = jnp.clip(stretched, *_range(image, space))
    if settings.coarsening.probability > 0:
        width = drawn(keys[5], settings.coarsening, 1.0, settings.channel_probability)
        image = _coarsen(image, width.reshape(-1), softened)
    if settings.gamma_inverted.probability > 0:
        image = -_gamma(-image, drawn(keys[6], settings.gamma_inverted, 1.0), space)
    if settings.gamma.probability > 0:
        image = _gamma(image, drawn(keys[7], settings.gamma, 1.0), space)
    return jnp.moveaxis(image, 0, -1)


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


def _check(example: Example, patch: tuple[int, ...], spacing_shape: tuple[int, ...]) -> None:
    shape = example.labels.shape
    if len(shape) not in (2, 3):
        raise InputError(f"labels must be (u, v) or (i, j, k), got shape {shape}; vmap a batch")
    for name, array in (("image", example.image), ("raters", example.raters)):
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


def _draw(
    key: Key, sometimes: Sometimes, neutral: float, shape: tuple[int, ...] = (), each: float = 1.0
) -> Float[Array, "..."]:
    """Uniform numbers, or `neutral` when the whole thing, or one of them, is left alone."""
    value, takes_part, happens = jax.random.uniform(key, (3, *shape), jnp.float32)
    value = sometimes.low + (sometimes.high - sometimes.low) * value
    happens = happens.reshape(-1)[0] < sometimes.probability
    return jnp.where(happens & (takes_part < each), value, neutral)


def _affine(key: Key, dim: int, settings: Settings) -> Float[Array, "axis axis"]:
    """The matrix, in mm, from an offset in the patch to the offset it is read from."""
    keys = jax.random.split(key, 3)
    flat = dim == 2 or settings.planar
    turns = _draw(keys[0], settings.rotation_deg, 0.0, (1 if flat else 3,))
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
    scale = jnp.exp(_draw(keys[1], zoom, 0.0)) * np.ones(dim, np.float32)
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
    sd = _draw(for_sd, settings.elastic_sd_mm, 0.0) / _MEAN_SQUARE_WEIGHT ** (dim / 2)
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


def _blur(
    image: Float[Array, "channel ..."],
    sd: Float[Array, "channel ..."],
    axes: Sequence[int],
    reach: int,
) -> Float[Array, "channel ..."]:
    """Convolution with a Gaussian of sd voxels along each axis, cut at `reach`; as it is for 0.

    Sums of shifted copies: XLA on CPU fuses them, and runs grouped convolutions slowly.
    """
    lags = range(-reach, reach + 1)
    weights = [jnp.exp(-0.5 * jnp.square(lag / jnp.maximum(sd, 1e-3))) for lag in lags]
    total = sum(weights)
    for axis in axes:
        count = image.shape[axis]
        ends = [(reach, reach) if axis == n else (0, 0) for n in range(image.ndim)]
        padded = jnp.pad(image, ends, mode="edge")
        image = sum(
            (
                weight / total * jax.lax.slice_in_dim(padded, n, n + count, axis=axis)
                for n, weight in enumerate(weights)
            ),
            jnp.zeros_like(image),
        )
    return image


def _coarsen(
    image: Float[Array, "channel ..."], width: Float[Array, " channel"], axes: Sequence[int]
) -> Float[Array, "channel ..."]:
    """Means over coarse voxels `width` voxels wide, interpolated linearly back to the old grid.

    Separable, so a matrix product along each axis.
    """
    matrices = {n: jax.vmap(_coarsening, (None, 0))(n, width) for n in {*image.shape[1:]}}
    for axis in axes:
        rows = jnp.moveaxis(image, axis, 1)
        matrix = matrices[image.shape[axis]]
        rows = jnp.einsum("cxy,cy...->cx...", matrix, rows, precision=_EXACT)
        image = jnp.moveaxis(rows, 1, axis)
    return image


def _coarsening(count: int, width: Float[Array, ""]) -> Float[Array, "voxel voxel"]:
    """What each voxel reads of the others along one axis; the identity for width 1."""
    x = np.arange(count, dtype=np.float32) - count // 2  # a coarse voxel on a fine one
    place = x[:, None] / width
    below = jnp.floor(place)

    def overlap(coarse: Array) -> Array:
        left, right = (coarse - 0.5) * width, (coarse + 0.5) * width
        return jnp.maximum(0, jnp.minimum(right, x + 0.5) - jnp.maximum(left, x - 0.5))

    weights = (1 - place + below) * overlap(below) + (place - below) * overlap(below + 1)
    return weights / weights.sum(axis=1, keepdims=True)


def _range(image: Float[Array, "channel ..."], space: Sequence[int]) -> tuple[Array, Array]:
    """Smallest and largest value of each channel, taken as constants by gradients: XLA may work
    an image out twice, not to the last bit, and then no voxel is found to be the smallest."""
    low, high = (f(image, space, keepdims=True) for f in (jnp.min, jnp.max))
    return jax.lax.stop_gradient(low), jax.lax.stop_gradient(high)


def _gamma(
    image: Float[Array, "channel ..."], gamma: Float[Array, "channel ..."], space: Sequence[int]
) -> Float[Array, "channel ..."]:
    """Raise each channel, scaled to [0, 1], to a power, and give it back its mean and sd."""

    def moments(x: Array) -> tuple[Array, Array]:
        mean = x.mean(space, keepdims=True)
        return mean, jnp.sqrt(jnp.square(x - mean).mean(space, keepdims=True) + 1e-14)

    low, high = _range(image, space)
    unit = (image - low) / jnp.maximum(high - low, _DARKEST)
    # Six times faster than the power, and its gradient is finite at the darkest voxel.
    curved = jnp.exp(gamma * jnp.log(jnp.maximum(unit, _DARKEST)))
    (mean, sd), (new_mean, new_sd) = moments(image), moments(curved)
    return jnp.where(gamma == 1, image, (curved - new_mean) * (sd / new_sd) + mean)
