"""Does the simulated expert of benchmarks/corrections.py point at the worst place?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax.data.balls import Ball, image_of_balls
from aistat_jax.space.grid import Grid
from benchmarks.corrections import (
    AFTER,
    CONTROLS,
    COUNT,
    corrected,
    of_corrections,
    unseen,
    worst_place,
)
from benchmarks.edges import edge_of

GRID = Grid(np.diag([2.0, 3.0, 4.0, 1.0]), (20, 20, 20))


def block(*sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def test_the_edge_of_a_mask_lies_between_its_voxels_and_others():
    mask = block((5, 8), (6, 8), (7, 11))
    edge, flat = edge_of(mask, GRID, flat=False), edge_of(mask, GRID, flat=True)
    assert len(edge) == 2 * (3 * 2 + 3 * 4 + 2 * 4)
    assert len(flat) == 2 * (3 * 4 + 2 * 4)
    low, high = edge.min(axis=0), edge.max(axis=0)
    assert low == pytest.approx([9.0, 16.5, 26.0])
    assert high == pytest.approx([15.0, 22.5, 42.0])
    assert set(flat[:, 2]) == {28.0, 32.0, 36.0, 40.0}  # within slices
    assert len(edge_of(block((0, 20), (6, 8), (7, 11)), GRID, flat=True)) == 2 * 20 * 4


def test_the_worst_place_is_on_what_was_drawn_and_as_far_as_hausdorff_says():
    """Of what was left out its far end; of what is too much the drawn edge nearest to it."""
    drawn, less, more = (
        block((4, 16), (6, 9), (7, 10)),
        block((4, 8), (6, 9), (7, 10)),
        block((4, 16), (6, 9), (7, 18)),
    )
    edge = edge_of(drawn, GRID, flat=False)
    for found in (less, more):
        other = edge_of(found, GRID, flat=False)
        apart = np.linalg.norm(other[:, None] - edge[None], axis=-1)
        place, away = worst_place(other, edge)
        assert away == pytest.approx(max(apart.min(axis=0).max(), apart.min(axis=1).max()))
        assert (np.linalg.norm(edge - place, axis=1) < 1e-9).any()
    left_out, _ = worst_place(edge_of(less, GRID, flat=False), edge)
    assert left_out[0] == pytest.approx(31.0)
    too_much, _ = worst_place(edge_of(more, GRID, flat=False), edge)
    assert too_much[2] == pytest.approx(38.0)
    assert worst_place(edge, edge)[1] == 0.0


def test_a_control_that_gains_as_much_is_a_miss():
    """What a table of corrections says is met, and what is not."""
    better = dict(zip(AFTER, np.linspace(0.82, 0.9, COUNT + 1), strict=True))
    for gain, met in ((0.01, True), (0.2, False)):
        rows = [
            {"patient": name, "refused": "", "seconds a correction": 1.0}
            | better
            | dict.fromkeys(CONTROLS, 0.82 + gain)
            for name in "ab"
        ]
        result = of_corrections("title", rows)
        found = {row.figure: row.met for row in result.rows}
        assert {"", "≥ 0", "≥ 0.88", "≤ 0.05"} <= {row.asked for row in result.rows}
        assert found[f"{AFTER[-1]} corrections, median"]
        assert [found[f"corrections gain more than {name}, mean"] for name in CONTROLS] == [met] * 2
    lost = of_corrections("title", [*rows, {"patient": "c"} | unseen("no edge")])
    assert {row.figure: row.met for row in lost.rows}[f"{AFTER[0]}, mean"] is False
    assert lost.notes[-1] == "c: no edge"


@pytest.mark.slow
def test_a_correction_draws_the_contour_to_what_was_drawn():
    """Of a ball that the expert draws with a bump: nearer to it with each point, and nearer than
    with points of the estimate itself, which change little."""
    middle = np.array([52.0, 60.0, 30.0])
    image = image_of_balls([Ball(tuple(middle), 20.0, 8.0)], seed=0)
    away = image.primary.grid.points() - middle
    stretched = np.where(away[..., 0] > 0, 34.0, 20.0)
    mask = np.square(away / np.stack([stretched, *2 * [np.full_like(stretched, 20.0)]], -1))
    mask = mask.sum(axis=-1) <= 1.0
    contoured = partial(
        aj.contour, image, point_mm=middle.tolist(), net="lesion-pet-3d",
        settings=aj.Settings(draws=300),
    )  # fmt: skip
    row = corrected(contoured, contoured(), mask, np.random.default_rng(0))
    assert row["refused"] == ""
    assert row[AFTER[-1]] > row[AFTER[0]] + 0.02
    assert row[AFTER[-1]] > row[CONTROLS[1]] + 0.02
    assert abs(row[CONTROLS[1]] - row[AFTER[0]]) < 0.03
