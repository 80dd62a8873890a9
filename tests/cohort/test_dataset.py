"""Does a cohort become a dataset of the cases that people accepted, and of no other?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case
from aistat_jax._errors import InputError
from aistat_jax.cli import main
from aistat_jax.cohort import workers
from aistat_jax.io.nnunet import read_case, read_dataset
from tests.cli import scans

pytest.importorskip("distributed", reason="needs the extra: pip install 'aistat_jax[cohort]'")

from tests.cohort.phantoms import QUICK, Here, write_cases, write_manifest

WHO = "Doe^Jane"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """data/manifest.csv of six cases, and results/ of five of them: P005 is damaged."""
    home = tmp_path_factory.mktemp("study")
    manifest = write_cases(home / "data", 6)
    path = home / "data" / "images" / "P005.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case, "_fit", scans.circles)
        patch.setattr(workers, "LocalWorkers", Here)
        options = "--draws", "100", "--no-pictures"
        assert main(["cohort", str(manifest), "--out", str(home / "results"), *options]) == 1
    folder = home / "results" / "cases"
    first, *others = (one.target_id for one in aj.load_posterior(folder / "P003" / "posterior.nc"))
    assert others
    for name in ("P000", "P001", "P002"):
        aj.sign(folder / name, "all", "accept", by=WHO)
    aj.sign(folder / "P001", first, "reject", by=WHO, reason="too large")
    (folder / "P002" / "contours.csv").write_text("")
    aj.sign(folder / "P003", first, "accept", by=WHO)  # and the others are not signed
    return home


@pytest.fixture
def study(tmp_path, made) -> Path:
    """A copy: files are known by their contents, wherever they lie."""
    return Path(shutil.copytree(made, tmp_path / "study"))


def dataset(study: Path, *options: str) -> int:
    where = [str(study / "results"), str(study / "data" / "manifest.csv")]
    return main(["dataset", *where, "--out", str(study / "Dataset001"), *options])


def test_cases_that_are_accepted_become_a_dataset(study, capsys):
    assert dataset(study, "--label", "tumour") == 0
    told = capsys.readouterr()
    assert "1 case of PT with the label tumour" in told.out
    for part in (
        "1 with a lesion that is rejected (P001)",
        "1 with a lesion that is not as it was signed (P002)",
        "2 with a lesion that is not signed (P003, P004)",
        "1 not contoured (P005)",
    ):
        assert f"left out: {part}" in told.err
    found = read_dataset(study / "Dataset001")
    assert (found.cases, found.labels) == (("P000",), ("background", "tumour"))
    read, folder = read_case(found, "P000"), study / "results" / "cases" / "P000"
    inside = aj.read_image(P=folder / "probability.nii.gz")["P"].values >= 0.5
    assert np.array_equal(read.labels == 1, inside)
    assert inside.any()
    image = aj.read_image(PT=study / "data" / "images" / "P000.nii.gz")
    assert np.allclose(read.image["PT"].values, image["PT"].values, atol=1e-4)
    assert dataset(study) == 2
    assert "there is something there already; choose a new folder" in capsys.readouterr().err


def changed(path: Path, change) -> None:
    """A file of JSON with something changed in it."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_case_whose_lesion_is_not_drawn_whole_is_left_out(study, tmp_path, capsys, monkeypatch):
    """What of it is not drawn would be background."""
    folder, images = study / "results" / "cases" / "P000", study / "data" / "images"
    rows = [line.split(",") for line in (study / "data" / "manifest.csv").read_text().splitlines()]
    manifest = write_manifest(
        images.parent / "slices.csv",
        [
            {"id": name, "PT": f"images/{name}.nii.gz", "point": row[2], "slices": slices}
            for row, name, slices in zip(
                rows[1:], ("P000", "P001", "P002"), ("point", "1", ""), strict=False
            )
        ],
    )
    with monkeypatch.context() as patch:
        patch.setattr(case, "_fit", scans.circles)
        patch.setattr(workers, "LocalWorkers", Here)
        quick = "--out", str(tmp_path / "some"), "--draws", "100", "--no-pictures"
        assert main(["cohort", str(manifest), *quick]) == 0
    records = {path.parent.name: path for path in (tmp_path / "some").rglob("case.json")}
    asked = {name: json.loads(path.read_text())["slices"] for name, path in records.items()}
    assert asked == {"P000": "point", "P001": [1], "P002": "all"}
    for each in records.values():
        aj.sign(each.parent, "all", "accept", by=WHO)
    said: list[str] = []
    made = aj.cohort_dataset(tmp_path / "some", manifest, tmp_path / "out", say=said.append)
    assert made.cases == ("P002",)
    assert said == ["left out: 2 drawn in some slices alone (P000, P001)"]

    def without(summary):
        summary["skipped"] = [{"id": "z009", "reason": "too few voxels"}]

    for path, change, why in (
        (folder / "summary.json", without, "with a lesion that could not be drawn"),
        (folder / "case.json", lambda record: record.pop("slices"), "does not say of which slices"),
    ):
        before = path.read_text()
        assert dataset(study, "--out", str(tmp_path / f"whole-{path.stem}")) == 0  # the control
        changed(path, change)
        capsys.readouterr()
        assert dataset(study, "--out", str(tmp_path / "none")) == 2
        assert why in capsys.readouterr().err
        path.write_text(before)


