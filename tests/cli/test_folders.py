"""Where do results go, by default and where told, so that no other input's are lost?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aistat_jax import case
from aistat_jax.cli import main
from aistat_jax.cli.options import names_of, stem_of
from aistat_jax.nets.weights import save_net, untrained
from aistat_jax.views import outputs
from tests.cli import scans
from tests.cli.datasets import ball, save, write_balls
from tests.ends import inputs
from tests.nets.cases import tiny_plan


def brief(folder: Path, case, **options) -> list[str]:
    """Stands in for all the files of a case."""
    summary = {"title": case.title, "inputs": case.inputs, "seed": case.settings.seed}
    (folder / "summary.json").write_text(json.dumps(summary))
    ending = "nii.gz" if case.image.unit == "mm" else "npz"
    (folder / f"probability.{ending}").write_text("")
    return ["summary.json", f"probability.{ending}"]


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """A PET and a point in it; fits are circles and files are few, in a folder of one's own."""
    monkeypatch.setattr(case, "_fit", scans.circles)
    monkeypatch.setattr(outputs, "write_files", brief)
    monkeypatch.chdir(tmp_path)
    path, point = inputs(tmp_path / "data")

    def contour(name: str, *options: str, status: int = 0, at: str = point) -> dict[str, str]:
        """The folders below aistat-out and out after a run, with the seeds of what they hold."""
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".nii.gz", ".nii")):
            shutil.copy(path, name)
        else:
            image = scans.pet_ct_phantom(3, shape=(30, 28), spacing_mm=(4.0, 4.0)).image
            np.savez(name, image["PT"].values[:, :, 0])
        where = ["--point", at, "--slices", "point", "--draws", "100"]
        assert main(["contour", name, *where, *options]) == status
        found = [path for top in ("aistat-out", "out") for path in Path(top).rglob("summary.json")]
        names = [path.parent.as_posix().removeprefix("aistat-out/") for path in found]
        return dict(zip(names, (json.loads(p.read_text())["seed"] for p in found), strict=True))

    return contour, point


def test_two_inputs_of_one_name_have_folders_of_their_own(scan, capsys):
    contour, _ = scan
    assert contour("A/pet.nii.gz", "--seed", "1") == {"pet": 1}
    assert contour("B/pet.nii.gz", "--seed", "2") == {"pet": 1, "pet-2": 2}
    told = "aistat-out/pet: the folder holds results of another pet.nii.gz, so these results have"
    assert told in capsys.readouterr().out
    assert contour("A/pet.nii.gz", "--seed", "3") == {"pet": 3, "pet-2": 2}
    assert contour("B/pet.nii.gz", "--seed", "4") == {"pet": 3, "pet-2": 4}
    assert not [path for path in Path().rglob(".*")]


def test_another_place_in_one_image_has_a_folder_of_its_own(scan):
    contour, point = scan
    elsewhere = ",".join(f"{float(x) + 2:g}" for x in point.split(","))
    contour("pet.nii.gz", "--seed", "1")
    assert contour("pet.nii.gz", "--seed", "2", at=elsewhere) == {"pet": 1, "pet-2": 2}
    assert contour("pet.nii.gz", "--seed", "3") == {"pet": 3, "pet-2": 2}
    contour(
        "pet.nii.gz", "--out", "out/x", "--seed", "4"
    )  # where told, it is the image that counts
    assert contour("pet.nii.gz", "--out", "out/x", "--seed", "5", at=elsewhere)["out/x"] == 5


def test_a_folder_named_by_hand_is_refused_to_another_input(scan, capsys):
    contour, _ = scan
    contour("A/pet.nii.gz", "--out", "out/x", "--seed", "1")
    assert contour("B/pet.nii.gz", "--out", "out/x", "--seed", "2", status=2) == {"out/x": 1}
    wanted = (
        "out/x: the folder holds results of another pet.nii.gz; choose another folder with --out"
    )
    assert capsys.readouterr().err == f"aistat: {wanted}\n"
    assert contour("A/pet.nii.gz", "--out", "out/x", "--seed", "3") == {"out/x": 3}


