"""Does a batch compute what single fits compute, in order, and with few compilations?"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.model import BoundaryModel, boundary_model
from aistat_jax.inference import batch
from aistat_jax.inference.batch import fit_many
from aistat_jax.inference.diagnostics import trustworthy
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import NUTS, better, moved
from aistat_jax.inference.posterior import Diagnostics, Posterior
from tests.helpers import ellipse_radii
from tests.inference.cases import compiled

DRAWS = 200


@cache
def a_model(seed: int, radius_max: float = 16.0, family: str = "blurred") -> BoundaryModel:
    """A noisy blurred ellipse; a longer chart has longer tables."""
    from scipy.ndimage import gaussian_filter

    u, v = np.meshgrid(np.arange(40) - 19.3, np.arange(40) - 19.8, indexing="ij")
    radii = ellipse_radii(np.arctan2(v, u), 9.0 + 0.3 * (seed % 4), 7.0)
    inside = (np.hypot(u, v) < radii).astype(float)
    noise = np.random.default_rng(seed).standard_normal((40, 40))
    image = aj.Image.from_arrays(A=1 + 3 * gaussian_filter(inside, 1.2) + 1.2 * noise)
    target = aj.Target(np.array([19.3, 19.8]), 8.0, image.primary.grid.plane(0), f"e{seed}")
    evidence = aj.intensity(image, family=family, blur=1.2, temper=0.5)
    return boundary_model(target, evidence, rays=32, harmonics=4, radius_max=radius_max)


# Two lengths of tables of one kind; order and lengths are mixed on purpose.
MODELS = [(0, 16.0), (1, 34.0), (2, 16.0), (3, 34.0), (4, 16.0)]


@pytest.fixture(scope="module")
def models() -> list[BoundaryModel]:
    return [a_model(seed, reach) for seed, reach in MODELS]


@pytest.fixture(scope="module")
def many(models) -> list[Posterior]:
    return fit_many(models, draws=DRAWS, seed=10, fallback=False)


def apart(a: Posterior, b: Posterior) -> float:
    """Largest difference between two posteriors' radii draw by draw, over the mean sd."""
    return float(np.abs(a.radii - b.radii).max() / a.draws.std(axis=0).mean())


def test_a_batch_is_what_single_fits_are_draw_by_draw(models, many):
    """Padding and another order of sums leave only rounding, whatever the lengths of the tables."""
    lengths = {tuple(batch._lengths(model)) for model in models}
    assert len(lengths) == 2
    for i, (model, posterior) in enumerate(zip(models, many, strict=True)):
        alone = fit(model, draws=DRAWS, seed=10 + i, fallback=False)
        assert apart(alone, posterior) < 1e-4
        for name, values in alone.samples.items():
            np.testing.assert_allclose(posterior.samples[name], values, atol=1e-4)
        assert posterior.diagnostics.khat == pytest.approx(alone.diagnostics.khat, abs=1e-4)
        assert posterior.diagnostics.ess_min == pytest.approx(alone.diagnostics.ess_min, rel=1e-4)
        assert posterior.diagnostics.reasons == alone.diagnostics.reasons
        assert (posterior.seed, posterior.method) == (10 + i, "laplace")
        assert posterior.radii.shape == alone.radii.shape == (1, DRAWS, 32)
    # negative control: another contour, or another seed, is not the same to rounding
    assert apart(many[0], many[2]) > 0.5
    assert apart(many[0], fit(models[0], draws=DRAWS, seed=11, fallback=False)) > 0.5


def test_order_and_company_do_not_matter(models, many):
    """A contour keeps its place; with the seed of its place, its neighbours do not touch it."""
    assert [p.target_id for p in many] == [f"e{seed}" for seed, _ in MODELS]
    for model, posterior in zip(models, many, strict=True):
        assert posterior.chart is model.chart
    turned = [models[0], *models[:0:-1]]
    again = fit_many(turned, draws=DRAWS, seed=10, fallback=False)
    assert [p.target_id for p in again] == ["e0", "e4", "e3", "e2", "e1"]
    assert apart(many[0], again[0]) < 1e-4
    assert apart(many[2], again[2]) > 0.5


@pytest.mark.parametrize("family", ["blurred", "gaussian"])
def test_padded_tables_have_the_same_likelihood(family):
    model = a_model(0, 16.0, family)
    lengths = [2 * n + 7 for n in batch._lengths(model)]
    padded = batch._pad(model.data, lengths)
    assert batch._lengths(replace(model, data=padded)) == lengths
    with jax.enable_x64(True):
        for radius in (3.0, 8.0, 15.9, 40.0):  # the last is beyond the tables
            radii = np.full(32, radius)
            value = float(log_likelihood(model.data.terms, radii))
            assert float(log_likelihood(padded.terms, radii)) == pytest.approx(value, rel=1e-11)
    with pytest.raises(InputError, match="longer than its batch allows"):
        batch._pad(model.data, [n - 1 for n in batch._lengths(model)])


