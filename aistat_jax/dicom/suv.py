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
from aistat_jax.dicom.moments import moment_of, offset_of
from aistat_jax.dicom.series import PRIVATE, blocks_of, words_of
from aistat_jax.space.origin import Words

KINDS = {
    "BW": "body weight", "LBM": "lean body mass", "BSA": "body surface area",
    "IBW": "ideal body weight", "LBMJANMA": "lean body mass (Janmahasatian)",
    "LBMJAMES128": "lean body mass (James 128)",
}  # fmt: skip
_OF_UNIT = {"CM2ML": "BSA"}
LEAST_BQ, MOST_MBQ = 1e6, 1e4
USUAL_MBQ = 5.0, 2000.0  # a dose outside is worth a word
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
LONGEST, LONG = 6, 3  # half-lives from injection to scan: times must be wrong; worth a word
SHORTEST = 300.0  # seconds likewise, below which it is worth a word
SAME_DAY = 6 * 3600.0  # half-life in seconds above which a time of the day says too little


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
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        reader.span(keyword)
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

    def span(self, keyword: str) -> None:
        """Note what numbers slices have, where each has one."""
        values = [_number(said, keyword) for said in self.headers]
        low, high = min(values), max(values)
        if all(np.isfinite(values)):
            self._note(keyword, f"{low:g}" if low == high else f"{low:g} to {high:g}")

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
        if (tag := self._owned(name)) is None:
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

    def _owned(self, name: str) -> int | None:
        """The tag of a private field that is there and a vendor's own: in a block whose creator is
        the vendor's, or, where the first block has no creator, by the manufacturer."""
        first, tag = self.headers[0], PRIVATE[name]
        for own in blocks_of(first, name):
            if own in first:
                return own
        maker = str(first.get("Manufacturer") or "")
        creator = tag & 0xFFFF0000 | tag >> 8 & 0xFF
        if creator in first or tag not in first:
            return None
        if not maker.upper().startswith(name.split()[0].upper()):
            return None
        self._note("Manufacturer", maker)
        return tag

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    # -------------------------------------------------------------- parts of an SUV

    def _corrections(self) -> list[str]:
        done = self.headers[0].get("CorrectedImage") or []
        return [str(each).upper() for each in ([done] if isinstance(done, str) else done)]

    def corrected(self, code: str, what: str) -> None:
        """Refuse a series that says that it lacks a correction; say where it tells of none."""
        done = self._corrections()
        if done and code not in done:
            raise self._missing("CorrectedImage", f"does not name {code}: no {what} correction")
        if done:
            self._note("CorrectedImage", "\\".join(done))
        elif code == "ATTN":
            self._say(
                f"nothing says that {what} was corrected: CorrectedImage (0028,0051) is missing"
            )

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
        if MOST_MBQ < dose < LEAST_BQ:
            raise self._missing("RadionuclideTotalDose", f"is {dose:g}, neither Bq nor MBq")
        if dose < LEAST_BQ:
            self._say(f"RadionuclideTotalDose {dose:g} is read as MBq: it is too small for Bq")
            dose *= 1e6
        low, high = USUAL_MBQ
        if not low <= dose / 1e6 <= high:
            self._say(f"RadionuclideTotalDose is {dose / 1e6:g} MBq, which is an unusual dose")
        return dose

    def growth(self) -> Float[np.ndarray, " slice"]:
        """By how much activity has fallen from the dose's time to that of each slice's values."""
        decay = self.text("DecayCorrection")
        if decay in ("START", "ADMIN"):
            self.corrected("DECY", "decay")
        if decay == "ADMIN":
            return np.ones(len(self.headers))
        half_life = self.number("RadionuclideHalfLife", self.tracer)
        acquired = self._acquired()
        if decay == "START":
            times = [self._start(acquired, half_life)] * len(self.headers)
            later = np.zeros(len(self.headers))
        elif decay == "NONE":
            if "DECY" in self._corrections():
                raise self._missing(
                    "DecayCorrection", "is NONE, and CorrectedImage names DECY: it cannot be both"
                )
            times = acquired
            spans = [self.number("ActualFrameDuration", said) / 1000 for said in self.headers]
            later = np.array([_mean_time(span, half_life) for span in spans])
        else:
            raise self._missing("DecayCorrection", f"is {decay}; START, ADMIN and NONE are known")
        injected = self._injected(min(times), max(acquired), half_life)
        waited = np.array([(time - injected).total_seconds() for time in times]) + later
        told = f"from the injection ({injected}) to the scan ({min(times)}) it is "
        told += f"{waited.min() / 60:.0f} min"
        if not (min(times) >= injected and waited.max() <= LONGEST * half_life):
            raise InputError(
                f"{self.where}: no SUV: {told}, which cannot be; check the times in the header"
            )
        if waited.max() > LONG * half_life or waited.min() < SHORTEST:
            self._say(f"{told}, which is unusual: check the times in the header")
        self.used.append(("time from injection, min", f"{waited.min() / 60:.2f}"))
        return np.exp2(waited / half_life)

    def _start(self, acquired: Sequence[datetime], half_life: float) -> datetime:
        """When values that are corrected to the start of the scan are of."""
        series = self._moment("SeriesDate", "SeriesTime", self.headers[0])
        if series is not None and series <= min(acquired):
            self._note("SeriesDate", self.headers[0].get("SeriesDate"))
            self._note("SeriesTime", self.headers[0].get("SeriesTime"))
            return series
        if (tag := self._owned("GE scan")) is not None:
            name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            scan = self._local(f"GE scan {name}", words_of(self.headers[0][tag].value))
            if scan is not None and scan <= min(acquired):
                self.used.append((f"GE scan date and time {name}", str(scan)))
                return scan
        why = "SeriesTime is missing, or later than the acquisition, so decay is counted to "
        if (start := self._reckoned(acquired, half_life)) is not None:
            self._say(f"{why}the time that FrameReferenceTime is counted from, {start}")
            return start
        self._say(f"{why}the first AcquisitionTime")
        return min(acquired)

    def _reckoned(self, acquired: Sequence[datetime], half_life: float) -> datetime | None:
        """The time that FrameReferenceTime, of a frame's mean activity, is counted from: None
        where slices do not tell it, contradict each other, or put it after the acquisition."""
        pairs = [
            (
                _number(said, "FrameReferenceTime") / 1000,
                _number(said, "ActualFrameDuration") / 1000,
            )
            for said in self.headers
        ]
        if not all(0 < value < float("inf") for pair in pairs for value in pair):
            return None
        starts = [
            at + timedelta(seconds=_mean_time(span, half_life) - reference)
            for at, (reference, span) in zip(acquired, pairs, strict=True)
        ]
        if max(starts) - min(starts) > MINUTE or min(starts) > min(acquired) + MINUTE:
            return None
        self._note("FrameReferenceTime", f"{pairs[0][0] * 1000:g}")
        self._note("ActualFrameDuration", f"{pairs[0][1] * 1000:g}")
        return min(starts)

    def _acquired(self) -> list[datetime]:
        found, whole_used = [], False
        for said in self.headers:
            at = self._moment("AcquisitionDate", "AcquisitionTime", said)
            if at is None:
                whole = str(said.get("AcquisitionDateTime") or "")
                at = self._local("AcquisitionDateTime", whole)
                whole_used = True
            if at is None:
                dated = str(said.get("AcquisitionDate") or "").strip()
                timed = str(said.get("AcquisitionTime") or "").strip()
                raise self._missing("AcquisitionDate" if timed and not dated else "AcquisitionTime")
            found.append(at)
        name = "AcquisitionDate, AcquisitionTime (0008,0022), (0008,0032)"
        name = "AcquisitionDateTime (0008,002A)" if whole_used else name
        self.used.append((name, f"{min(found)} to {max(found)}"))
        return found

    def _moment(self, date: str, time: str, said: Any) -> datetime | None:
        return self._local(time, f"{said.get(date) or ''}{said.get(time) or ''}")

    def _local(self, keyword: str, text: str) -> datetime | None:
        """A date and time by the clock of the header's other times."""
        if (found := moment_of(text)) is None or found.offset is None:
            return found and found.at
        told = str(self.headers[0].get("TimezoneOffsetFromUTC") or "")
        if (own := offset_of(told)) is None:
            self._say(
                f"{keyword} names its time zone and the other times do not: they are taken to be "
                "of the same"
            )
            return found.at
        self._note("TimezoneOffsetFromUTC", told)
        return found.at - found.offset + own

    def _injected(self, scan: datetime, last: datetime, half_life: float) -> datetime:
        """When the dose was measured: by date and time, else by a time of the day of the scan.

        scan: when values are of; last: when the last slice was acquired.
        """
        whole = str(self.tracer.get("RadiopharmaceuticalStartDateTime") or "")
        clock = str(self.tracer.get("RadiopharmaceuticalStartTime") or "")
        if (at := self._local("RadiopharmaceuticalStartDateTime", whole)) is not None:
            self._note("RadiopharmaceuticalStartDateTime", whole)
            other = moment_of(f"{at:%Y%m%d}{clock}") if clock else None
            if other and MINUTE < abs(other.at - at) < DAY - MINUTE:
                self._say(
                    f"RadiopharmaceuticalStartDateTime ({at}) and RadiopharmaceuticalStartTime "
                    f"({clock}) differ: the first is used"
                )
            return at
        other = moment_of(f"{scan:%Y%m%d}{clock}") if clock else None
        if other is None:
            raise self._missing("RadiopharmaceuticalStartTime")
        if half_life > SAME_DAY:
            raise self._missing(
                "RadiopharmaceuticalStartDateTime",
                "is missing, and a time of the day alone does not say on which day of so long a "
                "half-life",
            )
        at = other.at
        self._note("RadiopharmaceuticalStartTime", clock)
        if at > last:
            at -= DAY
            self._say("the injection was before midnight, on the day before the scan")
        elif at > scan:
            raise self._missing(
                "SeriesTime", "is before the injection and the acquisition after it"
            )
        return at


def _mean_time(span: float, half_life: float) -> float:
    """Seconds into a frame at which activity has its mean over the frame."""
    decay = np.log(2) / half_life
    return float(np.log(decay * span / -np.expm1(-decay * span)) / decay)


def _number(said: Any, keyword: str) -> float:
    """A number of a header; not a number where there is none."""
    try:
        return float(said.get(keyword))
    except (TypeError, ValueError):
        return float("nan")


def _factor(said: Any, tag: int) -> float:
    try:
        return float(words_of(said[tag].value))
    except (KeyError, TypeError, ValueError):
        return float("nan")
