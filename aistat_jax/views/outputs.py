"""What does a run leave behind? summary.json and the files and pictures beside it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._files import move_in, staged_folder, write_whole
from aistat_jax.case import Case
from aistat_jax.io.nifti import write_nifti
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.metrics import lebesgue_error, surface_distances
from aistat_jax.uncertainty.probability import probability_map
from aistat_jax.uncertainty.reference import Agreement
from aistat_jax.uncertainty.triage import triage
from aistat_jax.views.case import MOST_PANELS, plot_case, plot_slices
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.probabilities import plot_probability
from aistat_jax.views.report import write_report
from aistat_jax.views.style import save_figure
from aistat_jax.views.unrolled import plot_unrolled

SCHEMA = 1


def write_case(folder: str | os.PathLike[str], case: Case) -> list[str]:
    """Write every output of a case into a folder, all files or none; returns their names.

    summary.json is the contract (see `summary_of`); images without spacing get probability.npz
    instead of probability.nii.gz. Raises InputError when the folder cannot be written.
    """
    out = Path(folder).expanduser().absolute()
    with staged_folder(out) as staging:
        names = write_files(staging, case)
        move_in(staging, out, last=("summary.json",))
    return names


def write_files(folder: Path, case: Case) -> list[str]:
    """Write every output of a case into an existing folder; returns the files' names."""
    from aistat_jax.inference.store import save_posterior

    summary = summary_of(case)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "summary.json", text + "\n")
    save_posterior(folder / "posterior.nc", case.posteriors)
    names = ["summary.json", "posterior.nc", write_probability(folder, case)]
    if any(contour.chart.dims == 3 for contour in case):
        return names
    write_contours(folder / "contours.csv", case)
    why, channel = _why(case), _channel_shown(case)
    overview = plot_case(case.image, case.contours, focus=case.focus, why=why, channel=channel)
    save_figure(overview, folder / "figure.png")
    count = len(case)
    caption = f"Estimate, draws and band on the image. Large: {why}"
    if count > MOST_PANELS:
        caption += f"; small: {MOST_PANELS} of {count} contours, spread evenly"
    elif count > 1:
        caption += f"; small: all {count} contours"
    write_report(
        folder / "report.html",
        title=case.title,
        summary=summary,
        figures=[(f"{caption}.", overview), *_more_figures(case, channel)],
        first=triage(case.contours),
        pictures=plot_slices(case.image, case.contours, channel=channel),
        size=stack_size(case.contours),
    )
    return [*names, "contours.csv", "figure.png", "report.html"]


def summary_of(case: Case) -> dict[str, Any]:
    """The content of summary.json, schema 1; no value is NaN or infinite.

    Beyond the contract of schema 1 it may hold "reference" (agreement with a reference mask) and
    "skipped" (targets that could not be read, with reasons), a target its "channel" and "slice"
    (counted from 0 along that channel's canonical third axis), its own "reference", and a
    grade "trusted_to_mm" (the smallest tolerance at which it would be green, null where there is
    none) and "findings" (what speaks against the model: each with "cap", the best grade it leaves,
    "kind" and "text"); readers must not count on any of them.
    Images without spacing have sizes in "px2", `band_half_width_px` and `trusted_to_px`.
    """
    first = case[0]
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "version": aistat_jax.__version__,
        "seed": case.settings.seed,
        "inputs": list(case.inputs),
        "settings": {
            "level": first.band.level,
            f"tolerance_{first.unit}": first.grade.tolerance,
            "draws": len(first.posterior.draws),
        },
        "targets": [target_summary(contour) | _place(contour, case.image) for contour in case],
    }
    if case.agreement is not None:
        summary["reference"] = _reference(case.agreement)
    if case.skipped:
        summary["skipped"] = [{"id": name, "reason": why} for name, why in case.skipped]
    return summary


def _place(contour: Contour, image: Image) -> dict[str, Any]:
    """The channel and slice that a contour lies in, where it does."""
    if contour.chart.dims == 3:
        return {}
    plane = contour.posterior.chart.plane
    home = image.home_of([plane])
    if home is None:
        return {}
    return {"channel": home.name, "slice": home.grid.number_of(plane)}


def target_summary(contour: Contour) -> dict[str, Any]:
    """What summary.json says of one target, and how it agrees with a reference if there is one."""
    posterior, grade, reference = contour.posterior, contour.grade, contour.reference
    area, checks, width = contour.content, posterior.diagnostics, contour.band.half_width
    return {
        "id": contour.id,
        "method": posterior.method,
        "diagnostics": {
            "converged": bool(checks.converged),
            "khat": _finite(checks.khat),
            "ess_min": _finite(checks.ess_min) or 0.0,
            "rhat_max": _finite(checks.rhat_max),
            "divergences": checks.divergences,
            "reasons": list(checks.reasons),
        },
        "size": {"unit": area.unit, "mean": area.mean, "sd": area.sd, **area.quantiles},
        f"band_half_width_{contour.unit}": {
            "median": float(np.median(width)),
            "q95": float(np.quantile(width, 0.95)),
            "max": float(width.max()),
        },
        "grade": {
            "case": grade.case,
            "reasons": list(grade.reasons),
            "fraction": dict(grade.fraction),
            f"trusted_to_{grade.unit}": _finite(grade.trusted_to),
            "findings": [found._asdict() for found in checks.findings],
        },
        "seconds": _seconds(posterior.seconds),
        **({"presence": round(posterior.presence, 4)} if posterior.presence < 1 else {}),
        **({"reference": _compared(contour, reference)} if isinstance(reference, Curve) else {}),
    }


