"""What does a run leave behind? summary.json and the files and pictures beside it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aistat_jax
from aistat_jax._files import write_whole
from aistat_jax.case import Case
from aistat_jax.inference.posterior import Posterior
from aistat_jax.io.nifti import write_nifti
from aistat_jax.space.curve import Curve
from aistat_jax.uncertainty.bands import Band
from aistat_jax.uncertainty.grading import Grade
from aistat_jax.uncertainty.metrics import lebesgue_error, surface_distances
from aistat_jax.uncertainty.probability import area_posterior, probability_map
from aistat_jax.uncertainty.reference import Agreement
from aistat_jax.uncertainty.triage import triage
from aistat_jax.views.case import MOST_PANELS, plot_case, plot_slices
from aistat_jax.views.probabilities import plot_probability
from aistat_jax.views.report import write_report
from aistat_jax.views.style import save_figure
from aistat_jax.views.unrolled import plot_unrolled

SCHEMA = 1


def write_case(folder: Path, case: Case) -> list[str]:
    """Write every output of a case into an existing folder; returns the files' names.

    summary.json is the contract (see `summary_of`); images without spacing get probability.npz
    instead of probability.nii.gz.
    """
    from aistat_jax.inference.store import save_posterior

    summary = summary_of(case)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "summary.json", text + "\n")
    save_posterior(folder / "posterior.nc", case.posteriors)
    probability = write_probability(folder, case)
    write_contours(folder / "contours.csv", case)
    why = _why(case)
    overview = plot_case(
        case.image, case.posteriors, case.bands, case.grades,
        references=case.references, focus=case.focus, why=why,
    )  # fmt: skip
    save_figure(overview, folder / "figure.png")
    count = len(case.posteriors)
    caption = f"Estimate, draws and band on the image. Large: {why}"
    if count > MOST_PANELS:
        caption += f"; small: {MOST_PANELS} of {count} slices, spread evenly"
    elif count > 1:
        caption += f"; small: all {count} slices"
    write_report(
        folder / "report.html",
        title=case.title,
        summary=summary,
        figures=[(f"{caption}.", overview), *_more_figures(case)],
        first=triage(case.posteriors, case.grades, case.bands),
        pictures=plot_slices(
            case.image, case.posteriors, case.bands, case.grades, references=case.references
        ),
        size=stack_size(case.posteriors),
    )
    return [
        "summary.json", "posterior.nc", probability, "contours.csv", "figure.png", "report.html",
    ]  # fmt: skip


def summary_of(case: Case) -> dict[str, Any]:
    """The content of summary.json, schema 1; no value is NaN or infinite.

    Beyond the contract of schema 1 it may hold "reference" (agreement with a reference mask) and
    "skipped" (targets that could not be read, with reasons), a target its own "reference", and a
    grade "trusted_to_mm" (the smallest tolerance at which it would be green, null where there is
    none) and "findings" (what speaks against the model: each with "cap", the best grade it leaves,
    "kind" and "text"); readers must not count on any of them.
    Images without spacing have sizes in "px2", `band_half_width_px` and `trusted_to_px`.
    """
    references = case.references or (None,) * len(case.posteriors)
    each = zip(case.posteriors, case.bands, case.grades, references, strict=True)
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "version": aistat_jax.__version__,
        "seed": case.seed,
        "inputs": list(case.inputs),
        "settings": {
            "level": case.bands[0].level,
            f"tolerance_{case.grades[0].unit}": case.grades[0].tolerance,
            "draws": len(case.posteriors[0].draws),
        },
        "targets": [target_summary(*parts) for parts in each],
    }
    if case.agreement is not None:
        summary["reference"] = _reference(case.agreement)
    if case.skipped:
        summary["skipped"] = [{"id": name, "reason": why} for name, why in case.skipped]
    return summary


def target_summary(
    posterior: Posterior, band: Band, grade: Grade, reference: Curve | None = None
) -> dict[str, Any]:
    """What summary.json says of one target, and how it agrees with a reference if there is one."""
    area, checks = area_posterior(posterior), posterior.diagnostics
    width = band.half_width
    return {
        "id": posterior.target_id,
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
        f"band_half_width_{posterior.unit}": {
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
        **({} if reference is None else {"reference": _compared(posterior, reference)}),
    }


def _compared(posterior: Posterior, reference: Curve) -> dict[str, Any]:
    """Dice and surface distances of the estimate's contour against a reference's."""
    estimate, unit = posterior.chart.surface(posterior.estimate), posterior.unit
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
    canonical third axis.
    """
    unit = case.image.unit
    names = [f"{which}{axis}_{unit}" for which in ("", "lower_", "upper_") for axis in "xyz"]
    with io.StringIO(newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["target", "slice", "vertex", *names])
        for posterior, band in zip(case.posteriors, case.bands, strict=True):
            chart = posterior.chart
            world = [
                chart.plane.to_world(chart.points(radii))
                for radii in (posterior.estimate, band.lower, band.upper)
            ]
            for vertex, points in enumerate(np.concatenate(world, axis=-1)):
                values = [f"{value + 0.0:.4f}" for value in points]
                rows.writerow([posterior.target_id, chart.plane.index, vertex, *values])
        return write_whole(path, stream.getvalue())


