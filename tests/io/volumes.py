"""Volumes with a bright ball, stored in files as people store them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aistat_jax._errors import InputError
from aistat_jax.io.nifti import read_image

SHAPE = (24, 22, 6)


CENTRE = np.array([-3.0, 6.0, 40.0])


RADIUS = 14.0


def affine_of(degrees: float = 0.0) -> np.ndarray:
    affine = np.eye(4)
    turn = Rotation.from_euler("zyx", [degrees, degrees / 2, -degrees], degrees=True).as_matrix()
    affine[:3, :3] = turn * np.array([2.0, 2.5, 3.0])
    middle = (np.array(SHAPE) - 1) / 2
    affine[:3, 3] = CENTRE - affine[:3, :3] @ middle
    return affine


def ball(affine: np.ndarray, shape=SHAPE) -> np.ndarray:
    """A bright ball about CENTRE, brighter to the Left so that a mirrored one is noticed."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    offset = index @ affine[:3, :3].T + affine[:3, 3] - CENTRE
    return (np.linalg.norm(offset, axis=-1) < RADIUS) * 4.0 - 0.01 * offset[..., 0]


def save(path: Path, values: np.ndarray, affine: np.ndarray | None, codes=("scanner", "scanner")):
    file = nib.Nifti1Image(values, affine)
    if affine is not None:
        file.set_sform(affine, code=codes[0])
        file.set_qform(affine, code=codes[1])
    nib.save(file, path)
    return path


def as_axcodes(values: np.ndarray, affine: np.ndarray, codes: str):
    file = nib.Nifti1Image(values, affine)
    start = nib.io_orientation(affine)
    turned = file.as_reoriented(
        nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    )
    return np.asarray(turned.dataobj), turned.affine


def refuse(path: Path, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_image(PT=path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert ";" in text or "must" in text
