"""What is done with each case of a cohort? Its files, what to contour in them, and settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aistat_jax
from aistat_jax._errors import InputError
from aistat_jax.case import Settings
from aistat_jax.dicom.files import parts_of
from aistat_jax.io.layouts import Region
from aistat_jax.nets.weights import net_folder
from aistat_jax.pipelines import check_question, surface_net

LONGEST = 100  # letters of an id, which is a folder's name
_QUESTION = ("point_mm", "mask", "threshold", "net", "dims", "chart", "radius_mm")


@dataclass(frozen=True)
class CohortCase:
    """One image to contour: an id, files by channel (the primary first), and `contour`'s arguments.

    A mask or a reference is a file, or a `Region` of a label map.
    """

    id: str
    images: Mapping[str, Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    @property
    def files(self) -> dict[str, Path]:
        """Every file that the result depends on, by the part it plays."""
        found = {f"image {name}": Path(path) for name, path in self.images.items()}
        for name in ("mask", "reference"):
            given = self.options.get(name)
            if given is not None:
                found[name] = given.path if isinstance(given, Region) else Path(given)
        net = self.options.get("net")
        if net is not None and Path(net).is_dir():
            inner = (path for path in sorted(Path(net).rglob("*")) if path.is_file())
            found |= {f"net {path.relative_to(net).as_posix()}": path for path in inner}
        return found

    def fingerprint(self, pictures: bool, anonymous: bool = False, fhir: bool = False) -> str:
        """Sixteen hexadecimal digits for all that the result depends on beside the files."""
        said = {name: value for name, value in self.options.items() if value is not None}
        for name in ("mask", "reference"):
            if name in said:
                said[name] = said[name].values if isinstance(said[name], Region) else "file"
        if "net" in said and Path(said["net"]).is_dir():
            said["net"] = "files"
        settings = {
            name: value if isinstance(value, str | int | float | None) else repr(value)
            for name, value in asdict(self.settings).items()
        }
        whole = [aistat_jax.__version__, list(self.images), sorted(said.items()), settings]
        whole += [pictures, *(["anonymous"] if anonymous else []), *(["fhir"] if fhir else [])]
        text = json.dumps(whole, default=list, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_case(case: CohortCase) -> None:
    """Refuse what can be told to be wrong before any image is read."""
    check_id(case.id)
    if not case.images:
        raise InputError("there is no image; name the file of one channel at least")
    for part, path in case.files.items():
        if not parts_of(path)[0].exists():
            raise InputError(f"{part}: there is no {path}")
    for name in ("mask", "reference"):
        if case.options.get(f"{name}_roi") is not None and case.options.get(name) is None:
            raise InputError(f"`{name}_roi` names a region of a {name}; pass `{name}` too")
    given: dict[str, Any] = {name: case.options.get(name) for name in _QUESTION}
    given["chart"] = given["chart"] or "star"
    more = ["box_mm"] if case.options.get("box_mm") is not None else []
    check_question(settings=case.settings, more=more, **given)
    if isinstance(given["net"], str) and surface_net(given["net"]) is None:
        net_folder(given["net"])
    if case.options.get("slices") == "point" and given["point_mm"] is None and not more:
        raise InputError("`slices` of the point need a point; write all, or slice numbers")
    channel = case.options.get("channel")
    if channel is not None and channel not in case.images:
        raise InputError(
            f"there is no channel {channel} among the images ({', '.join(case.images)})"
        )


def check_id(name: str) -> None:
    """Refuse an id that cannot be the name of a folder on every system."""
    wrong = set(name) & set('/\\:*?"<>|')
    odd = not name.isprintable() or name != name.strip(" .") or len(name) > LONGEST
    if not name or wrong or odd or os.sep in name:
        raise InputError(
            f"the id {name!r} cannot name a folder; use up to {LONGEST} letters, digits, "
            "spaces within, - _ or ."
        )


def check_ids(names: list[str], what: str) -> None:
    """Refuse two cases of one id, or of two that one folder would be called by."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if len(seen) and names.count(name) > 1:
            raise InputError(
                f"{what}: the id {name} is given {names.count(name)} times; give every case its own"
            )
        if other != name:
            raise InputError(
                f"{what}: the ids {other} and {name} differ by capitals alone; give every case its "
                "own"
            )
