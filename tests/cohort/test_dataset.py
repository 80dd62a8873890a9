"""Does a cohort become a dataset of the cases that people accepted, and of no other?"""

from __future__ import annotations

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

from tests.cohort.phantoms import Here, write_cases

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
