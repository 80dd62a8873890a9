"""Do contours go out as they are, and do independent judges read what was written?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from aistat_jax._record import replace
from aistat_jax.case import Case
from aistat_jax.dicom.library import writing
from aistat_jax.dicom.slices import slices_of
from aistat_jax.dicom.structure_file import Structure, decimal, keyhole, write_structures
from aistat_jax.dicom.structures import curves_of
from aistat_jax.inference.posterior import Posterior
from aistat_jax.space.curve import Curve, region_of
from aistat_jax.space.image import Image
from aistat_jax.space.ring import ring_chart
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.star import star_chart
from aistat_jax.uncertainty.credible_regions import regions_of
from tests.dicom.judges import check_valid, drawn_by_plastimatch
from tests.dicom.made import SHAPE, SPACING, pydicom, save_series
from tests.dicom.test_suv import OTHER
from tests.helpers import TRUSTED, circle, smooth_draws

CENTRE = np.array([-3.0, -7.0])  # RAS mm, the ball of `lesion`
SLICES = (4, 5, 6)


@pytest.fixture
def image(tmp_path) -> Image:
    return aj.read_image(PT=save_series(tmp_path / "pt"), CT=save_series(tmp_path / "ct", "CT"))


def posterior_of(chart, values: np.ndarray, name: str) -> Posterior:
    return Posterior(chart, values[None], {}, TRUSTED, "laplace", 0, name)


def stars(image: Image, radius: float = 11.0, centre=CENTRE, slices=SLICES) -> list[Posterior]:
    found = []
    for k in slices:
        chart = star_chart(np.asarray(centre), 3 * radius, image.primary.grid.plane(k), 64)
        wave = smooth_draws(chart.angles, 300, 0.08, k)
        found.append(posterior_of(chart, radius * np.exp(wave), f"z{k:03d}"))
    return found


def surface(image: Image, radius: float = 14.0) -> Posterior:
    chart = sphere_chart(np.array([-3.0, -7.0, 126.0]), 40.0, "mm")
    scale = 1 + 0.05 * np.random.default_rng(0).standard_normal((200, 1))
    return posterior_of(chart, np.full((200, chart.sites), radius) * scale, "lesion")


def case_of(image: Image, posteriors: list[Posterior]) -> Case:
    return Case(image, tuple(map(aj.contour_of, posteriors)))


def areas(path: Path, name: str, image: Image, channel: str = "PT") -> dict[int, float]:
    curves = curves_of(aj.read_structures(path)[name], image[channel])
    return {k: region_of(several).area for k, several in curves.items()}


# ----------------------------------------------------------------------------------------- out


def test_the_posterior_s_own_curves_are_written(tmp_path, image):
    case = case_of(image, stars(image))
    path = aj.write_rtstruct(tmp_path / "out.dcm", case, levels=(0.9, 0.5))
    names = ("aistat_median", "aistat_in95", "aistat_out95", "aistat_p90", "aistat_p50")
    assert aj.read_structures(path).names == names
    assert max(map(len, names)) <= 16
    found = {name: areas(path, name, image) for name in names}
    for k, contour in zip(SLICES, case, strict=True):
        chart = contour.posterior.chart
        draws, band = contour.posterior.draws, contour.band
        median, inside = np.median(draws, axis=0), np.quantile(draws, 0.1, axis=0)
        wanted = median, band.lower, band.upper, inside
        for name, values in zip(names, wanted, strict=False):
            assert np.isclose(found[name][k], chart.surface(values).area, rtol=1e-5)
        assert found["aistat_in95"][k] < found["aistat_p90"][k] < found["aistat_p50"][k]
        assert found["aistat_p50"][k] == found["aistat_median"][k] < found["aistat_out95"][k]
        drawn = curves_of(aj.read_structures(path)["aistat_median"], image.primary)[k][0]
        assert drawn.distance_to(chart.points(wanted[0])).max() < 2e-4


def test_margins_are_regions_of_their_own(tmp_path, image):
    case = case_of(image, stars(image))
    wide = [aj.van_herk_margin(one, systematic_mm=1.0) for one in case.posteriors]
    asked = {"ptv": [aj.coverage_margin(one) for one in case.posteriors], "vh": wide[1:]}
    with pytest.warns(InputWarning, match="1 of 3 targets have none"):
        path = aj.write_rtstruct(tmp_path / "out.dcm", case, margins=asked)
    found = {name: areas(path, name, image) for name in aj.read_structures(path).names[-3:]}
    assert list(found) == ["aistat_ptv", "aistat_ptv_in", "aistat_vh"]
    for k, margin in zip(SLICES, asked["ptv"], strict=True):
        assert np.isclose(found["aistat_ptv"][k], margin.surface().area, rtol=1e-5)
        assert np.isclose(found["aistat_ptv_in"][k], margin.surface("inner").area, rtol=1e-5)
    assert list(found["aistat_vh"]) == list(SLICES[1:])
    stranger = replace(asked["ptv"][0], target_id="other")
    with pytest.raises(InputError, match="margin ptv of other is of no target of this case"):
        aj.write_rtstruct(tmp_path / "no.dcm", case, margins={"ptv": [stranger]})


@pytest.mark.parametrize("grade", ["green", "amber", "red"])
def test_the_median_has_the_colour_of_the_worst_grade_and_others_their_own(tmp_path, image, grade):
    tolerances = {"green": 50.0, "amber": 1.5, "red": 0.01}
    case = Case(
        image,
        tuple(aj.contour_of(one, tolerance_mm=tolerances[grade]) for one in stars(image)),
    )
    assert {one.grade.case for one in case} == {grade}
    margins = {"ptv": [aj.coverage_margin(one) for one in case.posteriors]}
    path = aj.write_rtstruct(tmp_path / "out.dcm", case, levels=(0.9,), margins=margins)
    file = pydicom.dcmread(path)
    names = {each.ROINumber: each.ROIName for each in file.StructureSetROISequence}
    found = {
        names[each.ReferencedROINumber]: tuple(each.ROIDisplayColor)
        for each in file.ROIContourSequence
    }
    worst = {"green": (0, 158, 115), "amber": (230, 159, 0), "red": (213, 94, 0)}[grade]
    assert found == {
        "aistat_median": worst, "aistat_in95": (86, 180, 233), "aistat_out95": (0, 114, 178),
        "aistat_p90": (204, 121, 167), "aistat_ptv": (240, 228, 66),
        "aistat_ptv_in": (240, 228, 66),
    }  # fmt: skip


def test_contours_name_the_image_that_they_lie_on(tmp_path, image):
    path = aj.write_rtstruct(tmp_path / "out.dcm", case_of(image, stars(image)))
    heights = {}
    for file in (tmp_path / "pt").iterdir():
        said = pydicom.dcmread(file, stop_before_pixels=True)
        heights[said.SOPInstanceUID] = float(said.ImagePositionPatient[2])
    said = pydicom.dcmread(path)
    count = 0
    for region in said.ROIContourSequence:
        for contour in region.ContourSequence:
            instance = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            assert {float(z) for z in contour.ContourData[2::3]} == {heights[instance]}
            count += 1
    assert count == 3 * len(SLICES)
    series = said.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    images = series.RTReferencedSeriesSequence[0].ContourImageSequence
    assert {each.ReferencedSOPInstanceUID for each in images} == set(heights)
    assert said.FrameOfReferenceUID == "1.2.3.2"


def test_nobody_has_approved_it_and_nothing_new_is_said_of_the_patient(tmp_path, image):
    case = case_of(image, stars(image))
    path = aj.write_rtstruct(tmp_path / "out.dcm", case)
    said = pydicom.dcmread(path)
    assert said.ApprovalStatus == "UNAPPROVED"
    for name in ("OperatorsName", "StructureSetDate", "AccessionNumber", "PatientBirthDate"):
        assert name in said  # of type 2
    (source,) = [file for file in (tmp_path / "pt").glob("000*")]
    source = pydicom.dcmread(source, stop_before_pixels=True)
    for element in said:
        if element.tag.group in (0x0010, 0x0008) and "Patient" in element.keyword:
            assert source[element.tag].value == element.value
    assert "PatientWeight" not in said
    assert "grades 3 green" in said.StructureSetROISequence[0].ROIDescription
    assert aj.__version__ in said.StructureSetROISequence[0].ROIDescription
    check_valid(path)


def test_coordinates_fit_into_decimal_strings(tmp_path, image):
    path = aj.write_rtstruct(tmp_path / "out.dcm", case_of(image, stars(image)))
    raw = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence[0].ContourData
    assert max(len(str(value)) for value in raw) <= 16
    assert len(decimal(-123456.123456)) <= 16 < len(str(-123456.1234567891))
    assert decimal(-0.00001) == "0"


@pytest.mark.filterwarnings("ignore:.*under a quarter of a pixel")
def test_a_surface_is_cut_by_the_slices_of_any_series(tmp_path, image):
    case = case_of(image, [surface(image)])
    for channel in ("PT", "CT"):
        path = aj.write_rtstruct(tmp_path / f"{channel}.dcm", case, channel=channel)
        found = areas(path, "aistat_median", image, channel)
        z = np.array([image[channel].grid.plane(k).offset for k in found])
        exact = np.pi * (np.median(case[0].posterior.draws) ** 2 - (z - 126.0) ** 2)
        assert np.allclose(list(found.values()), exact, rtol=0.02, atol=2.0)
        assert len(found) == 5
        check_valid(path)


def test_a_sagittal_series(tmp_path):
    frame = (0, 1, 0, 0, 0, -1)
    folder = save_series(tmp_path / "mr", "MR", frame=frame, origin=(-30, -20, 150))
    image = aj.read_image(MR=folder)
    plane = slices_of(image.primary)[6].plane
    centre = plane.to_world(plane.points((slice(8, 9), slice(8, 9)))[0, 0])
    chart = sphere_chart(centre, 40.0, "mm")
    values = np.full((200, chart.sites), 12.0) * (
        1 + 0.05 * np.random.default_rng(0).standard_normal((200, 1))
    )
    case = case_of(image, [posterior_of(chart, values, "lesion")])
    path = aj.write_rtstruct(tmp_path / "out.dcm", case)
    files = {}
    for file in folder.iterdir():
        said = pydicom.dcmread(file, stop_before_pixels=True)
        files[said.SOPInstanceUID] = float(said.ImagePositionPatient[0])
    for contour in pydicom.dcmread(path).ROIContourSequence[0].ContourSequence:
        instance = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        assert np.allclose(contour.ContourData[0::3], files[instance], atol=1e-4)
    flat = star_chart(centre[:2], 40.0, image.primary.grid.plane(5), 64)
    wave = 12.0 * np.exp(smooth_draws(flat.angles, 300, 0.08, 0))
    with pytest.raises(InputError, match="lies on no slice of the series"):
        aj.write_rtstruct(tmp_path / "no.dcm", case_of(image, [posterior_of(flat, wave, "z")]))
    assert not (tmp_path / "no.dcm").exists()


def test_holes_are_keyholes(tmp_path, image):
    plane = image.primary.grid.plane(5)
    chart = ring_chart(CENTRE, 30.0, plane, 64)
    wave = smooth_draws(np.arange(64) * np.pi / 32, 300, 0.04, 1)
    values = np.concatenate([14.0 * np.exp(wave), 7.0 * np.exp(wave)], axis=1)
    contour = aj.contour_of(posterior_of(chart, values, "z005"))
    for region in regions_of([contour], image.primary):
        name = f"{tmp_path.name}_{region.name}.dcm"
        write_structures(tmp_path / name, [region], image.primary)
        curves = curves_of(aj.read_structures(tmp_path / name)[region.name], image.primary)[5]
        wanted = region_of(region.sections[0][1]).area
        assert len(curves) == 1  # so that a reader that joins contours reads the same
        assert np.isclose(region_of(curves).area, wanted, rtol=1e-5)
        assert np.isclose(abs(curves[0].signed_area), wanted, rtol=1e-5)
        filled = region_of(region.sections[0][1][:1]).area
        assert filled > 1.1 * wanted  # negative control: the hole counts


def test_a_keyhole_around_several_holes():
    import shapely

    holes = [circle(2.0, (x, y), 30).points for x, y in ((-4, 0), (4, 1), (0, 5))]
    polygon = shapely.Polygon(circle(10.0, vertices=50).points, holes)
    ring = shapely.Polygon(keyhole(polygon, list(polygon.interiors)))
    assert np.isclose(shapely.make_valid(ring).area, polygon.area)
    assert np.isclose(ring.area, polygon.area)


def test_tiny_contours_are_left_out_and_said(tmp_path, image):
    plane = image.primary.grid.plane(5)
    sections = ((plane, (circle(9.0, tuple(CENTRE)), circle(0.9, (20.0, 5.0)))),)
    notes = write_structures(tmp_path / "a.dcm", [Structure("GTV", sections)], image.primary)
    assert notes == ["region GTV: 1 contour or hole under a quarter of a pixel is left out"]
    assert len(curves_of(aj.read_structures(tmp_path / "a.dcm")["GTV"], image.primary)[5]) == 1
    nothing = ((plane, (circle(0.9, (20.0, 5.0)),)),)
    with pytest.raises(InputError, match="there is no contour to write"):
        write_structures(tmp_path / "b.dcm", [Structure("GTV", nothing)], image.primary)


def test_targets_that_overlap_are_one_region(image):
    two = stars(image, slices=(5,)) + stars(
        image, centre=CENTRE + np.array([8.0, 0.0]), slices=(5,)
    )
    (median, *_) = regions_of(list(map(aj.contour_of, two)), image.primary)
    ((_, curves),) = median.sections
    alone = [aj.contour_of(each).chart.surface(np.median(each.draws, axis=0)).area for each in two]
    assert max(alone) < region_of(curves).area < sum(alone)


def test_what_is_not_from_dicom_has_nothing_to_refer_to(tmp_path):
    case = case_of(plain := aj.demo_phantom(1).image, stars(plain, slices=(0,)))
    with pytest.raises(InputError, match="was not read from a DICOM series"):
        aj.write_rtstruct(tmp_path / "a.dcm", case)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*under a quarter of a pixel")
def test_contours_are_not_written_into_another_frame_of_reference(tmp_path):
    def elsewhere(said, n):
        said.FrameOfReferenceUID = "1.2.3.77"

    pet, other = save_series(tmp_path / "a"), save_series(tmp_path / "b", "CT", change=elsewhere)
    with pytest.warns(InputWarning, match="different frames of reference"):
        image = aj.read_image(PT=pet, CT=other)
    part = "channel CT is in another frame of reference than channel PT, on which the contours"
    for each in ([surface(image)], stars(image, slices=(5,))):
        for write in (aj.write_rtstruct, aj.write_seg):
            with pytest.raises(InputError, match=part):
                write(tmp_path / "out.dcm", case_of(image, each), channel="CT")
        assert not (tmp_path / "out.dcm").exists()
        aj.write_rtstruct(tmp_path / f"{len(each[0].draws)}.dcm", case_of(image, each))


@pytest.mark.filterwarnings("ignore:.*under a quarter of a pixel")
@pytest.mark.parametrize("channel", ["CT", None])
def test_contours_of_no_frame_of_reference_are_said(tmp_path, channel):
    folder = save_series(tmp_path / "ct", "CT")
    source = aj.read_image(CT=folder).primary
    aj.write_nifti(tmp_path / "pt.nii.gz", source.values, source)
    image = aj.read_image(PT=tmp_path / "pt.nii.gz", CT=folder)
    case = case_of(image, [surface(image)])
    with pytest.warns(InputWarning, match="nothing says that the contours, drawn on channel PT"):
        aj.write_rtstruct(tmp_path / "out.dcm", case, channel=channel)


def ball(image: Image, centre, radius: float, presence: float = 1.0) -> Posterior:
    chart = sphere_chart(np.asarray(centre), 40.0, "mm")
    scale = 1 + 0.05 * np.random.default_rng(0).standard_normal((200, 1))
    found = posterior_of(chart, np.full((200, chart.sites), radius) * scale, "lesion")
    return replace(found, presence=presence)


@pytest.mark.filterwarnings("ignore:.*under a quarter of a pixel")
def test_a_lesion_between_slices_is_said_and_not_written_empty(tmp_path, image):
    small = ball(image, (-3.0, -7.0, 137.5), 1.5)
    case = case_of(image, [surface(image), small])
    with pytest.warns(InputWarning) as said:
        path = aj.write_rtstruct(tmp_path / "out.dcm", case)
    words = [str(each.message) for each in said]
    for what in ("median", "in95", "out95"):
        part = f"region aistat2_{what} has no contour on any slice and is left out"
        assert any(part in each for each in words)
        assert not any(part.replace("aistat2", "aistat1") in each for each in words)
    assert aj.read_structures(path).names == ("aistat1_median", "aistat1_in95", "aistat1_out95")
    assert all(roi.contours for roi in aj.read_structures(path).rois)
    check_valid(path)
    with pytest.warns(InputWarning, match="target lesion holds no voxel and is left out"):
        aj.write_seg(tmp_path / "seg.dcm", case, kind="estimate")


@pytest.mark.filterwarnings("ignore:.*under a quarter of a pixel", "ignore:.*(in|out)95. cut off")
def test_a_surface_that_runs_out_of_the_slices_is_said(tmp_path, image):
    top = image.primary.grid.plane(SHAPE[2] - 1).offset + SPACING[2] / 2
    case = case_of(image, [ball(image, (-3.0, -7.0, top - 9.0), 12.0)])
    with pytest.warns(InputWarning, match="aistat_median: cut off: it reaches 3"):
        path = aj.write_rtstruct(tmp_path / "out.dcm", case)
    for each in pydicom.dcmread(path).StructureSetROISequence:
        assert "cut off: it reaches" in each.ROIDescription
    for kind in ("estimate", "probability"):
        with pytest.warns(InputWarning, match="target lesion is cut off"):
            aj.write_seg(tmp_path / "seg.dcm", case, kind=kind)
    inside = case_of(image, [surface(image)])  # negative control: nothing is said
    assert "cut off" not in regions_of(inside.contours, image.primary)[0].description
    aj.write_seg(tmp_path / "seg.dcm", inside, kind="estimate")


@pytest.mark.filterwarnings("ignore:.*has no contour on any slice")
def test_levels_count_that_a_target_may_not_be_there(tmp_path, image):
    (star,) = stars(image, slices=(5,))
    doubtful = [replace(star, presence=0.8)]
    levels = (0.9, 0.6, 0.4)
    with pytest.warns(InputWarning, match="p90: 1 target is present with probability 0.9 or less"):
        path = aj.write_rtstruct(tmp_path / "a.dcm", case_of(image, doubtful), levels=levels)
    found = aj.read_structures(path).names
    assert found[3:] == ("aistat_p60", "aistat_p40")
    for level, name in zip((0.6, 0.4), found[3:], strict=True):
        wanted = star.chart.surface(np.quantile(star.draws, 1 - level / 0.8, axis=0)).area
        assert np.isclose(areas(path, name, image)[5], wanted, rtol=1e-5)
    sure = aj.write_rtstruct(tmp_path / "b.dcm", case_of(image, [star]), levels=levels)
    assert areas(sure, "aistat_p60", image)[5] > areas(path, "aistat_p60", image)[5]
    words = [each.ROIDescription for each in pydicom.dcmread(path).StructureSetROISequence]
    assert all("present with probability 80%" in each for each in words)
    assert "given that it is there" in words[0]
    assert "given that" not in words[-1]
    words = [each.ROIDescription for each in pydicom.dcmread(sure).StructureSetROISequence]
    assert not any("present with" in each or "given" in each for each in words)


def test_a_ring_says_what_its_levels_hold_for(image):
    chart = ring_chart(CENTRE, 30.0, image.primary.grid.plane(5), 64)
    wave = smooth_draws(np.arange(64) * np.pi / 32, 300, 0.04, 1)
    values = np.concatenate([14.0 * np.exp(wave), 7.0 * np.exp(wave)], axis=1)
    ring = aj.contour_of(posterior_of(chart, values, "z005"))
    words = regions_of([ring], image.primary, (0.9,))[-1].description
    assert "0.9 or more of each edge of a ring, 0.8 or more of both" in words
    (star,) = stars(image, slices=(5,))
    assert "edge" not in regions_of([aj.contour_of(star)], image.primary, (0.9,))[-1].description


def sloppy(said, n):
    said.PatientSex, said.StudyTime, said.PatientBirthDate = "MALE", "10:11:12", "1900"


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_sloppy_header_does_not_end_the_writing(tmp_path):
    image = aj.read_image(PT=save_series(tmp_path / "pt", change=sloppy))
    case, blank = case_of(image, stars(image)), "PatientBirthDate, PatientSex, StudyTime of the"
    for write in (aj.write_rtstruct, aj.write_seg):
        with pytest.warns(InputWarning, match=f"{blank} series is not as DICOM has it"):
            path = write(tmp_path / "out.dcm", case)
        said = pydicom.dcmread(path)
        assert (said.PatientSex, said.StudyTime, said.PatientBirthDate) == ("", "", "")
        assert (said.PatientName, said.StudyDate) == ("Nobody^None", "20250102")
        check_valid(path)


def test_a_series_of_no_study_is_not_referred_to(tmp_path):
    def change(said, n):
        del said.StudyInstanceUID

    image = aj.read_image(PT=save_series(tmp_path / "pt", change=change))
    for write in (aj.write_rtstruct, aj.write_seg):
        with pytest.raises(InputError, match="has no StudyInstanceUID"):
            write(tmp_path / "out.dcm", case_of(image, stars(image)))
    assert not (tmp_path / "out.dcm").exists()


def test_what_the_library_does_not_write_is_refused(tmp_path):
    part = "out.dcm: what the series says cannot be written"
    with pytest.raises(InputError, match=part), writing("out.dcm"):
        pydicom.uid.generate_uid(prefix="x")
    with pytest.raises(ValueError, match="own") as refusal, writing("out.dcm"):
        raise ValueError("own")
    assert not isinstance(refusal.value, InputError)


# ----------------------------------------------------------------------------- independent judges


def test_plastimatch_draws_what_the_posterior_says(tmp_path, image):
    case = case_of(image, stars(image))
    path = aj.write_rtstruct(tmp_path / "out.dcm", case, levels=(0.5,))
    found = drawn_by_plastimatch(path, tmp_path / "pt", image.primary, tmp_path / "masks")
    assert len(found) == 4
    for k, contour in zip(SLICES, case, strict=True):
        chart = contour.posterior.chart
        median = chart.surface(np.median(contour.posterior.draws, axis=0))
        wanted = median.contains(chart.plane.points())
        assert np.array_equal(found["aistat_median"][:, :, k], wanted)
        assert not np.array_equal(found["aistat_out95"][:, :, k], wanted)


@pytest.mark.parametrize("patient", ["STS_002", "STS_008", "STS_025"])
def test_experts_contours_survive_a_round_trip(tmp_path, data_root, patient):
    root = data_root / "sts_petctmr_dicom_rtstruct" / patient
    if not root.is_dir():
        pytest.skip("the sarcomas are not there in DICOM")
    for part, name in (("PET", "PT"), ("CT", "CT"), ("MR_T1", "MR")):
        series = root / part / "image"
        channel = aj.read_image(**{name: series}).primary
        drawn = aj.read_structures(root / part / "mask").roi()
        curves = curves_of(drawn, channel)
        sections = tuple((channel.grid.plane(k), several) for k, several in curves.items())
        out = tmp_path / f"{part}.dcm"
        assert write_structures(out, [Structure("GTV", sections)], channel) == []
        (own,) = drawn_by_plastimatch(out, series, channel, tmp_path / f"{part}1").values()
        (source,) = (root / part / "mask").iterdir()
        (theirs,) = drawn_by_plastimatch(source, series, channel, tmp_path / f"{part}2").values()
        assert 2 * (own & theirs).sum() / (own.sum() + theirs.sum()) >= 0.995
        assert abs(own.sum() / theirs.sum() - 1) <= 0.005
        check_valid(out)
        shifted = np.roll(own, 1, axis=0)  # negative control: a pixel is seen
        assert 2 * (shifted & theirs).sum() / (own.sum() + theirs.sum()) < 0.99


@pytest.mark.filterwarnings("ignore:.*is read as MBq")
@pytest.mark.parametrize("number", range(14))
def test_reference_objects_survive_a_round_trip(tmp_path, data_root, number):
    """All of them; those that are no SUV by body weight are read as what they are."""
    folders = sorted((data_root / "suv_reference_objects").glob("DRO_*"))
    if not folders:
        pytest.skip("the SUV reference objects are not there")
    folder = folders[number]
    channel = aj.read_image(**{"SUL" if folder.name in OTHER else "PT": folder / "PT"}).primary
    (source,) = (folder / "RS").iterdir()
    curves = curves_of(aj.read_structures(source).roi(), channel)
    sections = tuple((channel.grid.plane(k), several) for k, several in curves.items())
    write_structures(tmp_path / "out.dcm", [Structure("region", sections)], channel)
    own, theirs = (
        next(iter(drawn_by_plastimatch(path, folder / "PT", channel, tmp_path / name).values()))
        for path, name in ((tmp_path / "out.dcm", "own"), (source, "theirs"))
    )
    assert np.array_equal(own, theirs)
    assert own.any()


def test_coordinates_are_where_they_were(tmp_path, image):
    curve = Curve(np.array([[-12.3456, -9.9999], [4.0, -15.25], [1.0, 3.125]]))
    plane = image.primary.grid.plane(5)
    write_structures(tmp_path / "a.dcm", [Structure("GTV", ((plane, (curve,)),))], image.primary)
    said = pydicom.dcmread(tmp_path / "a.dcm")
    found = np.reshape(said.ROIContourSequence[0].ContourSequence[0].ContourData, (-1, 3))
    lps = np.column_stack([-curve.points, np.full(3, 100 + 5 * SPACING[2])])
    away = np.linalg.norm(found.astype(float)[:, None] - lps[None], axis=-1).min(axis=1)
    assert away.max() < 1e-4
    assert SHAPE[2] == len(slices_of(image.primary))
