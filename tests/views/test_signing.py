"""Is what a person signs in the explorer what is seen there, and nothing without a name?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import editing
from aistat_jax._errors import InputError
from aistat_jax._folders import Run, claim, filled
from aistat_jax.case import Case
from aistat_jax.fhir_status import report_status
from aistat_jax.views.live import exports
from aistat_jax.views.outputs import write_case, write_files
from tests.dicom.made import pydicom, save_series
from tests.dicom.test_structures import case_of, stars

pytest.importorskip("ipympl")
pytest.importorskip("ipywidgets")

WHO = "Doe^Jane"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return aj.read_image(PT=save_series(tmp_path_factory.mktemp("series") / "pt"))


@pytest.fixture
def quick(monkeypatch):
    """Files without pictures, and refits that make a contour 1.5 mm larger."""

    def fitted(session, before, clicks, sample):
        given = session.given[before.target].posterior
        return aj.replace(given, radii=given.radii + 1.5), sample

    monkeypatch.setattr(exports, "write_files", partial(write_files, pictures=False))
    monkeypatch.setattr(editing, "_fitted", fitted)
    monkeypatch.setattr(editing, "warm_up", lambda *_: None)


@pytest.fixture
def explorer(image, quick, tmp_path):
    shown = aj.explore(image, stars(image), tolerance_mm=2.0)
    shown.signing.folder.value = str(tmp_path / "signed")
    return shown


def edit(explorer) -> None:
    posterior = explorer.posterior
    explorer.add_click(tuple(posterior.chart.points(posterior.estimate + 1.0)[9]))
    assert explorer.clicks, explorer.line.said


def press(explorer, what: str = "accept") -> str:
    order = explorer.signing.sign(what)
    if order is not None:
        assert order.done.wait(120)
    return explorer.line.said


def status(folder: Path) -> str:
    return pydicom.dcmread(folder / "rtstruct.dcm").ApprovalStatus


def test_nothing_is_signed_without_a_name(explorer, tmp_path):
    assert "nothing is signed without one" in press(explorer)
    assert explorer.line.trouble
    assert not (tmp_path / "signed").exists()


def test_what_is_accepted_is_written_first(explorer, tmp_path):
    out = tmp_path / "signed"
    explorer.signing.name.value = WHO
    assert explorer.controls.tabs.titles[-2:] == ("Sign", "Help")
    said = press(explorer)
    assert f"z005 is accepted by {WHO}" in said
    assert "where the contours were written first" in said
    assert "1 of 3, UNAPPROVED" in said
    assert [one.decision for one in aj.signatures(out)] == ["accept"]
    assert "z005: accepted by" in explorer.signing.state.value
    before = (out / "contours.csv").stat().st_mtime_ns
    explorer.signing.all.value = True
    said = press(explorer)
    assert said.startswith("3 contours are accepted by Doe^Jane")
    assert "3 of 3, APPROVED" in said
    assert "written" not in said
    assert (out / "contours.csv").stat().st_mtime_ns == before
    assert status(out) == "APPROVED"
    explorer.signing.all.value, explorer.signing.reason.value = False, "leaks"
    assert "z005 is rejected by" in press(explorer, "reject")
    assert aj.signatures(out)[-1].reason == "leaks"
    assert status(out) == "REJECTED"


def test_an_edit_is_signed_as_one_with_what_has_changed(explorer, tmp_path, image):
    out = tmp_path / "signed"
    explorer.signing.name.value = WHO
    press(explorer)
    edit(explorer)
    explorer.controls.tabs.selected_index = explorer.controls.tabs.titles.index("Sign")
    assert "of other contours than the one in sight" in explorer.signing.state.value
    said = press(explorer)
    assert f"z005 is accepted as edited by {WHO}" in said
    first, last = aj.signatures(out)
    assert (first.decision, last.decision) == ("accept", "edit")
    assert first.void
    assert not last.void
    assert last.changed.mean == pytest.approx(1.5, rel=0.05)
    written = {each.target_id: each for each in aj.load_posterior(out / "posterior.nc")}
    assert np.array_equal(written["z005"].radii, explorer.posterior.radii)
    drawn = aj.read_structures(out / "rtstruct.dcm")["aistat_median"]
    curves = aj.curves_of(drawn, image.primary)
    assert curves[5][0].area > 1.2 * curves[4][0].area
    explorer.undo()
    explorer.signing.all.value = True
    press(explorer)
    assert [one.decision for one in aj.signatures(out)][2:] == ["accept"] * 3  # nothing edited


def test_the_results_of_a_command_are_signed_in_their_place(image, quick, tmp_path):
    out = tmp_path / "out"
    with filled(claim(out, Run("contour", "digest", "pt"))) as filling:
        write_files(filling.folder, case_of(image, stars(image)), pictures=False)
    shown = aj.explore(image, out / "posterior.nc", tolerance_mm=2.0)
    assert shown.signing.folder.value == str(out)
    shown.signing.name.value = WHO
    names = {path.name for path in out.iterdir()}
    assert "1 of 3, UNAPPROVED" in press(shown)
    assert {path.name for path in out.iterdir()} == names | {"signatures.jsonl"}
    edit(shown)
    assert "results of a command lie there" in press(shown)
    assert len(aj.signatures(out)) == 1
    shown.signing.folder.value = str(tmp_path / "edited")
    assert "accepted as edited" in press(shown)


def test_a_bundle_goes_on_with_the_contours_that_it_tells_of(image, explorer, tmp_path):
    pytest.importorskip("fhir.resources", reason="the extra fhir is not installed")
    out = tmp_path / "signed"
    contours = (aj.contour_of(each, tolerance_mm=2.0) for each in stars(image))
    write_case(out, Case(image, tuple(contours)), fhir=True)
    explorer.signing.name.value, explorer.signing.all.value = WHO, True
    assert "3 of 3, APPROVED" in press(explorer)
    assert report_status(out / "fhir.json") == "final"
    explorer.signing.all.value = False
    edit(explorer)
    press(explorer)
    *others, edited = (one for one in aj.signatures(out) if not one.void)
    assert [one.target for one in others] == ["z004", "z006"]
    assert edited.decision == "edit"
    assert "fhir.json" in dict(edited.own)
    assert report_status(out / "fhir.json") == "final"  # of the contours as they are now


def test_a_folder_without_the_patient_stays_so(image, explorer, tmp_path):
    out = tmp_path / "signed"
    write_case(out, case_of(image, stars(image)), anonymous=True)
    assert pydicom.dcmread(out / "rtstruct.dcm").PatientIdentityRemoved == "YES"
    explorer.signing.name.value = WHO
    edit(explorer)
    assert "accepted as edited" in press(explorer)
    assert pydicom.dcmread(out / "rtstruct.dcm").PatientIdentityRemoved == "YES"
    (out / "rtstruct.dcm").unlink()  # the control: what holds the patient is written as it is
    (out / "signatures.jsonl").unlink()
    explorer.undo()
    press(explorer)
    assert "PatientIdentityRemoved" not in pydicom.dcmread(out / "rtstruct.dcm")


def test_one_file_of_a_signed_case_is_not_replaced(image, explorer, tmp_path):
    out, case = tmp_path / "signed", case_of(image, stars(image))
    exports.write_export("all", out, case, "")
    for part in ("posterior", "csv", "nifti"):
        with pytest.raises(InputError, match="one file alone is not replaced"):
            exports.write_export(part, out, case, "")
    assert exports.write_export("csv", tmp_path / "other", case, "").exists()
    (out / "surface.ply").write_text("of an earlier case")
    (out / "mine.txt").write_text("somebody's own")
    exports.write_export("all", out, case, "")
    assert not (out / "surface.ply").exists()
    assert (out / "mine.txt").exists()
