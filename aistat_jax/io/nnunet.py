"""How is an nnU-Net v2 dataset read? A folder of numbered channels and label maps, as records.

dataset.json; imagesTr/CASE_0000.nii.gz, CASE_0001.nii.gz, ...; labelsTr/CASE.nii.gz; and, where
there are any, images without labels in imagesTs.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Int
from aistat_jax.io.nifti import PathLike, describe, read_as_drawn, read_drawn, read_image
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel, Image

ENDINGS = (".nii.gz", ".nii", ".png")
MAP_ENDINGS = (*ENDINGS, ".npz")


@dataclass(frozen=True)
class Dataset:
    """What dataset.json and the file names say; no voxel has been read.

    channels: names in order of their number; labels: names in order of their value, the
    background first; cases: those with images and labels to train on, sorted.
    """

    folder: Path
    name: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: tuple[str, ...]
    ending: str = ".nii.gz"


_VISIT = re.compile(
    r"[_-](?:(?:ses|session|visit|scan|frame|time|tp|t|fu|week|day|phase)[_-]?\d+"
    r"|pre|post|baseline|followup)$",
    re.IGNORECASE,
)


def patient_of(case: str) -> str:
    """The patient that a case's name tells of: the name less what names one of several visits.

    What is left must hold a number, or else it may be no patient but the name of a collection.

    >>> patient_of("HN-012_t2"), patient_of("sub-07_ses-1"), patient_of("scan_3"), patient_of("a7")
    ('HN-012', 'sub-07', 'scan_3', 'a7')
    """
    rest = _VISIT.sub("", case)
    return rest if re.search(r"\d", rest) else case


@record
class LabelledCase:
    """An image and what was drawn on it.

    Shapes: labels (i, j, k) int32 on the primary channel's grid, in canonical axis order.
    """

    image: Image
    labels: Int[np.ndarray, "i j k"]


def read_dataset(folder: PathLike) -> Dataset:
    """What an nnU-Net v2 dataset holds, from dataset.json and the names of its files.

    Raises InputError naming the file for a folder that is not such a dataset: dataset.json
    absent or damaged, keys missing, labels not consecutive from 0, regions or an ignore label,
    channels or labels of a case missing, or another number of cases than numTraining.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; pass an nnU-Net dataset's folder")
    file = folder / "dataset.json"
    content = _read_json(file)
    ending = content["file_ending"]
    if ending not in ENDINGS:
        raise InputError(
            f"{file}: file_ending {ending!r} cannot be read; convert the images to one of "
            f"{', '.join(ENDINGS)}"
        )
    channels = names_of_channels(file, content["channel_names"])
    labels = names_of_labels(file, content["labels"])
    cases = _image_cases(folder / "imagesTr", ending, len(channels))
    _check_labels_exist(folder / "labelsTr", ending, cases)
    expected = content["numTraining"]
    if not isinstance(expected, int) or isinstance(expected, bool):
        raise InputError(
            f"{file}: numTraining must be a whole number, got {_as_json(expected)}; write how "
            "many cases there are"
        )
    if expected != len(cases):
        raise InputError(
            f"{file}: numTraining is {expected} but {len(cases)} cases were found in "
            f"{folder / 'imagesTr'}; add the missing files or correct the number"
        )
    name = content.get("name")
    name = name if isinstance(name, str) and name else folder.resolve().name
    return Dataset(folder, name, channels, labels, cases, ending)


def read_case(dataset: Dataset, case: str) -> LabelledCase:
    """The image and the labels of one training case.

    The label map may be stored in another axis order than the image, as long as its voxels are
    the same ones. Raises InputError naming the file for what `read_image_of` refuses, a label
    map on another grid, or values that are not labels of the dataset.
    """
    if case not in dataset.cases:
        raise InputError(
            f"{dataset.folder}: there is no training case {case!r} among its "
            f"{len(dataset.cases)}; choose one of {_few(dataset.cases)}"
        )
    image = read_image_of(dataset, case)
    path = dataset.folder / "labelsTr" / f"{case}{dataset.ending}"
    return LabelledCase(image, _read_labels(path, image.primary, dataset.labels))


def read_image_of(dataset: Dataset, case: str, folder: str = "imagesTr") -> Image:
    """The channels of one case, named as in dataset.json; the first is the primary one.

    folder is a name inside the dataset, such as imagesTs for cases without labels.
    Raises InputError naming the file for channels that are absent, cannot be used, or do not
    share one grid, which nnU-Net's format demands.
    """
    paths = channel_paths(dataset, case, folder)
    image = read_image(**dict(zip(dataset.channels, paths, strict=True)))
    first = image.primary
    for channel in image.channels.values():
        if not channel.grid.matches(first.grid):
            raise InputError(
                f"{channel.source}: its grid {describe(channel.grid)} is not that of "
                f"{first.source} {describe(first.grid)}; resample every channel of a case to "
                "one grid"
            )
    return image


