"""Do distances between contours and volumes equal those known from geometry?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial import cKDTree

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.space.curve import Curve
from aistat_jax.space.mesh import Mesh
from aistat_jax.uncertainty.overlap import dice, lebesgue_error
from aistat_jax.uncertainty.surface_distance import added_path_length, surface_distances
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
    area = surface_distances(mask, mask, SPACING).a_weight.sum()
    assert area == pytest.approx(4 * np.pi * 16.0**2, rel=0.12)  # stairs are longer than slopes
    box = np.zeros((60, 60, 60), dtype=bool)
    box[5:55, 5:55, 5:55] = True
    area = surface_distances(box, box, (1.0, 1.0, 1.0)).a_weight.sum()
    assert area == pytest.approx(6 * 50.0**2, rel=0.03)  # edges are rounded off


def test_volume_distances_of_concentric_spheres():
    a, b = (sphere_mask(radius, CENTRE, SPACING) for radius in (12.0, 15.0))
    distances = surface_distances(a, b, SPACING)
    assert distances.assd == pytest.approx(3.0, abs=0.6)  # half a voxel
    assert distances.hd95 == pytest.approx(3.0, abs=0.8)
    assert distances.surface_dice(4.0) > 0.99
    assert distances.surface_dice(1.5) < 0.05
    same = surface_distances(a, a, SPACING)
    assert (same.assd, same.hd95, same.surface_dice(0.0)) == (0.0, 0.0, 1.0)


def test_volume_distances_of_shifted_boxes_are_exact():
    """Two 10 x 10 x 10 boxes, 3 voxels apart along an axis of 2 mm: 6 mm at the far faces."""
    a, b = np.zeros((2, 30, 30, 30), dtype=bool)
    a[5:15, 5:15, 5:15], b[8:18, 5:15, 5:15] = True, True
    distances = surface_distances(a, b, (2.0, 1.0, 1.0))
    assert distances.hausdorff == pytest.approx(6.0)
    with_wrong_spacing = surface_distances(a, b, (1.0, 1.0, 1.0))
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

    ours = surface_distances(a, b, spacing)
    assert np.allclose(np.sort(ours.a_to_b), np.sort(cKDTree(corners(b)).query(corners(a))[0]))
    assert np.allclose(np.sort(ours.b_to_a), np.sort(cKDTree(corners(a)).query(corners(b))[0]))


def test_wrong_spacing_is_caught_in_volumes():
    """Negative control: voxels taken for twice their size miss the known 3 mm and the area."""
    a, b = (sphere_mask(radius, CENTRE, SPACING) for radius in (12.0, 15.0))
    wrong = surface_distances(a, b, 2 * SPACING)
    assert wrong.assd != pytest.approx(3.0, abs=0.6)
    assert wrong.a_weight.sum() != pytest.approx(4 * np.pi * 12.0**2, rel=0.08)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 0.0), (1.0, 1.0, -2.0), (1.0, 1.0, np.nan)])
def test_bad_spacing_is_refused(spacing):
    mask = sphere_mask(5.0, CENTRE, SPACING)
    with pytest.raises(InputError, match="3 positive lengths"):
        surface_distances(mask, mask, spacing)


def test_what_is_not_there_is_infinitely_far():
    """One rule for empty masks, which is surface-distance's."""
    mask = sphere_mask(5.0, CENTRE, SPACING)
    for a, b in ((mask, mask & False), (mask & False, mask)):
        found = surface_distances(a, b, SPACING)
        assert (found.assd, found.hausdorff, found.hd95) == (np.inf, np.inf, np.inf)
        assert found.surface_dice(3.0) == 0.0
    assert found.surface_overlap(3.0)[1] == 0.0
    neither = surface_distances(mask & False, mask & False, SPACING)
    means = (neither.assd, neither.surface_dice(1.0), *neither.average_distances)
    assert np.isnan([*means, *neither.surface_overlap(1.0)]).all()
    assert neither.hausdorff == np.inf


def test_masks_that_cannot_be_compared_are_refused():
    mask = sphere_mask(5.0, CENTRE, SPACING)
    with pytest.raises(InputError, match="2D or 3D, got 1D"):
        surface_distances(mask[0, 0], mask[0, 0], (1.0,))
    with pytest.raises(InputError, match="2 positive lengths, got None"):
        surface_distances(mask[0], mask[0])
    with pytest.raises(InputError, match="3 positive lengths"):
        surface_distances(mask, mask, (1.0, 1.0))
    with pytest.raises(InputError, match="a Curve cannot be compared with a ndarray"):
        surface_distances(circle(3.0), mask)
    with pytest.raises(InputError, match="above 0 and up to 100"):
        surface_distances(mask, mask, SPACING).robust_hausdorff(101)


