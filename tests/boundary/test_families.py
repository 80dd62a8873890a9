"""Is a disc that was blurred in two dimensions found at its own radius?"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

from aistat_jax.boundary.intensity import intensity
from aistat_jax.boundary.targets import Target
from aistat_jax.space.image import Image
from aistat_jax.space.star import star_chart
from tests.boundary import brute

CENTRE = np.array([39.3, 40.6])


def disc_image(radius: float, blur: float) -> Image:
    """A disc seen through a Gaussian point spread, exactly (a non-central chi-square)."""
    place = np.stack(np.meshgrid(np.arange(80.0), np.arange(80.0), indexing="ij"), axis=-1)
    distance = np.linalg.norm(place - CENTRE, axis=-1)
    inside = stats.ncx2.cdf((radius / blur) ** 2, 2, (distance / blur) ** 2)
    return Image.from_arrays(A=1 + 3 * inside, spacing_mm=1.0)


def best_radius(image: Image, radius: float, blur: float, curved: bool) -> float:
    """The likeliest circle about the true centre, by a parabola through five."""
    target = Target(CENTRE, radius, image["A"].grid.plane(0))
    chart = star_chart(CENTRE, 2.2 * radius, target.plane, 64)
    terms = intensity(image, blur=blur, temper=1.0, curved=curved).tabulate(target, chart)
    trial = radius
    with jax.enable_x64(True):
        for width in (0.5, 0.1, 0.02):
            offsets = width * np.arange(-2, 3)
            values = [float(brute.read_tables(terms, np.full(64, trial + d))) for d in offsets]
            bend, slope, _ = np.polyfit(offsets, values, 2)
            trial += float(np.clip(-slope / (2 * bend), -2 * width, 2 * width))
    return trial


@pytest.mark.parametrize(("radius", "blur"), [(10.0, 2.0), (14.0, 3.0), (14.0, 2.0)])
def test_a_blurred_disc_is_found_at_its_own_radius(radius, blur):
    """What is left is second order in blur / radius; uncorrected, the disc seems too small by
    about blur^2 / (2 radius)."""
    image = disc_image(radius, blur)
    shrunk = blur**2 / (2 * radius)
    assert abs(best_radius(image, radius, blur, curved=True) - radius) < 0.25 * shrunk
    error = best_radius(image, radius, blur, curved=False) - radius
    assert -1.5 * shrunk < error < -0.5 * shrunk