def write_probability(folder: Path, case: Case, prefix: str = "") -> str:
    """The probability of being inside, on the input's own grid; zero where nothing was sought.

    Returns the file's name: `prefix`, and probability.nii.gz (.npz for images without spacing).
    """
    channel = case.image.primary
    volume = np.zeros(channel.grid.shape)
    for posterior in case.posteriors:
        k = posterior.chart.plane.index
        volume[:, :, k] = np.maximum(volume[:, :, k], probability_map(posterior))
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


def _more_figures(case: Case) -> list[tuple[str, Any]]:
    """What the report shows beside the overview: the slice in focus closely."""
    at = len(case.posteriors) // 2 if case.focus is None else case.focus
    posterior, band, grade = case.posteriors[at], case.bands[at], case.grades[at]
    where = posterior.target_id
    figures = [
        (
            f"{where}: radius and band half-width by direction from the centre.",
            plot_unrolled(posterior, band, grade, title=None),
        ),
        (
            f"{where}: probability contours; every point within one is inside the boundary with "
            "at least that probability.",
            plot_probability(case.image, posterior, title=None),
        ),
    ]
    if len(case.image.names) > 1:
        from aistat_jax.views.figures import plot_contours

        reference = None if case.references is None else case.references[at]
        for name in case.image.names[1:]:
            figures.append(
                (
                    f"{where}: the same contour on {name}.",
                    plot_contours(
                        case.image,
                        posterior,
                        band,
                        grade,
                        channel=name,
                        reference=reference,
                        title=None,
                    ),
                )
            )
    return figures


def stack_size(posteriors: Sequence[Posterior]) -> str:
    """What the areas of consecutive slices add up to, in words; nothing where they are not that.

    Slices are fitted one by one and know nothing of each other, so the sum has no posterior of its
    own: its 95% interval is told for errors that are independent, and for errors that are alike.
    """
    index = [p.chart.plane.index for p in posteriors]
    if len(index) < 2 or posteriors[0].unit != "mm":
        return ""
    if sorted(index) != list(range(min(index), max(index) + 1)):
        return ""
    areas = [area_posterior(p) for p in posteriors]
    thick = np.array([p.chart.plane.thickness for p in posteriors]) / 1000  # mm2 to ml
    total = float(thick @ [area.mean for area in areas])
    sd = thick * [area.sd for area in areas]
    low, high = (1.96 * float(s) for s in (np.sqrt((sd**2).sum()), sd.sum()))
    return (
        f"The areas of {len(index)} slices add up to {total:.3g} ml (95%: ± {low:.2g} ml were the "
        f"errors of slices independent, ± {high:.2g} ml were they all alike)."
    )


def _why(case: Case) -> str:
    """By which rule the large slice of the figure was chosen."""
    if len(case.posteriors) == 1:
        return "the only slice"
    return "the middle slice" if case.focus is None else "the slice of the point that was given"
