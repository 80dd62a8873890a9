"""When was something, by the words of a DICOM date and time, and how far from UTC?"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

_MOMENT = re.compile(r"(\d{14}|\d{12}|\d{10})(?:\.(\d{0,6})\d*)?([+-]\d{4})?")
_OFFSET = re.compile(r"([+-])(\d{2})([0-5]\d)")


class Moment(NamedTuple):
    """A date and time of a clock, and the clock's offset from UTC where it says one."""

    at: datetime
    offset: timedelta | None = None


def moment_of(text: str) -> Moment | None:
    """A DICOM date and time, YYYYMMDDHHMMSS.FFFFFF&ZZXX; None for anything else.

    Dates alone are none: the time of the day is what matters here.

    >>> moment_of("2025010211.5+0100").offset, moment_of("20250102")
    (datetime.timedelta(seconds=3600), None)
    """
    found = _MOMENT.fullmatch(text.strip().replace(":", ""))
    if found is None:
        return None
    digits, fraction, offset = found.groups()
    try:
        whole = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    at = whole + timedelta(microseconds=int((fraction or "0").ljust(6, "0")))
    return Moment(at, offset_of(offset or ""))


def offset_of(text: str) -> timedelta | None:
    """An offset from UTC, such as -0530, as time; None for anything else."""
    found = _OFFSET.fullmatch(text.strip())
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    span = timedelta(hours=int(hours), minutes=int(minutes))
    return -span if sign == "-" else span
