"""Is there always a whole file under a name, or a whole folder: the old one, or the new one?"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from aistat_jax._errors import FolderError
from aistat_jax._files import (
    HIDDEN,
    OLD_FILE_S,
    OLD_FOLDER_S,
    check_writable,
    files_in,
    move_in,
    replaced_file,
    staged_folder,
    write_whole,
)
from aistat_jax._signals import undisturbed


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


# ---- folders


def put(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def held(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in files_in(folder)}


def publish(out: Path, *, old: tuple[str, ...] = (), **files: str) -> None:
    with staged_folder(out) as staged:
        assert staged.name.startswith(HIDDEN)
        move_in(put(staged, **files), out, old, ("b",))


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    publish(out, a="1", b="1", c__d="1")
    assert held(out) == {"a": "1", "b": "1", "c/d": "1"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("others", [{}, {"mine": "m", "c__mine": "m"}])
def test_old_files_go_and_those_of_others_stay(tmp_path: Path, others: dict[str, str]) -> None:
    out = put(tmp_path / "out", a="1", b="1", c__d="1", e__f="1", **others)
    out.chmod(0o750)
    publish(out, old=("a", "b", "c/d", "e/f", "never/there"), a="2", b="2", g__h="2")
    mine = {name.replace("__", "/"): text for name, text in others.items()}
    assert held(out) == {"a": "2", "b": "2", "g/h": "2"} | mine
    assert not (out / "e").exists()
    assert out.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("fails_at", range(6))
def test_an_error_between_two_moves_puts_all_back(
    tmp_path: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a file of somebody else's there, so that the folder cannot be exchanged as a whole."""
    out = put(tmp_path / "out", a="1", b="1", c__d="1", mine="m")
    before, calls, replace = held(out), [], os.replace

    def failing(one: Path, other: Path) -> None:
        calls.append(other)
        if len(calls) == fails_at + 1:
            raise OSError(5, "Input/output error")
        replace(one, other)

    monkeypatch.setattr(os, "replace", failing)
    moves = [name.replace("__", "/") for name in ("a", "e__f", "b")]  # what replaces, b the last
    if fails_at < len(moves):
        with pytest.raises(OSError, match="Input/output"):
            publish(out, old=("c/d",), a="2", b="2", e__f="2")
        assert held(out) == before
        assert not (out / "e").exists()
    else:  # negative control: with no error all is new
        publish(out, old=("c/d",), a="2", b="2", e__f="2")
        assert held(out) == {"a": "2", "b": "2", "e/f": "2", "mine": "m"}
        assert [path.relative_to(out).as_posix() for path in calls] == moves


def stopped_while_staged(out: Path) -> None:
    with staged_folder(out) as staged:
        put(staged, a="1")
        raise KeyboardInterrupt


def test_what_is_cut_short_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped_while_staged(tmp_path / "a" / "b" / "out")
    assert list(tmp_path.iterdir()) == []


def test_only_the_folders_of_the_dead_are_swept(tmp_path: Path) -> None:
    dead = tmp_path / f"{HIDDEN}0123456789ab"
    young = tmp_path / f"{HIDDEN}0123456789ac"
    for folder in (dead, young):
        put(folder, a="1")
    with staged_folder(tmp_path / "one") as alive:
        put(alive, a="1")
        for folder in (dead, alive):
            os.utime(folder, (0, time.time() - 2 * OLD_FOLDER_S))
        with staged_folder(tmp_path / "other"):
            assert alive.exists()
            assert young.exists()
            assert not dead.exists()


def test_an_old_hidden_file_goes_when_its_name_is_written_again(tmp_path: Path) -> None:
    old, new = (tmp_path / f"{HIDDEN}0123456789a{n}-plan.json" for n in "bc")
    for path, age in ((old, 2 * OLD_FILE_S), (new, 0)):
        path.write_text("half")
        os.utime(path, (0, time.time() - age))
    write_whole(tmp_path / "plan.json", "whole")
    assert not old.exists()
    assert new.exists()


def test_a_file_where_a_folder_must_be_is_refused(tmp_path: Path) -> None:
    put(tmp_path, file="x")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(FolderError, match="is a file, so .*; choose another folder$"):
            check_writable(out)
    check_writable(tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_that_are_no_utf8_keep_their_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"ren\xe9.nii.gz")
    text = json.dumps({"name": name, "size": "mm²"}, ensure_ascii=False)
    path = write_whole(tmp_path / "card.json", text)
    assert json.loads(path.read_text(encoding="utf-8"))["name"] == name
    with pytest.raises(UnicodeEncodeError):  # negative control
        path.write_text(text, encoding="utf-8")


# ---- signals


def test_signals_wait_until_the_work_is_over() -> None:
    got: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append("answered"))
    try:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            with undisturbed():
                got.append("work")
        assert got == ["work", "answered"]
        signal.raise_signal(signal.SIGTERM)  # negative control
        assert got[2:] == ["answered"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_in_the_middle_comes_after_the_move(tmp_path: Path) -> None:
    class Slow(str):
        """A text that is stopped while it is written."""

        def encode(self, *how: str) -> bytes:
            signal.raise_signal(signal.SIGINT)
            return super().encode(*how)

    path = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, Slow("text"))
    assert held(tmp_path) == {}  # before anything was begun
    with pytest.raises(KeyboardInterrupt), undisturbed():
        write_whole(path, Slow("text"))
    assert held(tmp_path) == {"a": "text"}
