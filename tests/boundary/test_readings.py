"""Is what is meant by a point read from all that may be meant, and is a second reading said?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.meant import chosen, region_meant
from aistat_jax.boundary.readings import (
    FEATURES,
    in_space,
    learned_weights,
    readings_at,
    weighed_by,
)
from aistat_jax.boundary.regions import region_at
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel

MIDDLE = (52.0, 60.0, 30.0)


def seen(*balls: Ball, seed: int = 0) -> Channel:
    return image_of_balls(balls, seed=seed).primary


def within(channel: Channel, ball: Ball) -> np.ndarray:
    places = channel.grid.to_world(np.indices(channel.values.shape).reshape(3, -1).T)
    away = np.linalg.norm(places - ball.centre, axis=1)
    return (away <= ball.radius).reshape(channel.values.shape)


def voxel(channel: Channel, point: tuple[float, float, float] = MIDDLE) -> np.ndarray:
    return np.rint(channel.grid.to_index(np.array(point))).astype(int)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("radius", [8.0, 14.0, 20.0])
def test_a_ball_is_what_is_meant(radius: float):
    ball = Ball(MIDDLE, radius, 8.0)
    channel = seen(ball)
    region = region_meant(channel, voxel(channel))
    assert dice(region.mask, within(channel, ball)) > 0.8
    assert region.doubts == ()
    assert region.level is not None  # one level cuts it out, and its areas are known


def test_a_neighbour_that_touches_may_be_meant_or_not():
    """One reading takes both, another the lesion alone: both are at hand."""
    lesion, neighbour = Ball(MIDDLE, 14.0, 5.0), Ball((80.0, 60.0, 30.0), 12.0, 5.0)
    channel = seen(lesion, neighbour)
    alone = within(channel, lesion)
    readings = readings_at(channel, voxel(channel))
    for truth in (alone, alone | within(channel, neighbour)):
        assert readings.likeness(truth[readings.box]).max() > 0.8


def test_a_cold_core_belongs_to_what_is_meant():
    channel = seen(whole := Ball(MIDDLE, 18.0, 8.0), Ball(MIDDLE, 9.0, -7.0))
    assert dice(region_meant(channel, voxel(channel)).mask, within(channel, whole)) > 0.8


def test_a_surface_needs_no_level():
    """On a slope no level cuts a lesion out (the control); a surface runs along its own fall."""
    lesion = Ball(MIDDLE, 18.0, 2.0)
    flat = seen(lesion)
    slope = np.linspace(0.0, 8.0, flat.values.shape[0])[:, None, None]
    channel = replace(flat, values=flat.values + slope)
    readings = readings_at(channel, voxel(channel))
    likeness = readings.likeness(within(channel, lesion)[readings.box])
    surface = np.isnan(readings.level)
    assert likeness[~surface].max() < 0.7 < 0.8 < likeness[surface].max()


def test_probabilities_follow_the_weights():
    channel = seen(Ball(MIDDLE, 14.0, 8.0))
    readings = readings_at(channel, voxel(channel))
    assert readings.share.sum() == pytest.approx(1.0)
    assert readings.features.shape == (len(readings.masks), len(FEATURES))
    score = readings.features @ learned_weights()
    assert readings.share.argmax() == score.argmax()
    with weighed_by(np.zeros(len(FEATURES))):
        even = readings_at(channel, voxel(channel)).share
    np.testing.assert_allclose(even, 1 / len(even))


def test_what_is_meant_turns_with_the_image():
    """Flips and exchanged axes change nothing but for the rays' own directions."""
    channel = seen(Ball(MIDDLE, 14.0, 8.0), Ball((78.0, 60.0, 30.0), 10.0, 6.0))
    meant = region_meant(channel, voxel(channel)).mask
    turned = channel.values[::-1].swapaxes(0, 1)
    spacing = np.asarray(channel.grid.spacing)[[1, 0, 2]]
    grid = Grid(np.diag([*spacing, 1.0]), turned.shape)
    i, j, k = voxel(channel)
    place = np.array([j, channel.values.shape[0] - 1 - i, k])
    other = region_meant(replace(channel, values=turned, grid=grid), place).mask
    assert dice(other.swapaxes(0, 1)[::-1], meant) > 0.97


def test_two_readings_are_said():
    """Of two lesions alike that touch, or one of them; of one alone (the control) there is one."""
    pair = Ball((39.0, 60.0, 30.0), 13.0, 6.0), Ball((67.0, 60.0, 30.0), 13.0, 6.0)
    two = seen(*pair)
    said = region_meant(two, voxel(two, pair[0].centre)).doubts
    assert any("two readings" in each and "outside_mm" in each for each in said)
    one = seen(Ball(MIDDLE, 14.0, 8.0))
    assert region_meant(one, voxel(one)).doubts == ()


def test_what_hardly_stands_out_is_doubted():
    channel = seen(Ball(MIDDLE, 14.0, 0.1))
    for seed in range(3):
        noise = seen(Ball(MIDDLE, 14.0, 0.0), seed=seed)
        assert region_meant(noise, voxel(noise)).doubts
    assert any("only" in each for each in region_meant(channel, voxel(channel)).doubts)


def test_what_goes_on_beyond_the_box_is_whole_or_doubted():
    """What a level cuts out is taken whole; of a surface it is said that it was cut."""
    places = np.moveaxis(np.indices((80, 20, 20)), 0, -1) * 5.0
    away = np.hypot(places[..., 1] - 50.0, places[..., 2] - 50.0)
    tube = (away < 20.0) & (np.abs(places[..., 0] - 200.0) < 180.0)
    grid = Grid(np.diag([5.0, 5.0, 5.0, 1.0]), tube.shape)
    channel, middle = Channel(np.where(tube, 8.0, 1.0), grid, "PT", "SUV"), np.array([40, 10, 10])
    readings = readings_at(channel, middle)
    whole = readings.likeness(tube[readings.box]).argmax()
    alone = np.eye(len(readings.level))[whole]
    assert np.isfinite(readings.level[whole])
    cut_out = chosen(channel, middle, readings._replace(share=alone))
    assert dice(cut_out.mask, tube) == 1.0
    assert not any("goes on beyond" in each for each in cut_out.doubts)
    nowhere = readings._replace(share=alone, edge=0 * readings.edge)
    assert any("goes on beyond" in each for each in chosen(channel, middle, nowhere).doubts)


def test_only_pet_of_some_depth_is_read_so():
    channel = seen(Ball(MIDDLE, 14.0, 8.0))
    assert in_space(channel)
    assert not in_space(replace(channel, quantity="HU"))
    flat = replace(
        channel, values=channel.values[:, :, 6:9],
        grid=Grid(channel.grid.affine, channel.values[:, :, 6:9].shape),
    )  # fmt: skip
    assert not in_space(flat)


def test_a_point_in_air_is_refused():
    channel = seen(Ball(MIDDLE, 8.0, 8.0))
    dark = replace(channel, values=np.full_like(channel.values, 0.01))
    with pytest.raises(InputError, match="stands out"):
        region_meant(dark, voxel(dark))


def test_a_target_in_space_starts_as_a_ball():
    image = image_of_balls([Ball(MIDDLE, 14.0, 8.0)], seed=0)
    (target,) = find_targets(image, point_mm=MIDDLE, dims=3)
    assert target.outline is None
    assert target.radius == pytest.approx(14.0, rel=0.15)
    mask = region_at(image.primary, voxel(image.primary)).mask
    (marked,) = find_targets(image, mask=mask, dims=3)
    assert marked.outline is not None
