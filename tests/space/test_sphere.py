"""Does a star in space measure what it should, however it is turned?"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.space.chart import Chart
from aistat_jax.space.grid import Grid
from aistat_jax.space.mesh import Mesh, surface_from_mask
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.sphere_sites import sphere_basis, sphere_sites

R = 20.0


@pytest.fixture
def chart():
    return sphere_chart(np.array([1.0, 2.0, 3.0]), 40.0)


@pytest.fixture
def lumpy(chart, rng):
    functions = np.asarray(chart.basis(6).functions)[:, 1:]
    return R * np.exp(0.03 * functions @ rng.standard_normal(functions.shape[1]))


def plane_at(frame: np.ndarray, offset: float):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = frame, frame[:, 2] * offset
    return Grid(affine, (5, 5, 1)).plane(0)


def turned(rng) -> np.ndarray:
    frame = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return frame * np.sign(np.linalg.det(frame))


def test_it_is_a_chart(chart):
    assert isinstance(chart, Chart)
    assert chart.sites == len(chart.directions) == 642
    assert np.isclose(sphere_sites(8).share.sum(), 1.0)


def test_harmonics_are_orthonormal_and_know_no_direction(rng):
    sites, basis = sphere_sites(8), sphere_basis(8, 12)
    functions = np.asarray(basis.functions)
    gram = (functions * sites.share[:, None]).T @ functions
    assert np.abs(gram - np.eye(169)).max() < 0.01
    eigenvalues = np.asarray(basis.eigenvalues)
    for degree in (1, 5, 12):  # the addition theorem
        of_it = functions[:, eigenvalues == degree * (degree + 1)]
        assert np.allclose(np.square(of_it).sum(axis=1), 2 * degree + 1)
    with pytest.raises(InputError, match="need at least 800 rays"):
        sphere_basis(8, 19)


def test_a_ball(chart):
    radii = np.full(642, R)
    assert np.isclose(chart.content(radii), 4 / 3 * np.pi * R**3)
    mesh = chart.surface(radii).check()
    assert np.isclose(mesh.volume, 4 / 3 * np.pi * R**3, rtol=2e-3)
    assert np.isclose(chart.weights(radii).sum(), 4 * np.pi * R**2, rtol=6e-3)
    assert np.allclose(np.asarray(chart.bending(3.0)(radii)), R - 9 / R, rtol=1e-5)
    with jax.enable_x64(True):
        assert np.allclose(np.asarray(chart.bending(3.0, 0.0)(radii)), R)


def test_sections_add_up_to_the_volume_whichever_way_they_are_cut(chart, lumpy, rng):
    for frame in (np.eye(3), turned(rng)):
        middle = float(chart.centre @ frame[:, 2])
        heights = middle + np.arange(-30, 30, 0.5)
        areas = [
            sum(curve.area for curve in chart.sections(lumpy, plane_at(frame, height)))
            for height in heights
        ]
        assert np.isclose(0.5 * sum(areas), chart.content(lumpy), rtol=3e-3)
        assert chart.sections(lumpy, plane_at(frame, middle + 60)) == []


def test_what_is_inside_is_what_a_section_holds(chart, lumpy, rng):
    plane = plane_at(turned(rng), 5.0)
    uv = plane.to_uv(chart.centre) + rng.uniform(-25, 25, (2000, 2))
    (curve,) = chart.sections(lumpy, plane)
    inside = chart.inside(lumpy[None], plane.to_world(uv))[0]
    clear = curve.distance_to(uv) > 0.1
    assert (inside == curve.contains(uv))[clear].all()
    share = chart.inside_share(np.stack([lumpy, 0.8 * lumpy]), plane.to_world(uv))
    assert set(np.unique(share)) == {0.0, 0.5, 1.0}


def test_a_surface_is_found_again(chart, lumpy):
    surface = chart.surface(lumpy)
    assert np.allclose(chart.values_of(surface), lumpy)
    away = sphere_chart(chart.centre + 50, 10.0)
    assert not away.sees(surface)
    with pytest.raises(InputError, match="outside the surface"):
        away.values_of(surface)


def test_shares_sum_to_one_and_points_interpolate(chart, lumpy, rng):
    points = chart.centre + 12 * rng.standard_normal((500, 3))
    points[0] = chart.centre
    for footprint in (0.0, 4.0):
        shared = chart.share(points, footprint)
        assert np.allclose(np.bincount(shared.voxel, shared.share), 1.0)
    assert np.array_equal(chart.nearest(chart.points(lumpy)), np.arange(642))


def test_gaps_are_distances_between_surfaces(chart):
    apart = chart.gap(np.full((1, 642), R + 0.5), np.full((1, 642), R))
    assert np.allclose(apart, 0.5, rtol=1e-3)


def test_a_mesh_with_a_hole_is_refused(chart, lumpy):
    whole = chart.surface(lumpy)
    with pytest.raises(InputError, match="has a hole"):
        Mesh(whole.points, whole.faces[1:]).check()
    with pytest.raises(InputError, match="more than two triangles"):
        Mesh(whole.points, np.concatenate([whole.faces, whole.faces])).check()


def test_the_surface_of_a_mask(rng):
    grid = Grid(np.diag([2.0, 2.5, 3.0, 1.0]), (30, 26, 22))
    away = np.linalg.norm(grid.points() - grid.to_world(np.array([14.1, 12.1, 10.1])), axis=-1)
    for radius in (1.0, 12.0, 20.0):
        mesh = surface_from_mask(away < max(radius, away.min() + 1e-6), grid).check()
        assert mesh.volume > 0
        if radius == 1.0:  # one voxel
            continue
        for middle in ([14.0, 12.0, 10.0], [14.3, 12.2, 10.4]):  # rays meet corners and edges too
            chart = sphere_chart(grid.to_world(np.array(middle)), 50.0)
            assert chart.sees(mesh)
            assert (chart.values_of(mesh) > 0).all()
    assert np.isclose(mesh.volume, 4 / 3 * np.pi * 20.0**3, rtol=0.05)
