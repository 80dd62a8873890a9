"""Is the kind of boundary that is chosen one that holds the region, and is the reason said?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case as case_module
from aistat_jax.boundary import choices
from aistat_jax.boundary.choices import chosen_dims, in_words
from aistat_jax.boundary.offsets import OffsetTarget, OffsetVolumeTarget
from aistat_jax.boundary.targets import Target
from aistat_jax.boundary.volume import VolumeTarget
from aistat_jax.inference.finish import finished
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image, channel_from_array
from aistat_jax.uncertainty.grading import ROOM
from aistat_jax.views.summary import summary_of
from tests.helpers import TRUSTED, horseshoe_depth, tube_depth

GRID = Grid(np.diag([2.0, 2.0, 3.0, 1.0]), (40, 40, 16))
TUBE = tube_depth(GRID.points())
BALL = 18.0 - np.linalg.norm(GRID.points() - [40.0, 38.0, 24.0], axis=-1)
FLAT = horseshoe_depth(np.moveaxis(np.indices((64, 64)), 0, -1), (32.0, 30.0), 19.0, 6.0)
DISC = 17.0 - np.linalg.norm(np.moveaxis(np.indices((64, 64)), 0, -1) - [32.0, 30.0], axis=-1)


def image_of(depth: np.ndarray, voxel: float = 2.0, noise: float = 0.5) -> Image:
    """An image that is 4 within and 1 outside, blurred by 0.6 voxels, with white noise."""
    from scipy.ndimage import gaussian_filter

    inside = gaussian_filter(np.clip(depth / voxel + 0.5, 0, 1), 0.6)
    values = 1 + 3 * inside + noise * np.random.default_rng(0).standard_normal(depth.shape)
    if depth.ndim == 2:
        return Image.from_arrays(MR=values, spacing_mm=voxel)
    return Image.of(channel_from_array(values, GRID.affine, name="MR"))


def legs() -> np.ndarray:
    """Two legs on one base: one region in the lowest slices, two in those above."""
    x, y, z = np.moveaxis(GRID.points() - [40.0, 38.0, 24.0], -1, 0)
    leg = (np.abs(np.abs(x) - 18.0) < 6.0) & (np.abs(y) < 8.0) & (np.abs(z) < 18.0)
    return leg | ((np.abs(x) < 24.0) & (np.abs(y) < 8.0) & (z > -18.0) & (z < -9.0))


def near(models, settings) -> list[Posterior]:
    """Stands in for fits: draws near each target's outline, with what is doubted of the target."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((1, settings.draws, 1))
    return [
        finished(
            model,
            {"radii": model.chart.values_of(model.target.outline) * np.exp(noise)},
            TRUSTED, "laplace", settings.seed, 0.0, look=False,
        )
        for model in models
    ]  # fmt: skip


# ----------------------------------------------------------------------------- what is chosen


def test_a_horseshoe_becomes_an_offset_and_its_contour_is_right():
    image, truth = image_of(FLAT), FLAT[:, :, None] > 0
    rough = (FLAT + 1.5 * np.sin(np.arange(64) / 5.0)[:, None] > 0.3)[:, :, None]
    case = aj.contour(image, mask=rough, chart="auto", reference=truth,
                      settings=aj.Settings(draws=200))  # fmt: skip
    (one,) = case
    assert isinstance(one.posterior.model.target, OffsetTarget)
    assert one.id == "z000"
    assert case.agreement.dice > 0.93
    rough_dice = 2 * (rough & truth).sum() / (rough.sum() + truth.sum())
    assert case.agreement.dice > rough_dice + 0.02  # read off the image, not off the mask
    ((name, chart, why),) = case.charts
    assert (name, chart) == ("z000", "offset")
    assert why == "straight rays from one centre reach 49% of it"
    assert summary_of(case)["chosen"] == {"charts": [{"id": name, "chart": chart, "reason": why}]}


