"""What does summary.json say of a case? A contract that programs read: schema 2."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax.boundary.alternatives import SecondReading
from aistat_jax.case import Case
from aistat_jax.planning.margins import SafetyMargin
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Channel, Image
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.ring import Ring
from aistat_jax.uncertainty.bands import pointwise_band
from aistat_jax.uncertainty.contour import Contour, Reference, estimate_volume, voxels_of
from aistat_jax.uncertainty.overlap import dice
from aistat_jax.uncertainty.probability import SizePosterior
from aistat_jax.uncertainty.reference import Agreement
from aistat_jax.uncertainty.sections import section_areas
from aistat_jax.uncertainty.surface_distance import surface_distances

SCHEMA = 2
READ = (1, 2)
"""Schemas that are read: a target of schema 1 is a contour in a slice."""


def summary_of(case: Case) -> dict[str, Any]:
    """The content of summary.json, schema 2; no value is NaN or infinite.

    It is schema 1 with "dims" and "chart" in every target: 2 and "star" (or "offset") for a
    contour in a slice, whose "size" is an area; 3 and "sphere" (or "offset") for a surface, whose
    size is a volume and which holds its "sections" in the slices of the first channel: "slice"
    (from 0 along the canonical third axis) and "channel", "height_mm" of the slice along their
    common normal (in an axial volume z), and the "size" of the section as that of a target, with
    the area of the "estimate".

    Channels that were read from DICOM have "quantities", by their names: the "quantity" and what it
    was computed "from", every attribute with its tag and value, and "notes" on the series.

    Settings have a "tolerance_reason" where nobody had said a tolerance, so that it was chosen.

    Where there is something to say it holds "reference" (agreement with a reference mask),
    "skipped" (targets that could not be read, with reasons), "readings" (of a point that can be
    read in two ways: of each, the contoured one first, its "probability", its "content" and
    whether it "holds_place"), with the "question" that would tell (its place, "point_mm", and its
    "text"), and "chosen", what nobody had said ("dims" and the "reason"; "charts", with the "id",
    "chart" and "reason" of each target); a
    target its "channel" and "slice", "presence" and its own "reference"; a grade "trusted_to_mm"
    (the smallest tolerance at which it would be green, null where there is none),
    "trusted_to_by_place_mm" (the same of single places on the boundary) and "findings"
    (what speaks against the model: each with "cap", the best grade it leaves, "kind" and "text");
    readers must not count on any of them.
    `band_half_width_mm` is of the band that holds the whole contour or surface at once,
    `pointwise_half_width_mm` of the one that holds any one place, both at `level`.
    Images without spacing have sizes in "px2", `band_half_width_px`, `trusted_to_px` and so on.
    """
    first, like = case[0], case.image.primary
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "version": aistat_jax.__version__,
        "seed": case.settings.seed,
        "inputs": list(case.inputs),
        "settings": {
            "level": first.band.level,
            f"tolerance_{first.unit}": first.grade.tolerance,
            **({"tolerance_reason": case.tolerance.reason} if case.tolerance else {}),
            "draws": len(first.posterior.draws),
        },
        "targets": [target_summary(each, like) | place_of(each, case.image) for each in case],
    }
    if case.agreement is not None:
        summary["reference"] = _reference(case.agreement)
    if case.skipped:
        summary["skipped"] = [{"id": name, "reason": why} for name, why in case.skipped]
    if case.second is not None:
        summary |= _readings(case.second)
    if case.chosen is not None or case.charts:
        summary["chosen"] = _chosen(case)
    if quantities := _quantities(case.image):
        summary["quantities"] = quantities
    return summary


def _readings(second: SecondReading) -> dict[str, Any]:
    """Two readings of a point, and which place would tell them apart."""
    holds = (not second.holds_place, second.holds_place)
    of_each = zip(second.probabilities, second.sizes, holds, strict=True)
    return {
        "readings": [
            {"probability": chance, "content": {"unit": "ml", "value": size}, "holds_place": held}
            for chance, size, held in of_each
        ],
        "question": {"point_mm": list(second.place), "text": second.question()},
    }


def _quantities(image: Image) -> dict[str, Any]:
    """What the values of channels from DICOM are, and every attribute that they come from."""
    return {
        name: {
            "quantity": image[name].quantity,
            "from": dict(origin.quantity),
            "notes": list(origin.notes),
        }
        for name in image.names
        if (origin := image[name].origin) is not None
    }


def _chosen(case: Case) -> dict[str, Any]:
    """What was chosen for the case, and why."""
    found: dict[str, Any] = {}
    if case.chosen is not None:
        found = dict(zip(("dims", "reason"), case.chosen, strict=True))
    if case.charts:
        keys = "id", "chart", "reason"
        found["charts"] = [dict(zip(keys, each, strict=True)) for each in case.charts]
    return found


def margins_summary(margins: Mapping[str, Sequence[SafetyMargin]]) -> dict[str, Any]:
    """Margins by name and target: by which rule, how far towards each side, and how well it covers.

    `expected` and `probability` are of delineation alone, as `SafetyMargin.outer_covers`.
    """
    return {
        name: {
            margin.target_id: {
                "kind": margin.kind,
                "share": margin.share,
                "expected": margin.outer_covers.expected,
                "probability": margin.outer_covers.probability,
                f"by_axis_{margin.unit}": margin.by_axis(),
            }
            for margin in several
        }
        for name, several in margins.items()
    }


def place_of(contour: Contour, image: Image) -> dict[str, Any]:
    """The channel and slice that a contour lies in, where it does; the sections of a surface."""
    if contour.chart.dims == 3:
        return {"sections": _sections(contour, image.primary)}
    plane = contour.posterior.chart.plane
    home = image.home_of([plane])
    if home is None:
        return {}
    return {"channel": home.name, "slice": home.grid.number_of(plane)}


def _sections(contour: Contour, channel: Channel) -> list[dict[str, Any]]:
    """What the slices of a channel show of a surface."""
    grid = channel.grid
    return [
        {
            "slice": k,
            "channel": channel.name,
            f"height_{grid.unit}": round(float(grid.plane(k).offset), 4),
            "size": {"estimate": estimate, **_size(area)},
        }
        for k, (estimate, area) in section_areas(contour.posterior, grid).items()
    ]


def target_summary(contour: Contour, like: Channel | None = None) -> dict[str, Any]:
    """What summary.json says of one target, and how it agrees with a reference if there is one.

    Surfaces are compared in the voxels of `like`.
    """
    posterior, grade, reference = contour.posterior, contour.grade, contour.reference
    checks, width = posterior.diagnostics, contour.band.half_width
    one_place = pointwise_band(posterior, contour.band.level).half_width
    compared = _compared(contour, reference, like)
    return {
        "id": contour.id,
        "dims": contour.chart.dims,
        "chart": chart_name(contour),
        "method": posterior.method,
        "diagnostics": {
            "converged": bool(checks.converged),
            "khat": _finite(checks.khat),
            "ess_min": _finite(checks.ess_min) or 0.0,
            "rhat_max": _finite(checks.rhat_max),
            "divergences": checks.divergences,
            "reasons": list(checks.reasons),
        },
        "size": _size(contour.content),
        f"band_half_width_{contour.unit}": _spread(width),
        f"pointwise_half_width_{contour.unit}": _spread(one_place),
        "grade": {
            "case": grade.case,
            "reasons": list(grade.reasons),
            "fraction": dict(grade.fraction),
            f"trusted_to_{grade.unit}": _finite(grade.trusted_to),
            f"trusted_to_by_place_{grade.unit}": _spread(grade.local_trusted_to),
            "findings": [found._asdict() for found in checks.findings],
        },
        "seconds": _seconds(posterior.seconds),
        **({"presence": round(posterior.presence, 4)} if posterior.presence < 1 else {}),
        **({"reference": compared} if compared is not None else {}),
    }


def _spread(lengths: np.ndarray) -> dict[str, float | None]:
    """Median, 95% point and largest of lengths along a boundary; null where they are not finite."""
    points, known = {"median": 0.5, "q95": 0.95, "max": 1.0}, bool(np.isfinite(lengths).all())
    return {name: float(np.quantile(lengths, at)) if known else None for name, at in points.items()}


def chart_name(contour: Contour) -> str:
    """The kind of chart in one word: "star", "sphere", "offset" (from a curve or a mesh)."""
    return re.findall("[A-Z][a-z]*", type(contour.chart).__name__)[0].lower()


def _size(size: SizePosterior) -> dict[str, Any]:
    return {"unit": size.unit, "mean": size.mean, "sd": size.sd, **size.quantiles}


def _compared(
    contour: Contour, reference: Reference, like: Channel | None
) -> dict[str, Any] | None:
    """Dice and surface distances of the estimate against a reference, where they are known."""
    if isinstance(reference, Curve | Ring):
        estimate = contour.chart.surface(contour.posterior.estimate)
        distances = surface_distances(estimate, reference)
        score = dice(estimate, reference)
    elif isinstance(reference, Mesh) and like is not None:
        own, drawn = estimate_volume([contour], like), voxels_of(reference, like.grid)
        if not (own.any() and drawn.any()):
            return None
        distances = surface_distances(own, drawn, like.grid.spacing)
        score = dice(own, drawn)
    else:
        return None
    unit = contour.unit
    return {"dice": score, f"assd_{unit}": distances.assd, f"hd95_{unit}": distances.hd95}


def _seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(seconds.get(name, 0.0)), 4) for name in ("evidence", "fit", "total")}


def _reference(found: Agreement) -> dict[str, Any]:
    return {
        "scope": found.scope,
        "dice": found.dice,
        f"assd_{found.unit}": _finite(found.assd),
        f"hd95_{found.unit}": _finite(found.hd95),
        "band_share": _finite(found.band_share),
        "slices_compared": found.slices_compared,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
