"""Is what belongs to a target found by its id and place, in any channel, slice and dimension?"""

from __future__ import annotations

import csv
import json
from functools import partial

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case as case_module
from aistat_jax._record import replace
from aistat_jax.boundary.prior import REACH
from aistat_jax.case import Case, Settings, contour_case
from aistat_jax.inference.posterior import Posterior
from aistat_jax.pipelines import check_statement
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image, channel_from_array
from aistat_jax.space.star import star_chart
from aistat_jax.uncertainty.contour import contour_of, estimate_volume
from aistat_jax.uncertainty.reference import agreement, with_references
from aistat_jax.views.summary import summary_of
from tests.helpers import TRUSTED, make_surface, make_volume

SHAPE = (32, 32, 6)
PT = Grid(np.diag([4.0, 4.0, 4.0, 1.0]), SHAPE)
SHIFTED = Grid(PT.affine + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 9.0]] + [[0] * 4]), SHAPE)
FINE = Grid(np.diag([1.0, 1.0, 2.0, 1.0]), (125, 125, 11))
MIDDLE = np.array([62.0, 62.0])


def channel(grid: Grid, name: str, balls: list[tuple[np.ndarray, float]] = ()) -> Channel:
    """Balls of 6 on a background of 1, a little noisy."""
    values = 1.0 + 0.05 * np.random.default_rng(len(name)).standard_normal(grid.shape)
    for centre, radius in balls:
        values[np.linalg.norm(grid.points() - centre, axis=-1) <= radius] += 5.0
    return channel_from_array(values, grid.affine, name=name)


def disc(grid: Grid, k: int, radius: float, centre=MIDDLE, name: str | None = None) -> Posterior:
    """Draws near a circle in slice `k` of a grid."""
    chart = star_chart(np.asarray(centre, dtype=float), 3 * radius, grid.plane(k))
    noise = np.random.default_rng(k).normal(size=(1, 200, 1))
    radii = radius * np.exp(0.01 * noise) * np.ones(chart.sites)
    return Posterior(chart, radii, {}, TRUSTED, "laplace", 0, name or f"z{k:03d}")


def balls(models, settings: Settings, wider: float = 1.0) -> list[Posterior]:
    """Stands in for a fit: draws near the circle, or ball, of each target's rough radius.

    Balls are so many times as wide.
    """
    noise = np.random.default_rng(settings.seed).normal(size=(1, settings.draws, 1))
    return [
        Posterior(
            model.chart,
            np.exp(0.02 * noise) * np.ones(model.chart.sites) * model.chart.reach[1] / REACH
            * (wider if model.chart.dims == 3 else 1.0),
            {}, TRUSTED, "laplace", settings.seed, model.target.id,
        )
        for model in models
    ]  # fmt: skip


def test_contours_of_a_second_channel_lie_at_their_height():
    """Slice 1 of the second channel is next to slice 3 of the first: 13 and 12 mm up."""
    image = Image.of(channel(PT, "A"), channel(SHIFTED, "B"))
    found = [disc(SHIFTED, 1, 20.0), disc(SHIFTED, 2, 12.0)]
    chance = aj.probability_map(found, PT)
    assert [k for k in range(6) if chance[:, :, k].any()] == [3, 4]
    assert (chance[:, :, 3] > 0.5).sum() * 16 == pytest.approx(np.pi * 400, rel=0.05)
    contours = [contour_of(p) for p in found]
    mask = np.zeros(SHAPE, dtype=bool)
    for k, radius in ((3, 20.0), (4, 12.0)):
        mask[:, :, k] = np.linalg.norm(PT.plane(k).points() - MIDDLE, axis=-1) <= radius
    contours = with_references(contours, mask, image.primary)
    same = agreement(contours, mask, image.primary)
    assert same.dice > 0.95
    assert same.band_share is not None
    where = [(t["channel"], t["slice"]) for t in summary_of(Case(image, (*contours,)))["targets"]]
    assert where == [("B", 1), ("B", 2)]
    by_number = np.roll(mask, -2, axis=2)  # negative control: as slice numbers would have it
    assert agreement(contours, by_number, image.primary).dice == 0.0


