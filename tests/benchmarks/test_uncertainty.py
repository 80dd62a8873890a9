"""Does the table of uncertainties count patients, pair its peers, and measure by its rules?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.uncertainty.readers import ged_squared
from aistat_jax.uncertainty.selective import risk_coverage
from aistat_jax.uncertainty.voxel_scores import BINS, voxel_scores
from benchmarks.uncertainty import (
    HEAD,
    Cell,
    Scores,
    columns_of,
    compared,
    half_width,
    in_box,
    lead_note,
    representatives_of,
    surface_dice,
)  # fmt: skip


def scores(values: np.ndarray, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    count = len(values)
    off, sure = rng.standard_normal((count, BINS)), rng.random(count)
    both = {"GED^2": values, "half-width": values}
    return Scores(both, off, np.full(count, 50.0), values, sure)


def test_differences_are_paired_by_patient():
    """A peer that is better in every patient by a little is told apart; one as good is not; and
    slices of one patient do not count as patients."""
    rng = np.random.default_rng(0)
    who = [f"p{n // 4}" for n in range(80)]
    easy = np.repeat(rng.uniform(0.1, 0.6, 20), 4)
    found = {
        HEAD: scores(easy), "better": scores(easy - 0.02 + 0.01 * rng.standard_normal(80)),
        "as good": scores(easy + 0.01 * rng.standard_normal(80)),
    }  # fmt: skip
    table = compared(found, who)
    assert table["better"]["GED^2"].apart
    assert not table["as good"]["GED^2"].apart
    assert not table[HEAD]["GED^2"].apart
    assert table[HEAD]["GED^2"].value == pytest.approx(easy.mean())
    expected = np.std(easy[::4]) / np.sqrt(20)
    assert table[HEAD]["GED^2"].error == pytest.approx(expected, rel=0.1)
    alone = compared(found, [str(n) for n in range(80)])
    assert alone[HEAD]["GED^2"].error < 0.6 * expected


def test_pooled_columns_are_the_packages_own():
    rng = np.random.default_rng(1)
    p, y = rng.random(600), rng.random(600) < 0.4
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    off = np.stack([np.bincount(place[k::6], (p - y)[k::6], BINS) for k in range(6)])
    values = rng.random(6)
    one = Scores(
        {"GED^2": values, "half-width": values}, off, np.full(6, 100.0), values, np.arange(6.0)
    )
    weights = np.array([[1, 1, 1], [2, 0, 1]])
    found = columns_of(one, np.array([0, 0, 1, 1, 2, 2]), weights)
    assert found["ECE"][0] == pytest.approx(voxel_scores(p, y).ece)
    assert found["AURC"][0] == pytest.approx(risk_coverage(values, np.arange(6.0)).aurc)
    assert found["half-width, median"][0] == pytest.approx(np.median(values))
    assert found["GED^2"][1] == pytest.approx((2 * values[:2].sum() + values[4:].sum()) / 6)


def test_a_value_that_is_none_is_left_out():
    values = np.array([0.2, np.nan, 0.4, np.nan])
    found = columns_of(
        scores(values)._replace(loss=np.zeros(4)), np.array([0, 0, 1, 1]), np.ones((1, 2), int)
    )
    assert found["GED^2"][0] == pytest.approx(0.3)


def test_the_half_width_of_a_ring():
    """Between circles of radii 12 and 8, about one of 10: 80 pi / (2 * 20 pi) = 2."""
    i, j = np.indices((40, 40)) - 19.5
    away = np.hypot(i, j)
    ring = (away < 12) & (away >= 8)
    width = half_width(ring, np.array([1.0, 1.0]), 20 * np.pi)
    assert width == pytest.approx(2.0, rel=0.05)
    assert half_width(ring, np.array([3.0, 3.0]), 60 * np.pi) == pytest.approx(6.0, rel=0.05)
    assert np.isnan(half_width(ring, np.array([1.0, 1.0]), float("nan")))


def test_a_box_changes_no_score():
    rng = np.random.default_rng(2)
    a, b = np.zeros((5, 20, 30), bool), np.zeros((4, 20, 30), bool)
    a[:, 5:9, 7:15], b[:3, 6:12, 9:13] = rng.random((5, 4, 8)) < 0.5, True
    small = in_box(a, b)
    assert small[0].shape == (5, 7, 8)
    assert ged_squared(*small) == pytest.approx(ged_squared(a, b))
    assert ged_squared(*in_box(a & False, b & False)) == 0


def test_representatives_are_closer_than_as_many_at_random():
    rng = np.random.default_rng(3)
    away = np.abs(np.arange(64) - 31.5)[None]
    masks = away <= rng.uniform(4, 20, 200)[:, None, None]
    chosen = representatives_of(masks, 8)
    by_chance = [ged_squared(masks[rng.choice(200, 8)], masks) for _ in range(40)]
    assert ged_squared(chosen, masks) < min(by_chance)


def test_an_empty_mask_has_no_surface_dice():
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    assert surface_dice(mask, mask & False, np.array([1.0, 1.0])) == 0
    assert surface_dice(mask, mask, np.array([1.0, 1.0])) == 1


def test_who_is_ahead_is_said():
    def table(mine, other):
        return {HEAD: {"GED^2": Cell(mine, 0.01, False)}, "b": {"GED^2": Cell(other, 0.01, True)}}

    assert lead_note("GED^2", True, table(0.2, 0.3)) == []
    (note,) = lead_note("GED^2", True, table(0.3, 0.2))
    assert "b 0.200 ± 0.010 *" in note
    assert lead_note("GED^2", False, table(0.3, 0.2)) == []
