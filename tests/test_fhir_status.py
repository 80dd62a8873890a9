"""Is a FHIR bundle final exactly where every lesion is signed, and valid all the way?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import aistat_jax as aj
from aistat_jax import signoff
from aistat_jax._errors import InputError, InputWarning
from aistat_jax.cli import main
from aistat_jax.fhir_status import conclude, report_status
from aistat_jax.views.fhir import bundle_kind
from aistat_jax.views.outputs import write_files
from tests.dicom.made import save_series
from tests.dicom.test_structures import case_of, stars

pytest.importorskip("fhir.resources", reason="the extra fhir is not installed")

WHO = "Doe^Jane"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    image = aj.read_image(PT=save_series(tmp_path_factory.mktemp("series") / "pt"))
    return case_of(image, stars(image))


@pytest.fixture(scope="module")
def made(tmp_path_factory, case) -> Path:
    folder = tmp_path_factory.mktemp("made") / "out"
    folder.mkdir()
    write_files(folder, case, pictures=False, fhir=True)
    return folder


@pytest.fixture
def folder(tmp_path, made) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def bundle(folder: Path) -> dict:
    return json.loads((folder / "fhir.json").read_text(encoding="utf-8"))


def statuses(folder: Path) -> set[str]:
    """Those of report and Observations, once the library has found the bundle valid."""
    whole = bundle(folder)
    assert json.loads(bundle_kind().model_validate(whole).model_dump_json()) == whole
    kinds = ("DiagnosticReport", "Observation")
    every = [entry["resource"] for entry in whole["entry"]]
    return {one["status"] for one in every if one["resourceType"] in kinds}


def test_a_bundle_is_final_once_every_lesion_is_accepted(folder, case):
    before = bundle(folder)
    aj.sign(folder, ["z004", "z005"], "accept", by=WHO)
    assert bundle(folder) == before  # one of three is not signed
    assert statuses(folder) == {"preliminary"}
    (last,) = aj.sign(folder, "z006", "accept", by="Roe^Richard")
    assert statuses(folder) == {"final"}
    after = bundle(folder)
    report = after["entry"][0]["resource"]
    assert report.pop("resultsInterpreter") == [{"display": "Roe^Richard"}]
    assert report.pop("issued") == last.when
    assert after == aj.fhir_bundle(case, status="final")
    assert [one["fullUrl"] for one in after["entry"]] == [one["fullUrl"] for one in before["entry"]]
    assert not any(one.void for one in aj.signatures(folder))


def test_what_was_final_is_withdrawn_and_what_never_was_is_not(folder):
    aj.sign(folder, "z005", "reject", by=WHO)
    assert statuses(folder) == {"preliminary"}
    aj.sign(folder, "all", "accept", by=WHO)
    assert statuses(folder) == {"final"}
    aj.sign(folder, "z005", "reject", by=WHO)
    assert statuses(folder) == {"entered-in-error"}
    aj.sign(folder, "z004", "accept", by=WHO)
    assert statuses(folder) == {"entered-in-error"}
    aj.sign(folder, "z005", "accept", by=WHO)
    assert statuses(folder) == {"final"}


def test_nothing_is_final_before_it_is_recorded(folder, monkeypatch):
    def ended(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(signoff, "add_signatures", ended)
        with pytest.raises(KeyboardInterrupt):
            aj.sign(folder, "all", "accept", by=WHO)
    assert statuses(folder) == {"preliminary"}
    aj.sign(folder, "all", "accept", by=WHO)
    with monkeypatch.context() as patch:
        patch.setattr(signoff, "add_signatures", ended)
        with pytest.raises(KeyboardInterrupt):
            aj.sign(folder, "z004", "reject", by=WHO)
    assert statuses(folder) == {"entered-in-error"}  # the safe side


def test_a_damaged_bundle_is_said_and_stops_nobody(folder, tmp_path):
    (folder / "fhir.json").write_text("{")
    with pytest.warns(InputWarning, match="REJECTED, and fhir.json does not say so"):
        aj.sign(folder, "all", "reject", by=WHO)
    assert len(aj.signatures(folder)) == 3
    other = tmp_path / "other.json"
    other.write_text('{"entry": [{"resource": {"resourceType": "Observation"}}]}')
    with pytest.raises(InputError, match="this is no FHIR bundle with a report"):
        conclude(other, True, WHO)


def test_the_command_line_says_what_the_bundle_is(folder, capsys):
    assert main(["sign", str(folder), "--by", WHO, "--accept", "all"]) == 0
    assert "fhir.json is final" in capsys.readouterr().out
    assert conclude(folder / "fhir.json", False)
    assert not conclude(folder / "fhir.json", False)
    assert report_status(folder / "fhir.json") == "entered-in-error"
    assert main(["sign", str(folder)]) == 0
    said = capsys.readouterr().err
    assert "fhir.json is entered-in-error, but what it tells of is APPROVED: sign again" in said