def test_finer_slices_fill_the_coarser_ones_each_with_the_nearest():
    found = [disc(FINE, k, 30.0 + 2 * k) for k in range(2, 8)]  # 4 to 14 mm
    volume = estimate_volume([contour_of(p) for p in found], channel(PT, "A"))
    area = volume.sum(axis=(0, 1)) * 16
    wanted = [0, 34.0, 38.0, 42.0, 44.0, 0]  # at 4, 8, 12, and within half a slice of 16 mm
    np.testing.assert_allclose(area, np.pi * np.square(wanted), rtol=0.06)
    back = estimate_volume([contour_of(disc(PT, 2, 12.0))], channel(FINE, "C"))
    assert np.flatnonzero(back.any(axis=(0, 1))).tolist() == [3, 4, 5]  # 6, 8 and 10 mm


def test_several_targets_are_combined_by_probability():
    one, other = disc(PT, 2, 20.0), disc(PT, 2, 20.0, np.array([82.0, 62.0]))
    one, other = (replace(p, presence=0.5) for p in (one, other))
    both, first, second = (aj.probability_map(p, PT) for p in ([one, other], one, other))
    np.testing.assert_allclose(both, 1 - (1 - first) * (1 - second))
    assert both.max() == 0.75
    with pytest.raises(aj.InputError, match="several targets have no slice of their own"):
        aj.probability_map([one, other])


def test_a_turned_channel_is_refused_in_a_sentence():
    turn = np.eye(4)
    turn[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    with pytest.raises(aj.InputError, match="is turned against the plane asked for"):
        aj.probability_map([disc(PT, 2, 20.0)], Grid(turn @ PT.affine, SHAPE))


def test_a_case_is_asked_by_id():
    image = Image.of(channel(PT, "A"))
    contours = tuple(contour_of(disc(PT, k, 20.0)) for k in (1, 2))
    case = Case(image, contours, skipped=(("z003", "the fit did not start"),))
    assert case["z002"] is case[1]
    assert [one.id for one in case] == ["z001", "z002"]
    assert len(case) == 2
    assert case[0].content.unit == "mm2"
    with pytest.raises(aj.InputError, match="z003 was left out: the fit did not start"):
        case["z003"]
    with pytest.raises(aj.InputError, match="there is no target z009; there are z001, z002"):
        case["z009"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "magic"}, "unknown `method` 'magic'; use one of laplace, nuts"),
        ({"draws": 99}, "at least 100"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"seed": -1}, "`seed` -1"),
        ({"tolerance_mm": 0.0}, "`tolerance_mm` 0 must be a positive length"),
        ({"blur_px": np.inf}, "`blur_px` inf must be a positive length"),
    ],
)
def test_settings_are_refused_by_their_arguments_names(given, words):
    with pytest.raises(aj.InputError, match=words) as refused:
        Settings(**given)
    assert "--" not in str(refused.value)


def test_settings_of_another_unit_are_refused():
    flat = Image.from_arrays(A=np.arange(9.0).reshape(3, 3))
    assert Settings().of(flat) == Settings()
    with pytest.raises(aj.InputError, match="`tolerance_mm` means nothing; use `tolerance_px`"):
        Settings(tolerance_mm=2.0).of(flat)


# ----------------------------------------------------------------------------- in one call

LEFT, RIGHT = np.array([34.0, 62.0, 14.0]), np.array([92.0, 62.0, 14.0])


@pytest.fixture(scope="module")
def two_lesions():
    """Two lesions side by side, seen by the second channel alone."""
    return Image.of(channel(PT, "A"), channel(SHIFTED, "B", [(LEFT, 22.0), (RIGHT, 16.0)]))


