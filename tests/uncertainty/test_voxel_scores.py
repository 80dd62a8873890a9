"""Are scores of voxels those of hand, and do they notice probabilities that lie?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.voxel_scores import boundary_band, qu_brats, voxel_scores


def test_a_band_by_hand():
    """A step between pixels 3 and 4 along the first axis, 2 mm apart."""
    mask = np.zeros((8, 5), bool)
    mask[:4] = True
    rows = [np.flatnonzero(boundary_band(mask, w, (2.0, 1.0))[:, 0]) for w in (1.9, 2.0, 4.0)]
    assert [row.tolist() for row in rows] == [[], [3, 4], [2, 3, 4, 5]]
    solid = np.repeat(mask[..., None], 3, axis=-1)
    flat = boundary_band(mask, 4.0, (2.0, 1.0))
    assert (boundary_band(solid, 4.0, (2.0, 1.0, 1.0)) == flat[..., None]).all()
    assert not boundary_band(mask & False, 4.0, (2.0, 1.0)).any()
    with pytest.raises(InputError, match="width"):
        boundary_band(mask, 0.0, (2.0, 1.0))


def test_scores_by_hand():
    """Probabilities .9 (inside), .9 (outside) and .2 (outside); two bins are met."""
    p, y = np.array([0.9, 0.9, 0.2]), np.array([True, False, False])
    found = voxel_scores(p, y)
    assert found.nll == pytest.approx(-(np.log(0.9) + np.log(0.1) + np.log(0.8)) / 3)
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.04) / 3)
    assert found.ece == pytest.approx((2 / 3) * abs(0.9 - 0.5) + (1 / 3) * 0.2)
    assert found.count == 3
    part = voxel_scores(p, y, np.array([True, False, False]))
    assert (part.brier, part.count) == (pytest.approx(0.01), 1)
    sure = voxel_scores(np.array([0.0]), np.array([True]), least=1e-3)
    assert sure.nll == pytest.approx(-np.log(1e-3))
    nothing = voxel_scores(p, y, y & False)
    assert np.isnan(nothing.nll)
    assert nothing.count == 0


def test_overconfident_probabilities_are_noticed(rng):
    """Truths drawn with their probabilities, and log-odds made three times as large."""
    odds = 1.5 * rng.standard_normal((40, 40, 40))
    p = 1 / (1 + np.exp(-odds))
    y = rng.random(p.shape) < p
    honest, lying = voxel_scores(p, y), voxel_scores(1 / (1 + np.exp(-3 * odds)), y)
    assert honest.ece < 0.01  # 64,000 voxels in 15 bins: about .002 by chance
    assert lying.ece > 0.1
    assert lying.nll > honest.nll
    assert lying.brier > honest.brier


def test_qu_brats_by_hand():
    """Four pixels: true positive (u 0), false positive (u .5), true negatives (u 0 and 1).

    Below .5 the false positive is filtered: Dice 1, else 2/3; at every threshold but the last one
    of two true negatives is filtered. 41 thresholds, trapezium rule, steps at 19/20 and 39/40.
    """
    predicted, truth = np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool)
    uncertainty = np.array([0.0, 0.5, 0.0, 1.0])
    found = qu_brats(predicted, truth, uncertainty)
    dice = (19.5 * 1 + 20.5 * 2 / 3) / 40
    gone = (39.5 * 0.5) / 40
    assert found.dice == pytest.approx(dice)
    assert found.filtered_true_positives == 0
    assert found.filtered_true_negatives == pytest.approx(gone)
    assert found.score == pytest.approx((dice + 1 + 1 - gone) / 3)
    # uncertain where it is right, and sure where it is wrong: worse
    assert qu_brats(predicted, truth, 1 - uncertainty).score < found.score
    brain = np.array([True, True, True, False])
    assert qu_brats(predicted, truth, uncertainty, brain).filtered_true_negatives == 0


def test_everything_uncertain_leaves_nothing():
    """All at 1: nothing is left until the last threshold, where Dice of nothing is 1."""
    mask = np.array([True, False])
    found = qu_brats(mask, mask, np.ones(2))
    assert found.dice == 1.0
    assert found.filtered_true_positives == pytest.approx(39.5 / 40)


def test_maps_that_do_not_fit_are_refused():
    mask = np.zeros(3, bool)
    with pytest.raises(InputError, match="does not fit"):
        voxel_scores(np.zeros(4), mask)
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            voxel_scores(np.full(3, bad), mask)
    with pytest.raises(InputError, match="differ"):
        qu_brats(np.zeros(4, bool), mask, np.zeros(3))
