"""Do the peers of the benchmark of uncertainty compute what they are said to?"""

from __future__ import annotations

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import label
from scipy.special import expit, logit, ndtr
from scipy.stats import skewnorm

from aistat_jax.nets.network import drawn
from aistat_jax.uncertainty.readers import ged_squared
from benchmarks.peers import band_of_levels, between, given_something, level_needed
from benchmarks.peers import layers as layers_of
from benchmarks.peers.cases import reached_from
from benchmarks.peers.layers import (
    RANK,
    RATE,
    WIDTH,
    Batch,
    Dropped,
    LastLayers,
    Members,
    Normal,
    Voices,
    cross_entropy,
    normal_of,
    stochastic_loss,
)  # fmt: skip
from benchmarks.peers.levels import (
    KernelSmoothed,
    LevelSets,
    Mask,
    Speckle,
    likelihood,
    margin_needed,
    smoothed,
)  # fmt: skip
from benchmarks.peers.skewed import (
    Skewed,
    band_level,
    circulant_root,
    correlated,
    cumulative,
    log_density,
    quantiles,
)  # fmt: skip

SLOPE = np.linspace(0.05, 0.95, 10)[None] * np.ones((4, 1))  # from left to right


# ------------------------------------------------------------------------- levels of a map


def test_reached_is_the_component_at_every_level():
    """Against labelling at each level; a second hill as high as the first is not reached above the
    saddle between them."""
    rng = np.random.default_rng(0)
    odds = rng.standard_normal((9, 11))
    place = tuple(int(n) for n in np.unravel_index(odds.argmax(), odds.shape))
    reached = reached_from(odds, place)
    for level in np.quantile(odds, [0.2, 0.5, 0.8, 0.97]):
        labels, _ = label(odds >= level)
        np.testing.assert_array_equal(reached >= level, labels == labels[place])
    hills = np.array([[3.0, 1.0, 3.0]])
    np.testing.assert_array_equal(reached_from(hills, (0, 0)), [[3.0, 1.0, 1.0]])


def test_a_pixel_is_in_a_share_of_level_sets_that_is_its_probability():
    sets = LevelSets(SLOPE)
    drawn_sets = sets.samples(np.random.default_rng(0), 20_000)
    np.testing.assert_allclose(drawn_sets.mean(axis=0), SLOPE, atol=4 * 0.5 / math.sqrt(20_000))
    sizes = drawn_sets.sum(axis=(1, 2))
    larger = drawn_sets[sizes.argmax()]
    assert all((one <= larger).all() for one in drawn_sets[:100])  # nested
    assert sets.presence == pytest.approx(0.95)
    np.testing.assert_array_equal(sets.middle, SLOPE > 0.475)


def test_a_band_lies_between_two_levels():
    band = LevelSets(SLOPE, q=0.7).band
    np.testing.assert_array_equal(band.inner[0], SLOPE[0] > 0.7)
    np.testing.assert_array_equal(band.outer[0], SLOPE[0] >= 0.3)
    assert band.holds(SLOPE > 0.5)
    stray = SLOPE > 0.5
    stray[0, 0] = True
    assert not band.holds(stray)
    assert not band.holds(SLOPE > 0.8)


def test_the_smallest_band_that_holds_masks():
    """{> .9} has .85 outside: q = .85; the least of {> .2} is .25: q = .75."""
    assert level_needed(SLOPE, SLOPE > 0.9) == pytest.approx(0.85)
    assert level_needed(SLOPE, SLOPE > 0.2) == pytest.approx(0.75)
    masks = np.array([SLOPE > 0.9, SLOPE > 0.2, SLOPE > 2])
    band = band_of_levels(SLOPE, masks, level=0.5)  # the empty one says nothing of a boundary
    assert band.holds(masks[1])
    assert not band.holds(masks[0])
    assert all(band_of_levels(SLOPE, masks, level=0.95).holds(mask) for mask in masks[:2])
    assert not band_of_levels(SLOPE, masks[2:]).outer.any()
    ties = between(SLOPE, level_needed(SLOPE, SLOPE > 0.9))
    assert ties.holds(SLOPE > 0.9)


