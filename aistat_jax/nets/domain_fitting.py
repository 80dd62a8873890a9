"""From where on is a case unlike those a network was trained on? Limits, from those cases.

Patients left out in turn say how far a case of their kind may lie from the rest: limits are set
where about ALARM of them are beyond, and with few patients no nearer than a Student t interval of
a new one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Float
from aistat_jax.nets.domain import INTENSITY, SPACING, WIDTH, Domain, Limits, Measured

# The share of the cases left out that each of three looks finds fault with: geometry,
# intensity, appearance.
ALARM = 0.01
# How much larger or smaller than any trained on pixels, and images, may be. Augmentation shows
# networks zooms of .7 to 1.4. Where pixels are of unknown size, the image's width stands in for it.
SPACING_FACTOR, WIDTH_FACTOR = 1.25, 2.0
FOLDS = 5
# Of the covariance of features, the share that is taken to be the variances' alone; and, of the
# range of a channel, the least sd of one of its quantiles.
SHRUNK, LEAST_SD = 0.1, 0.02
FEWEST = 5


def fit_domain(
    name: str,
    images: Sequence[tuple[str, Measured]],
    edges: Sequence[tuple[str, Float[np.ndarray, " feature"]]] = (),
    *,
    unit: str = "mm",
    units: dict[str, str] | None = None,
    alarm: float = ALARM,
) -> Domain:
    """The domain of a network from what was measured of its cases, each with its patient's name.

    images: what was measured of each (`domain.measured_for`); edges: features about an edge of each
    target, as they will be seen at new ones. units: those of the channels.
    Raises InputError for fewer than 5 patients.
    """
    who = np.array([patient for patient, _ in images])
    patients = np.unique(who)
    if len(patients) < FEWEST:
        raise InputError(
            f"{len(patients)} patients say too little of what a network was trained on; pass at "
            f"least {FEWEST}"
        )
    limits = []
    for respect, factor in ((SPACING, SPACING_FACTOR), (WIDTH, WIDTH_FACTOR)):
        key = respect, "", 0.0
        if key in images[0][1]:
            factor = SPACING_FACTOR if unit == "px" else factor
            values = np.array([measured[key] for _, measured in images])
            low, high = float(values.min()), float(values.max())
            limits.append(Limits(respect, low, high, low / factor, high * factor, unit))
    limits += _intensity(images, who, units or {}, alarm)
    mean, whiten, furthest = np.zeros(0), np.zeros((0, 0)), 0.0
    if edges:
        mean, whiten, furthest = _appearance(edges, alarm)
    return Domain(name, len(patients), alarm, tuple(limits), furthest, mean, whiten)


def _intensity(
    images: Sequence[tuple[str, Measured]], who: np.ndarray, units: dict[str, str], alarm: float
) -> list[Limits]:
    """Limits of quantiles: symmetric about the mean over patients on a scale that is linear near
    zero and logarithmic beyond; as many sds of a new patient as leave `alarm` of them out."""
    keys = [key for key in images[0][1] if key[0] == INTENSITY]
    if not keys:
        return []
    raw = np.array([[measured[key] for key in keys] for _, measured in images])
    values = np.array([_scaled(raw[:, j], key[1], units) for j, key in enumerate(keys)]).T
    floor = np.array([_floor(values, keys, key[1]) for key in keys])
    weight = _even(who)
    mean, sd = _moments(values, weight, floor)
    away = np.zeros(len(values))
    for patient in np.unique(who):
        out = who == patient
        rest, spread = _moments(values[~out], _even(who[~out]), floor)
        away[out] = (np.abs(values[out] - rest) / spread).max(axis=1)
    times = max(
        _students(len(np.unique(who)), alarm / len(keys)), _exceeded_by(away, weight, alarm)
    )
    low, high = (
        [_unscaled(edge[j], key[1], units) for j, key in enumerate(keys)]
        for edge in (mean - times * sd, mean + times * sd)
    )
    return [
        Limits(
            INTENSITY, float(raw[:, j].min()), float(raw[:, j].max()), float(low[j]),
            float(high[j]), units.get(key[1], ""), key[1], key[2],
        )
        for j, key in enumerate(keys)
    ]  # fmt: skip


def _scaled(values: np.ndarray, channel: str, units: dict[str, str]) -> np.ndarray:
    """Uptake is a matter of ratios; what is relative to an image, or in HU, is not."""
    return np.arcsinh(values) if units.get(channel) == "SUV" else values


def _unscaled(value: float, channel: str, units: dict[str, str]) -> float:
    return float(np.sinh(value)) if units.get(channel) == "SUV" else value


def _floor(values: np.ndarray, keys: list[tuple[str, str, float]], channel: str) -> float:
    mine = [j for j, key in enumerate(keys) if key[1] == channel]
    return LEAST_SD * float(np.ptp(values[:, mine].mean(axis=0))) + 1e-9


def _even(who: np.ndarray) -> np.ndarray:
    """Weights under which every patient counts as much, of sum 1."""
    _, at, count = np.unique(who, return_inverse=True, return_counts=True)
    return 1 / (count[at] * len(count))


def _moments(
    values: np.ndarray, weight: np.ndarray, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    mean = weight @ values
    return mean, np.maximum(np.sqrt(weight @ np.square(values - mean)), floor)


def _students(patients: int, alarm: float) -> float:
    """Sds within which a new patient lies with probability 1 - alarm, the sd being estimated."""
    from scipy.stats import t

    return float(t.ppf(1 - alarm / 2, patients - 1) * np.sqrt(1 + 1 / patients))


def _exceeded_by(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The value that at most a share of what is weighed lies beyond."""
    order = np.argsort(values)
    beyond = 1 - np.cumsum(weight[order])
    return float(values[order][min(int(np.searchsorted(-beyond, -share)), len(order) - 1)])


def _appearance(
    edges: Sequence[tuple[str, np.ndarray]], alarm: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """A Gaussian of features about edges, and the distance that patients left out keep within."""
    who, values = np.array([patient for patient, _ in edges]), np.array([x for _, x in edges])
    mean, whiten = _gaussian(values, who)
    fold = np.unique(who, return_inverse=True)[1] % FOLDS
    away = np.zeros(len(values))
    for k in range(FOLDS):
        out = fold == k
        rest, white = _gaussian(values[~out], who[~out])
        away[out] = np.linalg.norm((values[out] - rest) @ white.T, axis=1)
    furthest = _exceeded_by(away, _even(who), alarm) / np.sqrt(values.shape[1])
    return mean, whiten, float(furthest)


def _gaussian(values: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and what makes the covariance one, every patient counting as much."""
    weight = _even(who)
    mean = weight @ values
    off = values - mean
    covariance = (weight[:, None] * off).T @ off
    scale = np.sqrt(np.diag(covariance))
    scale = np.maximum(scale, 1e-3 * max(float(scale.max()), 1e-9))
    alike = covariance / np.outer(scale, scale)
    alike = (1 - SHRUNK) * alike + SHRUNK * np.eye(len(scale))
    return mean, np.linalg.inv(np.linalg.cholesky(alike)) / scale
