"""Does sequential Monte Carlo find the boundary, and not a star of spikes in its place?

The first scenario of BayesBD, seed 3, where a start narrowed to what the smoothed evidence says
of the hyperparameters led every population to a short lengthscale.
"""

from __future__ import annotations

import pytest

from aistat_jax.inference import smc
from aistat_jax.inference.transport import find_transport
from benchmarks.bayesbd import replicate

pytestmark = pytest.mark.slow
LARGEST = 0.015  # Lebesgue error; 0.0072 was measured, and 0.0281 from the narrow start


def test_a_wide_start_finds_the_boundary() -> None:
    assert replicate("S1", 3)["lebesgue"] < LARGEST


def test_a_narrow_start_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control. On this seed R-hat (1.04) and the effective draws (96) refuse it."""
    monkeypatch.setattr(
        smc,
        "find_transport",
        lambda program, data, *_, wide=False: find_transport(program, data),
    )
    assert replicate("S1", 3)["lebesgue"] > LARGEST
