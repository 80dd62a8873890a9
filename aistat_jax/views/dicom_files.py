"""How does a case go back into a planning system? As an RTSTRUCT and as DICOM SEG."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError, InputWarning
from aistat_jax.case import Case
from aistat_jax.dicom.segmentations import Segment, write_segmentation
from aistat_jax.dicom.structure_file import write_structures
from aistat_jax.planning.margins import SafetyMargin
from aistat_jax.space.image import Channel
from aistat_jax.uncertainty.contour import estimate_volume, voxels_of
from aistat_jax.uncertainty.credible_regions import WORST, Other, regions_of
from aistat_jax.uncertainty.probability import probability_map
from aistat_jax.views.anonymous import anonymous_case

RTSTRUCT, ESTIMATE, PROBABILITY = "rtstruct.dcm", "segmentation.dcm", "probability.dcm"


def write_rtstruct(
    path: str | os.PathLike[str],
    case: Case,
    *,
    channel: str | None = None,
    levels: Sequence[float] = (),
    label: str = "aistat",
    margins: Mapping[str, Sequence[SafetyMargin]] | None = None,
    anonymous: bool = False,
) -> Path:
    """Write a case as an RTSTRUCT: closed contours in mm from the posterior itself.

    Regions are the median, the inner and outer credible contour, and one for each probability in
    `levels`; see `regions_of`. `margins` adds, for each name, the outer contours of a margin of
    each target, and where it has inner ones those as NAME_in. They lie on the slices of the series
    that `channel` was read from, by default that of the contours, else the first one that is from
    DICOM, and refer to its images; surfaces may be cut by the slices of any, such as a planning CT.
    ApprovalStatus is UNAPPROVED.
    Holes are keyholes. What is left out is an InputWarning: contours under a quarter of a pixel,
    regions that cross no slice, and what of a surface lies beyond the slices. `anonymous` leaves
    out all that the series says of patient and study, and replaces its UIDs (`anonymous_origin`).

    Raises InputError for an image that was not read from DICOM, for a channel in another frame of
    reference than the one that the contours were drawn on, and for a margin of no target of it.
    """
    case = anonymous_case(case) if anonymous else case
    chosen = _channel(case, channel)
    regions = regions_of(case.contours, chosen, levels, label, _margins(case, margins or {}))
    for note in write_structures(path, regions, chosen, label):
        warnings.warn(f"{Path(path).name}: {note}", InputWarning, stacklevel=2)
    return Path(path)


def write_seg(
    path: str | os.PathLike[str],
    case: Case,
    *,
    channel: str | None = None,
    kind: str = "probability",
    anonymous: bool = False,
) -> Path:
    """Write a case as DICOM SEG on the voxels of a channel that was read from DICOM.

    `kind` is "probability" (FRACTIONAL: that a voxel's centre is inside of any target, in steps of
    1/255) or "estimate" (BINARY: voxels at least half inside of it).
    Targets that reach beyond the voxels are cut off, which is an InputWarning, and so is an
    estimate that holds no voxel. `anonymous` is as of `write_rtstruct`.
    Raises InputError for another kind, and for an image that was not read from DICOM or is in
    another frame of reference than the one that the contours were drawn on.
    """
    if kind not in ("probability", "estimate"):
        raise InputError(f"kind {kind!r} is not known; it is probability or estimate")
    case = anonymous_case(case) if anonymous else case
    chosen = _channel(case, channel)
    worst = next(c for c in WORST if any(each.grade.case == c for each in case))
    for note in _lost(case, chosen, kind):
        warnings.warn(f"{Path(path).name}: {note}", InputWarning, stacklevel=2)
    if kind == "probability":
        values = probability_map(case.posteriors, chosen.grid).clip(0, 1)
    else:
        values = estimate_volume(case.contours, chosen)
    what = f"{'probability of being inside' if kind == 'probability' else 'posterior estimate'}"
    return write_segmentation(
        path, [Segment(f"aistat {kind}", values, f"{what}; worst grade {worst}")], chosen
    )


def write_dicom(
    folder: Path,
    case: Case,
    levels: Sequence[float] = (),
    channel: str | None = None,
    margins: Mapping[str, Sequence[SafetyMargin]] | None = None,
) -> list[str]:
    """The DICOM files of a run, where its first channel is from DICOM; returns their names.

    What cannot be written is said (an InputWarning), and the rest is.
    """
    if case.image.primary.origin is None and channel is None:
        return []
    writers = {
        RTSTRUCT: lambda path: write_rtstruct(
            path, case, channel=channel, levels=levels, margins=margins
        ),
        ESTIMATE: lambda path: write_seg(path, case, channel=channel, kind="estimate"),
        PROBABILITY: lambda path: write_seg(path, case, channel=channel),
    }
    names = []
    for name, write in writers.items():
        try:
            write(folder / name)
            names.append(name)
        except InputError as error:
            warnings.warn(f"there is no {name}: {error}", InputWarning, stacklevel=2)
    return names


def _margins(case: Case, margins: Mapping[str, Sequence[SafetyMargin]]) -> list[Other]:
    """The contours of margins as regions."""
    found, there = [], {contour.id: contour.chart.sites for contour in case}
    for name, each in margins.items():
        for margin in each:
            if there.get(margin.target_id) != margin.chart.sites:
                raise InputError(
                    f"margin {name} of {margin.target_id} is of no target of this case; make it of "
                    "the case's own posteriors"
                )
        kinds = " and ".join(sorted({f"{m.kind}, {100 * m.share:g}% of the target" for m in each}))
        outer = {margin.target_id: margin.outer for margin in each}
        inner = {m.target_id: m.inner for m in each if m.inner is not None}
        found.append(Other(name, f"outer contour of a margin ({kinds})", outer))
        if inner:
            found.append(Other(f"{name}_in", f"inner contour of a margin ({kinds})", inner))
    return found


def _lost(case: Case, channel: Channel, kind: str) -> list[str]:
    """What the voxels of a channel do not show of the targets, in sentences."""
    grid, notes = channel.grid, []
    for each in case:
        chart: Any = each.chart
        values = each.posterior.estimate if kind == "estimate" else each.band.largest
        if chart.dims == 3:
            points = (shape := chart.surface(values)).points
        else:
            points = chart.plane.to_world(chart.sections(values, chart.plane)[0].points)
        index = grid.to_index(points)[:, : chart.dims]  # a slice shows its own, wherever it is
        size, spacing = (np.asarray(of)[: chart.dims] for of in (grid.shape, grid.spacing))
        beyond = float((np.maximum(-0.5 - index, index - size + 0.5) * spacing).max())
        if beyond > 1e-3 * min(grid.spacing):
            notes.append(f"target {each.id} is cut off: it reaches {beyond:.3g} mm too far")
        if kind == "estimate" and chart.dims == 3 and not voxels_of(shape, grid).any():
            notes.append(f"target {each.id} holds no voxel and is left out")
    return notes


def _channel(case: Case, name: str | None) -> Channel:
    """The channel whose series is referred to, once it is in the frame that contours are in."""
    flat = [each.posterior.chart.plane for each in case if each.chart.dims == 2]
    home = (case.image.home_of(flat) if flat else None) or case.image.primary
    channels = [home, *(case.image[each] for each in case.image.names)]
    known = [each for each in channels if each.origin is not None]
    chosen = case.image[name] if name is not None else (known or [home])[0]
    if chosen.name == home.name or chosen.origin is None:
        return chosen
    if home.origin is None or not home.origin.frame_uid:
        warnings.warn(
            f"nothing says that the contours, drawn on channel {home.name}, lie in the frame of "
            f"reference of channel {chosen.name}, which they are written in",
            InputWarning,
            stacklevel=3,
        )
    elif home.origin.frame_uid != chosen.origin.frame_uid:
        raise InputError(
            f"channel {chosen.name} is in another frame of reference than channel {home.name}, on "
            "which the contours were drawn; register them first"
        )
    return chosen
