"""Are the figures of what a source contributes those of linear algebra, and is noise worth nothing?

Seeds are fixed. A tail or a rank is checked at a false-alarm rate of one in a thousand.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import record, replace
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.store import load_posterior, save_posterior
from aistat_jax.space.offset import offset_chart
from aistat_jax.uncertainty.contributions import (
    Contribution,
    Contributions,
    Information,
    gaussian_divergence,
    split_p,
)
from tests.helpers import circle, make_image, make_posterior, make_surface

QUICK = aj.Laplace(fallback=False)
ANGLES = 2 * np.pi * np.arange(32) / 32


@record
class Plain:
    """Offsets about 0, of three harmonics with known sds."""

    spread: float = 2.0
    reach = property(lambda self: 2.2)

    def on(self, target, chart, order):
        return self, np.zeros(chart.sites), chart.basis(3)

    def scale(self, basis):
        return self.spread / (1 + jnp.asarray(basis.eigenvalues))

    def bend(self, field, sd):
        return field

    straighten = bend


def left(values, at, precision):
    return -0.5 * jnp.sum(precision * jnp.square(values - at))


def right(values, at, precision):
    return -0.5 * jnp.sum(precision * jnp.square(values - at))


def gaussian(gap: float = 0.0) -> tuple[aj.Posterior, dict[str, np.ndarray]]:
    """A fit of two Gaussian sources, one sharp on the left, the other on the right; what the first
    says is off by `gap`."""
    from aistat_jax.space.grid import Plane

    plane = Plane(np.zeros(2), np.full(2, 2.0), 0.0, 2.0, np.eye(3), (64, 64), "mm")
    outline = circle(20.0, (63.0, 63.0), 400)
    chart = offset_chart(outline, 10.0, plane, 32)
    at = {"left": 0.5 * np.cos(ANGLES) + gap, "right": 0.5 * np.cos(ANGLES) + 0.2}
    precision = {
        "left": 0.05 + 0.5 * (np.cos(ANGLES) < 0),
        "right": 0.05 + 0.5 * (np.cos(ANGLES) > 0),
    }
    evidence = aj.term(left, at["left"], precision["left"])
    evidence = evidence + aj.term(right, at["right"], precision["right"])
    model = aj.boundary_model(aj.OffsetTarget(outline, plane), evidence, prior=Plain(), chart=chart)
    posterior = aj.fit(model, QUICK, draws=2000, seed=1, compare=False)
    basis = np.asarray(model.data.basis.functions)
    sd = 2.0 / (1 + np.asarray(model.data.basis.eigenvalues))
    known = {"basis": basis, "prior": np.diag(sd**-2)}
    for name in at:
        known[name] = basis.T @ (precision[name][:, None] * basis)
        known[f"{name} pull"] = basis.T @ (precision[name] * at[name])
    return posterior, known


def law(known, *names):
    """Mean and covariance of the coefficients given some sources."""
    covariance = np.linalg.inv(known["prior"] + sum(known[name] for name in names))
    return covariance @ sum((known[f"{n} pull"] for n in names), np.zeros(7)), covariance


@pytest.fixture(scope="module")
def found():
    posterior, known = gaussian()
    return aj.contributions(posterior, method=QUICK), known


def test_information_is_that_of_gaussians(found):
    contributions, known = found
    for one in contributions.sources:
        mine = one.name.split("`")[1]
        other = {"left": "right", "right": "left"}[mine]
        for got, after, before in (
            (one.adds, (mine, other), (other,)),
            (one.tells, (mine,), ()),
        ):
            exact = gaussian_divergence(*law(known, *after), *law(known, *before))
            assert got.how == "evidence"
            assert 0 < got.error < 0.2
            assert abs(got.nats - exact) < 4 * got.error + 0.01


def test_the_divergence_of_gaussians_is_an_integral():
    first, second = (1.0, 0.5), (0.2, 1.5)
    x = np.linspace(-12, 12, 20001)
    (p, q) = (
        np.exp(-0.5 * ((x - m) / s) ** 2) / s / np.sqrt(2 * np.pi) for m, s in (first, second)
    )
    brute = np.sum(p * np.log(np.maximum(p, 1e-300) / q)) * (x[1] - x[0])
    (a, b), (c, d) = first, second
    got = gaussian_divergence(np.array([a]), np.eye(1) * b**2, np.array([c]), np.eye(1) * d**2)
    assert got == pytest.approx(brute, abs=1e-6)


def test_widths_middles_and_weights_are_those_of_gaussians(found):
    contributions, known = found
    basis = known["basis"]
    mean, covariance = law(known, "left", "right")
    for one in contributions.sources:
        other = {"left": "right", "right": "left"}[one.name.split("`")[1]]
        rest, wide = law(known, other)
        sds = [np.sqrt(np.einsum("sj,jk,sk->s", basis, v, basis)) for v in (covariance, wide)]
        assert np.allclose(one.weight, 1 - (sds[0] / sds[1]) ** 2, atol=0.15)
        assert one.moved == pytest.approx(np.abs(basis @ (mean - rest)).mean(), abs=0.06)
    left, right = contributions.sources
    cosine = np.cos(ANGLES)
    assert left.weight[cosine < -0.5].mean() > 0.3 + left.weight[cosine > 0.5].mean()
    assert right.weight[cosine > 0.5].mean() > 0.3 + right.weight[cosine < -0.5].mean()


def test_the_p_of_a_conflict_is_uniform_where_there_is_none():
    """Two sources, each blind in some directions, under one informative prior."""
    rng, dim = np.random.default_rng(5), 9
    common = np.diag(np.linspace(0.2, 2.0, dim))
    parts = []
    for blind in (3, 1):
        root = 0.5 * rng.standard_normal((dim - blind, dim))
        parts.append(root.T @ root)
    covariances = [np.linalg.inv(np.linalg.inv(common) + part) for part in parts]
    found, naive, off, exact = [], [], [], np.zeros((dim, dim))
    for _ in range(1000):
        x = rng.multivariate_normal(np.zeros(dim), common)
        means = []
        for part, covariance in zip(parts, covariances, strict=True):
            noise = rng.multivariate_normal(np.zeros(dim), part, method="svd")
            means.append(covariance @ (part @ x + noise))
        gap = means[0] - means[1]
        found.append(split_p(gap, *covariances, common, exact))
        naive.append(split_p(gap, *covariances, 1e9 * np.eye(dim), exact))
        off.append(split_p(gap + 3 * np.sqrt(np.diag(common)), *covariances, common, exact))
    assert kstest(found, "uniform").statistic < 0.08  # two moments of a sum of chi-squares
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.08
    assert np.mean(np.array(naive) < 0.05) < 0.02  # a prior counted twice is too mild
    assert np.mean(np.array(off) < 0.05) > 0.9


def test_a_source_that_contradicts_the_rest_is_seen(found):
    honest, _ = found
    lying, _ = gaussian(gap=4.0)
    lying = aj.contributions(lying, method=QUICK)
    assert all(one.conflict > 0.01 for one in honest.sources)
    assert all(one.conflict < 0.001 for one in lying.sources)
    assert lying.sources[0].adds.nats > 3 * honest.sources[0].adds.nats


def test_chains_have_no_evidence_and_say_how_it_was_computed(found):
    from aistat_jax.uncertainty.contributions import _information

    contributions, known = found
    one = contributions.sources[0]
    got = _information(contributions.posterior, one.without, np.zeros(2000), lambda posterior: None)
    exact = gaussian_divergence(*law(known, "left", "right"), *law(known, "right"))
    assert got.how == "coarse Gaussian"
    assert got.error == 0
    assert got.nats == pytest.approx(exact, abs=0.25)


def image_with_noise(seed: int = 0) -> aj.Image:
    values = make_image(seed=seed).primary.values
    noise = np.random.default_rng(seed).standard_normal(values.shape)
    return aj.Image.from_arrays(PT=values, other=noise, spacing_mm=2.0)


@pytest.fixture(scope="module")
def fitted() -> Posterior:
    image = image_with_noise()
    target = aj.Target(np.array([63.0, 63.0]), 12.0, image.primary.grid.plane(0))
    evidence = aj.intensity(image, "PT", blur=4.0) + aj.intensity(image, "other", blur=2.0)
    clicks = aj.anchors(np.array([[77.0, 63.0]]), kind="edge", sd=3.0)
    model = aj.boundary_model(target, evidence + clicks, rays=64)
    return aj.fit(model, QUICK, draws=400, seed=2, compare=False)


def test_noise_adds_nothing_and_clicks_are_no_source(fitted):
    contributions = aj.contributions(fitted, method=QUICK)
    assert [one.name for one in contributions.sources] == ["PT", "other"]
    noise, table = contributions["other"], contributions.table().set_index("source")
    assert abs(noise.adds.nats) < 0.7
    assert contributions["PT"].adds.nats > 10 * abs(noise.adds.nats)
    assert table.loc["other", "ratio"] == pytest.approx(1.0, abs=0.12)
    assert abs(table.loc["other", "weight"]) < 0.2 < table.loc["PT", "weight"]
    assert table.loc["other", "temper"] > table.loc["PT", "temper"]  # white noise; PET's is not
    assert "other adds" in str(contributions)
    with pytest.raises(InputError, match="no source 'CT'; there are PT, other"):
        contributions["CT"]


def test_what_cannot_be_told_is_refused(fitted, tmp_path):
    (loaded,) = load_posterior(save_posterior(tmp_path / "fit.nc", fitted))
    with pytest.raises(InputError, match="read from a file has no model"):
        aj.contributions(loaded)
    bare = fitted.model.data
    bare = replace(fitted.model, data=replace(bare, terms=()), evidence=Evidence(()))
    with pytest.raises(InputError, match="no source of evidence"):
        aj.contributions(replace(fitted, model=bare))


def made_contributions(solid: bool = False) -> Contributions:
    """Of posteriors that nobody fitted: PET narrow on one side, CT on the other."""
    if solid:
        sides = [make_surface(sd=0.05, swell=1.0), make_surface(sd=0.08, swell=3.0, seed=1),
                 make_surface(sd=0.06, seed=2)]  # fmt: skip
    else:
        sides = [make_posterior(sd=0.04, draws=400), make_posterior(sd=0.05, swell=2.0, seed=1),
                 make_posterior(sd=0.05, swell=1.5, swell_at=0.0, seed=2)]  # fmt: skip
    whole, *parts = sides
    bands = [aj.simultaneous_band(each) for each in sides]
    sources = tuple(
        Contribution(
            rest, alone, bands[1 + n], bands[2 - n],
            1 - whole.draws.var(axis=0) / rest.draws.var(axis=0),
            name, Information(nats, 0.2, "evidence"), Information(2 * nats, 0.2, "evidence"),
            p, 0.2, 0.8, 1400.0,
        )
        for n, (rest, alone, name, nats, p) in enumerate(
            [(parts[0], parts[1], "PT", 31.2, 0.31), (parts[1], parts[0], "CT", 4.6, 0.0002)]
        )
    )  # fmt: skip
    return Contributions(whole, bands[0], sources)


def test_a_table_of_a_surface_is_in_ml():
    flat, solid = (made_contributions(kind).table() for kind in (False, True))
    assert {"content_mm2", "half_width_mm", "half_width_without_mm", "middle_mm"} <= set(flat)
    assert solid["content_ml"].tolist() == [1.4, 1.4]
    assert "content_mm2" not in solid
    assert (flat["ratio"] < 1).all()
