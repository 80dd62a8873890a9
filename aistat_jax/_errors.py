"""How is bad input refused? With one sentence that names what came and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input from the user; the command line prints the sentence and exits with status 2."""

    def _render_traceback_(self) -> list[str]:
        """In a notebook the sentence stands alone: the lines that led to it help nobody."""
        return [f"\x1b[31mInputError\x1b[0m: {self}"]


class FolderError(InputError):
    """An output folder that cannot be used; its sentence ends in "choose another folder"."""


class InputWarning(UserWarning):
    """Something about the input that a user must know, and that does not stop the work."""


@contextmanager
def about(what: object) -> Iterator[None]:
    """Names the file, or the network, in a refusal that does not know it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
