"""Do chains and particles go on until they have mixed, and no longer?"""

from __future__ import annotations

import numpy as np

from aistat_jax._record import replace
from aistat_jax.inference.methods import NUTS, SMC
from aistat_jax.inference.posterior import Diagnostics
from tests.inference.cases import hard_model, soft_model


def test_chains_that_have_not_mixed_go_on(monkeypatch):
    """They are made to look unsettled, once and then for good; so many draws are kept."""
    looked = []

    def mixed(found: Diagnostics) -> bool:
        looked.append(found.ess_min)
        return len(looked) == 2

    model, nuts = soft_model(), NUTS(chains=2, warmup=100)
    monkeypatch.setattr("aistat_jax.inference.methods.mixed", mixed)
    once = nuts.sample(model, draws=100, seed=3)
    assert not looked
    twice = nuts.until_mixed(model, draws=100, seed=3)
    assert len(looked) == 2
    assert looked[1] > looked[0]  # said of all draws
    assert twice.diagnostics.ess_min == looked[1]
    # every other one is kept, and the first piece is what one run would have been
    np.testing.assert_array_equal(twice.radii[:, :25], once.radii[:, ::2])
    assert twice.radii.shape == once.radii.shape
    assert all(
        len(found[0]) == 50 for found in (*twice.samples.values(), twice.sample_stats["energy"])
    )
    nuts.until_mixed(model, draws=100, seed=3)
    assert len(looked) == 2 + 4  # no longer than that


def test_particles_that_disagree_are_drawn_anew_and_more(monkeypatch):
    """The first run is made to look unsettled; the second is kept, thinned to what was asked."""
    asked = []

    def sample(self, model, *, draws, seed):
        posterior = sampled(self, model, draws=draws, seed=seed)
        asked.append(draws)
        if len(asked) > 1:
            return posterior
        diagnostics = replace(posterior.diagnostics, rhat_max=1.05, converged=False)
        return replace(posterior, diagnostics=diagnostics)

    sampled = SMC.sample
    monkeypatch.setattr(SMC, "sample", sample)
    found = SMC().until_mixed(hard_model(), draws=200, seed=0)
    assert asked == [200, 800]
    assert found.draws.shape[0] == 200
    assert found.diagnostics.rhat_max is not None
    assert found.diagnostics.rhat_max < 1.05
    assert all(len(found.samples[name][0]) == 50 for name in ("amplitude", "coefficients"))