def test_a_bent_tube_becomes_an_offset_in_space_and_its_surface_is_right(tmp_path):
    image, truth = image_of(TUBE), TUBE > 0
    rough = TUBE + np.sin(np.arange(40) / 3.0)[:, None, None] > 0.2
    case = aj.contour(image, mask=rough, dims="auto", chart="auto", reference=truth,
                      settings=aj.Settings(draws=200))  # fmt: skip
    (one,) = case
    assert isinstance(one.posterior.model.target, OffsetVolumeTarget)
    assert case.agreement.dice > 0.93
    assert case.chosen[0] == 3
    assert "offsets from its outline hold the rest" in case.chosen[1]
    found = summary_of(case)
    assert found["chosen"]["charts"][0]["chart"] == "offset"
    assert found["targets"][0]["chart"] == "offset"
    # control: the star that was asked for leaves most of the tube out
    star = aj.find_targets(image, mask=rough, dims=3)[0]
    values = star.chart(2 * star.radius).values_of(star.outline)
    held = star.chart(2 * star.radius).inside(values[None], GRID.points())[0]
    assert 2 * (held & truth).sum() / (held.sum() + truth.sum()) < 0.8


@pytest.mark.parametrize(("depth", "dims"), [(DISC, 2), (BALL, 3), (BALL, 2), (BALL, "auto")])
def test_what_is_round_stays_a_star_bit_for_bit(depth, dims):
    image = image_of(depth)
    mask = depth.reshape(image.primary.values.shape) > 0
    plain, chosen = (
        aj.find_targets(image, mask=mask, dims=dims, chart=chart) for chart in ("star", "auto")
    )
    assert [target.id for target in plain] == [target.id for target in chosen]
    for one, other in zip(plain, chosen, strict=True):
        assert isinstance(other, Target | VolumeTarget)
        np.testing.assert_array_equal(one.centre, other.centre)
        assert (one.radius, one.doubts) == (other.radius, other.doubts) == (one.radius, ())
    assert {chart for _, chart, _ in chosen.charts} == {"star"}
    assert len(chosen.charts) == len(chosen)
    assert plain.charts == ()
    assert plain.chosen == chosen.chosen


def test_each_target_is_chosen_for_by_itself_and_told_as_stars_are():
    both = np.concatenate([FLAT, DISC])
    image = image_of(both)
    found = aj.find_targets(image, threshold=2.5, chart="auto")
    kinds = {name: chart for name, chart, _ in found.charts}
    assert sorted(kinds.values()) == ["offset", "star"]
    bent = next(target for target in found if kinds[target.id] == "offset")
    assert isinstance(bent, OffsetTarget)
    (whole,) = aj.find_targets(
        image, threshold=2.5, point_mm=(*2.0 * np.argwhere(FLAT > 3)[0], 0.0), chart="offset"
    )
    assert isinstance(whole, OffsetTarget)
    assert whole.content == pytest.approx(bent.content, rel=1e-9)
    doubted = aj.find_targets(
        image, threshold=2.5, point_mm=(*2.0 * np.argwhere(FLAT > 3)[0], 0.0), chart="star"
    )[0]
    assert (whole.id, whole.seen_through, whole.doubts) == (
        doubted.id, doubted.seen_through, doubted.doubts,
    )  # fmt: skip


def test_all_are_offsets_where_that_is_asked_for():
    (disc,) = found = aj.find_targets(image_of(DISC), mask=DISC[:, :, None] > 0, chart="offset")
    assert isinstance(disc, OffsetTarget)
    assert found.charts == ()  # nobody chose
    (ball,) = aj.find_targets(image_of(BALL), mask=BALL > 0, dims=3, chart="offset")
    assert isinstance(ball, OffsetVolumeTarget)
    assert aj.find_targets(image_of(BALL), mask=BALL > 0, dims="auto", chart="offset").chosen == (
        3, "11 slices show the whole lesion",
    )  # fmt: skip


