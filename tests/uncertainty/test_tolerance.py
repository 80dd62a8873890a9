"""Is a default tolerance what its image can tell, never wide for its lesion, and explained?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax import case as case_module
from aistat_jax._record import replace
from aistat_jax.case import contour_case
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.star import star_chart
from aistat_jax.uncertainty.tolerance import RADIUS_SHARE, default_tolerance
from aistat_jax.views.report import write_report
from aistat_jax.views.summary import summary_of
from tests.helpers import TRUSTED

SHAPE = (64, 64, 8)


def image_of(name: str, *spacing: float) -> Image:
    values = np.random.default_rng(0).random(SHAPE)
    return Image.from_arrays(**{name: values}, spacing_mm=spacing or None)


def disc(grid: Grid, k: int, radius: float, centre: float = 60.0) -> Posterior:
    chart = star_chart(np.array([centre, 60.0]), 3 * radius, grid.plane(k))
    noise = np.exp(0.01 * np.random.default_rng(k).normal(size=(1, 200, 1)))
    return Posterior(
        chart, radius * noise * np.ones(chart.sites), {}, TRUSTED, "laplace", 0, f"z{k}"
    )


def ball(radius: float) -> Posterior:
    chart = sphere_chart(np.array([60.0, 60.0, 16.0]), 3 * radius, "mm")
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=(1, 200, 1)))
    return Posterior(chart, radius * noise * np.ones(chart.sites), {}, TRUSTED, "laplace", 0, "b")


@pytest.mark.parametrize(
    ("image", "value", "words"),
    [
        (image_of("PT", 4.0, 4.0, 3.0), 4.0, "tolerance 4 mm: PET with voxels of 4.0 mm"),
        (image_of("PT", 4.07, 4.07, 3.0), 4.1, "PET with voxels of 4.1 mm"),
        (image_of("PT", 2.0, 2.0, 2.0), 3.0, "PET with voxels of 2 mm, whose edges are blurred"),
        (image_of("CT", 1.0, 1.0, 3.0), 2.0, "CT with voxels of 1 mm, on which experts differ"),
        (image_of("CT", 2.5, 2.5, 3.0), 2.5, "CT with voxels of 2.5 mm"),
        (image_of("T1", 0.9, 0.9, 3.0), 2.0, "T1 with voxels of 0.9 mm"),
        (image_of("A"), 1.0, "tolerance 1 px: one pixel"),
    ],
)
def test_it_follows_the_modality_and_the_voxel(image, value, words):
    found = default_tolerance(image)
    assert found.value == value
    assert words in str(found)
    assert found.unit == image.unit


def test_of_surfaces_the_voxel_is_a_cube_and_of_slices_a_square():
    image = image_of("PT", 4.0, 4.0, 8.0)
    grid = image.primary.grid
    assert default_tolerance(image, [disc(grid, 3, 40.0)]).value == 4.0
    assert default_tolerance(image, [ball(40.0)]).value == 5.0  # (4 x 4 x 8) ** (1 / 3)


def test_it_is_never_more_than_a_quarter_of_the_radius():
    image = image_of("PT", 4.0, 4.0, 4.0)
    grid = image.primary.grid
    for lesion in (disc(grid, 3, 10.0), ball(10.0)):
        found = default_tolerance(image, [lesion])
        assert 2.3 < found.value <= RADIUS_SHARE * 10.0 * 1.01
        assert "a quarter of the lesion's radius, 10 mm" in found.reason
        assert "4 would say little" in found.reason
    wide = default_tolerance(image, [disc(grid, 3, 30.0), ball(30.0)])  # negative control
    assert (wide.value, wide.reason) == (4.0, "PET with voxels of 4.0 mm")


def test_slices_of_one_lesion_share_its_radius_and_the_smallest_lesion_counts():
    image = image_of("PT", 4.0, 4.0, 4.0)
    grid = image.primary.grid
    lesion = [disc(grid, k, radius) for k, radius in enumerate((6.0, 15.0, 20.0, 12.0, 5.0))]
    assert default_tolerance(image, lesion).value == 4.0  # its ends are small, it is not
    small = disc(grid, 2, 8.0, centre=120.0)  # another one beside it
    found = default_tolerance(image, [*lesion, small])
    assert 1.9 <= found.value <= 2.0
    assert "the radius of the smallest lesion" in found.reason
    apart = disc(grid, 7, 8.0)  # above it, with slices between
    assert default_tolerance(image, [*lesion, apart]).value < 2.1


def test_a_microscope_is_not_graded_in_millimetres():
    image = image_of("DAPI", 0.0005, 0.0005, 0.0005)
    cell = disc(image.primary.grid, 2, 0.006, centre=0.015)
    assert 0.0014 <= default_tolerance(image, [cell]).value <= 0.0015


@pytest.fixture
def case_of(monkeypatch):
    """A case of one contour, whose fit is stood in for by draws near a circle."""

    def make(radius: float, **settings):
        image = image_of("PT", 4.0, 4.0, 4.0)
        found = disc(image.primary.grid, 3, radius)
        monkeypatch.setattr(case_module, "_fit", lambda models, _: [found])
        monkeypatch.setattr(case_module, "_check_room", lambda *_: None)
        points = image.primary.grid.points()[..., :2]
        mask = np.linalg.norm(points - 60.0, axis=-1) <= radius
        targets = aj.find_targets(image, mask=mask, slices=[3])
        return contour_case(image, targets, lambda each: each, aj.Settings(draws=200, **settings))

    return make


@pytest.mark.parametrize("radius", [10.0, 30.0])
def test_a_case_is_graded_at_it_and_says_so(case_of, tmp_path, radius):
    case = case_of(radius)
    assert case.tolerance == default_tolerance(case.image, case.posteriors)
    assert case.settings.tolerance_mm == case[0].grade.tolerance_mm == case.tolerance.value
    said = summary_of(case)["settings"]
    assert said["tolerance_mm"] == case.tolerance.value
    assert said["tolerance_reason"] == case.tolerance.reason
    page = write_report(tmp_path / "r.html", title="T", summary=summary_of(case)).read_text("utf-8")
    assert f"tolerance {case.tolerance.value:g} mm (" in page
    assert "voxels of 4.0 mm" in page


def test_a_tolerance_that_was_asked_for_is_taken_as_it_is(case_of, tmp_path):
    """Negative control: nothing is chosen, and nothing told, however large it is."""
    case = case_of(10.0, tolerance_mm=7.0)
    assert case.tolerance is None
    assert case[0].grade.tolerance_mm == 7.0
    assert "tolerance_reason" not in summary_of(case)["settings"]
    page = write_report(tmp_path / "r.html", title="T", summary=summary_of(case)).read_text("utf-8")
    assert "tolerance 7 mm<" in page


def test_a_lesion_of_less_than_two_voxels_is_never_green_by_default(case_of):
    """Whatever is drawn of it; at a tolerance of a voxel, however sharp, it would be."""
    sharp = replace(TRUSTED, voxel=4.0)
    small = replace(case_of(7.0)[0].posterior, diagnostics=sharp)
    chosen = default_tolerance(image_of("PT", 4.0, 4.0, 4.0), [small])
    graded = aj.grade(small, chosen.value)
    assert chosen.value < 2.0
    assert graded.case == "amber"
    assert "no contour of this image can be green" in graded.reasons[-1]
    assert aj.grade(small, 4.0).case == "green"
