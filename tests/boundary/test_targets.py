"""Is the lesion found from a point, a mask or a threshold, and is anything else refused?"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.boundary.finders import find_targets
from aistat_jax.boundary.targets import MIN_PIXELS, Target
from aistat_jax.data.phantoms import Phantom, pet_ct_phantom
from aistat_jax.io.nifti import read_image
from aistat_jax.space.curve import coverage_from_contours
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image

RADIUS_MM = 18.0
FOUND = 0.8  # Dice in 3D of a region found in 4 mm voxels against the truth


def scan(necrosis: bool = False) -> Phantom:
    return pet_ct_phantom(
        1, dims=3, radius_mm=RADIUS_MM, necrosis=necrosis, shape=(32, 32, 16),
        spacing_mm=(4.0, 4.0, 4.0), ct_spacing_mm=4.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def hot() -> Phantom:
    return scan()


@pytest.fixture(scope="module")
def necrotic() -> Phantom:
    return scan(necrosis=True)


def region_of(targets: Sequence[Target], shape: tuple[int, ...]) -> np.ndarray:
    """Voxels inside the outlines of one lesion's targets."""
    region = np.zeros(shape, dtype=bool)
    for target in targets:
        assert target.outline is not None
        coverage = coverage_from_contours([target.outline], target.plane)
        region[:, :, target.plane.index] |= coverage >= 0.5
    return region


def dice_3d(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# ----------------------------------------------------------------------------- from a point


@pytest.mark.parametrize("at", [0.0, 0.4, 0.75])
@pytest.mark.parametrize("kind", ["hot", "necrotic"])
def test_a_lesion_is_found_from_any_point_inside(request, kind, at):
    """From the middle (a necrotic core is colder than the rim by far), and from near the edge."""
    phantom = request.getfixturevalue(kind)
    edge = phantom.truth_radii(np.zeros(1))[0]
    point = phantom.centre + np.array([at * edge, 0.0, 0.0])
    targets = find_targets(phantom.image, point_mm=point)
    region = region_of(targets, phantom.mask.shape)
    assert dice_3d(region, phantom.mask) > FOUND
    # negative control: the same region two voxels away is not the lesion
    assert dice_3d(np.roll(region, 2, axis=0), phantom.mask) < FOUND


def test_a_core_is_colder_than_half_of_its_rim(hot, necrotic):
    """Else the test above says nothing about cores."""
    index = tuple(np.rint(hot.image.primary.grid.to_index(hot.centre)).astype(int))
    assert necrotic.image.primary.values[index] < 0.5 * hot.image.primary.values[index]


def test_targets_of_a_point_come_one_per_slice_in_order(hot):
    targets = find_targets(hot.image, point_mm=hot.centre)
    slices = [target.plane.index for target in targets]
    assert slices == list(range(slices[0], slices[-1] + 1))
    assert [target.id for target in targets] == [f"z{k:03d}" for k in slices]
    for target in targets:
        plane = hot.image.primary.grid.plane(target.plane.index)
        assert target.plane.offset == plane.offset
        assert target.outline is not None
        assert target.outline.contains(target.centre[None])[0]
        assert np.isclose(np.pi * target.radius**2, target.outline.area, rtol=0.1)
    middle = find_targets(hot.image, point_mm=hot.centre, slices="point")
    assert [t.plane.index for t in middle] == [hot.index]
    assert abs(middle[0].radius / RADIUS_MM - 1) < 0.25
    assert np.linalg.norm(middle[0].centre - hot.centre[:2]) < 0.25 * RADIUS_MM
    chosen = find_targets(hot.image, point_mm=hot.centre, slices=[hot.index + 1, hot.index])
    assert [t.plane.index for t in chosen] == [hot.index, hot.index + 1]


@pytest.mark.parametrize("storage", ["LPS", "SAR", "PIL"])
def test_stored_orientation_does_not_matter(hot, tmp_path, storage):
    pet = hot.image["PT"]
    file = nib.nifti1.Nifti1Image(pet.values, pet.grid.affine)
    start = nib.orientations.io_orientation(file.affine)
    wanted = nib.orientations.axcodes2ornt(storage)
    turned = file.as_reoriented(nib.orientations.ornt_transform(start, wanted))
    nib.loadsave.save(turned, tmp_path / "PT.nii")
    stored = read_image(PT=tmp_path / "PT.nii")
    first = find_targets(hot.image, point_mm=hot.centre)
    second = find_targets(stored, point_mm=hot.centre)
    assert [t.id for t in first] == [t.id for t in second]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.centre, b.centre, atol=1e-3)
        assert a.radius == pytest.approx(b.radius, rel=1e-6)
    # negative control: the voxels mirrored without telling the affine
    mirrored = Image.of(replace(stored["PT"], values=stored["PT"].values[::-1]))
    third = find_targets(mirrored, point_mm=hot.centre)
    pairs = zip(first, third, strict=False)
    assert max(np.linalg.norm(a.centre - c.centre) for a, c in pairs) > 1.0


