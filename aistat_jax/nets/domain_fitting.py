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
from aistat_jax.nets.domain import (
    ANATOMY,
    HALF_TONES,
    INTENSITY,
    INVERTED,
    QUANTILE,
    SPACING,
    TEXTURE,
    TONES,
    WIDTH,
    Domain,
    Limits,
    Measured,
)

# The share of the patients left out that each look (quantiles, half-tones, tones, appearance) finds
# fault with.
ALARM = 0.01
# How much larger or smaller than any trained on pixels, and images, may be. Augmentation shows
# networks zooms of .7 to 1.4. Where pixels are of unknown size, the image's width stands in for it.
SPACING_FACTOR, WIDTH_FACTOR = 1.25, 2.0
FOLDS = 5
# Of the covariance of features, the share that is taken to be the variances' alone; and, of the
# range of a channel, the least sd of one of its quantiles.
SHRUNK, LEAST_SD = 0.1, 0.02
FEWEST = 5
Of = Sequence[tuple[str, Measured]]


def fit_domain(
    name: str,
    images: Of,
    edges: Sequence[tuple[str, Float[np.ndarray, " feature"]]] = (),
    *,
    inverted: Of = (),
    unit: str = "mm",
    units: dict[str, str] | None = None,
    alarm: float = ALARM,
) -> Domain:
    """The domain of a network from what was measured of its cases, each with its patient's name.

    images: what was measured of each (`domain.measured_for`); inverted: the same, of images as if
    what is bright were dark; edges: features about an edge of each target, as they will be seen at
    new ones. units: those of the channels, by name.
    Raises InputError for fewer than 5 patients.
    """
    who = np.array([patient for patient, _ in images])
    if (count := len(np.unique(who))) < FEWEST:
        raise InputError(
            f"{count} patients say too little of what a network was trained on; pass at least "
            f"{FEWEST}"
        )
    channels, limits = units or {}, _geometry(images, unit)
    for channel in channels:
        limits += _quantiles(images, who, channel, channels[channel], alarm)
        limits += _half_tones(images, who, channel, alarm)
    upright: dict[str, np.ndarray] = {}
    for channel in channels if inverted else ():
        weights, limit = _tones(images, inverted, channel, alarm)
        upright[channel] = weights
        limits.append(limit)
    mean, whiten, furthest = np.zeros(0), np.zeros((0, 0)), 0.0
    if edges:
        mean, whiten, furthest = _appearance(edges, alarm)
    return Domain(name, count, alarm, tuple(limits), furthest, upright, mean, whiten)


def _geometry(images: Of, unit: str) -> list[Limits]:
    """What was trained on, widened by a factor."""
    found = []
    for name, words, factor in (
        (SPACING, "pixels of", SPACING_FACTOR),
        (WIDTH, "an image of", SPACING_FACTOR if unit == "px" else WIDTH_FACTOR),
    ):
        values = np.array([measured.get(name, np.nan) for _, measured in images])
        if np.isfinite(values).all():
            low, high = float(values.min()), float(values.max())
            found.append(Limits(name, name, words, unit, low, high, low / factor, high * factor))
    return found


def _quantiles(images: Of, who: np.ndarray, channel: str, unit: str, alarm: float) -> list[Limits]:
    """Limits of quantiles: symmetric about the mean over patients on a scale that is linear near
    zero and logarithmic beyond; as many sds of a new patient as leave `alarm` of them out."""
    keys = [key for key in images[0][1] if key.startswith(f"{QUANTILE}{channel} ")]
    if not keys:
        return []
    raw = np.array([[measured[key] for key in keys] for _, measured in images])
    # Uptake is a matter of ratios; what is relative to an image, or in HU, is not.
    values = np.arcsinh(raw) if unit == "SUV" else raw
    floor = LEAST_SD * float(np.ptp(values.mean(axis=0))) + 1e-9
    weight = _even(who)
    mean, sd = _moments(values, weight, floor)
    away = np.zeros(len(values))
    for patient in np.unique(who):
        out = who == patient
        rest, spread = _moments(values[~out], _even(who[~out]), floor)
        away[out] = (np.abs(values[out] - rest) / spread).max(axis=1)
    expected = _students(len(np.unique(who)), alarm / len(keys))
    times = max(expected, _exceeded_by(away, weight, alarm))
    edges = np.array([mean - times * sd, mean + times * sd])
    low, high = np.sinh(edges) if unit == "SUV" else edges
    return [
        Limits(
            key, INTENSITY, f"{float(key.split()[-1]):.3g} quantile of {channel}", unit,
            float(raw[:, j].min()), float(raw[:, j].max()), float(low[j]), float(high[j]),
        )
        for j, key in enumerate(keys)
    ]  # fmt: skip


def _half_tones(images: Of, who: np.ndarray, channel: str, alarm: float) -> list[Limits]:
    """No fewer of them than all but `alarm` of the patients have."""
    key = f"{HALF_TONES}{channel}"
    if key not in images[0][1]:
        return []
    values = np.array([measured[key] for _, measured in images])
    low = -_exceeded_by(-values, _even(who), alarm)
    words = f"share of {channel} that is neither dark nor bright"
    return [Limits(key, ANATOMY, words, "", float(values.min()), float(values.max()), low, 1.0)]


def _tones(images: Of, inverted: Of, channel: str, alarm: float) -> tuple[np.ndarray, Limits]:
    """The linear discriminant of a channel's texture between images and themselves inverted.

    Source: Fisher 1936, Annals of Eugenics 7, 179-188.
    """
    who, values = _textures(images, channel)
    other, turned = _textures(inverted, channel)

    def weights(kept: np.ndarray, others: np.ndarray) -> np.ndarray:
        means, spread = [], []
        for some, of in ((values[kept], who[kept]), (turned[others], other[others])):
            weight = _even(of)
            means.append(weight @ some)
            off = some - means[-1]
            spread.append((weight[:, None] * off).T @ off)
        pooled = (spread[0] + spread[1]) / 2
        pooled += 0.01 * np.diag(np.diag(pooled)) + 1e-6 * np.eye(len(pooled))
        found = np.linalg.solve(pooled, means[0] - means[1])
        found *= 2 / (found @ (means[0] - means[1]))  # the means score 1 and -1
        found[-1] -= found @ (means[0] + means[1]) / 2
        return found

    score = np.zeros(len(values))
    fold, others = _folds(who, who), _folds(other, who)
    for k in range(FOLDS):
        score[fold == k] = values[fold == k] @ weights(fold != k, others != k)
    low = -_exceeded_by(-score, _even(who), alarm)
    words = f"what is bright in {channel}, and what is dark, scores (inverted about -1)"
    least, most = float(score.min()), float(score.max())
    said = Limits(f"{TONES}{channel}", INVERTED, words, "", least, most, low, 1e9)
    every = np.ones(len(values), bool), np.ones(len(turned), bool)
    return weights(*every), said


def _textures(images: Of, channel: str) -> tuple[np.ndarray, np.ndarray]:
    who = np.array([patient for patient, _ in images])
    keys = [key for key in images[0][1] if key.startswith(f"{TEXTURE}{channel} ")]
    return who, np.array([[measured[key] for key in keys] for _, measured in images])


def _folds(who: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The fold of each patient."""
    return np.searchsorted(np.unique(of), who) % FOLDS


def _even(who: np.ndarray) -> np.ndarray:
    """Weights under which every patient counts as much, of sum 1."""
    _, at, count = np.unique(who, return_inverse=True, return_counts=True)
    return 1 / (count[at] * len(count))


def _moments(values: np.ndarray, weight: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
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
    fold = _folds(who, who)
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
