"""How near are predicted label maps to drawn ones? Two folders of the same cases, scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._progress import progress_bar
from aistat_jax.io.nifti import describe
from aistat_jax.io.nnunet import find_label_maps, label_names, patient_of, read_label_map
from aistat_jax.uncertainty.scores import LabelScore, score_case

WHITE = 255  # of a picture in 8 bits
DEFAULT = {"mm": 2.0, "px": 1.0}  # tolerance


def evaluate(
    predicted: Path,
    reference: Path,
    *,
    tolerance_mm: float | None = None,
    tolerance_px: float | None = None,
    partial: bool = False,
) -> tuple[LabelScore, ...]:
    """Scores of every predicted case and label against the reference of the same name.

    Labels are named as in the dataset.json in or beside either folder, else by their number. The
    tolerance of the surface Dice is 2 mm, or 1 px for label maps without spacing. partial: leave
    references without a prediction out, in place of refusing them.
    A map of 0 and 255 alone is a mask in 8 bits, whose 255 means 1, where nothing else can be
    meant: no label above 1 is declared or, without a dataset.json, is in any of the maps.
    Raises InputError for cases without a counterpart, maps on different grids or that cannot be
    read, labels that dataset.json does not declare, and a tolerance in the other unit.
    """
    ours, theirs = find_label_maps(predicted), find_label_maps(reference)
    _refuse_without_counterpart(predicted, ours, reference, theirs, partial)
    folders = [next(iter(maps.values())).parent for maps in (theirs, ours)]
    declared = [names for folder in folders if (names := label_names(folder)) is not None]
    labels = declared[0][1:] if declared else _numbers([*ours.values(), *theirs.values()])
    given = {"mm": tolerance_mm, "px": tolerance_px}
    found: list[LabelScore] = []
    for case in progress_bar(list(ours), "scoring", len(ours)):
        (values, grid), (truth, drawn_on) = read_label_map(ours[case]), read_label_map(theirs[case])
        if len(labels) == 1:
            values, truth = _white_is_1(ours[case], values), _white_is_1(theirs[case], truth)
        if not grid.matches(drawn_on):
            raise InputError(
                f"{ours[case]}: its grid {describe(grid)} is not that of {theirs[case]} "
                f"{describe(drawn_on)}; predict on the grid of the reference"
            )
        for path, largest in ((ours[case], values.max()), (theirs[case], truth.max())):
            if largest > len(labels):
                raise InputError(
                    f"{path}: the label {largest} is not among the {len(labels)} of dataset.json "
                    f"({', '.join(labels)}); correct the one or the other"
                )
        _refuse_other_unit(ours[case], grid.unit, given, found)
        tolerance = given[grid.unit]
        found.extend(
            score_case(
                values, truth, grid.spacing, labels, unit=grid.unit, case=case,
                tolerance=DEFAULT[grid.unit] if tolerance is None else tolerance,
                patient=patient_of(case),
            )
        )  # fmt: skip
    return tuple(found)


def _numbers(paths: list[Path]) -> tuple[str, ...]:
    """Labels 1, 2, ... up to the largest there is; 1 where all is empty, or a mask."""
    found: set[int] = set()
    for path in paths:
        found |= _values(read_label_map(path)[0])
    most = 1 if found <= {0, 1, WHITE} else max(found)
    return tuple(str(value) for value in range(1, most + 1))


def _white_is_1(path: Path, volume: np.ndarray) -> np.ndarray:
    """A map of one label whose 255, where there are no others, stands for it."""
    found = _values(volume)
    if WHITE not in found:
        return volume
    if 1 in found:
        raise InputError(
            f"{path}: the label map holds both 1 and 255, and which of them is meant cannot be "
            "known; save the region as 1 and everything else as 0"
        )
    return (volume == WHITE).astype(volume.dtype) if found <= {0, WHITE} else volume


def _values(volume: np.ndarray) -> set[int]:
    if volume.max() > np.iinfo(np.uint16).max:
        return set(np.unique(volume).tolist())
    return set(np.flatnonzero(np.bincount(volume.ravel())).tolist())


def _refuse_without_counterpart(
    predicted: Path,
    ours: dict[str, Path],
    reference: Path,
    theirs: dict[str, Path],
    partial: bool,
) -> None:
    for spare, where, other, advice in (
        (sorted(ours.keys() - theirs), predicted, reference, "give both the same names"),
        (
            [] if partial else sorted(theirs.keys() - ours), reference, predicted,
            "predict them too, or leave them out with `partial=True`",
        ),
    ):  # fmt: skip
        if spare:
            names = ", ".join(spare[:4]) + (", ..." if len(spare) > 4 else "")
            raise InputError(
                f"{where}: {len(spare)} cases ({names}) have no label map in {other}; {advice}"
            )


def _refuse_other_unit(
    path: Path, unit: str, given: dict[str, float | None], found: list[LabelScore]
) -> None:
    if found and found[0].unit != unit:
        raise InputError(
            f"{path}: this label map is in {unit} and others are in {found[0].unit}; score them "
            "apart"
        )
    other = "px" if unit == "mm" else "mm"
    if given[other] is not None:
        raise InputError(
            f"{path}: the label map is in {unit}, so `tolerance_{other}` means nothing; "
            f"use `tolerance_{unit}`"
        )
