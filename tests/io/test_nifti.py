"""Do volumes come in and go back where they belong?"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from aistat_jax._errors import InputError, InputWarning
from aistat_jax.io.nifti import read_channel, read_image, read_mask, write_nifti
from aistat_jax.space.curve import contours_from_mask
from tests.io.volumes import CENTRE, RADIUS, SHAPE, affine_of, as_axcodes, ball, save

ORIENTATIONS = ["RAS", "LPS", "LAS", "SPL", "PIR", "ASR"]


@pytest.mark.parametrize("degrees", [0.0, 13.0])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_is_the_same_image_and_goes_back_as_it_came(tmp_path, codes, degrees):
    plain = save(tmp_path / "plain.nii.gz", ball(affine_of(degrees)), affine_of(degrees))
    values, affine = as_axcodes(ball(affine_of(degrees)), affine_of(degrees), codes)
    turned = save(tmp_path / "turned.nii.gz", values, affine, codes=("aligned", "scanner"))
    expected, channel = read_channel(plain), read_channel(turned)
    np.testing.assert_array_equal(channel.values, expected.values)
    np.testing.assert_allclose(channel.grid.affine, expected.grid.affine, atol=1e-4)

    inside = channel.values[:, :, 3] > 2
    ours, theirs = (contours_from_mask(inside, c.slice(3).plane)[0] for c in (channel, expected))
    np.testing.assert_allclose(ours.points, theirs.points, atol=1e-4)

    back = nib.load(write_nifti(tmp_path / "back.nii.gz", channel.values, channel))
    stored = nib.load(turned)
    np.testing.assert_allclose(back.affine, stored.affine, atol=1e-4)
    assert nib.aff2axcodes(back.affine) == tuple(codes)
    assert [int(back.header[c]) for c in ("sform_code", "qform_code")] == [2, 1]
    np.testing.assert_allclose(back.get_fdata(), stored.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(back.header.get_zooms(), stored.header.get_zooms(), rtol=1e-6)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_contour_lies_where_the_ball_is(tmp_path, codes):
    values, affine = as_axcodes(ball(affine_of()), affine_of(), codes)
    channel = read_channel(save(tmp_path / "ball.nii", values, affine))
    k = int(np.rint(channel.grid.to_index(CENTRE)[2]))
    plane = channel.slice(k).plane
    (curve,) = contours_from_mask(channel.values[:, :, k] > 2, plane)
    height = plane.offset - CENTRE[2]
    np.testing.assert_allclose(plane.to_world(curve.centroid)[:2], CENTRE[:2], atol=0.6)
    assert curve.area == pytest.approx(np.pi * (RADIUS**2 - height**2), rel=0.05)
    # negative control: one stored axis mirrored in the header moves the contour
    here = plane.to_world(curve.centroid)
    wrong = affine.copy()
    wrong[:3, 0] *= -1
    moved = read_channel(save(tmp_path / "wrong.nii", values, wrong))
    k = moved.values.sum(axis=(0, 1)).argmax()
    (other,) = contours_from_mask(moved.values[:, :, k] > 2, moved.slice(k).plane)
    plane = moved.slice(k).plane
    assert np.linalg.norm(plane.to_world(other.centroid) - here) > 10


def test_slices_run_towards_superior_and_the_rest_keep_sides(tmp_path):
    values, affine = as_axcodes(ball(affine_of()), affine_of(), "LPS")
    channel = read_channel(save(tmp_path / "lps.nii", values, affine), "PT")
    assert channel.slice(5).plane.offset > channel.slice(0).plane.offset
    assert channel.values[2, 11, 3] > channel.values[-3, 11, 3]  # brighter to the Left
    assert (channel.quantity, channel.source) == ("SUV", str(tmp_path / "lps.nii"))


def test_two_channels_keep_their_own_grids(tmp_path, pet, rng):
    ct_affine = np.diag([1.0, 1.0, 3.0, 1.0])
    ct_affine[:3, 3] = affine_of()[:3, 3]
    ct = save(tmp_path / "ct.nii.gz", rng.normal(size=(40, 40, 6)).astype(np.float32), ct_affine)
    image = read_image(PT=pet, CT=ct)
    assert image.names == ("PT", "CT")
    assert [c.quantity for c in image.channels.values()] == ["SUV", "HU"]
    assert image["CT"].slice_at(image["PT"].slice(2).plane).values.shape == (40, 40)


def test_scaled_whole_numbers_and_single_slices_are_read(tmp_path, rng):
    file = nib.Nifti1Image(rng.integers(-900, 900, size=(8, 9, 1, 1), dtype=np.int16), affine_of())
    file.header.set_slope_inter(0.5, -3.0)
    nib.save(file, tmp_path / "ct.nii")
    channel = read_channel(tmp_path / "ct.nii", "CT")
    assert channel.grid.shape == (8, 9, 1)
    stored = nib.load(tmp_path / "ct.nii")
    np.testing.assert_allclose(channel.values[..., None], stored.get_fdata())
    assert nib.load(write_nifti(tmp_path / "b.nii", channel.values, channel)).shape == stored.shape


def test_the_length_unit_of_the_header_is_honoured(tmp_path):
    metres = affine_of()
    metres[:3] /= 1000
    file = nib.Nifti1Image(ball(affine_of()), metres)
    file.header.set_xyzt_units("meter")
    nib.save(file, tmp_path / "m.nii")
    channel = read_channel(tmp_path / "m.nii")
    np.testing.assert_allclose(channel.grid.spacing, [2, 2.5, 3], rtol=1e-5)
    back = nib.load(write_nifti(tmp_path / "b.nii", channel.values, channel))
    np.testing.assert_allclose(back.affine, metres, atol=1e-6)
    assert back.header.get_xyzt_units()[0] == "meter"


def test_a_qform_alone_is_enough(tmp_path):
    file = nib.Nifti1Image(ball(affine_of(20)), None)
    file.set_sform(None, code=0)
    file.set_qform(affine_of(20), code=1)
    nib.save(file, tmp_path / "q.nii")
    channel = read_channel(tmp_path / "q.nii")
    np.testing.assert_allclose(channel.grid.affine, affine_of(20), atol=1e-4)
    back = nib.load(write_nifti(tmp_path / "b.nii", channel.values, channel))
    np.testing.assert_allclose(back.affine, affine_of(20), atol=1e-4)


def two_transforms(path: Path, shift_mm: float, codes=(1, 1)) -> Path:
    image = nib.Nifti1Image(ball(affine_of()), affine_of())
    other = affine_of(0.0)
    other[0, 3] += shift_mm
    image.set_sform(affine_of(), code=codes[0])
    image.set_qform(other, code=codes[1])
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["pet.nii.gz", "pet.nii"])
def test_two_transforms_that_differ_are_told_and_kept(tmp_path, name):
    path = two_transforms(tmp_path / name, 30.0, (1, 2))
    with pytest.warns(InputWarning, match=r"place it up to 30 mm apart; the sform is used"):
        channel = read_channel(path)
    back = nib.load(write_nifti(tmp_path / "back.nii.gz", channel.values, channel))
    stored = nib.load(path)
    for which in ("get_sform", "get_qform"):
        (one, code), (other, wanted) = (getattr(f, which)(coded=True) for f in (back, stored))
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert code == wanted
    assert np.abs(back.get_sform() - back.get_qform()).max() > 29  # negative control


def test_transforms_that_agree_or_are_alone_are_not_told(tmp_path):
    for shift, codes in ((0.1, (1, 1)), (30.0, (1, 0)), (30.0, (0, 1))):
        read_channel(two_transforms(tmp_path / "pet.nii", shift, codes))  # warnings are errors


def test_writing_is_refused_rather_than_guessed(tmp_path, pet, rng):
    channel = read_channel(pet)
    with pytest.raises(InputError, match="do not match the image's"):
        write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2)), channel)
    with pytest.raises(InputError, match="ends in .nii or .nii.gz"):
        write_nifti(tmp_path / "a.nrrd", channel.values, channel)
    with pytest.raises(InputError, match="0 to 255"):
        write_nifti(tmp_path / "a.nii", np.full(SHAPE, 300), channel)
    np.savez(tmp_path / "px.npz", rng.normal(size=(4, 4)))
    pixels = read_channel(tmp_path / "px.npz")
    with pytest.raises(InputError, match="has no spacing"):
        write_nifti(tmp_path / "a.nii", pixels.values, pixels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pet.nii.gz", "px.npz"]


def test_a_write_cut_short_leaves_the_old_file(tmp_path, pet, monkeypatch):
    channel, before = read_channel(pet), pet.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(pet, channel.values, channel)
    assert pet.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["pet.nii.gz"]


def test_real_pet_and_ct_with_their_masks(data_root):
    folder = data_root / "sts_petctmr_nifti" / "nifti" / "STS_002"
    image = read_image(PT=folder / "PET_image.nii.gz", CT=folder / "CT_image.nii.gz")
    centroids = {}
    for name, file in (("PT", "PET_mask.nii.gz"), ("CT", "CT_mask.nii.gz")):
        mask = read_mask(folder / file, image[name])
        centroids[name] = image[name].grid.to_world(np.argwhere(mask).mean(axis=0))
        k = int(mask.sum(axis=(0, 1)).argmax())
        plane = image[name].slice(k).plane
        curves = contours_from_mask(mask[:, :, k], plane)
        assert sum(c.signed_area for c in curves) == pytest.approx(
            mask[:, :, k].sum() * plane.pixel_area, rel=0.05
        )
    assert np.linalg.norm(centroids["PT"] - centroids["CT"]) < 5  # the same tumour
    with pytest.raises(InputError, match="does not match image grid"):
        read_mask(folder / "CT_mask.nii.gz", image["PT"])
