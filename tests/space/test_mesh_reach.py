"""Has each normal of a mesh a reach of its own, within which nothing folds over?"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.mesh_reach import checked_normals, mesh_reaches, size_of
from aistat_jax.space.mesh_reference import even_surface, smooth_surface, smoothed_depths
from aistat_jax.space.offset_mesh import OffsetMeshChart, offset_mesh_chart
from aistat_jax.space.reach import KEPT, SLOPE, gentle, narrow_share
from aistat_jax.space.sphere import sphere_sites
from aistat_jax.space.surfaces import mode_count, vertex_normals
from tests.helpers import tube_depth

# A bent bar, 16 mm thick in the middle and 3 at its tips, in voxels of 1.5 mm.
GRID = Grid(np.diag([1.5, 1.5, 1.5, 1.0]), (52, 52, 32))
DEPTH = tube_depth(GRID.points(), half=8.0, tip=1.5)
VOXEL = 1.5


@pytest.fixture(scope="module")
def bar() -> Mesh:
    (depth,) = smoothed_depths(DEPTH > 0, GRID, [0.7])
    return even_surface(depth, 800).check()


@pytest.fixture(scope="module")
def chart(bar) -> OffsetMeshChart:
    return offset_mesh_chart(bar, 10.0, VOXEL, mode_count(6))


def edges(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]]).T
    return one, other


def turned_over(chart: OffsetMeshChart, values: np.ndarray) -> int:
    """How many triangles of a boundary look the other way than those of the reference."""
    way = []
    for points in (chart.reference, chart.points(values)):
        a, b, c = np.moveaxis(points[chart.faces], 1, 0)
        way.append(np.cross(b - a, c - a))
    return int((np.einsum("fi,fi->f", *way) <= 0).sum())


def test_of_a_ball_it_is_the_radius_inwards_and_none_outwards():
    sites = sphere_sites(8)
    ball = Mesh(20.0 + 10.0 * sites.directions, sites.triangles)
    found = mesh_reaches(ball, vertex_normals(ball.points, ball.faces))
    np.testing.assert_allclose(found.inner, 10.0, rtol=0.1)
    assert np.isinf(found.outer).all()
    assert size_of(ball) == pytest.approx(10.0, rel=0.02)
    # so all sites share it, however it is asked for
    chart, even = (offset_mesh_chart(ball, 5.0, 1.0, 49, even=each) for each in (False, True))
    assert chart.limits is None
    for one, other in zip(jax.tree.leaves(chart), jax.tree.leaves(even), strict=True):
        assert np.array_equal(one, other)


def test_of_a_bar_it_is_about_half_as_thick_as_the_bar(bar):
    found = mesh_reaches(bar, vertex_normals(bar.points, bar.faces))
    angle = np.arctan2(bar.points[:, 1] - 38.0, bar.points[:, 0] - 40.0)
    middle, tips = np.abs(angle) < 0.5, np.abs(angle) > np.pi - 1.2
    assert np.median(found.inner[middle]) == pytest.approx(7.5, abs=1.5)
    assert np.median(found.inner[tips]) < 3.0
    assert min(found.least) < 1.5  # one reach for all: the tips'


def test_gentle_reaches_are_the_largest_that_change_slowly(bar):
    found = mesh_reaches(bar, vertex_normals(bar.points, bar.faces)).inner
    both = edges(bar)
    (one, other), ways = both, np.stack(both, axis=1)
    smooth = gentle(bar.points, ways, found)
    way = np.linalg.norm(bar.points[one] - bar.points[other], axis=1)
    assert (smooth <= found + 1e-9).all()
    assert (np.abs(smooth[one] - smooth[other]) <= SLOPE * way + 1e-9).all()
    assert (np.abs(found[one] - found[other]) > SLOPE * way).any()  # the control: as they were
    np.testing.assert_allclose(gentle(bar.points, ways, smooth), smooth)
    np.testing.assert_allclose(gentle(bar.points, ways, np.full(len(found), 3.0)), 3.0)
    assert np.isinf(gentle(bar.points, ways, np.full(len(found), np.inf))).all()


def test_within_their_own_ends_boundaries_do_not_fold_and_beyond_they_do(chart, rng):
    low, high = chart.ends
    assert chart.limits is not None
    assert np.median(-low) > 3 * (-low).min()
    assert turned_over(chart, low) == turned_over(chart, high) == 0
    smooth = np.tanh(rng.standard_normal((5, 12)) @ chart.modes[:, 1:13].T / 4)
    for share in smooth:
        assert turned_over(chart, np.where(share < 0, -share * low, share * high)) == 0
    assert (
        turned_over(chart, np.full(chart.sites, np.median(low))) > 100
    )  # the control: one for all


def test_positions_agree_with_points_and_volume_with_voxels(chart, rng):
    low, high = chart.ends
    values = chart.modes[:, 1:30] @ rng.standard_normal(29)
    values *= 0.6 * np.minimum(-low, high) / np.abs(values).max()
    points = chart.points(values)
    np.testing.assert_allclose(chart.position(points), values, atol=1e-6)
    inside = [chart.inside(values[None], points + by * chart.normals)[0] for by in (-0.05, 0.05)]
    assert inside[0].mean() > 0.99
    assert inside[1].mean() < 0.01
    held = chart.inside(values[None], GRID.points()[np.abs(DEPTH) < 5.0])[0].sum()
    held += (DEPTH >= 5.0).sum()
    assert held * VOXEL**3 == pytest.approx(float(chart.content(values)), rel=0.02)
    # what has no foot lies beyond every boundary, on its side
    deep = GRID.points()[DEPTH > 6.5]
    foot = chart.foot(deep)
    assert (foot.face < 0).any()
    assert (foot.position[foot.face < 0] < chart.low).all()


def test_ends_that_are_alike_make_the_chart_of_one_reach(rng):
    """The same numbers, told site by site."""
    grid = Grid(np.diag([3.0, 3.0, 3.0, 1.0]), (26, 26, 16))
    mask = tube_depth(grid.points()) > 0
    target = aj.offset_target(mask, grid)
    chart = offset_mesh_chart(smooth_surface(mask, grid, 500), 4.0, 3.0, mode_count(6))
    assert chart.limits is None
    told = replace(chart, limits=np.tile([chart.low, chart.high], (chart.sites, 1)))
    points = grid.points().reshape(-1, 3)
    near = points[np.abs(chart.position(points)) < 0.9 * chart.high]
    assert len(near) > 1000
    for one, other in zip(chart.share(near, 3.0), told.share(near, 3.0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    noise = aj.Image.from_arrays(A=rng.standard_normal(mask.shape), spacing_mm=3.0)
    sums: list[Any] = []
    for each in (chart, told):
        model = aj.boundary_model(
            target, aj.intensity(noise, blur=2.0, temper=1.0), chart=each, harmonics=6
        )
        assert getattr(model.data.prior, "room", 0) is None
        values = 0.5 * np.asarray(model.data.basis.functions)[:, 3]
        sums.append(float(aj.log_likelihood(model.data.terms, values)))
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


@pytest.mark.parametrize("radius", [36, 38, 40, 42])
def test_a_body_much_larger_than_its_voxels_has_a_closed_mesh(radius):
    """The grid that it is cut in is coarser than the margin of the mask, and ends beyond it."""
    side = 2 * radius + 1
    grid = Grid(np.eye(4), (side, side, side))
    body = np.linalg.norm(grid.points() - radius, axis=-1) <= radius
    (depth,) = smoothed_depths(body, grid, [1.0])
    mesh = even_surface(depth, 100).check()
    assert mesh.volume == pytest.approx(body.sum(), rel=0.1)


def test_hardly_any_room_on_much_of_it_is_refused(bar):
    normals, low, high = checked_normals(bar, 10.0, VOXEL)
    assert low.min() < 0.5 * np.median(low)
    with pytest.raises(aj.InputError, match="too small or too narrow"):
        checked_normals(bar, 10.0, 12.0)
    least = KEPT * min(mesh_reaches(bar, normals.outward).least)
    with pytest.raises(aj.InputError, match="too small or too narrow"):
        checked_normals(bar, 10.0, 4.5 * least, even=True)
    assert narrow_share(normals, low, high, 4.5 * least) < 0.05
    checked_normals(bar, 10.0, 4.5 * least)  # few of them are as narrow


def test_of_a_mask_that_falls_apart_a_piece_has_its_own_volume():
    """Two balls on a rod too thin for a mesh: the larger is not blown up by what is lost."""
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (50, 26, 26))
    points = grid.points()
    larger = np.linalg.norm(points - (22.0, 24.0, 24.0), axis=-1) < 16
    smaller = np.linalg.norm(points - (74.0, 24.0, 24.0), axis=-1) < 14
    rod = np.linalg.norm(points[..., 1:] - 24.0, axis=-1) < 1.5
    rod &= (points[..., 0] > 22) & (points[..., 0] < 74)
    (depth,) = smoothed_depths(larger | smaller | rod, grid, [0.7])
    found = even_surface(depth, 800).check().volume
    assert found == pytest.approx(8.0 * larger.sum(), rel=0.05)
    assert depth.volume > 1.5 * found  # of the whole, which none of its pieces has
