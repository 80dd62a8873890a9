"""Is a second reading of a point noticed, and does the answer to its question choose the right one?

Two balls that touch are both what levels cut out, and outvoted one of them; a hot ball in a warm
organ has an edge within an edge. The control is a ball by itself.
"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.boundary.alternatives import SPOKEN, SecondReading, part_at_neck
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.hints import hints_of, voxels
from aistat_jax.boundary.meant import region_meant
from aistat_jax.boundary.regions import Region
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.image import Channel

PAIR = Ball((39.0, 60.0, 30.0), 13.0, 6.0), Ball((67.0, 60.0, 30.0), 13.0, 6.0)
UNEQUAL = Ball((52.0, 60.0, 30.0), 14.0, 5.0), Ball((80.0, 60.0, 30.0), 12.0, 5.0)
ORGAN = Ball((52.0, 60.0, 30.0), 24.0, 3.0)
SPOT = Ball((58.0, 66.0, 30.0), 10.0, 6.0)
LONE = Ball((52.0, 60.0, 30.0), 14.0, 8.0)
SMALL = Ball((52.0, 60.0, 30.0), 8.0, 8.0)


def seen(*balls: Ball, seed: int = 0) -> Channel:
    return image_of_balls(balls, seed=seed).primary


def within(channel: Channel, *balls: Ball) -> np.ndarray:
    points = channel.grid.points()
    return np.any([np.linalg.norm(points - b.centre, axis=-1) <= b.radius for b in balls], axis=0)


def read(channel: Channel, point, **more) -> Region:
    hints = hints_of(channel, point, **more)
    assert hints is not None
    return region_meant(channel, voxels(hints.places, channel.grid)[0], hints)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize(
    ("balls", "point", "whole", "part"),
    [
        (PAIR, PAIR[0].centre, PAIR, PAIR[:1]),
        (UNEQUAL, UNEQUAL[0].centre, UNEQUAL, UNEQUAL[:1]),
        ((ORGAN, SPOT), SPOT.centre, (ORGAN,), (SPOT,)),
    ],
    ids=["two that touch", "a smaller neighbour", "hot in warm"],
)
def test_the_answer_chooses_the_reading(balls, point, whole, part):
    channel = seen(*balls)
    both, alone = within(channel, *whole), within(channel, *part)
    region = read(channel, point)
    second = region.second
    assert isinstance(second, SecondReading)
    assert second.probabilities[1] >= SPOKEN
    assert sum(second.probabilities) <= 1 + 1e-9
    assert region.doubts[-1] == second.question()
    assert dice(region.mask, both) > 0.8
    assert dice(second.mask, alone) > dice(second.mask, both) + 0.15
    (index,) = voxels(np.array([second.place]), channel.grid)
    assert second.mask[tuple(index)] == second.holds_place != region.mask[tuple(index)]
    assert both[tuple(index)]
    assert not alone[tuple(index)]
    yes = read(channel, [point, second.place])
    no = read(channel, point, outside_mm=second.place)
    assert yes.second is None
    assert no.second is None
    assert not any("readings" in doubt for doubt in (*yes.doubts, *no.doubts))
    assert dice(yes.mask, both) > 0.8
    assert dice(no.mask, alone) > dice(no.mask, both) + 0.15
    assert dice(no.mask, alone) > 0.75


@pytest.mark.parametrize(("ball", "seed"), [(LONE, 0), (LONE, 1), (SMALL, 0)])
def test_of_one_ball_nothing_is_asked(ball, seed):
    channel = seen(ball, seed=seed)
    region = read(channel, ball.centre)
    assert region.second is None
    assert region.doubts == ()


def test_a_question_speaks_of_arguments_or_of_what_it_is_told():
    channel = seen(*PAIR)
    second = read(channel, PAIR[0].centre).second
    assert "as point_mm if" in second.question()
    assert "as outside_mm if not" in second.question()
    assert "as --point if" in second.question("--point", "--outside")
    plane = channel.grid.plane(8)
    (curve,) = second.outline(plane)
    assert curve.area == pytest.approx(plane.pixel_area * second.mask[:, :, 8].sum(), rel=0.1)
    assert second.surface.volume == pytest.approx(1000 * second.sizes[1], rel=0.1)


def test_targets_keep_the_second_reading():
    image = image_of_balls(PAIR, seed=0)
    found = find_targets(image, point_mm=PAIR[0].centre, slices="point")
    assert found.second is not None
    assert found[0].doubts[-1] == found.second.question()
    answered = find_targets(
        image, point_mm=PAIR[0].centre, outside_mm=found.second.place, slices="point"
    )
    assert answered.second is None
    assert answered[0].doubts == ()
    assert np.linalg.norm(answered[0].centre - PAIR[0].centre[:2]) < 4.0


def test_a_neck_parts_what_touches_and_no_ball():
    channel = seen(*PAIR)
    both = within(channel, *PAIR)
    (here,) = voxels(np.array([PAIR[0].centre]), channel.grid)
    spacing = np.asarray(channel.grid.spacing)
    part = part_at_neck(both, here, spacing)
    assert part is not None
    assert dice(part, within(channel, PAIR[0])) > 0.95
    for ball in (LONE, SMALL, ORGAN):
        assert part_at_neck(within(channel, ball), here, spacing) is None
