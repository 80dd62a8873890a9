"""What is the calibration of a network of any make? A head for its output, and what it promises.

A folder holds calibration.json (what it reads, what it promises, and of which images), card.json,
head.safetensors and MODEL_CARD.md. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from dataclasses import replace as settings_with
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import FolderError, InputError
from aistat_jax._files import files_in, move_in, staged_folder, write_whole
from aistat_jax._record import replace
from aistat_jax._typing import Float
from aistat_jax.case import Settings
from aistat_jax.io.nifti import PathLike
from aistat_jax.io.outputs import output_log_odds, read_output
from aistat_jax.nets.output_head import OutputHead, head_content, head_from
from aistat_jax.nets.ray_head import ray_skeleton
from aistat_jax.nets.weights import read_weights, write_weights
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.conformal import ConformalBand
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.risk_control import GreenRule
from aistat_jax.uncertainty.tolerance import RADIUS_SHARE, radius_of

KIND, SCHEMA = "calibration", 2
FILES = ("calibration.json", "card.json", "head.safetensors", "MODEL_CARD.md")
A_CONTOUR = "A contour is that of one slice, held against what one reader drew there."


@dataclass(frozen=True, eq=False)
class Calibration:
    """A head that reads a network's output, and what is promised of patients never seen.

    label: which class of the output it is about. band: by how much bands are widened to hold whole
    boundaries; rule: from where on green holds. digests: of the images that it was learned from.
    card: what was measured, on patients left out.
    """

    head: OutputHead
    band: ConformalBand
    rule: GreenRule
    label: int = 1
    digests: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def promises(self) -> tuple[str, ...]:
        """What holds of new patients, in sentences: by a theorem where patients were split."""
        band, rule = self.band, self.rule
        who = "(the same scanners, protocol and readers)"
        lie = "whose centre lies in what was drawn"
        if self.card.get("settings", {}).get("split"):
            return (
                f"With probability {band.coverage:.3g} or more one of a new patient's contours "
                f"{lie}, taken at random, has all of it inside its band, if the patient is "
                f"exchangeable with the {band.patients} calibrated on {who}.",
                f"The expected share of a new patient's contours that are green and wrong is at "
                f"most {rule.rate:.3g}, if the patient is exchangeable with the {rule.patients} "
                f"calibrated on {who}.",
                A_CONTOUR,
            )
        return (
            f"About {band.coverage:.3g} of new patients' contours {lie} have all of it inside "
            f"their bands, and about {rule.rate:.3g} or fewer of all contours are green and wrong, "
            f"if the patients are exchangeable with the {band.patients} calibrated on {who}. This "
            "is by cross-validation and no guarantee in finite samples, which a calibration with "
            "its patients split has.",
            A_CONTOUR,
        )

    def refuse_known(self, image: Image) -> None:
        """Raises InputError for an image that the calibration was learned from."""
        if digest_of(image) in self.digests:
            raise InputError(
                f"this image is one of those that the calibration of {self.name} was learned from, "
                "so its promises do not hold; pass images of other patients"
            )

    def log_odds(self, given: np.ndarray | PathLike, image: Image) -> Float[np.ndarray, "i j k"]:
        """What the network says of an image, from its file or an array. InputError for another."""
        how = image.primary, self.head.output, self.label
        return (
            output_log_odds(given, *how)
            if isinstance(given, np.ndarray)
            else read_output(given, *how)
        )

    def settings(self, settings: Settings) -> Settings:
        """Those of a case, with the rule's tolerance and the band's level where nobody said one."""
        if settings.level is None:
            settings = settings_with(settings, level=self.band.coverage)
        name = f"tolerance_{self.rule.unit}"
        if getattr(settings, name) is not None or self.rule.tolerance is None:
            return settings
        return settings_with(settings, **{name: self.rule.tolerance})

    def hold(self, contour: Contour) -> Contour:
        """A contour with the band, and no better a grade, than the calibration promises.

        At another level than its own the band stays the model's own, and the grade says so; at
        another tolerance, or one of more than a quarter of the contour's radius, nothing is green.
        """
        band, grade, rule = contour.band, contour.grade, self.rule
        if band.level == self.band.coverage:
            band = self.band.band(contour.posterior)
        else:
            grade = _with_reason(
                grade,
                f"The calibration promises nothing of bands at {band.level:.3g}; it was made at "
                f"{self.band.coverage:.3g}, and this band is the model's own.",
            )
        if (grade.tolerance, grade.unit) == (rule.tolerance, rule.unit):
            grade = rule.hold(grade)
        elif grade.case == "green":
            at = (
                "another statistic" if rule.tolerance is None else f"{rule.tolerance:g} {rule.unit}"
            )
            reason = (
                f"The calibration promises nothing of green at {grade.tolerance:g} {grade.unit}; "
                f"it was made at {at}."
            )
            grade = replace(_with_reason(grade, reason), case="amber")
        return held_to_size(replace(contour, band=band, grade=grade))


def held_to_size(contour: Contour) -> Contour:
    """A contour, amber where it is green by a tolerance of more than a quarter of its radius."""
    grade, radius = contour.grade, radius_of(contour.posterior)
    if grade.case != "green" or grade.tolerance <= RADIUS_SHARE * radius:
        return contour
    reason = (
        f"A tolerance of {grade.tolerance:g} {grade.unit} is more than a quarter of this contour's "
        f"radius, {radius:.3g} {grade.unit}, so that its agreement says little."
    )
    return replace(contour, grade=replace(_with_reason(grade, reason), case="amber"))


def _with_reason(grade: Grade, reason: str) -> Grade:
    return replace(grade, reasons=(reason, *grade.reasons))


def digest_of(image: Image) -> str:
    """What tells an image by its voxels, whatever it is called."""
    values = np.ascontiguousarray(image.primary.values, dtype=np.float32)
    whole = hashlib.sha256(repr(values.shape).encode())
    whole.update(values.tobytes())
    return whole.hexdigest()[:24]


def save_calibration(calibration: Calibration, folder: str | os.PathLike[str]) -> Path:
    """Write a calibration to a folder, which appears whole or not at all.

    Raises InputError when something is there already that is no calibration, and for a head
    without weights.
    """
    import aistat_jax

    folder, head = Path(folder), calibration.head
    refuse_taken(folder)
    if head.head is None:
        raise InputError(f"the calibration of {calibration.name} has no head yet; calibrate first")
    content = {
        "kind": KIND, "schema": SCHEMA, "version": aistat_jax.__version__,
        **head_content(head), "label": calibration.label,
        "band": json.loads(calibration.band.to_json()),
        "rule": json.loads(calibration.rule.to_json()), "images": list(calibration.digests),
    }  # fmt: skip
    with staged_folder(folder) as staged:
        write_whole(staged / "calibration.json", json.dumps(content, indent=1) + "\n")
        write_whole(staged / "card.json", json.dumps(calibration.card, indent=1) + "\n")
        write_weights(head.head, staged / "head.safetensors")
        write_whole(staged / "MODEL_CARD.md", card_page(calibration))
        move_in(staged, folder, [f for f in files_in(folder) if f in FILES], FILES[:2])
    return folder


def refuse_taken(folder: Path) -> None:
    """Raises FolderError for a folder that is there and holds no calibration."""
    if folder.exists() and not (folder / FILES[0]).is_file():
        raise FolderError(f"{folder} exists and holds no calibration; choose another folder")


def load_calibration(folder: str | os.PathLike[str]) -> Calibration:
    """The calibration that `save_calibration` wrote.

    Raises InputError for a folder without one, another schema, and damaged files.
    """
    folder = Path(folder)
    file = folder / "calibration.json"
    if not file.is_file():
        raise InputError(f"{folder}: there is no calibration; pass a folder that calibrate wrote")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind, schema, version = content["kind"], content["schema"], content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: this is not a whole file; calibrate again") from error
    if (kind, schema) != (KIND, SCHEMA):
        raise InputError(
            f"{file}: this {kind} has schema {schema}, of version {version}, and only {KIND}s of "
            f"schema {SCHEMA} are read; calibrate again"
        )
    try:
        inputs = len(content["channels"]) + 1
        weights = read_weights(folder / "head.safetensors", ray_skeleton(inputs)[1])
        head = head_from(content, weights)
        band = ConformalBand.from_json(json.dumps(content["band"]))
        rule = GreenRule.from_json(json.dumps(content["rule"]))
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        _refuse_unmeant(content["label"], band, rule, card)
        known = content["label"], tuple(map(str, content["images"]))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: the calibration is not whole; calibrate again") from error
    return Calibration(head, band, rule, *known, card)


def _refuse_unmeant(label: Any, band: ConformalBand, rule: GreenRule, card: Any) -> None:
    """Raises InputError for what no calibration has."""
    shares = {"coverage": band.coverage, "level": band.level, "rate": rule.rate}
    for what, given, right in (
        ("label", label, type(label) is int and label >= 1),
        ("margin", band.margin, band.margin >= 0),
        ("tolerance", rule.tolerance, rule.tolerance is None or rule.tolerance > 0),
        *((what, share, 0 < share < 1) for what, share in shares.items()),
    ):
        if not right:
            raise InputError(f"a calibration cannot have the {what} {given}; calibrate again")
    inner = [card.get(part, {}) for part in ("settings", "measured")] if type(card) is dict else []
    parts = [card, *inner]
    if not all(isinstance(part, dict) for part in parts):
        raise InputError("card.json is no card; calibrate again")


def card_page(calibration: Calibration) -> str:
    """The card as a page to read."""
    card, head = calibration.card, calibration.head
    reads = ", ".join(f"{n} ({q})" for n, q in zip(head.channels, head.quantities, strict=True))
    rows = "\n".join(
        f"| {figure} | {value:.3g} |" for figure, value in card.get("measured", {}).items()
    )
    return (
        f"# Calibration of {head.name}\n\n"
        f"Reads {head.output} of label {calibration.label}, beside {reads}, in {head.unit}. "
        f"{card.get('learned from', '')}\n\n"
        + "".join(f"* {promise}\n" for promise in calibration.promises)
        + f"\n{card.get('limits', '')}\n\n"
        f"## Measured on patients left out\n\n{card.get('left out', '')}\n\n"
        f"| figure | value |\n|---|---|\n{rows}\n"
    )
