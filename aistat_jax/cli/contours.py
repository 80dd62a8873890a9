"""What can be done with contours from a terminal? `aistat demo`, `contour` and `doctor`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import (
    OUT,
    Seed,
    about,
    check_devices,
    check_seed,
    names_of,
    point_of,
    say_written,
    stem_of,
    write_results,
)
from aistat_jax.cli.terminal import complain, say

if TYPE_CHECKING:
    from aistat_jax._folders import Claim
    from aistat_jax.boundary.evidence import Evidence
    from aistat_jax.boundary.model import BoundaryModel
    from aistat_jax.boundary.targets import Target
    from aistat_jax.case import Case
    from aistat_jax.inference.posterior import Posterior
    from aistat_jax.nets.edges import FeatureField
    from aistat_jax.nets.weights import Net
    from aistat_jax.space.image import Image

CASE_FILES = (
    "summary.json", "posterior.nc", "probability.nii.gz", "probability.npz", "contours.csv",
    "figure.png", "report.html",
)  # fmt: skip
METHODS = ("laplace", "nuts", "vi", "smc")
FEWEST_DRAWS = 100
MOST_CONCERNS = 5
DEMO_NET = "phantom-petct-2d"
DEMO_OUT = Path("aistat-out/demo")

_FIND = "What to contour (one of these, or a threshold with a point)"
_FIT = "How to fit and grade"
Method = Annotated[
    str,
    typer.Option(help="laplace (fast), nuts, vi or smc.", metavar="NAME", rich_help_panel=_FIT),
]
Level = Annotated[
    float, typer.Option(help="Probability that the band holds the boundary.", rich_help_panel=_FIT)
]
Draws = Annotated[int, typer.Option(help="Posterior draws, at least 100.", rich_help_panel=_FIT)]
ToleranceMm = Annotated[
    float | None,
    typer.Option(help="Error that still counts as right, mm (default 2).", rich_help_panel=_FIT),
]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)] = (
        DEMO_OUT
    ),
    seed: Seed = 0,
    method: Method = "laplace",
    level: Level = 0.95,
    tolerance_mm: ToleranceMm = None,
    draws: Draws = 1000,
) -> None:
    """Contour an embedded synthetic PET/CT lesion, whose true boundary is known.

    The shipped network finds it; what the image says of its boundary makes the posterior.
    """
    _check_settings(method, level, draws, seed, tolerance_mm)
    from aistat_jax._folders import Run, claim

    run = Run("demo", "", "the demonstration")
    place = claim(out, run, CASE_FILES, numbered=out == DEMO_OUT)
    check_devices()
    from aistat_jax import intensity
    from aistat_jax.case import contour_case
    from aistat_jax.data.phantoms import demo_phantom

    phantom = demo_phantom(seed)
    centre = phantom.centre
    point = (float(centre[0]), float(centre[1]), float(centre[2]))
    seen = _seen_by(DEMO_NET, phantom.image, {"point_mm": point})
    case = contour_case(
        phantom.image, seen.targets, partial(_by_image, intensity(phantom.image), seen),
        seed=seed, method=method, draws=draws, level=level, tolerance_mm=tolerance_mm,
        reference=phantom.mask, outlines=phantom.slices, whole_volume=False,
        title="Demonstration: a synthetic PET/CT lesion",
        inputs=(f"synthetic PET/CT, seed {seed}", f"network {DEMO_NET}"),
        near=point,
    )  # fmt: skip
    _finish(place, case)


def contour(
    image: Annotated[
        Path, typer.Argument(help="NIfTI volume (.nii, .nii.gz), or .png or .npz in pixels.")
    ],
    channel_name: Annotated[
        str, typer.Option(help="What IMAGE shows: PT (SUV), CT (HU), or any name.")
    ] = "PT",
    ct: Annotated[
        Path | None, typer.Option(help="CT on its own grid, as further evidence.")
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(
            help="A point inside: patient RAS millimetres (pixels without spacing).",
            metavar="X,Y,Z",
            rich_help_panel=_FIND,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="A rough mask on the grid of IMAGE.", rich_help_panel=_FIND),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="A value in the image's own quantity.", rich_help_panel=_FIND),
    ] = None,
    net: Annotated[
        str | None,
        typer.Option(
            help="Find the target and read its edge by a network: a shipped one's name, or a "
            "folder that training wrote. A point then chooses among several targets.",
            metavar="NAME",
            rich_help_panel=_FIND,
        ),
    ] = None,
    slices: Annotated[
        str,
        typer.Option(
            help="all the target meets, the one of the point, or numbers such as 30,31.",
            metavar="all|point|I,J,K",
        ),
    ] = "all",
    reference: Annotated[
        Path | None, typer.Option(help="An expert's mask to compare the result with.")
    ] = None,
    method: Method = "laplace",
    level: Level = 0.95,
    tolerance_mm: ToleranceMm = None,
    tolerance_px: Annotated[
        float | None,
        typer.Option(help="The same in pixels (default 1).", rich_help_panel=_FIT),
    ] = None,
    draws: Draws = 1000,
    blur_mm: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the scanner's point spread, mm.", rich_help_panel=_FIT
        ),
    ] = None,
    blur_px: Annotated[
        float | None, typer.Option(help="The same in pixels.", rich_help_panel=_FIT)
    ] = None,
    seed: Seed = 0,
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
    _check_settings(method, level, draws, seed, tolerance_mm, tolerance_px)
    where = _which_target(point, mask, threshold, slices, net)
    for name, value in (("--blur-mm", blur_mm), ("--blur-px", blur_px)):
        if net is not None and value is not None:
            raise InputError(f"--net reads the edge itself, whatever the blur; drop {name}")
    if ct is not None and channel_name == "CT":
        raise InputError("IMAGE is already named CT; pass --channel-name PT, or drop --ct")
    from aistat_jax._folders import Run, claim, digest

    (name,) = names_of([image])
    run = Run("contour", digest(image), name, at=digest(*_asked(point, mask, threshold, net)))
    default = Path("aistat-out") / stem_of(image)
    place = claim(out or default, run, CASE_FILES, numbered=out is None)
    from aistat_jax.boundary.model import boundary_model
    from aistat_jax.boundary.targets import find_targets
    from aistat_jax.case import contour_case, image_evidence
    from aistat_jax.io.nifti import read_image, read_mask

    files = {channel_name: image} | ({} if ct is None else {"CT": ct})
    pictures = read_image(**files)
    primary = pictures.primary
    _check_units(pictures.unit, str(image), tolerance_mm, tolerance_px, blur_mm, blur_px)
    if mask is not None:
        where["mask"] = read_mask(mask, primary)
    expert = None if reference is None else read_mask(reference, primary)
    if pictures.unit == "px" and tolerance_px is None:
        tolerance_px = 1.0
    check_devices()
    if net is None:
        with about(image):
            targets = find_targets(pictures, **where)
        evidence = image_evidence(pictures, blur_mm or blur_px)
        model_of = partial(boundary_model, evidence=evidence)
    else:
        seen = _seen_by(net, pictures, where)
        targets, model_of = seen.targets, partial(_by_network, seen)
    given = [path for path in (image, ct, mask, reference) if path is not None]
    case = contour_case(
        pictures, targets, model_of, seed=seed, method=method, draws=draws,
        level=level, tolerance_mm=tolerance_mm, tolerance_px=tolerance_px,
        reference=expert, whole_volume=slices == "all", title=f"Contours of {name}",
        inputs=names_of(given), near=where.get("point_mm"),
    )  # fmt: skip
    _finish(place, case)


def _asked(
    point: str | None, mask: Path | None, threshold: float | None, net: str | None
) -> list[str]:
    """What tells one lesion of an image from another."""
    drawn = None if mask is None else mask.resolve()
    return [str(part) for part in (point, drawn, threshold, net)]


class _Seen(NamedTuple):
    """What a network says of an image: where targets are, and the field its head reads them in."""

    targets: list[Target]
    net: Net
    field: FeatureField


def _seen_by(name: str, image: Image, where: dict[str, Any]) -> _Seen:
    """Targets in a mask, or else where a network's log-odds are above 0."""
    from aistat_jax.boundary.networks import network_logits
    from aistat_jax.boundary.targets import find_targets
    from aistat_jax.nets.edges import feature_field
    from aistat_jax.nets.weights import load_net

    net = load_net(name)
    field = feature_field(net, image)
    if "mask" not in where:
        image, where = network_logits(net, image), where | {"threshold": 0.0}
    with about(f"network {name}"):
        return _Seen(find_targets(image, **where), net, field)


