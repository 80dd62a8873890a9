"""Is what cannot be SUV or HU told from what can, with no false alarm on real scans?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aistat_jax.data.phantoms import demo_phantom, pet_ct_phantom
from aistat_jax.space.plausible import implausible


@pytest.mark.parametrize("phantom", [pet_ct_phantom(0), demo_phantom(1)])
def test_phantoms_pass_under_their_own_name_only(phantom):
    for channel in phantom.image.channels.values():
        assert implausible(channel.values, channel.quantity) is None
        assert implausible(channel.values, "a.u.") is None
    pet, ct = (phantom.image[name].values for name in ("PT", "CT"))
    assert "of a CT" in (implausible(ct - 100, "SUV") or "")
    assert "of a PET" in (implausible(np.abs(pet), "HU") or "")


def test_activity_concentrations_are_not_suv(rng):
    suv = rng.gamma(1.0, 1.0, 4000)
    for scale, wrong in ((1.0, False), (8.0, False), (5200.0, True)):
        reason = implausible(scale * suv, "SUV")
        assert (reason is not None) == wrong
    assert "Bq/ml" in (implausible(5200 * suv, "SUV") or "")
    crop = rng.normal(400.0, 20.0, 500)  # Bq/ml without a hot voxel
    assert "half of them above" in (implausible(crop, "SUV") or "")


def test_what_a_scanner_can_have_made_passes(rng):
    for values in (
        rng.normal(0.0, 1.0, 500),  # a PET of noise alone
        np.append(rng.gamma(1.0, 1.0, 500), 400.0),  # a full bladder
        rng.normal(7.0, 2.0, 500),  # a brain
    ):
        assert implausible(values, "SUV") is None
    for values in (
        rng.normal(0.0, 5.0, 500),  # a water phantom
        rng.normal(50.0, 15.0, 500),  # a liver and nothing else
        rng.normal(400.0, 150.0, 500),  # inside a bone
        np.clip(rng.normal(0.0, 300.0, 500), -1000, 3000),
        np.clip(rng.normal(60.0, 80.0, 500), 0, 255),  # a window of grey values
    ):
        assert implausible(values, "HU") is None


def test_numbers_as_stored_are_not_hu(rng):
    body = np.concatenate([rng.normal(-1000, 10, 3000), rng.normal(40, 30, 2000)])
    assert implausible(body, "HU") is None
    assert "intercept" in (implausible(np.maximum(body + 1024, 0), "HU") or "")


def test_real_scans(data_root: Path):
    """All 40 PETs and 10 CTs pass; every one of them is caught under the other's name."""
    import nibabel as nib

    def voxels(path: Path) -> np.ndarray:
        return np.asarray(nib.load(path).dataobj, dtype=float)

    patients = data_root / "sts_petctmr_nifti" / "nifti"
    for what, own, other, count in (("PET", "SUV", "HU", 40), ("CT", "HU", "SUV", 10)):
        files = sorted(patients.glob(f"*/{what}_image.nii.gz"))
        assert len(files) == count
        for file in files:
            values = voxels(file)
            assert implausible(values, own) is None, file
            assert implausible(values, other) is not None, file
            assert what == "CT" or implausible(5200 * values, own) is not None, file
    for file in sorted(patients.glob("*/MR_T1_image.nii.gz")):
        assert implausible(voxels(file), "SUV") is not None, file
