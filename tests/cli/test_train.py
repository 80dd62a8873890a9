"""Does `aistat train` make a network, survive being killed, and refuse what it cannot use?"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from aistat_jax import training
from aistat_jax.cli import main
from aistat_jax.io.nnunet import read_dataset, read_image_of
from aistat_jax.nets import train as steps
from aistat_jax.nets.predict import predict
from aistat_jax.nets.weights import load_net
from tests.cli.datasets import PATIENTS, QUICK, write_balls

NAMES = {
    "fingerprint.json", "plan.json", "run.json", "fold-0", "fold-1", "net", "curve.csv",
    "curves.png", "scores.csv", "scores.json", "report.html", "aistat.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    return write_balls(tmp_path_factory.mktemp("data") / "Dataset001_Balls")


@pytest.fixture(scope="module")
def run(balls, tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "new" / "run"
    assert main(["train", str(balls), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def refused(capsys, *arguments):
    """Status 2 and one sentence, which is returned."""
    capsys.readouterr()
    status = main(["train", *map(str, arguments)])
    printed = capsys.readouterr()
    assert status == 2, printed.err
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("aistat: ")
    return lines[0]


# ---- what comes out


def test_a_run_leaves_a_network_its_scores_and_a_report(run):
    assert {p.name for p in run.iterdir()} == NAMES
    net = load_net(run / "net")
    assert (net.plan.name, len(net.members), net.plan.folds) == ("Balls-2d", 2, 2)
    card = net.card
    assert card["data"] | {"licence": ""} == {
        "name": "Balls", "cases": 5, "patients": 4, "cases without labels": 1,
        "channels": {"PT": "SUV"}, "labels": ["background", "tumour"], "licence": "",
    }  # fmt: skip
    assert card["command"].startswith("aistat train ")
    assert "--base-width 4" in card["command"]
    assert card["scores"]["labels"] == json.loads((run / "scores.json").read_text())["labels"]
    curve = table(run / "curve.csv")
    assert [(row["fold"], row["step"]) for row in curve] == [
        (f"{fold}", f"{step}") for fold in (0, 1) for step in range(1, 7)
    ]
    assert [bool(row["pseudo_dice_tumour"]) for row in curve] == [False, True] * 6
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (run / "report.html").read_text()
    assert "Held-out cases of 2 of 2 folds" in page
    assert all(case in page for case in PATIENTS)


def test_a_patient_stays_in_one_fold(run):
    held_out = json.loads((run / "run.json").read_text())["held out"]
    assert sorted(case for fold in held_out for case in fold) == sorted(PATIENTS)
    assert [sum(case.startswith("P1_") for case in fold) for fold in held_out] in ([2, 0], [0, 2])


def test_scores_are_of_whole_volumes_that_the_network_never_saw(run, balls):
    rows = {row["case"]: row for row in table(run / "scores.csv")}
    assert set(rows) == set(PATIENTS)
    assert rows["P1_visit2"]["patient"] == "P1"
    held_out = json.loads((run / "run.json").read_text())["held out"]
    dataset = read_dataset(balls)
    for case in ("P1_visit2", "P3"):
        truth = np.asarray(nib.load(balls / "labelsTr" / f"{case}.nii.gz").dataobj) > 0
        image = read_image_of(dataset, case)
        own = next(n for n, fold in enumerate(held_out) if case in fold)
        dice = {}
        for fold in (0, 1):
            found = predict(load_net(run / f"fold-{fold}" / "net"), image)
            inside = found.log_odds[..., 0] > 0
            dice[fold] = 2 * (inside & truth).sum() / (inside.sum() + truth.sum())
        assert float(rows[case]["dice"]) == pytest.approx(dice[own], abs=1e-5)
        # negative control: the other fold's network has another score
        assert abs(dice[0] - dice[1]) > 1e-3


def test_a_run_that_is_done_is_not_done_again(copy, balls, monkeypatch, capsys):
    before = contents(copy)

    def never(*_args):
        raise AssertionError("scored again")

    monkeypatch.setattr(training, "score_cases", never)
    assert main(["train", str(balls), "--out", str(copy), *QUICK]) == 0
    assert "2 of 2 folds are done" in capsys.readouterr().out
    after = contents(copy)
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"card.json", "report.html"}  # they name the command, and so its folder
    assert before.keys() == after.keys()


def test_folds_are_trained_one_by_one_and_joined(copy, balls, capsys):
    shutil.rmtree(copy / "fold-0")
    shutil.rmtree(copy / "net")
    whole = (copy / "curve.csv").read_text()
    assert main(["train", str(balls), "--out", str(copy), *QUICK, "--fold", "1"]) == 0
    assert "1 of 2 folds are done" in capsys.readouterr().out
    net = load_net(copy / "net")
    assert (len(net.members), net.card["members"]) == (1, ["fold 1 of 2"])
    assert not (copy / "fold-0").exists()
    assert main(["train", str(balls), "--out", str(copy), *QUICK, "--fold", "0"]) == 0
    assert len(load_net(copy / "net").members) == 2
    assert (copy / "curve.csv").read_text() == whole


def test_damaged_results_are_scored_again(copy, balls):
    whole = (copy / "fold-0" / "result.json").read_text()
    for damaged in (whole[:50], whole.replace('"weights": "', '"weights": "0'), "[]"):
        (copy / "fold-0" / "result.json").write_text(damaged)
        assert main(["train", str(balls), "--out", str(copy), *QUICK, "--fold", "0"]) == 0
        assert (copy / "fold-0" / "result.json").read_text() == whole


# ---- cut short


def test_killed_hard_the_same_command_goes_on_to_the_same_end(run, balls, tmp_path):
    out = tmp_path / "killed"
    arguments = ["train", str(balls), "--out", str(out), *QUICK]
    code = f"""
