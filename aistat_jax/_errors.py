"""How is bad input refused? With one sentence that names what came and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")


class InputError(ValueError):
    """Bad input from the user; the command line prints the sentence and exits with status 2.

    A sentence names an argument in single backticks, such as `dims` or `dims=2`: the command line
    and the manifest of a cohort have names of their own for it (see `renamed`).
    """

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


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Gives the arguments that a refusal names in backticks the names that they have here.

    Nothing else of the sentence changes, whatever words it has. A value stays behind the name.
    """

    def here(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in names:
            return found.group()
        return " ".join([names[name], *([] if value in (None, "True") else [value.strip('"')])])

    try:
        yield
    except FolderError:
        raise
    except InputError as error:  # not of its own kind, which may need more than words
        raise InputError(_ARGUMENT.sub(here, str(error))) from error
