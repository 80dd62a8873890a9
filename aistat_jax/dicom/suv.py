"""What makes body-weight SUV of a PET series, exactly as its header says?

SUV is activity concentration over dose per body weight, both at one time: value (Bq/ml) times
weight (g) over dose (Bq), decayed from the injection to the time that values are corrected to.
Sources: DICOM PS3.3 C.8.9.1 (PET Series); QIBA FDG-PET/CT profile, vendor-neutral pseudo-code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.dicom.series import PRIVATE
from aistat_jax.space.origin import Words

KINDS = {
    "BW": "body weight", "LBM": "lean body mass", "BSA": "body surface area",
    "IBW": "ideal body weight", "LBMJANMA": "lean body mass (Janmahasatian)",
    "LBMJAMES128": "lean body mass (James 128)",
}  # fmt: skip
_OF_UNIT = {"CM2ML": "BSA"}
LEAST_BQ, MOST_MBQ = 1e5, 1e4
DAY = timedelta(days=1)
LONGEST = 12  # half-lives between injection and scan beyond which times must be wrong


@dataclass(frozen=True)
class Suv:
    """The factor of each slice, and every attribute that it was computed from.

    Shapes: factor (slice,).
    """

    factor: Float[np.ndarray, " slice"]
    used: Words
    notes: tuple[str, ...] = ()


def said_of(said: Any) -> Words:
    """The attributes that `kind_of` goes by."""
    tags = ("Units", "(0054,1001)"), ("SUVType", "(0054,1006)")
    return tuple((f"{word} {tag}", str(said.get(word))) for word, tag in tags if said.get(word))


def kind_of(said: Any) -> str:
    """What the values of a PET series are, in words: "SUV body weight", "Bq/ml", ..."""
    units = str(said.get("Units") or "").upper()
    if units in ("GML", "CM2ML"):
        given = str(said.get("SUVType") or _OF_UNIT.get(units, "BW")).upper()
        return f"SUV {KINDS.get(given, given)}"
    return {"BQML": "Bq/ml", "CNTS": "counts"}.get(units, units or "unknown units")


def body_weight(headers: Sequence[Any], where: object) -> Suv:
    """SUV by body weight of the slices of one PET series.

    Raises InputError that names an attribute that is missing or cannot be, another kind of SUV,
    and images without the corrections that an SUV needs.
    """
    reader = _Reader(headers, where)
    units = reader.text("Units")
    count = len(headers)
    if units in ("GML", "CM2ML"):
        kind = kind_of(headers[0])
        if "SUVType" in headers[0]:
            reader.text("SUVType")
        if kind != "SUV body weight" or units != "GML":
            raise InputError(
                f"{where}: the series holds {kind} (Units {units}), not SUV body weight, and is "
                "not read as PT; name the channel otherwise, such as SUL, to read it as what it is"
            )
        return Suv(np.ones(count), tuple(reader.used), tuple(reader.notes))
    reader.corrected("ATTN", "attenuation")
    if units == "CNTS":
        if (factor := reader.private("Philips SUV")) is not None:
            return Suv(np.full(count, factor), tuple(reader.used), tuple(reader.notes))
        if (scale := reader.private("Philips activity")) is None:
            raise InputError(
                f"{where}: values are counts (Units CNTS), and neither of Philips' factors "
                "(7053,1000) and (7053,1009) is there to make SUV or Bq/ml of them"
            )
    elif units == "BQML":
        scale = 1.0
    else:
        raise InputError(
            f"{where}: values are in Units {units}, of which no SUV is made; BQML, GML and CNTS "
            "(Philips) are read"
        )
    weight, dose = reader.weight(), reader.dose()
    return Suv(
        scale * 1000.0 * weight / dose * reader.growth(), tuple(reader.used), tuple(reader.notes)
    )


class _Reader:
    """Reads attributes, notes each one that is used, and refuses by name what is missing."""

    def __init__(self, headers: Sequence[Any], where: object) -> None:
        self.headers, self.where = headers, where
        self.used: list[tuple[str, str]] = []
        self.notes: list[str] = []
        isotopes = headers[0].get("RadiopharmaceuticalInformationSequence") or [{}]
        self.tracer: Any = isotopes[0]
        self.isotopes = len(isotopes)

    # ------------------------------------------------------------------ attributes

    def _note(self, keyword: str, value: object) -> None:
        from aistat_jax.dicom.library import library

        tag = library("pydicom.datadict").tag_for_keyword(keyword)
        pair = f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})", str(value)
        if pair not in self.used:
            self.used.append(pair)

    def _missing(self, keyword: str, why: str = "is missing") -> InputError:
        from aistat_jax.dicom.library import library

        tag = library("pydicom.datadict").tag_for_keyword(keyword)
        return InputError(
            f"{self.where}: no SUV: {keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X}) {why}; "
            "export the original series, or convert it and pass SUV as .nii.gz"
        )

    def text(self, keyword: str) -> str:
        """What all slices say alike, in capitals."""
        values = {str(said.get(keyword) or "").strip().upper() for said in self.headers}
        if values == {""}:
            raise self._missing(keyword)
        if len(values) > 1:
            raise self._missing(keyword, f"differs from slice to slice ({', '.join(values)})")
        (value,) = values
        self._note(keyword, value)
        return value

    def number(self, keyword: str, source: Any) -> float:
        value = source.get(keyword)
        if value is None or str(value).strip() == "":
            raise self._missing(keyword)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not 0 < number < float("inf"):
            raise self._missing(keyword, f"is {value} and must be a positive number")
        self._note(keyword, value)
        return number

    def private(self, name: str) -> float | None:
        """A factor in a vendor's private field, where it is there and not zero."""
        tag = PRIVATE[name]
        if tag not in self.headers[0]:
            return None
        values = {_factor(said, tag) for said in self.headers}
        if len(values) > 1 or not 0 <= (value := values.pop()) < float("inf"):
            raise InputError(
                f"{self.where}: no SUV: the private field ({tag >> 16:04X},{tag & 0xFFFF:04X}) is "
                "no number, or differs from slice to slice"
            )
        if value == 0:
            return None
        self.used.append((f"{name} factor ({tag >> 16:04X},{tag & 0xFFFF:04X})", f"{value:g}"))
        return value

    # -------------------------------------------------------------- parts of an SUV

    def corrected(self, code: str, what: str) -> None:
        """Refuse a series that says that it lacks a correction."""
        done = self.headers[0].get("CorrectedImage") or []
        done = [done] if isinstance(done, str) else [str(each).upper() for each in done]
        if done and code not in done:
            raise self._missing("CorrectedImage", f"does not name {code}: no {what} correction")
        if done:
            self._note("CorrectedImage", "\\".join(done))

    def weight(self) -> float:
        weight = self.number("PatientWeight", self.headers[0])
        if not 0.5 <= weight <= 500:
            raise self._missing("PatientWeight", f"is {weight:g} kg, which cannot be")
        return weight

    def dose(self) -> float:
        """In Bq. Some writers give MBq, which no dose in Bq can be taken for."""
        if not self.tracer:
            raise self._missing("RadiopharmaceuticalInformationSequence")
        if self.isotopes > 1:
            raise self._missing("RadiopharmaceuticalInformationSequence", "names several tracers")
        codes = self.tracer.get("RadionuclideCodeSequence")
        for source, keyword in ((self.tracer, "Radiopharmaceutical"), (codes, "CodeMeaning")):
            source = source[0] if source is codes and codes else source
            if source and source.get(keyword):
                self._note(keyword, source.get(keyword))
        dose = self.number("RadionuclideTotalDose", self.tracer)
        if dose >= LEAST_BQ:
            return dose
        if dose > MOST_MBQ:
            raise self._missing("RadionuclideTotalDose", f"is {dose:g}, neither Bq nor MBq")
        self.notes.append(f"RadionuclideTotalDose {dose:g} is read as MBq: it is too small for Bq")
        return 1e6 * dose

    def growth(self) -> Float[np.ndarray, " slice"]:
        """By how much activity has fallen from the dose's time to that of each slice's values."""
        decay = self.text("DecayCorrection")
        if decay in ("START", "ADMIN"):
            self.corrected("DECY", "decay")
        if decay == "ADMIN":
            return np.ones(len(self.headers))
        half_life = self.number("RadionuclideHalfLife", self.tracer)
        if decay == "START":
            times = [self._start()] * len(self.headers)
            later = np.zeros(len(self.headers))
        elif decay == "NONE":
            times = self._acquired()
            spans = [self.number("ActualFrameDuration", said) / 1000 for said in self.headers]
            later = np.array([_mean_time(span, half_life) for span in spans])
        else:
            raise self._missing("DecayCorrection", f"is {decay}; START, ADMIN and NONE are known")
        injected = self._injected(times[0], half_life)
        waited = np.array([(time - injected).total_seconds() for time in times]) + later
        if not (waited.min() >= 0 and waited.max() <= LONGEST * half_life):
            raise InputError(
                f"{self.where}: no SUV: from the injection ({injected}) to the scan "
                f"({min(times)}) it is {waited.min() / 60:.0f} min, which cannot be; check the "
                "times in the header"
            )
        self.used.append(("time from injection, min", f"{waited.min() / 60:.2f}"))
        return np.exp2(waited / half_life)

    def _start(self) -> datetime:
        """When values that are corrected to the start of the scan are of."""
        acquired = self._acquired(note=False)
        series = self._moment("SeriesDate", "SeriesTime", self.headers[0])
        if series is not None and series <= min(acquired):
            self._note("SeriesDate", self.headers[0].get("SeriesDate"))
            self._note("SeriesTime", self.headers[0].get("SeriesTime"))
            return series
        tag = PRIVATE["GE scan"]
        if tag in self.headers[0] and (scan := _time_of(_words(self.headers[0][tag].value))):
            self.used.append(("GE scan date and time (0009,100D)", str(scan)))
            return scan
        self.notes.append(
            "SeriesTime is missing, or later than the acquisition, so decay is counted to the "
            "first AcquisitionTime"
        )
        return min(self._acquired())

    def _acquired(self, note: bool = True) -> list[datetime]:
        found = []
        for said in self.headers:
            at = self._moment("AcquisitionDate", "AcquisitionTime", said)
            if at is None:
                at = _time_of(str(said.get("AcquisitionDateTime") or ""))
            if at is None:
                raise self._missing("AcquisitionTime")
            found.append(at)
        if note:
            self.used.append(("AcquisitionDate, AcquisitionTime (0008,0022), (0008,0032)",
                              f"{min(found)} to {max(found)}"))  # fmt: skip
        return found

    def _moment(self, date: str, time: str, said: Any) -> datetime | None:
        return _time_of(f"{said.get(date) or ''}{said.get(time) or ''}")

    def _injected(self, scan: datetime, half_life: float) -> datetime:
        """When the dose was measured: by date and time, else by a time of the day of the scan."""
        whole = str(self.tracer.get("RadiopharmaceuticalStartDateTime") or "")
        if (at := _time_of(whole)) is not None:
            self._note("RadiopharmaceuticalStartDateTime", whole)
            return at
        clock = str(self.tracer.get("RadiopharmaceuticalStartTime") or "")
        at = _time_of(f"{scan:%Y%m%d}{clock}") if clock else None
        if at is None:
            raise self._missing("RadiopharmaceuticalStartTime")
        self._note("RadiopharmaceuticalStartTime", clock)
        if at > scan:
            at -= DAY
            self.notes.append("the injection was before midnight, on the day before the scan")
        return at


def _mean_time(span: float, half_life: float) -> float:
    """Seconds into a frame at which activity has its mean over the frame."""
    decay = np.log(2) / half_life
    return float(np.log(decay * span / -np.expm1(-decay * span)) / decay)


def _factor(said: Any, tag: int) -> float:
    try:
        return float(_words(said[tag].value))
    except (KeyError, TypeError, ValueError):
        return float("nan")


def _words(value: Any) -> str:
    """Text of a private field, which may be bytes."""
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip("\0 ")


def _time_of(text: str) -> datetime | None:
    """A DICOM date and time, YYYYMMDDHHMMSS.FFFFFF, without its time zone; None for anything else.

    Dates alone are none: the time of the day is what matters here.
    """
    digits, _, rest = text.strip().replace(":", "").partition(".")
    digits = digits.split("+")[0].split("-")[0]
    if not digits.isdigit() or len(digits) not in (10, 12, 14):
        return None
    fraction = "".join(c for c in rest.split("+")[0].split("-")[0] if c.isdigit())[:6]
    try:
        whole = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return whole + timedelta(microseconds=int(fraction.ljust(6, "0") or 0))
