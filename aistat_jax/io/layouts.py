"""Which cases does a folder hold? Told from the names of its files, by the layouts of the field.

HECKTOR, autoPET, nnU-Net v2, the Medical Segmentation Decathlon, and the head-and-neck organs of
Nikolov et al.; the data cards say where they come from. DICOM is told from one header a folder. No
voxel is read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._typing import Bool
from aistat_jax.dicom.inventory import modalities_in, regions_in
from aistat_jax.io.nifti import PathLike, read_drawn, read_mask
from aistat_jax.io.nnunet import channel_paths, label_names, read_dataset
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Channel

ENDINGS = (".nii.gz", ".nii", ".nrrd")
HECKTOR_LABELS = ("background", "GTVp", "GTVn")
AUTOPET_LABELS = ("background", "lesion")


@dataclass(frozen=True)
class Region:
    """A region in a label map: the voxels that hold one of `values`; a mask's own where empty.

    roi: its name, in an RTSTRUCT or a SEG.
    """

    path: Path
    values: tuple[int, ...] = ()
    roi: str | None = None


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case. images: by channel, the primary first; a channel may be a folder.

    labels: a label map; masks: regions that are told apart by their names.
    """

    id: str
    images: Mapping[str, Path]
    labels: Path | None = None
    masks: Mapping[str, Region] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What a folder holds. labels: names of a label map's values 0, 1, ..., where known."""

    name: str
    folder: Path
    cases: tuple[CaseFiles, ...]
    labels: tuple[str, ...] = ()

    def region(self, case: CaseFiles, which: str) -> Region:
        """A region that was drawn in a case: a label's name or number, a mask's name, or "any".

        Raises InputError where there is no such label, and says which there are.
        """
        if case.labels is None and not case.masks:
            raise InputError(f"{self.folder}: nothing was drawn in case {case.id}")
        if which in case.masks:
            return case.masks[which]
        if case.labels is not None:
            if which == "any":
                return Region(case.labels, tuple(range(1, max(len(self.labels), 256))))
            if which in self.labels[1:]:
                return Region(case.labels, (self.labels.index(which),))
            if which.isdecimal() and 0 < int(which) < max(len(self.labels), 256):
                return Region(case.labels, (int(which),))
        there = [*self.labels[1:], *sorted(case.masks)]
        raise InputError(
            f"{self.folder}: there is no label {which} in case {case.id}; choose one of "
            f"{', '.join(there) or 'the numbers in its label map'}"
            + (", or any" if case.labels is not None else "")
        )