# --------------------------------------------------- two balls in a body: masks and thresholds

SHAPE, SPACING = (40, 30, 12), np.array([4.0, 4.0, 5.0])
LARGE, SMALL = np.array([60.0, 56.0, 25.0]), np.array([110.0, 64.0, 30.0])
AIR = (4.0, 56.0, 25.0)


def ball(centre: np.ndarray, radius: float) -> np.ndarray:
    points = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING
    return np.linalg.norm(points - centre, axis=-1) <= radius


def two_balls(quantity: str = "SUV") -> Image:
    """Uptake 6 and 9 in a body of 1, with 24 mm of air on either side."""
    body = (np.indices(SHAPE)[0] >= 6) & (np.indices(SHAPE)[0] < 34)
    values = 1.0 * body + 5.0 * ball(LARGE, 18.0) + 8.0 * ball(SMALL, 12.0)
    return Image.of(Channel(values, Grid(np.diag([*SPACING, 1.0]), SHAPE), "PT", quantity))


@pytest.mark.parametrize("quantity", ["SUV", "HU"])
def test_of_two_lesions_the_one_that_holds_the_point_is_found(quantity):
    for centre, radius in ((LARGE, 18.0), (SMALL, 12.0)):
        targets = find_targets(two_balls(quantity), point_mm=centre)
        region = region_of(targets, SHAPE)
        assert dice_3d(region, ball(centre, radius)) > 0.95
    assert dice_3d(region, ball(LARGE, 18.0)) == 0


def test_a_mask_is_taken_as_it_is():
    image, mask = two_balls(), ball(LARGE, 18.0)
    targets = find_targets(image, mask=mask)
    area = mask.sum(axis=(0, 1))
    assert [t.plane.index for t in targets] == np.flatnonzero(area >= MIN_PIXELS).tolist()
    for target in targets:
        wanted = np.sqrt(16.0 * area[target.plane.index] / np.pi)
        assert target.radius == pytest.approx(wanted)
        np.testing.assert_allclose(target.centre, LARGE[:2], atol=2.0)
    assert dice_3d(region_of(targets, SHAPE), mask) > 0.98
    # without a point, "point" is the slice of the largest area
    assert [t.plane.index for t in find_targets(image, mask=mask, slices="point")] == [5]
    # with one, its slice, or the nearest that the mask meets
    for z, index in ((35.0, 7), (55.0, targets[-1].plane.index)):
        point = (*LARGE[:2], z)
        found = find_targets(image, mask=mask, point_mm=point, slices="point")
        assert [t.plane.index for t in found] == [index]


def test_of_several_pieces_in_a_slice_each_is_a_target_the_largest_first():
    """Each is what it is alone: centre, radius and how it tapers across slices."""
    image = two_balls()
    both = find_targets(image, mask=ball(LARGE, 18.0) | ball(SMALL, 12.0), slices=[5])
    assert [target.id for target in both] == ["z005.1", "z005.2"]
    for number, (centre, radius) in enumerate(((LARGE, 18.0), (SMALL, 12.0)), start=1):
        (alone,) = find_targets(image, mask=ball(centre, radius), slices=[5])
        found = both[f"z005.{number}"]
        assert (found.radius, found.taper.slope) == (alone.radius, alone.taper.slope)
        np.testing.assert_array_equal(found.centre, alone.centre)
    with pytest.raises(InputError, match="no target z005; there are z005.1, z005.2"):
        both["z005"]


def test_every_piece_is_a_target_or_left_out_by_name():
    mask = ball(LARGE, 18.0)
    mask[30:32, 20, 5] = True
    found = find_targets(two_balls(), mask=mask)
    pieces = sum(len(np.unique(label(mask[:, :, k])[0])) - 1 for k in range(SHAPE[2]))
    assert len(found) + len(found.skipped) == pieces
    assert ("z005.2", "2 pixels are too few for a contour (at least 6)") in found.skipped
    assert find_targets(two_balls(), mask=ball(LARGE, 18.0), slices=[5]).skipped == ()


def test_a_lesion_that_parts_tapers_along_each_of_its_branches():
    """A stem with two branches above it: each branch goes on in the stem, not in the other."""
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (40, 40, 8))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[5:35, 15:25, :4] = True
    mask[5:15, 15:25, 4:] = True  # as wide above as anywhere
    mask[22:35, 15:25, 4:] = True
    image = Image.of(Channel(mask + np.linspace(0, 0.1, 8), grid, "MR"))
    found = find_targets(image, mask=mask, slices=[6])
    lone = np.zeros(grid.shape, dtype=bool)
    lone[22:35, 15:25] = True
    lone[5:35, 15:25, :4] = True
    (alone,) = find_targets(image, mask=lone, slices=[6])
    assert found["z006.1"].taper.bend == alone.taper.bend
    other = find_targets(image, mask=lone | mask, slices=[3])  # negative control: the stem itself
    assert other[0].taper.bend != alone.taper.bend


