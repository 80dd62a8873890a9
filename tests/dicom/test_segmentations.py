"""Do masks and probabilities survive DICOM SEG, in every orientation?"""

from __future__ import annotations

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from aistat_jax.dicom.segmentations import Segment, read_segmentation, write_segmentation
from aistat_jax.space.image import Channel
from tests.dicom.judges import check_valid
from tests.dicom.made import pydicom, save_series
from tests.dicom.test_series import FRAMES
from tests.dicom.test_structures import case_of, stars

pytest.importorskip("highdicom", reason="the extra dicom is not installed")


def some(channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """A mask off the middle, and probabilities, that no flip leaves as they are."""
    rng = np.random.default_rng(0)
    mask = np.zeros(channel.grid.shape, dtype=bool)
    i, j, k = (n // 3 for n in mask.shape)
    mask[i : i + 4, j : j + 3, k : k + 2] = True
    mask[i + 4, j, k] = True
    return mask, mask * rng.uniform(0.1, 1.0, mask.shape)


@pytest.mark.parametrize("frame", FRAMES)
def test_what_is_written_is_read(tmp_path, frame):
    channel = aj.read_image(CT=save_series(tmp_path / "ct", "CT", frame=FRAMES[frame])).primary
    mask, share = some(channel)
    write_segmentation(tmp_path / "mask.dcm", [Segment("GTV", mask)], channel)
    assert np.array_equal(aj.read_mask(tmp_path / "mask.dcm", channel), mask)
    two = [Segment("GTV", share, "where it may be"), Segment("node", 0.5 * mask)]
    write_segmentation(tmp_path / "share.dcm", two, channel)
    found = read_segmentation(tmp_path / "share.dcm", channel, "GTV")
    assert np.abs(found - share).max() <= 0.5 / 255 + 1e-6
    assert (
        np.abs(read_segmentation(tmp_path / "share.dcm", channel, "node") - 0.5 * mask).max() < 0.01
    )
    kinds = [pydicom.dcmread(tmp_path / f"{n}.dcm").SegmentationType for n in ("mask", "share")]
    assert kinds == ["BINARY", "FRACTIONAL"]
    check_valid(tmp_path / "mask.dcm", tmp_path / "share.dcm")


def test_a_case_as_estimate_and_probability(tmp_path):
    image = aj.read_image(PT=save_series(tmp_path / "pt"))
    case = case_of(image, stars(image))
    estimate = aj.write_seg(tmp_path / "a.dcm", case, kind="estimate")
    share = aj.write_seg(tmp_path / "b.dcm", case)
    mask, found = (read_segmentation(path, image.primary) for path in (estimate, share))
    wanted = aj.probability_map(case.posteriors, image.primary.grid)
    assert np.abs(found - wanted).max() <= 0.5 / 255 + 1e-6
    assert mask.sum() == sum((wanted > 0.5)[:, :, k].sum() for k in (4, 5, 6)) or (
        2 * (mask * (wanted > 0.5)).sum() / (mask.sum() + (wanted > 0.5).sum()) > 0.95
    )
    said = pydicom.dcmread(share)
    assert said.PatientName == "Nobody^None"
    assert "PatientWeight" not in said
    check_valid(estimate, share)
    with pytest.raises(InputError, match="kind 'mask' is not known"):
        aj.write_seg(tmp_path / "c.dcm", case, kind="mask")


def test_what_is_not_of_the_image_is_refused(tmp_path):
    channel = aj.read_image(CT=save_series(tmp_path / "ct", "CT")).primary
    mask, _ = some(channel)
    path = write_segmentation(tmp_path / "mask.dcm", [Segment("GTV", mask)], channel)
    with pytest.raises(InputError, match="no one segment 'PTV'; there are: GTV"):
        read_segmentation(path, channel, "PTV")
    moved = aj.read_image(
        CT=save_series(tmp_path / "b", "CT", origin=(-31.0, -20.0, 100.0))
    ).primary
    with pytest.raises(InputError, match="are not those of the image"):
        read_segmentation(path, moved)

    def elsewhere(said, n):
        said.FrameOfReferenceUID = "1.2.3.77"

    other = aj.read_image(CT=save_series(tmp_path / "c", "CT", change=elsewhere)).primary
    with pytest.raises(InputError, match="another frame of reference"):
        read_segmentation(path, other)
    with pytest.raises(InputError, match="every voxel is outside"):
        write_segmentation(tmp_path / "d.dcm", [Segment("GTV", 0 * mask)], channel)
    with pytest.raises(InputError, match="must lie in"):
        write_segmentation(tmp_path / "d.dcm", [Segment("GTV", 2.0 * mask)], channel)
    with pytest.raises(InputError, match="do not match channel CT"):
        write_segmentation(tmp_path / "d.dcm", [Segment("GTV", mask[:-1])], channel)
    assert not (tmp_path / "d.dcm").exists()


def test_a_probability_is_read_as_what_a_network_says(tmp_path):
    image = aj.read_image(PT=save_series(tmp_path / "pt"))
    case = case_of(image, stars(image))
    path = aj.write_seg(tmp_path / "probability.dcm", case)
    wanted = aj.probability_map(case.posteriors, image.primary.grid)
    odds = aj.read_output(path, image.primary)
    assert np.abs(1 / (1 + np.exp(-odds)) - wanted).max() <= 0.5 / 255 + 1e-6
    surest = np.log((255 - 0.5) / 0.5)
    assert np.abs(odds).max() == pytest.approx(surest)  # no surer than half a step
    assert np.array_equal(odds > 0, aj.read_segmentation(path, image.primary) > 0.5)
    mask = aj.write_seg(tmp_path / "estimate.dcm", case, kind="estimate")
    inside = aj.read_mask(mask, image.primary)
    assert np.array_equal(aj.read_output(mask, image.primary, "mask") > 0, inside)
    with pytest.raises(InputError, match="this is a mask and no more; pass `output` as mask"):
        aj.read_output(mask, image.primary)
    with pytest.raises(InputError, match="no one segment 2; there are: 1 "):
        aj.read_output(path, image.primary, label=2)
    two = [Segment("GTV", 0.9 * inside), Segment("node", 0.75 * inside)]
    write_segmentation(tmp_path / "two.dcm", two, image.primary)
    for label, roi in ((2, None), (1, "node"), (2, "node")):
        odds = aj.read_output(tmp_path / "two.dcm", image.primary, label=label, roi=roi)
        assert odds.max() == pytest.approx(np.log(3), abs=0.03)
    with pytest.warns(InputWarning, match="of 2 segments the one of number 1 is read, GTV"):
        odds = aj.read_output(tmp_path / "two.dcm", image.primary)
    assert odds.max() == pytest.approx(np.log(9), abs=0.03)
    with pytest.raises(InputError, match="segment 2 is not 'GTV'"):
        aj.read_output(tmp_path / "two.dcm", image.primary, label=2, roi="GTV")
    only = pydicom.dcmread(path)
    only.SegmentSequence[0].SegmentNumber = 3
    (shared,) = only.SharedFunctionalGroupsSequence
    shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 3
    only.save_as(tmp_path / "third.dcm")
    again = aj.read_output(tmp_path / "third.dcm", image.primary)  # which is the only one
    assert np.array_equal(again, aj.read_output(path, image.primary))
    with pytest.raises(InputError, match="no one segment 3; there are: 1 GTV, 2 node"):
        aj.read_output(tmp_path / "two.dcm", image.primary, label=3)
    with pytest.raises(
        InputError, match="say which segment is meant, as `roi`; there are: GTV, no"
    ):
        aj.read_segmentation(tmp_path / "two.dcm", image.primary)
    aj.write_nifti(tmp_path / "p.nii.gz", wanted, image.primary)
    with pytest.raises(InputError, match="roi is the name of a segment of a DICOM SEG"):
        aj.read_output(tmp_path / "p.nii.gz", image.primary, roi="GTV")
