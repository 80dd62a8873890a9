"""Is there always a whole file under a name: the old one, or the new one?"""

from __future__ import annotations

from pathlib import Path

import pytest

from aistat_jax._files import replaced_file


@pytest.mark.parametrize("name", ["pet.nii.gz", "plan.json", "bare"])
def test_a_file_appears_whole_in_its_own_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with replaced_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(name)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def cut_short(path: Path) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("old", [[], ["old"]])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, old: list[str]) -> None:
    path = tmp_path / "plan.json"
    for text in old:
        path.write_text(text)
    with pytest.raises(KeyboardInterrupt):
        cut_short(path)
    assert [p.read_text() for p in tmp_path.iterdir()] == old


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with replaced_file(path) as first, replaced_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]
