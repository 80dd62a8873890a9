"""Does summary.json keep its contract, and do the tables beside it say the same?"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.alternatives import SecondReading
from aistat_jax.case import Case, Settings, other_in
from aistat_jax.inference.posterior import Diagnostics, Finding
from aistat_jax.uncertainty.bands import pointwise_band
from aistat_jax.uncertainty.contour import contour_of, estimate_volume
from aistat_jax.uncertainty.reference import agreement, with_references
from aistat_jax.views.case import plot_case
from aistat_jax.views.cohort import cohort_table
from aistat_jax.views.outputs import write_contours
from aistat_jax.views.report import write_report
from aistat_jax.views.summary import summary_of
from tests.helpers import TRUSTED, make_image, make_posterior, make_surface, make_volume

TARGET = {"id", "method", "diagnostics", "size", "grade", "seconds"}
WIDTHS = {"band_half_width_mm", "pointwise_half_width_mm"}
DIAGNOSTICS = {"converged", "khat", "ess_min", "rhat_max", "divergences", "reasons"}


def make_case(spacing: float | None = 2.0, count: int = 1, **kwargs) -> Case:
    posteriors = (make_posterior(spacing=spacing, seed=n, **kwargs) for n in range(count))
    limit = {"tolerance_px": 1.0} if spacing is None else {"tolerance_mm": 2.0}
    return Case(
        make_image(spacing=spacing),
        tuple(contour_of(p, **limit) for p in posteriors),
        settings=Settings(seed=7),
        inputs=("pet.nii.gz",),
    )


def compared(case: Case, mask: np.ndarray, curves: list | None = None, **kwargs):
    """The agreement of a case with a mask, or with exact curves."""
    like = case.image.primary
    contours = with_references(case.contours, mask, like)
    if curves is not None:
        contours = [replace(c, reference=r) for c, r in zip(case, curves, strict=True)]
    return agreement(contours, mask, like, exact=curves is not None, **kwargs)


def test_schema_2_of_a_contour_in_a_slice():
    summary = summary_of(make_case())
    assert {"schema", "version", "seed", "inputs", "targets"} <= set(summary)
    assert summary["schema"] == 2
    assert summary["seed"] == 7
    target = summary["targets"][0]
    assert set(target) == TARGET | WIDTHS | {"dims", "chart", "channel", "slice"}
    assert (target["dims"], target["chart"]) == (2, "star")
    assert (target["channel"], target["slice"]) == ("PT", 0)
    assert set(target["diagnostics"]) == DIAGNOSTICS
    assert set(target["size"]) == {"unit", "mean", "sd", "q025", "q500", "q975"}
    assert set(target["band_half_width_mm"]) == {"median", "q95", "max"}
    assert {"case", "reasons", "fraction"} <= set(target["grade"])
    assert set(target["grade"]["fraction"]) == {"green", "amber", "red"}
    assert set(target["seconds"]) == {"evidence", "fit", "total"}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_presence_is_told_where_it_is_in_doubt():
    doubtful = make_case()
    one = doubtful[0]
    one = replace(one, posterior=replace(one.posterior, presence=0.25))
    doubtful = replace(doubtful, contours=(one,))
    assert summary_of(doubtful)["targets"][0]["presence"] == 0.25
    assert "presence" not in summary_of(make_case())["targets"][0]


def test_a_grade_says_at_which_tolerance_it_would_be_green():
    case = make_case()
    found = summary_of(case)["targets"][0]["grade"]
    assert found["trusted_to_mm"] == case[0].grade.trusted_to > 0
    places = found["trusted_to_by_place_mm"]
    assert places["median"] < places["q95"] <= places["max"]
    assert places["max"] == case[0].grade.local_trusted_to.max()
    assert found["findings"] == []


def test_a_grade_says_what_speaks_against_it():
    core = Finding("amber", "the middle is cold")
    at_odds = Finding("red", "PT and CT contradict each other", "sources")
    doubted = replace(TRUSTED, findings=(core, at_odds))
    found = summary_of(make_case(diagnostics=doubted))["targets"][0]["grade"]
    assert found["findings"] == [
        {"cap": "amber", "text": "the middle is cold", "kind": "image"},
        {"cap": "red", "text": "PT and CT contradict each other", "kind": "sources"},
    ]
    assert found["case"] == "red"
    assert found["trusted_to_mm"] is None  # no tolerance heals that
    assert set(found["trusted_to_by_place_mm"].values()) == {None}


def test_schema_2_of_a_surface():
    """The volume of a lesion, and its sections, whose areas add up to it."""
    image, posterior = make_volume(), make_surface()
    chosen = (3, "many slices show it")
    summary = summary_of(Case(image, (contour_of(posterior),), chosen=chosen))
    assert summary["chosen"] == {"dims": 3, "reason": "many slices show it"}
    (target,) = summary["targets"]
    assert set(target) == TARGET | WIDTHS | {"dims", "chart", "sections"}
    whole, place = (target[f"{name}_half_width_mm"] for name in ("band", "pointwise"))
    assert place["median"] < 0.8 * whole["median"]
    one = pointwise_band(posterior).half_width
    assert place["max"] == pytest.approx(float(one.max()))
    assert (target["dims"], target["chart"], target["size"]["unit"]) == (3, "sphere", "mm3")
    assert target["size"]["q500"] == pytest.approx(4 / 3 * np.pi * 14 * 10 * 12, rel=0.05)
    for section in target["sections"]:
        assert set(section) == {"slice", "channel", "height_mm", "size"}
        assert section["height_mm"] == 4.0 * section["slice"]
        size, curves = section["size"], posterior.chart.sections(
            posterior.estimate, image.primary.grid.plane(section["slice"])
        )  # fmt: skip
        assert size["estimate"] == pytest.approx(sum(curve.area for curve in curves), rel=1e-9)
        assert size["q025"] < size["q500"] < size["q975"]
        assert size["unit"] == "mm2"
    total = 4.0 * sum(section["size"]["estimate"] for section in target["sections"])
    volume = posterior.chart.surface(posterior.estimate).volume
    assert total == pytest.approx(volume, rel=0.04)
    assert 2.0 * total != pytest.approx(volume, rel=0.3)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_summary_of_schema_1_is_read_as_it_was(repository, tmp_path):
    """As the demonstration was written before surfaces were."""
    path = repository / "tests" / "golden" / "summary_1.json"
    old = json.loads(path.read_text())
    assert old["schema"] == 1
    table = cohort_table({"P01": path})
    assert table["size"].tolist() == [target["size"]["q500"] for target in old["targets"]]
    assert table["grade"].tolist() == ["green", "amber", "amber"]
    newer = old | {"schema": 2}
    for target in newer["targets"]:
        target |= {"dims": 2, "chart": "star"}
    assert cohort_table({"P01": newer}).equals(table)
    pages = [
        write_report(tmp_path / f"{n}.html", title="T", summary=summary).read_text("utf-8")
        for n, summary in enumerate((json.loads(path.read_text()), newer))
    ]
    assert pages[0] == pages[1]
    with pytest.raises(InputError, match="schema 3 and this version reads 1 and 2"):
        cohort_table({"P01": old | {"schema": 3}})


def test_surfaces_and_slices_stand_in_one_table():
    cases = {
        "slices": make_case(),
        "surface": Case(make_volume(), (contour_of(make_surface()),)),
    }
    table = cohort_table(cases)
    assert table["size_unit"].tolist() == ["mm2", "mm3"]


def test_a_summary_of_before_is_read_as_it_was(tmp_path):
    """Files that were written without what a grade has gained since."""
    new = summary_of(make_case(count=2))
    old = json.loads(json.dumps(new))
    gained = "trusted_to_mm", "trusted_to_by_place_mm", "findings"
    for target in old["targets"]:
        for name in gained:
            del target["grade"][name]
    (tmp_path / "summary.json").write_text(json.dumps(old))
    table = cohort_table({"P01": new})
    assert list(table["tolerance"]) == [2.0, 2.0]
    assert min(table["trusted_to"]) > 0
    assert cohort_table({"P01": tmp_path}).equals(table.drop(columns="trusted_to"))
    pages = [
        write_report(tmp_path / f"{n}.html", title="T", summary=summary).read_text("utf-8")
        for n, summary in enumerate((old, new))
    ]
    assert "rusted to" not in pages[0].replace("It is trusted to the", "")
    assert "Green from a tolerance of" in pages[1]


def test_pixels_name_no_millimetres():
    summary = summary_of(make_case(spacing=None))
    target = summary["targets"][0]
    assert target["size"]["unit"] == "px2"
    assert "band_half_width_px" in target
    assert "trusted_to_px" in target["grade"]
    assert "mm" not in json.dumps(summary)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diagnostics_that_are_not_finite_become_null(bad):
    poor = Diagnostics(converged=False, ess_min=bad, khat=bad, rhat_max=bad, reasons=("bad",))
    target = summary_of(make_case(diagnostics=poor))["targets"][0]
    assert target["diagnostics"]["khat"] is None
    assert target["diagnostics"]["rhat_max"] is None
    assert target["diagnostics"]["ess_min"] == 0.0
    assert target["grade"]["case"] == "red"
    json.dumps(target, allow_nan=False)


def test_skipped_targets_are_named():
    case = replace(make_case(), skipped=(("z009", "too few voxels"),))
    assert summary_of(case)["skipped"] == [{"id": "z009", "reason": "too few voxels"}]
    assert "skipped" not in summary_of(make_case())


def test_contours_hold_the_estimate_and_the_band(tmp_path):
    case = make_case()
    rows = list(csv.DictReader(write_contours(tmp_path / "c.csv", case).read_text().splitlines()))
    posterior, band = case[0].posterior, case[0].band
    assert [int(row["vertex"]) for row in rows] == list(range(128))
    for prefix, radii in (("", posterior.estimate), ("lower_", band.lower), ("upper_", band.upper)):
        points = np.array([[float(row[f"{prefix}{a}_mm"]) for a in "xyz"] for row in rows])
        centre = posterior.chart.plane.to_world(posterior.chart.centre)
        assert np.allclose(np.linalg.norm(points - centre, axis=1), radii, atol=2e-4)
    green = [float(row["trusted_to_mm"]) for row in rows]
    assert np.allclose(green, case[0].grade.local_trusted_to, atol=1e-4)
    doubted = make_case(diagnostics=replace(TRUSTED, findings=(Finding("red", "it is cold"),)))
    text = write_contours(tmp_path / "d.csv", doubted).read_text()
    assert {row["trusted_to_mm"] for row in csv.DictReader(text.splitlines())} == {""}


def test_agreement_with_itself_and_with_something_else():
    case = make_case()
    own = estimate_volume(case.contours, case.image.primary)
    same = compared(case, own)
    assert (same.dice, same.assd, same.hd95, same.band_share) == (1.0, 0.0, 0.0, 1.0)
    moved = np.roll(own, 4, axis=0)  # by 8 mm
    apart = compared(case, moved)
    assert apart.dice < 0.8
    assert apart.hd95 > 4.0
    assert apart.band_share == 0.0
    nothing = compared(case, np.zeros_like(own))
    assert (nothing.dice, nothing.assd, nothing.band_share) == (0.0, None, None)


def test_a_contour_is_compared_with_the_part_that_it_covers():
    """What it misses counts in the Dice of the whole, not against its own boundary."""
    case = make_case()
    own = estimate_volume(case.contours, case.image.primary)
    both = own.copy()
    both[4:24, 4:24] = True  # larger than the lesion, and elsewhere
    whole, slices = compared(case, both), compared(case, both, whole_volume=False)
    assert whole.band_share == slices.band_share == 1.0
    assert slices.hd95 == compared(case, own, whole_volume=False).hd95
    assert whole.dice == slices.dice == pytest.approx(2 * own.sum() / (own.sum() + both.sum()))
    assert whole.hd95 > 20.0
    missed = compared(case, both & ~own)  # negative control: that part alone
    assert missed.band_share == 0.0


def test_agreement_with_exact_outlines():
    case = make_case()
    posterior = case[0].posterior
    own = estimate_volume(case.contours, case.image.primary)
    curve = posterior.chart.surface(posterior.draws[3])
    near = compared(
        case, own, [posterior.chart.surface(posterior.estimate)], whole_volume=False
    )  # fmt: skip
    assert near.scope == "slices"
    assert near.band_share == 1.0
    assert near.assd < 1e-6
    held = bool(case[0].band.contains(posterior.draws[3:4])[0])
    assert compared(case, own, [curve]).band_share == float(held)
    far = posterior.chart.surface(posterior.estimate + 8.0)
    assert compared(case, own, [far]).band_share == 0.0


def test_agreement_without_spacing_is_in_pixels():
    case = make_case(spacing=None)
    found = compared(case, estimate_volume(case.contours, case.image.primary))
    assert (found.unit, found.scope) == ("px", "slices")
    assert found.assd < 0.3


@pytest.mark.parametrize("count", [1, 2, 11])
def test_a_case_shows_the_middle_large_and_at_most_nine_small(count):
    case = make_case(count=count, draws=150)
    volume = estimate_volume(case.contours, case.image.primary)
    contours = with_references(case.contours, volume, case.image.primary)
    figure = plot_case(case.image, contours)
    assert len(figure.axes) == {1: 1, 2: 3, 11: 10}[count]


def test_two_readings_are_in_the_summary_the_report_and_the_figure(tmp_path):
    """Both, how probable, and the question; a case of one reading (the control) has neither."""
    case = make_case(count=2)
    grid = case.image.primary.grid
    mask = np.zeros(grid.shape, dtype=bool)
    mask[8:16, 8:16] = True
    second = SecondReading(mask, grid, (0.6, 0.3), (8.0, 2.0), (20.0, 20.0, 0.0), True)
    contours = tuple(replace(each, other=other_in(second, each)) for each in case)
    asked = replace(case, contours=contours, second=second)
    summary = json.loads(json.dumps(summary_of(asked), allow_nan=False))
    assert [each["probability"] for each in summary["readings"]] == [0.6, 0.3]
    assert [each["holds_place"] for each in summary["readings"]] == [False, True]
    assert summary["question"] == {"point_mm": [20.0, 20.0, 0.0], "text": second.question()}
    assert not {"readings", "question"} & set(summary_of(case))
    for each, words in ((asked, True), (case, False)):
        report = write_report(tmp_path / "r.html", title="t", summary=summary_of(each)).read_text()
        assert ("Two readings of the point" in report) == words
        figure = plot_case(each.image, each.contours)
        labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert ("second reading" in labels) == words
