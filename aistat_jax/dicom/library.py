"""How is the library that knows DICOM reached, and what is said where it is missing?"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aistat_jax._errors import InputError


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
