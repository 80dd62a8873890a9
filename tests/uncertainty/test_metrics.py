"""Do distances between contours and volumes equal those known from geometry?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial import cKDTree

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.space.curve import Curve
from aistat_jax.uncertainty.metrics import (
    dice,
    lebesgue_error,
    surface_distances,
    surface_distances_3d,
)
from tests.helpers import circle, ellipse_radii

ANGLES = np.linspace(0, 2 * np.pi, 200_001)[:-1]


def offset_circle_distance(angle, radius, other, offset):
    """From the point of a circle about 0 at `angle` to a circle about (offset, 0)."""
    return np.abs(np.hypot(radius * np.cos(angle) - offset, radius * np.sin(angle)) - other)


@pytest.mark.parametrize(("radius", "other"), [(10.0, 12.5), (12.5, 10.0), (30.0, 29.0)])
def test_concentric_circles(radius, other):
    gap = abs(radius - other)
    distances = surface_distances(circle(radius), circle(other))
    assert distances.assd == pytest.approx(gap, abs=1e-4)
    assert distances.hd95 == pytest.approx(gap, abs=1e-4)
    assert distances.hausdorff == pytest.approx(gap, abs=1e-3)
    assert distances.surface_dice(gap + 1e-3) == 1.0
    assert distances.surface_dice(gap - 1e-3) == 0.0


@pytest.mark.parametrize(
    ("radius", "other", "offset"), [(10.0, 10.0, 3.0), (12.0, 9.0, 1.0), (8.0, 20.0, 5.0)]
)
def test_circles_apart(radius, other, offset):
    """Mean, quantile and share within a tolerance, from the closed form of the distance."""
    there = offset_circle_distance(ANGLES, radius, other, offset)
    back = offset_circle_distance(ANGLES, other, radius, offset)
    mean = [
        quad(offset_circle_distance, 0, np.pi, args=(*pair, offset), limit=200)[0] / np.pi
        for pair in ((radius, other), (other, radius))
    ]
    tolerance = 1.7
    close = radius * np.mean(there <= tolerance) + other * np.mean(back <= tolerance)
    ours = surface_distances(circle(radius), circle(other, (offset, 0.0)))
    expected_mean = (radius * mean[0] + other * mean[1]) / (radius + other)
    assert ours.assd == pytest.approx(expected_mean, abs=1e-4)
    expected_95 = max(np.quantile(there, 0.95), np.quantile(back, 0.95))
    assert ours.hd95 == pytest.approx(expected_95, abs=5e-3)
    assert ours.hausdorff == pytest.approx(offset + abs(radius - other), abs=1e-3)
    expected_dice = close / (radius + other)
    assert ours.surface_dice(tolerance) == pytest.approx(expected_dice, abs=2e-3)


def test_distances_do_not_depend_on_vertices_order_or_direction():
    angles = np.linspace(0, 2 * np.pi, 301)[:-1]
    uneven = angles + 0.3 * np.sin(angles)

    def ellipse(at):
        radii = ellipse_radii(at, 14.0, 10.0)
        return Curve(points=np.stack([np.cos(at), np.sin(at)], -1) * radii[:, None], unit="mm")

    other = circle(12.0)
    one, two = surface_distances(ellipse(angles), other), surface_distances(other, ellipse(uneven))
    assert one.assd == pytest.approx(two.assd, abs=2e-3)
    assert one.hd95 == pytest.approx(two.hd95, abs=5e-3)
    backwards = Curve(points=ellipse(angles).points[::-1].copy(), unit="mm")
    assert surface_distances(backwards, other).assd == pytest.approx(one.assd, abs=1e-3)


def test_wrong_unit_of_length_is_caught():
    """Negative control: contours read with a 1.2 times too large spacing miss the golden value."""
    wrong = surface_distances(circle(12.0), circle(15.0))
    assert wrong.assd != pytest.approx(2.5, abs=0.1)


def test_names_in_mm_are_refused_for_pixels():
    pixels = replace(circle(10.0), unit="px")
    distances = surface_distances(pixels, replace(circle(11.0), unit="px"))
    assert distances.assd == pytest.approx(1.0, abs=1e-3)
    for name in ("assd_mm", "hd95_mm", "hausdorff_mm"):
        with pytest.raises(InputError, match=r"use .*or give the image a spacing"):
            getattr(distances, name)
    assert surface_distances(circle(10.0), circle(11.0)).assd_mm == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(InputError, match="cannot compare"):
        surface_distances(pixels, circle(10.0))
    with pytest.raises(InputError, match="cannot compare"):
        lebesgue_error(pixels, circle(10.0))
    with pytest.raises(InputError, match="step"):
        surface_distances(circle(10.0), circle(10.0), step=0.0)
    with pytest.raises(InputError, match="tolerance"):
        distances.surface_dice(-1.0)


def test_lebesgue_error_is_a_ring_and_a_pair_of_lenses():
    assert lebesgue_error(circle(10.0), circle(12.0)) == pytest.approx(np.pi * 44.0, rel=1e-4)
    half = 0.5 * 3.0 / 10.0
    lens = 2 * 100.0 * np.arccos(half) - 0.5 * 3.0 * np.sqrt(4 * 100.0 - 9.0)
    expected = 2 * (np.pi * 100.0 - lens)
    assert lebesgue_error(circle(10.0), circle(10.0, (3.0, 0.0))) == pytest.approx(
        expected, rel=1e-3
    )


def test_dice_of_masks():
    a, b = np.zeros((2, 6, 6), dtype=bool)
    a[:4], b[2:] = True, True
    assert dice(a, b) == pytest.approx(0.5)
    assert dice(a, a) == 1.0
    assert np.isnan(dice(a & False, a & False))
    with pytest.raises(InputError, match="shapes"):
        dice(a, b[:3])


def sphere_mask(radius, centre, spacing, shape=(44, 44, 30)):
    index = np.stack(np.indices(shape), axis=-1)
    return np.linalg.norm(index * spacing - np.asarray(centre), axis=-1) <= radius


SPACING = np.array([1.0, 1.0, 1.5])
CENTRE = (21.0, 21.0, 21.0)


def test_volume_surface_has_the_area_of_a_sphere_and_of_a_box():
    mask = sphere_mask(16.0, CENTRE, SPACING)
    area = surface_distances_3d(mask, mask, SPACING).a_weight.sum()
    assert area == pytest.approx(4 * np.pi * 16.0**2, rel=0.08)
    box = np.zeros((60, 60, 60), dtype=bool)
    box[5:55, 5:55, 5:55] = True
    area = surface_distances_3d(box, box, (1.0, 1.0, 1.0)).a_weight.sum()
    assert area == pytest.approx(6 * 50.0**2, rel=0.03)  # edges are rounded off


def test_volume_distances_of_concentric_spheres():
    a, b = (sphere_mask(radius, CENTRE, SPACING) for radius in (12.0, 15.0))
    distances = surface_distances_3d(a, b, SPACING)
    assert distances.assd == pytest.approx(3.0, abs=0.6)  # half a voxel
    assert distances.hd95 == pytest.approx(3.0, abs=0.8)
    assert distances.surface_dice(4.0) > 0.99
    assert distances.surface_dice(1.5) < 0.05
    same = surface_distances_3d(a, a, SPACING)
    assert (same.assd, same.hd95, same.surface_dice(0.0)) == (0.0, 0.0, 1.0)


def test_volume_distances_of_shifted_boxes_are_exact():
    """Two 10 x 10 x 10 boxes, 3 voxels apart along an axis of 2 mm: 6 mm at the far faces."""
    a, b = np.zeros((2, 30, 30, 30), dtype=bool)
    a[5:15, 5:15, 5:15], b[8:18, 5:15, 5:15] = True, True
    distances = surface_distances_3d(a, b, (2.0, 1.0, 1.0))
    assert distances.hausdorff == pytest.approx(6.0)
    with_wrong_spacing = surface_distances_3d(a, b, (1.0, 1.0, 1.0))
    assert with_wrong_spacing.hausdorff != pytest.approx(6.0)  # negative control


def test_volume_distances_equal_those_of_a_nearest_neighbour_search():
    """Independent of the distance transform: surface corners as points, and a k-d tree."""
    rng = np.random.default_rng(0)
    from scipy.ndimage import gaussian_filter

    a, b = (gaussian_filter(rng.standard_normal((20, 18, 16)), 2.0) > 0.05 for _ in range(2))
    spacing = np.array([1.0, 2.0, 0.7])

    def corners(mask):
        padded = np.pad(mask, 1).astype(int)
        total = sum(
            padded[i : i + mask.shape[0] + 1, j : j + mask.shape[1] + 1, k : k + mask.shape[2] + 1]
            for i, j, k in np.ndindex(2, 2, 2)
        )
        return np.argwhere((total > 0) & (total < 8)) * spacing

    ours = surface_distances_3d(a, b, spacing)
    assert np.allclose(np.sort(ours.a_to_b), np.sort(cKDTree(corners(b)).query(corners(a))[0]))
    assert np.allclose(np.sort(ours.b_to_a), np.sort(cKDTree(corners(a)).query(corners(b))[0]))


def test_wrong_spacing_is_caught_in_volumes():
    """Negative control: voxels taken for twice their size miss the known 3 mm and the area."""
    a, b = (sphere_mask(radius, CENTRE, SPACING) for radius in (12.0, 15.0))
    wrong = surface_distances_3d(a, b, 2 * SPACING)
    assert wrong.assd != pytest.approx(3.0, abs=0.6)
    assert wrong.a_weight.sum() != pytest.approx(4 * np.pi * 12.0**2, rel=0.08)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 0.0), (1.0, 1.0, -2.0), (1.0, 1.0, np.nan)])
def test_bad_spacing_is_refused(spacing):
    mask = sphere_mask(5.0, CENTRE, SPACING)
    with pytest.raises(InputError, match="spacing_mm"):
        surface_distances_3d(mask, mask, spacing)


def test_empty_volume_is_refused():
    mask = sphere_mask(5.0, CENTRE, SPACING)
    with pytest.raises(InputError, match="second mask is empty"):
        surface_distances_3d(mask, mask & False, SPACING)
    with pytest.raises(InputError, match="3D"):
        surface_distances_3d(mask[0], mask[0], SPACING)
