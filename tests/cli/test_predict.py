"""Does `aistat predict` write what the network says, where the image is, and refuse the rest?"""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from aistat_jax.cli import main
from aistat_jax.io.nifti import read_image
from aistat_jax.nets import predict as module
from aistat_jax.nets.predict import LARGEST_ODDS, Prediction, label_map, predict
from aistat_jax.nets.weights import Net, save_net, untrained
from aistat_jax.space.grid import Grid
from tests.cli.datasets import AFFINE, SHAPE, ball, save, write_balls
from tests.nets.cases import tiny_plan

LPS = np.array([[-3.0, 0, 0, 69], [0, -3, 0, 57], [0, 0, 4, 0], [0, 0, 0, 1]])
PLAN = tiny_plan(widths=(2, 4), classes=3, dropout=0.3, spacing_mm=(3.0, 3.0, 4.0))


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """The folder of an ensemble of two untrained networks of a lesion and an organ."""
    members = [untrained(PLAN, seed).members[0] for seed in (1, 2)]
    return save_net(Net(PLAN, tuple(members), {}), tmp_path_factory.mktemp("nets") / "net")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """One PET stored with its first two axes reversed."""
    return save(tmp_path_factory.mktemp("scan") / "pet.nii.gz", ball(0)[0][::-1, ::-1], LPS)


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def stored(path):
    return np.asarray(nib.load(path).dataobj)


def refused(capsys, *arguments):
    capsys.readouterr()
    status = main(["predict", *map(str, arguments)])
    printed = capsys.readouterr()
    assert status == 2, printed.err
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    return lines[0]


