"""Does a head that learned without a fold of the patients know nothing of them?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax.nets import ray_learning
from aistat_jax.nets.contour_head import POSITIONS
from aistat_jax.nets.edge_law import RAYS
from aistat_jax.nets.head_training import Unrolled
from aistat_jax.nets.output_head import SUV, OutputHead
from aistat_jax.nets.ray_learning import crossed_heads

HEAD = OutputHead("theirs", "probability", ("PT",), ("SUV",), (SUV,))
NAMES = ("a", "b", "c", "d", "without")


def targets_of(scramble: tuple[str, ...] = ()) -> dict[str, list[Unrolled]]:
    """A target of each patient; of the last nothing was drawn. Scrambled: drawn elsewhere."""
    found = {}
    for n, name in enumerate(NAMES):
        rng = np.random.default_rng(n)
        edge = 0.1 * rng.standard_normal() + 0.03 * rng.standard_normal(RAYS)
        odds = -30 * (POSITIONS - edge[:, None])
        x = np.stack([1 / (1 + np.exp(-odds)), odds], axis=-1)
        drawn = edge + (0.4 if name in scramble else 0.05) + 0.05 * rng.standard_normal(RAYS)
        there = name != "without"
        share = float(there) if name not in scramble else 1.0 - there
        drew = np.array([float(there)])
        found[name] = [
            Unrolled(x, np.asarray(np.log(8.0)), drawn[None], drew, np.asarray(share), np.zeros(()))
        ]
    return found


# Of so few steps degrees of freedom may be odd ones, and errors' variances with them.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_head_without_a_fold_knows_nothing_of_its_patients(monkeypatch):
    monkeypatch.setattr(ray_learning, "STEPS", 3)
    # the margin, which is of the other folds' errors, is left aside
    monkeypatch.setattr(ray_learning, "spread_margin", lambda found: np.zeros(4, np.float32))
    plain = crossed_heads(HEAD, targets_of(), folds=2)
    # every patient is in one fold, with or without anything drawn
    assert sorted(name for out, _ in plain.folds for name in out) == sorted(NAMES)
    out, without = next(fold for fold in plain.folds if "without" in fold[0])
    again = crossed_heads(HEAD, targets_of(tuple(out)), folds=2)
    (same,) = (head for left, head in again.folds if left == out)

    def apart(one: OutputHead, other: OutputHead) -> float:
        ours, theirs = one.head or {}, other.head or {}
        parts = [name for name in ours if name != "margin"]
        return max(float(np.abs(ours[name] - theirs[name]).max()) for name in parts)

    assert apart(without, same) == 0.0
    # negative control: the head of all patients has learned from them
    assert apart(plain.head, again.head) > 1e-3
    # and a search that is cut short is counted
    assert plain.unsettled == 3
