"""Does one picture get one contour and one grade, however its grey values are stored?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from scipy import ndimage

import aistat_jax as aj
from aistat_jax.uncertainty.surface_distance import surface_distances

SIZE, CENTRE = 64, np.array([35.0, 29.0])


def grey_picture(low: float, high: float, noise: float) -> np.ndarray:
    """A lobed lesion at one grey value in another, (u, v), of whole numbers from 0 to 255."""
    u, v = np.moveaxis(np.indices((SIZE, SIZE)), 0, -1).reshape(-1, 2).T - CENTRE[:, None]
    edge = 15.0 * (1 + 0.1 * np.cos(2 * np.arctan2(v, u) + 0.5))
    inside = (np.hypot(u, v) < edge).reshape(SIZE, SIZE).astype(float)
    texture = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    values = low + (high - low) * ndimage.gaussian_filter(inside, 1.5) + noise * texture
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def stored(folder: Path, grey: np.ndarray) -> dict[str, Path]:
    """The same picture in files of several kinds; rows of a PNG run down, columns to the right."""
    rows = grey.T[::-1]
    paths = {"8 bit": folder / "8.png", "16 bit": folder / "16.png"}
    Picture.fromarray(rows).save(paths["8 bit"])
    Picture.fromarray(rows.astype(np.uint16) * 257).save(paths["16 bit"])
    for name, values in (
        ("float", grey.astype(np.float64)),
        ("float, 0 to 1", (grey / 255).astype(np.float32)),
    ):
        paths[name] = folder / f"{name}.npz"
        np.savez(paths[name], image=values)
    return paths


def contoured(
    path: Path, channel: str, by: str = "laplace", draws: int = 400
) -> tuple[aj.Posterior, aj.Grade]:
    image = aj.read_image(**{channel: path})
    (target,) = aj.find_targets(image, point_mm=(*CENTRE, 0.0))
    posterior = aj.fit(aj.boundary_model(target, aj.intensity(image)), by, draws=draws, seed=0)
    return posterior, aj.grade(posterior, tolerance_px=1.0)


def apart(one: aj.Posterior, other: aj.Posterior) -> float:
    """The largest distance between two estimates, in pixels."""
    found = surface_distances(*(p.chart.surface(p.estimate) for p in (one, other)))
    return float(max(found.a_to_b.max(), found.b_to_a.max()))


def half_width(posterior: aj.Posterior) -> np.ndarray:
    return aj.simultaneous_band(posterior).half_width


PICTURES = {
    "of much contrast": (60, 170, 20.0),
    # a step of a tenth where white is 1
    "of little contrast": (100, 125, 5.0),
}


@pytest.mark.parametrize("channel", ["PT", "MR"])
@pytest.mark.parametrize("levels", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_contoured_alike_however_it_is_stored(tmp_path, levels, channel):
    found = {n: contoured(p, channel) for n, p in stored(tmp_path, grey_picture(*levels)).items()}
    first, grade = found.pop("8 bit")
    for posterior, other in found.values():
        assert posterior.method == first.method == "laplace"
        assert other.case == grade.case
        np.testing.assert_allclose(half_width(posterior), half_width(first), rtol=1e-3)
        assert apart(posterior, first) < 1e-3


@pytest.mark.slow
def test_a_picture_that_chains_are_run_for_gets_one_grade(tmp_path):
    """Chains part where numbers differ in their last digit, and yet must come to one result."""
    paths = stored(tmp_path, grey_picture(60, 170, 12))
    found = {name: contoured(path, "PT", "nuts", 2000) for name, path in paths.items()}
    first, grade = found.pop("8 bit")
    assert grade.case == "green"
    for posterior, other in found.values():
        assert posterior.method == first.method == "nuts"
        assert other.case == grade.case
        assert apart(posterior, first) < 0.1


def test_other_pictures_are_not_contoured_alike(tmp_path):
    """Negative controls: the picture a pixel further on, and in more noise."""
    low, high, noise = PICTURES["of much contrast"]
    grey = grey_picture(low, high, noise)
    found = []
    for n, other in enumerate((grey, np.roll(grey, 1, axis=0), grey_picture(low, high, 30.0))):
        np.savez(tmp_path / f"{n}.npz", image=other / 255)
        found.append(contoured(tmp_path / f"{n}.npz", "PT")[0])
    first, moved, noisy = found
    assert apart(first, moved) > 0.5
    assert half_width(noisy).mean() > 1.1 * half_width(first).mean()