def test_one_case_on_its_own_grid(net, scan, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert main(["predict", str(net), "--out", str(out), "--image", f"PT={scan}"]) == 0
    each = [f"{what}/pet_{label}.nii.gz" for what in ("log_odds", "spread")
            for label in ("lesion", "organ")]  # fmt: skip
    assert files(out) == sorted([*each, "aistat.json", "labels/pet.nii.gz", "prediction.json"])
    found = predict(Net(PLAN, load(net).members), read_image(PT=scan))
    for n, label in enumerate(("lesion", "organ")):
        for what in ("log_odds", "spread"):
            file = nib.load(out / what / f"pet_{label}.nii.gz")
            np.testing.assert_allclose(file.affine, LPS)
            values = getattr(found, what)[..., n]
            np.testing.assert_allclose(np.asarray(file.dataobj), values[::-1, ::-1], atol=1e-5)
            # negative control: the values of the canonical order are others
            assert not np.allclose(np.asarray(file.dataobj), values, atol=1e-3)
    odds = [stored(out / "log_odds" / f"pet_{label}.nii.gz") for label in ("lesion", "organ")]
    chance = 1 / (1 + np.exp(-np.array(odds)))
    wanted = np.where(1 - chance.sum(0) >= chance.max(0), 0, 1 + chance.argmax(0))
    labels = stored(out / "labels" / "pet.nii.gz")
    assert labels.dtype == np.uint8
    assert np.mean(labels == wanted) > 0.999
    assert len(np.unique(labels)) > 1
    printed = capsys.readouterr().out
    assert "pet: 24 x 20 x 4 voxels, needs about" in printed
    assert f"lesion {36.0 * (labels == 1).sum():,.0f} mm³" in printed
    about = json.loads((out / "prediction.json").read_text())
    assert about["labels"] == {"background": 0, "lesion": 1, "organ": 2}
    assert (about["members"], about["cases"]) == (2, ["pet"])


def load(folder):
    from aistat_jax.nets.weights import load_net

    return load_net(folder)


def test_the_likeliest_label_wins_and_the_background_is_what_is_left():
    chance = np.array([[0.3, 0.3], [0.45, 0.2], [0.2, 0.6], [0.1, 0.1]])
    odds = np.log(chance / (1 - chance) + 1e-12).clip(-LARGEST_ODDS, LARGEST_ODDS)
    odds = odds.astype(np.float32).reshape(4, 1, 1, 2)
    found = Prediction(odds, 0 * odds, Grid(np.eye(4), (4, 1, 1)), ("a", "b"))
    assert label_map(found).ravel().tolist() == [0, 1, 2, 0]
    odds = np.array([-1.0, 0.0, 1e-3, LARGEST_ODDS], np.float32).reshape(4, 1, 1, 1)
    alone = Prediction(odds, 0 * odds, found.grid, ("b",))
    assert label_map(alone).ravel().tolist() == [0, 0, 1, 1]


def test_mirrors_members_and_dropout_are_what_the_spread_is_over(net, scan, tmp_path):
    single = save_net(Net(PLAN, load(net).members[:1], {}), tmp_path / "single")

    def spread(folder, *options):
        out = tmp_path / "out"
        arguments = ["predict", str(folder), "--out", str(out), "--image", f"PT={scan}", *options]
        assert main(arguments) == 0
        return stored(out / "spread" / "pet_lesion.nii.gz")

    assert spread(single, "--no-mirror").max() == 0
    assert spread(single).max() > 0.01
    assert spread(net, "--no-mirror", "--overlap", "0").max() > 0.01
    first = spread(single, "--no-mirror", "--dropout-draws", "3", "--batch", "2")
    assert first.max() > 0.01
    again = spread(single, "--no-mirror", "--dropout-draws", "3", "--batch", "2")
    np.testing.assert_array_equal(first, again)
    other = spread(single, "--no-mirror", "--dropout-draws", "3", "--batch", "2", "--seed", "1")
    assert (first != other).any()


def test_a_folder_of_images_a_dataset_and_a_run(net, tmp_path, monkeypatch, capsys):
    balls = write_balls(tmp_path / "balls")
    run = tmp_path / "run"
    save_net(load(net), run / "net")
    (run / "plan.json").write_text("of the run")
    out = tmp_path / "out"
    assert main(["predict", str(run), "--out", str(out), "--images", str(balls)]) == 0
    assert len(list((out / "labels").iterdir())) == 5
    # a case that cannot be read leaves the earlier ones whole and nothing of its own
    (balls / "imagesTr").rename(balls / "imagesTs")
    (balls / "imagesTs" / "P2_0000.nii.gz").write_bytes(b"damaged")
    before = sorted(p.name for p in tmp_path.iterdir())
    capsys.readouterr()
    arguments = ["predict", str(net), "--images", str(balls / "imagesTs")]
    assert main([*arguments, "--out", str(tmp_path / "cut")]) == 1  # not 2: something is written
    sentence = capsys.readouterr().err
    assert "P2_0000.nii.gz: this is not a readable NIfTI file" in sentence
    assert "2 of 5 cases are whole in" in sentence
    assert sorted(p.name for p in (tmp_path / "cut" / "labels").iterdir()) == [
        "P1_visit1.nii.gz", "P1_visit2.nii.gz",
    ]  # fmt: skip
    assert not list((tmp_path / "cut").rglob("*P2*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*before, "cut"])


def test_images_without_spacing_become_arrays(tmp_path, capsys):
    plan = replace(PLAN, unit="px", labels=("background", "cell/1", "cell 1"))
    net = save_net(untrained(plan), tmp_path / "net")
    np.savez(tmp_path / "cells.npz", ball(0)[0][:, :, 1])
    out = tmp_path / "out"
    image = f"PT={tmp_path / 'cells.npz'}"
    assert main(["predict", str(net), "--out", str(out), "--image", image]) == 0
    names = [name for name in files(out) if name.startswith(("labels", "log"))]
    assert names == [
        "labels/cells.npz",
        "log_odds/cells_1-cell-1.npz",
        "log_odds/cells_2-cell-1.npz",
    ]
    with np.load(out / "labels" / "cells.npz") as arrays:
        assert arrays["values"].shape == SHAPE[:2]
    assert "px³" in capsys.readouterr().out


def test_a_click_reaches_the_network(scan, tmp_path):
    """What a click changes is in its own plane; a point that is not wanted changes it otherwise."""
    plan = tiny_plan(widths=(2, 4), guidance=3, spacing_mm=(3.0, 3.0, 4.0))
    asked = save_net(untrained(plan, seed=1), tmp_path / "asked")
    middle = read_image(PT=scan).primary.grid.to_world(np.array(SHAPE) // 2)
    place = ",".join(f"{x:g}" for x in middle)
    found = {}
    for name, options in {
        "none": [],
        "click": [f"--click={place}"],
        "not": [f"--not-here={place}"],
    }.items():
        arguments = ["predict", str(asked), "--image", f"PT={scan}", *options]
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
        found[name] = stored(tmp_path / name / "log_odds" / "pet_lesion.nii.gz")
    assert np.abs(found["click"] - found["none"]).max() > 1e-3
    assert np.abs(found["click"] - found["not"]).max() > 1e-3
    card = json.loads((tmp_path / "click" / "prediction.json").read_text())
    assert card["click"] == [place]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "pass either --image NAME=FILE for every channel, or --images FOLDER"),
        (["--image", "PT={scan}", "--images", "."], "pass either --image"),
        (["--image", "{scan}"], "is not NAME=FILE, such as --image PT=pet.nii.gz"),
        (["--image", "PT={scan}", "--image", "PT={scan}"], "--image PT was given twice"),
        (["--image", "CT={scan}"], "needs channel PT (SUV); add --image PT=FILE"),
        (["--image", "PT={scan}", "--image", "CT={scan}"], "has no channel CT, only PT; leave"),
        (["--image", "PT=nothing.nii.gz"], "there is no such file"),
        (["--images", "nothing"], "nothing: there is no such folder"),
        (["--images", "{folder}"], "an image's name must end in its channel"),
        (["--image", "PT={scan}", "--overlap", "1"], "--overlap 1 must be from 0 to below 1"),
        (["--image", "PT={scan}", "--dropout-draws", "-1"], "--dropout-draws -1 must be"),
        (["--image", "PT={scan}", "--batch", "0"], "--batch at least 1"),
        (["--image", "PT={scan}", "--seed", "-1"], "--seed -1"),
        (["--image", "PT={scan}", "--click", "1,2,3"], "takes no points or boxes"),
        (["--image", "PT={scan}", "--click", "1,x,3"], "--click 1,x,3 is not three numbers"),
        (["--images", "{folder}", "--not-here", "1,2,3"], "points are of one case"),
    ],
)
def test_what_cannot_be_predicted_is_refused(net, scan, tmp_path, capsys, options, words):
    given = [text.format(scan=scan, folder=scan.parent) for text in options]
    assert words in refused(capsys, net, "--out", tmp_path / "a" / "b", *given)
    assert list(tmp_path.iterdir()) == []


def test_activity_in_place_of_suv_is_refused(net, tmp_path, capsys):
    pet = save(tmp_path / "bqml.nii.gz", 5200 * ball(0)[0], AFFINE)
    out = tmp_path / "out"
    sentence = refused(capsys, net, "--out", out, "--image", f"PT={pet}")
    assert f"{pet}: values from" in sentence
    assert "divide Bq/ml by" in sentence
    assert not out.exists()


def test_networks_and_datasets_that_do_not_fit_are_refused(scan, tmp_path, capsys):
    image = ("--image", f"PT={scan}")
    out = tmp_path / "out"
    assert "there is no network 'nothing'" in refused(capsys, "nothing", "--out", out, *image)
    dry = save_net(untrained(replace(PLAN, architecture=replace(PLAN.architecture, dropout=0.0))),
                   tmp_path / "dry")  # fmt: skip
    sentence = refused(capsys, dry, "--out", out, *image, "--dropout-draws", "2")
    assert "has no dropout to draw from" in sentence
    other = write_balls(tmp_path / "other", channel_names={"0": "CT"})
    sentence = refused(capsys, dry, "--out", out, "--images", other)
    assert "the channels are CT and the network takes PT; pass images of those" in sentence
    assert not out.exists()
    (tmp_path / "file").touch()
    sentence = refused(capsys, dry, "--out", tmp_path / "file", *image)
    assert "is a file, so no folder can be made there" in sentence


def test_memory_is_named_before_it_runs_out(net, scan, tmp_path, monkeypatch, capsys):
    def too_much(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(module, "one_pass", too_much)
    out = tmp_path / "out"
    assert main(["predict", str(net), "--out", str(out), "--image", f"PT={scan}"]) == 2
    printed = capsys.readouterr()
    assert "needs about" in printed.out
    assert "there is not enough memory; lower --batch, crop the image" in printed.err
    assert not out.exists()


def test_the_grid_of_the_image_is_kept_where_the_network_works_on_another(net, tmp_path):
    fine = np.diag([1.5, 1.5, 4.0, 1.0])
    values = np.repeat(np.repeat(ball(1)[0], 2, axis=0), 2, axis=1)
    path = save(tmp_path / "fine.nii.gz", values, fine)
    out = tmp_path / "out"
    assert main(["predict", str(net), "--out", str(out), "--image", f"PT={path}"]) == 0
    file = nib.load(out / "labels" / "fine.nii.gz")
    assert file.shape == values.shape
    np.testing.assert_allclose(file.affine, fine)
    assert not np.allclose(file.affine, AFFINE)
