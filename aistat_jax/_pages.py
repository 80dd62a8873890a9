"""In what pages does a process get its memory? In large ones, where it asks before it starts.

A training step frees and takes hundreds of megabytes: in pages of 4 kB the system hands over fifty
thousand of them, cleared, for one step of a 2D network; in pages of 2 MB four hundred, and the step
takes 3 to 15% less. The C library of Linux (glibc 2.35) asks for large ones where the environment
says so when a process starts, and not later.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

GIVEN = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SINCE = (2, 35)
TUNABLES, _LARGE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def page_settings() -> dict[str, str]:
    """Environment variables of a process whose memory comes in large pages.

    None where the system gives them unasked, or never, where its C library cannot ask, or where it
    is said already what is wanted.
    """
    try:
        on_request = "[madvise]" in GIVEN.read_text(encoding="ascii")
        name, version = str(os.confstr("CS_GNU_LIBC_VERSION")).split()
    except (OSError, ValueError):
        return {}
    known = name == "glibc" and tuple(map(int, version.split("."))) >= _SINCE
    said = os.environ.get(TUNABLES, "")
    if not (on_request and known) or _LARGE in said:
        return {}
    return {TUNABLES: ":".join(filter(None, (said, f"{_LARGE}=1")))}


def start_again() -> None:
    """Replace this process by the same command in large pages; returns where nothing is gained."""
    settings = page_settings()
    if settings and sys.executable and sys.orig_argv:
        with suppress(OSError):
            os.execve(sys.executable, sys.orig_argv, os.environ | settings)