def test_a_record_that_says_no_slices_says_them_after_another_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(case, "_fit", scans.circles)
    monkeypatch.setattr(workers, "LocalWorkers", Here)
    asked = ["cohort", str(write_cases(tmp_path / "data", 1)), "--out", str(tmp_path / "results")]
    assert main([*asked, *QUICK]) == 0
    path = tmp_path / "results" / "cases" / "P000" / "case.json"
    changed(path, lambda record: record.pop("slices"))
    assert main([*asked, *QUICK]) == 0
    assert "0 cases contoured, 1 kept" in capsys.readouterr().out
    assert json.loads(path.read_text())["slices"] == "point"


def test_those_that_nobody_has_signed_are_asked_for(study, capsys):
    assert dataset(study, "--unsigned", "--level", "0.9") == 0
    assert "not signed" not in capsys.readouterr().err
    found = read_dataset(study / "Dataset001")
    assert found.cases == ("P000", "P003", "P004")
    folder = study / "results" / "cases" / "P003"
    inside = aj.read_image(P=folder / "probability.nii.gz")["P"].values >= 0.9
    assert np.array_equal(read_case(found, "P003").labels == 1, inside)


def test_images_that_are_not_those_contoured_are_left_out(study, capsys):
    images = study / "data" / "images"
    shutil.copyfile(images / "P001.nii.gz", images / "P000.nii.gz")
    assert dataset(study) == 2
    said = capsys.readouterr().err
    assert "no case can be taken: 1 of other images than were contoured (P000)" in said
    assert said.rstrip().endswith("; sign them, or pass --unsigned")
    assert not (study / "Dataset001").exists()


def test_a_case_that_cannot_be_read_stops_no_other(study, capsys):
    """And one that the manifest does not name is said, and whose contours they are."""
    data, cases = study / "data", study / "results" / "cases"
    (cases / "P003" / "summary.json").write_text("{")
    (data / "images" / "P004.nii.gz").unlink()
    lines = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text("\n".join(line for line in lines if "P001" not in line))
    assert dataset(study, "--unsigned") == 0
    said = capsys.readouterr().err
    for part in (
        "1 that cannot be read: ", "this is not the summary of a case (P003)",
        "cannot be read (no such file or directory) (P004)",
        f"1 in the results and not named by {data / 'manifest.csv'} (P001)",
    ):  # fmt: skip
        assert part in said
    described = json.loads((study / "Dataset001" / "dataset.json").read_text())["description"]
    assert described.endswith("whether a person has accepted them or not")
    assert dataset(study, "--out", str(study / "accepted")) == 0
    described = json.loads((study / "accepted" / "dataset.json").read_text())["description"]
    assert described.endswith("contours of a model, accepted by a person")


def test_a_case_is_judged_again_when_its_turn_comes(study, monkeypatch):
    """One that is rejected while its image is read."""
    from aistat_jax.cohort import dataset as module

    results, said = study / "results", []

    def read(**images):
        if "P004" in str(images["PT"]):
            aj.sign(results / "cases" / "P004", "all", "reject", by=WHO, reason="of another")
        return aj.read_image(**images)

    monkeypatch.setattr(module, "read_image", read)
    manifest = study / "data" / "manifest.csv"
    made = aj.cohort_dataset(results, manifest, study / "out", unsigned=True, say=said.append)
    assert made.cases == ("P000", "P003")
    assert said[-1] == "left out: 1 with a lesion that is rejected (P004)"


def test_what_cannot_be_a_dataset_is_refused_and_leaves_nothing(study, tmp_path, capsys):
    for options, part in (
        (["--channel", "CT"], "no channel 'CT'"),
        (["--level", "1"], "--level must lie strictly between 0 and 1"),
        (["--label", "background"], "--label 'background' cannot name a region"),
    ):
        assert dataset(study, *options) == 2
        assert part in capsys.readouterr().err.splitlines()[-1]
    results, manifest = study / "results", study / "data" / "manifest.csv"
    with pytest.raises(InputError, match="there is no cohort; pass the folder of its results"):
        aj.cohort_dataset(study / "data", manifest, tmp_path / "out")
    with pytest.raises(InputError, match="there is no such manifest, or folder of images"):
        aj.cohort_dataset(results, study / "none.csv", tmp_path / "out")
    assert not (study / "Dataset001").exists()
    assert not (tmp_path / "out").exists()
