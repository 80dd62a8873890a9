"""Do the files of an anonymous cohort name cases by their ids alone?"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from aistat_jax import case
from aistat_jax.cli import main
from aistat_jax.cohort import workers
from aistat_jax.cohort.task import WITHHELD
from tests.cli import scans

pytest.importorskip("distributed", reason="needs the extra: pip install 'aistat_jax[cohort]'")

from tests.cohort.phantoms import QUICK, Here, write_cases, write_manifest

SECRET = "Secret_Susan"


@pytest.fixture
def manifest(tmp_path) -> Path:
    """Two cases, whose files are called by their patients; the second is damaged."""
    made = write_cases(tmp_path / "Clinic", 2)
    with made.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        file = made.parent / row["PT"]
        row["PT"] = f"images/{SECRET}_{row['id']}.nii.gz"
        file.rename(made.parent / row["PT"])
    whole = (made.parent / rows[1]["PT"]).read_bytes()
    (made.parent / rows[1]["PT"]).write_bytes(whole[: len(whole) // 2])
    return write_manifest(made.with_name(f"{SECRET}.csv"), rows)


@pytest.fixture
def run(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(case, "_fit", scans.circles)
    monkeypatch.setattr(workers, "LocalWorkers", Here)

    def cohort(*more: str) -> Path:
        out = tmp_path / "out"
        assert main(["cohort", str(manifest), "--out", str(out), *QUICK, *more]) == 1
        return out

    return cohort


def naming(out: Path) -> set[str]:
    """The files that name the patient."""
    return {p.name for p in out.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()}


def test_files_name_no_file_and_the_terminal_says_why_one_failed(run, capsys):
    out = run("--anonymous")
    said = capsys.readouterr()
    assert "1 cases contoured, 0 kept, 1 failed" in said.out
    assert f"{SECRET}_P001.nii.gz: " in said.err
    assert naming(out) == set()
    assert (out / "cases" / "P000" / "summary.json").is_file()
    assert json.loads((out / "cases" / "P001" / "case.json").read_text())["sentence"] == WITHHELD
    assert WITHHELD in (out / "cases.csv").read_text()
    run("--anonymous")
    assert "0 cases contoured, 1 kept, 1 failed" in capsys.readouterr().out
    out = run()  # negative control: asked for otherwise, it is done anew, and names its files
    assert "1 cases contoured, 0 kept, 1 failed" in capsys.readouterr().out
    assert naming(out) >= {"summary.json", "cases.csv", "case.json", "aistat.json"}


def test_a_bundle_for_a_hospital_s_record_names_nobody_either(run, capsys):
    pytest.importorskip("fhir.resources", reason="the extra fhir is not installed")
    out = run("--anonymous")
    assert not (out / "cases" / "P000" / "fhir.json").exists()
    capsys.readouterr()
    run("--anonymous", "--fhir")  # asked for more, what is there is done anew
    assert "1 cases contoured, 0 kept, 1 failed" in capsys.readouterr().out
    bundle = json.loads((out / "cases" / "P000" / "fhir.json").read_text())
    kinds = {entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert kinds == {"DiagnosticReport", "Observation"}
    assert naming(out) == set()
    run("--anonymous", "--fhir")
    assert "0 cases contoured, 1 kept, 1 failed" in capsys.readouterr().out


def test_without_the_library_nothing_is_begun(manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fhir.resources.R4B.bundle", None)
    assert main(["cohort", str(manifest), "--out", str(tmp_path / "out"), *QUICK, "--fhir"]) == 2
    assert "aistat_jax[fhir]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_is_refused(manifest, tmp_path, capsys):
    images = tmp_path / "study" / "images"
    images.mkdir(parents=True)
    whole = (manifest.parent / "images" / f"{SECRET}_P000.nii.gz").read_bytes()
    for name in ("CHUM-001__PT.nii.gz", "CHUM-001__CT.nii.gz"):
        (images / name).write_bytes(whole)
    options = ["--threshold", "1", "--out", str(tmp_path / "out"), "--anonymous"]
    assert main(["cohort", str(images.parent), *options]) == 2
    assert "need ids of your own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
