"""Does `aistat evaluate` give the numbers of hand, and refuse what it cannot compare?"""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from aistat_jax.cli import main
from tests.cli.datasets import AFFINE, save

SHAPE = (20, 12, 12)
LABELS = {"background": 0, "tumour": 1, "node": 2}


def box(first: int | None = None, node: bool = False) -> np.ndarray:
    """Label 1 in a box of 6 x 6 x 6 voxels (216 of 36 mm3) from `first` on; label 2 in a corner."""
    labels = np.zeros(SHAPE, np.uint8)
    if first is not None:
        labels[first : first + 6, 3:9, 3:9] = 1
    if node:
        labels[:2, :2, :2] = 2
    return labels


@pytest.fixture
def folders(tmp_path):
    """Predictions and a dataset's references: right, a voxel (3 mm) off, missed, and absent."""
    pairs = {
        "P1_visit1": (box(5), box(5)),
        "P1_visit2": (box(6), box(5)),
        "P2": (box(), box(5)),
        "P3": (box(5, node=True), box()),
        "P4": (box(), box()),
    }
    for case, (ours, theirs) in pairs.items():
        save(tmp_path / "ours" / f"{case}.nii.gz", ours)
        save(tmp_path / "data" / "labelsTr" / f"{case}.nii.gz", theirs)
    (tmp_path / "data" / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "PT"}, "labels": LABELS, "numTraining": 5,
                    "file_ending": ".nii.gz"})
    )  # fmt: skip
    return tmp_path / "ours", tmp_path / "data"


def scored(folders, out, *options):
    assert main(["evaluate", *map(str, folders), "--out", str(out), *options]) == 0
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    return {(r["case"], r["label"]): r for r in rows}, json.loads((out / "scores.json").read_text())


def refused(capsys, *arguments):
    capsys.readouterr()
    status = main(["evaluate", *map(str, arguments)])
    printed = capsys.readouterr()
    assert status == 2, printed.err
    assert printed.out == ""
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    return lines[0]


