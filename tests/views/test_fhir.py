"""Is a case valid FHIR, with the numbers of its summary and nothing of the patient?"""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.case import Case
from aistat_jax.views import fhir
from aistat_jax.views.outputs import write_files
from tests.dicom.made import save_series
from tests.helpers import make_image, make_posterior, make_surface, make_volume

pytest.importorskip("fhir.resources", reason="the extra fhir is not installed")


def flat_case(spacing: float | None = 2.0) -> Case:
    tolerance = {"tolerance_px": 1.0} if spacing is None else {}
    contour = aj.contour_of(make_posterior(spacing=spacing), **tolerance)
    return Case(make_image(spacing=spacing), (contour,))


def solid_case() -> Case:
    return Case(make_volume(), (aj.contour_of(make_surface(draws=200)),))


def resources(bundle: dict, kind: str) -> list[dict]:
    every = [entry["resource"] for entry in bundle["entry"]]
    return [one for one in every if one["resourceType"] == kind]


def parts(observation: dict) -> dict[str, float]:
    return {one["code"]["text"]: one["valueQuantity"]["value"] for one in observation["component"]}


@pytest.mark.parametrize(
    ("case", "unit", "factor"),
    [(flat_case(), "mm2", 1.0), (solid_case(), "cm3", 1e-3), (flat_case(None), "{px2}", 1.0)],
)
def test_sizes_are_those_of_the_summary_in_ucum(case, unit, factor):
    bundle = aj.fhir_bundle(case)
    size, grade = resources(bundle, "Observation")
    content = case[0].content
    value = size["valueQuantity"]
    assert value["code"] == unit
    assert value["value"] == pytest.approx(factor * content.quantile(0.5), rel=1e-5)
    low, high, mean, sd = parts(size).values()
    wanted = content.quantile(0.025), content.quantile(0.975), content.mean, content.sd
    assert np.allclose((low, high, mean, sd), factor * np.array(wanted), rtol=1e-5)
    assert {one["valueQuantity"]["system"] for one in size["component"]} == {fhir.UCUM}
    assert grade["valueCodeableConcept"]["text"] == case[0].grade.case
    assert [note["text"] for note in grade["note"]][: len(case[0].grade.reasons)] == list(
        case[0].grade.reasons
    )
    (report,) = resources(bundle, "DiagnosticReport")
    named = {entry["fullUrl"] for entry in bundle["entry"]}
    assert {each["reference"] for each in report["result"]} <= named
    assert len(named) == len(bundle["entry"]) == 3  # no study: the image is from no DICOM
    assert bundle == aj.fhir_bundle(case)


def test_nothing_is_final_unless_a_person_has_signed():
    case = flat_case()
    for status in ("preliminary", "final"):
        bundle = aj.fhir_bundle(case, status=status)
        said = resources(bundle, "Observation") + resources(bundle, "DiagnosticReport")
        assert {one["status"] for one in said} == {status}
    assert aj.fhir_bundle(case) == aj.fhir_bundle(case, status="preliminary")
    with pytest.raises(InputError, match="preliminary or final"):
        aj.fhir_bundle(case, status="approved")


def test_the_study_is_referred_to_and_the_patient_is_not(tmp_path):
    image = aj.read_image(PT=save_series(tmp_path / "pt"), CT=save_series(tmp_path / "ct", "CT"))
    bundle = aj.fhir_bundle(Case(image, flat_case().contours))
    (study,) = resources(bundle, "ImagingStudy")
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.1"}
    assert [series["modality"]["code"] for series in study["series"]] == ["PT", "CT"]
    assert [series["numberOfInstances"] for series in study["series"]] == [12, 12]
    (report,) = resources(bundle, "DiagnosticReport")
    assert len(report["imagingStudy"]) == 1
    assert all(one["derivedFrom"] == report["imagingStudy"] for one in
               resources(bundle, "Observation"))  # fmt: skip
    text = json.dumps(bundle)
    assert not re.search("Nobody|P1\\b|1900-?01-?01|2025-?01-?02", text)


def test_what_is_not_valid_is_an_error(monkeypatch, tmp_path):
    case, right = flat_case(), fhir._size
    changes = {
        "Extra inputs are not permitted": {"colour": "red"},
        "Field required": {"code": None},
        "Observation.status is 'prelim'": {"status": "prelim"},
        "valueString": {"valueString": "two values"},
    }
    for words, change in changes.items():
        monkeypatch.setattr(
            fhir,
            "_size",
            lambda *given, change=change: {
                name: value for name, value in (right(*given) | change).items() if value is not None
            },
        )
        with pytest.raises(InputError, match=words):
            aj.write_fhir(tmp_path / "fhir.json", case)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(fhir, "_size", right)
    path = aj.write_fhir(tmp_path / "fhir.json", case)
    assert json.loads(path.read_text("utf-8")) == aj.fhir_bundle(case)


def test_it_is_among_the_files_of_a_run_where_it_is_wanted(tmp_path):
    case = flat_case()
    for wanted in (True, False):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        names = write_files(folder, case, fhir=wanted, pictures=False)
        assert ("fhir.json" in names) is (folder / "fhir.json").exists() is wanted


def test_where_the_library_is_missing_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fhir.resources.R4B.bundle", None)
    with pytest.raises(InputError, match=r"pip install .aistat_jax\[fhir\]."):
        aj.fhir_bundle(flat_case())
