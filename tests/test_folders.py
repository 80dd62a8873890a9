"""Does a folder know whose results it holds, so that no others are lost and no old ones stay?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aistat_jax._errors import FolderError
from aistat_jax._folders import RECORD, Run, claim, digest, filled, runs_in

A = Run("contour", "digest of A", "pet.nii.gz", at="here")
B = Run("contour", "digest of B", "pet.nii.gz", at="here")
ELSEWHERE = Run("contour", "digest of A", "pet.nii.gz", at="there")


def fill(out: Path, run: Run, names=("a",), text="", numbered=False, **more) -> Path:
    with filled(claim(out, run, names, numbered=numbered, **more)) as filling:
        for name in names:
            path = filling.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return filling.out


def held(out: Path) -> dict[str, str]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(out).as_posix(): path.read_text() for path in files}


def test_an_input_is_known_by_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("A", "B"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pet.nii.gz").touch()
    (tmp_path / "link").symlink_to(tmp_path / "A")
    a = digest(Path("A/pet.nii.gz"))
    assert a == digest(tmp_path / "A" / "pet.nii.gz") == digest(Path("link/pet.nii.gz"))
    assert a != digest(Path("B/pet.nii.gz"))
    assert digest("ab", "c") != digest("a", "bc")


def test_the_same_input_again_replaces_and_leaves_no_old_files(tmp_path):
    out = tmp_path / "out"
    fill(out, A, ("slice.npz", "sub/old", "both"), "1")
    (out / "mine").write_text("m")
    fill(out, ELSEWHERE, ("slice.nii.gz", "both"), "2")
    assert held(out) == {"slice.nii.gz": "2", "both": "2", "mine": "m"}
    assert sorted(path.name for path in out.iterdir()) == sorted([RECORD, *held(out)])


def test_another_input_is_refused_or_numbered(tmp_path):
    out = tmp_path / "out"
    fill(out, A, text="A")
    with pytest.raises(FolderError, match="holds results of another pet.nii.gz; choose another"):
        claim(out, B)
    assert fill(out, B, text="B", numbered=True) == tmp_path / "out-2"
    assert fill(out, B, text="b", numbered=True) == tmp_path / "out-2"
    assert fill(out, A, text="a", numbered=True) == out
    assert fill(out, ELSEWHERE, text="c", numbered=True) == tmp_path / "out-3"
    assert [held(tmp_path / name)["a"] for name in ("out", "out-2", "out-3")] == ["a", "b", "c"]


def test_a_place_taken_while_the_work_was_done_is_not_overwritten(tmp_path):
    place, other = (claim(tmp_path / "out", run, numbered=True) for run in (A, B))
    for each, text in ((place, "A"), (other, "B")):
        with filled(each) as filling:
            (filling.folder / "a").write_text(text)
    assert held(tmp_path / "out") == {"a": "A"}
    assert held(tmp_path / "out-2") == {"a": "B"}
    assert "another pet.nii.gz" in filling.taken


def test_somebody_elses_files_are_never_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("mine")
    with pytest.raises(FolderError, match="report.html there is not from an earlier run"):
        claim(out, A, ["summary.json", "report.html"])
    assert fill(out, A, ["report.html"], "ours", numbered=True) == tmp_path / "out-2"
    fill(out, A, ["summary.json"], "ours")  # beside it there is room
    assert held(out) == {"report.html": "mine", "summary.json": "ours"}
    with pytest.raises(FolderError, match="report.html there is not"):  # when it turns up later
        fill(out, A, ["summary.json", "report.html"], "more")
    assert held(out) == {"report.html": "mine", "summary.json": "ours"}
    fill(out, A, ["report.html"], "ours", known=["report.html"])
    assert held(out) == {"report.html": "ours"}


def test_several_cases_and_commands_share_a_folder(tmp_path):
    out = tmp_path / "out"
    cases = [Run("predict", name, f"{name}.nii.gz", part=name) for name in "pq"]
    for case in cases:
        fill(out, case, [f"labels/{case.part}"], "1")
    fill(out, Run("evaluate", "x", "both"), ["scores.csv"], "1")
    fill(out, cases[0], ["labels/p"], "2")
    assert held(out) == {"labels/p": "2", "labels/q": "1", "scores.csv": "1"}
    assert len(runs_in(out)) == 3
    with pytest.raises(FolderError, match="results of another p.nii.gz"):
        claim(out, Run("predict", "other", "p.nii.gz", part="p"))
    with pytest.raises(FolderError, match="scores.csv there is not from an earlier run"):
        claim(out, Run("train", "", "balls"), ["scores.csv"])


def test_the_record_gives_no_paths_away_and_is_read_with_care(tmp_path):
    out = tmp_path / "out"
    image = tmp_path / "secret" / "pet.nii.gz"
    fill(out, Run("contour", digest(image), image.name))
    text = (out / RECORD).read_text()
    assert "secret" not in text
    assert runs_in(out)[0].files == ("a",)
    for damaged in (text[:40], "[]", "{}", text.replace('"files"', '"file"')):
        (out / RECORD).write_text(damaged)
        assert runs_in(out) == ()
        with pytest.raises(FolderError, match="is not a record of results"):
            claim(out, A)
    newer = json.loads(text) | {"schema": 99}
    (out / RECORD).write_text(json.dumps(newer))
    with pytest.raises(FolderError, match="or of a newer version"):
        claim(out, A)
    (out / RECORD).unlink()
    with pytest.raises(FolderError, match="a there is not from an earlier run"):
        claim(out, A, ["a"])