def test_scores_are_those_of_hand(folders, tmp_path, capsys):
    rows, content = scored(folders, tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["aistat.json", "scores.csv", "scores.json"]
    same, off = rows["P1_visit1", "tumour"], rows["P1_visit2", "tumour"]
    assert [float(same[n]) for n in ("dice", "surface_dice", "hd95_mm", "assd_mm")] == [1, 1, 0, 0]
    # five of six layers in common; the faces across the shift are 3 mm off, beyond 2 mm
    assert float(off["dice"]) == pytest.approx(10 / 12, abs=1e-5)
    assert float(off["hd95_mm"]) == pytest.approx(3.0)
    assert 0.5 < float(off["surface_dice"]) < 0.9
    assert float(off["reference_volume_mm3"]) == 216 * 36
    assert float(off["volume_error"]) == 0
    missed, invented = rows["P2", "tumour"], rows["P3", "tumour"]
    for row in (missed, invented):
        assert (row["dice"], row["surface_dice"], row["hd95_mm"]) == ("0", "0", "")
    assert (missed["volume_error"], invented["volume_error"]) == ("-1", "")
    assert rows["P4", "tumour"]["dice"] == ""
    tumour, node = content["labels"]["tumour"], content["labels"]["node"]
    assert [tumour[n] for n in ("cases", "absent", "missed", "invented")] == [5, 1, 1, 1]
    assert tumour["dice"]["mean"] == pytest.approx((1 + 10 / 12) / 4)
    assert (tumour["dice"]["cases"], tumour["hd95_mm"]["cases"]) == (4, 2)
    assert tumour["hd95_mm"]["mean"] == pytest.approx(1.5)
    assert tumour["hd95_mm"]["low"] is None  # both distances are of one patient
    assert (node["absent"], node["invented"], node["hd95_mm"]["mean"]) == (4, 1, None)
    assert (content["cases"], content["patients"], content["tolerance_mm"]) == (5, 4, 2.0)
    # two of three drawn boxes are predicted, with 6 and 5 of 6 layers; one is invented
    assert tumour["aggregated_dice"]["mean"] == pytest.approx(2 * 11 / (12 + 12 + 6 + 6))
    assert float(missed["false_negative_volume_mm3"]) == 216 * 36
    assert invented["false_negative_volume_mm3"] == ""
    assert tumour["false_positive_volume_mm3"]["mean"] == pytest.approx(216 * 36 / 5)
    assert "Where only one of them holds it" in content["rule"]
    printed = capsys.readouterr().out
    assert "5 (1 absent, 1 missed, 1 invented)" in printed
    assert "0.458" in printed


def test_intervals_are_those_of_resampled_patients(folders, tmp_path):
    _, content = scored(folders, tmp_path / "out")
    found = content["labels"]["tumour"]["dice"]
    # all 27 equally likely draws of P1 (1 and 10/12), P2 (0) and P3 (0)
    sums, counts = {"1": 1 + 10 / 12, "2": 0, "3": 0}, {"1": 2, "2": 1, "3": 1}
    means = [
        sum(sums[p] for p in draw) / sum(counts[p] for p in draw)
        for draw in (f"{n}{m}{k}" for n in "123" for m in "123" for k in "123")
    ]
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert found["low"] == pytest.approx(low, abs=1e-6)
    assert found["high"] == pytest.approx(high, abs=1e-6)


def test_tolerance_and_seed_are_kept(folders, tmp_path):
    rows, content = scored(folders, tmp_path / "out", "--tolerance-mm", "3", "--seed", "4")
    assert float(rows["P1_visit2", "tumour"]["surface_dice"]) == 1
    assert (content["tolerance_mm"], content["seed"]) == (3.0, 4)


def test_labels_without_names_are_numbered(folders, tmp_path):
    (folders[1] / "dataset.json").unlink()
    rows, _ = scored(folders, tmp_path / "out")
    assert {label for _, label in rows} == {"1", "2"}


def test_references_may_be_left_out_when_asked(folders, tmp_path, capsys):
    (folders[0] / "P2.nii.gz").unlink()
    out = tmp_path / "out"
    sentence = refused(capsys, *folders, "--out", out)
    assert "1 cases (P2) have no label map in" in sentence
    assert "leave them out with --partial" in sentence
    rows, _ = scored(folders, out, "--partial")
    assert "P2" not in {case for case, _ in rows}
    save(folders[0] / "P9.nii.gz", box(5))
    assert "1 cases (P9) have no label map" in refused(capsys, *folders, "--out", out, "--partial")


def test_pictures_are_compared_by_their_outlines(tmp_path):
    for name, first in (("ours", 6), ("theirs", 5)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "x.npz", box(first)[:, :, 5])
    folders = tmp_path / "ours", tmp_path / "theirs"
    rows, content = scored(folders, tmp_path / "out", "--tolerance-px", "0.5")
    row = rows["x", "1"]
    assert float(row["hd95_px"]) == 1
    assert float(row["reference_volume_px3"]) == 36
    assert 0.4 < float(row["surface_dice"]) < 0.9
    assert content["tolerance_px"] == 0.5
    assert "_mm" not in (tmp_path / "out" / "scores.json").read_text()
    assert math.isclose(float(row["dice"]), 10 / 12, abs_tol=1e-5)


def test_what_cannot_be_compared_is_refused(folders, tmp_path, capsys):
    ours, data = folders
    out = tmp_path / "a" / "out"

    def refuse(words, *options, where=folders):
        before = sorted(tmp_path.rglob("*"))
        assert words in refused(capsys, *where, "--out", out, *options)
        assert sorted(tmp_path.rglob("*")) == before

    refuse("there are no label maps CASE.nii.gz", where=(tmp_path / "nothing", data))
    for tolerance in ("0", "-1", "nan", "inf"):
        refuse("must be a positive length", "--tolerance-mm", tolerance)
    refuse("so --tolerance-px means nothing; use --tolerance-mm", "--tolerance-px", "1")
    refuse("--seed -1", "--seed", "-1")
    shifted = AFFINE.copy()
    shifted[0, 3] = 1.5
    path = save(ours / "P2.nii.gz", box(5), shifted)
    refuse("P2.nii.gz: its grid")
    save(path, 3 * box(5))
    refuse("P2.nii.gz: the label 3 is not among the 2 of dataset.json (tumour, node)")
    save(path, box(5) * 0.5)
    refuse("P2.nii.gz: the labels hold fractions (0.5)")
    save(path, box(5) * -1.0)
    refuse("P2.nii.gz: the labels are below 0 somewhere")
    path.write_bytes(b"damaged")
    refuse("P2.nii.gz: this is not a readable NIfTI file")
    save(path, box(5))
    save(ours / "P2.nii", box(5))
    refuse("there are several label maps of P2; keep one of a case")
    (ours / "P2.nii").unlink()
    (tmp_path / "file").touch()
    sentence = refused(capsys, *folders, "--out", tmp_path / "file")
    assert "is a file, so no folder can be made there" in sentence


@pytest.mark.parametrize("declared", [True, False])
def test_masks_of_0_and_255_mean_1_where_nothing_else_can(folders, tmp_path, declared, capsys):
    ours, data = folders
    for path in (ours / "P3.nii.gz", data / "labelsTr" / "P3.nii.gz"):
        path.unlink()  # the one with a second label
    if declared:
        card = json.loads((data / "dataset.json").read_text())
        card |= {"labels": {"background": 0, "tumour": 1}, "numTraining": 4}
        (data / "dataset.json").write_text(json.dumps(card))
    else:
        (data / "dataset.json").unlink()
    plain, _ = scored(folders, tmp_path / "plain")
    save(ours / "P1_visit2.nii.gz", 255 * box(6))
    save(data / "labelsTr" / "P2.nii.gz", 255 * box(5))
    assert scored(folders, tmp_path / "white")[0] == plain
    both = 255 * box(6)
    both[0, 0, 0] = 1
    save(ours / "P1_visit2.nii.gz", both)
    sentence = refused(capsys, *folders, "--out", tmp_path / "both")
    assert "P1_visit2.nii.gz: the label map holds both 1 and 255" in sentence


def test_255_among_several_labels_is_a_label(folders, tmp_path, capsys):
    """It is not taken for 1, whether labels are declared or known by their numbers alone."""
    ours, data = folders
    save(ours / "P1_visit1.nii.gz", 255 * box(5))
    sentence = refused(capsys, *folders, "--out", tmp_path / "a")
    assert "the label 255 is not among the 2 of dataset.json (tumour, node)" in sentence
    (data / "dataset.json").unlink()
    rows, _ = scored(folders, tmp_path / "b")
    assert float(rows["P1_visit1", "1"]["dice"]) == 0
    assert float(rows["P1_visit1", "255"]["dice"]) == 0
