"""Does a DICOM folder go through the command line to DICOM files, or else to one sentence?"""

from __future__ import annotations

import json

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case
from aistat_jax.cli import main
from tests.dicom.judges import check_valid
from tests.dicom.made import FACTOR, save_series, save_structures
from tests.dicom.test_structures import stars
from tests.dicom.test_structures_in import square
from tests.test_case import balls

DICOM = {"rtstruct.dcm", "segmentation.dcm", "probability.dcm"}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """PET, CT and an RTSTRUCT of one study; fits are stars of known radii."""

    def fitted(models, settings):
        image = aj.read_image(PT=tmp_path / "pt")
        found = stars(image, slices=[model.target.plane.index for model in models])
        return [
            aj.replace(one, target_id=model.target.id)
            for one, model in zip(found, models, strict=True)
        ]

    monkeypatch.setattr(case, "_fit", fitted)
    save_series(tmp_path / "pt")
    save_series(tmp_path / "ct", "CT")
    heights = (115, 120, 125, 130)
    save_structures(
        tmp_path / "rs.dcm",
        {"GTV": [square(z) for z in heights], "rough": [square(z, 12.0) for z in heights]},
    )
    return tmp_path


def contour(study, *options: str) -> int:
    where = [str(study / "pt"), "--out", str(study / "out"), "--draws", "200"]
    return main(["contour", *where, *options])


def test_a_folder_is_contoured_and_goes_back_as_dicom(study, capsys):
    options = ["--ct", str(study / "ct"), "--mask", str(study / "rs.dcm"), "--mask-roi", "rough"]
    options += ["--reference", str(study / "rs.dcm"), "--reference-roi", "GTV", "--levels", "0.9"]
    assert contour(study, *options, "--fhir") == 0
    printed = capsys.readouterr().out
    assert "PT is SUV, from Units (0054,1001) BQML" in printed
    assert "RadionuclideTotalDose (0018,1074) 350000000.0" in printed
    assert "against the reference" in printed
    out = study / "out"
    assert {path.name for path in out.iterdir()} >= DICOM | {"fhir.json"}
    bundle = json.loads((out / "fhir.json").read_text())
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert set(kinds) == {"DiagnosticReport", "Observation", "ImagingStudy"}
    summary = json.loads((out / "summary.json").read_text())
    pet = summary["quantities"]["PT"]
    assert pet["quantity"] == "SUV"
    assert pet["from"]["PatientWeight (0010,1030)"] == "70.0"
    assert summary["quantities"]["CT"]["quantity"] == "HU"
    assert "Nobody" not in (out / "summary.json").read_text()
    page = (out / "report.html").read_text()
    assert "PatientWeight (0010,1030): 70.0" in page
    names = aj.read_structures(out / "rtstruct.dcm").names
    assert names == ("aistat_median", "aistat_in95", "aistat_out95", "aistat_p90")
    image = aj.read_image(PT=study / "pt").primary
    estimate = aj.read_mask(out / "segmentation.dcm", image)
    assert estimate.any(axis=(0, 1)).sum() == len(summary["targets"])
    check_valid(*(out / name for name in DICOM))


def test_a_reference_as_drawn_is_compared_with_as_drawn(study):
    found = aj.contour(
        {"PT": study / "pt"}, mask=study / "rs.dcm", mask_roi="rough",
        reference=study / "rs.dcm", reference_roi="GTV", settings=aj.Settings(draws=200),
    )  # fmt: skip
    for one in found:
        assert np.isclose(one.reference.area, 18.0**2)  # not a pixel more
    assert found.image.primary.quantity == "SUV"
    assert np.isclose(found.image.primary.values.max(), 5027 * FACTOR, rtol=0.01)