def _by_image(evidence: Evidence, seen: _Seen, target: Target) -> BoundaryModel:
    """The boundary by the image, and whether there is one by a network."""
    from aistat_jax.boundary.model import boundary_model
    from aistat_jax.boundary.networks import presence

    return boundary_model(target, evidence, presence=presence(seen.net, seen.field, target))


def _by_network(seen: _Seen, target: Target) -> BoundaryModel:
    """The boundary, and whether there is one, by a network alone."""
    from aistat_jax.boundary.model import boundary_model
    from aistat_jax.boundary.networks import network_prior, presence

    net, field = seen.net, seen.field
    prior = network_prior(net, field, target)
    return boundary_model(target, prior=prior, presence=presence(net, field, target))


def doctor(
    out: Annotated[
        Path, typer.Option(help="Folder to try writing to.", rich_help_panel=OUT)
    ] = Path("aistat-out"),
    seed: Seed = 0,
) -> None:
    """Check this computer: versions, devices, precision, disk, and a small fit."""
    from aistat_jax._doctor import examine

    sound = True
    for finding in examine(out, seed):
        sound &= finding.sound
        say(f"{'OK     ' if finding.sound else 'PROBLEM'}  {finding.name}: {finding.text}")
    if not sound:
        raise typer.Exit(1)


# ------------------------------------------------------------------------- options and printing


