"""What do a network's own probabilities say? Level sets, scaled or smoothed; and controls.

Of the component that holds the target's place (`Case.reached`). One level a draw, uniform on
(0, 1): the sets are nested, and a pixel is in a share of them that is its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit, logit

from aistat_jax._typing import Bool, Float
from aistat_jax.nets.head_training import LEAST_PIXELS, HeadSettings
from aistat_jax.uncertainty.conformal import BandScores, conformal_band
from benchmarks.foreign import temperature_of
from benchmarks.peers import DRAWS, LEVEL, Band, band_of_levels, between, given_something
from benchmarks.peers.cases import Case, middle_of

BANDWIDTHS = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # px


@dataclass(frozen=True)
class LevelSets:
    """Nested level sets of a probability map; the band lies between the levels q and 1 - q."""

    probability: Float[np.ndarray, "i j"]
    q: float = (1 + LEVEL) / 2

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        return self.probability > rng.random(count)[:, None, None]

    @property
    def presence(self) -> float:
        return float(self.probability.max())

    @property
    def middle(self) -> Bool[np.ndarray, "i j"]:
        return given_something(self.probability, self.presence)

    @property
    def band(self) -> Band:
        return between(self.probability, self.q)


@dataclass(frozen=True)
class Scaled:
    """Level sets of the network's probabilities at a temperature (1: as they come)."""

    name: str
    temperature: float = 1.0

    def at(self, case: Case) -> LevelSets:
        return LevelSets(expit(case.reached.astype(float) / self.temperature))


class Probabilities:
    """The network's own probabilities: as they come, at a temperature, and two controls.

    Temperature scaling is of Guo et al. 2017 (On calibration of modern neural networks, ICML). The
    controls: every pixel by itself, whose samples look like no contour, and the plain mask, whose
    band has no width.
    """

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        near = [middle_of(case.reached.shape) for case in cases]
        odds = np.stack([case.reached[at] for case, at in zip(cases, near, strict=True)])
        share = np.stack(
            [case.masks.mean(axis=0)[at] for case, at in zip(cases, near, strict=True)]
        )
        return [
            Scaled("probability level sets"),
            Scaled("temperature scaling", temperature_of(odds, share)),
            Pixels(),
            Plain(),
        ]


@dataclass(frozen=True)
class Smoothed:
    """Level sets of smoothed probabilities, with a conformal level; see `KernelSmoothed`."""

    bandwidth: float
    margin: float
    name: str = "kernel-smoothed, conformal level"

    def at(self, case: Case) -> LevelSets:
        return LevelSets(smoothed(case.probability, self.bandwidth), float(expit(self.margin)))


class KernelSmoothed:
    """Contours of kernel-smoothed probabilities, with a level that is calibrated for the boundary.

    After Zhang & Ray 2023 (From coarse to fine: a deep 3D probability volume contours framework,
    Front Radiol 3, 1225215), whose network learns the bandwidth of the kernel by which a map is
    smoothed before its contours are taken, and 2024 (Distribution-free uncertainty quantification
    for contour segmentation in PET imaging, PMLR 230), who join level sets to conformal risk
    control. Here the map is the network's probabilities, the kernel is Gaussian, and one bandwidth
    is the likeliest of BANDWIDTHS on half of the patients; on the others split conformal by patient
    finds the log-odds t such that a boundary lies between the levels expit(t) and expit(-t).
    """

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        names = sorted({case.patient for case in cases})
        first = set(np.random.default_rng(seed).permutation(names)[::2].tolist())
        learned = [case for case in cases if case.patient in first]
        bandwidth = max(BANDWIDTHS, key=lambda h: likelihood(learned, h))
        margins, whose = [], []
        for case in cases:
            if case.patient in first:
                continue
            odds = logit(smoothed(case.probability, bandwidth))
            for mask in case.masks:
                if mask.sum() >= LEAST_PIXELS:
                    margins.append(margin_needed(odds, mask))
                    whose.append(case.patient)
        scores = BandScores(np.array(margins), tuple(whose), LEVEL, "band", "px")
        margin = conformal_band(scores, coverage=LEVEL, per="lesion").margin
        return [Smoothed(bandwidth, margin)]


def smoothed(probability: Float[np.ndarray, "i j"], bandwidth: float) -> np.ndarray:
    """A map under a Gaussian kernel, as sd in pixels, and never 0 or 1."""
    if bandwidth:
        probability = gaussian_filter(probability, bandwidth, mode="nearest", truncate=6.0)
    return np.clip(probability, 1e-7, 1 - 1e-7)


def likelihood(cases: Sequence[Case], bandwidth: float) -> float:
    """The mean log-likelihood a pixel of what readers drew."""
    total = 0.0
    for case in cases:
        p, share = smoothed(case.probability, bandwidth), case.masks.mean(axis=0)
        total += float(np.mean(share * np.log(p) + (1 - share) * np.log1p(-p)))
    return total / len(cases)


def margin_needed(odds: Float[np.ndarray, "i j"], mask: Bool[np.ndarray, "i j"]) -> float:
    """The smallest t so that {odds > t} is inside of a mask, and the mask in {odds >= -t}."""
    return float(max(odds[~mask].max(initial=-np.inf), -odds[mask].min(initial=np.inf)))


# ----------------------------------------------------------------------------------- controls


@dataclass(frozen=True)
class Speckle:
    """Every pixel is drawn by itself."""

    probability: Float[np.ndarray, "i j"]

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        return rng.random((count, *self.probability.shape)) < self.probability

    @property
    def presence(self) -> float:
        return float(-np.expm1(np.log1p(-np.minimum(self.probability, 1 - 1e-12)).sum()))

    @property
    def middle(self) -> Bool[np.ndarray, "i j"]:
        return given_something(self.probability, self.presence)

    @cached_property
    def band(self) -> Band:
        return band_of_levels(self.probability, self.samples(np.random.default_rng(0), DRAWS))


@dataclass(frozen=True)
class Pixels:
    name: str = "control: independent pixels"

    def at(self, case: Case) -> Speckle:
        return Speckle(case.probability)


@dataclass(frozen=True)
class Mask:
    """One mask, and no doubt."""

    middle: Bool[np.ndarray, "i j"]

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        return np.repeat(self.middle[None], count, axis=0)

    @property
    def probability(self) -> Float[np.ndarray, "i j"]:
        return self.middle.astype(float)

    @property
    def presence(self) -> float:
        return float(self.middle.any())

    @property
    def band(self) -> Band:
        return Band(self.middle, self.middle)


@dataclass(frozen=True)
class Plain:
    name: str = "control: plain mask"

    def at(self, case: Case) -> Mask:
        return Mask(case.reached > 0)