def _compared(contour: Contour, reference: Curve) -> dict[str, Any]:
    """Dice and surface distances of the estimate's contour against a reference's."""
    estimate, unit = contour.chart.surface(contour.posterior.estimate), contour.unit
    distances = surface_distances(estimate, reference)
    apart = lebesgue_error(estimate, reference)
    return {
        "dice": max(0.0, 1.0 - apart / (estimate.area + reference.area)),
        f"assd_{unit}": distances.assd,
        f"hd95_{unit}": distances.hd95,
    }


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


def write_contours(path: Path, case: Case) -> Path:
    """The estimate and the band's two edges as points, one row a ray.

    Millimetres in the patient's RAS+ frame (x to the Right, y to the Anterior, z to the
    Superior), or pixel indices for an image without spacing; slice counts from 0 along the
    canonical third axis of the channel.
    """
    unit = case.image.unit
    names = [f"{which}{axis}_{unit}" for which in ("", "lower_", "upper_") for axis in "xyz"]
    with io.StringIO(newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["target", "slice", "vertex", *names, "channel"])
        for contour in case:
            posterior, band, chart = contour.posterior, contour.band, contour.posterior.chart
            place = _place(contour, case.image)
            world = [
                chart.plane.to_world(chart.points(radii))
                for radii in (posterior.estimate, band.lower, band.upper)
            ]
            for vertex, points in enumerate(np.concatenate(world, axis=-1)):
                values = [f"{value + 0.0:.4f}" for value in points]
                rows.writerow(
                    [contour.id, place.get("slice"), vertex, *values, place.get("channel")]
                )
        return write_whole(path, stream.getvalue())


def write_probability(folder: Path, case: Case, prefix: str = "") -> str:
    """The probability of being inside, on the input's own grid; zero where nothing was sought.

    Returns the file's name: `prefix`, and probability.nii.gz (.npz for images without spacing).
    """
    channel = case.image.primary
    volume = probability_map(case.posteriors, channel.grid)
    if channel.unit == "mm":
        name = f"{prefix}probability.nii.gz"
        write_nifti(folder / name, volume, channel)
        return name
    stored = volume if channel.storage is None else volume.reshape(channel.storage.shape)
    name = f"{prefix}probability.npz"
    with io.BytesIO() as buffer:
        np.savez_compressed(buffer, probability=stored)
        write_whole(folder / name, buffer.getvalue())
    return name


def _channel_shown(case: Case) -> str:
    """The channel that contours lie in, or else the first that has a slice for every one."""
    planes = [contour.posterior.chart.plane for contour in case]
    if (home := case.image.home_of(planes)) is not None:
        return home.name
    covers = {name: all(map(case.image[name].grid.covers, planes)) for name in case.image.names}
    return next((name for name in case.image.names if covers[name]), case.image.names[0])


def _more_figures(case: Case, channel: str) -> list[tuple[str, Any]]:
    """What the report shows beside the overview: the slice in focus closely."""
    one = case[len(case) // 2 if case.focus is None else case.focus]
    parts = one.posterior, one.band, one.grade
    figures = [
        (
            f"{one.id}: radius and band half-width by direction from the centre.",
            plot_unrolled(*parts, title=None),
        ),
        (
            f"{one.id}: probability contours; every point within one is inside the boundary with "
            "at least that probability.",
            plot_probability(case.image, one.posterior, channel=channel, title=None),
        ),
    ]
    for name in case.image.names:
        if name != channel and case.image[name].grid.covers(one.posterior.chart.plane):
            figure = plot_contours(
                case.image, *parts, channel=name, reference=one.drawn, title=None
            )
            figures.append((f"{one.id}: the same contour on {name}.", figure))
    return figures


def stack_size(contours: Sequence[Contour]) -> str:
    """What the areas of consecutive slices add up to, in words; nothing where they are not that.

    Slices are fitted one by one and know nothing of each other, so the sum has no posterior of its
    own: its 95% interval is told for errors that are independent, and for errors that are alike.
    """
    if any(contour.chart.dims == 3 or contour.unit != "mm" for contour in contours):
        return ""
    planes = [contour.posterior.chart.plane for contour in contours]
    thick = np.array([plane.thickness for plane in planes]) / 1000  # mm2 to ml
    offsets = np.unique(np.round([plane.offset for plane in planes], 3))
    apart = np.diff(offsets)
    if len(apart) == 0 or not np.allclose(apart, planes[0].thickness, rtol=1e-3, atol=2e-3):
        return ""
    areas = [contour.content for contour in contours]
    total = float(thick @ [area.mean for area in areas])
    sd = thick * [area.sd for area in areas]
    low, high = (1.96 * float(s) for s in (np.sqrt((sd**2).sum()), sd.sum()))
    return (
        f"The areas of {len(offsets)} slices add up to {total:.3g} ml (95%: ± {low:.2g} ml were "
        f"the errors of slices independent, ± {high:.2g} ml were they all alike)."
    )


def _why(case: Case) -> str:
    """By which rule the large slice of the figure was chosen."""
    if len(case) == 1:
        return "the only slice"
    return "the middle slice" if case.focus is None else "the slice of the point that was given"