def test_the_files_of_a_zip_are_named_after_it(study, monkeypatch, capsys):
    import shutil

    monkeypatch.chdir(study)
    shutil.make_archive("series", "zip", study / "pt")
    assert main(["contour", "series.zip", "--mask", "rs.dcm", "--mask-roi", "GTV"]) == 0
    assert (study / "aistat-out" / "series" / "rtstruct.dcm").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            ["--mask", "rs.dcm"],
            "say which, by its name as --mask-roi or --reference-roi: GTV, rough",
        ),
        (["--mask", "rs.dcm", "--mask-roi", "PTV"], "no region of the name 'PTV'; there are: GTV"),
        (["--mask", "rs.dcm", "--mask-roi", "GTV", "--levels", "90"], "--levels 90 is not"),
        (["--mask", "rs.dcm", "--mask-roi", "GTV", "--rtstruct-on", "CT"], "--rtstruct-on CT is"),
        (["--point=-3,-7,126", "--ct", "pt"], "channel CT needs a series of modality CT"),
        (["--point=-3,-7,126", "--channel-name", "CT"], "channel CT needs a series of modality CT"),
    ],
)
def test_refusals_are_one_sentence_and_write_nothing(study, monkeypatch, capsys, options, part):
    monkeypatch.chdir(study)
    assert contour(study, *options) == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1
    assert not (study / "out").exists()


def moved(step):
    """Slices that lie elsewhere, by their number."""

    def change(said, n):
        x, y, z = said.ImagePositionPatient
        said.ImagePositionPatient = list(np.array([x, y, z]) + step(n))

    return change


def turned(said, n):
    said.ImageOrientationPatient = [0, 1, 0, 0, 0, -1] if n == 3 else said.ImageOrientationPatient


def resized(said, n):
    said.PixelSpacing = [2, 2] if n == 3 else said.PixelSpacing


