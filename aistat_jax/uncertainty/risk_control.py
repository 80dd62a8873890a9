"""How sure must a contour be for green to be wrong in few patients never seen?

Conformal risk control (Angelopoulos, Bates, Fisch, Lei & Schuster 2022, theorem 1): a loss that
falls as the threshold rises, of patients exchangeable with the next, tells the threshold whose
expected loss in the next is at most the rate asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Bool, Float
from aistat_jax.uncertainty.by_patient import numbered, one_patient_each
from aistat_jax.uncertainty.conformal import drawn_once, read_fields
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.grading import CASE_CUTS, Grade
from aistat_jax.uncertainty.surface_distance import surface_distances

KIND, SCHEMA = "green rule", 1


@record
class GreenCases:
    """How sure each lesion's grade was, whether green would have been wrong, and whose it is.

    `statistic` rises with sureness (the posterior expected surface Dice, or any of one's own);
    minus infinity for what is never green. `tolerance` is that of the grades, None where the
    statistic is one's own. Shapes: statistic, wrong (lesion,).
    """

    statistic: Float[np.ndarray, " lesion"]
    wrong: Bool[np.ndarray, " lesion"]
    patients: tuple[str, ...] = static()
    tolerance: float | None = static(default=None)
    unit: str = static(default="mm")


@dataclass(frozen=True)
class GreenRule:
    """Green is what has a statistic above `threshold`; see `control_false_green`.

    risk and green are of the patients calibrated on: the mean loss at the threshold, and the share
    of their lesions that is green.
    """

    threshold: float
    rate: float
    per: str
    risk: float
    green: float
    patients: int
    lesions: int
    tolerance: float | None = None
    unit: str = "mm"

    @property
    def promise(self) -> str:
        """What holds, in a sentence."""
        what = {
            "patient": "The probability that any lesion of a new patient is green and wrong",
            "lesion": "The expected share of a new patient's lesions that are green and wrong",
        }[self.per]
        return (
            f"{what} is at most {self.rate:.3g}, if the patient is exchangeable with the "
            f"{self.patients} calibrated on (the same scanners, protocol and readers)."
        )

    def is_green(self, statistic: float) -> bool:
        return statistic > self.threshold

    def hold(self, grade: Grade) -> Grade:
        """The grade, amber with a reason where it was green and is not sure enough; never better.

        By its expected surface Dice: for rules that were calibrated on `green_cases`. Raises
        InputError for a rule of one's own statistic, and a grade at another tolerance.
        """
        if self.tolerance is None:
            raise InputError(
                "this rule is of a statistic of your own and cannot hold a grade; ask is_green"
            )
        if (grade.tolerance, grade.unit) != (self.tolerance, self.unit):
            raise InputError(
                f"this rule was calibrated at a tolerance of {self.tolerance:g} {self.unit} and "
                f"says nothing at {grade.tolerance:g} {grade.unit}"
            )
        sure = grade.expected_surface_dice
        if grade.case != "green" or self.is_green(sure):
            return grade
        reason = (
            f"An expected agreement of {sure:.3f} is not above {self.threshold:.3f}, from where on "
            f"green is wrong in at most {self.rate:.3g} of patients like the {self.patients} "
            "calibrated on."
        )
        return replace(grade, case="amber", reasons=(reason, *grade.reasons))

    def to_json(self) -> str:
        """The rule as JSON text; `from_json` reads it."""
        least = None if math.isinf(self.threshold) else self.threshold
        content = {"kind": KIND, "schema": SCHEMA} | asdict(self) | {"threshold": least}
        return json.dumps(content, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> GreenRule:
        """The rule that `to_json` wrote. Raises InputError for any other text."""
        found = read_fields(text, KIND, SCHEMA, cls, nullable=("threshold",))
        if found["threshold"] is None:
            found["threshold"] = -math.inf
        return cls(**found)


def green_cases(
    contours: Sequence[Contour], patients: Sequence[str], *, enough: float = CASE_CUTS[0]
) -> GreenCases:
    """What to calibrate on: graded contours that have references, whoever drew these.

    The statistic is the posterior expected surface Dice of a green contour, and minus infinity for
    one that is not green already. Green is wrong where the surface Dice of estimate and reference,
    at the grade's tolerance, is below `enough`. Raises InputError for a contour without a
    reference of one curve or surface, several tolerances, and a list of patients of another length.
    """
    one_patient_each(patients, np.zeros(len(contours)))
    tolerances = {(contour.grade.tolerance, contour.unit) for contour in contours}
    if len(tolerances) > 1:
        raise InputError(f"grades must be of one tolerance and unit, got {sorted(tolerances)}")
    statistic, wrong = [], []
    for contour in contours:
        estimate = contour.chart.surface(contour.posterior.estimate)
        distances = surface_distances(estimate, drawn_once(contour))
        green = contour.grade.case == "green"
        statistic.append(contour.grade.expected_surface_dice if green else -math.inf)
        wrong.append(distances.surface_dice(contour.grade.tolerance) < enough)
    tolerance, unit = tolerances.pop() if tolerances else (None, "mm")
    return GreenCases(
        np.array(statistic), np.array(wrong, dtype=bool), tuple(patients), tolerance, unit
    )


def control_false_green(
    cases: GreenCases, *, rate: float = 0.05, per: str = "patient"
) -> GreenRule:
    """The lowest threshold above which green is wrong in at most `rate` of new patients.

    The loss of a patient at a threshold is 1 where any of its lesions is green and wrong (per
    "patient"), or the share of its lesions that are (per "lesion"). With losses L_1, ..., L_n the
    threshold is the lowest with (L_1 + ... + L_n + 1) / (n + 1) <= rate; the expectation, over the
    patients calibrated on and the new one, is then at most the rate. It is the share of all
    patients, not of the green ones: where half are green, up to twice as many of these are wrong.

    Raises InputError for fewer patients than `patients_needed(rate)`, and a statistic of plus
    infinity, which no threshold holds back.
    """
    one_patient_each(cases.patients, cases.statistic, cases.wrong)
    if np.isposinf(np.asarray(cases.statistic, dtype=float)).any():
        raise InputError("a statistic is plus infinity, above any threshold; pass finite ones")
    whose = numbered(cases.patients, rate, per)
    count = int(whose.max()) + 1
    statistic, wrong = np.asarray(cases.statistic), np.asarray(cases.wrong, dtype=bool)
    sizes = np.bincount(whose)

    def risk(threshold: float) -> float:
        false = np.bincount(whose, wrong & (statistic > threshold), count)
        return float((np.minimum(false, 1) if per == "patient" else false / sizes).mean())

    # the loss falls only where the threshold passes what is wrong
    tried = np.unique(np.append(statistic[wrong], -np.inf))
    low, high = 0, len(tried) - 1  # the last leaves nothing that is green and wrong
    while low < high:
        middle = (low + high) // 2
        if (count * risk(tried[middle]) + 1) / (count + 1) <= rate + 1e-12:
            high = middle
        else:
            low = middle + 1
    threshold = float(tried[low])
    green = float((statistic > threshold).mean())
    return GreenRule(
        threshold, rate, per, risk(threshold), green, count, len(whose), cases.tolerance, cases.unit
    )
