"""Does summary.json keep its contract, and do the tables beside it say the same?"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from aistat_jax._record import replace
from aistat_jax.case import Case
from aistat_jax.inference.posterior import Diagnostics, Finding
from aistat_jax.uncertainty.bands import simultaneous_band
from aistat_jax.uncertainty.grading import grade
from aistat_jax.uncertainty.reference import agreement, estimate_volume, reference_curves
from aistat_jax.views.case import plot_case
from aistat_jax.views.cohort import cohort_table
from aistat_jax.views.outputs import summary_of, write_contours
from aistat_jax.views.report import write_report
from tests.helpers import TRUSTED, make_image, make_posterior

TARGET = {"id", "method", "diagnostics", "size", "grade", "seconds"}
DIAGNOSTICS = {"converged", "khat", "ess_min", "rhat_max", "divergences", "reasons"}


def make_case(spacing: float | None = 2.0, count: int = 1, **kwargs) -> Case:
    posteriors = tuple(make_posterior(spacing=spacing, seed=n, **kwargs) for n in range(count))
    limit = {"tolerance_px": 1.0} if spacing is None else {"tolerance_mm": 2.0}
    return Case(
        make_image(spacing=spacing),
        posteriors,
        tuple(simultaneous_band(p) for p in posteriors),
        tuple(grade(p, **limit) for p in posteriors),
        inputs=("pet.nii.gz",),
        seed=7,
    )


def test_schema_1():
    summary = summary_of(make_case())
    assert {"schema", "version", "seed", "inputs", "targets"} <= set(summary)
    assert summary["schema"] == 1
    assert summary["seed"] == 7
    target = summary["targets"][0]
    assert set(target) == TARGET | {"band_half_width_mm"}
    assert set(target["diagnostics"]) == DIAGNOSTICS
    assert set(target["size"]) == {"unit", "mean", "sd", "q025", "q500", "q975"}
    assert set(target["band_half_width_mm"]) == {"median", "q95", "max"}
    assert {"case", "reasons", "fraction"} <= set(target["grade"])
    assert set(target["grade"]["fraction"]) == {"green", "amber", "red"}
    assert set(target["seconds"]) == {"evidence", "fit", "total"}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_presence_is_told_where_it_is_in_doubt():
    doubtful = make_case()
    doubtful = replace(doubtful, posteriors=(replace(doubtful.posteriors[0], presence=0.25),))
    assert summary_of(doubtful)["targets"][0]["presence"] == 0.25
    assert "presence" not in summary_of(make_case())["targets"][0]


def test_a_grade_says_at_which_tolerance_it_would_be_green():
    case = make_case()
    found = summary_of(case)["targets"][0]["grade"]
    assert found["trusted_to_mm"] == case.grades[0].trusted_to > 0
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


def test_a_summary_of_before_is_read_as_it_was(tmp_path):
    """Files of schema 1 that were written without what a grade has gained since."""
    new = summary_of(make_case(count=2))
    old = json.loads(json.dumps(new))
    for target in old["targets"]:
        del target["grade"]["trusted_to_mm"], target["grade"]["findings"]
    (tmp_path / "summary.json").write_text(json.dumps(old))
    assert cohort_table({"P01": tmp_path}).equals(cohort_table({"P01": new}))
    pages = [
        write_report(tmp_path / f"{n}.html", title="T", summary=summary).read_text("utf-8")
        for n, summary in enumerate((old, new))
    ]
    assert pages[0] == pages[1]


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
    posterior, band = case.posteriors[0], case.bands[0]
    assert [int(row["vertex"]) for row in rows] == list(range(128))
    for prefix, radii in (("", posterior.estimate), ("lower_", band.lower), ("upper_", band.upper)):
        points = np.array([[float(row[f"{prefix}{a}_mm"]) for a in "xyz"] for row in rows])
        centre = posterior.chart.plane.to_world(posterior.chart.centre)
        assert np.allclose(np.linalg.norm(points - centre, axis=1), radii, atol=2e-4)


def test_agreement_with_itself_and_with_something_else():
    case = make_case()
    channel, posteriors = case.image.primary, case.posteriors
    own = estimate_volume(posteriors, channel)
    same = agreement(posteriors, own, channel)
    assert (same.dice, same.assd, same.hd95, same.band_share) == (1.0, 0.0, 0.0, 1.0)
    moved = np.roll(own, 4, axis=0)  # by 8 mm
    apart = agreement(posteriors, moved, channel)
    assert apart.dice < 0.8
    assert apart.hd95 > 4.0
    assert apart.band_share == 0.0
    nothing = agreement(posteriors, np.zeros_like(own), channel)
    assert (nothing.dice, nothing.assd, nothing.band_share) == (0.0, None, None)


def test_agreement_with_exact_outlines():
    case = make_case()
    channel, posterior = case.image.primary, case.posteriors[0]
    own = estimate_volume(case.posteriors, channel)
    curve = posterior.chart.surface(posterior.draws[3])
    near = agreement(
        case.posteriors, own, channel, curves=[posterior.chart.surface(posterior.estimate)],
        whole_volume=False,
    )  # fmt: skip
    assert near.scope == "slices"
    assert near.band_share == 1.0
    assert near.assd < 1e-6
    held = bool(case.bands[0].contains(posterior.draws[3:4])[0])
    one = agreement(case.posteriors, own, channel, curves=[curve])
    assert one.band_share == float(held)
    far = posterior.chart.surface(posterior.estimate + 8.0)
    assert agreement(case.posteriors, own, channel, curves=[far]).band_share == 0.0


def test_agreement_without_spacing_is_in_pixels():
    case = make_case(spacing=None)
    channel = case.image.primary
    own = estimate_volume(case.posteriors, channel)
    found = agreement(case.posteriors, own, channel)
    assert (found.unit, found.scope) == ("px", "slices")
    assert found.assd < 0.3


@pytest.mark.parametrize("count", [1, 2, 11])
def test_a_case_shows_the_middle_large_and_at_most_nine_small(count):
    case = make_case(count=count, draws=150)
    volume = estimate_volume(case.posteriors, case.image.primary)
    curves = reference_curves(volume, case.posteriors)
    figure = plot_case(case.image, case.posteriors, case.bands, case.grades, references=curves)
    assert len(figure.axes) == {1: 1, 2: 3, 11: 10}[count]
