"""Are scores of distributions those of hand, and is honesty the best one can say?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.proper_scores import crps, energy_score, interval_score


def test_crps_by_hand():
    """Draws 1, 2, 6 and a truth of 3: (2 + 1 + 3) / 3 - (1 + 5 + 4) 2 / 9 / 2."""
    assert crps([1.0, 2.0, 6.0], 3.0) == pytest.approx(6 / 3 - 10 / 9)
    assert crps([6.0, 1.0, 2.0], 3.0) == pytest.approx(6 / 3 - 10 / 9)
    assert crps([4.0], 1.5) == 2.5


def test_crps_is_the_integral_of_squared_differences(rng):
    """Of distribution functions: sum of (F - 1{y <= x})^2 dx on a fine grid."""
    draws, truth = rng.normal(size=40), 0.3
    x = np.linspace(-5, 5, 200_001)
    below = np.searchsorted(np.sort(draws), x, side="right") / 40
    integral = ((below - (truth <= x)) ** 2).sum() * (x[1] - x[0])
    assert crps(draws, truth) == pytest.approx(integral, abs=1e-3)


def test_energy_score_by_hand_and_of_one_number(rng):
    """Draws (0, 0) and (3, 4), truth (3, 0): (3 + 4) / 2 - 5 * 2 / 4 / 2."""
    assert energy_score([[0.0, 0.0], [3.0, 4.0]], [3.0, 0.0]) == pytest.approx(3.5 - 1.25)
    draws = rng.normal(size=30)
    doubled = np.stack([draws, np.zeros(30)], axis=1)  # a plane of which one axis is nothing
    assert energy_score(doubled, [0.7, 0.0]) == pytest.approx(crps(draws, 0.7))


def test_interval_score_by_hand():
    assert interval_score(2.0, 5.0, 4.0, 0.95) == 3.0
    assert interval_score(2.0, 5.0, 6.0, 0.95) == pytest.approx(3 + 40)
    assert interval_score(2.0, 5.0, 1.5, 0.5) == pytest.approx(3 + 2)


def test_honest_distributions_score_best(rng):
    """Truths N(0, 1): too narrow, too wide and shifted predictions have a greater mean loss."""
    truths, draws = rng.normal(size=1000), rng.normal(size=(1000, 100))

    def losses(scale: float, shift: float) -> tuple[float, float]:
        low, high = norm.ppf([0.1, 0.9]) * scale + shift
        return (
            float(
                np.mean([crps(scale * d + shift, y) for d, y in zip(draws, truths, strict=True)])
            ),
            float(np.mean([interval_score(low, high, y, 0.8) for y in truths])),
        )

    honest = losses(1.0, 0.0)
    assert honest[0] == pytest.approx(1 / np.sqrt(np.pi), rel=0.1)  # 1000 truths: se 2.5%
    for wrong in ((0.5, 0.0), (2.0, 0.0), (1.0, 0.6)):
        assert all(np.array(losses(*wrong)) > np.array(honest))


def test_what_has_no_score_is_refused():
    for draws, truth in (([], 1.0), ([1.0, np.nan], 1.0), ([1.0], np.inf)):
        with pytest.raises(InputError, match="needs draws"):
            crps(draws, truth)
    with pytest.raises(InputError, match=r"\(2, 2\) and \(3,\)"):
        energy_score(np.ones((2, 2)), np.ones(3))
    with pytest.raises(InputError, match="level"):
        interval_score(0.0, 1.0, 0.5, 1.0)
    with pytest.raises(InputError, match="end below"):
        interval_score(1.0, 0.0, 0.5, 0.9)
