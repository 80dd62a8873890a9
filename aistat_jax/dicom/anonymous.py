"""What may be said of a DICOM series when nobody is to know whose it is?

Nothing of patient and study, and no date, time or weight that went into its SUV. UIDs become others
that are derived from them, so that the files of one case still refer to each other, and to a series
whose UIDs were changed in the same way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aistat_jax.dicom.library import library, reading
from aistat_jax.space.origin import Origin

KEPT = (
    "Units", "SUVType", "DecayCorrection", "CorrectedImage", "Radiopharmaceutical", "CodeMeaning",
    "RadionuclideTotalDose", "RadionuclideHalfLife", "FrameReferenceTime", "ActualFrameDuration",
    "Philips activity factor", "RescaleSlope", "RescaleIntercept", "time from injection, min",
)  # fmt: skip
"""What an SUV is computed from and tells nothing of a person, by its name without the tag."""

METHOD = "aistat_jax: patient and study left out, UIDs are hashes"
_STANDARD = "1.2.840.10008."  # UIDs that DICOM itself gives out


def anonymous_uid(uid: str) -> str:
    """The UID that stands for another one: always the same, by SHA-512; DICOM's own stay.

    >>> anonymous_uid("1.2.3") == anonymous_uid("1.2.3") != anonymous_uid("1.2.4")
    True
    """
    if not uid or uid.startswith(_STANDARD):
        return uid
    return str(library("pydicom.uid").generate_uid(entropy_srcs=[uid]))


def anonymous_origin(origin: Origin) -> Origin:
    """What is said of a series when nobody is to know whose it is; its notes say what is kept."""
    study = dict(origin.patient).get("StudyInstanceUID")
    kept = tuple(pair for pair in origin.quantity if pair[0].partition(" (")[0] in KEPT)
    gone = [name for name, value in origin.quantity if (name, value) not in kept]
    note = "anonymous: nothing of patient and study is kept, and UIDs are hashes"
    if origin.quantity:
        note += f"; of the attributes used, kept are {_names([name for name, _ in kept])}"
        note += f"; left out are {_names(gone)}"
    if origin.notes:
        note += "; notes on the series are left out"
    return replace(
        origin,
        patient=(
            *([("StudyInstanceUID", anonymous_uid(study))] if study else []),
            ("PatientIdentityRemoved", "YES"),
            ("DeidentificationMethod", METHOD),
        ),
        series_uid=anonymous_uid(origin.series_uid),
        frame_uid=anonymous_uid(origin.frame_uid),
        instances=tuple(map(anonymous_uid, origin.instances)),
        quantity=kept,
        notes=(note,),
    )


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def is_anonymous(path: Path) -> bool:
    """Whether a DICOM file says that it names no patient; False where there is none."""
    if not path.is_file():
        return False
    with reading(path):
        said = library().dcmread(path, specific_tags=["PatientIdentityRemoved"])
    return str(said.get("PatientIdentityRemoved", "")) == "YES"