def test_the_middle_is_given_that_there_is_something():
    probability = np.array([[0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(given_something(probability, 0.5), probability > 0.25)
    assert not given_something(probability, 1.0).any()


# --------------------------------------------------------------------- smoothed, and its level


def square_case(patient: str, shift: float, size: int = 16):
    """A disc of log-odds, and a reader who drew where these exceed `shift`."""
    i, j = np.indices((size, size)) - (size - 1) / 2
    odds = 6.0 - 1.5 * np.hypot(i, j)
    return SimpleNamespace(
        patient=patient, probability=expit(odds), masks=(odds > shift)[None], reached=odds
    )


def test_the_conformal_level_is_that_of_the_right_patient_counted_by_hand():
    """Of 40 patients calibrated on it is the 39th smallest margin: ceil(.95 * 41)."""
    rng = np.random.default_rng(3)
    cases = [square_case(f"{n:03d}", rng.normal(0, 1)) for n in range(80)]
    (fitted,) = KernelSmoothed().fit(cases, None, seed=0)
    first = set(np.random.default_rng(0).permutation([c.patient for c in cases])[::2].tolist())
    margins = sorted(
        margin_needed(logit(smoothed(case.probability, fitted.bandwidth)), case.masks[0])
        for case in cases if case.patient not in first
    )  # fmt: skip
    assert len(margins) == 40
    assert fitted.margin == pytest.approx(margins[math.ceil(0.95 * 41) - 1])
    held = [fitted.at(case).band.holds(case.masks[0]) for case in cases]
    assert np.mean(held) >= 0.9
    narrow = LevelSets(smoothed(cases[0].probability, fitted.bandwidth), float(expit(0.1)))
    assert np.mean([narrow.band.holds(case.masks[0]) for case in cases]) < 0.5  # must fail


def test_the_margin_of_a_mask_by_hand():
    odds = np.array([[-3.0, -1.0, 0.5, 2.0]])
    assert margin_needed(odds, odds > -2) == 1.0
    assert margin_needed(odds, odds > 1) == 0.5
    assert margin_needed(odds, odds > 0) == -0.5  # room on both sides


def test_the_likeliest_bandwidth_is_found_again():
    """Readers who draw a sharp map's own edge want none; those who scatter about it want some."""
    sharp = [square_case(str(n), 0.0) for n in range(4)]
    assert likelihood(sharp, 0.0) > likelihood(sharp, 1.5)
    cases = [square_case(str(n), s) for n, s in enumerate(np.linspace(-4, 4, 9))]
    for case in cases:
        case.probability = (case.probability > 0.5).astype(float)
    assert likelihood(cases, 1.5) > likelihood(cases, 0.5)


# ----------------------------------------------------------------------------------- controls


def test_independent_pixels_look_like_no_contour():
    """Of the same probabilities, and of readers who drew level sets, level sets are closer."""
    probability = square_case("a", 0.0).probability
    speckle, sets = Speckle(probability), LevelSets(probability)
    rng = np.random.default_rng(0)
    many = speckle.samples(rng, 4000)
    np.testing.assert_allclose(many.mean(axis=0), probability, atol=4 * 0.5 / math.sqrt(4000))
    readers = sets.samples(rng, 64)
    mine, theirs = (ged_squared(one.samples(rng, 64), readers) for one in (speckle, sets))
    assert mine > theirs + 0.01
    empty = Speckle(np.full((2, 2), 0.1))
    assert empty.presence == pytest.approx(1 - 0.9**4)


def test_the_plain_mask_has_no_width_and_holds_itself_alone():
    mask = SLOPE > 0.5
    plain = Mask(mask)
    assert not (plain.band.outer & ~plain.band.inner).any()
    assert plain.band.holds(mask)
    assert not plain.band.holds(SLOPE > 0.4)
    assert plain.presence == 1.0
    assert Mask(mask & False).presence == 0.0


# ---------------------------------------------------------------------------- learned layers


def made(outputs: int, inputs: int = 5, seed: int = 1):
    graph, state = nnx.split(LastLayers(inputs, outputs))
    return graph, drawn(state, seed)


def test_correlated_logits_have_the_covariance_of_their_factor():
    rng = np.random.default_rng(0)
    law = Normal(
        rng.standard_normal((2, 3)).astype(np.float32),
        rng.uniform(0.2, 0.5, (2, 3)).astype(np.float32),
        rng.standard_normal((2, 3, 4)).astype(np.float32),
    )
    draws = law.draws(rng, 60_000).reshape(-1, 6)
    factor = law.factor.reshape(6, 4)
    expected = factor @ factor.T + np.diag(law.variance.ravel())
    np.testing.assert_allclose(draws.mean(axis=0), law.mean.ravel(), atol=0.06)
    np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.15)
    alone = factor @ factor.T - np.diag(np.diag(factor @ factor.T))
    assert np.abs(alone).max() > 1  # pixels by themselves would fail


def test_the_loss_of_correlated_logits_is_the_log_of_a_mean_likelihood():
    graph, state = made(2 + RANK)
    model = nnx.merge(graph, state)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 4, 4, 5)), jnp.float32)
    mask = (rng.random((2, 4, 4)) < 0.5).astype(np.float32)
    found = float(stochastic_loss(model, Batch(x, mask, np.uint32(7))))
    law = Normal(*map(np.asarray, normal_of(model(x))))
    waves, noise = jax.random.split(jax.random.key(np.uint32(7)))
    count = layers_of.LOSS_SAMPLES
    z = np.asarray(jax.random.normal(waves, (count, 2, RANK)))
    e = np.asarray(jax.random.normal(noise, (count, 2, 4, 4)))
    logits = np.stack([law.logits(z[s], e[s]) for s in range(count)]).astype(float)
    each = np.prod(np.where(mask > 0, expit(logits), expit(-logits)), axis=(2, 3))
    assert found == pytest.approx(-np.log(each.mean(axis=0)).mean() / 16, rel=1e-4)


