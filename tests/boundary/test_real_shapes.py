"""Does the chart that is chosen hold real organs and targets in space, less what no chart could?

A dozen of each of two collections, spread evenly over them, as they were drawn: thin, bent and
rough ones among them. `python -m benchmarks representation` asks it of all.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.representation import (
    CHOSEN,
    COLLECTIONS,
    GOOD,
    MEDIAN,
    VOXELS,
    components,
    in_space,
    some,
)

pytestmark = pytest.mark.slow
MASKS, SHAPES = 24, 12


@pytest.mark.parametrize("name", ["head and neck, 4 mm", "organs, 3 mm"])
def test_real_shapes_are_held_in_space_and_by_stars_they_are_not(data_root, name):
    drawn = some(COLLECTIONS[name](data_root), MASKS)
    shapes = some((part for one in drawn for part in components(one, VOXELS)), SHAPES)
    found = []
    for part in shapes:
        found.append(in_space(part))
        print(f"{part.name}: {found[-1]}", flush=True)  # shown where it fails
    chosen, star = (np.array([one[which] for one in found]) for which in (CHOSEN, "star"))
    assert len(chosen) == SHAPES
    assert np.median(chosen) >= MEDIAN - 0.01  # of few, and harder ones than most
    assert (chosen >= GOOD).sum() >= SHAPES - 1
    assert (star >= GOOD).sum() < SHAPES - 1  # the control
