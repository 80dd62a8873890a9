"""Is every point on the side of a surface that it lies on, also beside sharp edges?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.mesh_feet import Prisms, feet
from aistat_jax.space.mesh_reference import even_surface, smoothed_depths
from aistat_jax.space.offset_mesh import OffsetMeshChart, offset_mesh_chart
from aistat_jax.space.sphere import sphere_sites
from aistat_jax.space.surfaces import vertex_normals

GRID = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (44, 44, 28))


def plate() -> np.ndarray:
    """A thin wing on a ball: its rim is sharper than triangles are large."""
    x, y, z = np.moveaxis(GRID.points() - [42.0, 42.0, 26.0], -1, 0)
    ball = np.sqrt((x + 18) ** 2 + y**2 + z**2) < 14
    wing = (np.abs(z - 0.01 * x**2) < 3.0) & (x > -18) & (x < 32) & (np.abs(y) < 26)
    return ball | wing


@pytest.fixture(scope="module")
def chart() -> OffsetMeshChart:
    (depth,) = smoothed_depths(plate(), GRID, [0.7])
    return offset_mesh_chart(even_surface(depth, 800).check(), 25.0, 2.0, 49)


def counted(mesh: Mesh, grid: Grid) -> np.ndarray:
    """What lies inside the sections of a mesh, by an odd number of curves."""
    odd = np.zeros(grid.shape, dtype=bool)
    for k in range(grid.shape[2]):
        plane = grid.plane(k)
        for curve in mesh.section(plane):
            odd[:, :, k] ^= curve.contains(plane.points())
    return odd


def test_a_mesh_contains_what_its_sections_do(chart):
    mesh, points = chart.mesh, GRID.points()
    inside = mesh.contains(points)
    assert 0.05 < inside.mean() < 0.5
    assert (inside != counted(mesh, GRID)).sum() <= 2
    assert inside.shape == GRID.shape
    assert not mesh.contains(points + 1000.0).any()
    assert not mesh.contains(np.zeros((0, 3))).any()
    # a shift by a voxel is another region: the control
    assert (mesh.contains(points + 2.0) != inside).sum() > 200


def test_what_has_no_foot_is_on_its_own_side_and_the_nearest_normal_would_say_otherwise():
    """Beside a fin that leans over, whose tip has the normal of what it stands on."""
    sites = sphere_sites(8)
    angle = np.arccos(np.clip(sites.directions[:, 0], -1.0, 1.0))
    lean = np.maximum(1 - angle / 0.4, 0.0)[:, None] * [6.0, 0.0, 12.0]
    mesh = Mesh(42.0 + 10.0 * sites.directions + lean - [0.0, 0.0, 16.0], sites.triangles).check()
    normals = vertex_normals(mesh.points, mesh.faces)
    points = GRID.points().reshape(-1, 3)
    foot = feet(Prisms(mesh.points, mesh.faces, normals, (-1.0, 1.0)), points)
    inside, without = counted(mesh, GRID).ravel(), foot.face < 0
    assert without.sum() > 1000
    np.testing.assert_array_equal(foot.position[without] < 0, inside[without])
    assert ((foot.position < 0) != inside).sum() < 0.01 * len(points)
    near = foot.site[:, 0]
    told = np.einsum("pi,pi->p", points - mesh.points[near], normals[near]) < 0
    assert (told != inside)[without].sum() > 100  # the control


def test_boundaries_hold_no_voxels_far_from_them(chart):
    """Also where each corner has its own limits, with what lies deeper than any of them."""
    points = GRID.points().reshape(-1, 3)
    inside, foot = chart.mesh.contains(points), chart.foot(points)
    assert chart.limits is not None
    assert (foot.face < 0).sum() > 1000
    zero = chart.inside(np.zeros((1, chart.sites)), points)[0]
    assert (zero != inside).sum() < 0.02 * inside.sum()
    shares = chart.inside_share(np.stack([0.5 * end for end in chart.ends]), points)
    far = (foot.face < 0) & (np.abs(foot.position) > chart.high)
    np.testing.assert_array_equal(shares[far], inside[far])
