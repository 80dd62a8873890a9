"""Does a posterior survive ArviZ and NetCDF bit for bit?"""

from __future__ import annotations

import dataclasses
import inspect

import jax
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.inference.posterior import Diagnostics, Posterior
from aistat_jax.inference.store import SCHEMA, load_posterior, save_posterior
from tests.helpers import make_posterior

REFUSED = Diagnostics(False, 12.5, None, 1.02, 3, ("the chains disagree", 'a "quoted" reason'))


def rich_posterior(seed: int = 0, **changes: object) -> Posterior:
    """A posterior with every kind of site a program can have."""
    rng = np.random.default_rng(seed)
    posterior = make_posterior(draws=100, rays=32, seed=seed)
    radii = posterior.radii.reshape(2, 50, 32)
    samples = {
        "lengthscale": rng.lognormal(size=(2, 50)),
        "coefficients": rng.standard_normal((2, 50, 9)),
        "amplitude": np.where(rng.random((2, 50)) < 0.1, np.nan, 1 / 3),
        "log_radius": np.log(radii),
        "matrix": rng.standard_normal((2, 50, 3, 2)),
        "scope/basis": rng.integers(0, 9, (2, 50)),
        "basis": rng.random((2, 50)) < 0.5,
    }
    notes = {"energy": rng.standard_normal((2, 50)), "diverging": rng.random((2, 50)) < 0.1}
    posterior = replace(posterior, log_evidence=-320.1 / 3, log_evidence_se=0.03)
    return replace(posterior, radii=radii, samples=samples, sample_stats=notes, **changes)


def assert_same(a: Posterior, b: Posterior) -> None:
    """The same bits, types and order in every field."""
    assert a.seconds == b.seconds
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(one) is type(other)
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    assert list(a.samples) == list(b.samples)
    assert list(a.sample_stats) == list(b.sample_stats)
    for x, y in ((a, b), (a.chart.plane, b.chart.plane), (a.diagnostics, b.diagnostics)):
        for field in dataclasses.fields(x):
            if field.metadata.get("static"):
                assert getattr(x, field.name) == getattr(y, field.name)


@pytest.mark.parametrize("diagnostics", [REFUSED, Diagnostics(True, 0.1 + 0.2, 1 / 3)])
def test_one_posterior_round_trips_bit_for_bit(tmp_path, diagnostics):
    posterior = rich_posterior(diagnostics=diagnostics, method="nuts", seed=7)
    path = save_posterior(tmp_path / "posterior.nc", posterior)
    assert_same(load_posterior(path)[0], posterior)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]


def test_no_evidence_and_no_notes_come_back_as_none(tmp_path):
    plain = replace(rich_posterior(), log_evidence=None, log_evidence_se=None, sample_stats={})
    (loaded,) = load_posterior(save_posterior(tmp_path / "posterior.nc", plain))
    assert_same(loaded, plain)
    assert loaded.log_evidence is None


def test_targets_come_back_in_order_even_with_like_names(tmp_path):
    ids = ("z012", "a/b", "z012", "a b", "")
    posteriors = [rich_posterior(n, target_id=name) for n, name in enumerate(ids)]
    loaded = load_posterior(save_posterior(tmp_path / "all.nc", posteriors))
    for one, other in zip(loaded, posteriors, strict=True):
        assert_same(one, other)


def test_a_change_in_the_last_bit_is_noticed(tmp_path):
    posterior = rich_posterior()
    radii = posterior.radii.copy()
    radii[1, 2, 3] = np.nextafter(radii[1, 2, 3], 0)
    path = save_posterior(tmp_path / "posterior.nc", posterior)
    with pytest.raises(AssertionError):
        assert_same(load_posterior(path)[0], replace(posterior, radii=radii))


def test_arviz_has_named_dimensions_and_units(tmp_path):
    posterior = rich_posterior()
    data = posterior.to_arviz().posterior
    assert data["radii"].dims == ("chain", "draw", "ray")
    assert data["coefficients"].dims == ("chain", "draw", "basis")
    assert data["amplitude"].dims == ("chain", "draw")
    assert data["radii"].attrs["units"] == "mm"
    assert data["ray"].attrs["units"] == "rad"
    np.testing.assert_array_equal(data["ray"], posterior.chart.angles)
    assert (data.attrs["method"], data.attrs["target"]) == ("laplace", "lesion-1")

    import arviz

    path = save_posterior(tmp_path / "posterior.nc", posterior)
    read = arviz.InferenceData.from_netcdf(path, base_group="lesion-1", engine="h5netcdf")
    np.testing.assert_array_equal(read["posterior"]["radii"], posterior.radii)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_posterior(tmp_path / "posterior.nc", rich_posterior())
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(InputError, match="no space left"):
        save_posterior(path, rich_posterior(1))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]


def test_bad_files_are_refused_in_one_sentence(tmp_path):
    import xarray

    with pytest.raises(InputError, match="there is no such file"):
        load_posterior(tmp_path / "none.nc")
    with pytest.raises(InputError, match="no posterior to save"):
        save_posterior(tmp_path / "none.nc", [])
    with pytest.raises(InputError, match="cannot be written"):
        save_posterior(tmp_path / "no folder" / "p.nc", rich_posterior())
    other = tmp_path / "other.nc"
    xarray.Dataset({"a": ("x", np.arange(3.0))}).to_netcdf(other, engine="h5netcdf")
    with pytest.raises(InputError, match="not a posterior file"):
        load_posterior(other)
    text = tmp_path / "text.nc"
    text.write_text("hello")
    with pytest.raises(InputError, match="not a whole posterior file"):
        load_posterior(text)


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("schema", 0, "of schema 0, which this version does not read"),
        ("schema", SCHEMA + 1, f"newer version .schema {SCHEMA + 1}.; update"),
        ("schema", "old", "not a whole posterior file"),
        ("chart", "torus", "of the kind 'torus', which is not among star"),
        ("seed", 1, None),  # the control
    ],
)
def test_a_file_of_another_schema_or_chart_is_refused(tmp_path, attribute, value, words):
    import h5netcdf

    path = save_posterior(tmp_path / "posterior.nc", rich_posterior())
    with h5netcdf.File(path, "a") as file:
        held = file if attribute == "schema" else next(iter(file.groups.values()))["posterior"]
        held.attrs[attribute] = value
    if words is None:
        assert [each.seed for each in load_posterior(path)] == [value]
        return
    with pytest.raises(InputError, match=words):
        load_posterior(path)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_files_are_refused(tmp_path, damage):
    posterior = rich_posterior()
    path = save_posterior(tmp_path / "posterior.nc", posterior)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) * 2 // 3])
    else:
        place = whole.index(posterior.radii[0, :1].tobytes())
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(InputError, match="not a whole posterior file"):
        load_posterior(path)


def test_what_cannot_be_saved_is_told_in_a_sentence(tmp_path):
    path, posterior = tmp_path / "posterior.nc", rich_posterior()
    as_users_call_it = inspect.unwrap(save_posterior)  # the tests check types, a user's call none
    with pytest.raises(InputError, match="the path comes first, then what to save"):
        as_users_call_it(posterior, path)
    for wrong in ("posterior", [posterior, 3]):
        with pytest.raises(InputError, match="only posteriors can be saved, got a"):
            as_users_call_it(path, wrong)
    assert not list(tmp_path.iterdir())
