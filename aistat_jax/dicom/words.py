"""What may be said of patient and study in a new object, and how long may it be?"""

from __future__ import annotations

from aistat_jax.space.origin import Origin

MOST = {"SH": 16, "LO": 64, "ST": 1024}  # characters of a value
_ALWAYS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_KINDS = {"StudyID": "SH", "AccessionNumber": "SH", "PatientID": "LO", "StudyDescription": "LO"}


def known(origin: Origin) -> dict[str, str]:
    """Attributes of patient and study by keyword: the series' own, empty where it says nothing.

    What is longer in the series than the standard allows is cut.
    """
    said = dict.fromkeys(_ALWAYS, "") | dict(origin.patient)
    said.pop("PositionReferenceIndicator", None)
    return {
        keyword: shortened(value, _KINDS[keyword]) if keyword in _KINDS else value
        for keyword, value in said.items()
    }


def shortened(text: str, kind: str) -> str:
    """A text of as many characters as values of its kind may have.

    >>> shortened("IBSI_1_STS_002_PET", "SH")
    'IBSI_1_STS_002_P'
    """
    return text.replace("\\", "/")[: MOST[kind]]
