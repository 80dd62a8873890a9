"""Does index <-> world hold in every orientation?"""

from __future__ import annotations

from itertools import permutations, product

import jax
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.space.grid import (
    Grid,
    canonical_axes,
    canonical_grid,
    check_affine,
    from_canonical,
    to_canonical,
)

SPACING = np.array([1.5, 2.0, 3.0])
SHAPE = (5, 6, 7)
STORED = [
    (order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)
]


def rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    vector = np.array(axis) / np.linalg.norm(axis)
    return Rotation.from_rotvec(np.deg2rad(degrees) * vector).as_matrix()


def affine_of(turn: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = turn * SPACING
    affine[:3, 3] = [-40.0, 25.0, 110.0]
    return affine


def stored_as(
    values: np.ndarray, affine: np.ndarray, order, flips
) -> tuple[np.ndarray, np.ndarray]:
    """The same physical voxels, stored with permuted and flipped axes."""
    stored = np.transpose(values, order)
    index = np.zeros((4, 4))  # index in `values` from index in `stored`
    index[3, 3] = 1
    for new, old in enumerate(order):
        index[old, new] = -1 if flips[new] else 1
        index[old, 3] = values.shape[old] - 1 if flips[new] else 0
    return np.flip(stored, tuple(n for n in range(3) if flips[n])), affine @ index


@pytest.mark.parametrize("turn", [np.eye(3), rotation(17.0, (1, 2, 3)), rotation(45, (0, 0, 1))])
def test_stored_order_does_not_change_the_canonical_grid(turn, rng):
    values = rng.normal(size=SHAPE)
    reference = None
    for order, flips in STORED:
        stored, affine = stored_as(values, affine_of(turn), order, flips)
        axes = canonical_axes(affine)
        grid = canonical_grid(affine, stored.shape, axes)
        canonical = to_canonical(stored, axes)
        np.testing.assert_array_equal(from_canonical(canonical, axes), stored)
        reference = reference or (canonical.tobytes(), grid)
        assert canonical.tobytes() == reference[0]
        np.testing.assert_allclose(grid.affine, reference[1].affine, atol=1e-9)
        assert grid.matches(reference[1])


def test_third_axis_is_the_one_closest_to_superior():
    # coronal acquisition stored (R, I, A): the slices still run along Superior
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 3], [0, -1, 0]])
    axes = canonical_axes(affine)
    assert axes == ((0, False), (2, False), (1, True))
    grid = canonical_grid(affine, (4, 5, 6), axes)
    assert grid.shape == (4, 6, 5)
    np.testing.assert_allclose(grid.spacing, [1, 3, 1])
    np.testing.assert_allclose(grid.frame, np.eye(3), atol=1e-12)


def test_agrees_with_nibabel_away_from_ties(rng):
    from nibabel.orientations import io_orientation

    for _ in range(20):
        affine = affine_of(rotation(rng.uniform(0, 25), tuple(rng.normal(size=3))))
        order, flips = STORED[rng.integers(len(STORED))]
        _, affine = stored_as(np.zeros(SHAPE), affine, order, flips)
        expected = {
            (int(new), sign < 0): axis for axis, (new, sign) in enumerate(io_orientation(affine))
        }
        axes = canonical_axes(affine)
        assert {(n, flip): axis for n, (axis, flip) in enumerate(axes)} == expected


def test_world_and_index_are_inverse(rng):
    grid = Grid(affine_of(rotation(30, (1, 1, 0))), SHAPE)
    index = rng.uniform(-3, 9, size=(4, 5, 3))
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-10)
    np.testing.assert_allclose(grid.frame.T @ grid.frame, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(grid.frame * grid.spacing, grid.affine[:3, :3], atol=1e-12)


def test_contains_reaches_to_the_voxel_edges():
    grid = Grid(np.diag([2.0, 2, 2, 1]), (3, 3, 3))
    inside = grid.contains(np.array([[-1.0, 0, 0], [5.0, 5, 5], [-1.01, 0, 0], [0, 5.1, 0]]))
    assert inside.tolist() == [True, True, False, False]


@pytest.mark.parametrize("turn", [np.eye(3), rotation(25.0, (1, 0, 2))])
def test_plane_points_are_the_voxel_centres(turn):
    grid = Grid(affine_of(turn), SHAPE)
    plane = grid.plane(4)
    i, j = np.meshgrid(np.arange(5), np.arange(6), indexing="ij")
    world = grid.to_world(np.stack([i, j, np.full_like(i, 4)], axis=-1))
    np.testing.assert_allclose(plane.to_world(plane.points()), world, atol=1e-10)
    np.testing.assert_allclose(plane.to_uv(world), plane.points(), atol=1e-10)
    np.testing.assert_allclose(plane.to_index(plane.points())[3, 2], [3, 2], atol=1e-10)
    assert plane.thickness == pytest.approx(3.0)


def test_axis_aligned_plane_is_in_patient_coordinates():
    plane = Grid(affine_of(np.eye(3)), SHAPE).plane(2)
    assert plane.offset == 116.0
    np.testing.assert_array_equal(plane.to_world(np.array([1.0, 2.0])), [1.0, 2.0, 116.0])
    assert plane.extent == (-40.75, -33.25, 24.0, 36.0)
    assert plane.pixel_area == 3.0


def test_slices_outside_are_refused():
    grid = Grid(np.eye(4), SHAPE)
    for k in (-1, 7):
        with pytest.raises(InputError, match="slices are 0 to 6"):
            grid.plane(k)


def test_another_grid_does_not_match():
    grid = Grid(np.eye(4), SHAPE)
    moved = np.eye(4)
    moved[0, 3] = 0.1
    assert grid.matches(Grid(np.eye(4), SHAPE))
    assert not grid.matches(Grid(moved, SHAPE))
    assert not grid.matches(Grid(np.diag([1.01, 1, 1, 1]), SHAPE))
    assert not grid.matches(Grid(np.eye(4), SHAPE, unit="px"))
    assert not grid.matches(Grid(np.eye(4), (5, 6, 8)))


def test_unusable_affines_are_refused():
    zero = np.diag([1.0, 0, 1, 1])
    sheared = np.eye(4)
    sheared[0, 1] = 0.01
    broken = np.eye(4)
    broken[0, 0] = np.nan
    for affine, sentence in ((zero, "must be positive"), (sheared, "sheared"), (broken, "finite")):
        with pytest.raises(InputError, match=rf"scan\.nii: .*{sentence}"):
            check_affine(affine, "scan.nii")
    sheared[0, 1] = 5e-4
    check_affine(sheared, "scan.nii")


def test_grids_and_planes_pass_through_vmap():
    plane = Grid(np.eye(4), SHAPE).plane(1)
    doubled = jax.vmap(lambda s: jax.tree.map(lambda x: x * s, plane))(np.ones(3))
    assert doubled.origin.shape == (3, 2)
    assert doubled.shape == (5, 6)
