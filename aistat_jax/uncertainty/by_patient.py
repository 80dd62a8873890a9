"""How many patients does a promise about the next one need, and how do their lesions count?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Int


def patients_needed(risk: float) -> int:
    """Fewest patients with whom a risk can be promised for the next: ceil(1 / risk) - 1.

    Of n + 1 exchangeable patients the next is the worst with probability 1 / (n + 1), and nothing
    is known beyond the worst. Raises InputError for a risk outside (0, 1).

    >>> patients_needed(0.05), patients_needed(0.1), patients_needed(0.2)
    (19, 9, 4)
    """
    if not 0 < risk < 1:
        raise InputError(f"a risk must lie strictly between 0 and 1, such as 0.05, got {risk}")
    return int(np.ceil(1 / risk - 1e-9)) - 1


def numbered(patients: Sequence[str], risk: float, per: str) -> Int[np.ndarray, " lesion"]:
    """The number of each lesion's patient, from 0.

    Raises InputError for another `per` than "patient" and "lesion", and for fewer patients than
    the risk needs.
    """
    if per not in ("patient", "lesion"):
        raise InputError(f'lesions count per "patient" or per "lesion", got {per!r}')
    needed = patients_needed(risk)
    _, found = np.unique(np.asarray(list(patients), dtype=str), return_inverse=True)
    count = int(found.max(initial=-1)) + 1
    if count < needed:
        raise InputError(
            f"a risk of {risk:.3g} needs {needed} patients, got {count}; add patients, or ask for "
            f"no less than {1 / (count + 1):.3g}"
        )
    return np.asarray(found)


def one_patient_each(patients: Sequence[str], *columns: Any) -> None:
    """InputError where the columns are not as long as the list of patients, or hold NaN."""
    for column in columns:
        if len(column) != len(patients):
            raise InputError(f"{len(column)} lesions need as many patients, got {len(patients)}")
        if np.isnan(np.asarray(column, dtype=float)).any():
            raise InputError("the numbers to calibrate on must be numbers, got NaN")
