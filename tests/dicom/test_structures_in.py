"""Do contours that somebody else drew come in as they are, and are wrong ones refused by name?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from aistat_jax.dicom.slices import slices_of
from aistat_jax.dicom.structure_file import Structure, write_structures
from aistat_jax.dicom.structures import curves_of, mask_of
from aistat_jax.space.curve import region_of
from aistat_jax.space.image import Image
from aistat_jax.space.star import star_chart
from tests.dicom.made import SPACING, pydicom, save_series, save_structures
from tests.dicom.test_structures import CENTRE
from tests.helpers import circle


@pytest.fixture
def image(tmp_path) -> Image:
    return aj.read_image(PT=save_series(tmp_path / "pt"), CT=save_series(tmp_path / "ct", "CT"))


def square(z: float, half: float = 9.0, points: int = 4) -> np.ndarray:
    """A square about the lesion in LPS at a height. Shapes: (point, 3)."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])[:points] * half + -CENTRE
    return np.column_stack([corners, np.full(points, z)])


def test_contours_come_in_by_their_region_s_name(tmp_path, image):
    path = save_structures(
        tmp_path / "rs.dcm", {"GTV": [square(120.04), square(124.97)], "Cord": [square(130, 3.0)]}
    )
    found = aj.read_structures(path)
    assert found.names == ("GTV", "Cord")
    curves = curves_of(found["gtv "], image.primary)  # however it is written
    assert list(curves) == [4, 5]
    assert np.isclose(curves[4][0].area, 18.0**2)
    assert np.allclose(curves[4][0].centroid, CENTRE)
    assert (
        aj.read_mask(path, image.primary, "GTV").sum() == mask_of(found["GTV"], image.primary).sum()
    )
    with pytest.raises(InputError, match="no region of the name 'PTV'; there are: GTV, Cord"):
        found["PTV"]
    with pytest.raises(InputError, match="say which, by its name as `roi`: GTV, Cord"):
        aj.read_mask(path, image.primary)


def test_two_readers_are_raters(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"A": [square(125, 9.0)], "B": [square(125, 10.0)]})
    drawn = aj.read_structures(path)
    curves = [aj.curves_of(drawn[name], image.primary)[5][0] for name in drawn.names]
    plane = image.primary.grid.plane(5)
    target, chart = aj.Target(CENTRE, 10.0, plane, "z005"), star_chart(CENTRE, 30.0, plane, 64)
    (term,) = aj.raters(curves).tabulate(target, chart)
    assert np.allclose(np.asarray(term.mean)[::16], 9.5, atol=1e-3)  # halfway, towards the sides


def test_nested_contours_are_a_hole(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(120), square(120, 4.0)]})
    mask = aj.read_mask(path, image.primary)
    at = np.rint(image.primary.grid.to_index(np.array([*CENTRE, 120.0]))).astype(int)
    assert mask.any()
    assert not mask[tuple(at)]


def slid(contour: np.ndarray, x: float) -> np.ndarray:
    return contour + np.array([x, 0.0, 0.0])


def area_of(path: Path, image: Image) -> float:
    return region_of(curves_of(aj.read_structures(path).roi(), image.primary)[4]).area


def test_contours_drawn_twice_count_once(tmp_path, image):
    near = [square(120), slid(square(120), 0.2), square(120, 4.0)]
    path = save_structures(tmp_path / "rs.dcm", {"GTV": near})
    with pytest.warns(InputWarning, match="1 contours are drawn twice and count once"):
        assert np.isclose(area_of(path, image), 18.0**2 - 8.0**2)
    path = save_structures(tmp_path / "xor.dcm", {"GTV": near}, kind="CLOSEDPLANAR_XOR")
    assert np.isclose(area_of(path, image), 2 * 0.2 * 18.0 + 8.0**2)  # as it says


def test_contours_that_overlap_in_part_are_united(tmp_path, image):
    two = [square(120), slid(square(120), 9.0)]
    path = save_structures(tmp_path / "rs.dcm", {"GTV": two})
    with pytest.warns(InputWarning, match="overlap in part on 1 slices"):
        assert np.isclose(area_of(path, image), 18.0 * 27.0)
    path = save_structures(tmp_path / "xor.dcm", {"GTV": two}, kind="CLOSEDPLANAR_XOR")
    assert np.isclose(area_of(path, image), 18.0 * 18.0)
    apart = save_structures(tmp_path / "apart.dcm", {"GTV": [square(120), slid(square(120), 18.0)]})
    assert np.isclose(area_of(apart, image), 2 * 18.0**2)  # they touch, and nothing is said


def test_slices_that_were_skipped_are_said(tmp_path, image):
    cases = {
        "drawn on every 2nd slice of 2 to 8: those between": (2, 4, 6, 8),
        "slices 4 to 5 have no contour": (2, 3, 6, 7, 8),
    }
    for part, numbers in cases.items():
        drawn = {"GTV": [square(100 + SPACING[2] * n) for n in numbers]}
        path = save_structures(tmp_path / f"{len(numbers)}.dcm", drawn)
        with pytest.warns(InputWarning, match=part):
            assert list(curves_of(aj.read_structures(path)["GTV"], image.primary)) == list(numbers)


