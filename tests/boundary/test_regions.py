"""Is the region around a point the one that is meant, and is it said where it may not be?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.regions import Region, region_at, section_areas
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image

SHAPE, SPACING = (48, 44, 14), np.array([2.5, 3.0, 4.0])
CENTRE = np.array([60.0, 66.0, 26.0])


def distance_to(centre: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING - centre, axis=-1)


def in_a_body(quantity: str, lesion: float = 100.0, bone: bool = False) -> Channel:
    """A lesion of 15 mm at 100 in a body of 40, in air; a rib of 900 at its side, if asked for."""
    rng = np.random.default_rng(0)
    values = np.where(distance_to(CENTRE) < 50.0, 40.0, -1000.0)
    values = np.where(distance_to(CENTRE) < 15.0, lesion, values)
    if bone:
        values = np.where(distance_to(CENTRE + np.array([0.0, 32.0, 0.0])) < 6.0, 900.0, values)
    values = values + rng.normal(0, 5.0, SHAPE)
    return Channel(values, Grid(np.diag([*SPACING, 1.0]), SHAPE), "A", quantity)


def at(channel: Channel, point: np.ndarray = CENTRE) -> Region:
    return region_at(channel, np.rint(channel.grid.to_index(point)).astype(int))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_lesion_in_a_body_is_found_in_any_scale():
    for quantity in ("HU", "a.u."):
        for bone in (False, True):
            region = at(in_a_body(quantity, bone=bone))
            assert dice(region.mask, distance_to(CENTRE) < 15.0) > 0.9
            assert region.doubts == ()


def test_a_body_without_a_lesion_is_doubted():
    """The negative control: there the body is what stands out."""
    region = at(in_a_body("HU", lesion=40.0))
    if dice(region.mask, distance_to(CENTRE) < 50.0) > 0.5:
        assert region.doubts
    image = Image.of(replace(in_a_body("HU", lesion=40.0), name="CT"))
    (target,) = find_targets(image, point_mm=CENTRE + np.array([44.0, 0.0, 0.0]), slices="point")
    assert target.doubts


def test_what_was_not_pointed_at_is_doubted():
    centre = (54.0, 58.0, 30.0)
    whole = Ball(centre, 20.0, 7.0)
    plain = image_of_balls([whole], seed=0).primary
    ring = image_of_balls([whole, Ball(centre, 12.0, -7.0)], seed=0).primary
    assert at(plain, np.array(centre)).doubts == ()
    (doubt,) = at(ring, np.array(centre)).doubts
    assert "much darker than the region" in doubt or "passes the point by" in doubt


def test_a_region_at_the_border_and_a_large_one_are_doubted():
    cut = image_of_balls([Ball((0.0, 58.0, 30.0), 16.0, 7.0)], seed=0).primary
    assert any("border" in doubt for doubt in at(cut, np.array([2.0, 58.0, 30.0])).doubts)
    large = image_of_balls([Ball((54.0, 58.0, 30.0), 41.0, 7.0)], seed=0).primary
    assert any("of the image" in doubt for doubt in at(large, np.array([54.0, 58.0, 30.0])).doubts)


def test_areas_between_voxels_are_nearer_to_the_truth_than_whole_ones():
    errors = {"level": [], "whole": []}
    for seed in range(6):
        shift = np.random.default_rng(seed).uniform(-1.2, 1.2, 3)
        ball = Ball((54.0 + shift[0], 58.0 + shift[1], 32.0), 14.0, 7.0, tall=True)
        channel = image_of_balls([ball], seed=seed, noise=0.0).primary
        found = at(channel, np.array(ball.centre))
        half = Region(channel.values >= 4.5, 4.5)
        for name, region in (("level", half), ("whole", Region(half.mask))):
            errors[name].append(section_areas(channel, region)[8])
        assert found.mask[:, :, 8].any()
    assert np.std(errors["level"]) < 0.3 * np.std(errors["whole"])


def test_who_says_how_large_it_is_is_believed():
    """Two lesions that touch are one region from a point; of a radius they are what was meant."""
    centre, beside = (48.0, 60.0, 26.0), (76.0, 60.0, 26.0)
    balls = [Ball(centre, 14.0, 7.0), Ball(beside, 14.0, 7.0)]
    image = image_of_balls(balls, seed=2, shape=SHAPE, spacing_mm=tuple(SPACING))
    pair = distance_to(np.array(centre)) < 14.0, distance_to(np.array(beside)) < 14.0
    both = at(image.primary, np.array(centre)).mask
    assert dice(both, pair[0] | pair[1]) > 0.8  # the control
    target = find_targets(image, point_mm=centre, radius_mm=15.0, dims=3)[0]
    assert abs(target.radius / 15.0 - 1) < 0.03
    assert np.linalg.norm(target.centre - centre) < SPACING.max()
    assert target.doubts == ()
    slices = find_targets(image, point_mm=centre, radius_mm=15.0)
    height = np.array([each.plane.to_world(each.centre)[2] - centre[2] for each in slices])
    radii = np.array([each.radius for each in slices])
    assert len(slices) == 8  # at heights of 12 to 40 mm
    np.testing.assert_allclose(radii**2 + height**2, 15.0**2, rtol=0.12)
    bend = np.median([each.taper.bend for each in slices if each.taper is not None])
    assert -2.5 < bend < -1.5  # of a ball's sections


def test_a_ball_that_is_cut_off_is_doubted():
    centre = (18.0, 60.0, 26.0)
    image = image_of_balls(
        [Ball(centre, 14.0, 7.0)], seed=2, shape=SHAPE, spacing_mm=tuple(SPACING)
    )
    assert find_targets(image, point_mm=centre, radius_mm=14.0)[2].doubts == ()
    (doubt,) = find_targets(image, point_mm=centre, radius_mm=30.0)[4].doubts
    assert "border of the image" in doubt


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"radius_mm": 12.0}, "how large what lies at `point_mm` is"),
        ({"radius_mm": 12.0, "point_mm": CENTRE, "threshold": 3.0}, "pass these two alone"),
        ({"radius_mm": -1.0, "point_mm": CENTRE}, "must be a positive number, got -1.0"),
        ({"radius_mm": np.nan, "point_mm": CENTRE}, "must be a positive number"),
        (
            {"radius_mm": 90.0, "point_mm": CENTRE},
            "larger than channel PT, which is 120 x 132 x 56",
        ),
        ({"radius_mm": 9.0, "point_mm": (3.0, 3.0, 26.0)}, "nothing within 20 mm of the point"),
    ],
)
def test_a_radius_that_cannot_be_is_refused(given, said):
    balls, spacing = [Ball(tuple(CENTRE), 14.0, 7.0)], tuple(SPACING)
    image = image_of_balls(balls, seed=2, shape=SHAPE, spacing_mm=spacing, noise=0.02)
    with pytest.raises(InputError, match=said):
        find_targets(image, **given)
