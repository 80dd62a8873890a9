"""What can be asked of one image and of many alike? Options that `contour` and `cohort` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import OUT, in_flags

if TYPE_CHECKING:
    from aistat_jax.case import Settings

FIND = "What to contour"
FIT = "How to fit and grade"

Method = Annotated[
    str,
    typer.Option(help="laplace (fast), nuts, vi or smc.", metavar="NAME", rich_help_panel=FIT),
]
Level = Annotated[
    float | None,
    typer.Option(
        help="Probability that the band holds the boundary (default: 0.95, or that of a "
        "calibration).",
        rich_help_panel=FIT,
    ),
]
Draws = Annotated[int, typer.Option(help="Posterior draws, at least 100.", rich_help_panel=FIT)]
ToleranceMm = Annotated[
    float | None,
    typer.Option(
        help="Error that still counts as right, mm (default: by modality, voxels and the lesion's "
        "size, which is said).",
        rich_help_panel=FIT,
    ),
]
TolerancePx = Annotated[float | None, typer.Option(help="The same in pixels.", rich_help_panel=FIT)]
Threshold = Annotated[
    float | None, typer.Option(help="A value in the image's own quantity.", rich_help_panel=FIND)
]
Net = Annotated[
    str | None,
    typer.Option(
        help="Find the target and read its edge by a network: a shipped one's name, or a "
        "folder that training wrote. A point then chooses among several targets; "
        "lesion-pet-3d needs one, and reads the surface that an expert would draw around it.",
        metavar="NAME",
        rich_help_panel=FIND,
    ),
]
RadiusMm = Annotated[
    float | None,
    typer.Option(
        help="How far from the point the edge is, roughly (pixels without spacing): then "
        "nothing is looked for.",
        metavar="R",
        rich_help_panel=FIND,
    ),
]
Slices = Annotated[
    str,
    typer.Option(
        help="all the target meets, the one of the point, or numbers such as 30,31.",
        metavar="all|point|I,J,K",
    ),
]
Dims = Annotated[
    str | None,
    typer.Option(
        help="2: a contour a slice (the default); 3: one surface; auto: as suits the target, "
        "which is said.",
        metavar="2|3|auto",
    ),
]
Chart = Annotated[
    str,
    typer.Option(
        help="star: radii from a centre; offset: from the target's outline, which takes what "
        "no star holds; auto: as suits each target, which is said.",
        metavar="star|offset|auto",
    ),
]
Fhir = Annotated[
    bool,
    typer.Option(
        "--fhir",
        help="Write fhir.json too: sizes with intervals and grades for a hospital's record.",
        rich_help_panel=OUT,
    ),
]
Contributed = Annotated[
    bool,
    typer.Option(
        "--contributions",
        help="Write contributions.csv and .png too: what each channel adds. Fits again without "
        "each.",
        rich_help_panel=OUT,
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        help="Leave patient, study, dates and names of files out of all that is written (ids of a "
        "manifest stay), and replace UIDs.",
        rich_help_panel=OUT,
    ),
]


def settings_of(**given: Any) -> Settings:
    from aistat_jax.case import Settings

    with in_flags(*given):
        return Settings(**given)


def slices_of(text: str) -> str | list[int]:
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


def dims_of(text: str | None) -> int | str | None:
    if text in (None, "auto"):
        return text
    if text not in ("2", "3"):
        raise InputError(f"--dims {text} is not understood; write 2, 3 or auto")
    return int(text)


def chart_of(text: str) -> str:
    from aistat_jax.boundary.choices import CHARTS

    if text not in CHARTS:
        raise InputError(f"--chart {text} is not understood; write star, offset or auto")
    return text
