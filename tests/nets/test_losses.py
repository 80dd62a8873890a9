"""Do the losses equal what can be worked out by hand, and what MONAI gives?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from aistat_jax._errors import InputError
from aistat_jax.nets import losses
from aistat_jax.nets.losses import (
    cross_entropy,
    deep_supervision_loss,
    deep_supervision_weights,
    dice_and_cross_entropy,
    log_odds,
    overlap_counts,
    pool,
    soft_dice,
)


def make_case(rng, space=(6, 8), classes=3, batch=2):
    logits = rng.normal(0, 2, (batch, *space, classes)).astype(np.float32)
    return logits, rng.integers(0, classes, (batch, *space), dtype=np.int32)


def dice_loss(logits, labels):
    return 1 - jnp.mean(soft_dice(logits, labels))


def test_dice_by_hand(monkeypatch):
    """Four voxels, foreground probability (.5, .5, .8, .2), truth (1, 0, 1, 0)."""
    p = np.array([0.5, 0.5, 0.8, 0.2])
    logits = np.log(np.stack([1 - p, p], axis=-1))[None].astype(np.float32)
    labels = np.array([[1, 0, 1, 0]])
    dice = 2 * 1.3 / (2.0 + 2.0)
    monkeypatch.setattr(losses, "SMOOTH", 0.0)
    np.testing.assert_allclose(soft_dice(logits, labels), [[dice]], rtol=1e-6)
    expected = -np.mean(np.log([0.5, 0.5, 0.8, 0.8]))
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-6)
    both = dice_and_cross_entropy(logits, labels)
    np.testing.assert_allclose(both, 1 - dice + expected, rtol=1e-5)
    monkeypatch.setattr(losses, "SMOOTH", 1.0)
    np.testing.assert_allclose(soft_dice(logits, labels), [[3.6 / 5.0]], rtol=1e-6)


@pytest.mark.parametrize("space", [(6, 8), (4, 3, 5)])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_agrees_with_monai(rng, space, batch_dice):
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("monai.losses")
    logits, labels = make_case(rng, space, classes=4)
    reference = losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=batch_dice
    )
    channels_first = torch.tensor(np.moveaxis(logits, -1, 1), requires_grad=True)
    expected = reference(channels_first, torch.tensor(labels[:, None]))
    expected.backward()
    value, gradient = jax.value_and_grad(dice_and_cross_entropy)(
        jnp.asarray(logits), labels, batch_dice=batch_dice
    )
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    theirs = np.moveaxis(channels_first.grad.numpy(), 1, -1)
    np.testing.assert_allclose(gradient, theirs, atol=1e-7)
    other = dice_and_cross_entropy(logits, labels, batch_dice=not batch_dice)
    assert abs(other - expected.item()) > 1e-4


def test_hard_labels_are_soft_labels_of_zeros_and_ones(rng):
    logits, labels = make_case(rng)
    soft = np.eye(3, dtype=np.float32)[labels]
    for loss in (dice_loss, cross_entropy, dice_and_cross_entropy):
        np.testing.assert_allclose(loss(logits, labels), loss(logits, soft), rtol=1e-6)
    np.testing.assert_array_equal(overlap_counts(logits, labels), overlap_counts(logits, soft))


def test_both_losses_are_smallest_at_the_soft_target():
    """The negative control is the product form of Dice, which asks for zeros and ones."""
    share = 0.7
    target = np.broadcast_to(np.float32([1 - share, share]), (1, 5, 2))
    trial = np.linspace(0.05, 0.99, 95)
    logits = np.stack([np.zeros_like(trial), np.log(trial / (1 - trial))], axis=-1)
    logits = np.broadcast_to(logits[:, None, None], (95, 1, 5, 2)).astype(np.float32)
    for loss in (dice_loss, cross_entropy, dice_and_cross_entropy):
        values = np.asarray(jax.vmap(lambda x, loss=loss: loss(x, target))(logits))
        assert trial[values.argmin()] == pytest.approx(share, abs=0.006)
    product = 1 - 2 * share * trial / (share + trial)
    assert trial[product.argmin()] > 0.98
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    best = np.log(target)
    np.testing.assert_allclose(cross_entropy(best, target), entropy, rtol=1e-6)
    np.testing.assert_allclose(dice_loss(best, target), 0.0, atol=1e-5)


def test_background_is_left_out_of_dice(rng):
    logits, labels = make_case(rng)
    assert soft_dice(logits, labels).shape == (2, 2)
    assert soft_dice(logits, labels, batch_dice=True).shape == (1, 2)
    probability, truth = softmax(logits, axis=-1), np.eye(3)[labels]
    for n in (1, 2):
        overlap = (probability[..., n] * truth[..., n]).sum((1, 2))
        size = (probability[..., n] + truth[..., n]).sum((1, 2))
        np.testing.assert_allclose(soft_dice(logits, labels)[:, n - 1], 2 * overlap / size, 1e-4)


def test_a_class_absent_from_both_is_perfect():
    labels = np.zeros((1, 9), np.int32)
    logits = np.float32([40.0, 0.0]) * np.ones((1, 9, 1), np.float32)
    np.testing.assert_allclose(soft_dice(logits, labels), 1.0, rtol=1e-5)
    np.testing.assert_allclose(soft_dice(-logits, labels), 0.0, atol=1e-5)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_extreme_logits_have_finite_losses_and_gradients(rng, size):
    logits, labels = make_case(rng)
    logits = (np.sign(logits) * size).astype(np.float32)
    for target in (labels, np.eye(3, dtype=np.float32)[labels]):
        both = jax.jit(jax.value_and_grad(dice_and_cross_entropy))
        value, gradient = both(jnp.asarray(logits), target)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        naive = np.log(np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))
    assert not np.all(np.isfinite(naive))


def test_gradient_follows_finite_differences(rng):
    logits, labels = make_case(rng, space=(3, 2), batch=1)
    soft = rng.dirichlet(np.ones(3), (1, 3, 2)).astype(np.float32)
    towards = rng.standard_normal(logits.shape).astype(np.float32)
    for target in (labels, soft):
        loss = jax.jit(dice_and_cross_entropy)
        slope = jnp.vdot(jax.jit(jax.grad(loss))(jnp.asarray(logits), target), towards)
        values = [loss(logits + h * towards, target) for h in (-1e-2, 1e-2)]
        np.testing.assert_allclose(slope, (values[1] - values[0]) / 2e-2, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
def test_deep_supervision_weights(levels):
    weights = np.array(deep_supervision_weights(levels))
    assert weights.sum() == pytest.approx(1.0)
    used = weights[: max(1, levels - 1)]
    np.testing.assert_allclose(used[1:] / used[:-1], 0.5)
    assert levels == 1 or weights[-1] == 0
    with pytest.raises(InputError):
        deep_supervision_weights(0)


def test_deep_supervision_is_the_weighted_sum_over_levels(rng):
    fine, labels = make_case(rng, space=(8, 12))
    levels = (fine, *(make_case(rng, space=s)[0] for s in ((4, 6), (2, 3))))
    value = deep_supervision_loss(levels, labels)
    coarse = pool(np.eye(3, dtype=np.float32)[labels], (4, 6))
    expected = dice_and_cross_entropy(fine, labels) * 2 / 3
    expected += dice_and_cross_entropy(levels[1], coarse) / 3
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    unused = (fine, levels[1], levels[2] + 5.0)
    np.testing.assert_allclose(deep_supervision_loss(unused, labels), value, rtol=1e-6)
    changed = (fine, levels[1] + np.float32([0, 3, 0]), levels[2])
    assert abs(deep_supervision_loss(changed, labels) - value) > 0.05
    other = deep_supervision_loss(levels, labels, cross_entropy)
    by_hand = cross_entropy(fine, labels) * 2 / 3 + cross_entropy(levels[1], coarse) / 3
    np.testing.assert_allclose(other, by_hand, rtol=1e-6)


def test_pooling_keeps_volume_and_commutes_with_mirroring(rng):
    """The negative control keeps the first voxel of each block, as the nearest label does."""
    labels = (rng.random((2, 8, 12, 4)) < 0.1).astype(np.int32)
    onehot = np.eye(2, dtype=np.float32)[labels]
    small = np.asarray(pool(onehot, (4, 4, 4)))
    assert small.shape == (2, 4, 4, 4, 2)
    np.testing.assert_allclose(small.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(6 * small.sum((1, 2, 3)), onehot.sum((1, 2, 3)), rtol=1e-5)
    mirrored = np.asarray(pool(np.flip(onehot, (1, 2)), (4, 4, 4)))
    np.testing.assert_allclose(mirrored, np.flip(small, (1, 2)), rtol=1e-6)
    nearest = onehot[:, ::2, ::3]
    assert np.abs(6 * nearest.sum((1, 2, 3)) - onehot.sum((1, 2, 3))).max() > 1
    assert not np.array_equal(np.flip(onehot, (1, 2))[:, ::2, ::3], np.flip(nearest, (1, 2)))


def test_overlap_by_hand():
    predicted = np.array([[0, 1, 1, 0], [1, 0, 0, 0]])
    labels = np.array([[0, 1, 0, 0], [1, 1, 0, 0]])
    logits = np.eye(3, dtype=np.float32)[predicted]
    np.testing.assert_array_equal(overlap_counts(logits, labels), [[2, 3, 3], [0, 0, 0]])
    counts = sum(overlap_counts(logits[n : n + 1], labels[n : n + 1]) for n in range(2))
    np.testing.assert_array_equal(counts, overlap_counts(logits, labels))


def test_log_odds_agree_with_probabilities(rng):
    logits = rng.normal(0, 3, (5, 4, 3)).astype(np.float32)
    for label in range(3):
        p = softmax(logits.astype(float), axis=-1)[..., label]
        np.testing.assert_allclose(log_odds(logits, label), np.log(p / (1 - p)), atol=2e-5)
        wrong = log_softmax(logits.astype(float), axis=-1)[..., label]
        assert np.abs(np.asarray(log_odds(logits, label)) - wrong).max() > 0.1
    far = np.float32([-500.0, 500.0, 499.0])
    assert float(log_odds(far, 0)) == pytest.approx(-500 - logsumexp([500.0, 499.0]))
    assert float(log_odds(np.float32([-3.0, 80.0]))) == 83.0
    for label, classes in ((3, 3), (-1, 3), (0, 1)):
        with pytest.raises(InputError, match="at least two classes"):
            log_odds(np.zeros((2, classes), np.float32), label)


def test_half_precision_logits_and_the_x64_flag_give_float32(rng):
    logits, labels = make_case(rng)
    half = jnp.asarray(logits, jnp.bfloat16)
    assert dice_and_cross_entropy(half, labels).dtype == jnp.float32
    with jax.enable_x64(True):
        value = dice_and_cross_entropy(logits.astype(np.float64), labels)
        assert value.dtype == jnp.float32
        assert log_odds(logits.astype(np.float64)).dtype == jnp.float32
    np.testing.assert_allclose(value, dice_and_cross_entropy(logits, labels), rtol=1e-6)


def test_refusals(rng, monkeypatch):
    from jaxtyping import config

    monkeypatch.setattr(config, "jaxtyping_disable", True)  # as in production
    logits, labels = make_case(rng)
    with pytest.raises(InputError, match="labels of shape"):
        cross_entropy(logits, labels[:, :3])
    with pytest.raises(InputError, match="soft labels of shape"):
        cross_entropy(logits, np.zeros((2, 6, 8, 2), np.float32))
    with pytest.raises(InputError, match="multiples"):
        pool(np.zeros((1, 9, 8, 2), np.float32), (4, 4))
