"""Does a shipped surface head say where an expert would draw what a point is in?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.boundary.experts import FIELDS, expert_read, fields_of, surface_prior
from aistat_jax.boundary.hints import clicks_on
from aistat_jax.boundary.meant import chosen
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.readings import readings_at
from aistat_jax.boundary.targets import Targets
from aistat_jax.boundary.volume import VolumeTarget
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.inference.prior import prior_draws
from aistat_jax.nets.surface_law import FREQUENCY, FUNCTIONS, RAYS, SCALE, SurfaceEdge, waves
from aistat_jax.nets.surface_net import load_surface_net
from aistat_jax.nets.weights import SHIPPED
from aistat_jax.space.sphere import sphere_chart

MIDDLE, NET = (52.0, 60.0, 30.0), "lesion-pet-3d"


@pytest.fixture(scope="module")
def case() -> aj.Case:
    image = image_of_balls([Ball(MIDDLE, 20.0, 8.0)], seed=0)
    return aj.contour(image, point_mm=MIDDLE, net=NET, settings=aj.Settings(draws=400))


def test_one_surface_with_an_expert_s_width(case: aj.Case):
    """It holds a ball's volume, and is less sure of it than the edge in the image is."""
    (one,) = case
    assert one.chart.dims == 3
    truth = 4 / 3 * np.pi * 20.0**3
    low, high = np.quantile(one.content.draws, [0.025, 0.975])
    assert low <= truth <= high
    assert 0.15 < (high - low) / truth < 2.5
    assert "expert" in case.title
    image = image_of_balls([Ball(MIDDLE, 20.0, 8.0)], seed=0)
    (edge,) = aj.contour(image, point_mm=MIDDLE, dims=3, settings=aj.Settings(draws=400))
    sure = np.quantile(edge.content.draws, [0.025, 0.975])
    assert sure[1] - sure[0] < 0.5 * (high - low)


def test_fields_are_those_of_what_is_meant():
    channel = image_of_balls([Ball(MIDDLE, 20.0, 8.0)], seed=0).primary
    index = np.rint(channel.grid.to_index(np.array(MIDDLE))).astype(int)
    readings = readings_at(channel, index)
    region = chosen(channel, index, readings)
    field = fields_of(channel, index, readings, region.mask)
    assert field.values.shape[-1] == len(FIELDS)
    meant = region.mask[readings.box]
    assert np.median(field.values[meant, 0]) == pytest.approx(0.0, abs=1e-5)
    assert np.median(field.values[meant, 1]) == pytest.approx(1.0, abs=1e-5)
    assert field.values[meant, 2].mean() > 0.8
    assert field.values[~meant, 2].mean() < 0.2
    corner = field.grid.to_world(np.zeros(3))
    assert channel.grid.to_index(corner) == pytest.approx([s.start for s in readings.box])


def test_a_law_is_the_prior_of_a_boundary():
    """Draws of the model without evidence have the mean and the covariance of the law."""
    rng = np.random.default_rng(0)
    uneven = 0.08 * np.exp(FUNCTIONS[:, 1:4] @ rng.standard_normal(3) * 0.2)
    law = SurfaceEdge(
        0.1 * FUNCTIONS[:, 2], uneven, np.array(1.5), np.array(0.6), np.array(0.01),
        np.array([30.0, 30.0, 30.0]),
    )  # fmt: skip
    model = boundary_model(VolumeTarget(np.zeros(3), 20.0), prior=surface_prior(law), rays=RAYS)
    log_radii = np.log(prior_draws(model, 4000).draws / 20.0)
    assert log_radii.mean(axis=0) == pytest.approx(law.mean, abs=0.012)
    w = 30 / 28  # the mean of the inflation
    sds = np.sqrt(w * (np.asarray(waves(law), float) ** 2).sum(axis=1))
    assert log_radii.std(axis=0) == pytest.approx(sds, rel=0.12)
    narrow = np.full(RAYS, uneven.mean())
    assert np.abs(log_radii.std(axis=0) / narrow - sds.mean() / uneven.mean()).max() > 0.1


@pytest.mark.parametrize("off", [0.1, 0.6])
def test_a_point_on_the_edge_is_a_narrow_observation_of_the_law(off: float):
    """Also far out, where heavy tails decide whether size, form or detail is off: as of draws of
    the law, normal given their inflations, each conditioned on the point and weighted by it."""
    centre, radius, sd, count = np.zeros(3), 40.0, 1.0, 40_000
    law = SurfaceEdge(
        np.zeros(RAYS), np.full(RAYS, 0.13), np.array(1.2), np.array(0.6), np.array(0.01),
        np.array([6.0, 6.0, 6.0]),
    )  # fmt: skip
    chart = sphere_chart(centre, 110.0, frequency=FREQUENCY)
    place = chart.line(5, np.array([radius * np.exp(-off)]))[0]
    model = boundary_model(
        VolumeTarget(centre, radius), aj.anchors(place, sd=sd), prior=surface_prior(law), rays=RAYS
    )
    found = np.log(aj.fit(model, draws=4000).draws / radius)

    rng, wave, degrees = np.random.default_rng(0), np.asarray(waves(law), float), 6.0
    inflation = (degrees / 2) / rng.gamma(degrees / 2, size=(count, 3))[:, SCALE]
    y = (np.sqrt(inflation) * rng.standard_normal(inflation.shape)) @ wave.T
    at, slip = wave[5], sd / (radius * np.exp(-off))
    variance = (inflation * at**2).sum(axis=1) + slip**2
    weight = np.exp(-0.5 * (off**2 / variance + np.log(variance)))
    weight /= weight.sum()
    miss = (-off - y[:, 5] + slip * rng.standard_normal(count)) / variance
    y += miss[:, None] * ((inflation * at) @ wave.T)
    mean = weight @ y
    spread = np.sqrt(weight @ np.square(y - mean))
    assert 1 / np.square(weight).sum() > 1000
    assert found[:, 5].mean() == pytest.approx(-off, abs=3 * slip)
    assert np.abs(found.mean(axis=0) - mean).max() < 0.25 * spread.max()
    assert found.std(axis=0) == pytest.approx(spread, rel=0.25, abs=0.01)
    far = int((chart.directions @ chart.directions[5]).argmin())
    assert mean[far] < -0.2 * off  # the point is not of its own place alone


