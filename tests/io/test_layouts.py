"""Are the layouts of the field told from each other, and is what they lack said?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aistat_jax import InputError, find_cases
from aistat_jax.io.layouts import Region, read_region
from aistat_jax.io.nifti import read_image
from tests.cli.datasets import ball, save, write_balls


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_of(layout) -> list[tuple[str, dict[str, str], str | None]]:
    return [
        (
            case.id,
            {channel: path.name for channel, path in case.images.items()},
            None if case.labels is None else case.labels.relative_to(layout.folder).as_posix(),
        )
        for case in layout.cases
    ]


def test_hecktor_of_2022_has_folders_of_images_and_labels(tmp_path):
    touch(tmp_path, "imagesTr/MDA-009__CT.nii.gz", "imagesTr/MDA-009__PT.nii.gz")
    touch(tmp_path, "imagesTr/CHUM-001__PT.nii.gz", "imagesTr/CHUM-001__CT.nii.gz")
    touch(tmp_path, "labelsTr/CHUM-001.nii.gz", "labelsTr/MDA_009.nii.gz", "clinical.csv")
    found = find_cases(tmp_path)
    assert found.name == "HECKTOR"
    assert names_of(found) == [
        ("CHUM-001", {"PT": "CHUM-001__PT.nii.gz", "CT": "CHUM-001__CT.nii.gz"},
         "labelsTr/CHUM-001.nii.gz"),
        ("MDA-009", {"PT": "MDA-009__PT.nii.gz", "CT": "MDA-009__CT.nii.gz"},
         "labelsTr/MDA_009.nii.gz"),
    ]  # fmt: skip
    first = found.cases[0]
    assert found.region(first, "GTVn").values == (2,)
    assert found.region(first, "1").values == (1,)
    assert found.region(first, "any").values[:2] == (1, 2)
    with pytest.raises(InputError, match="no label GTV in case CHUM-001; choose one of GTVp, GTVn"):
        found.region(first, "GTV")
    (tmp_path / "imagesTr" / "MDA-009__CT.nii.gz").unlink()
    with pytest.raises(InputError, match="case MDA-009 has no MDA-009__CT.nii.gz"):
        find_cases(tmp_path)


def test_hecktor_of_2025_has_a_folder_a_patient(tmp_path):
    for task in ("Task 1", "Task 2"):
        touch(tmp_path, *(f"{task}/CHUS-003/CHUS-003{part}.nii.gz" for part in ("__CT", "__PT")))
    touch(tmp_path, "Task 1/CHUS-003/CHUS-003.nii.gz", "Task 2/CHUS-003/CHUS-003__RTDOSE.nii.gz")
    (found,) = find_cases(tmp_path / "Task 1").cases
    assert found.labels == tmp_path / "Task 1" / "CHUS-003" / "CHUS-003.nii.gz"
    with pytest.raises(InputError, match="two cases CHUS-003, in .*Task 1.* and .*Task 2"):
        find_cases(tmp_path)


def test_autopet_has_a_folder_a_study(tmp_path):
    study = "PETCT_01/03-23-2003-NA-PET-CT-1"
    touch(tmp_path, *(f"{study}/{n}.nii.gz" for n in ("SUV", "CTres", "CT", "SEG", "PET")))
    touch(tmp_path, "PETCT_02/a/SUV.nii.gz", "PETCT_02/a/CT.nii.gz", "PETCT_02/b/SUV.nii.gz")
    found = find_cases(tmp_path)
    assert found.name == "autoPET"
    assert names_of(found) == [
        ("PETCT_01_03-23-2003-NA-PET-CT-1", {"PT": "SUV.nii.gz", "CT": "CTres.nii.gz"},
         f"{study}/SEG.nii.gz"),
        ("PETCT_02_a", {"PT": "SUV.nii.gz", "CT": "CT.nii.gz"}, None),
        ("PETCT_02_b", {"PT": "SUV.nii.gz"}, None),
    ]  # fmt: skip
    assert found.region(found.cases[0], "lesion").values == (1,)
    with pytest.raises(InputError, match="nothing was drawn in case PETCT_02_a"):
        found.region(found.cases[1], "lesion")
    assert find_cases(tmp_path / study).cases[0].id == study.split("/")[1]


def test_the_decathlon_lists_its_cases(tmp_path):
    touch(tmp_path, "imagesTr/lung_001.nii.gz", "labelsTr/lung_001.nii.gz")
    touch(tmp_path, "imagesTr/._lung_001.nii.gz")  # as macOS leaves them in the archives
    content = {
        "modality": {"0": "CT"}, "labels": {"0": "background", "1": "cancer"},
        "training": [{part: f"./{part}sTr/lung_001.nii.gz" for part in ("image", "label")}],
    }  # fmt: skip
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(content))
    found = find_cases(tmp_path)
    assert (found.name, found.labels) == ("MSD", ("background", "cancer"))
    assert names_of(found) == [("lung_001", {"CT": "lung_001.nii.gz"}, "labelsTr/lung_001.nii.gz")]
    (tmp_path / "labelsTr" / "lung_001.nii.gz").unlink()
    with pytest.raises(InputError, match="case lung_001: there is no .*labelsTr"):
        find_cases(tmp_path)
    file.write_text(json.dumps(content | {"modality": {"0": "FLAIR", "1": "T1w"}}))
    with pytest.raises(InputError, match="several modalities in one file are not read"):
        find_cases(tmp_path)


def test_nnunet_is_told_from_the_decathlon(tmp_path):
    found = find_cases(write_balls(tmp_path))
    assert (found.name, found.labels) == ("nnU-Net", ("background", "tumour"))
    assert found.cases[2].id == "P2"
    assert {c: p.name for c, p in found.cases[2].images.items()} == {"PT": "P2_0000.nii.gz"}


def test_organs_have_a_mask_each(tmp_path):
    touch(tmp_path, "0522c0001/CT_IMAGE.nrrd", "0522c0001/segmentations/Parotid-Lt.nrrd")
    touch(tmp_path, "0522c0669/CT_IMAGE.nrrd", "0522c0669/segmentations/Parotid_Lt.nrrd")
    found = find_cases(tmp_path)
    assert found.name == "head-and-neck organs"
    paths = [found.region(case, "Parotid-Lt").path.name for case in found.cases]
    assert paths == ["Parotid-Lt.nrrd", "Parotid_Lt.nrrd"]
    with pytest.raises(InputError, match="no label Brain in case 0522c0001; choose one of Parotid"):
        found.region(found.cases[0], "Brain")


def test_what_is_none_of_them_is_refused(tmp_path):
    touch(tmp_path, "scan.nii.gz", "CT/slice.dcm")
    with pytest.raises(InputError, match="none of the layouts nnU-Net, MSD, HECKTOR, autoPET"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        find_cases(tmp_path / "none")


def test_a_region_is_where_its_label_is(tmp_path):
    values, inside = ball(3)
    labels = inside.astype(np.uint8)
    labels[0, 0, 0] = 2
    path = save(tmp_path / "labels.nii.gz", labels)
    image = read_image(PT=save(tmp_path / "pet.nii.gz", values))
    assert (read_region(Region(path, (1,)), image.primary) == (inside > 0)).all()
    assert read_region(Region(path, (2,)), image.primary).sum() == 1
    assert read_region(Region(path, (1, 2)), image.primary).sum() == inside.sum() + 1
    with pytest.raises(InputError, match="no voxel holds the label 3"):
        read_region(Region(path, (3,)), image.primary)
    with pytest.raises(InputError, match="the mask holds the values"):
        read_region(Region(path), image.primary)


def test_dicom_is_a_folder_a_patient(tmp_path):
    from tests.dicom.made import save_series

    save_series(tmp_path / "A" / "pet")
    save_series(tmp_path / "A" / "ct", "CT")
    save_series(tmp_path / "B" / "all")  # both in one folder
    save_series(tmp_path / "B" / "all", "CT")
    save_series(tmp_path / "C" / "ct", "CT")  # the control: there is no PET to contour
    (tmp_path / "A" / "notes.txt").write_text("not DICOM")
    found = find_cases(tmp_path)
    assert found.name == "DICOM"
    assert [(case.id, {k: v.name for k, v in case.images.items()}) for case in found.cases] == [
        ("A", {"PT": "pet", "CT": "ct"}),
        ("B", {"PT": "all", "CT": "all"}),
    ]
    image = read_image(**{name: str(path) for name, path in found.cases[1].images.items()})
    assert image.names == ("PT", "CT")
