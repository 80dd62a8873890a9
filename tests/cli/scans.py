"""A scan as a hospital has it, and a stand-in for fits to it, for tests of the command line."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from aistat_jax.boundary.prior import REACH
from aistat_jax.data.phantoms import pet_ct_phantom
from aistat_jax.inference.posterior import Posterior
from tests.helpers import TRUSTED

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(path, values, affine):
    nib.save(nib.Nifti1Image(np.asarray(values, dtype=np.float32), affine), path)
    return path


def a_scan(folder):
    """A small synthetic PET of three slices stored LPS, with the true mask beside it."""
    phantom = pet_ct_phantom(
        3, dims=3, shape=(30, 28, 3), spacing_mm=(4.0, 4.0, 4.0), radius_mm=24.0, amplitude=0.08
    )
    channel = phantom.image["PT"]
    affine = channel.grid.affine @ LPS
    affine[:3, 3] = channel.grid.to_world(np.array([29.0, 27.0, 0.0]))
    save(folder / "pet.nii.gz", channel.values[::-1, ::-1], affine)
    save(folder / "mask.nii.gz", phantom.mask[::-1, ::-1], affine)
    point = ",".join(f"{x:.3f}" for x in phantom.centre)
    return folder, phantom, point, affine


def circles(models, settings):
    """Stands in for a fit: draws near the circle of each target's rough radius."""
    noise = np.random.default_rng(settings.seed).normal(size=(1, settings.draws, 1))
    return [
        Posterior(
            chart=model.chart,
            radii=np.exp(0.02 * noise) * np.ones(128) * model.chart.radius_max / REACH,
            samples={},
            diagnostics=TRUSTED,
            method="laplace",
            seed=settings.seed,
            target_id=model.target.id,
        )
        for model in models
    ]