def test_rings_lie_at_the_height_of_their_own_instance(tmp_path):
    def uneven(said, n):
        x, y, z = said.ImagePositionPatient
        said.ImagePositionPatient = [x, y, z + (0.2 if n == 5 else 0.0)]

    for name, frame in (("axial", (1, 0, 0, 0, 1, 0)), ("down", (1, 0, 0, 0, -1, 0))):
        folder = save_series(tmp_path / name, frame=frame, change=uneven)
        with pytest.warns(InputWarning, match="off even spacing"):
            image = aj.read_image(PT=folder)
        heights = {}
        for file in folder.iterdir():
            said = pydicom.dcmread(file, stop_before_pixels=True)
            heights[said.SOPInstanceUID] = float(said.ImagePositionPatient[2])
        plane = slices_of(image.primary)[5 if name == "axial" else 6].plane
        sections = ((plane, (circle(9.0, tuple(CENTRE)),)),)
        write_structures(tmp_path / "out.dcm", [Structure("GTV", sections)], image.primary)
        (ring,) = pydicom.dcmread(tmp_path / "out.dcm").ROIContourSequence[0].ContourSequence
        own = heights[ring.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert {float(z) for z in ring.ContourData[2::3]} == {own}
        assert abs(own - plane.offset) > 0.1  # negative control


@pytest.mark.parametrize(
    ("contours", "part"),
    [
        ([square(120, points=2)], "has no closed contour: region GTV: a contour has fewer than "
                                  "three points and is left out, the first at z = 120.00 mm"),
        ([square(120), square(400)], "1 of its 2 contours lies on no slice of channel PT, the "
                                     "first at 400.00 mm"),
        ([square(120) + np.outer(np.arange(4), (0, 0, 2.0))], "turned against the slices"),
        ([square(120).ravel()[:-1]], "not triples of numbers"),
        ([], "region GTV has no closed contour"),
        ([square(120, 0.1)], "hold no voxel"),
    ],
)  # fmt: skip
def test_contours_that_cannot_be_used_are_refused(tmp_path, image, contours, part):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": contours})
    with pytest.raises(InputError) as refusal:
        aj.read_mask(path, image.primary)
    assert part in str(refusal.value)


def test_points_are_no_region(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(120)]}, kind="POINT")
    with pytest.raises(InputError, match="1 open contour or point is left out"):
        aj.read_mask(path, image.primary)


def test_a_two_point_contour_among_others_is_said(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(120), square(125, points=2)]})
    with pytest.warns(InputWarning, match="region GTV: a contour has fewer than three points"):
        assert aj.read_mask(path, image.primary)[:, :, 4].any()


def test_another_frame_of_reference_is_refused(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(120)]}, frame="1.2.3.77")
    with pytest.raises(InputError, match="drawn in another frame of reference"):
        aj.read_mask(path, image.primary)


@pytest.mark.parametrize("frame", ["", "1.2.3.2"])
def test_no_frame_of_reference_is_said(tmp_path, image, frame):
    """Of the region, or of the series; those of one frame, the fixture's, are read in silence."""

    def nowhere(said, n):
        said.FrameOfReferenceUID = ""

    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(120)]}, frame=frame)
    channel = image.primary
    if frame:
        aj.read_mask(path, channel)  # the negative control
        channel = aj.read_image(PT=save_series(tmp_path / "nowhere", change=nowhere)).primary
    with pytest.warns(InputWarning, match="GTV and channel PT have no frame of reference alike"):
        assert aj.read_mask(path, channel).any()


def test_several_small_contours_and_files_are_counted(tmp_path, image):
    small = [square(z, points=2) for z in (115, 125)]
    path = save_structures(tmp_path / "in" / "rs.dcm", {"GTV": [square(120), *small]})
    with pytest.warns(InputWarning, match="2 contours have fewer than three points and are left"):
        aj.read_mask(path, image.primary)
    save_structures(tmp_path / "in" / "other.dcm", {"GTV": [square(120)]})
    with pytest.raises(InputError, match="there are 2 files of modality RTSTRUCT; pass the one"):
        aj.read_structures(tmp_path / "in")


def test_another_patient_is_said(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(120)]})
    said = pydicom.dcmread(path)
    said.PatientID = "P2"
    said.save_as(path)
    with pytest.warns(InputWarning, match="region GTV is of another patient than channel PT"):
        aj.read_mask(path, image.primary)


def test_contours_of_other_slices_are_shown_by_the_nearest(tmp_path, image):
    path = save_structures(tmp_path / "rs.dcm", {"GTV": [square(z) for z in (119, 122, 125, 128)]})
    with pytest.warns(InputWarning, match="was drawn on other slices"):
        mask = aj.read_mask(path, image.primary)
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [4, 5]


def test_what_is_no_structure_set_is_refused(tmp_path, image):
    with pytest.raises(InputError, match="there is no file of modality RTSTRUCT"):
        aj.read_structures(tmp_path / "ct")
    with pytest.raises(InputError, match="a region is an RTSTRUCT or a SEG, and there is CT"):
        aj.read_mask(tmp_path / "ct", image.primary)
    path = tmp_path / "mask.nii.gz"
    aj.write_nifti(path, image["CT"].values > 2000, image["CT"])
    with pytest.raises(InputError, match="`roi` is the name of a region"):
        aj.read_mask(path, image["CT"], "GTV")
