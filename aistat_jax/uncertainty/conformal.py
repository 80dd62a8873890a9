"""How far must bands be widened to hold whole surfaces of patients never seen?

Split conformal prediction by patient (Vovk, Gammerman & Shafer 2005; Lei et al. 2018, JASA 113,
1094-1111): how far experts' surfaces leave their bands in patients who were fitted with the same
settings tells how far the next one's will. It holds in finite samples and whatever the model is
worth, for patients exchangeable with those; of another scanner it says nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Float
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.bands import Band, simultaneous_band, upto
from aistat_jax.uncertainty.by_patient import numbered, one_patient_each
from aistat_jax.uncertainty.contour import Contour

KIND, SCHEMA = "conformal band", 1


@record
class BandScores:
    """How far each lesion's reference leaves its band at the worst place, and whose lesion it is.

    On the scale "length" what must be added to the band on either side for it to be held, in
    `unit` (below 0 where the band has room); on the scale "band" by how much its half-widths must
    be multiplied. Infinite for what the chart does not see. Shapes: scores (lesion,).
    """

    scores: Float[np.ndarray, " lesion"]
    patients: tuple[str, ...] = static()
    level: float = static(default=0.95)
    scale: str = static(default="length")
    unit: str = static(default="mm")


@dataclass(frozen=True)
class ConformalBand:
    """A margin for simultaneous bands of `level`, and what it promises; see `conformal_band`."""

    margin: float
    coverage: float
    level: float
    scale: str
    unit: str
    per: str
    patients: int
    lesions: int

    @property
    def promise(self) -> str:
        """What holds, in a sentence."""
        what = {
            "patient": "every lesion of a new patient lies wholly inside its band",
            "lesion": "a lesion drawn at random from a new patient lies wholly inside its band",
        }[self.per]
        return (
            f"With probability {self.coverage:.3g} or more {what}, if the patient is exchangeable "
            f"with the {self.patients} calibrated on (the same scanners, protocol and readers)."
        )

    def band(self, posterior: Posterior) -> Band:
        """The simultaneous band of a posterior with its edges moved: an inner and an outer contour.

        Raises InputError for a posterior in another unit.
        """
        if self.scale == "length" and posterior.unit != self.unit:
            raise InputError(
                f"a margin in {self.unit} means nothing for a contour in {posterior.unit}"
            )
        old = simultaneous_band(posterior, self.level)
        if self.scale == "length":
            lower, upper = old.lower - self.margin, old.upper + self.margin
        else:
            lower = old.centre - self.margin * (old.centre - old.lower)
            upper = old.centre + self.margin * (old.upper - old.centre)
        return replace(
            old,
            lower=np.maximum(np.minimum(lower, old.centre), posterior.chart.ends[0]),
            upper=upto(posterior.chart, np.maximum(upper, old.centre)),
            level=self.coverage,
            kind="conformal",
        )

    def to_json(self) -> str:
        """The margin and what it promises as JSON text; `from_json` reads it."""
        return json.dumps({"kind": KIND, "schema": SCHEMA} | asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ConformalBand:
        """The margin that `to_json` wrote. Raises InputError for any other text."""
        return cls(**read_fields(text, KIND, SCHEMA, cls))


def band_scores(
    contours: Sequence[Contour],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    scale: str = "length",
) -> BandScores:
    """Scores of contours that have references, to calibrate on; `patients` says whose they are.

    Distances are along the rays of the chart, which are never shorter than those to the boundary.
    A contour that several experts drew is given once for each of them. Raises InputError for a
    contour without a reference of one curve or surface, two units, and a list of patients of
    another length.
    """
    one_patient_each(patients, np.zeros(len(contours)))
    if scale not in ("length", "band"):
        raise InputError(f'the scale must be "length" or "band", got {scale!r}')
    units = {contour.unit for contour in contours}
    if len(units) != 1:
        raise InputError(f"contours to calibrate on must be in one unit, got {sorted(units)}")
    scores = np.array([_score(contour, level, scale) for contour in contours])
    return BandScores(scores, tuple(patients), level, scale, units.pop())


def conformal_band(
    scores: BandScores, *, coverage: float = 0.9, per: str = "patient"
) -> ConformalBand:
    """The margin with which bands hold whole surfaces of new patients as often as `coverage` says.

    per "patient": the worst lesion of each of n patients counts, and the margin is the
    ceil((n + 1) coverage)-th smallest; all lesions of a new patient are held at once. per
    "lesion": a patient's lesions share its weight, and a lesion drawn at random from a new patient
    is held (Lee, Barber & Willett 2023, Distribution-free inference with hierarchical data); the
    band is narrower where patients have many lesions. Either way the probability is over the
    patients calibrated on and the new one; of one calibration the coverage varies about it, with
    n = 20 by some 6 points.

    Raises InputError for fewer patients than `patients_needed(1 - coverage)`, and for scores of
    which too many are infinite.
    """
    one_patient_each(scores.patients, scores.scores)
    if not 0 < coverage < 1:
        raise InputError(f"a coverage must lie strictly between 0 and 1, got {coverage}")
    whose = numbered(scores.patients, 1 - coverage, per)
    values, count = np.asarray(scores.scores, dtype=float), int(whose.max()) + 1
    if per == "patient":
        worst = np.full(count, -np.inf)
        np.maximum.at(worst, whose, values)
        values, weight = worst, np.ones(count)
    else:
        weight = 1 / np.bincount(whose)[whose]
    order = np.argsort(values)
    enough = np.searchsorted(np.cumsum(weight[order]), coverage * (count + 1) - 1e-9)
    margin = float(values[order][enough])
    if not np.isfinite(margin):
        raise InputError(
            f"too many references cannot be seen from their charts to hold {coverage:.3g} of "
            "patients; ask for less, or contour them with charts that see them"
        )
    return ConformalBand(
        margin, coverage, scores.level, scores.scale, scores.unit, per, count, len(whose)
    )


WORDS = {"per": ("patient", "lesion"), "scale": ("length", "band"), "unit": ("mm", "px")}


def read_fields(
    text: str, kind: str, schema: int, cls: Any, nullable: Sequence[str] = ()
) -> dict[str, Any]:
    """The fields of a record of one kind from JSON text; InputError for any other text.

    nullable: numbers that may be null, beside those that may be None.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.pop("kind", None) != kind:
        raise InputError(f"this text is no {kind}; pass what to_json gave")
    if (said := found.pop("schema", None)) != schema:
        raise InputError(f"this {kind} has schema {said}, and only {schema} is read")
    if set(found) != set(cls.__dataclass_fields__):
        raise InputError(f"this {kind} has fields {sorted(found)}, not those that to_json writes")
    number = (int, float)
    kinds = {"float": number, "float | None": (*number, type(None)), "int": int}
    for name, field in cls.__dataclass_fields__.items():
        value = found[name]
        known = WORDS.get(name, (value,))
        finite = not isinstance(value, float) or math.isfinite(value)
        unset = value is None and name in nullable
        right = isinstance(value, kinds.get(field.type, str)) and not isinstance(value, bool)
        if not unset and not (right and finite and value in known):
            raise InputError(f"this {kind} has the {name} {value!r}, which is none")
    return found


def drawn_once(contour: Contour) -> Any:
    """The one curve or surface that a contour is compared with. Raises InputError for another."""
    reference = contour.reference
    if isinstance(reference, tuple) and len(reference) == 1:
        return reference[0]
    if reference is None or isinstance(reference, tuple):
        raise InputError(
            f"{contour.id} has no reference of one curve or surface to calibrate on; leave it out"
        )
    return reference


def _score(contour: Contour, level: float, scale: str) -> float:
    reference = drawn_once(contour)
    band, chart = simultaneous_band(contour.posterior, level), contour.chart
    if not chart.sees(reference):
        return float("inf")
    values = np.asarray(chart.values_of(reference), dtype=float)
    if scale == "length":
        return float(np.maximum(values - band.upper, band.lower - values).max())
    above = values > band.centre
    room = np.where(above, band.upper - band.centre, band.centre - band.lower)
    off = np.abs(values - band.centre)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(off > 0, off / room, 0.0).max())
