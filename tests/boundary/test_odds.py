"""Is another reading as probable as is said, and do hints count for what they are worth?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aistat_jax.boundary import odds as module
from aistat_jax.boundary.odds import TERMS, groups_beside, learned_odds, probabilities
from aistat_jax.boundary.readings import FEATURES, Readings

WHOLE, PART, CORE = np.zeros((3, 12, 6, 6), dtype=bool)
WHOLE[:], PART[:6], CORE[8:10, 2:4, 2:4] = True, True, True


def readings(*share: float) -> Readings:
    """Two readings alike, a part of them, and a core, with shares of the vote."""
    masks = np.stack([WHOLE, WHOLE & True, PART, CORE])
    masks[1, 0] = False
    n, total = len(masks), sum(share)
    return Readings(
        masks, np.zeros((n, len(FEATURES))), np.array(share) / total, np.full(n, np.nan),
        np.zeros(n), (slice(0, 12), slice(0, 6), slice(0, 6)),
    )  # fmt: skip


UNLIKE = np.array([False, False, True, True])


def test_readings_alike_are_one_group_and_their_terms_are_the_votes():
    part, core = groups_beside(readings(0.3, 0.3, 0.3, 0.1), UNLIKE, others=1)
    np.testing.assert_array_equal(part.mask, PART)
    np.testing.assert_allclose(part.terms, [1.0, 0.0, np.log(0.3 / 0.6)])
    np.testing.assert_allclose(core.terms, [1.0, 1.0, np.log(0.1 / 0.6)])
    assert part.worth == core.worth == 0.0
    assert groups_beside(readings(1, 1, 1, 1), np.zeros(4, dtype=bool), others=1) == []


def test_weights_of_one_give_back_the_shares_of_the_vote():
    share = np.array([0.6, 0.3, 0.1])
    groups = groups_beside(readings(0.3, 0.3, 0.3, 0.1), UNLIKE, others=1)
    np.testing.assert_allclose(probabilities(groups, np.array([0.0, 0.0, 1.0])), share)
    tempered = probabilities(groups, learned_odds())
    assert tempered.sum() == pytest.approx(1.0)
    assert np.abs(tempered - share).max() > 0.05  # negative control: learned ones are others
    np.testing.assert_allclose(probabilities([], learned_odds()), [1.0])


def test_hints_count_untempered():
    """Bayes: whatever the weights, what hints say of readings multiplies their odds."""
    before, likelihood = readings(0.3, 0.3, 0.3, 0.1), np.array([0.2, 0.2, 1.0, 0.5])
    after = before._replace(share=before.share * likelihood / (before.share @ likelihood))
    plain = probabilities(groups_beside(before, UNLIKE, 1), learned_odds())
    told = probabilities(groups_beside(after, UNLIKE, 1, before.share), learned_odds())
    expected = plain * [0.2, 1.0, 0.5]
    np.testing.assert_allclose(told, expected / expected.sum())
    tempered = probabilities(groups_beside(after, UNLIKE, 1), learned_odds())
    assert np.abs(tempered - told).max() > 0.02  # negative control: as if they were the image


def test_what_hints_exclude_is_no_reading():
    before = readings(0.3, 0.3, 0.3, 0.1)
    after = before._replace(share=np.array([0.5, 0.5, 0.0, 0.0]))
    assert groups_beside(after, UNLIKE, 1, before.share) == []


def test_what_is_kept_was_judged_on_patients_left_out_and_beats_shares():
    kept = json.loads((Path(module.__file__).parent / "readings.json").read_text())["odds"]
    assert list(kept["weights"]) == list(TERMS)
    assert 0 < kept["weights"]["vote"] < 1  # tempered
    for name in ("patients left out", "phantoms"):
        found = kept[name]
        even, sd = found["where every probability is right"], found["its sd"]
        assert found["calibration error"] < even + 2 * sd
        assert found["log loss"] < found["log loss of shares of the vote"]
        assert found["calibration error"] < found["calibration error of shares of the vote"]