def test_a_mask_too_small_anywhere_still_makes_a_target():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[20, 15, 4:6] = True
    assert [t.id for t in find_targets(two_balls(), mask=mask)] == ["z004", "z005"]


def test_the_centre_of_a_crescent_lies_within_it():
    """The centroid of a crescent lies outside."""
    plane = two_balls().primary.grid.plane(0)
    points = plane.points()
    crescent = (np.linalg.norm(points - [80.0, 60.0], axis=-1) < 44) & (
        np.linalg.norm(points - [96.0, 60.0], axis=-1) > 40
    )
    target = Target.from_mask(crescent, plane)
    assert crescent[tuple(np.rint(plane.to_index(target.centre)).astype(int))]
    centroid = points[crescent].mean(axis=0)
    assert not crescent[tuple(np.rint(plane.to_index(centroid)).astype(int))]


def test_a_threshold_marks_every_lesion_or_the_one_at_the_point():
    image = two_balls()
    whole = region_of(find_targets(image, threshold=3.0), SHAPE)
    assert dice_3d(whole, ball(LARGE, 18.0) | ball(SMALL, 12.0)) > 0.98
    at = region_of(find_targets(image, threshold=3.0, point_mm=SMALL), SHAPE)
    assert dice_3d(at, ball(SMALL, 12.0)) > 0.98
    hotter = region_of(find_targets(image, threshold=7.0), SHAPE)
    np.testing.assert_array_equal(hotter, at)


def test_in_space_every_lesion_is_a_target_and_a_speck_is_named():
    mask = ball(LARGE, 18.0) | ball(SMALL, 12.0)
    mask[2, 2, 2] = True
    found = find_targets(two_balls(), mask=mask, dims=3)
    assert [target.id for target in found] == ["target.1", "target.2"]
    ((name, why),) = found.skipped
    assert name == "target.3"
    assert "1 slice does not show the surface" in why
    (alone,) = find_targets(two_balls(), mask=ball(SMALL, 12.0), dims=3)
    np.testing.assert_array_equal(found[1].centre, alone.centre)
    assert alone.id == "target"


def test_an_image_of_pixels_has_targets_in_pixels():
    flat = Image.from_arrays(A=two_balls().primary.values[:24, :, 5])  # the large ball alone
    target = find_targets(flat, point_mm=(15.0, 14.0, 0.0))[0]
    assert (target.unit, target.id) == ("px", "z000")
    assert target.radius == pytest.approx(18.0 / 4.0, rel=0.05)
    np.testing.assert_allclose(target.centre, [15.0, 14.0], atol=0.5)


# --------------------------------------------------------------------------------- refusals

EMPTY = np.zeros(SHAPE, dtype=bool)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({}, "a target needs a point, a mask or a threshold"),
        ({"point_mm": (500.0, 0.0, 0.0)}, "lies outside channel PT, which covers .* mm"),
        ({"point_mm": (60.0, 56.0)}, "three finite coordinates"),
        ({"point_mm": (60.0, np.nan, 25.0)}, "three finite coordinates"),
        ({"point_mm": AIR}, "nothing within 20 mm of the point stands out"),
        ({"mask": EMPTY}, "the mask is empty"),
        ({"mask": ~EMPTY[:, :, :3]}, "does not match channel PT's .* resample the mask"),
        ({"threshold": 20.0}, "marks nothing in channel PT; its values run from 0 to 9"),
        ({"threshold": -1.0}, "marks everything in channel PT; its values run from 0 to 9"),
        ({"threshold": 3.0, "point_mm": AIR}, "value 0 SUV is below the threshold 3.0"),
        ({"point_mm": LARGE, "slices": [5, 11]}, "does not meet slice 11; it meets . to ."),
        ({"point_mm": LARGE, "slices": "middle"}, "must be 'all', 'point' or slice numbers"),
        ({"point_mm": LARGE, "channel": "MR"}, "MR"),
    ],
)
def test_what_makes_no_target_is_refused_in_a_sentence(request_, sentence):
    with pytest.raises(InputError, match=sentence):
        find_targets(two_balls(), **request_)


def test_an_empty_slice_makes_no_target():
    plane = two_balls().primary.grid.plane(3)
    with pytest.raises(InputError, match="target t: the mask is empty in slice 3"):
        Target.from_mask(EMPTY[:, :, 3], plane, "t")
