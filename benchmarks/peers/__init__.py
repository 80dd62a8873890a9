"""What do ways to put uncertainty on a segmentation have in common? They learn, and they say.

A method learns from cases that the network has not seen, within one budget, and becomes one or more
fitted peers; of a case each says what boundaries there may be. All read the same frozen network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.nets.head_training import HeadSettings
from benchmarks.peers.cases import Case

LEVEL, DRAWS = 0.95, 200


class Band(NamedTuple):
    """A set of boundaries: all that leave `inner` inside and nothing of them outside of `outer`."""

    inner: Bool[np.ndarray, "i j"]
    outer: Bool[np.ndarray, "i j"]

    def holds(self, mask: Bool[np.ndarray, "i j"]) -> bool:
        """Whether the whole boundary of a mask lies in it."""
        return not (self.inner & ~mask).any() and not (mask & ~self.outer).any()


class Claim(Protocol):
    """What a fitted peer says of one case, on the pixels of its image.

    presence: how probable it is that there is anything; middle: a mask, if there is; band: what is
    to hold the whole boundary with probability LEVEL, if there is.
    """

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]: ...

    @property
    def probability(self) -> Float[np.ndarray, "i j"]: ...

    @property
    def presence(self) -> float: ...

    @property
    def middle(self) -> Bool[np.ndarray, "i j"]: ...

    @property
    def band(self) -> Band: ...


class Fitted(Protocol):
    """A method that has learned."""

    name: str

    def at(self, case: Case) -> Any:
        """A `Claim`. Nothing is computed before it is asked for."""
        ...


class Method(Protocol):
    """A way to put uncertainty on a segmentation."""

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        """`Fitted` peers, of cases of patients that the network has not seen."""
        ...


def given_something(
    probability: Float[np.ndarray, "i j"], presence: float
) -> Bool[np.ndarray, "i j"]:
    """Pixels more likely inside than not, if there is anything."""
    return probability > 0.5 * presence


def band_of_levels(
    probability: Float[np.ndarray, "i j"], masks: Bool[np.ndarray, "n i j"], level: float = LEVEL
) -> Band:
    """The smallest band between two levels q and 1 - q that holds that share of the masks.

    Of those that are not empty; nothing where all are. `probability` is a model's, not the share of
    these masks: no mask may speak for itself.
    """
    some = masks[masks.any(axis=(1, 2))]
    if not len(some):
        return Band(np.zeros(probability.shape, bool), np.zeros(probability.shape, bool))
    needed = np.array([level_needed(probability, mask) for mask in some])
    return between(probability, float(np.quantile(needed, level, method="inverted_cdf")))


def level_needed(values: Float[np.ndarray, "i j"], mask: Bool[np.ndarray, "i j"]) -> float:
    """The smallest q with which `between` holds a mask, for values from 0 to 1."""
    outside = values[~mask].max(initial=0.0)
    return float(max(outside, 1 - values[mask].min(initial=1.0)))


def between(values: Float[np.ndarray, "i j"], q: float) -> Band:
    """From where values exceed q to where they are 1 - q at least."""
    return Band(values > q, values >= 1 - q)
