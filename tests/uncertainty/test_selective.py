"""Is the curve of risk against coverage that of hand?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.selective import risk_coverage


def test_the_curve_of_hand():
    """Surest first: losses 0, 1, 0, 1: risks 0, 1/2, 1/3, 1/2."""
    found = risk_coverage([1.0, 0.0, 1.0, 0.0], [0.8, 0.9, 0.1, 0.5])
    np.testing.assert_allclose(found.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1.0])
    assert found.aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found.risk_at(0.5) == 0.5
    assert found.risk_at(0.51) == pytest.approx(1 / 3)


def test_equal_confidence_is_left_to_chance(rng):
    losses, sure = np.array([0.0, 0.3, 0.9, 0.5]), np.array([1.0, 0.5, 0.5, 0.5])
    risks = []
    for _ in range(3000):
        order = np.lexsort((rng.random(4), -sure))
        risks.append(np.cumsum(losses[order]) / np.arange(1, 5))
    found = risk_coverage(losses, sure).risk
    np.testing.assert_allclose(found, np.mean(risks, axis=0), atol=0.015)
    # negative control: the order in which they came is one order of many
    assert not np.allclose(found, np.cumsum(losses) / np.arange(1, 5), atol=0.015)


def test_a_better_confidence_has_the_smaller_area(rng):
    losses = rng.random(200)
    knows, guesses = risk_coverage(losses, -losses), risk_coverage(losses, rng.random(200))
    assert knows.aurc < guesses.aurc < risk_coverage(losses, losses).aurc


def test_what_has_no_curve_is_refused():
    for losses, sure in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(InputError, match="a confidence for every loss"):
            risk_coverage(losses, sure)
    with pytest.raises(InputError, match="NaN"):
        risk_coverage([np.nan], [1.0])
    with pytest.raises(InputError, match="coverage"):
        risk_coverage([1.0], [1.0]).risk_at(0.0)
