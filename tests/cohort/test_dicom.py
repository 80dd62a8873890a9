"""Does a cohort take DICOM: one series of several by its name, and the region that is meant?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aistat_jax import InputError, Settings, case
from aistat_jax.cohort.cases import CohortCase
from aistat_jax.cohort.manifest import read_manifest
from aistat_jax.cohort.run import _cases
from aistat_jax.cohort.task import Task, _contents, contour_task
from aistat_jax.io.layouts import find_cases
from tests.cli.scans import circles
from tests.dicom.made import save_series, save_structures
from tests.dicom.test_structures_in import square

QUICK = Settings(draws=100)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A patient with two PETs and a CT in one folder, and an RTSTRUCT of two regions."""

    def uncorrected(said, n):
        said.SeriesDescription, said.CorrectedImage = "PET NAC", ["DECY"]

    monkeypatch.setattr(case, "_fit", circles)
    folder = tmp_path / "study" / "P1"
    save_series(folder)
    save_series(folder / "nac", change=uncorrected, series="1.2.3.700")
    save_series(folder / "ct", "CT")
    heights = (115, 120, 125, 130)
    save_structures(
        folder / "drawn" / "rs.dcm",
        {"GTV": [square(z) for z in heights], "rough": [square(z, 12.0) for z in heights]},
    )
    return tmp_path / "study"


def manifest(study: Path, head: str, row: str) -> tuple[CohortCase, ...]:
    path = study / "manifest.csv"
    path.write_text(f"{head}\n{row}\n")
    return read_manifest(path, {"slices": "all", "chart": "star"}, QUICK)


def test_a_series_and_regions_are_named_in_a_manifest(study, tmp_path):
    head = "id,PT,CT,mask,mask_roi,reference,reference_roi"
    row = "P1,P1#made PT,P1,P1/drawn/rs.dcm,rough,P1/drawn,GTV"
    (one,) = manifest(study, head, row)
    assert list(one.images) == ["PT", "CT"]
    outcome = contour_task(Task(one, tmp_path / "out", pictures=False))
    assert (outcome.state, outcome.sentence) == ("done", "")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["quantities"]["PT"]["quantity"] == "SUV"
    assert summary["reference"]["slices_compared"] == 4
    assert contour_task(Task(one, tmp_path / "out", pictures=False)).state == "kept"
    (other,) = manifest(study, head, row.replace("rough", "GTV"))
    assert other.fingerprint(False) != one.fingerprint(False)


def test_another_series_of_one_folder_is_another_file(study):
    one, other = (
        _contents(CohortCase("P1", {"PT": study / f"P1#{name}"}))["image PT"]
        for name in ("made PT", "PET NAC")
    )
    assert one["sha256"] != other["sha256"]
    assert one["seen"] != other["seen"]


@pytest.mark.parametrize(
    ("head", "row", "part"),
    [
        ("id,PT,point", "P1,P2#made PT,1 2 3", "image PT: there is no .*P2#made PT"),
        ("id,PT,point,reference_roi", "P1,P1,1 2 3,GTV", "reference_roi names a region of a refer"),
    ],
)
def test_what_is_not_there_is_refused_before_it_is_read(study, head, row, part):
    with pytest.raises(InputError, match=part):
        manifest(study, head, row)


def test_regions_of_a_dicom_folder_are_its_labels(study):
    layout = find_cases(study)
    assert layout.name == "DICOM"
    assert sorted(layout.cases[0].masks) == ["GTV", "rough"]
    options = {"threshold": None, "net": None, "slices": "all", "chart": "star"}
    (one,) = _cases(study, options, QUICK, "rough", "GTV")
    assert one.options["mask"].name == one.options["reference"].name == "rs.dcm"
    assert (one.options["mask_roi"], one.options["reference_roi"]) == ("rough", "GTV")
    with pytest.raises(InputError, match="no label PTV in case P1; choose one of GTV, rough$"):
        _cases(study, options, QUICK, "PTV", None)


def test_regions_of_one_name_go_by_their_files_too(study):
    save_structures(study / "P1" / "drawn" / "second.dcm", {"GTV": [square(120)]})
    masks = find_cases(study).cases[0].masks
    assert sorted(masks) == ["drawn/rs.dcm: GTV", "drawn/second.dcm: GTV", "rough"]
    assert masks["drawn/second.dcm: GTV"].roi == "GTV"
