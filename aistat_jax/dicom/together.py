"""Can several channels be of one patient, in one place?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations

from aistat_jax._errors import InputError, InputWarning
from aistat_jax.space.image import Channel
from aistat_jax.space.origin import Origin


def check_together(channels: Sequence[Channel]) -> None:
    """Refuse DICOM series of several patients; say where nothing tells that two lie in one place.

    Patients go by their ids, and where one is missing by names and birth dates. Channels that are
    not from DICOM say nothing of it.
    """
    known = [(channel, channel.origin) for channel in channels if channel.origin is not None]
    for (first, one), (second, other) in combinations(known, 2):
        if _differ(one, other):
            raise InputError(
                f"the series are of several patients: channel {first.name} ({first.source}) and "
                f"channel {second.name} ({second.source}); pass those of one"
            )
    for channel, origin in known[1:]:
        first, other = known[0]
        if origin.frame_uid and origin.frame_uid == other.frame_uid:
            continue
        both = origin.frame_uid and other.frame_uid
        lack = "have different frames of reference" if both else "have no frame of reference alike"
        warnings.warn(
            f"channels {first.name} and {channel.name} {lack}, so that nothing says that one lies "
            "on the other; register them first if they do not",
            InputWarning,
            stacklevel=3,
        )


def _differ(one: Origin, other: Origin) -> bool:
    """Whether two series say that they are of two patients."""
    left, right = dict(one.patient), dict(other.patient)
    words = ("PatientID",)
    if not (left.get("PatientID") and right.get("PatientID")):
        words = ("PatientName", "PatientBirthDate")
    said = [[_plain(each.get(word, "")) for each in (left, right)] for word in words]
    return any(a and b and a != b for a, b in said)


def _plain(text: str) -> str:
    return text.rstrip("^ ").strip().casefold()
