"""Is a manifest read as it is meant, and is one clear sentence said of each thing that is not?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aistat_jax import InputError, Settings
from aistat_jax.cohort.manifest import read_manifest

HEAD = "id,PT,CT,point,threshold,slices,dims,seed\n"


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A folder with a manifest and two scans, read from another folder."""
    folder = tmp_path / "study"
    (folder / "images").mkdir(parents=True)
    for name in ("a.nii.gz", "b.nii.gz", "ct.nii.gz", "rough.nii.gz"):
        (folder / "images" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def manifest(text: str, encoding: str = "utf-8") -> Path:
        path = folder / "manifest.csv"
        path.write_bytes(text.encode(encoding))
        return Path(os.path.relpath(path))

    return manifest


def read(path: Path, **options):
    return read_manifest(path, options, Settings(draws=200))


def test_rows_say_what_to_contour_and_how(scans):
    text = HEAD + 'P1,images/a.nii.gz,images/ct.nii.gz,"1,2.5,-3",,"3,2",,7\n'
    text += "\nP2,images/b.nii.gz,,,2.5,,3,\n"
    first, second = read(scans("\ufeff" + text), slices="all", threshold=None, chart="star")
    assert {name: path.name for name, path in first.images.items()} == {
        "PT": "a.nii.gz", "CT": "ct.nii.gz"
    }  # fmt: skip
    assert all(path.is_file() for path in first.images.values())  # though from elsewhere
    assert first.options["point_mm"] == (1.0, 2.5, -3.0)
    assert first.options["slices"] == [2, 3]
    assert (first.settings.seed, first.settings.draws) == (7, 200)
    assert list(second.images) == ["PT"]
    assert second.options == {"slices": "all", "threshold": 2.5, "chart": "star", "dims": 3}
    assert second.settings.seed == 0


def test_masks_are_files_of_the_manifests_folder_too(scans):
    (case,) = read(scans("id,PT,mask\nP1,images/a.nii.gz,images/rough.nii.gz\n"))
    assert case.files["mask"].is_file()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the manifest is empty"),
        ("id,PT,point\n", "names no case"),
        ("name,PT\nP1,images/a.nii.gz\n", "there is no column id among name, PT; add one"),
        ("id;PT\nP1;images/a.nii.gz\n", "no column id among id;PT; separate columns by commas"),
        ("id,point\nP1,1 2 3\n", "there is no column of images"),
        ("id,PT,PT\nP1,a,b\n", "the column PT is there twice"),
        ("id,PT,\nP1,images/a.nii.gz,\n", "column 3 has no name"),
        ("id,PT,point\nP1,images/a.nii.gz,1,2,3\n", "row 2 has 5 cells and the first line 3"),
        (
            "id,PT,point\nP1,images/a.nii.gz,1 2 3\nP1,images/b.nii.gz,1 2 3\n",
            "the id P1 is given 2 times",
        ),
        (
            "id,PT,point\nP1,images/a.nii.gz,1 2 3\np1,images/b.nii.gz,1 2 3\n",
            "the ids P1 and p1 differ by capitals alone",
        ),
        ("id,PT,point\n,images/a.nii.gz,1 2 3\n", "the id '' cannot name a folder"),
        ("id,PT,point\n../P1,images/a.nii.gz,1 2 3\n", "the id '../P1' cannot name a folder"),
        ("id,PT,point\n.P1,images/a.nii.gz,1 2 3\n", "the id '.P1' cannot name a folder"),
        (
            "id,PT,point\nP1,images/none.nii.gz,1 2 3\nP2,c.nii.gz,1 2 3\n",
            "row 2 (P1): image PT: there is no .*images/none.nii.gz (1 more files are missing); "
            "paths are relative to the manifest's folder",
        ),
        ("id,PT,comment\nP1,images/a.nii.gz,large\n", "image comment: there is no .*large; paths"),
        ("id,PT,point\nP1,images/a.nii.gz,1 2\nP2,,1 2 3\n", "row 3 (P2): there is no image"),
        ("id,PT,point\nP1,images/a.nii.gz,here\n", "row 2 (P1): point 'here' is not three numbers"),
        ("id,PT,threshold\nP1,images/a.nii.gz,2;5\n", "threshold '2;5' is not a number"),
        ("id,PT,point,dims\nP1,images/a.nii.gz,1 2 3,4\n", "dims '4' is not 2, 3 or auto"),
        ("id,PT,point,chart\nP1,images/a.nii.gz,1 2 3,ball\n", "chart 'ball' is not star"),
        ("id,PT,point,draws\nP1,images/a.nii.gz,1 2 3,50\n", "draws 50 is too few for a band"),
        ("id,PT,point,seed\nP1,images/a.nii.gz,1 2 3,1.5\n", "seed '1.5' is not a whole number"),
        ("id,PT,point,channel\nP1,images/a.nii.gz,1 2 3,MR\n", "there is no channel MR among"),
        ("id,PT,point\nP1,images/a.nii.gz,\n", "pass one of point, mask, threshold and net"),
        ("id,PT,slices,threshold\nP1,images/a.nii.gz,point,2\n", "slices of the point need a"),
        ('id,PT,point\nP1,"images/a.nii.gz,1 2 3\n', "this is not a CSV file"),
        (
            "id,PT,net\nP1,images/a.nii.gz,nobody\n",
            "row 2 (P1): there is no network 'nobody': shipped are",
        ),
        ("id,PT,box\nP1,images/a.nii.gz,1 2 3\n", "box '1 2 3' is not six numbers"),
        (
            "id,PT,point,net,dims\nP1,images/a.nii.gz,1 2 3,lesion-pet-2d,3\n",
            "row 2 (P1): net reads contours slice by slice; drop dims, or net",
        ),
        (
            "id,PT,point,mask_roi\nP1,images/a.nii.gz,1 2 3,GTV\n",
            "mask_roi names a region of",
        ),
    ],
)
def test_what_is_not_understood_is_refused_in_a_sentence(scans, text, sentence):
    import re

    pattern = re.escape(sentence).replace(r"\.\*", ".*")
    with pytest.raises(InputError, match=pattern) as refused:
        read(scans(text))
    assert "manifest.csv: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(scans):
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        read(scans("id,PT\nRené,a\n", "latin-1"))
    with pytest.raises(InputError, match="cannot be read"):
        read(Path("none.csv"))
