"""Is an nnU-Net dataset read as it was meant, and each way it can be broken refused?"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from aistat_jax._errors import InputError
from aistat_jax.io.nnunet import (
    find_images,
    find_label_maps,
    label_names,
    patient_of,
    read_case,
    read_dataset,
    read_image_of,
    read_label_map,
)

SHAPE = (7, 6, 5)
AFFINE = np.diag([2.0, 2.5, 3.0, 1.0])
AFFINE[:3, 3] = [-10, 4, 30]
CASES = ("b_01", "a_02")


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, codes: str = "RAS") -> None:
    file = nib.Nifti1Image(values, affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes)
    )
    path.parent.mkdir(exist_ok=True)
    nib.save(file.as_reoriented(turn), path)


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def label_map() -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 2:5, 1:3] = 1
    labels[5, 1, 4] = 2
    return labels


def declare(folder: Path, **changes: object) -> None:
    content = {
        "channel_names": {"0": "PT", "1": "CT"},
        "labels": {"background": 0, "tumour": 1, "node": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    } | changes
    text = json.dumps({key: value for key, value in content.items() if value is not None})
    (folder / "dataset.json").write_text(text)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "Dataset007_Neck"
    folder.mkdir()
    declare(folder)
    for n, case in enumerate(CASES):
        save(folder / "imagesTr" / f"{case}_0000.nii.gz", voxels(n))
        save(folder / "imagesTr" / f"{case}_0001.nii.gz", voxels(n + 10) * 100, codes="LPS")
        save(folder / "labelsTr" / f"{case}.nii.gz", label_map(), codes="PIR")
    save(folder / "imagesTs" / "c_0000.nii.gz", voxels(3))
    save(folder / "imagesTs" / "c_0001.nii.gz", voxels(4))
    return folder


def test_a_dataset_says_what_it_holds(folder):
    (folder / "imagesTr" / "._b_01_0000.nii.gz").write_bytes(b"left by a file manager")
    dataset = read_dataset(folder)
    assert dataset.cases == ("a_02", "b_01")
    assert dataset.channels == ("PT", "CT")
    assert dataset.labels == ("background", "tumour", "node")
    assert (dataset.name, dataset.ending) == ("Dataset007_Neck", ".nii.gz")
    declare(folder, name="Necks", labels={"node": 2, "tumour": 1, "background": 0})
    again = read_dataset(str(folder))
    assert (again.name, again.labels) == ("Necks", dataset.labels)


def test_image_and_labels_meet_whatever_their_stored_order(folder):
    case = read_case(read_dataset(folder), "b_01")
    assert case.image.names == ("PT", "CT")
    assert [c.quantity for c in case.image.channels.values()] == ["SUV", "HU"]
    np.testing.assert_array_equal(case.image.primary.values, voxels(0))
    np.testing.assert_array_equal(case.image["CT"].values, voxels(10) * 100)
    np.testing.assert_allclose(case.image.primary.grid.affine, AFFINE, atol=1e-5)
    assert case.labels.dtype == np.int32
    np.testing.assert_array_equal(case.labels, label_map())
    # negative control: the same voxels in a mirrored frame are other labels
    mirrored = AFFINE.copy()
    mirrored[0] = [-2, 0, 0, -10 + 2 * (SHAPE[0] - 1)]
    save(folder / "labelsTr" / "b_01.nii.gz", label_map(), mirrored)
    assert (read_case(read_dataset(folder), "b_01").labels != label_map()).any()


def test_images_without_labels_are_read_too(folder):
    image = read_image_of(read_dataset(folder), "c", "imagesTs")
    np.testing.assert_array_equal(image["CT"].values, voxels(4))


def test_labels_stored_as_whole_floats_are_labels(folder):
    save(folder / "labelsTr" / "b_01.nii.gz", label_map().astype(np.float32))
    np.testing.assert_array_equal(read_case(read_dataset(folder), "b_01").labels, label_map())


def test_pictures_are_read_in_pixels(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for where, name, rows in (("imagesTr", "x_0000", grey), ("labelsTr", "x", grey // 40)):
        (tmp_path / where).mkdir()
        Picture.fromarray(rows).save(tmp_path / where / f"{name}.png")
    declare(
        tmp_path, channel_names={"0": "light"}, labels={"background": 0, "cell": 1},
        numTraining=1, file_ending=".png",
    )  # fmt: skip
    case = read_case(read_dataset(tmp_path), "x")
    assert (case.image.unit, case.labels.shape) == ("px", (8, 6, 1))
    np.testing.assert_array_equal(case.labels, case.image.primary.values >= 40)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("HN-012_t2", "HN-012"), ("sub-07_ses-1", "sub-07"), ("P3_Visit02", "P3"),
        ("patient001_frame12", "patient001"), ("A7_baseline", "A7"), ("A7_week_4", "A7"),
        # not visits: a case's own number, a modality's name, a collection's name
        ("P3_02", "P3_02"), ("BraTS_scan_001", "BraTS_scan_001"), ("t2", "t2"),
        ("P3_first", "P3_first"),
    ],
)  # fmt: skip
def test_a_name_may_tell_of_a_patient(case, patient):
    assert patient_of(case) == patient


def test_images_and_label_maps_are_found_by_their_names(folder):
    found = find_images(folder, ("PT", "CT"))
    assert (found.folder, found.cases) == (folder / "imagesTs", ("c",))
    image = read_image_of(found, "c", ".")
    np.testing.assert_array_equal(image["CT"].values, voxels(4))
    assert find_images(folder / "imagesTr", ("PT", "CT")).cases == ("a_02", "b_01")
    with pytest.raises(InputError, match="are PT, CT and the network takes CT, PT"):
        find_images(folder, ("CT", "PT"))
    with pytest.raises(InputError, match="no such folder; pass one of images"):
        find_images(folder / "absent", ("PT",))
    maps = find_label_maps(folder)
    assert list(maps) == ["a_02", "b_01"]
    values, grid = read_label_map(maps["a_02"])
    np.testing.assert_array_equal(values, label_map())
    np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-5)
    for place in (folder, folder / "labelsTr"):
        assert label_names(place) == ("background", "tumour", "node")
    assert label_names(folder.parent) is None


# ---- refusals: one sentence, the file's name, a remedy


def read_first(folder: Path, case: str | None) -> None:
    dataset = read_dataset(folder)
    read_case(dataset, case or dataset.cases[0])


def refuse(folder: Path, sentence: str, case: str | None = None) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_first(folder, case)
    text = str(caught.value)
    assert str(folder) in text
    assert "\n" not in text
    assert ";" in text or "must" in text


def test_a_folder_that_is_no_dataset_is_refused(tmp_path, folder):
    refuse(tmp_path / "absent", "no such folder")
    refuse(tmp_path, "dataset.json: there is no such file; pass an nnU-Net v2 dataset")
    for text in ("{", "[1, 2]", "\x00"):
        (folder / "dataset.json").write_text(text)
        refuse(folder, "dataset.json: this (is not readable JSON|must be a JSON object)")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": None, "numTraining": None}, "the keys labels, numTraining are missing"),
        ({"channel_names": None, "modality": {"0": "CT"}}, "nnUNetv2_convert_old_nnUNet_dataset"),
        ({"dataset": {"x": {"images": []}}}, "lists of files under 'dataset' are not supported"),
        ({"file_ending": ".nrrd"}, "'.nrrd' cannot be read; convert"),
        ({"channel_names": {"1": "PT", "2": "CT"}}, "numbered 1, 2; number them 0, 1"),
        ({"channel_names": {"0": "CT", "1": "CT"}}, "rename the channels"),
        ({"channel_names": ["PT", "CT"]}, "channel_names must be like"),
        ({"labels": {"background": 0, "all": [1, 2], "node": 2}}, r"regions \(all\) are not supp"),
        ({"labels": {"background": 0, "tumour": 1, "ignore": 2}}, "ignore label is not supported"),
        ({"labels": {"background": 0, "tumour": 1, "node": 3}}, "0, 1, 3 must be consecutive"),
        ({"labels": {"background": 0, "tumour": "1"}}, "must be names with whole numbers"),
        ({"labels": {"tumour": 0, "node": 1}}, "must be 'background' for 0"),
        ({"labels": {"background": 0}}, "must be 'background' for 0 and at least one more"),
        ({"labels": {}}, "labels must be like"),
        ({"numTraining": 3}, "numTraining is 3 but 2 cases were found"),
        ({"numTraining": "2"}, 'numTraining must be a whole number, got the text "2"'),
        ({"numTraining": 2.0}, "numTraining must be a whole number, got 2.0"),
        ({"numTraining": [2]}, "numTraining must be a whole number, got the list "),
        ({"numTraining": True}, "numTraining must be a whole number, got true"),
        ({"channel_names": {"0": "PT"}}, "case a_02 has the channels 0000, 0001 and must have"),
    ],
)
def test_a_dataset_json_that_does_not_fit_is_refused(folder, changes, sentence):
    declare(folder, **changes)
    refuse(folder, sentence)


def test_missing_and_spare_files_are_refused(folder):
    (folder / "labelsTr" / "a_02.nii.gz").rename(folder / "labelsTr" / "z.nii.gz")
    refuse(folder, r"1 of 2 cases have no label map \(a_02.nii.gz\)")
    save(folder / "labelsTr" / "a_02.nii.gz", label_map())
    refuse(folder, r"1 label maps have no image in imagesTr \(z.nii.gz\)")
    (folder / "labelsTr" / "z.nii.gz").unlink()
    (folder / "imagesTr" / "a_02_0001.nii.gz").rename(folder / "imagesTr" / "a_02.nii.gz")
    refuse(folder, "a_02.nii.gz: an image's name must end in its channel")
    (folder / "imagesTr" / "a_02.nii.gz").unlink()
    refuse(folder, "case a_02 has the channels 0000 and must have 0000 to 0001")
    for path in (folder / "imagesTr").iterdir():
        path.unlink()
    refuse(folder, "imagesTr: there are no images CASE_0000.nii.gz")
    (folder / "imagesTr").rmdir()
    refuse(folder, "imagesTr: there is no such folder")


def test_an_unknown_case_and_its_missing_channels_are_refused(folder):
    refuse(folder, "no training case 'c' among its 2; choose one of a_02, b_01", case="c")
    (folder / "imagesTs" / "c_0001.nii.gz").unlink()
    with pytest.raises(InputError, match="imagesTs: case c has no c_0001.nii.gz; it needs 2"):
        read_image_of(read_dataset(folder), "c", "imagesTs")


def test_grids_that_differ_are_refused(folder):
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    save(folder / "labelsTr" / "a_02.nii.gz", label_map(), shifted)
    refuse(folder, "a_02.nii.gz: label grid .* does not match image grid .* resample the label")
    save(folder / "imagesTr" / "a_02_0001.nii.gz", voxels(1), shifted)
    refuse(folder, "a_02_0001.nii.gz: its grid .* is not that of .*a_02_0000.nii.gz")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (label_map() * 7, "hold the values 7, 14, which dataset.json does not declare .* 1 tumour"),
        (label_map().astype(np.int16) - 1, "hold the values -1, which"),
        (label_map() * np.float32(0.5), r"hold fractions \(0.5\)"),
        (label_map() * np.float32(np.nan), "must be whole numbers"),
    ],
)
def test_values_that_are_no_labels_are_refused(folder, values, sentence):
    save(folder / "labelsTr" / "a_02.nii.gz", values)
    refuse(folder, f"a_02.nii.gz: the labels {sentence}")
