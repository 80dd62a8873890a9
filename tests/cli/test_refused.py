"""Does `aistat contour` refuse bad input in one sentence, with nothing written?"""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest

from aistat_jax import case
from aistat_jax.cli import main
from tests.cli.scans import a_scan, circles, save


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return a_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture
def refused(scan, tmp_path, capsys):
    """Run `contour` on bad input; checks status, one sentence, nothing written; returns it."""

    def run(image, *options, point: str | None = "0,0,0", out=None):
        target = tmp_path / "new" / "out" if out is None else out
        before = sorted(tmp_path.rglob("*"))
        where = [] if point is None else ["--point", point]
        status = main(["contour", str(image), *where, *map(str, options), "--out", str(target)])
        printed = capsys.readouterr()
        assert status == 2, printed.err
        assert printed.out == ""
        lines = printed.err.strip().splitlines()
        assert len(lines) == 1, printed.err
        assert lines[0].startswith("aistat: ")
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return run


AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def pet_values(scan):
    return scan[1].image["PT"].values.copy()


def test_nan_voxels(scan, refused, tmp_path):
    values = pet_values(scan)
    values[0, 0, 0] = np.nan
    path = save(tmp_path / "nan.nii.gz", values, AFFINE)
    assert "nan.nii.gz" in (sentence := refused(path))
    assert "NaN or infinite" in sentence


def test_infinite_voxels(scan, refused, tmp_path):
    values = pet_values(scan)
    values[0, 0, 0] = np.inf
    assert "NaN or infinite" in refused(save(tmp_path / "inf.nii.gz", values, AFFINE))


def test_constant_image(refused, tmp_path):
    assert "every voxel is 1" in refused(save(tmp_path / "c.nii.gz", np.ones((9, 9, 3)), AFFINE))


def test_point_outside_the_image(scan, refused):
    assert "outside" in refused(scan[0] / "pet.nii.gz", point="0,0,500")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--outside", "0,0,500"], "outside channel"),
        (["--outside", "0,0,0", "--edge", "1"], "--edge 1 is not three numbers"),
        (["--box", "1,2,3"], "--box 1,2,3 is not two corners"),
        (["--box=-40,-40,0,40,40,0"], "has no volume"),
        (["--edge", "0,0,0", "--mask", "m.nii.gz"], "--point X,Y,Z"),
        (["--point", "0,0,0", "--radius-mm", "9"], "--radius-mm says how large"),
    ],
)
def test_what_points_and_boxes_cannot_say(scan, refused, options, words):
    sentence = refused(scan[0] / "pet.nii.gz", *options, point=scan[2])
    assert words in sentence
    assert "_mm" not in sentence


def test_point_in_air(scan, refused, tmp_path):
    values = np.pad(pet_values(scan), ((12, 0), (0, 0), (0, 0)))
    path = save(tmp_path / "air.nii.gz", values, AFFINE)
    assert "air.nii.gz" in (sentence := refused(path, point="12,40,4"))
    assert "point" in sentence


def test_empty_mask(scan, refused, tmp_path):
    path = save(tmp_path / "empty.nii.gz", np.zeros((30, 28, 3)), scan[3])
    sentence = refused(scan[0] / "pet.nii.gz", "--mask", path, point=None)
    assert "empty.nii.gz" in sentence
    assert "empty" in sentence


def test_mask_on_another_grid(scan, refused, tmp_path):
    path = save(tmp_path / "other.nii.gz", np.ones((30, 28, 3)), AFFINE)
    sentence = refused(scan[0] / "pet.nii.gz", "--mask", path, point=None)
    assert "does not match" in sentence


def test_reference_on_another_grid(scan, refused, tmp_path):
    path = save(tmp_path / "other.nii.gz", np.ones((30, 28, 3)), AFFINE)
    assert "does not match" in refused(scan[0] / "pet.nii.gz", "--reference", path, point=scan[2])


def test_four_dimensions(refused, tmp_path):
    values = np.random.default_rng(0).random((8, 8, 3, 2))
    assert "two or three dimensions" in refused(save(tmp_path / "4d.nii.gz", values, AFFINE))


def test_missing_affine(scan, refused, tmp_path):
    image = nib.Nifti1Image(pet_values(scan).astype(np.float32), None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "bare.nii.gz")
    assert "no affine" in refused(tmp_path / "bare.nii.gz")