def test_compilations_do_not_grow_with_the_number_of_contours(models, many):
    before = compiled()
    for count in (2, 3, len(models)):  # the longest table is always among them
        fit_many(models[:count][::-1], draws=DRAWS, fallback=False)
    more = [a_model(seed, reach) for seed, reach in ((7, 34.0), (8, 16.0), (9, 34.0), (10, 16.0))]
    seen = []
    fitted = fit_many([*models, *more], draws=DRAWS, seed=3, fallback=False, progress=seen.append)
    assert len(fitted) == 9
    assert seen == [1] * 9
    assert compiled() == before
    fit_many(models[:2], draws=DRAWS + 1, fallback=False)  # other settings: the guard can fail
    assert compiled() == before + 2  # proposals and weights, nothing that depends on the model


def test_what_is_traced_for_one_fit_is_traced_for_the_next(models, many):
    """Timings and diagnostics are values: they change from fit to fit, and nothing is compiled."""
    traced = []

    @jax.jit
    def middle(posterior: Posterior) -> jax.Array:
        traced.append(posterior)
        return posterior.radii.mean() + 0.0 * posterior.model.data.mean.sum()

    target, timed = replace(many[2].model.target, id="e0"), dict.fromkeys(many[2].seconds, 1.0)
    model = replace(many[2].model, target=target, presence=0.9, seconds=0.1)
    other = replace(many[2], model=model, target_id="e0", seed=10, presence=0.9, seconds=timed)
    assert other.diagnostics.khat != many[0].diagnostics.khat
    for posterior in (many[0], other):
        assert float(middle(posterior)) == pytest.approx(posterior.radii.mean(), rel=1e-5)
    assert len(traced) == 1
    middle(replace(other, target_id="e4"))  # a name is part of the record: the guard can fail
    assert len(traced) == 2


def test_a_contour_that_laplace_does_not_fit_is_fitted_alone(models, many, monkeypatch):
    """One member is declared untrustworthy, also when started again; it is sampled, no other."""
    poor = many[1].diagnostics.khat
    assert sum(abs(p.diagnostics.khat - poor) < 1e-3 for p in many) == 1
    assert all(trustworthy(p.diagnostics, DRAWS) for p in many)
    calls = []

    def all_but_one(found: Diagnostics, draws: int) -> bool:
        return found.khat != pytest.approx(poor, abs=1e-3) and trustworthy(found, draws)

    def alone(chains: NUTS, model: BoundaryModel, **settings: Any) -> Posterior:
        calls.append((model.target.id, chains, settings))
        return replace(many[1], method="nuts", seed=settings["seed"])

    monkeypatch.setattr("aistat_jax.inference.methods.trustworthy", all_but_one)
    monkeypatch.setattr("aistat_jax.inference.methods.better", lambda first, second: first)
    monkeypatch.setattr(NUTS, "until_mixed", alone)
    mixed = fit_many(models, draws=DRAWS, seed=10)
    settings = {"draws": DRAWS, "seed": 11}
    assert calls == [("e1", NUTS(chains=4, warmup=300), settings)]
    assert mixed[1].diagnostics.khat == pytest.approx(poor)
    assert [p.method for p in mixed] == ["laplace", "nuts", "laplace", "laplace", "laplace"]
    for i in (0, 2, 3, 4):
        np.testing.assert_array_equal(mixed[i].radii, many[i].radii)
    # negative control: told not to fall back, it does not
    fit_many(models, draws=DRAWS, seed=10, fallback=False)
    assert len(calls) == 1


def test_a_fit_starts_again_at_the_mean_of_earlier_draws(models, many):
    again = moved(models[0], many[0])
    amplitude, lengthscale = (np.log(many[0].samples[n]) for n in ("amplitude", "lengthscale"))
    expected = [amplitude.mean(), lengthscale.mean(), *many[0].samples["coefficients"][0].mean(0)]
    assert again.near is not None
    np.testing.assert_allclose(again.near, expected)
    runaway = many[0].samples | {"amplitude": np.full((1, DRAWS), np.inf)}
    assert moved(models[0], replace(many[0], samples=runaway)).near is None
    refitted = fit(again, draws=DRAWS, seed=10, fallback=False)
    assert trustworthy(refitted.diagnostics, DRAWS)
    poor = replace(many[0], diagnostics=replace(many[0].diagnostics, ess_min=1.0))
    chosen = better(poor, refitted)
    assert chosen.diagnostics == refitted.diagnostics
    assert chosen.seconds["fit"] == poor.seconds["fit"] + refitted.seconds["fit"]


def test_models_of_different_kinds_are_fitted_in_one_go(models, many):
    hard = a_model(1, 16.0, "gaussian")
    mixed = fit_many([models[0], models[1], hard], draws=DRAWS, seed=10, fallback=False)
    assert apart(mixed[0], many[0]) < 1e-4
    assert apart(mixed[1], many[1]) < 1e-4
    assert apart(mixed[2], fit(hard, draws=DRAWS, seed=12, fallback=False)) < 1e-4


def test_nothing_to_fit_and_too_few_draws():
    assert fit_many([]) == []
    with pytest.raises(InputError, match="at least 100 draws"):
        fit_many([a_model(0)], draws=50)
