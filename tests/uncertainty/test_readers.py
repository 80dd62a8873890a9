"""Are the scores against several readers those one computes by hand?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.uncertainty.readers import ged_squared, matched_iou, pairwise_iou

EMPTY, ONE, TWO = np.zeros(4, bool), np.array([1, 0, 0, 0], bool), np.array([1, 1, 0, 0], bool)


def test_iou_of_every_pair():
    found = pairwise_iou(np.stack([EMPTY, ONE]), np.stack([EMPTY, ONE, TWO]))
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0.5]])
    with pytest.raises(InputError, match="different grids"):
        pairwise_iou(np.zeros((1, 3), bool), np.zeros((1, 4), bool))


def test_energy_distance_by_hand():
    """Samples {1, empty}, readers {1, 2}: 2 (0 + .5 + 1 + 1) / 4 - (0 + 1 + 1 + 0) / 4 - .25."""
    samples, readers = np.stack([ONE, EMPTY]), np.stack([ONE, TWO])
    assert ged_squared(samples, readers) == pytest.approx(2 * 2.5 / 4 - 2 / 4 - 1 / 4)
    assert ged_squared(readers, readers) == pytest.approx(0)
    assert ged_squared(np.stack([EMPTY] * 3), np.stack([EMPTY] * 4)) == 0


def test_matched_iou_by_hand():
    """Each reader twice: two samples of 1 match reader 1, 2 and nothing match reader 2."""
    samples, readers = np.stack([ONE, ONE, TWO, EMPTY]), np.stack([ONE, TWO])
    assert matched_iou(samples, readers) == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert matched_iou(samples[::-1], readers) == matched_iou(samples, readers)
    with pytest.raises(InputError, match="multiple of 2"):
        matched_iou(samples[:3], readers)