def _check_settings(
    method: str, level: float, draws: int, seed: int, *tolerances: float | None
) -> None:
    if method not in METHODS:
        raise InputError(f"--method {method} is unknown; use one of {', '.join(METHODS)}")
    if not 0 < level < 1:
        raise InputError(f"--level {level:g} must lie strictly between 0 and 1, such as 0.95")
    if draws < FEWEST_DRAWS:
        raise InputError(f"--draws {draws} is too few for a band; ask for at least {FEWEST_DRAWS}")
    check_seed(seed)
    for tolerance in tolerances:
        if tolerance is not None and not 0 < tolerance < float("inf"):
            raise InputError(f"the tolerance {tolerance:g} must be a positive length")


def _check_units(
    unit: str,
    source: str,
    tolerance_mm: float | None,
    tolerance_px: float | None,
    blur_mm: float | None,
    blur_px: float | None,
) -> None:
    other = "mm" if unit == "px" else "px"
    given = {"px": (tolerance_px, blur_px), "mm": (tolerance_mm, blur_mm)}[other]
    state = "has no spacing" if unit == "px" else "is in millimetres"
    for name, value in zip(("tolerance", "blur"), given, strict=True):
        if value is not None:
            raise InputError(
                f"{source}: the image {state}, so --{name}-{other} means nothing; "
                f"use --{name}-{unit}"
            )
    for name, value in (("blur-mm", blur_mm), ("blur-px", blur_px)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name} {value:g} must be a positive length")


def _which_target(
    point: str | None, mask: Path | None, threshold: float | None, slices: str, net: str | None
) -> dict[str, Any]:
    """Keyword arguments of `find_targets`, less the mask, which is read with the image."""
    given = {"point": point, "mask": mask, "threshold": threshold}
    named = {name for name, value in given.items() if value is not None}
    if net is not None and threshold is not None:
        raise InputError("--net finds the target itself; drop --threshold")
    if net is not None and not named:
        return {"slices": _slices(slices)}
    if len(named) != 1 and named != {"point", "threshold"}:
        raise InputError(
            "pass one of --point X,Y,Z, --mask FILE, --threshold VALUE and --net NAME, "
            "or a point together with a threshold or a network"
        )
    where: dict[str, Any] = {"slices": _slices(slices)}
    if slices == "point" and point is None:
        raise InputError("--slices point needs --point X,Y,Z; use all or slice numbers")
    if point is not None:
        where["point_mm"] = point_of("--point", point)
    if threshold is not None:
        where["threshold"] = threshold
    return where


def _slices(text: str) -> str | list[int]:
    if text in ("all", "point"):
        return text
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise InputError(
            f"--slices {text} is not understood; write all, point, or slice numbers from 0 "
            "such as 30,31,32"
        )
    return sorted(set(numbers))


def _finish(place: Claim, case: Case) -> None:
    """Write the case, and say what was found and written."""
    from aistat_jax.uncertainty.triage import triage
    from aistat_jax.views.outputs import write_case

    for name, reason in case.skipped:
        complain(f"left out {name}: {reason}")
    out, names = write_results(place, partial(write_case, case=case), ("summary.json",))
    for posterior, band, grade in zip(case.posteriors, case.bands, case.grades, strict=True):
        say(_line(posterior, band, grade))
    for concern in triage(case.posteriors, case.grades, case.bands)[:MOST_CONCERNS]:
        say(f"look at {concern}")
    if (doubted := _trusted_to(case)) is not None:
        say(doubted)
    if case.agreement is not None:
        found = case.agreement
        say(
            f"against the reference ({found.scope}): Dice {found.dice:.3f}, "
            f"ASSD {_length(found.assd, found.unit)}, HD95 {_length(found.hd95, found.unit)}; "
            f"reference inside the 95% band in {_share(found.band_share, found.slices_compared)}"
        )
    say_written(out, names)


def _trusted_to(case: Case) -> str | None:
    """At which tolerance half of the contours would be green, where they are not."""
    import numpy as np

    grades = case.grades
    needed = [np.inf if grade.trusted_to is None else grade.trusted_to for grade in grades]
    half, unit = float(np.quantile(needed, 0.5, method="higher")), grades[0].unit
    if half <= grades[0].tolerance:
        return None
    many = "this contour is" if len(grades) == 1 else "half of these contours are"
    if not np.isfinite(half):
        return f"{many} not green at any tolerance, for reasons that are in the report"
    at = np.ceil(10 * half) / 10
    return f"{many} green at a tolerance of {at:.1f} {unit} (asked: {grades[0].tolerance:g} {unit})"


def _line(posterior: Posterior, band: Any, grade: Any) -> str:
    import numpy as np

    from aistat_jax.uncertainty.probability import area_posterior

    unit = posterior.unit
    there = f"  present {posterior.presence:.0%}" if posterior.presence < 1 else ""
    return (
        f"{posterior.target_id:>6}  {grade.case:<5}  area {area_posterior(posterior)}  "
        f"{100 * band.level:g}% band ± {np.median(band.half_width):.1f} {unit} "
        f"(largest {band.half_width.max():.1f}){there}"
    )


def _length(value: float | None, unit: str) -> str:
    return "not defined" if value is None else f"{value:.2f} {unit}"


def _share(share: float | None, slices: int) -> str:
    return "no slice" if share is None else f"{round(share * slices)} of {slices} slices"
