"""Which cases of a cohort become a data set for a network? Those whose lesions people accepted."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from aistat_jax._errors import InputError, InputWarning
from aistat_jax.cohort.manifest import images_in
from aistat_jax.cohort.run import CASES
from aistat_jax.cohort.task import RECORD, is_of, record_of
from aistat_jax.dicom.approval import APPROVED
from aistat_jax.inference.posterior import Posterior
from aistat_jax.inference.store import load_posterior
from aistat_jax.io.layouts import find_cases
from aistat_jax.io.nifti import read_image
from aistat_jax.io.nnunet import Dataset
from aistat_jax.signed_parts import POSTERIOR
from aistat_jax.signoff import SUMMARY, standing
from aistat_jax.space.image import Image
from aistat_jax.views.dataset import write_dataset

UNSIGNED = "with a lesion that is not signed"
_NAMED = 5  # cases in a sentence
PathLike = str | os.PathLike[str]


def cohort_dataset(
    results: PathLike,
    source: PathLike,
    out: PathLike,
    *,
    level: float = 0.5,
    channels: Sequence[str] | None = None,
    label: str = "lesion",
    unsigned: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Write the contours of a cohort as an nnU-Net v2 dataset; returns what it holds.

    `results` is the folder that `contour_cohort` wrote, and `source` the manifest or the folder
    that it was made of, which says where the images are. A case is taken where all its lesions are
    accepted (`sign`) as its folder of results holds them; edits that lie in other folders are not
    taken. What is not drawn is background to a network, so lesions have to be drawn whole. With
    `unsigned` also where lesions are not signed; but never where one is rejected, or not as it was
    signed, nor where the images are not the very files that were contoured. `say` is told which are
    left out, and why, as one whose files cannot be read; and which of the results `source` does not
    name. `level`, `channels` and `label` are as of `write_dataset`.

    Raises InputError for a folder of no cohort, where no case is left, and as `write_dataset`.
    """
    home = Path(results).expanduser().absolute()
    if not (home / CASES).is_dir():
        raise InputError(f"{results}: there is no cohort; pass the folder of its results")
    sources = _sources(source)
    taken: dict[str, Mapping[str, Path]] = {}
    left: dict[str, list[str]] = {}
    for name, images in sources.items():
        if why := _left_out(home / CASES / name, images, unsigned):
            left.setdefault(why, []).append(name)
        else:
            taken[name] = images
    there = sorted(path.parent.name for path in (home / CASES).glob(f"[!.]*/{RECORD}"))
    if unnamed := [name for name in there if name not in sources]:
        left[f"in the results and not named by {source}"] = unnamed
    reasons = [f"{len(names)} {why} ({_few(names)})" for why, names in left.items()]
    if not taken:
        advice = "; sign them, or pass `unsigned`" if UNSIGNED in left else ""
        raise InputError(f"{results}: no case can be taken: {', '.join(reasons)}{advice}")
    for reason in reasons:
        say(f"left out: {reason}")

    def drawn() -> Iterator[tuple[str, tuple[Image, Sequence[Posterior]]]]:
        for name, images in taken.items():
            found = _read(home / CASES / name, images, unsigned)
            if isinstance(found, str):
                say(f"left out: 1 {found} ({name})")
            else:
                yield name, found

    whose = "contours of a model, "
    whose += "whether a person has accepted them or not" if unsigned else "accepted by a person"
    return write_dataset(out, drawn(), level=level, channels=channels, label=label, whose=whose)


def _sources(source: PathLike) -> Mapping[str, Mapping[str, Path]]:
    """The images of each case by channel, of a manifest or of a folder of a known layout."""
    path = Path(source)
    if path.is_dir():
        return {each.id: each.images for each in find_cases(path).cases}
    if not path.is_file():
        raise InputError(f"{path}: there is no such manifest, or folder of images")
    return images_in(path)


def _read(
    folder: Path, images: Mapping[str, Path], unsigned: bool
) -> tuple[Image, Sequence[Posterior]] | str:
    """Image and contours of a case, judged again right before these are loaded; or why not."""
    try:
        image = read_image(**images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # they have been said
            why = _left_out(folder, images, unsigned)
        return why or (image, load_posterior(folder / POSTERIOR))
    except InputError as error:
        return _unreadable(error)


def _left_out(folder: Path, images: Mapping[str, Path], unsigned: bool) -> str:
    """Why a case is not taken, "" where it is. Images, which take longest, come last."""
    if record_of(folder).get("state") != "done":
        return "not contoured"
    try:
        if why := _not_accepted(folder, unsigned):
            return why
        same = is_of(folder, {f"image {name}": path for name, path in images.items()})
    except InputError as error:
        return _unreadable(error)
    return "" if same else "of other images than were contoured"


def _unreadable(error: InputError) -> str:
    return f"that cannot be read: {error}"


def _not_accepted(folder: Path, unsigned: bool) -> str:
    """Why a case is not taken by what people have signed, and by what it is that they have."""
    last, status = standing(folder)
    if why := _in_part(folder):
        return why
    given = [one for one in last.values() if one is not None]
    if status == APPROVED:
        return ""
    if any(one.void for one in given):
        return "with a lesion that is not as it was signed"
    if any(one.decision == "reject" for one in given):
        return "with a lesion that is rejected"
    if len(given) < len(last):
        return "" if unsigned else UNSIGNED
    return "with files together as nobody has signed them"


def _in_part(folder: Path) -> str:
    """Why a case's lesions are not drawn whole, or not known to be; "" where they are.

    What of a lesion is not drawn would be background to a network.
    """
    slices = record_of(folder).get("slices")
    if slices is None:
        return "whose record does not say of which slices it is; run aistat cohort again"
    if slices != "all":
        return "drawn in some slices alone"
    skipped = json.loads((folder / SUMMARY).read_text(encoding="utf-8")).get("skipped")
    return "with a lesion that could not be drawn, in all slices or in some" if skipped else ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
