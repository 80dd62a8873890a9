"""Does a written nnU-Net dataset come back as the image and the posterior's median?"""

from __future__ import annotations

import json

import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._errors import InputError, InputWarning
from aistat_jax.case import Case
from aistat_jax.io import nnunet_writing
from aistat_jax.io.nnunet import LabelledCase, read_case, read_dataset
from aistat_jax.space.image import Image, channel_from_array
from tests.helpers import make_image, make_posterior, make_surface, make_volume


def solid_case() -> Case:
    return Case(make_volume(), (aj.contour_of(make_surface(draws=200)),))


def flat_case(spacing: float | None = 2.0, presence: float = 1.0) -> Case:
    tolerance = {"tolerance_px": 1.0} if spacing is None else {}
    posterior = aj.replace(make_posterior(spacing=spacing, draws=200), presence=presence)
    return Case(make_image(spacing=spacing), (aj.contour_of(posterior, **tolerance),))


def refused(folder, cases, part: str, **more) -> None:
    with pytest.raises(InputError, match=part):
        aj.write_dataset(folder / "out", cases, **more)
    assert list(folder.iterdir()) == []  # nothing half-written


def test_a_dataset_is_read_back_as_the_image_and_the_median(tmp_path):
    one, two = solid_case(), solid_case()
    two = aj.replace(two, contours=(aj.contour_of(make_surface(draws=200, axes=(9, 8, 9))),))
    made = aj.write_dataset(tmp_path / "Dataset011_Made", {"P01": one, "P02": two})
    again = read_dataset(tmp_path / "Dataset011_Made")
    assert again == made
    assert (again.name, again.channels, again.cases) == ("Dataset011_Made", ("PT",), ("P01", "P02"))
    assert again.labels == ("background", "lesion")
    for name, case in (("P01", one), ("P02", two)):
        read = read_case(again, name)
        assert np.allclose(read.image["PT"].values, case.image["PT"].values, atol=1e-4)
        assert np.allclose(read.image.primary.grid.affine, case.image.primary.grid.affine)
        inside = aj.probability_map(case.posteriors, case.image.primary.grid) >= 0.5
        assert np.array_equal(read.labels == 1, inside)
        volume = inside.sum() * case.image.primary.grid.spacing.prod()
        assert volume == pytest.approx(case[0].content.quantile(0.5), rel=0.03)
    aj.write_dataset(tmp_path / "sure", [("P01", one)], level=0.95, label="tumour")
    sure = read_case(read_dataset(tmp_path / "sure"), "P01").labels
    inside = aj.probability_map(one.posteriors, one.image.primary.grid) >= 0.95
    assert np.array_equal(sure == 1, inside)
    assert 0 < sure.sum() < (read_case(again, "P01").labels).sum()  # the control
    content = json.loads((tmp_path / "sure" / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "tumour": 1}
    assert content["numTraining"] == 1


def test_channels_share_one_grid_and_may_be_chosen(tmp_path):
    case = flat_case()
    made = aj.write_dataset(tmp_path / "both", {"a": case})
    assert made.channels == ("PT", "CT")
    assert np.allclose(read_case(made, "a").image["CT"].values, case.image["CT"].values, atol=1e-3)
    other = channel_from_array(
        np.arange(800.0).reshape(20, 20, 2), np.diag([3.0, 3.0, 3.0, 1.0]), name="CT"
    )
    several = aj.replace(case, image=Image.of(case.image["PT"], other))
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, {"a": several}, "the grid of channel CT .* is not that of PT.* as `channels`")
    refused(
        empty,
        {"a": case, "b": solid_case()},
        "b has the channels PT and .* PT, CT.*`channels`",
    )
    refused(empty, {"a": case}, "no channel 'MR'", channels=["MR"])
    alone = aj.write_dataset(tmp_path / "pt", {"a": several, "b": case}, channels=["PT"])
    assert alone.channels == ("PT",)
    assert alone.cases == ("a", "b")


def test_labels_of_ones_own_are_written_as_they_are(tmp_path):
    image = make_volume()
    labels = (image.primary.values > 3.5).astype(np.int32)
    made = aj.write_dataset(tmp_path / "out", [("drawn", LabelledCase(image, labels))])
    assert np.array_equal(read_case(made, "drawn").labels, labels)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, {"a": LabelledCase(image, 2 * labels)}, "none of 0 to 1")
    refused(empty, {"a": LabelledCase(image, labels[1:])}, "do not match the image's")


def test_what_cannot_be_a_dataset_is_refused_and_leaves_nothing(tmp_path):
    case = flat_case()
    refused(tmp_path, {}, "there is no case to write")
    refused(tmp_path, [("a", case), ("a", case)], "the case a is given twice")
    refused(tmp_path, [("a", case), ("A", case)], "a and A differ by capitals alone")
    refused(tmp_path, {"a/b": case}, "'a/b' cannot be a file's")
    refused(tmp_path, {".a": case}, "cannot be a file's")
    refused(tmp_path, {"a": flat_case(spacing=None)}, "no spacing")
    refused(tmp_path, {"a": case}, "`level` must lie strictly between 0 and 1", level=1.0)
    refused(tmp_path, {"a": case}, "cannot name a region", label="background")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="there is something there already; choose a new folder"):
        aj.write_dataset(tmp_path / "out", {"a": case})
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def full(path, values, like):
        written.append(path)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")

    monkeypatch.setattr(nnunet_writing, "write_nifti", full)
    with pytest.raises(OSError, match="No space left"):
        aj.write_dataset(tmp_path / "out", {"a": flat_case(), "b": flat_case()})
    assert list(tmp_path.iterdir()) == []


def test_a_case_without_a_voxel_is_said(tmp_path):
    with pytest.warns(InputWarning, match="case a: no voxel is inside with probability 0.5"):
        made = aj.write_dataset(tmp_path / "out", {"a": flat_case(presence=0.4)})
    assert not read_case(made, "a").labels.any()
