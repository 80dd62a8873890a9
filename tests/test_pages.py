"""Is a training started once more in large pages, once, and only where something is gained?"""

from __future__ import annotations

import subprocess
import sys

import pytest

from aistat_jax import _pages
from aistat_jax.cli import __main__ as command

LARGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
ASKED = """
import ctypes
from aistat_jax._pages import start_again
start_again()
take = ctypes.CDLL(None).malloc
take.restype = ctypes.c_void_p
place, inside = take(ctypes.c_size_t(1 << 28)) + (1 << 27), False
for line in open("/proc/self/smaps"):
    first, _, last = line.partition(" ")[0].partition("-")
    if last:
        inside = int(first, 16) <= place < int(last, 16)
    elif inside and line.startswith("VmFlags:"):
        print("hg" in line.split())
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that says what the system does; and nothing is said in the environment."""
    monkeypatch.setattr(_pages, "GIVEN", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return (tmp_path / "enabled").write_text


def test_large_pages_are_asked_for_where_they_are_given_on_request(system, monkeypatch):
    assert _pages.page_settings() == {}  # a system without them
    for does, wanted in (("always", {}), ("never", {}), ("madvise", LARGE)):
        system("always madvise never\n".replace(does, f"[{does}]"))
        assert _pages.page_settings() == wanted
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    assert _pages.page_settings()["GLIBC_TUNABLES"].split(":") == [
        "glibc.malloc.check=1", LARGE["GLIBC_TUNABLES"]
    ]  # fmt: skip
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert _pages.page_settings() == {}


def test_a_training_alone_is_started_again(system, monkeypatch):
    begun = []
    system("always [madvise] never\n")
    monkeypatch.setattr(_pages.os, "execve", lambda *given: begun.append(given))
    monkeypatch.setattr(command, "main", lambda: 0)
    for words in (["aistat", "train", "data"], ["aistat", "predict", "train"], ["aistat"]):
        monkeypatch.setattr(sys, "argv", words)
        assert command.start() == 0
    ((program, words, environment),) = begun
    assert (program, words) == (sys.executable, sys.orig_argv)
    assert environment["GLIBC_TUNABLES"] == LARGE["GLIBC_TUNABLES"]


@pytest.mark.skipif(_pages.page_settings() == {}, reason="pages are as they are on this system")
def test_large_pages_are_asked_for_then():
    """Whether they come is the system's: its memory may be in pieces. The control asks not."""
    said = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        for code in (ASKED, ASKED.replace("\nstart_again()", ""))
    ]
    assert [done.stdout.strip() for done in said] == ["True", "False"]


@pytest.mark.parametrize("closed", ["", " >&-", " 2>&-"])
def test_whoever_listens_a_training_says_what_it_lacks(tmp_path, closed):
    """As every command does where nobody reads it; started again or not."""
    asked = f"{sys.executable} -m aistat_jax.cli train {tmp_path / 'none'} --out {tmp_path / 'out'}"
    done = subprocess.run(
        asked + closed, shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert closed == " 2>&-" or "none" in done.stderr


def test_what_cannot_be_started_again_goes_on(system, monkeypatch):
    def refused(*given: object) -> None:
        raise PermissionError("by a rule of the system")

    system("always [madvise] never\n")
    monkeypatch.setattr(_pages.os, "execve", refused)
    _pages.start_again()
    monkeypatch.setattr(_pages.os, "confstr", lambda name: "glibc 2.31")
    assert _pages.page_settings() == {}