def test_zero_spacing(scan, refused, tmp_path):
    path = save(tmp_path / "flat.nii", pet_values(scan), AFFINE)
    raw = bytearray(path.read_bytes())
    raw[280 : 280 + 16] = bytes(16)  # the first row of the sform
    path.write_bytes(raw)
    assert "spacing" in refused(path)


def test_not_nifti(refused, tmp_path):
    path = tmp_path / "notes.nii.gz"
    path.write_text("not an image")
    assert "not a readable NIfTI" in refused(path)


def test_truncated(scan, refused, tmp_path):
    whole = (scan[0] / "pet.nii.gz").read_bytes()
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut.nii.gz" in refused(path)


def test_missing_file(refused, tmp_path):
    assert "no such file" in refused(tmp_path / "none.nii.gz")


def test_out_below_a_file_is_refused_before_the_image_is_read(refused, tmp_path):
    (tmp_path / "file").write_text("x")
    sentence = refused(tmp_path / "none.nii.gz", out=tmp_path / "file" / "out")
    assert "is a file" in sentence
    assert sentence.endswith("choose another folder with --out")


@pytest.mark.skipif(os.name != "posix" or not os.path.isdir("/proc"), reason="needs /proc")
def test_unwritable_out(scan, refused):
    from pathlib import Path

    assert "cannot be written" in refused(scan[0] / "pet.nii.gz", out=Path("/proc/aistat"))


@pytest.mark.parametrize("level", ["0", "1", "1.5", "-0.1", "nan"])
def test_level_outside(scan, refused, level):
    assert "between 0 and 1" in refused(scan[0] / "pet.nii.gz", "--level", level)


def test_too_few_draws(scan, refused):
    assert "at least 100" in refused(scan[0] / "pet.nii.gz", "--draws", "99")


@pytest.mark.parametrize("text", ["1,2,x", "1 2 3", "1,2,3,4", "nan,0,0", ""])
def test_point_syntax(scan, refused, text):
    assert "--point X,Y,Z" in refused(scan[0] / "pet.nii.gz", point=text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--slices", "two"], "--slices"),
        (["--slices", "7"], "slice"),
        (["--method", "magic"], "--method"),
        (["--mask", "m.nii.gz"], "one of --point"),
        (["--tolerance-px", "1"], "--tolerance-mm"),
        (["--tolerance-mm", "0"], "positive"),
        (["--blur-mm", "-1"], "positive"),
        (["--seed", "-1"], "--seed"),
        (["--draws", "many"], "--draws"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_options(scan, refused, options, words):
    assert words in refused(scan[0] / "pet.nii.gz", *options, point=scan[2])


def test_networks_that_are_not_there_or_do_not_fit(scan, refused):
    pet = scan[0] / "pet.nii.gz"
    assert "there is no network 'nobody'" in refused(pet, "--net", "nobody", point=scan[2])
    assert "drop --threshold" in refused(
        pet, "--net", "lesion-pet-2d", "--threshold", "2", point=None
    )
    for blur in ("--blur-mm", "--blur-px"):
        assert f"drop {blur}" in refused(pet, "--net", "lesion-pet-2d", blur, "3", point=scan[2])
    assert "needs channel CT" in refused(pet, "--net", "phantom-petct-2d", point=scan[2])


def test_no_target_named(scan, refused):
    assert "one of --point" in refused(scan[0] / "pet.nii.gz", point=None)


def test_millimetres_of_a_picture(refused, tmp_path):
    np.savez(tmp_path / "p.npz", image=np.random.default_rng(0).random((20, 20)))
    assert "--tolerance-px" in refused(tmp_path / "p.npz", "--tolerance-mm", "2")
    assert "--blur-px" in refused(tmp_path / "p.npz", "--blur-mm", "2")


def test_target_touching_the_border(scan, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(case, "_fit", circles)
    values = pet_values(scan)[15:]  # cuts the lesion in half
    path = save(tmp_path / "cut.nii.gz", values, AFFINE)
    hot = np.unravel_index(values[1].argmax(), values[1].shape)
    sentence = refused(path, point=",".join(str(4.0 * n) for n in (1, *hot)))
    assert "cut.nii.gz" in sentence
    assert "border" in sentence