@pytest.fixture(scope="module")
def contoured(two_lesions, tmp_path_factory):
    mask = np.zeros(SHAPE, dtype=bool)
    for centre, radius in ((LEFT, 22.0), (RIGHT, 16.0)):
        mask |= np.linalg.norm(PT.points() - centre, axis=-1) <= radius
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(case_module, "_fit", balls)
        case = aj.contour(
            two_lesions, threshold=3.0, channel="B", slices=[1, 2], reference=mask,
            settings=aj.Settings(draws=200),
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("case") / "deep" / "run"
    return case, folder, aj.write_case(folder, case)


def test_two_lesions_of_a_second_channel_go_through_one_call(contoured):
    case, folder, names = contoured
    assert [one.id for one in case] == ["z001.1", "z001.2", "z002.1", "z002.2"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    left = case["z001.1"]
    assert np.linalg.norm(left.reference.centroid - LEFT[:2]) < 3.0  # each its own
    assert np.linalg.norm(case["z001.2"].reference.centroid - RIGHT[:2]) < 3.0
    written = json.loads((folder / "summary.json").read_text())
    assert [(t["id"], t["channel"], t["slice"]) for t in written["targets"]] == [
        ("z001.1", "B", 1), ("z001.2", "B", 1), ("z002.1", "B", 2), ("z002.2", "B", 2),
    ]  # fmt: skip
    assert all(target["reference"]["dice"] > 0.8 for target in written["targets"])
    stored = nib.load(folder / "probability.nii.gz").get_fdata()
    assert np.flatnonzero(stored.any(axis=(0, 1))).tolist() == [3, 4]
    rows = list(csv.DictReader((folder / "contours.csv").read_text().splitlines()))
    assert {(row["channel"], row["slice"], row["z_mm"]) for row in rows} == {
        ("B", "1", "13.0000"), ("B", "2", "17.0000"),
    }  # fmt: skip


@pytest.mark.parametrize("gib", [0.001, None])
def test_more_targets_than_memory_allows_are_refused(two_lesions, monkeypatch, gib):
    monkeypatch.setattr(case_module, "_fit", balls)
    memory = None if gib is None else int(gib * 2**30)
    monkeypatch.setattr(case_module, "memory_bytes", lambda: memory)
    chosen = {"threshold": 3.0, "channel": "B", "slices": [1, 2]}
    if gib is None:  # the control: nothing is known of the machine
        assert len(aj.contour(two_lesions, **chosen, settings=aj.Settings(draws=200))) == 4
        return
    with pytest.raises(aj.InputError, match=r"4 targets need about 0\.0 GiB, and this machine"):
        aj.contour(two_lesions, **chosen, settings=aj.Settings(draws=200))


def area_is(radii, area, sd):
    return -0.5 * jnp.square((jnp.pi * jnp.mean(jnp.square(radii)) - area) / sd)


def test_a_prior_and_evidence_of_ones_own_go_through_one_call():
    """A prior of circles makes circles; evidence of a size alone makes that size, to 3 sd."""
    phantom = aj.demo_phantom(1)
    asked = {"point_mm": phantom.centre, "slices": "point", "settings": Settings(draws=200)}
    given = (
        {},
        {"prior": aj.Prior(amplitude=1e-3, fixed=("amplitude",))},
        {"evidence": aj.term(area_is, 300.0, 5.0)},
    )
    plain, circles, sized = (aj.contour(phantom.image, **asked, **each)[0] for each in given)
    waves = [one.posterior.draws.std(axis=1).mean() for one in (plain, circles)]
    assert waves[1] < 0.1 * waves[0]
    assert abs(sized.content.mean - 300.0) < 15.0
    assert abs(plain.content.mean - 300.0) > 15.0


@pytest.mark.parametrize(
    ("prior", "evidence", "settings", "words"),
    [
        (0.3, None, Settings(), "a float is no prior of a boundary: it needs `reach`"),
        (None, "PT", Settings(), "`evidence` is what `intensity`, `term` and the like make"),
        (None, aj.anchors(np.eye(2)), Settings(blur_mm=3.0), "its own blur; drop `blur_mm`"),
    ],
)
def test_a_prior_or_evidence_that_is_none_is_refused(prior, evidence, settings, words):
    with pytest.raises(aj.InputError, match=words):
        check_statement(prior, evidence, None, settings, "net")


@pytest.mark.parametrize("given", [{"prior": aj.Prior()}, {"evidence": aj.anchors(np.eye(2))}])
def test_a_prior_or_evidence_beside_a_network_is_refused(two_lesions, given):
    (name,) = given
    words = f"`net` reads the boundary itself; drop `{name}`, or `net`"
    with pytest.raises(aj.InputError, match=words):
        aj.contour(two_lesions, point_mm=LEFT, net="lesion-pet-2d", **given)


def test_lesions_of_one_slice_are_explored_one_by_one(contoured, two_lesions):
    pytest.importorskip("ipympl")
    case, _, _ = contoured
    explorer = aj.explore(two_lesions, case)
    assert explorer.references[1] is case["z001.2"].reference
    explorer.controls.slice.value = 1
    assert [label for label, _ in explorer.controls.target.options] == ["z001.1", "z001.2"]
    explorer.controls.target.value = 1
    assert explorer.posterior is case["z001.2"].posterior


def test_files_are_asked_for_as_arrays_are(two_lesions, tmp_path, monkeypatch):
    monkeypatch.setattr(case_module, "_fit", balls)
    aj.write_nifti(tmp_path / "b.nii.gz", two_lesions["B"].values, two_lesions["B"])
    asked = {"point_mm": LEFT, "settings": aj.Settings(seed=3)}
    one = aj.contour({"MR": tmp_path / "b.nii.gz"}, **asked)
    other = aj.contour(Image.of(replace(two_lesions["B"], name="MR")), **asked)
    assert one.inputs == ("b.nii.gz",)
    assert [each.id for each in one] == [each.id for each in other]
    np.testing.assert_allclose(one[0].posterior.estimate, other[0].posterior.estimate)
    for question, words in (
        ({}, "pass one of `point_mm`, `mask`, `threshold` and `net`"),
        ({"point_mm": LEFT, "mask": "m.nii.gz"}, "pass one of `point_mm`, `mask`"),
        ({"net": "lesion-pet-2d", "threshold": 2.0}, "drop `threshold`"),
        ({"net": "lesion-pet-2d", "dims": 3}, "slice by slice"),
        ({"net": "lesion-pet-2d", "chart": "offset"}, "reads radii from a centre; drop `chart`"),
        ({"point_mm": LEFT, "chart": "oval"}, '`chart` must be "star" .* or "auto", got'),
        ({"point_mm": LEFT, "dims": 4}, '`dims` must be 2 .*, 3 .* or "auto", got 4'),
        ({"point_mm": LEFT, "dims": 3, "slices": [1]}, "`dims=3` contours a lesion as a whole"),
    ):
        with pytest.raises(aj.InputError, match=words):
            aj.contour(tmp_path / "b.nii.gz", **question)
    with pytest.raises(aj.InputError, match="the reference's grid .* does not match channel A's"):
        aj.contour(two_lesions, point_mm=LEFT, channel="B", reference=np.ones((3, 3, 3), bool))


def test_a_lesion_in_space_is_a_case_of_one(two_lesions, tmp_path, monkeypatch):
    monkeypatch.setattr(case_module, "_fit", balls)
    mask = np.linalg.norm(SHIFTED.points() - [62.0, 62.0, 18.0], axis=-1) <= 9.0
    image = Image.of(two_lesions["B"])
    case = aj.contour(image, mask=mask, dims=3, reference=mask)
    (one,) = case
    assert (one.id, one.chart.dims, one.content.unit) == ("target", 3, "mm3")
    assert one.reference.volume == pytest.approx(one.content.mean, rel=0.3)
    found = case.agreement
    assert found.scope == "volume"
    assert found.dice > 0.85
    assert found.assd < 3.0
    away = np.roll(mask, 10, axis=0)
    assert aj.contour(image, mask=mask, dims=3, reference=away).agreement.dice == 0.0
    aj.triage(case.contours)
    names = aj.write_case(tmp_path / "run", case)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(names)
    assert {"contours.csv", "figure.png", "report.html", "surface.surf.gii"} <= set(names)
    target = json.loads((tmp_path / "run" / "summary.json").read_text())["targets"][0]
    assert target["reference"]["dice"] == pytest.approx(found.dice, abs=0.03)
    rows = list(csv.DictReader((tmp_path / "run" / "contours.csv").read_text().splitlines()))
    assert {row["kind"] for row in rows} == {"estimate", "lower", "upper"}
    assert {row["channel"] for row in rows} == {"B"}
    assert {int(row["slice"]) for row in rows if row["kind"] == "estimate"} == {
        section["slice"] for section in target["sections"]
    }
    written = aj.read_surface(tmp_path / "run" / "surface.surf.gii")
    mesh = written[0] if isinstance(written, tuple) else written
    assert mesh.volume == pytest.approx(one.content.mean, rel=0.02)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"Volume, median and 95% interval: {one.content} in target" in page
    assert "neighbouring slices" not in page


@pytest.mark.parametrize("count", [1, 2])
def test_surfaces_without_spacing_and_of_many(count, tmp_path):
    image = make_volume("px")
    found = [make_surface(unit="px", seed=n, centre=(63.0 - n, 61.0, 40.0)) for n in range(count)]
    small = [
        replace(p, target_id=f"t{n}", chart=replace(p.chart, centre=np.array([32.0, 30.0, 11.0])),
                radii=0.4 * p.radii)
        for n, p in enumerate(found)
    ]  # fmt: skip
    contours = tuple(contour_of(p, tolerance_px=1.0) for p in small)
    names = aj.write_case(tmp_path, Case(image, contours))
    meshes = ["surface.ply"] if count == 1 else ["surface-t0.ply", "surface-t1.ply"]
    assert {"probability.npz", *meshes} <= set(names)
    summary = (tmp_path / "summary.json").read_text()
    assert "px3" in summary
    assert "mm" not in summary


def test_dims_are_chosen_and_the_choice_is_kept(two_lesions, monkeypatch):
    monkeypatch.setattr(case_module, "_fit", balls)
    image = Image.of(two_lesions["B"])
    ball = np.linalg.norm(SHIFTED.points() - [62.0, 62.0, 18.0], axis=-1) <= 9.0
    case = aj.contour(image, mask=ball, dims="auto", settings=aj.Settings(draws=100))
    assert case[0].chart.dims == 3
    assert case.chosen[0] == 3
    assert "straight rays from one centre reach" in summary_of(case)["chosen"]["reason"]
    sliced = aj.contour(image, mask=ball, dims="auto", slices=[2], settings=aj.Settings(draws=100))
    assert sliced.chosen == (2, "slices were chosen")
    assert sliced[0].chart.dims == 2
    asked = aj.contour(image, mask=ball, dims=2, settings=aj.Settings(draws=100))
    assert "chosen" not in summary_of(asked)
    assert [one.id for one in aj.contour(image, mask=ball)] == [one.id for one in asked]


def test_a_surface_that_leaves_the_image_goes_in_slices_where_dims_are_chosen(
    two_lesions, monkeypatch
):
    """And is refused (the control) where a surface was asked for."""

    monkeypatch.setattr(case_module, "_fit", partial(balls, wider=9.0))
    image = Image.of(two_lesions["B"])
    ball = np.linalg.norm(SHIFTED.points() - [62.0, 62.0, 18.0], axis=-1) <= 9.0
    few = aj.Settings(draws=100)
    case = aj.contour(image, mask=ball, dims="auto", settings=few)
    assert {one.chart.dims for one in case} == {2}
    assert case.chosen[0] == 2
    assert case.chosen[1].startswith("as one surface the contour runs over the border")
    with pytest.raises(aj.InputError, match="runs over the border"):
        aj.contour(image, mask=ball, dims=3, settings=few)


def test_a_target_without_evidence_is_named_and_the_others_stay(two_lesions, monkeypatch):
    monkeypatch.setattr(case_module, "_fit", balls)
    targets = aj.find_targets(two_lesions, threshold=3.0, channel="B", slices=[1])
    evidence = aj.intensity(two_lesions, "B")

    def model_of(target):
        if target.id == "z001.2":
            raise aj.InputError("nothing is known here")
        return aj.boundary_model(target, evidence)

    case = contour_case(two_lesions, targets, model_of, Settings(draws=200))
    assert case.skipped == (("z001.2", "nothing is known here"),)
    assert [one.id for one in case] == ["z001.1"]


def test_a_posterior_that_is_not_finite_is_named_and_the_others_stay(two_lesions, monkeypatch):
    def one_failed(models, settings):
        first, *others = balls(models, settings)
        return [replace(first, radii=np.full_like(first.radii, np.nan)), *others]

    monkeypatch.setattr(case_module, "_fit", one_failed)
    asked = {"threshold": 3.0, "channel": "B", "slices": [1], "settings": Settings(draws=200)}
    case = aj.contour(two_lesions, **asked)
    assert [one.id for one in case] == ["z001.2"]
    assert "some draws of the posterior are not finite" in dict(case.skipped)["z001.1"]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_contour_that_passes_by_a_point_that_was_given_is_red(dims):
    """A point on the edge that is on it, and those well inside or outside, say nothing."""
    flat = disc(PT, 2, 20.0, name="z002")
    one = flat if dims == 2 else make_surface()
    chart, away = one.chart, np.zeros(one.chart.dims)
    radius = float(np.median(one.estimate))
    away[0] = radius

    def said(kind: str, factor: float, name: str | None = None) -> str:
        point = tuple((chart.centre + factor * away).tolist())
        told = case_module._against(one, [(name or one.target_id, kind, point)])
        return " ".join(f.text for f in told.diagnostics.findings if f.cap == "red")

    edge = float(one.chart.share(chart.centre[None] + away).share @ one.estimate[
        one.chart.share(chart.centre[None] + away).site]) / radius  # fmt: skip
    good = (("edge", edge), ("inside", 0.5), ("outside", 2.0))
    assert [said(*each) for each in good] == ["", "", ""]
    for kind, factor, words in (
        ("edge", 2.0, "put on its edge"), ("edge", 0.4, "put on its edge"),
        ("inside", 1.6, "said to be inside"), ("outside", 0.5, "said to be outside"),
    ):  # fmt: skip
        assert words in said(kind, factor)
        assert said(kind, factor, "another") == ""
