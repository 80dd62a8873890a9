"""Is a bent bar with thin tips contoured, each place with the room that it has?"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.boundary.prior import Prior
from aistat_jax.inference.diagnostics import chart_reasons
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.grading import ROOM
from tests.helpers import tube_depth

SIDES = (1.5, 1.5, 2.0)
GRID = Grid(np.diag([*SIDES, 1.0]), (52, 52, 24))
# Up to 16 mm thick, and 4 at its tips; the rough outline is up to .6 mm off.
BAR: dict[str, Any] = {"half": 8.0, "tip": 2.0}
DEPTH = tube_depth(GRID.points(), **BAR)
ROUGH = DEPTH + 0.6 * np.sin(np.arange(52) / 4.0)[:, None, None] > 0.0


def true_surface() -> Mesh:
    from skimage.measure import marching_cubes

    axes = [np.arange(0.0, size) for size in (80, 78, 48)]
    depth = tube_depth(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), **BAR)
    index, faces, _, _ = marching_cubes(depth, 0.0)
    mesh = Mesh(index.astype(float), faces.astype(int))
    return mesh if mesh.volume > 0 else Mesh(mesh.points, mesh.faces[:, ::-1].copy())


@pytest.fixture(scope="module")
def image() -> aj.Image:
    from scipy.ndimage import gaussian_filter

    inside = gaussian_filter(np.clip(DEPTH / 1.65 + 0.5, 0, 1), 1.5 / np.array(SIDES))
    noise = np.random.default_rng(0).standard_normal(DEPTH.shape)
    return aj.Image.from_arrays(PT=1 + 4 * inside + 1.5 * noise, spacing_mm=SIDES)


@pytest.fixture(scope="module")
def model(image) -> aj.BoundaryModel:
    target = aj.offset_target(ROUGH, image.primary.grid, "bar")
    return aj.boundary_model(target, aj.intensity(image, blur=1.5, temper=1.0), harmonics=6)


@pytest.mark.slow
def test_it_is_contoured_and_with_little_room_for_all_of_it_it_is_not(model):
    low, high = model.chart.ends
    assert np.median(-low) > 2 * (-low).min()
    posterior = aj.fit(model, draws=500, fallback=False, compare=False)
    assert posterior.diagnostics.converged, posterior.diagnostics.reasons
    assert ((posterior.draws > low) & (posterior.draws < high)).all()
    truth, band = posterior.chart.values_of(true_surface()), aj.simultaneous_band(posterior)
    off = np.abs(truth - band.centre)
    assert (off <= band.half_width).mean() > 0.95
    assert (off <= 0.3 * band.half_width).mean() < 0.9  # the control
    assert band.half_width.mean() < 1.5
    assert (off[-low < 3.5] <= band.half_width[-low < 3.5]).mean() > 0.8
    assert aj.area_posterior(posterior).mean == pytest.approx(true_surface().volume, rel=0.03)
    assert aj.grade(posterior, tolerance_mm=3.0).case in ("green", "amber")
    # the control: with half of the tips' reach for all of it, it runs into the ends
    ends = {"low": 0.5 * float(low.max()), "high": 0.5 * float(high.min())}
    one = replace(model.chart, **ends, limits=None)
    alike = aj.boundary_model(model.target, model.evidence, chart=one, harmonics=6)
    failed = aj.fit(alike, draws=500, fallback=False, compare=False)
    assert any("reaches the edge" in reason for reason in failed.diagnostics.reasons)
    assert aj.grade(failed, tolerance_mm=3.0).case == "red"


def test_no_draw_leaves_its_ends_and_what_was_drawn_comes_back(model, rng):
    low, high = model.chart.ends
    with jax.enable_x64(True):
        draws = 30.0 * rng.standard_normal((20, 49))
        values = np.array([model.data.values(each) for each in draws])
        assert ((values >= low - 1e-6) & (values <= high + 1e-6)).all()
        free = replace(model.data, prior=replace(model.data.prior, room=None))
        beyond = np.array([free.values(each) for each in draws])
        assert (beyond < low).any()  # the control
        small = 0.01 * draws[0]
        again = model.data.coefficients(np.asarray(model.data.values(small)))
        np.testing.assert_allclose(again, small, atol=1e-3)
    assert isinstance(model.data.prior, Prior)
    assert model.data.prior.shared().room is None


def test_ends_are_hit_where_the_chart_ends_or_on_much_of_the_surface(model):
    low, high = model.chart.ends
    at_rest = np.zeros((1, 100, len(low)))
    assert chart_reasons(at_rest, model.chart) == []
    few, many, far = (at_rest.copy() for _ in range(3))
    narrow = np.argsort(-low)
    few[..., narrow[:10]] = 0.99 * low[narrow[:10]]
    many[..., narrow[:100]] = 0.99 * low[narrow[:100]]
    far[:, :10, high.argmax()] = 0.99 * high.max()
    assert chart_reasons(few, model.chart) == []
    for runs_out in (many, far):
        (reason,) = chart_reasons(runs_out, model.chart)
        assert "reaches the edge" in reason


def test_what_has_no_room_to_be_wrong_is_not_green(model):
    """A tip that nothing but the rough outline says: its draws cannot leave it."""
    low, high = model.chart.ends
    room = np.minimum(-low, high)
    alone = aj.boundary_model(model.target, chart=model.chart, harmonics=6)
    drawn = aj.prior_draws(alone, 200)
    sure = replace(drawn, radii=0.05 * drawn.radii / np.abs(drawn.radii).max())
    found = aj.grade(sure, tolerance_mm=4.0)
    assert found.case == "amber"
    assert (found.local[room < ROOM * 4.0] > 0).all()
    assert any("believed as drawn" in reason for reason in found.reasons)
    # the control: less is asked than there is room for
    enough = aj.grade(sure, tolerance_mm=float(np.quantile(room, 0.01)) / ROOM - 0.1)
    assert not any("believed as drawn" in reason for reason in enough.reasons)
    assert (enough.local[room > 4.0] == 0).all()


def test_it_is_kept_with_its_ends(model, tmp_path):
    alone = aj.boundary_model(model.target, chart=model.chart, harmonics=6)
    posterior = aj.prior_draws(alone, 100)
    (again,) = aj.load_posterior(aj.save_posterior(tmp_path / "bar.nc", posterior))
    np.testing.assert_array_equal(again.chart.limits, model.chart.limits)
    low, _ = model.chart.ends
    assert (aj.simultaneous_band(again).lower >= low).all()
    later = aj.model_from_draws(again)
    assert later.chart.reach == model.chart.reach
