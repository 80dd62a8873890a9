"""Do curves, tables and the report of a training show what there is, and only that?"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from aistat_jax.io.nnunet import Dataset
from aistat_jax.nets.checkpoints import Point
from aistat_jax.nets.train import TrainSettings
from aistat_jax.nets.weights import Net
from aistat_jax.training import Fold, Run
from aistat_jax.uncertainty.scores import score_case
from aistat_jax.views.scores import scores_table, scores_text
from aistat_jax.views.training import plot_curves, write_training
from tests.nets.cases import tiny_plan
from tests.nets.test_plan import made

LABELS = ("lesion", "<organ>")


def fold(number: int) -> Fold:
    """Two steps, the second judged, one label nowhere; one case without the second label."""
    first, second = np.zeros((2, 8, 8, 4), np.int32)
    first[2:5, 2:5, 1:3] = second[2:5, 2:6, 1:3] = 1
    scores = score_case(first, second, (1.0, 1.0, 1.0), LABELS, tolerance=2.0, case=f"case{number}")
    curve = (Point(1, 0.9, 0.1), Point(2, 0.5, 0.05, 0.7, (0.6, math.nan)))
    return Fold(number, Net(tiny_plan(classes=3), ()), curve, scores)


def run() -> Run:
    data = Dataset(Path("data"), "Neck", ("PT", "CT"), ("background", *LABELS), ("c0", "c1"))
    return Run(
        Path("out"), data, made(cases=2), tiny_plan(classes=3), TrainSettings(),
        (("c0",), ("c1",)),
    )  # fmt: skip


def test_a_report_is_one_page_with_everything_escaped(tmp_path):
    card = {"version": "9", "command": "aistat train <script>", "scores": {"what": "held out"}}
    names = write_training(tmp_path, run(), [fold(0), fold(1)], card)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<organ>" not in text
    for wanted in ("Held-out cases of 2 of 2 folds", "lesion", "case1", "2D U-Net"):
        assert wanted in text, wanted
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert [(row["fold"], row["step"]) for row in rows] == [
        ("0", "1"), ("0", "2"), ("1", "1"), ("1", "2"),
    ]  # fmt: skip
    assert [row["validation_loss"] for row in rows] == ["", "0.7", "", "0.7"]
    assert [row["pseudo_dice_lesion"] for row in rows] == ["", "0.6", "", "0.6"]


def test_curves_are_those_of_the_folds():
    left, right = plot_curves([fold(0), fold(3)]).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[0.9, 0.5], [0.7]] * 2
    # the label that was nowhere does not count
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.6]] * 2
    markers = [line.get_marker() for line in right.lines]
    assert markers[0] != markers[1]  # told apart without colour
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["fold 0", "fold 3"]


def test_a_table_has_means_intervals_and_dashes():
    scores = [score for number in (0, 1) for score in fold(number).scores]
    head, (lesion, organ) = scores_table(scores)
    assert head[3] == "surface Dice at 2 mm"
    assert lesion[:3] == ["lesion", "2", "0.857 (0.857 to 0.857)"]
    assert lesion[6].startswith("-25%")
    assert organ == ["<organ>", "2 (2 absent)", *"-----", "0 (0 to 0)", "-", "-"]
    lines = scores_text(scores).splitlines()
    assert len(lines) == 3
    assert lines[1].index("2") == lines[0].index("cases")