def test_dots_endings_and_hidden_files(scan):
    contour, _ = scan
    names = ("1.2.3.45.nii.gz", "1.2.3.46.nii.gz", "slice.npz", "slice.nii.gz", ".nii.gz", ".a.nii")
    for seed, name in enumerate(names):
        options = ["--seed", str(seed)]
        found = contour(name, *options, at="15,14" if name.endswith("npz") else scan[1])
    assert found == {"1.2.3.45": 0, "1.2.3.46": 1, "slice": 2, "slice-2": 3, "image": 4, "a": 5}
    held = {path.name for path in Path("aistat-out/slice-2").iterdir()}
    assert held == {"aistat.json", "summary.json", "probability.nii.gz"}


def test_names_for_people():
    assert [stem_of(Path(n)) for n in ("x/a.b.nii", "A.NII.GZ", "c", "...png")] == [
        "a.b", "A", "c", "image"
    ]  # fmt: skip
    assert names_of([Path("/secret/pet.nii.gz"), Path("ct.nii.gz")]) == ("pet.nii.gz", "ct.nii.gz")
    assert names_of([Path("/s/PT/a.nii"), Path("/s/CT/a.nii")]) == ("PT/a.nii", "CT/a.nii")
    assert names_of([Path("ren\udce9.nii")]) == (r"ren\xe9.nii",)


def test_a_report_names_files_and_no_folders(scan, tmp_path):
    contour, _ = scan
    contour("secret/pet.nii.gz")
    held = "".join(p.read_text() for p in Path("aistat-out/pet").iterdir() if p.stat().st_size)
    assert "pet.nii.gz" in held
    assert "secret" not in held
    assert str(tmp_path) not in held


def test_cases_of_one_name_are_not_predicted_over_each_other(tmp_path, capsys):
    plan = tiny_plan(widths=(2, 4), classes=3, spacing_mm=(3.0, 3.0, 4.0))
    net = save_net(untrained(plan, 1), tmp_path / "net")
    for seed, folder in enumerate("AB"):
        save(tmp_path / folder / "pet.nii.gz", ball(seed)[0])
    save(tmp_path / "B" / "other.nii.gz", ball(2)[0])
    out = tmp_path / "out"

    def predict(image: str, folder: Path = net) -> int:
        arguments = ["--image", f"PT={tmp_path / image}", "--no-mirror", "--out", str(out)]
        return main(["predict", str(folder), *arguments])

    def labels() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (out / "labels").iterdir()}

    assert predict("A/pet.nii.gz") == 0
    before = labels()
    assert predict("B/pet.nii.gz") == 2
    assert "out: the folder holds results of another pet.nii.gz" in capsys.readouterr().err
    assert labels() == before
    assert predict("B/other.nii.gz") == 0
    card = json.loads((out / "prediction.json").read_text())
    assert (card["cases"], [one["cases"] for one in card["earlier"]]) == (["other"], [["pet"]])
    # the same input by a network with fewer labels: none of the other's are left
    assert len(list((out / "spread").glob("pet_*"))) == 2
    small = save_net(
        untrained(tiny_plan(widths=(2, 4), spacing_mm=(3.0, 3.0, 4.0))), tmp_path / "s"
    )
    assert predict("A/pet.nii.gz", small) == 0
    assert [path.name for path in (out / "spread").glob("pet_*")] == ["pet_lesion.nii.gz"]
    assert len(labels()) == 2


def test_scores_of_other_folders_are_not_overwritten(tmp_path, capsys):
    data = write_balls(tmp_path / "balls") / "labelsTr"
    other = shutil.copytree(data, tmp_path / "other")
    out = str(tmp_path / "out")
    assert main(["evaluate", str(data), str(data), "--out", out]) == 0
    assert main(["evaluate", str(other), str(data), "--out", out]) == 2
    assert "holds results of labelsTr against labelsTr" not in capsys.readouterr().out
    assert main(["evaluate", str(data), str(data), "--out", out, "--seed", "1"]) == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["seed"] == 1