def find_images(folder: PathLike, channels: tuple[str, ...]) -> Dataset:
    """Cases CASE_0000, CASE_0001, ... without labels in a folder, for a network's channels.

    A dataset's own folder stands for its imagesTs where there are any, else its imagesTr. Read
    them by `read_image_of(found, case, ".")`. Raises InputError for a folder without such images,
    cases that lack a channel, or other channels in a dataset.json beside them.
    """
    folder = Path(folder)
    if (folder / "dataset.json").is_file():
        inner = (folder / name for name in ("imagesTs", "imagesTr"))
        folder = next((path for path in inner if path.is_dir()), folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; pass one of images CASE_0000.nii.gz")
    file = folder.parent / "dataset.json"
    if file.is_file():
        declared = names_of_channels(file, _read_json(file)["channel_names"])
        if declared != channels:
            raise InputError(
                f"{file}: the channels are {', '.join(declared)} and the network takes "
                f"{', '.join(channels)}; pass images of those, in that order"
            )
    ending = next((each for each in ENDINGS if _stems(folder, each)), ENDINGS[0])
    cases = _image_cases(folder, ending, len(channels))
    return Dataset(folder, folder.name, channels, ("background",), cases, ending)


def find_label_maps(folder: PathLike) -> dict[str, Path]:
    """The label maps in a folder by their case, sorted.

    A folder without any stands for its labels/ or labelsTr/. Raises InputError for a folder
    without label maps, or with two of one case.
    """
    folder = Path(folder)
    places = [path for path in (folder, folder / "labels", folder / "labelsTr") if path.is_dir()]
    for place in places:
        each = [(stem, place / (stem + e)) for e in MAP_ENDINGS for stem in _stems(place, e)]
        found = dict(sorted(each))
        if len(found) < len(each):
            twice = [stem for stem in found if sum(stem == other for other, _ in each) > 1]
            raise InputError(
                f"{place}: there are several label maps of {_few(twice)}; keep one of a case"
            )
        if found:
            return found
    raise InputError(
        f"{folder}: there are no label maps CASE.nii.gz; pass the folder that holds them"
    )


def label_names(folder: PathLike) -> tuple[str, ...] | None:
    """The labels that dataset.json in a folder, or beside it, declares; None without one."""
    for file in (Path(folder) / "dataset.json", Path(folder).parent / "dataset.json"):
        if file.is_file():
            return names_of_labels(file, _read_json(file)["labels"])
    return None


def channel_paths(dataset: Dataset, case: str, folder: str = "imagesTr") -> list[Path]:
    """The files of a case's channels, in their order. Raises InputError where one is absent."""
    where = dataset.folder / folder
    paths = [where / f"{case}_{n:04d}{dataset.ending}" for n in range(len(dataset.channels))]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise InputError(
            f"{where}: case {case} has no {', '.join(absent)}; it needs "
            f"{len(paths)} channels ({', '.join(dataset.channels)})"
        )
    return paths


def _read_labels(path: Path, like: Channel, names: tuple[str, ...]) -> np.ndarray:
    """Label values (i, j, k) int32 on the canonical grid of `like`, all of them declared."""
    volume = _whole_numbers(path, read_drawn(path, like, "label"))
    undeclared = (volume < 0) | (volume >= len(names))
    if undeclared.any():
        found = np.unique(volume[undeclared])
        declared = ", ".join(f"{value} {name}" for value, name in enumerate(names))
        raise InputError(
            f"{path}: the labels hold the values {_few(f'{v:g}' for v in found)}, which "
            f"dataset.json does not declare ({declared}); correct the one or the other"
        )
    return volume.astype(np.int32)


def read_label_map(path: Path) -> tuple[Int[np.ndarray, "i j k"], Grid]:
    """A label map alone, in canonical axis order, and its own grid.

    Raises InputError naming the file for one that cannot be read, or holds anything but whole
    numbers from 0.
    """
    volume, grid = read_as_drawn(path)
    volume = _whole_numbers(path, volume)
    if (volume < 0).any():
        raise InputError(f"{path}: the labels are below 0 somewhere; save whole numbers from 0")
    return volume.astype(np.int32), grid


def _whole_numbers(source: Path, volume: np.ndarray) -> np.ndarray:
    if volume.dtype.kind not in "biuf" or not np.isfinite(volume).all():
        raise InputError(f"{source}: the labels must be whole numbers; save one label a voxel")
    if volume.dtype.kind == "f" and (volume != np.rint(volume)).any():
        found = np.unique(volume[volume != np.rint(volume)])
        raise InputError(
            f"{source}: the labels hold fractions ({_few(f'{v:g}' for v in found)}); save whole "
            "numbers, resampled to the nearest label"
        )
    return volume


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(
            f"{file}: there is no such file; pass an nnU-Net v2 dataset's folder, which holds one"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: this is not readable JSON ({error}); repair it") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: this must be a JSON object; write it as nnU-Net v2 does")
    if "modality" in content and "channel_names" not in content:
        raise InputError(
            f"{file}: this is the format of nnU-Net v1; convert it with "
            "nnUNetv2_convert_old_nnUNet_dataset"
        )
    wanted = ("channel_names", "labels", "numTraining", "file_ending")
    missing = [key for key in wanted if key not in content]
    if missing:
        raise InputError(f"{file}: the keys {', '.join(missing)} are missing; add them")
    if "dataset" in content:
        raise InputError(
            f"{file}: lists of files under 'dataset' are not supported; keep the images in "
            "imagesTr and the labels in labelsTr"
        )
    return content


def names_of_channels(file: Path, given: Any) -> tuple[str, ...]:
    if not isinstance(given, dict) or not given:
        raise InputError(f'{file}: channel_names must be like {{"0": "PT", "1": "CT"}}')
    numbers = [str(n) for n in range(len(given))]
    if set(given) != set(numbers):
        raise InputError(
            f"{file}: channel_names are numbered {', '.join(map(str, given))}; number them "
            f"{', '.join(numbers)}"
        )
    names = tuple(given[n] for n in numbers)
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"{file}: channel_names {names} must be words, each another; rename the channels"
        )
    return names


