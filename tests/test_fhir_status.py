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
from aistat_jax.space.image import Image
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
    report = '{"resourceType": "DiagnosticReport", "status": "final"'
    for more, good in (("}", True), (', "status": "preliminary"}', False), (', "x": NaN}', False)):
        other.write_text('{"entry": [{"resource": ' + report + more + "}]}")
        if good:
            assert report_status(other) == "final"  # the control
            continue
        with pytest.raises(InputError, match="this is not readable JSON"):
            report_status(other)


def rewritten(folder: Path, change) -> None:
    """The bundle with something changed: `change` is given the resources of a kind."""
    whole = bundle(folder)
    change(lambda kind: [
        one["resource"] for one in whole["entry"] if one["resource"]["resourceType"] == kind
    ])  # fmt: skip
    (folder / "fhir.json").write_text(json.dumps(whole), encoding="utf-8")


def voided(folder: Path) -> dict[str, str]:
    return {one.target: one.void for one in aj.signatures(folder)}


def of_lesion(name: str, value: float):
    """A change of the size of one lesion."""

    def change(every):
        (size, _) = (o for o in every("Observation") if o["identifier"][0]["value"] == name)
        size["valueQuantity"]["value"] = value

    return change


def retold(every):
    every("DiagnosticReport")[0]["conclusion"] = "3 contours: 3 green."


def of_another_study(every):
    every("ImagingStudy")[0]["identifier"][0]["value"] = "urn:oid:1.2.3"


def of_nobody(every):
    every("Observation")[0]["identifier"][0]["value"] = "z099"


def test_a_bundle_that_was_changed_after_signing_voids_what_it_tells_of(folder):
    aj.sign(folder, "all", "accept", by=WHO)
    (folder / "fhir.json").write_text(json.dumps(bundle(folder), indent=1))  # the control
    assert voided(folder) == dict.fromkeys(("z004", "z005", "z006"), "")
    signed = bundle(folder)
    rewritten(folder, of_lesion("z005", 1.0))
    assert voided(folder) == {"z004": "", "z005": "fhir.json not as signed", "z006": ""}
    assert signoff.standing(folder)[1] == "UNAPPROVED"
    for change in (retold, of_another_study, of_nobody):
        (folder / "fhir.json").write_text(json.dumps(signed))
        assert signoff.standing(folder)[1] == "APPROVED"
        rewritten(folder, change)
        assert set(voided(folder).values()) == {"fhir.json not as signed"}
    twice = json.dumps(signed).replace('"conclusion"', '"conclusion": "all is well", "conclusion"')
    for damage in ("{", "[" * 100_000, twice, None):
        if damage is None:
            (folder / "fhir.json").unlink()
        else:
            (folder / "fhir.json").write_text(damage)
        assert set(voided(folder).values()) == {"fhir.json not as signed"}


def test_a_lesion_that_changes_leaves_what_is_told_of_the_others(folder, case):
    aj.sign(folder, "all", "accept", by=WHO)
    posteriors = stars(case.image)
    posteriors[1] = stars(case.image, radius=12.5)[1]
    write_files(folder, case_of(case.image, posteriors), pictures=False, fhir=True)
    void = voided(folder)
    assert (void["z004"], void["z006"]) == ("", "")
    assert "fhir.json" in void["z005"]
    aj.sign(folder, "z005", "accept", by=WHO)
    assert statuses(folder) == {"final"}
    rewritten(folder, retold)  # of which the last signature was given too
    assert voided(folder)["z005"] == "fhir.json not as signed"


@pytest.mark.parametrize("what", ["version", "channels"])
def test_what_a_bundle_says_of_no_lesion_is_not_signed_as_any_s_own(tmp_path, monkeypatch, what):
    """Files written anew, with one lesion changed, by another version or on more images."""
    image = aj.read_image(PT=save_series(tmp_path / "pt"), CT=save_series(tmp_path / "ct", "CT"))
    first, second = (image, image) if what == "version" else (Image.of(image["PT"]), image)
    out = tmp_path / "out"
    out.mkdir()
    write_files(out, case_of(first, stars(first)), pictures=False, fhir=True)
    aj.sign(out, "all", "accept", by=WHO)
    if what == "version":
        monkeypatch.setattr(aj, "__version__", "99.0")
    posteriors = stars(second)
    posteriors[1] = stars(second, radius=12.5)[1]
    before = bundle(out)
    write_files(out, case_of(second, posteriors), pictures=False, fhir=True)
    after = bundle(out)
    (one, other) = (
        next(r for e in whole["entry"] if (r := e["resource"])["resourceType"] == "Observation")
        for whole in (before, after)
    )
    assert one | {"status": ""} != other | {"status": ""}  # of z004, which has not changed
    void = voided(out)
    assert (void["z004"], void["z006"]) == ("", "")
    assert "fhir.json" in void["z005"]


