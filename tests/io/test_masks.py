"""Is a mask the region that was drawn, on the image's grid, or refused?"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax.io.nifti import read_channel, read_mask, write_nifti
from tests.io.volumes import SHAPE, affine_of, as_axcodes, ball, save


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_a_mask_stored_in_another_order_is_the_same_mask(tmp_path, pet, codes):
    channel = read_channel(pet)
    inside = (ball(affine_of()) > 2).astype(np.uint8)
    values, affine = as_axcodes(inside, affine_of(), codes)
    mask = read_mask(save(tmp_path / "mask.nii.gz", values, affine), channel)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", channel.grid), mask)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, inside)
    back = write_nifti(tmp_path / "out.nii.gz", mask, channel)
    assert nib.load(back).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_mask(back, channel), mask)


def test_masks_of_0_and_255_are_masks(tmp_path, pet):
    channel = read_channel(pet)
    inside = ball(affine_of()) > 2
    masks = [
        read_mask(save(tmp_path / f"{white}.nii", (inside * white).astype(np.uint8), affine_of()),
                  channel)
        for white in (1, 255)
    ]  # fmt: skip
    np.testing.assert_array_equal(*masks)


def test_a_mask_on_another_grid_is_refused(tmp_path, pet):
    channel = read_channel(pet)
    inside = (ball(affine_of()) > 2).astype(np.uint8)
    shifted, scaled = affine_of(), affine_of()
    shifted[0, 3] += 1.0
    scaled[:, 0] *= 1.5
    cut = inside[:-1]
    for values, affine in ((inside, shifted), (inside, scaled), (cut, affine_of())):
        path = save(tmp_path / "mask.nii.gz", values, affine)
        with pytest.raises(InputError, match="does not match image grid .* resample the mask"):
            read_mask(path, channel)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros(SHAPE), "the mask is empty"),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3 * 1.0, "holds the values 0, 1, 2"),
        (ball(affine_of()), "holds the values"),
        ((ball(affine_of()) > 2) * -1.0, "holds the values -1, 0"),
        (np.full(SHAPE, np.nan), "NaN or infinite"),
    ],
)
def test_unusable_masks_are_refused(tmp_path, pet, values, sentence):
    path = save(tmp_path / "mask.nii.gz", values, affine_of())
    with pytest.raises(InputError, match=f"mask.nii.gz: .*{sentence}"):
        read_mask(path, read_channel(pet))
