"""Does a lesion in space go through the command line to its files, or else to one sentence?"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case
from aistat_jax.cli import main
from tests.ends import inputs
from tests.helpers import horseshoe_depth, make_volume
from tests.test_case import balls

POINT = "63,61,40"
SLICED = {"aistat.json", "contours.csv", "contours.geojson", "figure.png", "posterior.nc",
          "probability.nii.gz", "report.html", "summary.json"}  # fmt: skip
SURFACES = {f"surface{part}.gii" for part in (".surf", ".shape", ".lower.surf", ".upper.surf")}


@pytest.fixture
def pet(tmp_path, monkeypatch):
    """A PET of an ellipsoid; fits are balls."""
    monkeypatch.setattr(case, "_fit", balls)
    channel = make_volume().primary
    path = tmp_path / "pet.nii.gz"
    nib.save(nib.Nifti1Image(channel.values.astype(np.float32), channel.grid.affine), path)
    return path


def contour(path, *options: str, at: str = POINT) -> int:
    out = path.parent / "out"
    where = [f"--point={at}", "--draws", "100", "--out", str(out)]
    return main(["contour", str(path), *where, *options])


def held(path) -> set[str]:
    return {each.name for each in (path.parent / "out").iterdir()}


def test_a_surface_has_every_file_and_slices_remove_what_is_its_own(pet, capsys):
    mask = make_volume().primary.values > 3.5
    nib.save(
        nib.Nifti1Image(mask.astype(np.uint8), make_volume().primary.grid.affine),
        pet.parent / "mask.nii.gz",
    )
    reference = str(pet.parent / "mask.nii.gz")
    assert contour(pet, "--dims", "3", "--reference", reference) == 0
    printed = capsys.readouterr().out
    assert held(pet) == SLICED | SURFACES
    (line,) = [line for line in printed.splitlines() if line.startswith("target ")]
    summary = json.loads((pet.parent / "out" / "summary.json").read_text())
    (target,) = summary["targets"]
    assert f"volume {target['size']['q500'] / 1000:.2f} ml (" in line
    assert "95% band ± " in line
    assert "against the reference (volume): Dice 0.8" in printed
    assert "of 1 surface" in printed
    assert "  surface.surf.gii" in printed
    assert "chosen" not in summary
    (whole,) = aj.load_posterior(pet.parent / "out" / "posterior.nc")
    assert whole.chart.dims == 3
    assert contour(pet) == 0  # slices, where nobody says
    assert held(pet) == SLICED


def test_what_is_chosen_is_said_and_kept(pet, capsys):
    assert contour(pet, "--dims", "auto") == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("contoured as a surface (--dims 3): ")
    summary = json.loads((pet.parent / "out" / "summary.json").read_text())
    assert summary["chosen"] == {"dims": 3, "reason": said.split(": ", 1)[1]}
    assert "contoured as a surface" in (pet.parent / "out" / "report.html").read_text()
    assert contour(pet, "--dims", "auto", "--chart", "auto", "--slices", "10") == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == "contoured slice by slice (--dims 2): slices were chosen"
    assert second == "z010: star: straight rays from one centre reach at least 95% of it"
    assert contour(pet, "--dims", "2") == 0
    assert "contoured" not in capsys.readouterr().out


def test_the_kind_of_boundary_that_is_chosen_is_said_and_kept(pet, capsys):
    path = pet.parent / "slice.npz"
    depth = horseshoe_depth(np.moveaxis(np.indices((64, 64)), 0, -1), (32.0, 30.0), 19.0, 6.0)
    np.savez(path, 1.0 + 3.0 * (depth > 0))
    start = ",".join(str(part) for part in np.argwhere(depth > 4)[0])
    where = "--threshold", "2.5"
    assert contour(path, *where, "--chart", "auto", at=start) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said == "z000: offset from its outline: straight rays from one centre reach 58% of it"
    summary = json.loads((pet.parent / "out" / "summary.json").read_text())
    assert summary["targets"][0]["chart"] == "offset"
    (chosen,) = summary["chosen"]["charts"]
    assert chosen == {"id": "z000", "chart": "offset", "reason": said.split(": ", 2)[2]}
    assert said in (pet.parent / "out" / "report.html").read_text()
    assert contour(path, *where, "--chart", "offset", at=start) == 0
    assert "outline:" not in capsys.readouterr().out  # it was asked for
    summary = json.loads((pet.parent / "out" / "summary.json").read_text())
    assert "chosen" not in summary
    assert summary["targets"][0]["chart"] == "offset"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--chart", "round"], "--chart round is not understood; write star, offset or auto"),
        (
            ["--chart", "offset", "--net", "lesion-pet-2d"],
            "--net reads radii from a centre; drop --chart, or --net",
        ),
        (["--dims", "4"], "--dims 4 is not understood; write 2, 3 or auto"),
        (
            ["--dims", "3", "--slices", "10"],
            "contours a lesion as a whole; drop --slices, or --dims",
        ),
        (["--dims", "3", "--net", "lesion-pet-2d"], "slice by slice; drop --dims, or --net"),
    ],
)
def test_what_does_not_go_together_is_refused(pet, capsys, options, sentence):
    assert contour(pet, *options) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert not (pet.parent / "out").exists()


def test_a_lesion_cut_by_the_border_is_refused_in_space_and_goes_in_slices(pet, capsys):
    path, point = inputs(pet.parent / "cut")
    assert contour(path, "--dims", "3", at=point) == 2
    err = capsys.readouterr().err
    assert "the image ends in slice 0, in the middle of the lesion" in err
    assert "contour it slice by slice (--dims 2)" in err
    assert not (path.parent / "out").exists()


def test_one_slice_of_pixels_has_no_surface(pet, capsys):
    path = pet.parent / "slice.npz"
    np.savez(path, make_volume("px").primary.values[:, :, 10])
    assert contour(path, "--dims", "3", at="31,30") == 2
    assert "an image of one slice does not show the surface of a lesion" in capsys.readouterr().err
    assert not (pet.parent / "out").exists()
    assert contour(path, "--dims", "auto", at="31,30") == 0
    assert "slice by slice (--dims 2): an image of one slice" in capsys.readouterr().out
