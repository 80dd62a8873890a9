"""Are volumes that cannot be used refused in one sentence, with the file's name and a remedy?"""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.io.nifti import read_image
from tests.io.volumes import SHAPE, affine_of, ball, refuse, save


def test_missing_files_and_folders_are_refused(tmp_path):
    refuse(tmp_path / "absent.nii.gz", "no such file; check the path")
    refuse(tmp_path, "there is no DICOM image in it")
    with pytest.raises(InputError, match="no image was given"):
        read_image()


def test_another_image_format_is_refused(tmp_path):
    nib.save(nib.MGHImage(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "scan.mgz")
    refuse(tmp_path / "scan.mgz", "not a NIfTI file; convert it")


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, rng, part):
    noise = rng.normal(size=(20, 20, 20))
    for name in ("cut.nii.gz", "cut.nii"):
        whole = save(tmp_path / name, noise, affine_of()).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(part * len(whole))])
        refuse(tmp_path / name, "cut short or damaged|not a readable NIfTI")


def test_a_damaged_file_is_refused(tmp_path, rng):
    whole = save(tmp_path / "a.nii.gz", rng.normal(size=(20, 20, 20)), affine_of()).read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    (tmp_path / "a.nii.gz").write_bytes(bytes(broken))
    refuse(tmp_path / "a.nii.gz", "cut short or damaged|not a readable NIfTI")


def test_a_time_series_is_refused(tmp_path, rng):
    path = save(tmp_path / "dynamic.nii.gz", rng.normal(size=(6, 6, 4, 3)), affine_of())
    refuse(path, "two or three dimensions; extract a single volume first")


def test_a_header_without_affine_is_refused(tmp_path, pet):
    file = nib.load(pet)
    file.header["sform_code"] = file.header["qform_code"] = 0
    raw = bytearray(gzip.decompress(pet.read_bytes()))
    raw[252:256] = bytes(4)  # qform_code, sform_code
    (tmp_path / "none.nii").write_bytes(bytes(raw))
    refuse(tmp_path / "none.nii", "no affine .* set the sform from the original images")


def test_zero_spacing_is_refused(tmp_path, pet):
    flat = affine_of()
    flat[:3, 2] = 0
    raw = bytearray(gzip.decompress(pet.read_bytes()))
    raw[280:328] = np.asarray(flat[:3], "<f4").tobytes()  # srow_x, srow_y, srow_z
    (tmp_path / "flat.nii").write_bytes(bytes(raw))
    refuse(tmp_path / "flat.nii", r"spacing is \(2, 2.5, 0\) mm and must be positive")
    raw[254:256] = bytes(2)  # no sform: the qform takes its spacing from pixdim
    raw[88:92] = bytes(4)
    (tmp_path / "flat.nii").write_bytes(bytes(raw))
    refuse(tmp_path / "flat.nii", "spacing in the header is .* must be positive")


def test_a_sheared_affine_is_refused(tmp_path):
    sheared = affine_of()
    sheared[0, 1] += 0.3
    refuse(save(tmp_path / "s.nii", ball(affine_of()), sheared, ("scanner", "unknown")), "sheared")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(tmp_path, value):
    values = ball(affine_of())
    values[3, 4, 5] = value
    refuse(save(tmp_path / "n.nii.gz", values, affine_of()), "1 voxels are NaN or infinite")


def test_a_constant_image_is_refused(tmp_path):
    path = save(tmp_path / "c.nii.gz", np.full(SHAPE, 7.0), affine_of())
    refuse(path, "every voxel is 7, so there is nothing to contour")


def test_colours_are_refused(tmp_path):
    rgb = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refuse(save(tmp_path / "rgb.nii", rgb, affine_of()), "not real numbers")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_claims_ten_gigabytes_is_refused_before_room_is_made(tmp_path, ending):
    import tracemalloc

    path = save(tmp_path / f"vast{ending}", ball(affine_of()), affine_of())
    read_image(PT=path)  # the negative control: as it was written
    whole = path.read_bytes()
    data = bytearray(gzip.decompress(whole) if ending == ".nii.gz" else whole)
    data[42:48] = np.array([12000, 10000, 10], "<i2").tobytes()
    path.write_bytes(gzip.compress(data) if ending == ".nii.gz" else data)
    tracemalloc.start()
    refuse(path, "the header claims 9,600,000,000 bytes of voxels, and the file holds")
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()


@pytest.mark.parametrize("ending", [".nii.gz", ".nii.bz2"])
def test_a_file_that_packs_well_is_read(tmp_path, ending):
    path = tmp_path / f"mask{ending}"
    mask = np.zeros((100, 100, 60), np.uint8)
    mask[20:40, 20:40, 20:40] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    assert read_image(PT=path).primary.values.sum() == 8000


def test_a_unit_of_no_known_code_is_taken_for_none(tmp_path):
    image = nib.Nifti1Image(ball(affine_of()), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "unit.nii")
    assert np.allclose(read_image(PT=tmp_path / "unit.nii").primary.grid.spacing, 2.0)


def test_an_image_without_voxels_is_refused():
    for shape in ((0, 4), (4, 4, 0), (0, 4, 4, 1)):
        with pytest.raises(InputError, match="there is no voxel"):
            aj.Image.from_arrays(PT=np.zeros(shape), spacing_mm=2.0)