def test_a_point_that_no_star_comes_near_to_leaves_the_rest_as_it_was():
    """On a tail two and a half radii away; a normal law would make all of it larger."""
    centre, radius = np.zeros(3), 40.0
    law = SurfaceEdge(
        np.zeros(RAYS), np.full(RAYS, 0.13), np.array(1.2), np.array(0.6), np.array(0.01),
        np.array([30.0, 30.0, 30.0]),
    )  # fmt: skip
    target = VolumeTarget(centre, radius, "mm", "target")
    chart = sphere_chart(centre, 110.0, frequency=FREQUENCY)
    place = chart.line(5, np.array([2.5 * radius]))[0]
    told = Targets((target,), clicks=((target.id, "edge", tuple(place.tolist())),))
    far = int((chart.directions @ chart.directions[5]).argmin())
    sizes = [
        float(np.median(aj.fit(boundary_model(target, point, prior=surface_prior(law), rays=RAYS),
                               draws=1000).draws[:, far]))
        for point in (clicks_on(told, target), aj.anchors(place))
    ]  # fmt: skip
    assert sizes[0] == pytest.approx(radius, rel=0.1)
    assert sizes[1] > 1.25 * radius


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "pass `point_mm`"),
        ({"point_mm": MIDDLE, "dims": 2}, "nor `dims=2`"),
        ({"point_mm": MIDDLE, "slices": [3]}, "neither `mask`, `slices`"),
        ({"point_mm": MIDDLE, "threshold": 2.0}, "drop `threshold`"),
        ({"point_mm": MIDDLE, "radius_mm": 9.0}, "drop `radius_mm`"),
        ({"point_mm": MIDDLE, "chart": "offset"}, "drop `chart`"),
    ],
)
def test_what_it_cannot_be_asked(asked: dict, words: str):
    image = image_of_balls([Ball(MIDDLE, 20.0, 8.0)], seed=0)
    with pytest.raises(InputError, match=words):
        aj.contour(image, net=NET, **asked)


def test_only_a_pet_of_some_depth_is_read():
    image = image_of_balls([Ball(MIDDLE, 20.0, 8.0)], seed=0)
    thin = aj.Image.of(image.primary)
    values = thin.primary.values[:, :, 5:10]
    flat = aj.Image.from_arrays(PT=values, spacing_mm=tuple(image.primary.grid.spacing))
    with pytest.raises(InputError, match="at least 40 mm deep"):
        expert_read(load_surface_net(NET), flat, MIDDLE)


def test_points_say_which_reading_the_expert_s_is_of():
    """Of two balls that touch, both or the one that was clicked."""
    pair = [Ball(MIDDLE, 14.0, 5.0), Ball((80.0, 60.0, 30.0), 14.0, 5.0)]
    image, there = image_of_balls(pair, seed=0), (86.0, 60.0, 30.0)
    net, quick = load_surface_net(NET), aj.Settings(draws=300)
    both = aj.contour(image, point_mm=[MIDDLE, there], net=net, settings=quick)[0]
    one = aj.contour(image, point_mm=MIDDLE, outside_mm=there, net=net, settings=quick)[0]
    truth = 4 / 3 * np.pi * 14.0**3
    assert np.median(both.content.draws) > 1.6 * truth
    assert np.median(one.content.draws) < 1.4 * truth


def test_a_network_says_what_it_is_for():
    image = image_of_balls([Ball(MIDDLE, 20.0, 8.0)], seed=0)
    with pytest.raises(InputError, match="pass it to contour, with `point_mm`"):
        aj.load_net(NET)
    with pytest.raises(InputError, match="lesion-pet-3d"):
        aj.load_net("lesion-pet-4d")
    other = dataclasses.replace(load_surface_net(NET), features=("a", "b"))
    with pytest.raises(InputError, match="train it again"):
        aj.contour(image, point_mm=MIDDLE, net=other)
    folder = SHIPPED / NET
    assert (folder / "MODEL_CARD.md").is_file()
    assert load_surface_net(NET).card["licence"]


def test_a_lesion_that_the_image_cuts_is_kept_and_red(tmp_path):
    """Nothing is lost, nothing is green, and a picture can be made of it."""
    low = (52.0, 60.0, 8.0)
    image = image_of_balls([Ball(low, 20.0, 8.0)], seed=0)
    case = aj.contour(image, point_mm=low, net=NET, settings=aj.Settings(draws=400))
    (one,) = case
    assert one.grade.case == "red"
    assert any("image" in reason for reason in one.grade.reasons)
    assert set(one.grade.local) == {2}
    low_ml, high_ml = np.quantile(one.content.draws, [0.025, 0.975])
    assert low_ml <= 4 / 3 * np.pi * 20.0**3 <= high_ml
    names = aj.write_case(tmp_path / "out", case)
    assert "figure.png" in names