def names_of_labels(file: Path, given: Any) -> tuple[str, ...]:
    if not isinstance(given, dict) or not given:
        raise InputError(f'{file}: labels must be like {{"background": 0, "tumour": 1}}')
    if "ignore" in given:
        raise InputError(
            f"{file}: an ignore label is not supported; label every voxel, or leave out cases "
            "that were labelled in part"
        )
    regions = [name for name, value in given.items() if isinstance(value, list)]
    if regions:
        raise InputError(
            f"{file}: label regions ({', '.join(regions)}) are not supported; give every label "
            "one whole number"
        )
    if any(not isinstance(value, int) or isinstance(value, bool) for value in given.values()):
        kinds = ", ".join(f"{name}: {_as_json(value)}" for name, value in given.items())
        raise InputError(f"{file}: labels ({kinds}) must be names with whole numbers")
    names = tuple(sorted(given, key=lambda name: given[name]))
    values = [given[name] for name in names]
    if values != list(range(len(values))):
        raise InputError(
            f"{file}: label values {', '.join(map(str, values))} must be consecutive from 0; "
            "renumber them"
        )
    if names[0] != "background" or len(names) < 2:
        raise InputError(
            f"{file}: labels must be 'background' for 0 and at least one more, got "
            f"{', '.join(names)}"
        )
    return names


def _image_cases(folder: Path, ending: str, channels: int) -> tuple[str, ...]:
    """Cases of which `folder` holds all the channels, sorted."""
    found: dict[str, set[int]] = defaultdict(set)
    for stem in _stems(folder, ending):
        parts = re.fullmatch(r"(.+)_(\d{4})", stem)
        if parts is None:
            raise InputError(
                f"{folder / (stem + ending)}: an image's name must end in its channel, such as "
                f"CASE_0000{ending}; rename it"
            )
        found[parts[1]].add(int(parts[2]))
    if not found:
        raise InputError(
            f"{folder}: there are no images CASE_0000{ending}; add them, or correct file_ending"
        )
    for case in sorted(found):
        if found[case] != set(range(channels)):
            have = ", ".join(f"{n:04d}" for n in sorted(found[case]))
            raise InputError(
                f"{folder}: case {case} has the channels {have} and must have 0000 to "
                f"{channels - 1:04d}; add the missing files or correct channel_names"
            )
    return tuple(sorted(found))


def _check_labels_exist(folder: Path, ending: str, cases: tuple[str, ...]) -> None:
    labelled = set(_stems(folder, ending))
    missing = [case for case in cases if case not in labelled]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(cases)} cases have no label map "
            f"({_few(case + ending for case in missing)}); add them, or move their images to "
            "imagesTs"
        )
    spare = sorted(labelled - set(cases))
    if spare:
        raise InputError(
            f"{folder}: {len(spare)} label maps have no image in imagesTr "
            f"({_few(case + ending for case in spare)}); add the images or remove the labels"
        )


def _stems(folder: Path, ending: str) -> list[str]:
    """File names in `folder` less their ending, sorted; hidden files are not looked at."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; an nnU-Net v2 dataset holds one")
    return sorted(
        path.name[: -len(ending)]
        for path in folder.iterdir()
        if path.name.endswith(ending) and not path.name.startswith(".")
    )


def _as_json(value: Any) -> str:
    """A value and its type, in the words of JSON."""
    kinds = {str: "the text ", list: "the list ", dict: "the object "}
    return kinds.get(type(value), "") + json.dumps(value)


def _few(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join(words[:4]) + (", ..." if len(words) > 4 else "")
