"""Is the posterior of a bent tube about the tube that is there?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax.boundary.offsets import VERTICES
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh
from tests.helpers import tube_depth
from tests.inference.cases import compiled

GRID = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (40, 40, 16))
DEPTH = tube_depth(GRID.points())
ROUGH = DEPTH + np.sin(np.arange(40) / 3.0)[:, None, None] > 0.2


@pytest.fixture(scope="module")
def image():
    from scipy.ndimage import gaussian_filter

    inside = gaussian_filter(np.clip(DEPTH / 2.3 + 0.5, 0, 1), 1.5 / np.array([2.0, 2.0, 3.0]))
    noise = np.random.default_rng(0).standard_normal(DEPTH.shape)
    return aj.Image.from_arrays(PT=1 + 4 * inside + 1.2 * noise, spacing_mm=(2.0, 2.0, 3.0))


@pytest.fixture(scope="module")
def posterior(image):
    target = aj.offset_target(ROUGH, image.primary.grid, "tube")
    assert isinstance(target, AnyTarget)
    model = aj.boundary_model(target, aj.intensity(image, blur=1.5, temper=1.0), harmonics=6)
    return aj.fit(model, draws=500, fallback=False)


def true_surface() -> Mesh:
    from skimage.measure import marching_cubes

    axes = [np.arange(0.0, size) for size in (80, 78, 48)]
    depth = tube_depth(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    index, faces, _, _ = marching_cubes(depth, 0.0)
    mesh = Mesh(index.astype(float), faces.astype(int))
    return mesh if mesh.volume > 0 else Mesh(mesh.points, mesh.faces[:, ::-1].copy())


def test_the_band_holds_nearly_all_of_the_tube(posterior):
    truth = posterior.chart.values_of(true_surface())
    band = aj.simultaneous_band(posterior)
    off = np.abs(truth - band.centre)
    assert (off <= band.half_width).mean() > 0.97
    assert band.half_width.mean() < 2.0
    assert (off <= 0.3 * band.half_width).mean() < 0.9  # the control
    assert np.abs(truth - band.centre).mean() < np.abs(truth).mean()  # nearer than the reference


def test_volume_grade_and_probabilities(posterior, image):
    volume = aj.area_posterior(posterior)
    assert volume.unit == "mm3"
    assert abs(volume.mean / true_surface().volume - 1) < 0.05
    assert aj.grade(posterior, tolerance_mm=3.0).case in ("green", "amber")
    found = aj.probability_map(posterior, image.primary.grid) > 0.5
    assert 2 * (found & (DEPTH > 0)).sum() / (found.sum() + (DEPTH > 0).sum()) > 0.95
    section = posterior.chart.sections(posterior.estimate, image.primary.grid.plane(8))
    assert len(section) == 1


def test_it_is_kept(posterior, tmp_path):
    (again,) = aj.load_posterior(aj.save_posterior(tmp_path / "tube.nc", posterior))
    assert np.array_equal(again.radii, posterior.radii)
    assert np.array_equal(again.chart.modes, posterior.chart.modes)
    assert again.chart.reach == posterior.chart.reach
    assert again.chart.unit == "mm"


def test_an_estimate_is_the_reference_of_the_next(posterior, image):
    grid = image.primary.grid
    target = aj.offset_target(posterior, grid)
    assert target.content == pytest.approx(posterior.chart.content(posterior.estimate), rel=0.1)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (np.zeros((40, 40, 16), bool), "0 voxels"),
        (ROUGH[:, :, 0], "must be boolean on the grid"),
        (true_surface().points, "must be boolean"),
        ("a file", "got a str"),
        (Mesh(true_surface().points, true_surface().faces[1:]), "has a hole"),
        (Mesh(true_surface().points, true_surface().faces, "px"), "give both one unit"),
    ],
)
def test_what_is_no_reference_is_refused(reference, words):
    with pytest.raises(aj.InputError, match=words):
        aj.offset_target(reference, GRID)


def test_a_mesh_of_another_form_compiles_nothing_anew(image, posterior):
    """Whatever the mask, as many vertices and modes; another order of modes is the control."""
    grid = image.primary.grid
    middle = np.linalg.norm(grid.points() - np.array([40.0, 40.0, 22.0]), axis=-1)
    ball = aj.offset_target(middle < 14.0, grid, "ball")
    assert ball.content != pytest.approx(posterior.chart.mesh.volume, rel=0.2)
    evidence = aj.intensity(image, blur=1.5, temper=1.0)
    known = compiled()

    def fitted(target: AnyTarget, order: int) -> int:
        model = aj.boundary_model(target, evidence, harmonics=order)
        assert model.chart.sites == VERTICES[0]
        aj.fit(model, draws=500, fallback=False, compare=False)
        return compiled()

    assert fitted(ball, 6) == known
    assert fitted(ball, 3) > known
