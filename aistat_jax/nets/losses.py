"""What does the network learn from? Overlap and log-probability, against hard or soft labels.

Every function takes logits (batch, *space, class) and labels that are either hard, whole numbers
(batch, *space), or soft, a probability for each class (batch, *space, class): the share of raters
who drew it, say, or the share of a coarse voxel it fills. Class 0 is background. Computed in
float32 whatever the logits' type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from aistat_jax._errors import InputError
from aistat_jax._typing import Array, ArrayLike, Float, Int

Logits = Float[ArrayLike, "batch *space class"]
Labels = Int[ArrayLike, "batch *space"] | Float[ArrayLike, "batch *space class"]
SMOOTH = 1e-5


def soft_dice(
    logits: Logits, labels: Labels, *, batch_dice: bool = False
) -> Float[Array, "group foreground"]:
    """Soft Dice coefficient of each foreground class: 1 is perfect.

    (2 sum min(p, t) + s) / (sum p + sum t + s), p the softmax, t the label's probability and s
    SMOOTH. For hard labels min(p, t) = p t, the usual soft Dice; for soft ones the product is
    largest for a p of zeros and ones, while this is largest for p = t (Wang et al. 2023, Dice
    semimetric losses, MICCAI). s makes 0 / 0 a perfect 1; but an absent class that is predicted
    at all counts as missed, with hardly any gradient, so batch_dice helps where lesions are small
    or missing.

    Shapes: returns (batch, class - 1), or (1, class - 1) with batch_dice, which sums over the
    batch before dividing. Raises InputError when the shapes do not fit.
    """
    probability, target = jax.nn.softmax(_float(logits), axis=-1), _target(logits, labels)
    axes = tuple(range(0 if batch_dice else 1, target.ndim - 1))

    def total(values: Array) -> Array:
        sums = jnp.sum(values[..., 1:], axis=axes)
        return sums[None] if batch_dice else sums

    overlap = 2 * total(jnp.minimum(probability, target))
    return (overlap + SMOOTH) / (total(probability) + total(target) + SMOOTH)


def cross_entropy(logits: Logits, labels: Labels) -> Float[Array, ""]:
    """Mean over voxels of -sum_c t_c log p_c, in nats.

    A proper score: for soft labels it is smallest at p = t, where it equals their entropy.
    Raises InputError when the shapes do not fit.
    """
    log_probability = jax.nn.log_softmax(_float(logits))
    return -jnp.mean(jnp.sum(_target(logits, labels) * log_probability, axis=-1))


def dice_and_cross_entropy(
    logits: Logits, labels: Labels, *, batch_dice: bool = False
) -> Float[Array, ""]:
    """One minus the mean `soft_dice`, plus cross-entropy, one to one as in nnU-Net (Isensee et
    al. 2021).

    >>> labels = jnp.array([[0, 1, 1, 0]])
    >>> bool(dice_and_cross_entropy(50.0 * jax.nn.one_hot(labels, 2), labels) < 1e-5)
    True
    """
    overlap = jnp.mean(soft_dice(logits, labels, batch_dice=batch_dice))
    return 1 - overlap + cross_entropy(logits, labels)


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Weight of each decoder level, finest first: 1, 1/2, 1/4, ..., 0, scaled to sum to one.

    The coarsest is dropped, unless it is the only one (nnU-Net).
    Raises InputError for fewer than one level.

    >>> deep_supervision_weights(3)
    (0.6666666666666666, 0.3333333333333333, 0.0)
    """
    if levels < 1:
        raise InputError(f"deep supervision needs at least one level, got {levels}")
    raw = [2.0**-n for n in range(levels)]
    if levels > 1:
        raw[-1] = 0.0
    return tuple(weight / sum(raw) for weight in raw)


