"""Do Laplace, NUTS, VI and SMC compute one and the same posterior?

Statistical checks compare means and sds by their Monte-Carlo errors with a false-alarm rate of
1 in 1000 for a whole comparison (Bonferroni), after a gate on effective sample sizes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from scipy.stats import norm, t

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.inference.density import Density
from aistat_jax.inference.fit import fit
from aistat_jax.inference.methods import NUTS, SMC, VI, Laplace, lacks_evidence
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.transport import find_transport
from aistat_jax.space.basis import spectral_variance
from benchmarks.calibration import HARMONICS, PRIOR, RAYS, pixel_image
from tests.inference.cases import compiled, hard_model, soft_model

FALSE_ALARM = 1e-3
ESS_GATE = 400


def quantities(posterior: Posterior) -> np.ndarray:
    """Radii on every sixth ray and log area: (chain, draw, quantity)."""
    area = np.log(np.square(posterior.radii).mean(axis=-1, keepdims=True))
    return np.concatenate([posterior.radii[..., ::6], area], axis=-1)


def effective(posterior: Posterior, values: np.ndarray) -> np.ndarray:
    """Effective draws behind the mean of each column of values (chain, draw, quantity)."""
    import arviz

    if posterior.diagnostics.rhat_max is None:  # weighted, then resampled
        draws = values.shape[0] * values.shape[1]
        return np.full(values.shape[-1], 1 / (1 / posterior.diagnostics.ess_min + 1 / draws))
    columns = np.moveaxis(values, -1, 0)
    return np.array([float(np.asarray(arviz.ess(x, method="mean"))) for x in columns])


def disagreement(a: Posterior, b: Posterior) -> float:
    """Largest |z| over means and sds, over the level a false alarm in 1000 would need."""
    summaries = []
    for posterior in (a, b):
        values = quantities(posterior)
        mean = values.mean(axis=(0, 1))
        squares = np.square(values - mean)
        variance = squares.mean(axis=(0, 1))
        ess, ess_squares = effective(posterior, values), effective(posterior, squares)
        assert min(ess.min(), ess_squares.min()) >= ESS_GATE
        log_sd_error = squares.std(axis=(0, 1)) / variance / 2 / np.sqrt(ess_squares)
        summaries.append((mean, variance / ess, 0.5 * np.log(variance), log_sd_error**2))
    (mean_a, se_a, sd_a, sde_a), (mean_b, se_b, sd_b, sde_b) = summaries
    scores = np.concatenate(
        [(mean_a - mean_b) / np.sqrt(se_a + se_b), (sd_a - sd_b) / np.sqrt(sde_a + sde_b)]
    )
    limit = norm.ppf(1 - FALSE_ALARM / (2 * len(scores)))
    return float(np.abs(scores).max() / limit)


@pytest.fixture(scope="module")
def posteriors() -> dict[str, Posterior]:
    model = soft_model()
    return {
        "laplace": fit(model, "laplace", draws=2000, seed=1, fallback=False),
        "nuts": fit(model, "nuts", draws=2000, seed=2),
        "vi": fit(model, "vi", draws=2000, seed=3, steps=2000),
    }


def test_each_method_says_it_converged(posteriors):
    for name, posterior in posteriors.items():
        assert posterior.diagnostics.converged, (name, posterior.diagnostics)
        assert posterior.method == name
        assert posterior.radii.shape[0] * posterior.radii.shape[1] == 2000
        assert set(posterior.samples) == {"amplitude", "lengthscale", "coefficients"}
        assert posterior.samples["coefficients"].shape == (*posterior.radii.shape[:2], 13)
        assert posterior.radii.dtype == np.float64


@pytest.mark.parametrize("pair", [("laplace", "nuts"), ("laplace", "vi"), ("nuts", "vi")])
def test_methods_agree_on_radii_and_area(posteriors, pair):
    assert disagreement(*(posteriors[name] for name in pair)) < 1


@pytest.mark.parametrize("name", ["laplace", "nuts", "vi"])
def test_a_posterior_too_sure_or_shifted_is_caught(posteriors, name):
    right, reference = posteriors[name], posteriors["nuts" if name != "nuts" else "laplace"]
    mean = right.estimate
    narrow = replace(right, radii=mean + 0.7 * (right.radii - mean))
    assert disagreement(narrow, reference) > 1
    shifted = replace(right, radii=right.radii + 0.5 * right.draws.std(axis=0))
    assert disagreement(shifted, reference) > 1


# ------------------------------------------------------------------------------ hard steps


@pytest.fixture(scope="module")
def hard() -> dict[str, Posterior]:
    model = hard_model()
    return {
        "laplace": fit(model, "laplace", draws=10_000, seed=1, fallback=False),
        "smc": fit(model, "smc", draws=4000, seed=2),
    }


def test_smc_agrees_with_weighted_laplace_on_a_hard_step(hard):
    assert hard["laplace"].diagnostics.khat is not None
    assert hard["laplace"].diagnostics.khat < 0.7
    assert disagreement(hard["laplace"], hard["smc"]) < 1


def test_laplace_and_smc_agree_on_the_evidence_of_an_image(hard):
    """Seeds 1 and 2; a false alarm in 1000 for a t with the 3 degrees of four populations."""
    one, other = (hard[name] for name in ("laplace", "smc"))
    limit = t.isf(5e-4, 3) * np.hypot(one.log_evidence_se, other.log_evidence_se)
    assert limit < 1.5
    assert abs(one.log_evidence - other.log_evidence) < limit
    with jax.enable_x64(True):
        transport = find_transport(hard_model().program, hard_model().data.smoothed())
        lacking = one.log_evidence - float(transport.log_volume)
    assert abs(lacking - other.log_evidence) > limit  # the negative control


@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")  # of ArviZ
def test_the_energy_of_the_chains_can_be_plotted(posteriors):
    """Kinetic energy is half a chi-square of 15 dimensions: its mean within 5 errors (ESS at
    least 400), a false alarm in a million."""
    import arviz
    import matplotlib.pyplot as plt

    posterior = posteriors["nuts"]
    data = posterior.to_arviz(groups=["posterior", "sample_stats"])
    arviz.plot_energy(data)
    plt.close("all")
    assert (arviz.bfmi(data) > 0.5).all()
    for name in ("diverging", "energy", "tree_depth", "n_steps", "acceptance_rate"):
        np.testing.assert_array_equal(data.sample_stats[name], posterior.sample_stats[name])
    assert posterior.diagnostics.divergences == posterior.sample_stats["diverging"].sum()
    model = soft_model()
    with jax.enable_x64(True):
        transport = find_transport(model.program, jax.device_put(model.data))
        density = Density(model.program, model.data)
        vectors = aj.log_density(model).unconstrain(posterior.samples).reshape(-1, 15)

        def log_det(vector: jax.Array) -> jax.Array:
            eps = jnp.linalg.solve(transport.hyper_chol, vector[:2] - transport.hyper_mean)
            return transport.push(density, jnp.concatenate([eps, jnp.zeros(13)]))[2]

        dets = np.asarray(jax.jit(jax.vmap(log_det))(jnp.asarray(vectors)))
    lp = data.sample_stats["lp"].values
    kinetic = data.sample_stats["energy"].values + lp + dets.reshape(lp.shape)
    assert abs(kinetic.mean() - 7.5) < 5 * np.sqrt(7.5 / 400)
    assert abs((kinetic - lp).mean() - 7.5) > 100 * np.sqrt(7.5 / 400)  # the negative control


def test_where_there_is_no_evidence_there_is_none(posteriors):
    assert posteriors["laplace"].log_evidence is not None
    for name in ("nuts", "vi"):
        assert posteriors[name].log_evidence is None
        assert posteriors[name].log_evidence_se is None


@pytest.mark.parametrize("method", ["nuts", "vi"])
def test_gradient_methods_refuse_a_hard_step(method):
    with pytest.raises(InputError, match="needs gradients, which a hard step does not have"):
        fit(hard_model(), method)


def test_bad_arguments_are_refused():
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("gibbs", {}, "unknown `method` 'gibbs'; use one of laplace, nuts, vi, smc"),
        ("laplace", {"draws": 50}, "at least 100 draws"),
        ("nuts", {"chains": 1}, "at least 2 chains"),
        ("vi", {"guide": "best"}, "unknown guide 'best'; use one of mean_field, full_rank"),
        ("vi", {"steps": 0}, "at least 1 step"),
        ("nuts", {"guide": "best"}, "`method` 'nuts' has no guide; it takes chains, warmup"),
    )
    for method, settings, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            fit(soft_model(), method, **settings)
    with pytest.raises(InputError, match="pass chains to NUTS"):
        fit(soft_model(), NUTS(), chains=2)


# ------------------------------------------------------------------- seeds, flags, compiling


def test_the_same_seed_gives_the_same_bits_whatever_the_flag():
    def draws(flag: bool, seed: int = 4) -> np.ndarray:
        with jax.enable_x64(flag):
            soft_model.cache_clear()
            return fit(soft_model(), draws=500, seed=seed).radii

    first = draws(False)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, draws(False))
    np.testing.assert_array_equal(first, draws(True))
    assert not np.array_equal(first, draws(False, seed=5))


def test_equal_shapes_compile_once():
    fit(soft_model(0), draws=500)
    before = compiled()
    radii = [fit(soft_model(seed), draws=500, seed=seed).radii for seed in (1, 2, 3)]
    assert compiled() == before
    assert not np.array_equal(radii[0], radii[1])
    fit(soft_model(1), draws=501)  # other settings: the guard can fail, by proposals and weights
    assert compiled() == before + 2


def test_another_smoothness_is_no_other_program():
    """The exponential, Matern and squared-exponential priors share what is compiled, and differ."""
    data = soft_model().data
    models = {
        nu: replace(soft_model(), data=replace(data, prior=aj.Prior(smoothness=nu)))
        for nu in (0.5, 1.5, 2.5, np.inf)
    }
    fit(soft_model(), draws=500, fallback=False)
    before = compiled()
    fits = {nu: fit(model, draws=500, fallback=False) for nu, model in models.items()}
    assert compiled() == before
    finest = [p.samples["coefficients"][0, :, -2:].std() for p in fits.values()]
    assert (np.diff(finest) < 0).all()  # the smoother, the less there is of the last harmonic


def far_apart(radii, distance, sd):
    return -0.5 * jnp.square((radii[0] + radii[24] - distance) / sd)


def test_terms_of_one_function_compile_once():
    """Whatever their values, and though the function is written anew each time."""

    def fitted(evidence: aj.Evidence) -> Posterior:
        return fit(soft_model() + evidence, draws=500, fallback=False)

    first = fitted(aj.term(far_apart, 19.0, 0.2))
    before = compiled()
    second = fitted(aj.term(far_apart, 17.0, 0.1))
    assert compiled() == before
    width = [(p.draws[:, 0] + p.draws[:, 24]).mean() for p in (first, second)]
    assert width[0] > width[1] + 0.5
    anew = [lambda radii, at: -jnp.sum(jnp.square(radii - at)) / 100 for _ in range(2)]
    fitted(aj.term(anew[0], 9.0))
    after = compiled()
    assert after > before  # negative control: another function is another program
    fitted(aj.term(anew[1], 8.0))
    assert compiled() == after


# ------------------------------------------------------------------------- other programs


def dilated_program(data):
    """The boundary model with a dilation of its own: the prior mean of the first coefficient."""
    amplitude = jnp.asarray(numpyro.sample("amplitude", dist.LogNormal(jnp.log(0.15), 0.6)))
    dilation = numpyro.sample("dilation", dist.Uniform(-0.3, 0.3))
    variance = spectral_variance(data.basis.eigenvalues, amplitude, jnp.asarray(0.5), 1.5)
    scale = jnp.sqrt(variance.at[0].set(0.01))
    mean = jnp.zeros_like(scale).at[0].set(dilation)
    coefficients = numpyro.sample("coefficients", dist.Normal(mean, scale).to_event(1))
    log_radius = data.mean + data.basis.functions @ coefficients
    radii = jnp.asarray(numpyro.deterministic("radii", jnp.exp(log_radius)))
    numpyro.deterministic("circumradius", radii.max())
    numpyro.factor("evidence", log_likelihood(data.terms, radii))


@cache
def dilated(method: str) -> Posterior:
    model = replace(soft_model(), program=dilated_program)
    methods = {"laplace": Laplace(fallback=False), "nuts": NUTS(), "vi": VI(steps=2000)}
    return fit(model, methods[method], draws=2000, seed=7)


@pytest.mark.parametrize(
    "pair", [("laplace", "nuts"), pytest.param(("vi", "nuts"), marks=pytest.mark.slow)]
)
def test_every_method_fits_an_edited_program(pair):
    posteriors = [dilated(method) for method in pair]
    for posterior in posteriors:
        assert set(posterior.samples) == {"amplitude", "dilation", "coefficients", "circumradius"}
        assert posterior.diagnostics.converged, posterior.diagnostics
        assert np.abs(posterior.samples["dilation"]).max() < 0.3
        np.testing.assert_allclose(
            posterior.samples["circumradius"], posterior.radii.max(axis=-1), rtol=1e-12
        )
    assert disagreement(*posteriors) < 1


def bent_program(data):
    """Two coefficients on a narrow parabola: no normal lies near it."""
    coefficients = numpyro.sample("coefficients", dist.Normal(0.0, 0.1).expand([13]).to_event(1))
    first, second = jnp.asarray(coefficients)[1:3]
    numpyro.deterministic("radii", jnp.exp(data.mean + data.basis.functions @ coefficients))
    numpyro.factor("evidence", -0.5 * jnp.square((first - 20 * second**2) / 0.005))


def _assert_fell_back(kept: Posterior, posterior: Posterior) -> None:
    assert kept.method == "laplace"
    assert posterior.method == "nuts"
    khat = posterior.diagnostics.khat  # of the start with more effective draws
    assert khat is not None
    assert posterior.diagnostics.rhat_max is not None
    assert re.fullmatch(
        rf"Laplace did not fit \(khat {khat:.2f}, \d+ effective draws\); sampled by nuts instead",
        posterior.diagnostics.reasons[-1],
    )


def test_a_fit_over_the_limit_falls_back_to_nuts_and_says_so(posteriors, monkeypatch):
    kept = fit(soft_model(), draws=2000, seed=2, fallback=False)
    monkeypatch.setattr("aistat_jax.inference.methods.trustworthy", lambda found, draws: False)
    posterior = fit(soft_model(), draws=2000, seed=2)
    _assert_fell_back(kept, posterior)
    assert disagreement(posterior, posteriors["nuts"]) < 1
    assert fit(soft_model(), draws=2000, seed=2, fallback=False).method == "laplace"


@pytest.mark.slow
def test_a_bent_posterior_falls_back_to_nuts():
    model = replace(soft_model(), program=bent_program)
    kept = fit(model, draws=1000, fallback=False)
    assert not kept.diagnostics.converged
    assert "the approximation does not fit (Pareto khat" in " ".join(kept.diagnostics.reasons)
    _assert_fell_back(kept, fit(model, draws=1000))


@pytest.mark.slow
def test_a_mode_that_does_not_matter_is_left_for_where_particles_find_the_posterior():
    """An amplitude two prior sds above its mean: the first expansion has it smaller than the mean.

    The control is that first expansion, which is elsewhere.
    """
    image, truth = pixel_image(1, 2.0)
    target = aj.Target(truth["centre"], 14.0, image.primary.grid.plane(0))
    model = aj.boundary_model(
        target, aj.intensity(image, blur=1.5), prior=PRIOR, rays=RAYS, harmonics=HARMONICS,
        radius_max=40.0,
    )  # fmt: skip
    kept, found = fit(model, fallback=False), fit(model)
    assert kept.diagnostics.khat is not None
    assert kept.diagnostics.khat > 2
    assert (found.method, found.diagnostics.converged) == ("laplace", True)
    other = fit(model, "smc", draws=4000)
    off = [
        float(np.abs((p.estimate - other.estimate) / other.draws.std(axis=0)).max())
        for p in (found, kept)
    ]
    assert off[0] < 0.5 < 1.0 < off[1]
    assert aj.simultaneous_band(found).contains(truth["radii"])


def test_particles_that_found_another_mode_take_the_place_of_laplace_and_run_once(monkeypatch):
    ran, tries = [], iter([False, False, True, False, False, True])

    def sample(self, model, *, draws, seed):
        ran.append(draws)
        return sampled(self, model, draws=draws, seed=seed)

    sampled = SMC.sample
    monkeypatch.setattr(SMC, "sample", sample)
    where = "aistat_jax.inference.methods"
    monkeypatch.setattr(f"{where}.trustworthy", lambda found, draws: next(tries))
    kept = fit(soft_model(), draws=1000)  # the control: theirs is no more
    assert (kept.method, ran) == ("laplace", [1000])
    monkeypatch.setattr(f"{where}.lacks_evidence", lambda posterior, particles: True)
    found = fit(soft_model(), draws=1000)
    assert (found.method, ran) == ("smc", [1000, 1000])
    said = "Laplace found one mode of several; sampled by smc instead"
    assert found.diagnostics.reasons[-1] == said


def test_particles_that_found_more_evidence_have_found_another_mode(posteriors):
    mine, theirs = posteriors["laplace"], fit(soft_model(), "smc", draws=1000)
    assert not lacks_evidence(mine, theirs)
    more = replace(theirs, log_evidence=mine.log_evidence + 2)
    assert lacks_evidence(mine, more)
    assert not lacks_evidence(replace(mine, log_evidence=mine.log_evidence + 4), more)
    torn = replace(more.diagnostics, rhat_max=2.0, converged=False)
    assert not lacks_evidence(mine, replace(more, diagnostics=torn))


def cauchy_program(data):
    coefficients = numpyro.sample("coefficients", dist.Cauchy(0.0, 0.1).expand([13]).to_event(1))
    numpyro.deterministic("radii", jnp.exp(data.mean + data.basis.functions @ coefficients))


def nameless_program(data):
    numpyro.sample("weights", dist.Normal(0.0, 0.1).expand([13]).to_event(1))


def test_programs_that_are_not_boundary_models_are_refused():
    with pytest.raises(InputError, match='site "coefficients" must be normal.*got Cauchy'):
        fit(replace(soft_model(), program=cauchy_program))
    with pytest.raises(InputError, match='needs a sample site "coefficients"'):
        fit(replace(soft_model(), program=nameless_program))


@dataclass(frozen=True)
class Independence:
    """A sampler of one's own: Metropolis that proposes from another posterior's moments."""

    from_: Posterior

    def sample(self, model: BoundaryModel, *, draws: int, seed: int) -> Posterior:
        density = aj.log_density(model)
        place = np.asarray(density.unconstrain(self.from_.samples)).reshape(-1, density.dim)
        mean, factor = place.mean(axis=0), np.linalg.cholesky(np.cov(place.T))
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((4, 10 * draws // 4, density.dim))
        proposed = mean + noise @ factor.T
        with jax.enable_x64(True):
            value = np.asarray(jax.jit(jax.vmap(jax.vmap(density)))(jnp.asarray(proposed)))
        weight = value + 0.5 * (noise**2).sum(axis=-1)
        at, kept = np.zeros(4, dtype=int), []
        for step in range(noise.shape[1]):
            ahead = np.log(rng.random(4)) < weight[:, step] - weight[np.arange(4), at]
            at = np.where(ahead, step, at)
            kept.append(proposed[np.arange(4), at])
        return aj.as_posterior(model, np.stack(kept[::10], axis=1), method="own", seed=seed)


def test_a_sampler_of_ones_own_is_an_object_with_one_method(posteriors):
    found = fit(soft_model(), Independence(posteriors["laplace"]), draws=1000, seed=4)
    assert (found.method, len(found.draws)) == ("own", 1000)
    assert disagreement(found, posteriors["laplace"]) < 1


def test_records_are_the_methods_by_their_short_names():
    short = fit(soft_model(), "laplace", draws=300, seed=5, fallback=False)
    record = fit(soft_model(), aj.Laplace(fallback=False), draws=300, seed=5)
    np.testing.assert_array_equal(short.radii, record.radii)
    assert isinstance(aj.NUTS(), aj.Method)


def test_the_face_offers_what_the_notebooks_use():
    assert aj.fit is fit
