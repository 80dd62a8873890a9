"""Does a synthetic image come back from the DICOM series that it was written as?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.dicom.phantom import SUV
from aistat_jax.space.image import Image
from tests.dicom.made import pydicom


@pytest.fixture
def image() -> Image:
    rng = np.random.default_rng(0)
    pet = rng.gamma(2.0, 1.0, (9, 7, 4))
    pet[0, 1, 2] = 9.0  # no turn of the volume is the volume
    return Image.from_arrays(
        PT=pet, CT=np.round(rng.normal(0, 90, pet.shape)), spacing_mm=(4.0, 3.0, 5.0)
    )


def test_an_image_comes_back_where_it_was_with_its_values(tmp_path, image):
    folders = aj.phantom_dicom(tmp_path / "study", image)
    assert list(folders) == ["PT", "CT"]
    back = aj.read_image(**folders)
    for name, error in (("PT", 9.0 / 32767), ("CT", 1e-9)):
        assert np.abs(back[name].values - image[name].values).max() <= error
        assert np.allclose(back[name].grid.affine, image[name].grid.affine)
        assert not back[name].origin.notes
    assert (back["PT"].quantity, back["CT"].quantity) == ("SUV", "HU")
    assert back["PT"].origin.frame_uid == back["CT"].origin.frame_uid


def test_its_suv_is_what_its_header_says(tmp_path, image):
    folder = aj.phantom_dicom(tmp_path / "study", image)["PT"]
    for file in folder.iterdir():  # the control: twice the weight is twice the SUV
        said = pydicom.dcmread(file)
        said.PatientWeight = 140
        said.save_as(file)
    heavy = aj.read_image(PT=folder)
    assert np.allclose(heavy["PT"].values, 2 * image["PT"].values, atol=1e-3)
    assert pytest.approx(70_000 / 350e6 * 2 ** (3600 / 6586.2)) == SUV


def test_what_cannot_be_a_series_is_refused(tmp_path, image):
    values = image["CT"].values
    aj.phantom_dicom(tmp_path / "study", image)
    with pytest.raises(InputError, match="is there already"):
        aj.phantom_dicom(tmp_path / "study", image)
    with pytest.raises(InputError, match="name channels PT and CT"):
        aj.phantom_dicom(tmp_path / "a", Image.from_arrays(MR=values, spacing_mm=1.0))
    with pytest.raises(InputError, match="must be in mm"):
        aj.phantom_dicom(tmp_path / "b", Image.from_arrays(CT=values))