def signed_before(folder: Path, *lesions: str) -> None:
    """Accept lesions as it was done when a signature told nothing of a bundle."""
    bare = folder.parent / "bare"
    shutil.copytree(folder, bare)
    (bare / "fhir.json").unlink()
    (bare / "signatures.jsonl").unlink(missing_ok=True)
    aj.sign(bare, lesions, "accept", by=WHO)
    lines = (bare / "signatures.jsonl").read_text().splitlines()
    with (folder / "signatures.jsonl").open("a") as stream:
        stream.writelines(json.dumps(json.loads(line) | {"schema": 2}) + "\n" for line in lines)


def test_an_older_line_does_not_vouch_for_what_a_newer_one_has_signed(folder):
    signed_before(folder, "z004")
    aj.sign(folder, ["z005", "z006"], "accept", by=WHO)
    assert signoff.standing(folder)[1] == "APPROVED"
    rewritten(folder, of_lesion("z004", 1.0))
    assert set(voided(folder).values()) == {""}  # each is of its own, and z004's knows no bundle
    assert signoff.standing(folder)[1] == "UNAPPROVED"


def test_a_record_of_before_bundles_were_signed_is_read(folder):
    signed_before(folder, "z004", "z005", "z006")
    assert set(voided(folder).values()) == {""}
    assert signoff.standing(folder)[1] == "APPROVED"
    rewritten(folder, retold)
    assert set(voided(folder).values()) == {""}  # it says nothing of it
    with (folder / "segmentation.dcm").open("ab") as stream:
        stream.write(b"\0")
    assert set(voided(folder).values()) == {"segmentation.dcm not as signed"}


def test_the_command_line_says_where_a_report_names_somebody_else(folder, capsys):
    assert main(["sign", str(folder), "--by", WHO, "--accept", "all"]) == 0
    assert capsys.readouterr().err == ""

    def forged(every):
        every("DiagnosticReport")[0]["resultsInterpreter"] = [{"display": "Roe^Richard"}]

    rewritten(folder, forged)
    assert main(["sign", str(folder)]) == 0
    told = capsys.readouterr()
    assert "fhir.json is final" in told.out
    assert "fhir.json does not say what signatures.jsonl does: sign again" in told.err
    assert main(["sign", str(folder), "--by", WHO, "--accept", "z004"]) == 0
    assert bundle(folder)["entry"][0]["resource"]["resultsInterpreter"] == [{"display": WHO}]


def test_nobody_is_the_interpreter_of_a_preliminary_report(folder, capsys):
    def forged(every):
        every("DiagnosticReport")[0]["resultsInterpreter"] = [{"display": "Roe^Richard"}]

    rewritten(folder, forged)
    assert main(["sign", str(folder)]) == 0
    assert "fhir.json does not say what signatures.jsonl does" in capsys.readouterr().err
    aj.sign(folder, "z004", "accept", by=WHO)
    assert "resultsInterpreter" not in bundle(folder)["entry"][0]["resource"]
    assert statuses(folder) == {"preliminary"}


@pytest.mark.filterwarnings("always::aistat_jax._errors.InputWarning")
def test_a_line_that_was_cut_short_is_said_once(folder, capsys):
    aj.sign(folder, "all", "accept", by=WHO)
    with (folder / "signatures.jsonl").open("a") as stream:
        stream.write("{")
    assert main(["sign", str(folder)]) == 0
    assert capsys.readouterr().err.count("is not whole and counts for nothing") == 1


def test_the_command_line_says_what_the_bundle_is(folder, capsys):
    assert main(["sign", str(folder), "--by", WHO, "--accept", "all"]) == 0
    assert "fhir.json is final" in capsys.readouterr().out
    assert conclude(folder / "fhir.json", False)
    assert not conclude(folder / "fhir.json", False)
    assert report_status(folder / "fhir.json") == "entered-in-error"
    assert main(["sign", str(folder)]) == 0
    said = capsys.readouterr().err
    assert "fhir.json is entered-in-error, but what it tells of is APPROVED: sign again" in said