def find_cases(folder: PathLike) -> Layout:
    """The cases of a folder, whichever of `LAYOUTS` it has, sorted by their id.

    Raises InputError for a folder of none of these layouts, a case that lacks an image, and two
    cases of one id.

    >>> list(LAYOUTS)
    ['nnU-Net', 'MSD', 'HECKTOR', 'autoPET', 'head-and-neck organs', 'DICOM']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    for name, read in LAYOUTS.items():
        found = read(folder)
        if found is not None:
            cases, labels = found
            return Layout(name, folder, _once(folder, cases), labels)
    raise InputError(
        f"{folder}: this folder has none of the layouts {', '.join(LAYOUTS)}; pass one that has, "
        "or write a manifest"
    )


def read_region(region: Region, like: Channel | Grid) -> Bool[np.ndarray, "i j k"]:
    """Where a region is, on the grid of `like`. Raises InputError where it is nowhere."""
    if not region.values:
        return read_mask(region.path, like, region.roi)
    found = np.isin(read_drawn(region.path, like, "label map"), region.values)
    if not found.any():
        values = ", ".join(str(value) for value in region.values[:3])
        raise InputError(f"{region.path}: no voxel holds the label {values}; choose another label")
    return found


# ------------------------------------------------------------------------------------ layouts

Found = tuple[list[CaseFiles], tuple[str, ...]]


def _nnunet(folder: Path) -> Found | None:
    """CASE_0000.nii.gz, ... in imagesTr, with label maps in labelsTr."""
    if "channel_names" not in _dataset(folder):
        return None
    dataset = read_dataset(folder)
    labels = folder / "labelsTr"
    return [
        CaseFiles(
            case,
            dict(zip(dataset.channels, channel_paths(dataset, case), strict=True)),
            labels / f"{case}{dataset.ending}",
        )
        for case in dataset.cases
    ], label_names(folder) or ()


def _decathlon(folder: Path) -> Found | None:
    """dataset.json lists images and label maps; one modality, or several in a fourth axis."""
    content = _dataset(folder)
    if "modality" not in content or "training" not in content:
        return None
    file, modality = folder / "dataset.json", content["modality"]
    if not isinstance(modality, dict) or len(modality) != 1:
        raise InputError(
            f"{file}: images of several modalities in one file are not read; split their fourth "
            "axis into files of a channel each"
        )
    quantity = str(next(iter(modality.values())))
    try:
        pairs = [(folder / each["image"], folder / each["label"]) for each in content["training"]]
        values = {int(value): str(name) for value, name in dict(content["labels"]).items()}
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{file}: training must list an image and a label of each case") from error
    labels = tuple(values.get(n, str(n)) for n in range(max(values, default=0) + 1))
    channel = {"PET": "PT"}.get(quantity, quantity)
    return [CaseFiles(_stem(image), {channel: image}, drawn) for image, drawn in pairs], labels


def _hecktor(folder: Path) -> Found | None:
    """CHUM-001__CT.nii.gz and CHUM-001__PT.nii.gz, with CHUM-001.nii.gz beside or in labelsTr.

    The organisers' pages write the label map of 2022 as CHUM_001.nii.gz, which is taken too.
    """
    images = _below(folder, "__PT", 3)
    if not images:
        return None
    cases = []
    for pet in images:
        name = _stem(pet).removesuffix("__PT")
        where = pet.parent
        ct = _sibling(where, f"{name}__CT")
        if ct is None:
            raise InputError(f"{where}: case {name} has no {name}__CT.nii.gz beside its PET")
        places = [where, where.with_name(where.name.replace("images", "labels"))]
        drawn = [
            _sibling(place, each) for place in places for each in (name, name.replace("-", "_"))
        ]
        drawn = [path for path in drawn if path is not None]
        cases.append(CaseFiles(name, {"PT": pet, "CT": ct}, drawn[0] if drawn else None))
    return cases, HECKTOR_LABELS


def _autopet(folder: Path) -> Found | None:
    """A folder a study with SUV, CTres (the CT on the PET's grid) and SEG; or CT where no CTres is.

    A patient's folder holds one folder a study; the id is both of their names.
    """
    images = [path for path in _below(folder, "SUV", 3) if _stem(path) == "SUV"]
    if not images:
        return None
    cases = []
    for suv in images:
        where = suv.parent
        ct = _sibling(where, "CTres") or _sibling(where, "CT")
        name = "_".join(where.relative_to(folder).parts) or folder.resolve().name
        channels = {"PT": suv} | ({} if ct is None else {"CT": ct})
        cases.append(CaseFiles(name, channels, _sibling(where, "SEG")))
    return cases, AUTOPET_LABELS


def _organs(folder: Path) -> Found | None:
    """CT_IMAGE and segmentations/ORGAN a patient; names of organs with - and _ are the same."""
    images = [path for path in _below(folder, "CT_IMAGE", 2) if _stem(path) == "CT_IMAGE"]
    if not images:
        return None
    cases = []
    for ct in images:
        drawn = sorted((ct.parent / "segmentations").glob("*"))
        masks = {_stem(p).replace("_", "-"): Region(p) for p in drawn if p.name.endswith(ENDINGS)}
        name = "_".join(ct.parent.relative_to(folder).parts) or folder.resolve().name
        cases.append(CaseFiles(name, {"CT": ct}, None, masks))
    return cases, ()


def _dicom(folder: Path) -> Found | None:
    """A folder a patient, with the series of a PET and of a CT in folders of their own or in one.

    What was drawn are the regions of its RTSTRUCTs and SEGs, by their names.
    """
    cases = []
    for patient in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = modalities_in(patient)
        if "PT" in found:
            images = {name: found[name] for name in ("PT", "CT") if name in found}
            drawn = regions_in(patient).items()
            masks = {name: Region(path, roi=roi) for name, (path, roi) in drawn}
            cases.append(CaseFiles(patient.name, images, None, masks))
    return (cases, ()) if cases else None


LAYOUTS: dict[str, Callable[[Path], Found | None]] = {
    "nnU-Net": _nnunet,
    "MSD": _decathlon,
    "HECKTOR": _hecktor,
    "autoPET": _autopet,
    "head-and-neck organs": _organs,
    "DICOM": _dicom,
}
"""Each says which cases a folder holds and what its labels are called, or None if it is not of
this layout; asked in this order."""


def _once(folder: Path, cases: list[CaseFiles]) -> tuple[CaseFiles, ...]:
    """Cases by id. Raises InputError where two have one, or a file that is listed is not there."""
    found: dict[str, list[Path]] = defaultdict(list)
    for case in cases:
        found[case.id].append(next(iter(case.images.values())))
        for path in (*case.images.values(), *([] if case.labels is None else [case.labels])):
            if not path.exists():
                raise InputError(f"{folder}: case {case.id}: there is no {path}")
    for name, paths in found.items():
        if len(paths) > 1:
            raise InputError(
                f"{folder}: there are two cases {name}, in {paths[0].parent} and "
                f"{paths[1].parent}; pass the folder of one of them"
            )
    if not cases:
        raise InputError(f"{folder}: there is no case in it")
    return tuple(sorted(cases, key=lambda case: case.id))


def _dataset(folder: Path) -> dict[str, Any]:
    """The content of dataset.json, where it is one that can be read."""
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _below(folder: Path, ending: str, depth: int) -> list[Path]:
    """Images whose stem ends so, at most `depth` folders below, sorted; hidden ones left out."""
    found = []
    for level in range(depth + 1):
        for each in ENDINGS:
            found += folder.glob("*/" * level + f"*{ending}{each}")
    shown = (p for p in found if not any(q.startswith(".") for q in p.relative_to(folder).parts))
    return sorted(shown)


def _sibling(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}{ending}" for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def _stem(path: Path) -> str:
    return next((path.name.removesuffix(e) for e in ENDINGS if path.name.endswith(e)), path.name)
