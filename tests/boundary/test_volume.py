"""Is a lesion contoured in space where its surface is seen, and refused where it is not?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax.boundary.choices import chosen_dims
from aistat_jax.boundary.volume import volume_target
from aistat_jax.space.image import channel_from_array

SHAPE = (30, 30, 20)


def channel(shape: tuple[int, int, int] = SHAPE, step: float = 3.0):
    values = np.random.default_rng(0).random(shape)
    return channel_from_array(values, np.diag([3.0, 3.0, step, 1.0]), name="PT")


def ball(radius: float, at: tuple[float, float, float] = (45.0, 45.0, 30.0), like=None):
    grid = (like or channel()).grid
    return np.linalg.norm(grid.points() - np.array(at), axis=-1) <= radius


def horseshoe() -> np.ndarray:
    """Half a ring, of which no point sees both ends."""
    away = channel().grid.points() - [45.0, 45.0, 30.0]
    ring = np.hypot(np.hypot(away[..., 0], away[..., 1]) - 27.0, away[..., 2]) <= 8.0
    return ring & (away[..., 0] < 12.0)


def test_a_ball_is_contoured_in_space():
    choice = chosen_dims(channel(), ball(18.0))
    assert choice.dims == 3
    assert "13 slices show the whole lesion" in choice.reason
    target = volume_target(ball(18.0), channel().grid)
    assert np.linalg.norm(target.centre - [45.0, 45.0, 30.0]) < 1.5


@pytest.mark.parametrize(
    ("like", "mask", "words"),
    [
        (channel((30, 30, 1)), ball(18.0, (45.0, 45.0, 0.0), channel((30, 30, 1))), "one slice"),
        (channel(), ball(18.0) & (np.arange(20) == 9), "1 slice does not show the surface"),
        (channel(), ball(18.0) & (np.arange(20) // 2 == 5), "2 slices do not show the surface"),
        (channel(), ball(18.0, (45.0, 45.0, 3.0)), "the image ends in slice 0, in the middle"),
        (channel(), ball(18.0, (45.0, 45.0, 52.0)), "the image ends in slice 19, in the middle"),
    ],
)
def test_what_does_not_show_its_surface_is_contoured_in_slices(like, mask, words):
    choice = chosen_dims(like, mask)
    assert choice.dims == 2
    assert words in choice.reason
    with pytest.raises(aj.InputError, match=f"{words}.*; contour it slice by slice .`dims=2`."):
        volume_target(mask, like.grid)


def test_slices_thicker_than_the_lesion_is_wide():
    like = channel((30, 30, 9), step=20.0)
    rod = np.zeros(like.values.shape, dtype=bool)
    rod[15, 15, 2:5] = True
    assert "slices 20 mm apart do not show the surface of a lesion" in chosen_dims(like, rod).reason


def test_a_lesion_that_touches_the_border_may_be_asked_for_in_space():
    """Hardly anything of it is missing; nobody's choice is slices."""
    touching = ball(18.0, (45.0, 45.0, 17.0))
    assert touching[:, :, 0].any()
    assert chosen_dims(channel(), touching) == (
        2, "the image ends in slice 0, which the lesion reaches",
    )  # fmt: skip
    volume_target(touching, channel().grid)


def test_a_horseshoe_is_no_star():
    choice = chosen_dims(channel(), horseshoe())
    assert choice.dims == 2
    assert "straight rays from its best centre reach" in choice.reason
    volume_target(horseshoe(), channel().grid)  # who asks for it has it


def test_a_hole_within_does_not_count_against_a_ball():
    hollow = ball(18.0) & ~ball(6.0)
    assert chosen_dims(channel(), hollow).dims == 3


def test_the_largest_part_decides():
    both = ball(18.0)
    both[1, 1, 0] = True
    assert chosen_dims(channel(), both).dims == 3
    with pytest.raises(aj.InputError, match="the mask is empty"):
        chosen_dims(channel(), np.zeros(SHAPE, dtype=bool))


def test_three_slices_of_a_phantom_are_no_ball():
    phantom = aj.demo_phantom(1)
    with pytest.raises(aj.InputError, match="the image ends in slice 0, in the middle of the les"):
        aj.find_targets(phantom.image, point_mm=phantom.centre, dims=3)
    found = aj.find_targets(phantom.image, point_mm=phantom.centre, dims="auto")
    assert found.chosen[0] == 2
    assert [target.id for target in found] == ["z000", "z001", "z002"]
