"""How probable is another reading of a point than the one that was voted for?

Shares of the vote are sharper than what they are a measure of. What a region may be, the one voted
for (0) or a group of other readings alike (k), is *right* if no other is nearer, by Dice, to what
an expert would draw. Its probability is exp(b . g_k) / sum exp(b . g), g_0 = 0: g are TERMS, and b
was learned as a conditional logit from experts' masks and phantoms of known truth (readings.json,
`python -m benchmarks readings`). Hints beside the point multiply the odds by what they are worth,
untempered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aistat_jax._typing import Bool, Float
from aistat_jax.boundary.readings import Readings, majority

# 1; whether it has an edge of its own; and the log of its share over that of the one voted for.
TERMS = "other", "own edge", "vote"
SAME = 0.85  # readings of at least this Dice are one, or of one group
GROUPS, LEAST = 4, 1e-4  # so many groups at most; smaller shares begin none, but an edge of its own
FAR = 7.0  # log shares of a vote differ by no more


class Group(NamedTuple):
    """Other readings alike: the mask that most of them hold in the box, their share, TERMS.

    `worth` is what hints beside the point add to its log odds.
    """

    mask: Bool[np.ndarray, "i j k"]
    share: float
    terms: Float[np.ndarray, " term"]
    worth: float = 0.0


def groups_beside(
    readings: Readings,
    unlike: Bool[np.ndarray, " reading"],
    others: int,
    before: Float[np.ndarray, " reading"] | None = None,
) -> list[Group]:
    """Groups of the readings that are `unlike` the region voted for, the largest share first.

    The last `others` readings have an edge of their own; `before` are shares before hints were
    weighed, where some were.
    """
    own_edge = np.arange(len(unlike)) >= len(unlike) - others
    before = readings.share if before is None else before
    log_share, log_worth = _of_a_group(readings.share, before, ~unlike)
    left, found = unlike & (readings.share > 0), []
    while len(found) < GROUPS:
        seeds = np.flatnonzero(left & ((readings.share > LEAST) | own_edge))
        if not len(seeds):
            break
        alike = [left & (readings.likeness(readings.masks[n]) >= SAME) for n in seeds]
        group = max(alike, key=lambda each: float(readings.share[each].sum()))
        share = readings.share[group]
        log, worth = _of_a_group(readings.share, before, group)
        owned, vote = bool((group & own_edge).any()), np.clip(log - log_share, -FAR, FAR)
        mask = majority(readings.masks[group], share / share.sum())
        terms = np.array([1.0, owned, vote])
        found.append(Group(mask, float(share.sum()), terms, worth - log_worth))
        left = left & ~group
    return found


def _of_a_group(
    share: np.ndarray, before: np.ndarray, group: Bool[np.ndarray, " reading"]
) -> tuple[float, float]:
    """The log of its share before hints were weighed, and by how much they raise it."""
    first, last = np.log(np.maximum([before[group].sum(), share[group].sum()], 1e-12))
    return float(first), float(last - first)


def probabilities(
    groups: Sequence[Group], weights: Float[np.ndarray, " term"]
) -> Float[np.ndarray, " reading"]:
    """Of the region that was voted for, and of each group beside it; they sum to one."""
    score = np.array([0.0, *(each.terms @ weights + each.worth for each in groups)])
    odds = np.exp(score - score.max())
    return odds / odds.sum()


@cache
def learned_odds() -> Float[np.ndarray, " term"]:
    """The weights of TERMS, as learned from all patients."""
    kept = json.loads((Path(__file__).parent / "readings.json").read_text())
    return np.array([kept["odds"]["weights"][name] for name in TERMS])
