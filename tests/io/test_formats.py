"""Is a file read by what is in it, and what is not read called by its name?"""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.io.nifti import read_as_drawn, read_channel
from tests.io.volumes import affine_of, ball, refuse


def test_what_is_packed_is_told_by_content(tmp_path, pet):
    """A name that says gzip where there is none, and the other way round, with both headers."""
    expected = read_channel(pet)
    for image in (nib.load(pet), nib.Nifti2Image(ball(affine_of()), affine_of())):
        raw = image.to_bytes()
        for name, data in (("bare.nii.gz", raw), ("packed.nii", gzip.compress(raw))):
            path = tmp_path / name
            path.write_bytes(data)
            channel = read_channel(path)
            np.testing.assert_array_equal(channel.values, expected.values)
            np.testing.assert_allclose(channel.grid.affine, expected.grid.affine, atol=1e-4)
            assert read_mask_of(path, expected).any()
            path.write_bytes(data[: len(data) // 2])  # negative control
            sentence = refusal(read_channel, path)
            assert "damaged" in sentence or "not a readable" in sentence


def refusal(read, path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read(path)
    return str(refused.value)


def read_mask_of(path: Path, like) -> np.ndarray:
    values, _ = read_as_drawn(path)
    return values > values.mean()


KINDS = {
    "slice.tif": (b"II*\0", "this is a TIFF picture"),
    "a.npy": (b"\x93NUMPY\x01\0", "this is a NumPy array (.npy)"),
    "scan.nii": (bytes(128) + b"DICM", "there is no DICOM image, only something of 1 file"),
    "scan.nii.gz": (b"\x89PNG\r\n\x1a\n", "this is a PNG picture"),
    "empty.nii": (b"", "this is an empty file"),
    "words.nii": (b"hello", "this is not a readable NIfTI file"),
    "words.xyz": (b"hello", "files of this kind are not read"),
    "photo.png": (b"\xff\xd8\xff\xe0", "this is a JPEG picture"),
    "odd.png": (b"hello", "this is not a readable PNG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_read_is_named(tmp_path, name):
    data, words = KINDS[name]
    path = tmp_path / name
    path.write_bytes(data + bytes(100) if data and data != b"hello" else data)
    sentence = refusal(read_channel, path)
    assert f"{path}: {words}" in sentence
    if "which is not read" in sentence:
        assert "read are NIfTI (.nii, .nii.gz), DICOM (a file, a folder or a .zip)" in sentence


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz", "scan.dcm", "scan"])
def test_a_file_that_is_not_nifti_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an image at all" * 40)
    named = "not a readable NIfTI file; pass .nii or .nii.gz"
    refuse(tmp_path / name, named if ".nii" in name else "files of this kind are not read; read")
    (tmp_path / name).write_bytes(b"")
    refuse(tmp_path / name, "this is an empty file, which is not read")