def lost(said, n):
    x, y, z = said.ImagePositionPatient
    said.ImagePositionPatient = [x, y, z + 15 * (n > 5)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (turned, "slices of one series differ in ImageOrientationPatient: it mixes directions"),
        (resized, "slices of one series differ in PixelSpacing: it mixes pixel spacings"),
        (lost, "about 3 slices are missing: between 125.00 and 145.00 mm along the normal"),
        (moved(lambda n: np.array([0, 0, float(n == 4)])), "slices are unevenly spaced, from"),
        (moved(lambda n: np.array([0, 0.5 * n, 0])), "slices shift by 0.5 mm along their plane"),
        (moved(lambda n: np.array([0, 0, -5.0 * (n % 2)])), "several slices lie at 100.00 mm"),
    ],
)
def test_what_cannot_be_stacked_is_said_in_plain_words(tmp_path, capsys, change, sentence):
    """Of an image and of a manifest's; options in the sentence are none where none is at fault."""
    folder = save_series(tmp_path / "pt", change=change)
    out = ["--out", str(tmp_path / "out")]
    assert main(["contour", str(folder), "--point=-3,-7,126", *out]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "--" not in said.replace(str(tmp_path), "")
    assert not (tmp_path / "out").exists()


def test_a_contour_on_no_slice_is_said_in_plain_words(study, capsys):
    path = save_structures(study / "off.dcm", {"GTV": [square(500.0)]})
    assert contour(study, "--mask", str(path)) == 2
    said = capsys.readouterr().err
    assert "where slices run from" in said
    assert "--" not in said.replace(str(study), "")


def test_doctor_says_what_a_folder_holds(study, capsys):
    (study / "notes.txt").write_text("not DICOM")
    assert main(["doctor", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "OK       PT “made PT” of 12 files: 20 x 16 x 12 voxels of 3 x 4 x 5 mm; SUV" in printed
    assert "OK       CT “made CT” of 12 files: 20 x 16 x 12 voxels of 3 x 4 x 5 mm; HU" in printed
    assert "regions GTV, rough: a reference or a rough mask" in printed
    assert "1 other file" in printed

    def weightless(said, n):
        del said.PatientWeight

    assert "on the slices of CT “made CT” of 12 files and of PT “made PT” of 12 files" in printed
    place = str(study)
    assert f"next: aistat contour {place} --ct {place} --point=X,Y,Z" in printed

    save_series(study / "pt2", change=weightless, series="1.2.3.600")
    assert main(["doctor", str(study / "pt2")]) == 1
    printed = capsys.readouterr().out
    assert "PROBLEM  PT “made PT” of 12 files: holds Bq/ml: no SUV: PatientWeight" in printed
    assert "next: " not in printed


def test_doctor_says_how_to_choose_of_two_series(study, capsys):
    def other(said, n):
        said.SeriesDescription = "NAC"
        said.ImagePositionPatient = [*said.ImagePositionPatient[:2], 102 + 5 * n]

    save_series(study / "nac", change=other, series="1.2.3.700")
    assert main(["doctor", str(study)]) == 1
    printed = capsys.readouterr().out
    place = str(study)
    which = f"'{place}#NAC', '{place}#made PT'"
    assert f"PROBLEM  2 series could be channel PT: say which, behind a #: {which}" in printed
    assert "could be channel CT" not in printed
    assert "and of PT “NAC”" not in printed  # between whose slices the regions lie
    assert f"next: aistat contour '{place}#NAC' --ct {place} --point=X,Y,Z" in printed
    chosen = [f"{place}#made PT", "--mask", str(study / "rs.dcm"), "--mask-roi", "GTV"]
    assert main(["contour", *chosen, "--out", str(study / "out"), "--draws", "200"]) == 0


def test_an_image_that_is_not_dicom_gets_no_dicom_files(tmp_path, monkeypatch):
    monkeypatch.setattr(case, "_fit", balls)
    image = aj.demo_phantom(1).image
    for name in image.names:
        aj.write_nifti(tmp_path / f"{name}.nii.gz", image[name].values, image[name])
    at = ",".join(f"{x:.1f}" for x in aj.demo_phantom(1).centre)
    options = [f"--point={at}", "--out", str(tmp_path / "out"), "--draws", "200"]
    assert main(["contour", str(tmp_path / "PT.nii.gz"), *options]) == 0
    assert not {path.name for path in (tmp_path / "out").iterdir()} & DICOM


def test_margins_and_a_dose_go_out_with_the_rest(study, capsys):
    options = ["--ct", str(study / "ct"), "--mask", str(study / "rs.dcm"), "--mask-roi", "rough"]
    options += ["--rtstruct-on", "CT", "--margin", "0.9,0.9", "--dose", "60,70"]
    assert contour(study, *options) == 0
    printed, out = capsys.readouterr().out, study / "out"
    assert "expected coverage margin, mm" in printed
    assert "dose_painting.nii.gz" in printed
    regions = aj.read_structures(out / "rtstruct.dcm")
    assert {"aistat_margin", "aistat_margin_in"} < set(regions.names)
    posteriors = aj.load_posterior(out / "posterior.nc")
    image = aj.read_image(CT=study / "ct")
    curves = aj.curves_of(regions["aistat_margin"], image.primary)
    said = json.loads((out / "summary.json").read_text())["margins"]["margin"]
    features = json.loads((out / "contours.geojson").read_text())["features"]
    for posterior in posteriors:
        margin = aj.coverage_margin(posterior, share=0.9, probability=0.9)
        (curve,) = curves[image.primary.grid.number_of(posterior.chart.plane)]
        assert curve.area == pytest.approx(margin.content("outer"), rel=1e-4)
        assert said[posterior.target_id]["by_axis_mm"] == pytest.approx(margin.by_axis())
        kinds = {each["properties"]["kind"] for each in features
                 if each["properties"]["target"] == posterior.target_id}  # fmt: skip
        assert kinds == {"estimate", "lower", "upper", "margin", "margin_in"}
    dose = aj.read_image(D=out / "dose_painting.nii.gz")["D"]
    wanted = aj.dose_prescription(posteriors, image.primary.grid, low_gy=60, high_gy=70)
    assert np.allclose(dose.values, wanted, atol=1e-4)
    assert 60 < dose.values.max() <= 70
    check_valid(out / "rtstruct.dcm")
    assert contour(study, *options[:6]) == 0  # without them nothing of them is left
    assert not (out / "dose_painting.nii.gz").exists()
    assert "margins" not in json.loads((out / "summary.json").read_text())
    assert "aistat_margin" not in aj.read_structures(out / "rtstruct.dcm").names


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--margin", "98,95", "--margin 98,95 is not understood"),
        ("--margin", "0.9,0.9,0.9", "write a share and a probability between 0 and 1"),
        ("--dose", "70,60", "--dose 70,60 is not understood"),
        ("--dose", "sixty", "write two doses in Gy, the lower one first"),
        ("--dose", "60,inf", "--dose 60,inf is not understood"),
    ],
)
def test_margins_and_doses_that_cannot_be_meant_are_refused(study, capsys, option, value, part):
    assert contour(study, "--threshold", "2", option, value) == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1
    assert not (study / "out").exists()
