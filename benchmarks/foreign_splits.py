"""What do promises keep that were made by some of the patients? Over random splits, in the others.

Bands and a rule for green are calibrated on 20 or 30 patients and held against the rest, beside a
control that leaves out the patient to come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._record import replace as recorded
from aistat_jax.uncertainty.conformal import BandScores, conformal_band
from aistat_jax.uncertainty.risk_control import GreenCases, control_false_green
from benchmarks._table import Row

# Splits, patients to calibrate on, and what is promised of bands and of green.
SPLITS, SPLIT_PATIENTS, RISKS = 200, (20, 30), (0.1, 0.05)
# Controls of what is promised.
PLAIN, SLICES_AS_PATIENTS = "without the one to come", "slices as patients"


def by_patient(values: np.ndarray, patients: Sequence[str]) -> float:
    """The mean over patients of each one's mean."""
    _, whose = np.unique(patients, return_inverse=True)
    return float(np.mean(np.bincount(whose, values) / np.bincount(whose)))


def splits(patients: Sequence[str], count: int) -> list[np.ndarray]:
    """Which contours are of patients to calibrate on, split by split."""
    names, whose = np.unique(patients, return_inverse=True)
    drawn = [
        np.random.default_rng([count, split]).permutation(len(names)) for split in range(SPLITS)
    ]
    return [np.isin(whose, order[:count]) for order in drawn]


def risk_rows(
    figure: str, risk: float, found: dict[str, list[float]], most: float = 1.0
) -> list[Row]:
    """Risks over splits, at most nominal in the mean; that of the control must be above it.

    Nothing is asked of the control where it cannot fail, since no more than `most` of all are at
    fault by any rule; nor of others, by name.
    """
    rows = []
    for who, risks in found.items():
        error = float(np.std(risks, ddof=1) / np.sqrt(len(risks)))
        fails = who == PLAIN and most > risk + 2 * error
        asked: dict[str, Any] = {"at_most": risk + 2 * error} if not who else {}
        asked |= {"at_least": risk + 2 * error} if fails else {}
        note = f"Monte-Carlo error {error:.4f} over {len(risks)} splits"
        note += f"; only {most:.3f} can be" if who == PLAIN and not fails else ""
        what = f"{figure} ({who}{': must fail' if fails else ''})" if who else figure
        rows.append(Row(what, float(np.mean(risks)), note=note, **asked))
    return rows


def band_split_rows(scores: BandScores) -> list[Row]:
    """How many boundaries of patients left out leave their bands, with factors of others.

    The control is the plain quantile of the patients calibrated on. Beside it, where patients have
    several contours, what comes of each of these as if it were a patient: how much is lost depends
    on how many there are and how alike.
    """
    patients, rows = np.array(scores.patients), []
    several = len(set(scores.patients)) < len(patients)
    for count in (n for n in SPLIT_PATIENTS if n < len(set(scores.patients))):
        for risk in RISKS:
            found: dict[str, list[float]] = defaultdict(list)
            for chosen in splits(scores.patients, count):
                one_each = tuple(str(n) for n in range(chosen.sum()))
                ways = [
                    ("", tuple(patients[chosen]), 1 - risk),
                    (PLAIN, tuple(patients[chosen]), (1 - risk) * count / (count + 1)),
                    *([(SLICES_AS_PATIENTS, one_each, 1 - risk)] if several else []),
                ]
                for who, names, coverage in ways:
                    some = recorded(scores, scores=scores.scores[chosen], patients=names)
                    factor = conformal_band(some, coverage=coverage, per="lesion").margin
                    left = scores.scores[~chosen] > factor
                    found[who].append(by_patient(left.astype(float), patients[~chosen].tolist()))
            figure = (
                f"bands by {count} patients, risk {risk:.0%}: boundaries of others that leave them"
            )
            rows += risk_rows(figure, risk, found)
    return rows


def green_split_rows(cases: GreenCases) -> list[Row]:
    """How many contours of patients left out are green and off, by thresholds of others.

    The control's threshold is the lowest at which so many of those calibrated on are: without the
    one to come, which is taken for wrong.
    """
    patients, rows = np.array(cases.patients), []
    share = by_patient(np.asarray(cases.wrong, float), cases.patients)
    for count in (n for n in SPLIT_PATIENTS if n < len(set(cases.patients))):
        for risk in RISKS:
            found: dict[str, list[float]] = defaultdict(list)
            for chosen in splits(cases.patients, count):
                names = tuple(patients[chosen])
                some = replace_cases(cases, chosen, names)
                rest = patients[~chosen].tolist()
                for who, rate in (("", risk), (PLAIN, (risk * count + 1) / (count + 1))):
                    threshold = control_false_green(some, rate=rate, per="lesion").threshold
                    green = np.asarray(cases.statistic)[~chosen] > threshold
                    wrong = green & np.asarray(cases.wrong)[~chosen]
                    found[who].append(by_patient(wrong.astype(float), rest))
            figure = f"green by {count} patients, rate {risk:.0%}: contours of others green and off"
            rows += risk_rows(figure, risk, found, share)
    return [*rows, Row("contours that are off, of all", share)]


def replace_cases(cases: GreenCases, chosen: np.ndarray, names: tuple[str, ...]) -> GreenCases:
    statistic, wrong = np.asarray(cases.statistic)[chosen], np.asarray(cases.wrong)[chosen]
    return recorded(cases, statistic=statistic, wrong=wrong, patients=names)
