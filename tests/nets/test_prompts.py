"""Do points and boxes lie where a person put them, and is what cannot be meant refused?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.nets.plan import memory_bytes, plan_for
from aistat_jax.nets.prepare import prepare
from aistat_jax.nets.prompts import SD_VOXELS, asks, prompts
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image
from tests.nets.cases import pet, tiny_plan
from tests.nets.test_plan import made

PLAN_2D, PLAN_3D = (tiny_plan(dims, guidance=3) for dims in (2, 3))
# voxel (i, j, k) at (10 + 2 i, -20 + 2 j, 5 + 4 k) mm
GRID = Grid(np.array([[2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]]), (12, 9, 6))


def at(*index: float) -> np.ndarray:
    return GRID.to_world(np.array(index))


def test_a_bump_is_gaussian_in_voxels_about_its_point():
    maps = prompts(PLAN_3D, GRID, foreground_mm=[[18.0, -10.0, 13.0]])
    assert maps.shape == (12, 9, 6, 3)
    assert maps.dtype == np.float32
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    for point in ([4, 5, 2], [4.3, 5.5, 1.8]):
        maps = prompts(PLAN_3D, GRID, foreground_mm=[at(*point)])
        d2 = ((index - np.array(point)) ** 2).sum(axis=-1)
        np.testing.assert_allclose(maps[..., 0], np.exp(-d2 / (2 * SD_VOXELS**2)), atol=1e-6)
        assert not maps[..., 1:].any()
    assert maps.max() < 1  # negative control: between voxels no voxel is at the point itself
    assert prompts(PLAN_3D, GRID, foreground_mm=at(4, 5, 2))[4, 5, 2, 0] == 1


def test_points_of_a_kind_join_by_the_larger_and_kinds_stay_apart():
    a, b = at(2, 2, 2), at(5, 2, 2)
    both = prompts(PLAN_3D, GRID, foreground_mm=[a, b], background_mm=b)
    one, other = (prompts(PLAN_3D, GRID, foreground_mm=point) for point in (a, b))
    np.testing.assert_array_equal(both[..., 0], np.maximum(one, other)[..., 0])
    np.testing.assert_array_equal(both[..., 1], other[..., 0])
    assert both.max() == 1  # negative control: a sum would be larger
    assert (one + other).max() > 1.2


def test_a_plane_has_its_own_points():
    maps = prompts(PLAN_2D, GRID, foreground_mm=at(4, 5, 2.4), background_mm=at(1, 1, 5.4))
    assert [asks(maps[:, :, k]) for k in range(6)] == [k == 2 for k in range(6)]
    assert maps[4, 5, 2, 0] == maps[1, 1, 5, 1] == 1
    assert maps[4, 7, 2, 0] == pytest.approx(np.exp(-0.5))
    assert not maps[:, :, [0, 1, 3, 4]].any()
    # negative control: a 3D network sees the click from the next plane too
    deep = prompts(PLAN_3D, GRID, foreground_mm=at(4, 5, 2.4))
    assert asks(deep[:, :, 3])


@pytest.mark.parametrize("plan", [PLAN_2D, PLAN_3D])
def test_a_box_holds_the_voxel_centres_between_its_corners(plan):
    wanted = np.zeros(GRID.shape, np.float32)
    wanted[2:5, 1:4, 3:5] = 1
    for low, high in [((2, 1, 3), (4, 3, 4)), ((1.1, 0.4, 2.6), (4.9, 3.7, 4.4))]:
        crossed = [at(high[0], low[1], high[2]), at(low[0], high[1], low[2])]
        for corners in ([at(*low), at(*high)], crossed):
            maps = prompts(plan, GRID, box_mm=corners)
            np.testing.assert_array_equal(maps[..., 2], wanted)
            assert not maps[..., :2].any()
    thin = prompts(plan, GRID, box_mm=[at(2.2, 1, 3.3), at(2.4, 3, 3.3)])[..., 2]
    assert np.argwhere(thin).tolist() == [[2, j, 3] for j in (1, 2, 3)]
    over = prompts(plan, GRID, box_mm=[at(-9, 7, -3), at(0.2, 99, 0)])[..., 2]
    assert np.argwhere(over).tolist() == [[0, 7, 0], [0, 8, 0]]
    edge = prompts(plan, GRID, box_mm=[at(-9, 7, -3), at(-0.5, 99, -0.5)])[..., 2]
    np.testing.assert_array_equal(edge, over)


def test_a_point_stays_in_its_place_on_a_turned_and_resampled_grid(rng):
    image = pet(rng, (24, 20, 8), (3.0, 2.0, 2.0))
    channel = image.primary
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag([3.0, 2.0, 2.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, (7, -4, 2)
    image = Image.of(replace(channel, grid=Grid(affine, channel.grid.shape)))
    prepared = prepare(PLAN_3D, image)
    assert prepared.grid.shape[0] == 36
    point = image.primary.grid.to_world(np.array([10, 12, 4]))
    maps = prompts(PLAN_3D, prepared.grid, foreground_mm=point)
    peak = np.unravel_index(maps[..., 0].argmax(), maps.shape[:3])
    assert np.linalg.norm(prepared.grid.to_world(np.array(peak)) - point) < np.sqrt(3)


def test_nothing_asked_is_all_zeros():
    for plan in (PLAN_2D, PLAN_3D):
        assert not prompts(plan, GRID).any()
        assert not asks(prompts(plan, GRID, background_mm=at(1, 1, 1)))


def test_what_cannot_be_meant_is_refused():
    wrong = [
        ({"foreground_mm": at(12, 3, 3)}, "the foreground point (34.0, -14.0, 17.0) lies outside"),
        (
            {"background_mm": [at(1, 1, 1), at(1, 1, -2)]},
            "the background point (12.0, -18.0, -3.0)",
        ),
        ({"foreground_mm": at(1, 1, 9)}, "covers (10.0, -20.0, 5.0) to (32.0, -4.0, 25.0) mm; cho"),
        ({"foreground_mm": [1.0, 2.0]}, "foreground points need three finite coordinates x, y, z"),
        ({"foreground_mm": [np.nan, 2.0, 3.0]}, "need three finite coordinates"),
        ({"box_mm": at(1, 1, 1)}, "a box needs two opposite corners x, y, z, all finite"),
        ({"box_mm": [at(1, 1, 1), np.full(3, np.inf)]}, "all finite"),
        ({"box_mm": [at(1, 1, 7), at(3, 3, 9)]}, "lies outside the image, which covers"),
        ({"box_mm": [at(-3, 1, 1), at(-1, 3, 3)]}, "choose one that overlaps it"),
    ]
    for arguments, sentence in wrong:
        with pytest.raises(InputError) as caught:
            prompts(PLAN_3D, GRID, **arguments)
        assert sentence in str(caught.value)
    with pytest.raises(InputError, match="tiny takes no points or boxes; train one whose plan has"):
        prompts(tiny_plan(), GRID, foreground_mm=at(1, 1, 1))
    # negative control: the outer edge of the last voxel still belongs to the image
    assert asks(prompts(PLAN_3D, GRID, foreground_mm=at(11.5, 3, 3)))
    assert asks(prompts(PLAN_2D, GRID, foreground_mm=at(1, 1, 5.5))[:, :, 5])


def test_a_network_can_be_planned_with_prompts():
    found = made()
    plain, asked = (plan_for(found, guidance=n) for n in (0, 3))
    assert replace(asked, architecture=plain.architecture, batch=plain.batch) == plain
    assert asked.architecture.guidance == 3
    assert memory_bytes(asked.architecture, asked.patch, 1) > memory_bytes(
        plain.architecture, plain.patch, 1
    )
