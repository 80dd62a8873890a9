"""Is a probability that is right told from one that is too sure?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.reliability import reliability
from aistat_jax.views.reliability import plot_reliability
from tests.views.legible import faults


@pytest.fixture
def drawn(rng):
    p = rng.beta(1.0, 2.0, 600)
    return p, (rng.random(600) < p).astype(float)


def sure(p: np.ndarray) -> np.ndarray:
    """The same log odds, three times as large."""
    return 1 / (1 + ((1 - p) / p) ** 3)


def test_what_is_right_is_within_chance_and_what_is_too_sure_is_not(drawn):
    """Fixed seed; of 200 others the first failed for none at these bounds."""
    p, hit = drawn
    found, control = reliability(p, hit), reliability(sure(p), hit)
    assert found.error < found.chance + 2 * found.sd
    assert control.error > control.chance + 4 * control.sd
    assert found.count.sum() == 600
    assert (np.diff(found.predicted) > 0).all()


def test_the_order_of_equal_probabilities_changes_nothing():
    one = reliability([0.5] * 20, [0] * 10 + [1] * 10, bins=2)
    assert one.error == reliability([0.5] * 20, [0, 1] * 10, bins=2).error == 0.0


def test_units_that_go_together_make_the_error_less_sure(drawn):
    p, hit = drawn
    twice = reliability(np.repeat(p, 4), np.repeat(hit, 4), np.repeat(np.arange(600), 4))
    apart = reliability(np.repeat(p, 4), np.repeat(hit, 4))
    assert twice.sd > 1.5 * apart.sd


@pytest.mark.parametrize(
    ("p", "hit", "said"),
    [
        ([0.5] * 20, [1] * 19, "as long as"),
        ([0.5] * 4, [1] * 4, "do not fill"),
        ([1.5] * 20, [1] * 20, "between 0 and 1"),
        ([np.nan] * 20, [1] * 20, "between 0 and 1"),
    ],
)
def test_what_is_no_probability_is_refused(p, hit, said):
    with pytest.raises(InputError, match=said):
        reliability(p, hit)


def test_the_diagram_can_be_printed(drawn):
    p, hit = drawn
    both = {"probability": reliability(p, hit), "control": reliability(sure(p), hit)}
    assert faults(plot_reliability({"patients left out": both, "phantoms": both})) == []
    with pytest.raises(InputError, match="one panel"):
        plot_reliability({})
