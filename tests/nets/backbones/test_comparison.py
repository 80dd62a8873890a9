"""Does the comparison of backbones count patients, and are its cases those that were packed?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from aistat_jax.nets.recipes import PHANTOMS, varied_phantom
from benchmarks import backbone_nets
from benchmarks.backbones import difference, mean_and_error


def test_errors_are_by_patient():
    """A patient of a hundred slices counts as one; slices as patients would be surer of it."""
    scores = [("a", 0.5), ("b", 0.7), *[("c", 0.9)] * 100, ("d", math.nan)]
    mean, error = mean_and_error(scores)
    assert mean == pytest.approx(0.7)
    assert error == pytest.approx(0.2 / math.sqrt(3))
    alone = [(f"{patient}{n}", value) for n, (patient, value) in enumerate(scores)]
    assert mean_and_error(alone)[1] < 0.1 * error


def test_a_difference_is_paired():
    """Patients differ by more than the networks: pairs tell these apart, and none from itself."""
    rng = np.random.default_rng(0)
    easy = rng.uniform(0.2, 0.9, 40)
    one, other = (
        [(str(n), value) for n, value in enumerate(easy + 0.02 * k + rng.normal(0, 0.01, 40))]
        for k in (0, 1)
    )
    assert difference(other, one) > 5
    assert difference(one, one) == 0
    shuffled = [(str(n), one[m][1]) for n, m in enumerate(rng.permutation(40))]
    assert abs(difference(other, shuffled)) < 2.58


def test_phantoms_come_back_from_their_file(tmp_path, monkeypatch):
    """PET to half precision, CT to the half of a 256th of what is kept, masks as they were."""
    monkeypatch.setattr(backbone_nets, "COUNTS", {"unet": 0, "head": 0, "validation": 1})
    monkeypatch.setattr(backbone_nets, "ProcessPoolExecutor", _InThisProcess)
    backbone_nets.pack(tmp_path, "phantoms")
    (case,) = backbone_nets.cases(tmp_path, "phantoms", "validation")
    made = varied_phantom(PHANTOMS["validation"][0])
    ours, theirs = case.image["PT"], made.image["PT"]
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.grid.affine, theirs.grid.affine)
    kept = np.clip(made.image["CT"].values, *backbone_nets.CT_RANGE)
    np.testing.assert_allclose(case.image["CT"].values, kept, atol=400 / 255 / 2 + 1e-9)
    assert np.array_equal(case.masks[..., 0], made.mask)
    assert not list(backbone_nets.cases(tmp_path, "phantoms", "head"))


class _InThisProcess:
    def __init__(self, **settings):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def map(self, function, values, chunksize):
        return map(function, values)
