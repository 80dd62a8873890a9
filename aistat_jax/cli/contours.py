"""What can be done with contours from a terminal? `aistat demo`, `contour` and `doctor`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import (
    OUT,
    Seed,
    check_devices,
    corners_of,
    in_flags,
    names_of,
    point_of,
    say_written,
    stem_of,
    write_results,
)
from aistat_jax.cli.planned import Dose, Margin, covering_of, doses_of, margins_of
from aistat_jax.cli.questions import (
    FIND,
    FIT,
    Anonymous,
    Chart,
    Contributed,
    Dims,
    Draws,
    Fhir,
    Level,
    Method,
    Net,
    RadiusMm,
    Slices,
    Threshold,
    ToleranceMm,
    TolerancePx,
    chart_of,
    dims_of,
    settings_of,
    slices_of,
)
from aistat_jax.cli.terminal import complain, say

if TYPE_CHECKING:
    from aistat_jax._folders import Claim
    from aistat_jax.case import Case
    from aistat_jax.uncertainty.contour import Contour

MOST_CONCERNS, MOST_LEFT_OUT = 5, 5
POINTS = {
    "point_mm": "--point X,Y,Z", "outside_mm": "--outside X,Y,Z", "edge_mm": "--edge X,Y,Z",
    "box_mm": "--box X,Y,Z,X,Y,Z",
}  # fmt: skip
SIZES = {2: "area", 3: "volume"}
DEMO_OUT = Path("aistat-out/demo")
NAMELESS = "anonymous"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)] = (
        DEMO_OUT
    ),
    seed: Seed = 0,
    method: Method = "laplace",
    level: Level = None,
    tolerance_mm: ToleranceMm = None,
    draws: Draws = 1000,
) -> None:
    """Contour an embedded synthetic PET/CT lesion, whose true boundary is known.

    The shipped network finds it; what the image says of its boundary makes the posterior.
    """
    settings = settings_of(
        method=method, level=level, draws=draws, seed=seed, tolerance_mm=tolerance_mm
    )
    from aistat_jax._folders import CASE_FILES, Run, claim

    run = Run("demo", "", "the demonstration")
    place = claim(out, run, CASE_FILES, numbered=out == DEMO_OUT)
    check_devices()
    from aistat_jax.pipelines import demo_case

    _finish(place, demo_case(settings))


def contour(
    image: Annotated[
        Path,
        typer.Argument(
            help="NIfTI volume (.nii, .nii.gz), the folder, zip or file of a DICOM series, or .png "
            "or .npz in pixels."
        ),
    ],
    channel_name: Annotated[
        str, typer.Option(help="What IMAGE shows: PT (SUV), CT (HU), or any name.")
    ] = "PT",
    ct: Annotated[
        Path | None,
        typer.Option(help="CT on its own grid, as further evidence: a file or a DICOM folder."),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            help="A point inside: patient RAS millimetres (pixels without spacing). Several, of "
            "one lesion, are allowed.",
            metavar="X,Y,Z",
            rich_help_panel=FIND,
        ),
    ] = None,
    outside: Annotated[
        list[str] | None,
        typer.Option(
            help="A point outside of it, or several.", metavar="X,Y,Z", rich_help_panel=FIND
        ),
    ] = None,
    edge: Annotated[
        list[str] | None,
        typer.Option(
            help="A point on its edge, or several.", metavar="X,Y,Z", rich_help_panel=FIND
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            help="Two opposite corners of a box around it, with a point or alone.",
            metavar="X,Y,Z,X,Y,Z",
            rich_help_panel=FIND,
        ),
    ] = None,
    radius_mm: RadiusMm = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="A rough mask on the grid of IMAGE, an RTSTRUCT or a DICOM SEG.",
            rich_help_panel=FIND,
        ),
    ] = None,
    mask_roi: Annotated[
        str | None,
        typer.Option(
            help="The name of the region in an RTSTRUCT or SEG that is the mask.",
            metavar="NAME",
            rich_help_panel=FIND,
        ),
    ] = None,
    threshold: Threshold = None,
    net: Net = None,
    probability: Annotated[
        Path | None,
        typer.Option(
            help="What another network says of IMAGE: probabilities, log-odds or a mask on its "
            "grid, as its calibration was made of; or nnU-Net's .npz.",
            metavar="FILE",
            rich_help_panel=FIND,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The folder that aistat calibrate made for that network.",
            metavar="FOLDER",
            rich_help_panel=FIND,
        ),
    ] = None,
    slices: Slices = "all",
    dims: Dims = None,
    chart: Chart = "star",
    reference: Annotated[
        Path | None,
        typer.Option(help="An expert's mask, RTSTRUCT or SEG to compare the result with."),
    ] = None,
    reference_roi: Annotated[
        str | None,
        typer.Option(help="The name of the region in it that is the reference.", metavar="NAME"),
    ] = None,
    method: Method = "laplace",
    level: Level = None,
    tolerance_mm: ToleranceMm = None,
    tolerance_px: TolerancePx = None,
    draws: Draws = 1000,
    blur_mm: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the scanner's point spread, mm.", rich_help_panel=FIT
        ),
    ] = None,
    blur_px: Annotated[
        float | None, typer.Option(help="The same in pixels.", rich_help_panel=FIT)
    ] = None,
    seed: Seed = 0,
    levels: Annotated[
        str,
        typer.Option(
            help="Probabilities whose contours rtstruct.dcm gets too, such as 0.5,0.9.",
            metavar="P,P",
            rich_help_panel=OUT,
        ),
    ] = "",
    margin: Margin = None,
    dose: Dose = None,
    rtstruct_on: Annotated[
        str | None,
        typer.Option(
            help="The channel whose series the DICOM files refer to, such as CT (default that of "
            "IMAGE, where it is DICOM).",
            metavar="NAME",
            rich_help_panel=OUT,
        ),
    ] = None,
    fhir: Fhir = False,
    contributions: Contributed = False,
    anonymous: Anonymous = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results (default aistat-out/NAME, with a number where that is "
            "taken).",
            rich_help_panel=OUT,
        ),
    ] = None,
) -> None:
    """Contour one lesion of an image from a point, a rough mask, a threshold or a network."""
    settings = settings_of(
        method=method, level=level, draws=draws, seed=seed, tolerance_mm=tolerance_mm,
        tolerance_px=tolerance_px, blur_mm=blur_mm, blur_px=blur_px,
    )  # fmt: skip
    from aistat_jax import pipelines

    space, kind = dims_of(dims), chart_of(chart)
    flags = (
        "mask", "threshold", "net", "blur_mm", "blur_px", "dims", "chart", "radius_mm",
        "probability", "calibration", "slices",
    )  # fmt: skip
    said = {"outside_mm": outside, "edge_mm": edge, "box_mm": box}
    said = {name: value for name, value in said.items() if value}
    point = point or None
    with in_flags(*flags, **POINTS):
        wanted = space, kind, radius_mm, tuple(said), slices
        pipelines.check_output(net, probability, calibration)
        word, reader = ("net", net) if calibration is None else ("calibration", "calibration")
        pipelines.check_question(point, mask, threshold, reader, settings, *wanted, word=word)
    if slices == "point" and point is None and box is None:
        raise InputError("--slices point needs --point X,Y,Z; use all or slice numbers")
    if ct is not None and channel_name == "CT":
        raise InputError("IMAGE is already named CT; pass --channel-name PT, or drop --ct")
    place_mm = None if point is None else [point_of("--point", each) for each in point]
    more: dict[str, Any] = {
        name: [point_of(f"--{name[:-3]}", each) for each in given]
        for name, given in said.items()
        if name != "box_mm"
    }
    more |= {} if box is None else {"box_mm": corners_of("--box", box)}
    chosen, shares = slices_of(slices), _levels(levels)
    covering, dose_gy = covering_of(margin), doses_of(dose)
    if contributions and (net is not None or probability is not None):
        raise InputError(
            "--contributions is of the image's channels; a network's own output has one source"
        )
    if rtstruct_on not in (None, channel_name, *(["CT"] if ct else [])):
        raise InputError(f"--rtstruct-on {rtstruct_on} is none of the channels that were given")
    from aistat_jax._folders import CASE_FILES, Run, claim, digest

    if fhir:
        from aistat_jax.views.fhir import bundle_kind

        bundle_kind()  # what is missing is said before anything is computed
    (name,) = names_of([image])
    run = Run(
        "contour",
        digest(image),
        NAMELESS if anonymous else name,
        at=digest(
            *_asked(point, box, mask, threshold, net),
            mask_roi or "",
            *(part for part in (probability, calibration) if part is not None),
        ),
    )
    default = Path("aistat-out") / (NAMELESS if anonymous else stem_of(image))
    place = claim(out or default, run, CASE_FILES, numbered=out is None)
    check_devices()
    with in_flags(
        *flags, "tolerance_mm", "tolerance_px", "ct",
        roi="--mask-roi or --reference-roi", **POINTS,
    ):  # fmt: skip
        case = pipelines.contour(
            {channel_name: image}, ct=ct, point_mm=place_mm, radius_mm=radius_mm, mask=mask,
            threshold=threshold, net=net, probability=probability, calibration=calibration,
            slices=chosen, dims=space, chart=kind,
            reference=reference, mask_roi=mask_roi, reference_roi=reference_roi, **more,
            settings=settings,
        )  # fmt: skip
    if anonymous:
        from aistat_jax.views.anonymous import anonymous_case

        case = anonymous_case(case)
    margins = None if covering is None else {"margin": margins_of(case, *covering)}
    _finish(
        place, case, levels=shares, series=rtstruct_on, margins=margins, dose_gy=dose_gy,
        fhir=fhir, contributions=contributions,
    )  # fmt: skip


def _asked(
    points: list[str] | None,
    box: str | None,
    mask: Path | None,
    threshold: float | None,
    net: str | None,
) -> list[str]:
    """What tells one lesion of an image from another: the first point of it, or else its box."""
    drawn = None if mask is None else mask.resolve()
    return [str(part) for part in (points[0] if points else box, drawn, threshold, net)]


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder, zip or file of DICOM to look into, in place of this computer."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder to try writing to.", rich_help_panel=OUT)
    ] = Path("aistat-out"),
    seed: Seed = 0,
) -> None:
    """Check this computer, by a small fit; or say what a DICOM folder holds, and is good for."""
    sound = True
    if folder is not None:
        from aistat_jax.dicom.inventory import inventory

        for holding in inventory(folder):
            sound &= holding.usable
            say(f"{'OK     ' if holding.usable else 'PROBLEM'}  {holding.name}: {holding.text}")
        if not sound:
            raise typer.Exit(1)
        return
    from aistat_jax._doctor import examine

    for finding in examine(out, seed):
        sound &= finding.sound
        say(f"{'OK     ' if finding.sound else 'PROBLEM'}  {finding.name}: {finding.text}")
    if not sound:
        raise typer.Exit(1)


# ------------------------------------------------------------------------- options and printing


def _levels(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        levels = [-1.0]
    if not all(0 < level < 1 for level in levels):
        raise InputError(
            f"--levels {text} is not understood; write probabilities between 0 and 1 such as "
            "0.5,0.9"
        )
    return levels


def _finish(place: Claim, case: Case, **files: Any) -> None:
    """Write the case, and say what was found and written; `files` are options of `write_case`."""
    from aistat_jax.boundary.choices import in_words
    from aistat_jax.uncertainty.triage import triage
    from aistat_jax.views import outputs

    if case.chosen is not None:
        dims, why = case.chosen
        how = "as a surface" if dims == 3 else "slice by slice"
        say(f"contoured {how} (--dims {dims}): {why}")
    for sentence in in_words(case.charts):
        say(sentence)
    if case.tolerance is not None:
        say(f"{case.tolerance}; --tolerance-{case.tolerance.unit} for another")
    if case.second is not None:
        say(case.second.question(POINTS["point_mm"], POINTS["outside_mm"]))
    for name in case.image.names:
        origin = case.image[name].origin
        if origin is not None and origin.quantity:
            used = ", ".join(f"{key} {value}" for key, value in origin.quantity)
            say(f"{name} is {case.image[name].quantity}, from {used}")
    for name, reason in case.skipped[:MOST_LEFT_OUT]:
        complain(f"left out {name}: {reason}")
    if (more := len(case.skipped) - MOST_LEFT_OUT) > 0:
        complain(f"left out {more} more, which summary.json names")
    out, names = write_results(
        place, partial(outputs.write_files, case=case, **files), ("summary.json",)
    )
    for one in case:
        say(_line(one))
    for each in (files.get("margins") or {}).get("margin", ())[:MOST_CONCERNS]:
        say(f"{each.target_id:>6}  {each}")
    for concern in triage(case.contours)[:MOST_CONCERNS]:
        say(f"look at {concern}")
    if (doubted := _trusted_to(case)) is not None:
        say(doubted)
    if case.agreement is not None:
        found = case.agreement
        say(
            f"against the reference ({found.scope}): Dice {found.dice:.3f}, "
            f"ASSD {_length(found.assd, found.unit)}, HD95 {_length(found.hd95, found.unit)}; "
            f"reference inside the 95% band in "
            f"{_share(found.band_share, found.slices_compared, case[0].chart.dims)}"
        )
    say_written(out, names)


def _trusted_to(case: Case) -> str | None:
    """At which tolerance half of the contours would be green, where they are not."""
    import numpy as np

    grades = [one.grade for one in case]
    needed = [np.inf if grade.trusted_to is None else grade.trusted_to for grade in grades]
    half, unit = float(np.quantile(needed, 0.5, method="higher")), grades[0].unit
    if half <= grades[0].tolerance:
        return None
    many = "this contour is" if len(grades) == 1 else "half of these contours are"
    if not np.isfinite(half):
        return f"{many} not green at any tolerance, for reasons that are in the report"
    at = np.ceil(10 * half) / 10
    return f"{many} green at a tolerance of {at:.1f} {unit} (asked: {grades[0].tolerance:g} {unit})"


def _line(one: Contour) -> str:
    import numpy as np

    band, unit, presence = one.band, one.unit, one.posterior.presence
    there = f"  present {presence:.0%}" if presence < 1 else ""
    return (
        f"{one.id:>6}  {one.grade.case:<5}  {SIZES[one.chart.dims]} {one.content}  "
        f"{100 * band.level:g}% band ± {np.median(band.half_width):.1f} {unit} "
        f"(largest {band.half_width.max():.1f})  {one.grade.trust}{there}"
    )


def _length(value: float | None, unit: str) -> str:
    return "not defined" if value is None else f"{value:.2f} {unit}"


def _share(share: float | None, count: int, dims: int) -> str:
    what = "slice" if dims == 2 else "surface"
    if share is None:
        return f"no {what}"
    return f"{round(share * count)} of {count} {what}{'s' * (count != 1 or dims == 2)}"