def deep_supervision_loss(
    logits: Sequence[Float[ArrayLike, "batch ... class"]],
    labels: Labels,
    loss: Callable[[Logits, Labels], Float[Array, ""]] = dice_and_cross_entropy,
) -> Float[Array, ""]:
    """Weighted sum of a loss over decoder levels, labels pooled to the resolution of each.

    Shapes: logits from fine to coarse, the first on the labels' grid; the sizes of each level
    divide those of the first. `loss` is called for each level whose weight
    (`deep_supervision_weights`) is not 0. Raises InputError when a level does not divide the first.
    """
    total = jnp.zeros((), jnp.float32)
    target = _target(logits[0], labels)
    for share, level in zip(deep_supervision_weights(len(logits)), logits, strict=True):
        if share == 0:
            continue
        space = tuple(level.shape[1:-1])
        # A finest level stays hard labels; soft ones of zeros and ones would say the same.
        here = labels if level.shape == logits[0].shape else pool(target, space)
        total = total + share * loss(level, here)
    return total


def pool(
    values: Float[ArrayLike, "batch *fine feature"], space: tuple[int, ...]
) -> Float[Array, "batch *coarse feature"]:
    """Mean of the fine voxels in each coarse one, for labels the share that each class fills.

    The nearest label instead would keep one fine voxel of each block: a lesion smaller than a
    block vanishes or doubles, and the boundary moves by up to half a coarse voxel, always to the
    same side. The share keeps every class's volume, and commutes with mirroring.

    Shapes: space, the coarse sizes; each divides the fine one. Raises InputError if not.
    """
    values = jnp.asarray(values)
    fine = values.shape[1:-1]
    if len(fine) != len(space) or any(n % m for n, m in zip(fine, space, strict=True)):
        raise InputError(
            f"labels of sizes {fine} cannot be pooled to {space}; "
            "choose a patch whose sizes are multiples of the network's total stride"
        )
    blocks = [size for n, m in zip(fine, space, strict=True) for size in (m, n // m)]
    split = values.reshape(values.shape[0], *blocks, values.shape[-1])
    return split.mean(axis=tuple(range(2, 2 * len(space) + 1, 2)))


def overlap_counts(logits: Logits, labels: Labels) -> Float[Array, "foreground 3"]:
    """Voxels in common, predicted and true of each foreground class, over the whole batch.

    Sums of these over batches give the Dice coefficient of a whole validation set. A voxel counts
    for its most probable class; soft labels likewise.
    """
    classes = logits.shape[-1]
    target = jnp.argmax(_target(logits, labels), axis=-1)
    truth = jax.nn.one_hot(target, classes, dtype=jnp.float32)
    predicted = jax.nn.one_hot(jnp.argmax(_float(logits), -1), classes, dtype=jnp.float32)
    axes = tuple(range(truth.ndim - 1))
    sums = [jnp.sum(x[..., 1:], axis=axes) for x in (truth * predicted, predicted, truth)]
    return jnp.stack(sums, axis=-1)


def log_odds(logits: Float[ArrayLike, "*batch class"], label: int = 1) -> Float[Array, "*batch"]:
    """log p_label / (1 - p_label), from logits without ever forming a probability.

    logit_l - logsumexp of the others; exact where the softmax would round to 0 or 1.
    Raises InputError for a label that is not a class, or fewer than two classes.

    >>> float(log_odds(jnp.array([0.0, 3.0])))
    3.0
    """
    classes = logits.shape[-1]
    if classes < 2 or not 0 <= label < classes:
        raise InputError(f"label {label} needs to be one of at least two classes, got {classes}")
    values = _float(logits)
    others = jnp.concatenate([values[..., :label], values[..., label + 1 :]], axis=-1)
    return values[..., label] - jax.nn.logsumexp(others, axis=-1)


def _float(values: ArrayLike) -> Array:
    return jnp.asarray(values, dtype=jnp.float32)


def _target(logits: Logits, labels: Labels) -> Float[Array, "batch *space class"]:
    """The probability of each class that the labels state."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != logits.shape:
            raise InputError(
                f"soft labels of shape {labels.shape} do not match logits of shape {logits.shape}"
            )
        return _float(labels)
    if labels.shape != logits.shape[:-1]:
        raise InputError(
            f"labels of shape {labels.shape} do not match logits of shape {logits.shape}; "
            f"expected {logits.shape[:-1]}"
        )
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
