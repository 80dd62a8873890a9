"""Does a mesh's offset chart answer what a chart is asked, and hold a bent tube?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.chart import Chart, interpolated
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.space.mesh_reach import mesh_reaches
from aistat_jax.space.mesh_reference import smooth_surface
from aistat_jax.space.offset_mesh import OffsetMeshChart, offset_mesh_chart
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.sphere_sites import sphere_sites
from aistat_jax.space.surfaces import mode_count, vertex_normals
from tests.helpers import tube_depth

GRID = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (40, 40, 16))
MASK = tube_depth(GRID.points()) > 0


@pytest.fixture(scope="module")
def chart() -> OffsetMeshChart:
    mesh = smooth_surface(MASK, GRID, 700)
    return offset_mesh_chart(mesh, 8.0, 2.3, mode_count(8))


@pytest.fixture(scope="module")
def ball() -> OffsetMeshChart:
    """A ball of 10 about (20, 20, 20)."""
    sites = sphere_sites(8)
    mesh = Mesh(20.0 + 10.0 * sites.directions, sites.triangles)
    return offset_mesh_chart(mesh, 5.0, 1.0, mode_count(8))


@pytest.fixture
def values(chart, rng) -> np.ndarray:
    draws = rng.standard_normal((4, 40)) @ chart.modes[:, :40].T
    return 0.8 * min(chart.high, -chart.low) * draws / np.abs(draws).max()


def test_it_is_a_chart_of_a_tube(chart):
    assert (chart.dims, chart.link) == (3, "identity")
    assert min(chart.high, -chart.low) > 2.3
    assert chart.mesh.volume == pytest.approx(MASK.sum() * 12, rel=0.12)
    assert isinstance(chart, Chart)


def test_modes_are_orthonormal_and_of_the_right_size(chart, ball):
    for one in (chart, ball):
        gram = (one.modes.T * (one.mass / one.mass.sum())) @ one.modes
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-9)
    degree = np.repeat(np.arange(9), 2 * np.arange(9) + 1)
    wanted = degree * (degree + 1.0)
    np.testing.assert_allclose(ball.eigenvalues[:9], wanted[:9], rtol=0.02, atol=1e-9)
    np.testing.assert_allclose(ball.eigenvalues, wanted, rtol=0.12, atol=1e-9)  # of 642 vertices
    assert ball.radius == pytest.approx(10.0, rel=0.01)
    assert ball.basis(8).functions.shape[1] == 81
    with pytest.raises(aj.InputError, match="lower order"):
        ball.basis(12)


def test_values_come_back_from_their_meshes(chart, values):
    for row in values:
        mesh = chart.surface(row).check()
        assert chart.sees(mesh)
        np.testing.assert_allclose(chart.values_of(mesh), row, atol=1e-9)
        assert chart.content(row) == pytest.approx(mesh.volume)
        assert chart.weights(row).sum() == pytest.approx(mesh.areas.sum())
        assert chart.sectors(row).sum() == pytest.approx(mesh.volume, rel=0.02)
    np.testing.assert_allclose(chart.position(chart.points(values[0])), values[0], atol=1e-9)
    np.testing.assert_array_equal(chart.nearest(chart.points(values[0])), np.arange(chart.sites))


def test_inside_is_inside_the_mesh(chart, values):
    """Against sections of the mesh; only what lies within a hair of a triangle may differ."""
    inside = chart.inside(values, GRID.points())
    for row, own in zip(values, inside, strict=True):
        mesh = chart.surface(row)
        for k in (4, 8, 11):
            plane = GRID.plane(k)
            drawn = np.zeros(GRID.shape[:2], dtype=int)
            for curve in mesh.section(plane):
                drawn += curve.contains(plane.points())
            assert (own[:, :, k] != (drawn % 2 == 1)).sum() <= 4
    assert (chart.inside(values + 0.5, GRID.points()) != inside).sum() > 400
    shares = chart.inside_share(values, GRID.points())
    np.testing.assert_allclose(shares, inside.mean(axis=0), atol=1e-12)


def test_positions_are_signed_distances(chart):
    depth = tube_depth(GRID.points())
    position = chart.position(GRID.points())
    near = np.abs(depth) < 2
    assert np.abs(position + depth)[near].max() < 1.2
    assert np.abs(position + depth)[near].mean() < 0.5
    assert (position[depth < -4] > 2).all()
    assert (position[depth > 4] < -2).all()


def test_shares_sum_to_one(chart, values):
    points = GRID.points().reshape(-1, 3)
    for footprint in (0.0, 2.3, 6.0):
        shared = chart.share(points, footprint)
        np.testing.assert_allclose(np.bincount(shared.voxel, shared.share), 1.0)
    found = interpolated(chart, values[0], chart.points(values[0]))
    np.testing.assert_allclose(found, values[0], atol=1e-6)


def test_on_a_ball_it_is_a_star_shifted_by_its_radius(ball):
    star = sphere_chart(np.full(3, 20.0), 20.0)
    small = 0.1 * ball.modes[:, 6]
    with jax.enable_x64(True):
        seen = np.asarray(ball.bending(2.0)(small))
        wanted = np.asarray(star.bending(2.0)(10.0 + small)) - 10.0
    np.testing.assert_allclose(seen, wanted, atol=0.02)  # of a shift of 0.4
    assert seen.mean() < -0.35
    mean, squares = ball.curvatures()
    np.testing.assert_allclose(mean, 0.2, rtol=0.05)
    np.testing.assert_allclose(squares, 0.02, rtol=0.15)


def test_bending_moves_a_blurred_edge_where_it_seems_to_be(chart):
    """Against the half-way level of the blurred tube; without it the error is four times."""
    from scipy.ndimage import gaussian_filter
    from skimage.measure import marching_cubes

    axes = [np.arange(0, size, 0.8) for size in (80, 78, 48)]
    depth = tube_depth(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    blurred = gaussian_filter(np.clip(depth / 0.8 + 0.5, 0, 1), 2.0 / 0.8)

    def surface(level: np.ndarray) -> Mesh:
        index, faces, _, _ = marching_cubes(level, 0.0)
        mesh = Mesh(0.8 * index.astype(float), faces.astype(int))
        return mesh if mesh.volume > 0 else Mesh(mesh.points, mesh.faces[:, ::-1].copy())

    truth, seen = (chart.values_of(surface(level)) for level in (depth, blurred - 0.5))
    with jax.enable_x64(True):
        told = np.asarray(chart.bending(2.0)(truth))
    assert np.abs(told - seen).mean() < 0.25 * np.abs(truth - seen).mean()


def test_a_tube_is_held_by_no_star_and_by_its_offsets(chart):
    def dice(mask: np.ndarray) -> float:
        return 2 * float((mask & MASK).sum() / (mask.sum() + MASK.sum()))

    outline = surface_from_mask(MASK, GRID)
    assert dice(chart.inside(chart.values_of(outline)[None], GRID.points())[0]) > 0.97
    star = sphere_chart(GRID.points()[MASK][MASK.sum() // 2], 100.0)
    assert dice(star.inside(star.values_of(outline)[None], GRID.points())[0]) < 0.9


def test_sections_are_those_of_the_mesh(chart, values):
    plane = GRID.plane(8)
    mine, theirs = chart.sections(values[0], plane), chart.surface(values[0]).section(plane)
    assert [c.area for c in mine] == [c.area for c in theirs]


def open_mesh(mesh: Mesh) -> Mesh:
    return replace(mesh, faces=mesh.faces[1:])


def test_what_is_no_reference_is_refused(chart):
    mesh = chart.mesh
    points = mesh.points.copy()
    points[3, 1] = np.nan
    with pytest.raises(aj.InputError, match="1 vertices of the mesh are NaN"):
        replace(mesh, points=points).check()
    with pytest.raises(aj.InputError, match="has a hole"):
        offset_mesh_chart(open_mesh(mesh), 5.0, 2.0, 50)
    twice = replace(mesh, faces=np.concatenate([mesh.faces, mesh.faces[:1, ::-1], mesh.faces[:1]]))
    with pytest.raises(aj.InputError, match="more than two triangles"):
        offset_mesh_chart(twice, 5.0, 2.0, 50)
    with pytest.raises(aj.InputError, match="inside out"):
        offset_mesh_chart(replace(mesh, faces=mesh.faces[:, ::-1]), 5.0, 2.0, 50)
    with pytest.raises(aj.InputError, match="too small or too narrow"):
        offset_mesh_chart(mesh, 5.0, 40.0, 50)
    with pytest.raises(aj.InputError, match="must be positive"):
        offset_mesh_chart(mesh, 0.0, 2.0, 50)
    with pytest.raises(aj.InputError, match="need at least"):
        offset_mesh_chart(mesh, 5.0, 2.0, len(mesh.points))
    far = replace(mesh, points=mesh.points + 300.0)
    with pytest.raises(aj.InputError, match="do not meet"):
        chart.values_of(far)


def test_a_mesh_is_finer_only_where_a_coarse_one_folds_or_is_too_flat():
    x, y, z = np.moveaxis(GRID.points(), -1, 0)
    within = (np.abs(x - 40) < 32) & (np.abs(y - 40) < 22)
    plate = (np.abs(z - 24 - 7 * np.sin(x / 7)) < 4) & within

    def reach(mesh):
        return min(mesh_reaches(mesh, vertex_normals(mesh.points, mesh.faces)).least)

    coarse, fine = smooth_surface(plate, GRID, 150), smooth_surface(plate, GRID, 150, 700)
    assert (len(coarse.points), len(fine.points)) == (150, 700)
    assert reach(coarse) < 0.5 < 2.0 < reach(fine)
    tube = smooth_surface(MASK, GRID, 900, 1200)  # the control: a coarse mesh will do
    assert len(tube.points) == 900
    assert reach(tube) > 3.3  # of a size of some 11
    rough = smooth_surface(MASK, GRID, 150)  # its flat triangles are not where a tube's skin is
    assert reach(rough) > 4.0
    assert len(smooth_surface(MASK, GRID, 150, 900).points) == 900
    for mesh in (rough, tube):  # flat triangles cut off none of the volume, wherever they lie
        assert mesh.volume == pytest.approx(MASK.sum() * 12, rel=0.01)
    off = [int((mesh.contains(GRID.points()) != MASK).sum()) for mesh in (rough, tube)]
    assert off[0] > 1.5 * off[1]