# ---- elements, by hand


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_box_has_the_elements_of_hand(n):
    """Faces of whole squares, edges cut off at half a voxel (1 / sqrt 2), corners at sqrt 3 / 8."""
    a, b, c = 1.0, 2.0, 0.7
    box = np.ones((n, n, n), bool)
    faces = 2 * (n - 1) ** 2 * (a * b + b * c + a * c)
    edges = sum(
        4 * (n - 1) * along * np.hypot(one, other) / 2
        for along, one, other in ((a, b, c), (b, a, c), (c, a, b))
    )
    corners = 8 * np.sqrt((a * b) ** 2 + (b * c) ** 2 + (a * c) ** 2) / 8
    area = surface_distances(box, box, (a, b, c)).a_weight.sum()
    assert area == pytest.approx(faces + edges + corners)
    square = surface_distances(box[0], box[0], (a, b)).a_weight.sum()
    assert square == pytest.approx(2 * (n - 1) * (a + b) + 4 * np.hypot(a, b) / 2)


def test_directed_means_and_overlaps_by_hand():
    """One pixel against two: six corners, of which the far two are 1 away from the nearest."""
    one, two = np.zeros((2, 1, 2), bool)
    one[0, 0], two[:] = True, True
    found = surface_distances(one, two, (1.0, 1.0))
    corner = np.sqrt(0.5)
    assert found.average_distances == pytest.approx((0.0, 2 * corner / (4 * corner + 2)))
    assert found.surface_overlap(0.5) == pytest.approx((1.0, (2 * corner + 2) / (4 * corner + 2)))
    assert found.surface_dice(0.5) == pytest.approx((6 * corner + 2) / (8 * corner + 2))
    assert (found.robust_hausdorff(50), found.robust_hausdorff(100)) == (0.0, 1.0)
    assert found.surface_dice(1.0) == 1.0  # negative control: the tolerance matters


# ---- the package that defined them


@pytest.fixture
def theirs(monkeypatch):
    """surface-distance of PyPI, which asks for names that NumPy and SciPy have given up."""
    module = pytest.importorskip("surface_distance.metrics", reason="extra bench not installed")
    from scipy import ndimage

    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        monkeypatch.setattr(np, name, value, raising=False)
    names = type("Names", (), {"filters": ndimage, "morphology": ndimage})
    monkeypatch.setattr(module, "ndimage", names)
    return module


def compared_with(theirs, a, b, spacing, tolerances=(0.0, 0.93, 2.61)):
    ours = surface_distances(a, b, spacing)
    known = theirs.compute_surface_distances(a, b, spacing)
    with np.errstate(invalid="ignore"):
        pairs = [
            (ours.average_distances, theirs.compute_average_surface_distance(known)),
            *(
                (ours.robust_hausdorff(p), theirs.compute_robust_hausdorff(known, p))
                for p in (50, 95, 100)
            ),
            *(
                (ours.surface_overlap(t), theirs.compute_surface_overlap_at_tolerance(known, t))
                for t in tolerances
            ),
            *(
                (ours.surface_dice(t), theirs.compute_surface_dice_at_tolerance(known, t))
                for t in tolerances
            ),
            (dice(a, b), theirs.compute_dice_coefficient(a, b)),
        ]
    for own, wanted in pairs:
        np.testing.assert_allclose(own, wanted, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.3), (1.0, 1.0, 1.0), (0.9, 1.7, 3.1)])
def test_random_masks_have_the_numbers_of_surface_distance(theirs, rng, spacing):
    from scipy.ndimage import gaussian_filter

    shape = (19, 23, 17)[: len(spacing)]
    for smooth in (0.0, 0.7, 2.0):
        for level in (0.3, 0.5, 0.7):
            fields = gaussian_filter(rng.standard_normal((2, *shape)), (0, *[smooth] * len(shape)))
            a, b = (field > np.quantile(field, level) for field in fields)
            compared_with(theirs, a, b, spacing)
    few = np.zeros((2, *shape), bool)
    few[0][(3,) * len(shape)] = few[1][(15,) * len(shape)] = True
    compared_with(theirs, few[0], few[1], spacing)
    compared_with(theirs, few[0], few[0], spacing)
    compared_with(theirs, few[0], few[1] & False, spacing)
    compared_with(theirs, few[0] & False, few[1], spacing)
    compared_with(theirs, few[0] & False, few[1] & False, spacing)


def test_an_ellipsoid_in_much_air_has_the_numbers_of_surface_distance(theirs):
    """Few elements in many voxels, whose distances a tree finds."""
    a, b = (sphere_mask(r, CENTRE, SPACING, (60, 60, 40)) for r in (16.0, 19.0))
    compared_with(theirs, a, b, tuple(SPACING))


def test_drawn_organs_have_the_numbers_of_surface_distance(theirs, data_root):
    import nibabel

    folder = data_root / "sts_petctmr_nifti"
    masks = sorted(folder.glob("nifti/*/PET_mask.nii.gz"))[:2]
    if not masks:
        pytest.skip(f"no masks in {folder}")
    for path in masks:
        image = nibabel.load(path)
        mask = np.asarray(image.dataobj) > 0
        spacing = tuple(float(side) for side in image.header.get_zooms()[:3])
        moved = np.roll(mask, (2, -1, 1), axis=(0, 1, 2))
        compared_with(theirs, mask, moved, spacing)
        k = int(mask.sum(axis=(0, 1)).argmax())
        compared_with(theirs, mask[..., k], moved[..., k], spacing[:2])