import os, signal
from aistat_jax.cli import main
from aistat_jax.nets import train
save = train.save_checkpoint
def die(path, state, curve, run):
    save(path, state, curve, run)
    if "fold-1" in str(path) and len(curve) == 4: os.kill(os.getpid(), signal.SIGKILL)
train.save_checkpoint = die
main({arguments!r})
"""
    environment = {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": os.getcwd()} | environment,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "fold-1" / "result.json").exists()
    assert len(load_net(out / "net").members) == 1
    assert main(arguments) == 0
    assert (out / "curve.csv").read_text() == (run / "curve.csv").read_text()
    for n in (0, 1):
        name = f"member-{n}.safetensors"
        assert (out / "net" / name).read_bytes() == (run / "net" / name).read_bytes()
    assert (out / "scores.csv").read_text() == (run / "scores.csv").read_text()


def test_stopped_and_out_of_memory_checkpoints_are_kept(run, balls, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    arguments = ["train", str(balls), "--out", str(out), *QUICK]
    save = steps.save_checkpoint

    def fail_at(step, error):
        def saved(path, state, curve, of):
            if len(curve) == step:
                raise error
            save(path, state, curve, of)

        monkeypatch.setattr(steps, "save_checkpoint", saved)

    fail_at(4, KeyboardInterrupt())
    assert main(arguments) == 130
    assert f"stopped; the checkpoints in {out} are kept" in capsys.readouterr().err
    kept = (out / "fold-0" / "checkpoint.safetensors").read_bytes()
    for error in (
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes."),
        MemoryError(),
    ):
        fail_at(4, error)
        sentence = refused(capsys, *arguments[1:])  # 2: nothing new was written
        assert "not enough memory" in sentence
        assert "lower --memory-gib (now 0.003) or --base-width (now 4)" in sentence
        assert (out / "fold-0" / "checkpoint.safetensors").read_bytes() == kept
    fail_at(4, OSError(28, "No space left on device"))
    assert main(arguments) == 1
    assert "no space left on device; the checkpoints in" in capsys.readouterr().err
    # any other error is a fault of the program and keeps its traceback
    fail_at(4, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        main(arguments)
    monkeypatch.setattr(steps, "save_checkpoint", save)
    assert main(arguments) == 0
    assert (out / "curve.csv").read_text() == (run / "curve.csv").read_text()


# ---- refusals


def test_a_run_of_another_kind_is_refused_and_left_alone(run, balls, tmp_path, capsys):
    before = contents(run)
    other = write_balls(tmp_path / "other", PATIENTS[:4])
    renamed = write_balls(tmp_path / "renamed", name="Cubes")
    for dataset, options, words in [
        (balls, ["--steps", "8"], "the run there has other settings (steps was 6 and is 8"),
        (balls, ["--dims", "3"], "dims was 2 and is 3"),
        (balls, ["--base-width", "3"], "widths was [4, 8, 16] and is [3, 6, 12]"),
        (balls, ["--folds", "3"], "folds was 2 and is 3"),
        (balls, ["--seed", "1"], "seed was 0 and is 1"),
        (balls, ["--dropout", "0.2"], "dropout was 0.0 and is 0.2"),
        (
            balls,
            ["--no-resume"],
            "an earlier run is there; resume it, or choose another folder with --out",
        ),
        (
            other,
            [],
            "of another dataset (cases differ: 5 and 4 cases); choose another folder with --out",
        ),
        (
            renamed,
            [],
            "of another dataset (name differ: Balls and Cubes); choose another folder with --out",
        ),
    ]:
        assert words in refused(capsys, dataset, "--out", run, *QUICK, *options)
    assert contents(run) == before


def test_other_labels_under_an_old_checkpoint_are_refused(copy, tmp_path, capsys):
    other = write_balls(tmp_path / "other")
    label = other / "labelsTr" / "P3.nii.gz"
    shutil.copy(other / "labelsTr" / "P4.nii.gz", label)
    before = contents(copy)
    assert "of another run (the " in refused(capsys, other, "--out", copy, *QUICK)
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fold", "2"], "there is no fold 2 among 2; choose 0 to 1, or all"),
        (["--fold", "first"], "--fold first is neither all nor a number"),
        (["--folds", "5"], "4 patients cannot be split into 5 folds"),
        (["--folds", "1"], "4 patients cannot be split into 1 folds"),
        (["--dims", "4"], "--dims is 2 or 3"),
        (["--slices", "2"], "--slices odd"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--learning-rate", "0"], "learning_rate must be positive"),
        (["--every", "0"], "validate_every must be at least 1"),
        (["--block", "dense"], "unknown block 'dense'; use one of plain, residual"),
        (["--arch", "vgg"], "unknown --arch 'vgg'; use one of unet, resenc"),
        (["--arch", "ukan", "--dims", "3"], "the --arch ukan exists in 2D alone"),
        (["--arch", "resenc", "--arch-option", "depth=3"], "resenc has no option 'depth'"),
        (["--arch", "resenc", "--arch-option", "blocks"], "blocks is not NAME=VALUE"),
        (["--arch-option", "windows=[3]"], "windows of the --arch unet must be tuple[tuple[int"),
        (["--dropout", "1"], "dropout must be from 0 to below 1"),
        (["--memory-gib", "0.00001"], "raise it or lower --base-width"),
        (["--seed", "-1"], "--seed -1 must be 0 or a positive"),
        (["--steps", "many"], "should be a valid integer"),
    ],
)
def test_options_that_make_no_training_are_refused(balls, tmp_path, capsys, options, words):
    assert words in refused(capsys, balls, "--out", tmp_path / "a" / "b", *QUICK, *options)
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_network_is_planned(balls, tmp_path):
    """With options as the command line reads them, and in the words of a report."""
    from aistat_jax.cli.learning import _options
    from aistat_jax.nets.train import TrainSettings
    from aistat_jax.views.training import describe_run

    assert _options(["a=[[1,2],[3]]", "b=x", "c=true"]) == (
        ("a", ((1, 2), (3,))), ("b", "x"), ("c", True)
    )  # fmt: skip
    options = _options(["stem=6"])
    sizing = training.Sizing(base_width=4, memory_gib=0.003, backbone="resenc", options=options)
    run = training.ready(balls, tmp_path / "run", sizing, TrainSettings(steps=2, warmup=0))
    assert (run.plan.name, run.plan.architecture.options) == ("Balls-2d-resenc", options)
    said = dict(describe_run(run))
    assert said["Network"].startswith("2D residual-encoder U-Net, widths 4, 8")
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_used_are_refused(tmp_path, capsys):
    def refuse(dataset, words, *options):
        before = contents(tmp_path)
        assert words in refused(capsys, dataset, "--out", tmp_path / "out", *QUICK, *options)
        assert contents(tmp_path) == before
        assert not (tmp_path / "out").exists()

    refuse(tmp_path / "nothing", "there is no such folder")
    refuse(write_balls(tmp_path / "single", ("P3",)), "1 case is too few")
    empty = write_balls(tmp_path / "empty", ("P1_visit1", "P3"))
    shutil.copy(empty / "labelsTr" / "P1_visit1.nii.gz", empty / "labelsTr" / "P3.nii.gz")
    refuse(empty, "all 2 label maps are empty")
    one_sided = write_balls(tmp_path / "one-sided", ("P1_visit1", "P3"))
    refuse(one_sided, "learns from has any foreground; label more cases")
    missing = write_balls(tmp_path / "missing", channel_names={"0": "PT", "1": "CT"})
    refuse(missing, "case P1_visit1 has the channels 0000 and must have 0000 to 0001")
    damaged = write_balls(tmp_path / "damaged")
    image = damaged / "imagesTr" / "P2_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:200])
    refuse(damaged, "P2_0000.nii.gz")
    (tmp_path / "file").touch()
    sentence = refused(capsys, damaged, "--out", tmp_path / "file" / "run", *QUICK)
    assert "is a file, so no folder can be made there" in sentence
