"""Does a prior and a table from outside of the package work, and mean what they say?"""

from __future__ import annotations

import re
import sys
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import record, replace
from aistat_jax.boundary.doors import checked_prior
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.prior import BoundaryPrior, Shareable
from aistat_jax.boundary.tables import Table
from aistat_jax.inference import batch

COUNT, RAYS, SD = 80, 32, 1.0
FALSE_ALARM = 1e-3


@pytest.fixture(scope="module")
def own(repository) -> Any:
    """The worked example as its page has it."""
    page = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    module = types.ModuleType("own_prior")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    for name in ("class PowerLaw", "class Parabolas"):
        (block,) = (one for one in found if name in one)
        exec(compile(block, "CONTRIBUTING.md", "exec"), vars(module))
    return module


@pytest.fixture(scope="module")
def place() -> aj.Target:
    return aj.Target(np.zeros(2), 12.0, aj.pet_ct_phantom(0).plane)


def model(own: Any, place: aj.Target, evidence: Evidence | None = None) -> Any:
    return aj.boundary_model(place, evidence or Evidence(()), prior=own.PowerLaw(), rays=RAYS)


def test_posteriors_under_ones_own_prior_and_table_are_calibrated(own, place):
    truths = aj.prior_draws(model(own, place), COUNT, seed=3)
    noise = SD * np.random.default_rng(4).standard_t(4, (COUNT, RAYS))
    read = [Evidence((own.Calliper(row, SD),)) for row in truths.draws + noise]
    models = [model(own, place, each) for each in read]
    posteriors = aj.fit_many(models, draws=300, seed=0, fallback=False)
    ranks = aj.sbc_ranks(posteriors, truths)
    assert "power" in ranks.names
    assert ranks.p >= FALSE_ALARM
    # negative controls: too narrow a posterior, and a calliper that is thought twice as good
    assert aj.sbc_ranks(posteriors, truths, shrink=0.6).p < FALSE_ALARM
    proud = [Evidence((own.Calliper(row, SD / 2),)) for row in truths.draws + noise]
    models = [model(own, place, each) for each in proud]
    wrong = aj.fit_many(models, draws=300, seed=0, fallback=False)
    assert aj.sbc_ranks(wrong, truths).p < FALSE_ALARM


def test_the_prior_is_what_its_draws_are(own, place):
    draws = aj.prior_draws(model(own, place), 4000, seed=1)
    power, coefficients = draws.samples["power"][0], draws.samples["coefficients"][0]
    assert np.log(power).mean() == pytest.approx(np.log(1.5), abs=0.02)
    assert coefficients[:, 0].std() == pytest.approx(0.2, rel=0.05)
    standard = coefficients[:, 1:3] / (0.2 * 2 ** (-0.5 * power[:, None]))  # of harmonic 1
    assert standard.std() == pytest.approx(1.0, rel=0.05)


def test_tables_of_ones_own_share_what_is_compiled_whatever_their_lengths(own, place):
    readings = np.full(RAYS, 12.0)
    one = model(own, place, Evidence((own.Calliper(readings, SD),)))
    (term,) = one.data.terms
    assert isinstance(term.table, Table)
    radii = jnp.linspace(6.0, 20.0, RAYS)
    far = (readings - np.asarray(radii)) / SD
    wanted = -2.5 * np.log1p(far**2 / 4) + np.log(3 / 8 / SD)  # of Student's t with 4 degrees
    np.testing.assert_allclose(term.table(radii)[:, 0], wanted, atol=1e-3)
    longer = term.table.of_length(500)
    np.testing.assert_allclose(longer(radii), term.table(radii), atol=1e-6)
    other = replace(one, data=replace(one.data, terms=(replace(term, table=longer),)))
    assert batch._lengths(other) == [500]
    assert batch.kind_of(one) == batch.kind_of(other)
    (first, second), firsts = batch.alike([one, other])
    assert firsts == [0]
    assert batch._lengths(first) == batch._lengths(second) == [500]


def test_what_is_no_prior_is_refused_by_name(own, place):
    assert isinstance(own.PowerLaw(), BoundaryPrior)
    assert not isinstance(own.PowerLaw(), Shareable)
    with pytest.raises(aj.InputError, match=r"a dict is no prior of a boundary: it needs `reach`"):
        checked_prior({"amplitude": 0.1})

    class Loose(own.PowerLaw):
        """The methods of a prior, but JAX cannot walk through it."""

    with pytest.raises(aj.InputError, match="`Loose` is not a record"):
        aj.boundary_model(place, prior=Loose())
    aj.boundary_model(place, prior=record(Loose)())
    with pytest.raises(aj.InputError, match="cannot be shared"):
        aj.fit_population([model(own, place)] * 2)
