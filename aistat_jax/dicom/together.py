"""Can several channels be of one patient, in one place?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from aistat_jax._errors import InputError, InputWarning
from aistat_jax.space.image import Channel


def check_together(channels: Sequence[Channel]) -> None:
    """Refuse DICOM series of several patients; say where nothing tells that two lie in one place.

    Channels that are not from DICOM say nothing of it.
    """
    known = [(channel, channel.origin) for channel in channels if channel.origin is not None]
    patients = {dict(origin.patient).get("PatientID") for _, origin in known} - {None}
    if len(patients) > 1:
        listed = ", ".join(
            f"{channel.name} of {dict(origin.patient).get('PatientID')}"
            for channel, origin in known
        )
        raise InputError(f"the series are of several patients ({listed}); pass those of one")
    for channel, origin in known[1:]:
        first, other = known[0]
        if origin.frame_uid != other.frame_uid:
            warnings.warn(
                f"channels {first.name} and {channel.name} have different frames of reference, so "
                "that nothing says that one lies on the other; register them first if they do not",
                InputWarning,
                stacklevel=3,
            )
