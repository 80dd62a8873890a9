"""Do the standard plots and leave-one-out of ArviZ work on what a posterior hands over?"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from scipy import stats

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.inference.arviz_groups import GROUPS
from aistat_jax.inference.posterior import Posterior
from tests.helpers import make_posterior
from tests.inference.cases import SMALL, soft_model

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
    import arviz


@cache
def sampled() -> Posterior:
    return aj.fit(soft_model(), draws=1000, seed=2)


@cache
def handed() -> Any:
    return sampled().to_arviz(seed=1)


def test_every_group_is_there_with_named_dimensions():
    data = handed()
    assert set(data.groups()) == set(GROUPS)
    assert data.posterior["radii"].dims == ("chain", "draw", "ray")
    assert data.prior["radii"].dims == ("chain", "draw", "ray")
    assert data.log_likelihood["A"].dims == ("chain", "draw", "A_block")
    assert data.observed_data["A"].dims == ("A_voxel",)
    assert data.posterior_predictive["A"].dims == ("chain", "draw", "A_voxel")
    assert data.posterior_predictive["A"].shape[:2] == (1, 200)
    inside = np.hypot(data.observed_data["A_u"] - 19.3, data.observed_data["A_v"] - 19.8)
    assert float(inside.max()) <= SMALL["radius_max"]
    image = soft_model().evidence.pieces[0].image["A"].values[:, :, 0]
    u, v = (data.observed_data[f"A_{axis}"].values.astype(int) for axis in "uv")
    np.testing.assert_array_equal(data.observed_data["A"], image[u, v])


def test_lp_is_the_log_density_of_each_draw():
    density = aj.log_density(soft_model())
    posterior = sampled()
    vectors = density.unconstrain(posterior.samples)
    lp = handed().sample_stats["lp"].values
    for draw in (0, 777):
        np.testing.assert_allclose(lp[0, draw], density(vectors[0, draw]), rtol=1e-9)
    assert np.abs(lp[0, 0] - lp[0, 777]) > 1e-6


def test_leave_one_block_out_works_and_prefers_the_right_boundaries():
    found = arviz.loo(handed(), pointwise=True)
    assert np.isfinite(found.elpd_loo)
    assert (found.pareto_k.values < 0.7).mean() > 0.98
    assert 2 < found.p_loo < 15  # a boundary and three levels
    blocks = handed().log_likelihood["A"].shape[-1]
    assert found.n_data_points == blocks
    # the control: the same posterior, every boundary a tenth too large
    large = replace(sampled(), radii=1.1 * sampled().radii)
    other = large.to_arviz(groups=["posterior", "log_likelihood"], seed=1)
    worse = arviz.loo(other, pointwise=True)
    gain = found.loo_i.values - worse.loo_i.values
    assert gain.sum() > 2 * np.sqrt(len(gain)) * gain.std()


@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")  # of ArviZ
def test_predictions_hold_the_share_of_voxels_that_they_say():
    """Independent noise: of some 800 voxels 90% are held, binomial false alarms of 1e-3 (seed 1);
    with noise of half the size they are not."""
    data = handed()
    predicted = data.posterior_predictive["A"].values.reshape(200, -1)
    seen = data.observed_data["A"].values
    arviz.plot_ppc(data, num_pp_samples=20, random_seed=0)
    plt.close("all")

    def held(values: np.ndarray) -> int:
        low, high = np.quantile(values, [0.05, 0.95], axis=0)
        return int(((seen >= low) & (seen <= high)).sum())

    bounds = stats.binom(len(seen), 0.9).ppf([5e-4, 1 - 5e-4])
    assert bounds[0] <= held(predicted) <= bounds[1] + 0.01 * len(seen)
    mean = predicted.mean(axis=0)
    assert held(mean + 0.5 * (predicted - mean)) < bounds[0]


def test_raters_and_clicks_have_groups_too():
    model = soft_model()
    rays = model.chart.surface(np.full(48, 8.5))
    clicks = model.chart.points(np.full(48, 8.5))[::12]
    more = model + aj.raters([rays, rays], sd=1.0) + aj.anchors(clicks)
    more = more + aj.anchors(clicks[:1], kind="inside")
    halves = {n: v.reshape(2, 500, *v.shape[2:]) for n, v in sampled().samples.items()}
    posterior = aj.as_posterior(more, halves)
    data = posterior.to_arviz(groups=GROUPS[3:])
    logs = data.log_likelihood
    assert set(logs.data_vars) == {"A", "raters", "clicks", "clicks_"}
    assert logs["raters"].shape == (2, 500, 2)
    assert set(data.observed_data.data_vars) == {"A", "raters", "clicks"}
    assert data.posterior_predictive["raters"].dims == ("chain", "draw", "raters_rater", "ray")
    # a term is the sum of its observations
    import jax

    with jax.enable_x64(True):
        for draw in (0, 9):
            radii = posterior.radii[1, draw]
            for n, name in enumerate(("raters", "clicks", "clicks_"), start=1):
                term = float(aj.log_likelihood([more.data.terms[n]], radii))
                np.testing.assert_allclose(logs[name][1, draw].sum(), term, rtol=1e-9)


def test_a_posterior_without_a_model_hands_over_what_it_has():
    plain = make_posterior(draws=100, rays=32)
    assert plain.to_arviz().groups() == ["posterior"]
    noted = replace(plain, sample_stats={"energy": np.zeros((1, 100))})
    data = noted.to_arviz()
    assert data.groups() == ["posterior", "sample_stats"]
    assert list(data.posterior.data_vars) == ["radii"]
    with pytest.raises(InputError, match="'log_likelihood' needs the model"):
        plain.to_arviz(groups=["log_likelihood"])
    with pytest.raises(InputError, match="unknown group 'priors'"):
        plain.to_arviz(groups=["priors"])
    with pytest.raises(InputError, match="nothing for group 'sample_stats'"):
        plain.to_arviz(groups=["sample_stats"])


@pytest.mark.parametrize("named", [False, True])
def test_from_arviz_1_on_it_is_a_tree_of_the_same_data(monkeypatch, tmp_path, named):
    """There InferenceData is not, or is another name of xarray's tree."""
    before = sampled().to_arviz(seed=1)
    assert not isinstance(before, xarray.DataTree)
    monkeypatch.delattr(arviz, "InferenceData")
    if named:
        monkeypatch.setattr(arviz, "InferenceData", xarray.DataTree, raising=False)
    data = sampled().to_arviz(seed=1)
    assert isinstance(data, xarray.DataTree)
    assert set(data.children) == set(before.groups())
    for name, group in data.children.items():
        assert group.to_dataset().equals(before[name])
    path = aj.save_posterior(tmp_path / "fit.nc", sampled())
    read = xarray.open_datatree(path, group="ellipse", engine="h5netcdf")
    np.testing.assert_array_equal(read["posterior"]["radii"], sampled().radii)