# ---- meshes, and the path that is left to draw


def ball(radius: float, centre=(0.0, 0.0, 0.0), frequency: int = 12) -> Mesh:
    from aistat_jax.space.sphere_sites import sphere_sites

    sites = sphere_sites(frequency)
    return Mesh(radius * sites.directions + np.array(centre), sites.triangles)


def test_distance_to_a_mesh_is_that_to_its_nearest_triangle(rng):
    """Against all triangles by a dense sample of each; and a triangle by hand."""
    triangle = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    points = np.array([[0.2, 0.2, 3.0], [-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [0.5, -2.0, 0.0]])
    expected = [3.0, np.sqrt(2.0), np.sqrt(0.5), 2.0]
    np.testing.assert_allclose(triangle.distance_to(points), expected)
    mesh = ball(10.0, frequency=4)
    mesh = Mesh(mesh.points * [1.0, 0.6, 1.4], mesh.faces)
    where = 12 * rng.standard_normal((50, 3))
    dense, areas = mesh.pieces(0.1)
    found, near = mesh.distance_to(where), cKDTree(dense).query(where)[0]
    assert areas.sum() == pytest.approx(mesh.areas.sum())
    assert (found <= near + 1e-9).all()
    np.testing.assert_allclose(found, near, atol=0.05)


def test_meshes_of_concentric_and_shifted_balls():
    found = surface_distances(ball(10.0), ball(12.0), step=2.0)
    assert found.average_distances == pytest.approx((2.0, 2.0), abs=0.06)
    assert found.hausdorff == pytest.approx(2.0, abs=0.06)
    shifted = surface_distances(ball(10.0), ball(10.0, (0.0, 0.0, 3.0)), step=2.0)
    assert shifted.hausdorff == pytest.approx(3.0, abs=0.06)
    # over a sphere cos is uniform: |sqrt(100 + 9 - 60 c) - 10|, c in [-1, 1]
    expected = quad(lambda c: abs(np.sqrt(109 - 60 * c) - 10) / 2, -1, 1, limit=200)[0]
    assert shifted.assd == pytest.approx(expected, abs=0.03)
    with pytest.raises(InputError, match="two kinds|cannot be compared"):
        surface_distances(ball(10.0), circle(10.0))
    with pytest.raises(InputError, match="in slices"):
        added_path_length(ball(10.0), ball(10.0))


def test_added_path_length_by_hand():
    """A square of 10 by 10 of which the right column is missing: its side and two short bits."""
    drawn, reference = np.zeros((2, 14, 14), bool)
    drawn[2:12, 2:11], reference[2:12, 2:12] = True, True
    # 9 whole elements and two cut corners on the far side, at x = 12
    side = 9 * 1.0 + 2 * np.sqrt(0.5)
    assert added_path_length(drawn, reference, (1.0, 1.0)) == pytest.approx(side)
    assert added_path_length(drawn, reference, (1.0, 1.0), tolerance=1.0) == 0.0
    volume = np.stack([reference, reference, reference & False], axis=-1)
    part = np.stack([drawn, drawn & False, drawn], axis=-1)
    whole = 36 + 4 * np.sqrt(0.5)
    assert added_path_length(part, volume, (1.0, 1.0, 5.0)) == pytest.approx(side + whole)
    assert added_path_length(volume, volume, (1.0, 1.0, 5.0)) == 0.0
    near = added_path_length(circle(10.0), circle(10.0, (1.0, 0.0)), tolerance=0.5)
    # | offset cos | > .5 on two thirds of a circle, nearly
    assert near == pytest.approx(2 / 3 * 2 * np.pi * 10.0, rel=0.02)


def test_dice_of_curves_is_that_of_their_areas():
    half = 0.5 * 3.0 / 10.0
    lens = 2 * 100.0 * np.arccos(half) - 0.5 * 3.0 * np.sqrt(4 * 100.0 - 9.0)
    found = dice(circle(10.0), circle(10.0, (3.0, 0.0)))
    assert found == pytest.approx(lens / (np.pi * 100.0), rel=1e-3)
    assert dice(circle(10.0), circle(10.0)) == pytest.approx(1.0)
    with pytest.raises(InputError, match="draw a mesh into voxels"):
        dice(ball(10.0), ball(10.0))
    with pytest.raises(InputError, match="draw it into a mask"):
        dice(circle(10.0), np.ones((3, 3), bool))


@pytest.mark.parametrize("shape", [(20, 20, 20), (30, 40)])
def test_the_order_in_memory_changes_nothing(shape):
    a, b = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    a[..., 2:8], b[..., 4:16] = True, True
    sides = np.ones(len(shape))
    plain = surface_distances(a, b, sides)
    turned = surface_distances(np.asfortranarray(a), np.asfortranarray(b), sides)
    assert turned.hd95 == plain.hd95 == pytest.approx(8.0)
    assert turned.surface_dice(1.0) == plain.surface_dice(1.0) < 0.6
