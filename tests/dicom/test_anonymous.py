"""Does nothing of a patient stand in what is written, tag by tag, where that is asked for?"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case as cases
from aistat_jax.cli import main
from aistat_jax.dicom.anonymous import anonymous_uid
from aistat_jax.views import outputs
from aistat_jax.views.anonymous import anonymous_case
from tests.dicom.judges import check_valid
from tests.dicom.made import CLASSES, pydicom, save_series
from tests.dicom.test_structures import case_of, stars

pytest.importorskip("highdicom", reason="the extra dicom is not installed")

PERSONAL = {
    "PatientName": "Secret^Susan", "PatientID": "MRN-55012", "PatientBirthDate": "19610203",
    "PatientSex": "F", "PatientAge": "063Y", "PatientWeight": "71.25", "PatientSize": "1.683",
    "OtherPatientIDs": "OLD-4411", "PatientComments": "diabetic", "AccessionNumber": "ACC-99102",
    "ReferringPhysicianName": "Referrer^Rita", "StudyDescription": "hidden study",
    "StudyID": "STUDY77", "StudyDate": "20190607", "StudyTime": "101112.00",
    "SeriesDate": "20190607", "SeriesTime": "101314.00", "AcquisitionDate": "20190607",
    "AcquisitionTime": "101314.00", "InstitutionName": "Hospital of Hidden",
    "InstitutionAddress": "Nowhere 7", "OperatorsName": "Operator^Otto",
    "PerformingPhysicianName": "Performer^Paul", "StationName": "SCANNER-3",
    "ImageComments": "moved a lot",
}  # fmt: skip
START = "091011.00"
FILES = ("rtstruct.dcm", "segmentation.dcm", "probability.dcm")


def personal(said: Any, n: int) -> None:
    for keyword, value in PERSONAL.items():
        setattr(said, keyword, value)
    if said.Modality == "PT":
        said.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = START


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    return save_series(tmp_path_factory.mktemp("Secret_Susan") / "pt", change=personal)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, series) -> dict[bool, Path]:
    """The DICOM files of one case, without the patient (True) and with."""
    image = aj.read_image(PT=series)
    case, out = case_of(image, stars(image)), tmp_path_factory.mktemp("out")
    for anonymous in (True, False):
        folder = out / str(anonymous)
        folder.mkdir()
        aj.write_rtstruct(folder / FILES[0], case, anonymous=anonymous)
        aj.write_seg(folder / FILES[1], case, kind="estimate", anonymous=anonymous)
        aj.write_seg(folder / FILES[2], case, anonymous=anonymous)
    return {anonymous: out / str(anonymous) for anonymous in (True, False)}


def elements(dataset: Any) -> Iterator[Any]:
    """Every element of a dataset, of its header, and of what is nested in it."""
    for each in (dataset, getattr(dataset, "file_meta", ())):
        for element in each:
            if element.VR == "SQ":
                for item in element.value:
                    yield from elements(item)
            else:
                yield element


def words(element: Any) -> list[str]:
    value = element.value
    several = value if isinstance(value, list | pydicom.multival.MultiValue) else [value]
    return [str(each) for each in several if not isinstance(each, bytes)]


def secrets(series: Path) -> dict[str, str]:
    """Every value of the source that tells of the patient, the study or the series, by its name."""
    found = dict(PERSONAL, RadiopharmaceuticalStartTime=START)
    for n, file in enumerate(sorted(series.iterdir())):
        for element in elements(pydicom.dcmread(file)):
            own = element.keyword.endswith("InstanceUID") or "Reference" in element.keyword
            if element.VR == "UI" and own:
                found[f"{element.keyword} {n}"] = str(element.value)
            if element.tag.group == 0x0010:
                assert element.keyword in PERSONAL
    return found


def told(path: Path, secret: dict[str, str]) -> set[str]:
    """The secrets that stand in a DICOM file: a whole value, or, where they are long, in one."""
    seen = {word for element in elements(pydicom.dcmread(path)) for word in words(element)}
    return {
        name
        for name, value in secret.items()
        if value in seen
        or (len(value) > 5 and "UID" not in name and any(value in word for word in seen))
    }


@pytest.mark.parametrize("name", FILES)
def test_no_value_of_the_source_stands_in_any_element(folders, series, name):
    secret = secrets(series)
    assert len(secret) > len(PERSONAL) + 12
    assert told(folders[True] / name, secret) == set()
    with_it = told(folders[False] / name, secret)  # negative control
    assert {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"} <= with_it
    assert {"StudyDescription", "StudyDate", "AccessionNumber", "StudyInstanceUID 0"} <= with_it
    file = pydicom.dcmread(folders[True] / name)
    assert file.PatientIdentityRemoved == "YES"
    assert file.DeidentificationMethod
    assert "PatientIdentityRemoved" not in pydicom.dcmread(folders[False] / name)
    blank = [file.get(word) for word in ("PatientName", "PatientID", "PatientSex", "StudyDate")]
    assert not any(blank)
    check_valid(folders[True] / name)


def test_the_files_of_a_case_refer_to_each_other(folders, series):
    mask, share = (pydicom.dcmread(folders[True] / name) for name in FILES[1:])
    structure = pydicom.dcmread(folders[True] / FILES[0])
    source = pydicom.dcmread(next(series.iterdir()))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        values = {getattr(file, keyword) for file in (mask, share, structure)}
        assert values == {anonymous_uid(getattr(source, keyword))}
    frame = structure.ReferencedFrameOfReferenceSequence[0]
    referred = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == mask.ReferencedSeriesSequence[0].SeriesInstanceUID
    images = {each.ReferencedSOPInstanceUID for each in referred.ContourImageSequence}
    assert anonymous_uid(source.SOPInstanceUID) in images
    ours = {
        each.ReferencedSOPInstanceUID
        for each in mask.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert ours
    assert ours <= images
    assert anonymous_uid(CLASSES["PT"]) == CLASSES["PT"]


def test_contours_and_voxels_are_the_same(folders, series):
    image = aj.read_image(PT=series)
    hidden = anonymous_case(case_of(image, stars(image, slices=(5,)))).image.primary
    for name, like in ((True, hidden), (False, image.primary)):
        folder = folders[name]
        one, two = (aj.read_mask(folder / file, like, "aistat_median" if file == FILES[0] else None)
                    for file in FILES[:2])  # fmt: skip
        assert one.any()
        assert (one == two).mean() > 0.999
        first = aj.read_structures(folder / FILES[0])["aistat_median"].contours
        second = aj.read_structures(folders[True] / FILES[0])["aistat_median"].contours
        assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    with pytest.raises(aj.InputError, match="another frame of reference"):
        aj.read_mask(folders[True] / FILES[0], image.primary, "aistat_median")


@pytest.fixture
def run(series, tmp_path, monkeypatch, capsys):
    """Contours a slice on the command line; returns what it printed."""

    def fitted(models, settings):
        slices = [model.target.plane.index for model in models]
        found = stars(aj.read_image(PT=series), slices=slices)
        return [
            aj.replace(one, target_id=model.target.id)
            for one, model in zip(found, models, strict=True)
        ]

    def contour(*options: str) -> str:
        asked = [str(series), "--threshold", "1.0", "--slices", "5", "--draws", "200"]
        assert main(["contour", *asked, *options]) == 0
        return capsys.readouterr().out

    monkeypatch.setattr(cases, "_fit", fitted)
    monkeypatch.chdir(tmp_path)
    return contour


def plain(path: Path) -> str:
    """The bytes of a file as text, unpacked where they are packed."""
    packed = path.read_bytes()
    return (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("latin-1")


def test_no_other_file_tells_of_the_patient_and_the_summary_says_what_is_kept(
    run, series, tmp_path
):
    printed = {anonymous: run(*["--anonymous"] * anonymous) for anonymous in (True, False)}
    folders = {True: tmp_path / "aistat-out/anonymous", False: tmp_path / "aistat-out/pt"}
    private = [value for value in secrets(series).values() if len(value) > 5]
    private += [PERSONAL["PatientWeight"], series.parent.name, "2019-06-07", "09:10:11"]
    texts = {
        anonymous: {path.name: plain(path) for path in folder.iterdir()}
        for anonymous, folder in folders.items()
    }
    assert texts[True].keys() == texts[False].keys()
    assert {"summary.json", "report.html", "aistat.json", "posterior.nc"} <= texts[True].keys()
    assert "n+1" in texts[True]["probability.nii.gz"]  # its header is read in plain
    for name in texts[True].keys() - FILES:
        assert [value for value in private if value in texts[True][name]] == [], name
    assert [value for value in private if value in printed[True]] == []
    for text in (texts[False]["summary.json"], texts[False]["report.html"], printed[False]):
        assert PERSONAL["PatientWeight"] in text  # negative control
        assert START in text
    summary = json.loads(texts[True]["summary.json"])
    assert summary["inputs"] == ["channel PT"]
    (note,) = summary["quantities"]["PT"]["notes"]
    assert note.startswith("anonymous: nothing of patient and study is kept")
    used = json.loads(texts[False]["summary.json"])["quantities"]["PT"]["from"]
    kept = summary["quantities"]["PT"]["from"]
    before, after = note.split("left out are ")
    assert kept.items() <= used.items()
    assert "RadionuclideTotalDose (0018,1074)" in kept
    assert all(name in before for name in kept)
    assert all(name in after for name in used.keys() - kept.keys())
    for gone in ("PatientWeight", "SeriesDate", "SeriesTime", "RadiopharmaceuticalStartTime"):
        assert gone in after
    record = json.loads(texts[True]["aistat.json"])
    assert record["runs"][0]["input"] == "anonymous"
    assert told(folders[True] / "rtstruct.dcm", secrets(series)) == set()


def test_a_case_is_written_without_names(series, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        outputs, "write_files", lambda _, case, *more, **said: written.append(case) or []
    )
    image = aj.read_image(PT=series)
    case = aj.replace(case_of(image, stars(image)), inputs=("Secret",), title="of Secret^Susan")
    aj.write_case(tmp_path / "a", case, anonymous=True)
    aj.write_case(tmp_path / "b", case)
    hidden, plain = written
    channel = hidden.image.primary
    assert (hidden.inputs, hidden.title, channel.source) == (("channel PT",), "Contours", "")
    assert plain is case
    assert "Secret" not in repr(channel.origin)
    assert "Secret" in repr(image.primary.origin)
