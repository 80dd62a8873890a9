"""Which DICOM series did a channel's voxels come from, in the series' own words?"""

from __future__ import annotations

from dataclasses import dataclass

Words = tuple[tuple[str, str], ...]
"""Pairs of a name and what it says."""


@dataclass(frozen=True)
class Origin:
    """What has to be said of a series to refer to it from another object. Hashable.

    patient: attributes of patient and study by their keywords, those alone that the series has.
    modality, series_uid, frame_uid (of the frame of reference, "" where it has none), class_uid.
    instances: the UID of every slice, in stored order along the normal. quantity: every attribute
    that went into the channel's quantity, such as the dose of an SUV, with its tag, and its value.
    notes: sentences about the series that a user must know. off_even: how far each slice lies from
    where even spacing has it, mm, in the order of instances; empty where that is not known.
    """

    patient: Words
    modality: str
    series_uid: str
    frame_uid: str
    class_uid: str
    instances: tuple[str, ...]
    quantity: Words = ()
    notes: tuple[str, ...] = ()
    off_even: tuple[float, ...] = ()
