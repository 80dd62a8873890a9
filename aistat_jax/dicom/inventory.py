"""What does a folder of DICOM hold, and what can be done with it?"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aistat_jax._errors import InputError
from aistat_jax.dicom.files import Member, header, holds_dicom, opened, parts_of
from aistat_jax.dicom.library import reading
from aistat_jax.dicom.series import IMAGES, Series, is_named, series_in
from aistat_jax.dicom.stack import Stack, stacked
from aistat_jax.dicom.structures import fits, structures_in
from aistat_jax.dicom.suv import body_weight, kind_of
from aistat_jax.space.grid import canonical_axes, canonical_grid

_MOST_NAMES = 20
_DRAWN = {
    "RTSTRUCT": ("StructureSetROISequence", "ROIName"), "SEG": ("SegmentSequence", "SegmentLabel"),
}  # fmt: skip


@dataclass(frozen=True)
class Holding:
    """One series: what it is, whether it can be used, and for what or why not, in words."""

    name: str
    usable: bool
    text: str


def inventory(path: str | os.PathLike[str]) -> Iterator[Holding]:
    """The series of a folder, a file or a zip, one after the other; pixels are not read.

    Then channels that several series could be, with the paths that tell them apart, other files,
    and the command that goes on. Raises InputError for a path that is not there, and files that
    are damaged.
    """
    with opened(path) as members, reading(path):
        found = series_in(members)
        patients = {series.patient for series in found}
        if len(patients) > 1:
            text = "an image is of one patient; pass the folder of each"
            yield Holding(f"{len(patients)} patients", False, text)
        stacks = {n: _stack(series) for n, series in enumerate(found) if series.is_image}
        usable = []
        for n, series in enumerate(found):
            holding = _holding(series, stacks.get(n), [(found[k], stacks[k]) for k in stacks])
            usable += [series] if n in stacks and holding.usable else []
            yield holding
        images = [found[n] for n in stacks]
        for modality in sorted({series.modality for series in images} & set(IMAGES)):
            several = [series for series in images if series.modality == modality]
            if len(several) > 1 and len(patients) == 1:
                which = ", ".join(_which(path, series, several) for series in several)
                yield Holding(f"{len(several)} series could be channel {modality}", False,
                              f"say which, behind a #: {which}")  # fmt: skip
        other = len(members) - sum(len(series.members) for series in found)
        if other or not found:
            many = f"{other} other file{'s' * (other != 1)}"
            yield Holding(many, bool(found), "no DICOM, and left alone")
        if usable and len(patients) == 1:
            yield Holding("next", True, _command(path, found, usable))


def modalities_in(folder: Path) -> dict[str, Path]:
    """Where below a folder there is a series of each modality: its own folder, if it has one.

    One header is read of each folder whose files are of one kind, and all where they are not told
    apart so; where several folders hold a modality, it is in what holds them all.
    """
    found: dict[str, Path] = {}
    for where, members in _folders(folder):
        for modality in _modalities(members):
            found[modality] = folder if modality in found else where
    return found


def regions_in(folder: Path) -> dict[str, tuple[Path, str]]:
    """The file and the name of each region that RTSTRUCTs and SEGs below a folder hold.

    By its name, and where several files have one of that name by the path of the file in the
    folder too.
    Files are looked for as by `modalities_in`; of those that are damaged nothing is known.
    """
    found: list[tuple[str, Path]] = []
    for _, members in _folders(folder):
        if _modalities(members) & set(_DRAWN):
            found += [(name, each.path) for each in members for name in _drawn(each)]
    times = Counter(name for name, _ in found)
    return {
        name if times[name] == 1 else f"{path.relative_to(folder)}: {name}": (path, name)
        for name, path in found
    }


def _folders(folder: Path) -> Iterator[tuple[Path, list[Member]]]:
    for where, _, names in sorted(os.walk(folder)):
        yield (
            Path(where),
            [Member(n, Path(where) / n) for n in sorted(names) if not n.startswith(".")],
        )


def _drawn(member: Member) -> list[str]:
    """The names of the regions in one file."""
    try:
        sequences = [sequence for sequence, _ in _DRAWN.values()]
        read = header(member, ["Modality", *sequences]) if holds_dicom(member.path) else None
    except (InputError, OSError):
        return []  # said when the case is read
    if read is None or (modality := str(read[0].get("Modality"))) not in _DRAWN:
        return []
    sequence, keyword = _DRAWN[modality]
    return [str(item.get(keyword)) for item in read[0].get(sequence) or [] if item.get(keyword)]


def _modalities(members: Sequence[Member]) -> set[str]:
    """Of the first and the last DICOM file in a folder, and of all where these differ."""
    ends = {_modality(each) for each in (*members[:1], *members[-1:])}
    return (ends if len(ends) < 2 else {_modality(each) for each in members}) - {""}


def _modality(member: Member) -> str:
    try:
        read = header(member, ["Modality"]) if holds_dicom(member.path) else None
    except (InputError, OSError):
        return ""  # said when the case is read
    return "" if read is None else str(read[0].get("Modality") or "")


def _stack(series: Series) -> Stack | InputError:
    """The volume that a series makes, or why it makes none."""
    try:
        return stacked(series, "series")
    except InputError as error:
        return error


def _holding(
    series: Series, stack: Stack | InputError | None,
    images: Sequence[tuple[Series, Stack | InputError]],
) -> Holding:  # fmt: skip
    name = series.words()
    if series.modality == "RTSTRUCT":
        return Holding(name, True, f"regions {_names(series, 'StructureSetROISequence')}: "
                       f"a reference or a rough mask; {_home(series, images)}")  # fmt: skip
    if series.modality == "SEG":
        return Holding(name, True, f"segments {_names(series, 'SegmentSequence', 'SegmentLabel')}")
    if stack is None:
        return Holding(name, True, "is no image and is left alone")
    try:
        if isinstance(stack, InputError):
            raise stack
        voxels = " x ".join(str(n) for n in stack.shape)
        spacing = ((stack.affine[:3, :3] ** 2).sum(axis=0) ** 0.5).tolist()
        size = f"{voxels} voxels of {' x '.join(f'{s:.3g}' for s in spacing)} mm"
        said = "; ".join((size, *stack.notes))
        if series.modality == "PT":
            suv = body_weight(stack.headers, "series")
            used = ", ".join(f"{key} {value}" for key, value in suv.used)
            said = "; ".join((said, *suv.notes))
            return Holding(name, True, f"{said}; SUV body weight from {used}")
        if series.modality == "CT":
            return Holding(name, True, f"{said}; HU")
        return Holding(name, True, f"{said}; values of no unit")
    except InputError as error:
        kind = f"holds {kind_of(series.headers[0])}: " if series.modality == "PT" else ""
        return Holding(name, False, kind + str(error).removeprefix("series: "))


def _home(series: Series, images: Sequence[tuple[Series, Stack | InputError]]) -> str:
    """On the slices of which series an RTSTRUCT was drawn, by the heights of its contours."""
    try:
        rois = [roi for each in series.members for roi in structures_in(each).rois if roi.contours]
    except InputError as error:
        return str(error)
    if not rois:
        return "no closed contour"
    homes = []
    for image, stack in images:
        if not isinstance(stack, InputError):
            grid = canonical_grid(stack.affine, stack.shape, canonical_axes(stack.affine))
            frame = image.says("FrameOfReferenceUID")
            alike = all(frame == roi.frame_uid or not (frame and roi.frame_uid) for roi in rois)
            if alike and all(fits(roi, grid) for roi in rois):
                homes.append(image.words())
    return f"on the slices of {' and of '.join(homes) or 'no series that is here'}"


def _which(path: str | os.PathLike[str], series: Series, several: Sequence[Series]) -> str:
    """A path that stands for one of several series: by its description, or else by its UID."""
    name = series.says("SeriesDescription")
    alone = name and sum(is_named(each, name) for each in several) == 1
    place, _ = parts_of(path)
    return shlex.quote(f"{place}#{name if alone else series.says('SeriesInstanceUID')}")


def _command(
    path: str | os.PathLike[str], found: Sequence[Series], usable: Sequence[Series]
) -> str:
    """What contours the first image that can be used, with a CT beside a PET."""
    first = {modality: next((each for each in usable if each.modality == modality), None)
             for modality in ("PT", "CT")}  # fmt: skip
    home = first["PT"] or first["CT"] or usable[0]

    def place(series: Series) -> str:
        alike = [each for each in found if each.is_image and each.modality == series.modality]
        whole = shlex.quote(str(parts_of(path)[0]))
        return whole if len(alike) == 1 else _which(path, series, alike)

    words = ["aistat contour", place(home)]
    words += [] if home.modality == "PT" else ["--channel-name", shlex.quote(home.modality)]
    if home.modality == "PT" and first["CT"] is not None:
        words += ["--ct", place(first["CT"])]
    return " ".join([*words, "--point=X,Y,Z"]) + ", or --mask and --mask-roi for a region"


def _names(series: Series, sequence: str, keyword: str = "ROIName") -> str:
    items = [item for said in series.headers for item in said.get(sequence) or []]
    names = [str(item.get(keyword)) for item in items]
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "none") + more
