"""What does a run leave behind? summary.json and the files and pictures beside it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import move_in, staged_folder, write_whole
from aistat_jax._folders import CASE_FILES
from aistat_jax.case import Case
from aistat_jax.io.nifti import write_nifti
from aistat_jax.planning.dose import write_dose
from aistat_jax.signed_parts import CONTOURS, POLYGONS
from aistat_jax.space.chart import layered
from aistat_jax.uncertainty.contour import Contour
from aistat_jax.uncertainty.probability import probability_map
from aistat_jax.uncertainty.triage import triage
from aistat_jax.views.anonymous import anonymous_case
from aistat_jax.views.case import MOST_PANELS, plot_case, plot_slices
from aistat_jax.views.contributions import write_contributions
from aistat_jax.views.dicom_files import write_dicom
from aistat_jax.views.fhir import FHIR, write_fhir
from aistat_jax.views.figures import plot_contours
from aistat_jax.views.geojson import Margins, geojson_text
from aistat_jax.views.paper import fixed
from aistat_jax.views.probabilities import plot_probability
from aistat_jax.views.report import write_report
from aistat_jax.views.style import save_figure
from aistat_jax.views.summary import margins_summary, place_of, summary_of
from aistat_jax.views.surface_case import surface_figures, write_surfaces
from aistat_jax.views.surface_files import sections_csv
from aistat_jax.views.unrolled import plot_unrolled, value_word

DOSE = "dose_painting.nii.gz"


def write_case(
    folder: str | os.PathLike[str],
    case: Case,
    *,
    levels: Sequence[float] = (),
    series: str | None = None,
    margins: Margins | None = None,
    dose_gy: tuple[float, float] | None = None,
    fhir: bool = False,
    contributions: bool = False,
    anonymous: bool = False,
) -> list[str]:
    """Write every output of a case into a folder, all files or none; returns their names.

    summary.json is the contract (see `summary_of`); images without spacing get probability.npz
    instead of probability.nii.gz, and surfaces as PLY instead of GIFTI. An image that was read from
    DICOM gets rtstruct.dcm (`write_rtstruct`, with contours at the probabilities `levels`),
    segmentation.dcm and probability.dcm (`write_seg`), which refer to the series of its first
    channel, or of the channel `series`. `margins` of the case's posteriors, by name, are contours
    of their own in contours.geojson and rtstruct.dcm, and numbers in summary.json. `dose_gy` are
    the doses of dose_painting.nii.gz, which `write_dose` writes on that channel. With `fhir` there
    is fhir.json too (`fhir_bundle`), with `contributions` contributions.csv and .png
    (`write_contributions`, which fits again). `anonymous` leaves out of all files what a series
    says of patient and study, and the names of files (`anonymous_case`).
    Files of an earlier case in the folder go. Raises InputError when it cannot be written.
    """
    out = Path(folder).expanduser().absolute()
    case = anonymous_case(case) if anonymous else case
    with staged_folder(out) as staging:
        names = write_files(
            staging, case, levels, series, margins=margins, dose_gy=dose_gy, fhir=fhir,
            contributions=contributions,
        )  # fmt: skip
        move_in(staging, out, old=earlier_files(out), last=("summary.json",))
    return names


def earlier_files(folder: Path) -> list[str]:
    """Names of the files in a folder that a case has written there."""
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    several = tuple(name.removeprefix("surface") for name in CASE_FILES if "surface" in name)
    return [
        name for name in there
        if name in CASE_FILES or (name.startswith("surface-") and name.endswith(several))
    ]  # fmt: skip


def write_files(
    folder: Path,
    case: Case,
    levels: Sequence[float] = (),
    series: str | None = None,
    *,
    margins: Margins | None = None,
    dose_gy: tuple[float, float] | None = None,
    pictures: bool = True,
    fhir: bool = False,
    contributions: bool = False,
) -> list[str]:
    """Write every output of a case into an existing folder; returns the files' names.

    pictures: also those that are for people alone, figure.png and report.html.
    """
    from aistat_jax.inference.store import save_posterior

    summary = summary_of(case)
    if margins:
        summary["margins"] = margins_summary(margins)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "summary.json", text + "\n")
    save_posterior(folder / "posterior.nc", case.posteriors)
    names = ["summary.json", "posterior.nc", write_probability(folder, case)]
    drawn = [write_contours(folder / CONTOURS, case).name]
    drawn.append(write_contours(folder / POLYGONS, case, margins=margins).name)
    if dose_gy is not None:
        low, high = dose_gy
        channel = case.image.primary if series is None else case.image[series]
        path = write_dose(folder / DOSE, case.posteriors, channel, low_gy=low, high_gy=high)
        drawn.append(path.name)
    solid = case[0].chart.dims == 3
    surfaces = write_surfaces(folder, case) if solid else []
    more = write_dicom(folder, case, levels, series, margins)
    if fhir:
        more.append(write_fhir(folder / FHIR, case).name)
    if contributions:
        more += write_contributions(folder, case)
    if not pictures:
        return [*names, *drawn, *surfaces, *more]
    (caption, first), *rest = case_figures(case)
    path = save_figure(first, folder / "figure.png")
    write_report(
        folder / "report.html",
        title=case.title,
        summary=summary,
        figures=[(caption, path), *rest],
        first=triage(case.contours),
        pictures=[] if solid else plot_slices(case.image, case.contours, channel=home_of(case)),
        size=stack_size(case.contours),
    )
    return [*names, *drawn, "figure.png", *surfaces, *more, "report.html"]


def case_figures(case: Case) -> list[tuple[str, Any]]:
    """(caption, figure) of all that a report shows; laid out once, and not again when saved."""
    shown = surface_figures(case) if case[0].chart.dims == 3 else _slice_figures(case)
    return [(caption, fixed(figure)) for caption, figure in shown]


def _slice_figures(case: Case) -> list[tuple[str, Any]]:
    """The overview of a case in slices, and more, each with its caption."""
    why, channel, count = _why(case), home_of(case), len(case)
    overview = plot_case(case.image, case.contours, focus=case.focus, why=why, channel=channel)
    caption = f"Estimate, draws and band on the image. Large: {why}"
    if count > MOST_PANELS:
        caption += f"; small: {MOST_PANELS} of {count} contours, spread evenly"
    elif count > 1:
        caption += f"; small: all {count} contours"
    return [(f"{caption}.", overview), *_more_figures(case, channel)]


def write_contours(
    path: str | os.PathLike[str], case: Case, *, margins: Margins | None = None
) -> Path:
    """Write the estimate and the band's two edges: a table (.csv) or polygons (.geojson).

    The ending decides. GeoJSON is as `contours_geojson` says, and has the contours of `margins`
    too. A table has points, one row a ray; of surfaces, their sections.

    Millimetres in the patient's RAS+ frame (x to the Right, y to the Anterior, z to the
    Superior), or pixel indices for an image without spacing; slice counts from 0 along the
    canonical third axis of the channel. The smallest tolerance at which a place is green is empty
    where there is none. Of a ring "loop" 0 is the outer boundary and 1 the inner, and the band's
    "lower" and "upper" are the edges of the smallest and the largest region in it. Sections of a
    surface are closed curves with vertices of their own: edges of the band have rows, by "kind",
    and not columns.

    Raises InputError for another ending, and for margins in a table.
    """
    path = Path(path)
    if path.suffix == ".geojson":
        return write_whole(path, geojson_text(case, margins))
    if path.suffix != ".csv" or margins:
        what = "margins are written as .geojson" if margins else "contours end in .csv or .geojson"
        raise InputError(f"{path}: {what}; rename the output")
    unit = case.image.unit
    if case[0].chart.dims == 3:
        bands = [contour.band for contour in case]
        return write_whole(path, sections_csv(case.posteriors, case.image, bands))
    names = [f"{which}{axis}_{unit}" for which in ("", "lower_", "upper_") for axis in "xyz"]
    with io.StringIO(newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(
            ["target", "slice", "vertex", *names, "channel", f"trusted_to_{unit}", "loop"]
        )
        for contour in case:
            posterior, band, chart = contour.posterior, contour.band, contour.posterior.chart
            place = place_of(contour, case.image)
            world = [
                chart.plane.to_world(chart.points(radii))
                for radii in (posterior.estimate, band.smallest, band.largest)
            ]
            trusted = layered(chart, contour.grade.local_trusted_to)
            for number, each in enumerate(layered(chart, np.concatenate(world, axis=-1))):
                for vertex, points in enumerate(each):
                    values, green = [f"{value + 0.0:.4f}" for value in points], ""
                    if np.isfinite(trusted[number][vertex]):
                        green = f"{trusted[number][vertex]:.4f}"
                    where = place.get("slice"), vertex, *values, place.get("channel")
                    rows.writerow([contour.id, *where, green, number])
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


def home_of(case: Case) -> str:
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
            f"{one.id}: {value_word(one.chart)} and band half-width all the way around.",
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
    """How large a lesion is, in words: volumes of surfaces, or what consecutive areas add up to.

    Nothing where slices are not that, or have no spacing.

    Slices are fitted one by one and know nothing of each other, so the sum has no posterior of its
    own: its 95% interval is told for errors that are independent, and for errors that are alike.
    """
    if all(contour.chart.dims == 3 for contour in contours):
        sizes = (f"{each.content} in {each.id}" for each in contours)
        return f"Volume, median and 95% interval: {', '.join(sizes)}."
    found = stack_volume(contours)
    if found is None:
        return ""
    total, independent, alike = found
    return (
        f"The areas of {len({_offset(contour) for contour in contours})} slices add up to "
        f"{total:.3g} ml (95%: ± {independent:.2g} ml were the errors of slices independent, "
        f"± {alike:.2g} ml were they all alike)."
    )


def stack_volume(contours: Sequence[Contour]) -> tuple[float, float, float] | None:
    """What the areas of consecutive slices add up to, ml, and how far off it may be (95%).

    That is told for errors of slices that are independent, and for errors that are all alike.
    None where slices do not follow each other or have no spacing, and for surfaces.
    """
    if any(contour.unit != "mm" or contour.chart.dims == 3 for contour in contours):
        return None
    planes = [contour.posterior.chart.plane for contour in contours]
    thick = np.array([plane.thickness for plane in planes]) / 1000  # mm2 to ml
    apart = np.diff(sorted({_offset(contour) for contour in contours}))
    if len(apart) == 0 or not np.allclose(apart, planes[0].thickness, rtol=1e-3, atol=2e-3):
        return None
    areas = [contour.content for contour in contours]
    sd = thick * [area.sd for area in areas]
    off = 1.96 * float(np.sqrt((sd**2).sum())), 1.96 * float(sd.sum())
    return float(thick @ [area.mean for area in areas]), *off


def _offset(contour: Contour) -> float:
    return round(float(contour.posterior.chart.plane.offset), 3)


def _why(case: Case) -> str:
    """By which rule the large slice of the figure was chosen."""
    if len(case) == 1:
        return "the only slice"
    return "the middle slice" if case.focus is None else "the slice of the point that was given"