def test_what_no_voxels_show_stays_in_slices_whatever_the_chart():
    cut = np.roll(TUBE, -6, axis=2) > 0
    cut[:, :, -6:] = False
    like = image_of(TUBE).primary
    for chart in ("star", "offset", "auto"):
        assert chosen_dims(like, cut, chart).dims == 2
    assert chosen_dims(like, TUBE > 0, "star").dims == 2  # no star, and no offsets allowed
    found = aj.find_targets(image_of(TUBE), mask=cut, dims="auto", chart="auto")
    assert found.chosen[0] == 2
    assert all(target.plane is not None for target in found)
    assert {chart for _, chart, _ in found.charts} >= {"offset"}


def test_what_is_too_narrow_for_offsets_remains_a_star_and_is_doubted():
    """A short bent line of one pixel, of which no centre sees much."""
    mask = np.zeros((64, 64, 1), dtype=bool)
    mask[10:18, 10], mask[17, 10:18] = True, True
    image = image_of(DISC)
    found = aj.find_targets(image, mask=mask, chart="auto")
    ((_, chart, why),) = found.charts
    assert chart == "star"
    assert "but normals of the reference cross" in why
    (doubt,) = found[0].doubts
    assert "and say nothing of that part" in doubt
    with pytest.raises(aj.InputError, match="target z000: normals of the reference cross"):
        aj.find_targets(image, mask=mask, chart="offset")
    assert aj.find_targets(image, mask=mask)[0].doubts == ()  # as it was
    # one so long that its ends are a small part of it is held
    mask[:] = False
    mask[10:50, 10], mask[10, 10:50], mask[50, 10:51], mask[30:50, 50] = (True,) * 4
    (held,) = found = aj.find_targets(image, mask=mask, chart="auto")
    assert isinstance(held, OffsetTarget)
    assert held.doubts == ()


@pytest.mark.parametrize(("half", "dims"), [(3.5, 3), (2.6, 2)])
def test_a_ball_with_a_thin_horn_is_told_by_offsets(half, dims):
    """Normals cross soon in the horn, and run far in the ball: each has its own reach.

    A horn that is less than two voxels thick is not held so well, which is said, and goes in slices
    where nobody asks for a surface.
    """
    knob = np.linalg.norm(GRID.points() - [62.0, 38.0, 24.0], axis=-1) <= 14.0
    horned = knob | (tube_depth(GRID.points(), half=half, gap=0.6) > 0)
    image, ask = image_of(TUBE), {"mask": horned, "dims": 3}
    (asked,) = aj.find_targets(image, chart="offset", **ask)
    (one,) = found = aj.find_targets(image, chart="auto", **ask)
    for target in (asked, one):
        assert isinstance(target, OffsetVolumeTarget)
        assert len(target.doubts) == (dims == 2)
    ((_, chart, why),) = found.charts
    assert chart == "offset"
    assert "rays from one centre reach" in why
    assert chosen_dims(image.primary, horned, "auto").dims == dims
    # the control: a star leaves much of it out, and says so
    (star,) = aj.find_targets(image, chart="star", **ask)
    assert star.doubts


@pytest.mark.parametrize("chart", ["round", "Star", ""])
def test_another_word_is_refused(chart):
    with pytest.raises(aj.InputError, match='`chart` must be "star" .* "offset" .* "auto", got'):
        aj.find_targets(image_of(DISC), mask=DISC[:, :, None] > 0, chart=chart)


def test_what_was_chosen_in_words():
    stars = [(f"z{n:03d}", "star", "it is round") for n in range(5)]
    assert in_words(stars) == ["z000, z001, z002 and 2 more: star: it is round"]
    bent = [(f"z{n:03d}", "offset", f"{n}% of it") for n in range(8)]
    said = in_words(stars[:1] + bent)
    assert said[1] == "z000: offset from its outline: 0% of it"
    assert said[-1] == "the kind of boundary of 4 more is in summary.json"
    assert in_words([]) == []


def in_slice(mask: np.ndarray):
    """The targets of a mask in one slice, and how the kind of each boundary was chosen."""
    image = Image.from_arrays(MR=np.where(mask, 4.0, 1.0), spacing_mm=2.0)
    found = aj.find_targets(image, mask=mask[:, :, None], chart="auto")
    return found.found, found.charts


