"""What may be said of patient and study in a new object, and how long may it be?"""

from __future__ import annotations

import re
from datetime import datetime

from aistat_jax.space.origin import Origin

MOST = {"SH": 16, "LO": 64, "ST": 1024}  # characters of a value
_ALWAYS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?(\.\d{1,6})?")
_KINDS = {"StudyID": "SH", "AccessionNumber": "SH", "PatientID": "LO", "StudyDescription": "LO"}


def known(origin: Origin) -> dict[str, str]:
    """Attributes of patient and study by keyword: the series' own, empty where it says nothing.

    What is longer in the series than the standard allows is cut, and what is `unfit` is empty.
    """
    said = dict.fromkeys(_ALWAYS, "") | dict(origin.patient) | dict.fromkeys(unfit(origin), "")
    said.pop("PositionReferenceIndicator", None)
    return {
        keyword: shortened(value, _KINDS[keyword]) if keyword in _KINDS else value
        for keyword, value in said.items()
    }


def unfit(origin: Origin) -> tuple[str, ...]:
    """The keywords whose dates, times and sex in the series are not as the standard has them."""
    return tuple(word for word, value in origin.patient if not _FITS.get(word, bool)(value))


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None and ("." not in text or text.index(".") == 6)


_FITS = {
    "PatientBirthDate": _is_date, "StudyDate": _is_date, "StudyTime": _is_time,
    "PatientSex": ("M", "F", "O").__contains__,
}  # fmt: skip


def left_blank(origin: Origin) -> list[str]:
    """A sentence about what is `unfit`, if anything is."""
    names = ", ".join(unfit(origin))
    return [f"{names} of the series is not as DICOM has it and is left blank"] if names else []


def shortened(text: str, kind: str) -> str:
    """A text of as many characters as values of its kind may have.

    >>> shortened("IBSI_1_STS_002_PET", "SH")
    'IBSI_1_STS_002_P'
    """
    return text.replace("\\", "/")[: MOST[kind]]
