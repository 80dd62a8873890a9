"""How is the library that knows DICOM reached, and what is said where it is missing?"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aistat_jax._errors import InputError

LIBRARIES = ("pydicom", "highdicom")


def library(name: str = "pydicom") -> Any:
    """pydicom or highdicom, imported when first needed. Raises InputError naming the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f'DICOM is read and written by {name}, which is missing; pip install "aistat_jax'
            '[dicom]"'
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Without the library's warnings of values that are not as the standard has them: of many
    files there would be many, and what matters is said by the reader itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def reading(path: object) -> Iterator[None]:
    """`quietly`, and whatever the library raises on the way becomes a refusal that names the path.

    It takes values apart only when they are asked for, so that damage shows anywhere. Raises
    InputError for an error that has passed through the library, and others as they are.
    """
    sentence = f"{path}: a DICOM file is damaged ({{}}); copy or export it again"
    with _translated(sentence, InputError):
        yield


@contextmanager
def writing(path: object) -> Iterator[None]:
    """`quietly`, and whatever the library refuses to write becomes a refusal that names the path.

    Raises InputError for an error that has passed through the library, and others as they are.
    """
    sentence = f"{path}: what the series says cannot be written ({{}}); use the original one"
    with _translated(sentence, InputError, OSError):
        yield


@contextmanager
def _translated(sentence: str, *kept: type[Exception]) -> Iterator[None]:
    """`quietly`, and errors of the library but those kept become refusals with what they say."""
    try:
        with quietly():
            yield
    except kept:
        raise
    except Exception as error:
        if not _of_library(error):
            raise
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(sentence.replace("{}", said[:120])) from error


def _of_library(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] in LIBRARIES:
            return True
        trace = trace.tb_next
    return False