def test_rays_reach_all_of_a_bar_and_yet_offsets_hold_it_better(monkeypatch):
    across, along = np.indices((48, 96))
    bar = (np.abs(across - 24) < 3) & (np.abs(along - 48) < 40)
    (made,), (choice,) = in_slice(bar)
    assert isinstance(made, OffsetTarget)
    assert made.doubts == ()
    assert "the nearest star has a Dice of" in choice.reason
    # controls: offsets that are hardly any better than none, and a disc
    monkeypatch.setattr(choices, "offsets_of", lambda *asked: (made, 0.5))
    (star,), (choice,) = in_slice(bar)
    assert isinstance(star, Target)
    assert "but the nearest boundary of offsets" in choice.reason
    (disc,), (choice,) = in_slice(DISC > 0)
    assert isinstance(disc, Target)
    assert "Dice" not in choice.reason


# ------------------------------------------------------------------ what a star leaves out


def test_a_star_in_space_that_leaves_a_part_out_is_doubted_and_not_green(monkeypatch):
    monkeypatch.setattr(case_module, "_fit", near)
    image, ask = image_of(TUBE), {"dims": 3, "settings": aj.Settings(draws=200)}
    (one,) = aj.contour(image, mask=legs(), **ask)
    share = next(word for word in one.posterior.model.target.doubts[0].split() if "%" in word)
    assert 20 <= int(share.removesuffix("%")) <= 60
    assert one.grade.case == "red"
    assert one.grade.trusted_to is None
    assert f"do not reach {share} of the region, and say nothing" in one.grade.reasons[0]
    # control: of a ball that is told in the same way all is reached, and it is green
    (ball,) = aj.contour(image, mask=BALL > 0, **ask)
    assert ball.posterior.model.target.doubts == ()
    assert ball.grade.case == "green"
    # and offsets hold both legs, undoubted
    (offset,) = aj.find_targets(image, mask=legs(), dims=3, chart="auto")
    assert isinstance(offset, OffsetVolumeTarget)
    assert offset.doubts == ()


# A strip and a tube that are thick in the middle, and thin along much of what is left.
THIN = {
    2: horseshoe_depth(np.moveaxis(np.indices((64, 64)), 0, -1), (32.0, 30.0), 19.0, 2.0, tip=0.8),
    3: tube_depth(GRID.points(), half=8.0, tip=2.0),
}
THICK = {2: FLAT, 3: TUBE}


def sure(monkeypatch, depth: np.ndarray, dims: int):
    """The contour of a shape told by offsets from it, by draws that hardly differ."""
    monkeypatch.setattr(case_module, "_fit", near)
    mask = depth[:, :, None] > 0 if dims == 2 else depth > 0
    ask = {"dims": dims, "chart": "auto", "settings": aj.Settings(draws=200)}
    (one,) = aj.contour(image_of(depth), mask=mask, **ask)
    assert isinstance(one.posterior.model.target, OffsetTarget | OffsetVolumeTarget)
    assert one.posterior.model.target.doubts == ()
    return one


@pytest.mark.parametrize("dims", [2, 3])
def test_where_offsets_have_less_room_than_the_tolerance_nothing_is_green(monkeypatch, dims):
    """However sure the draws are: there they could not have been elsewhere."""
    one = sure(monkeypatch, THIN[dims], dims)
    chart, estimate = one.posterior.chart, one.posterior.estimate
    assert chart.limits is not None
    assert (one.grade.exceedance < 0.05).all()
    low, high = chart.ends
    confined = np.minimum(estimate - low, high - estimate) < ROOM * one.grade.tolerance
    weight = chart.weights(estimate)
    assert weight[confined].sum() > 0.05 * weight.sum()
    assert (one.grade.local[confined] == 1).all()
    assert (one.grade.local[~confined] == 0).all()
    assert one.grade.case == "amber"
    assert any("believed as drawn" in reason for reason in one.grade.reasons)
    # the control: where there is room, the same draws are green
    thick = sure(monkeypatch, THICK[dims], dims)
    assert thick.grade.case == "green"
    assert (thick.grade.local == 0).all()
