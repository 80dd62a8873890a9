"""Does what another network wrote arrive as log-odds in the right voxels, or get refused?"""

from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from aistat_jax._errors import InputError
from aistat_jax.io.nifti import read_image
from aistat_jax.io.outputs import output_log_odds, read_output
from aistat_jax.space.image import Image

SHAPE = (7, 6, 5)
# stored (y, x, z) and with x and z the other way round, so that order and signs both matter
AFFINE = np.array([[0, -2.0, 0, 40], [3.0, 0, 0, 5], [0, 0, -4.0, 60], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path):
    """An image in a file, and logits of three classes in its stored order."""
    rng = np.random.default_rng(0)
    nib.save(nib.Nifti1Image(rng.normal(size=SHAPE), AFFINE), tmp_path / "ct.nii.gz")
    return read_image(CT=tmp_path / "ct.nii.gz").primary, rng.normal(0, 2, (*SHAPE, 3)), tmp_path


def placed(scan, stored):
    """Canonical voxels of a map by way of a file that is known to be read right."""
    _, _, folder = scan
    nib.save(nib.Nifti1Image(stored, AFFINE), folder / "known.nii.gz")
    return read_image(T1=folder / "known.nii.gz").primary.values


def test_nnunets_array_takes_its_geometry_from_the_image_alone(scan):
    """(class, z, y, x); the pickle beside it would fail to load, and is not opened."""
    like, logits, folder = scan
    p = softmax(logits, axis=-1)
    np.savez_compressed(folder / "case.npz", probabilities=np.transpose(p, (3, 2, 1, 0)))
    (folder / "case.pkl").write_bytes(pickle.dumps("geometry")[:-3])
    for label in (1, 2):
        found = read_output(folder / "case.npz", like, label=label)
        np.testing.assert_allclose(expit(found), placed(scan, p[..., label]), atol=1e-6)
    # negative control: the axes as they are in the image are those of another one
    np.savez_compressed(folder / "turned.npz", probabilities=np.moveaxis(p, -1, 0))
    with pytest.raises(InputError, match=r"from last to first axis, \(5, 6, 7\)"):
        read_output(folder / "turned.npz", like)
    np.savez_compressed(folder / "odd.npz", probabilities=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not an array of numbers"):
        read_output(folder / "odd.npz", like)


def test_a_stack_a_map_and_logits_say_the_same(scan):
    like, logits, folder = scan
    p = softmax(logits, axis=-1)
    want = placed(scan, np.log(p[..., 1]) - np.log1p(-p[..., 1]))
    for name, values, output in (
        ("stack", p, "probability"),
        ("map", p[..., 1], "probability"),
        ("logits", logits, "log-odds"),
        ("odds", np.log(p[..., 1]) - np.log1p(-p[..., 1]), "log-odds"),
        ("log-p", log_softmax(logits, axis=-1), "log-odds"),
    ):
        nib.save(nib.Nifti1Image(values, AFFINE), folder / f"{name}.nii.gz")
        found = read_output(folder / f"{name}.nii.gz", like, output)
        np.testing.assert_allclose(found, want, atol=1e-5, err_msg=name)


def test_a_mask_stands_for_the_distance_from_its_edge():
    """In voxels of the plane, 0 halfway between a voxel inside and one outside."""
    mask = np.zeros((9, 5, 3), int)
    mask[:4] = 2
    like = Image.from_arrays(PT=np.arange(135.0).reshape(9, 5, 3), spacing_mm=2.0).primary
    found = output_log_odds(mask, like, "mask", label=2)
    np.testing.assert_allclose(found[:, 2, 1], 3.5 - np.arange(9.0))
    assert (output_log_odds(mask, like, "mask", label=1) < -10).all()  # nothing of it


REFUSED = [
    ("percent", lambda p: 100 * p, "probability", "run from .* to .*; pass `output` as log-odds"),
    ("nan", lambda p: np.where(p > 0.5, np.nan, p), "probability", "NaN or infinite in"),
    ("sum", lambda p: np.stack([p, 2 - p], -1) / 1.0, "probability", "must lie in"),
    ("two", lambda p: np.stack([p * 0 + 1, p * 0 + 0.9], -1), "probability", "add up to 1.9"),
    ("hard", lambda p: (p > 0.5) * 1.0, "probability", "this is a mask and no more"),
    ("odds", lambda p: p, "log-odds", "log-odds run below and above 0"),
    ("soft", lambda p: p, "mask", "whole numbers from 0"),
    ("shape", lambda p: p[:-1], "probability", "has shape"),
    ("kind", lambda p: p, "wish", "output must be one of probability, log-odds, mask"),
    ("label", lambda p: np.stack([p, 1 - p], -1), "probability", "no label 2 among 2 classes"),
]


@pytest.mark.parametrize(("make", "output", "words"), [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])  # fmt: skip
def test_what_is_not_what_it_should_be_is_refused(make, output, words):
    values = np.random.default_rng(1).uniform(0.01, 0.99, (6, 5, 2))
    like = Image.from_arrays(PT=values, spacing_mm=1.0).primary
    label = 2 if "label 2" in words else 1
    with pytest.raises(InputError, match=words):
        output_log_odds(make(values), like, output, label)
    assert output_log_odds(values, like).shape == (6, 5, 2)


def test_another_grid_is_refused(scan):
    like, logits, folder = scan
    moved = AFFINE.copy()
    moved[0, 3] += 2
    nib.save(nib.Nifti1Image(softmax(logits, axis=-1), moved), folder / "moved.nii.gz")
    with pytest.raises(InputError, match="does not match image grid"):
        read_output(folder / "moved.nii.gz", like)


def test_a_pictures_array_has_its_rows_from_the_top(tmp_path):
    from PIL import Image as Picture

    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Picture.fromarray(pixels).save(tmp_path / "cell.png")
    like = read_image(image=tmp_path / "cell.png").primary
    p = (pixels + 1) / 30.0  # as bright as the picture, wherever that is
    np.savez(tmp_path / "cell.npz", probabilities=np.stack([1 - p, p])[:, None])
    found = expit(read_output(tmp_path / "cell.npz", like))
    np.testing.assert_allclose(found, (like.values + 1) / 30, atol=1e-6)


def test_a_map_that_is_zero_everywhere_is_a_probability_of_nothing():
    like = Image.from_arrays(PT=np.arange(16.0).reshape(4, 4, 1), spacing_mm=2.0).primary
    assert (output_log_odds(np.zeros((4, 4, 1)), like) < -10).all()
    # negative control: with one voxel of 1 it is a mask
    spot = np.zeros((4, 4, 1))
    spot[1, 1] = 1.0
    with pytest.raises(InputError, match="this is a mask and no more"):
        output_log_odds(spot, like)