def test_dropped_channels_leave_the_mean_as_it_is():
    graph, state = made(1)
    dropped = Dropped("dropout", graph, state)
    hidden = np.abs(np.random.default_rng(1).standard_normal((3, 3, WIDTH))).astype(np.float32)
    maps = dropped._maps(lambda: hidden, np.random.default_rng(0), 40_000)
    whole = np.asarray(nnx.merge(graph, state).last(jnp.asarray(hidden)))[..., 0]
    error = maps.std(axis=0) / math.sqrt(len(maps))
    assert (np.abs(maps.mean(axis=0) - whole) < 5 * error).all()
    weights = np.asarray(nnx.merge(graph, state).last.kernel[...])[:, 0]
    sd = np.sqrt(np.square(hidden * weights).sum(axis=-1) * RATE / (1 - RATE))
    np.testing.assert_allclose(maps.std(axis=0), sd, rtol=0.05)


def test_members_speak_in_turn():
    members = Members("ensemble", None, (0, 1, 2, 3, 4))
    maps = members._maps(lambda: np.arange(5.0), np.random.default_rng(0), 15)
    assert sorted(maps.tolist()) == sorted([0.0, 1.0, 2.0, 3.0, 4.0] * 3)


def test_maps_are_cut_at_half_or_at_a_level():
    odds = logit(SLOPE).astype(np.float32)
    voices = Voices(lambda rng, count: np.repeat(odds[None], count, axis=0), levels=False)
    assert (voices.samples(np.random.default_rng(0), 8) == (SLOPE > 0.5)).all()
    assert voices.presence == 1.0
    levels = Voices(voices.maps, levels=True)
    share = levels.samples(np.random.default_rng(0), 20_000).mean(axis=0)
    np.testing.assert_allclose(share, SLOPE, atol=0.015)
    assert levels.presence == pytest.approx(0.95, abs=1e-5)
    np.testing.assert_allclose(levels.probability, SLOPE, atol=1e-5)


def test_cross_entropy_is_bernoullis():
    logits, mask = np.array([-2.0, 0.0, 3.0]), np.array([1.0, 0.0, 1.0])
    expected = -np.log(np.where(mask > 0, expit(logits), expit(-logits)))
    np.testing.assert_allclose(cross_entropy(jnp.asarray(logits), mask), expected, rtol=1e-5)


# ------------------------------------------------------------------------------- skew normal


@pytest.mark.parametrize("shape", [-4.0, 0.0, 0.7, 6.0])
def test_skew_normal_quantiles_and_densities_are_scipys(shape):
    u = np.linspace(0.005, 0.995, 37)
    found = quantiles(np.array([shape]), u[:, None])[:, 0]
    np.testing.assert_allclose(found, skewnorm.ppf(u, shape), atol=2e-3)
    z = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(cumulative(z, shape), skewnorm.cdf(z, shape), atol=1e-9)
    law = Skewed(np.array(0.3), np.array(0.5), np.array(shape), None)
    y = 0.3 + 0.5 * np.linspace(-2, 2, 9)
    expected = skewnorm.logpdf(y, shape, 0.3, 0.5)
    np.testing.assert_allclose(log_density(law, y), expected, rtol=2e-4, atol=2e-4)


def test_contours_are_as_correlated_as_the_errors_they_learn_from():
    rng = np.random.default_rng(0)
    angles = np.arange(16) * 2 * np.pi / 16
    wave = rng.standard_normal((5000, 1)), rng.standard_normal((5000, 2))
    z = wave[0] + wave[1] @ np.stack([np.cos(angles), np.sin(angles)])
    again = correlated(circulant_root(z), np.random.default_rng(1), 20_000)
    lag = np.array([np.mean(again * np.roll(again, k, axis=1)) for k in range(9)])
    np.testing.assert_allclose(lag, 0.5 + 0.5 * np.cos(angles[:9]), atol=0.05)


def test_the_band_of_contours_holds_its_share_of_them():
    """All rays as one: the central interval itself, .475; all for themselves: nearly all of it."""
    as_one = np.zeros(16)
    as_one[0] = 4.0
    assert band_level(as_one) == pytest.approx(0.475, abs=0.01)
    alone = band_level(np.ones(16))
    assert alone == pytest.approx(0.5 * 0.95 ** (1 / 16), abs=0.002)
    new = ndtr(correlated(np.ones(16), np.random.default_rng(5), 4000))
    inside = (np.abs(new - 0.5) <= alone).all(axis=1).mean()
    assert inside == pytest.approx(0.95, abs=0.02)
    assert (np.abs(new - 0.5) <= 0.475).all(axis=1).mean() < 0.6  # intervals ray by ray must fail
