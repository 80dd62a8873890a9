"""What is asked of planning on the command line? Margins by coverage, and doses by probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.questions import OUT
from aistat_jax.cli.terminal import complain

if TYPE_CHECKING:
    from aistat_jax.case import Case
    from aistat_jax.planning.margins import SafetyMargin

Margin = Annotated[
    str | None,
    typer.Option(
        help="A margin of delineation by coverage, such as 0.98,0.95: the least contour that "
        "holds that share of the target with that probability (the share alone: in the mean).",
        metavar="SHARE,P",
        rich_help_panel=OUT,
    ),
]
Dose = Annotated[
    str | None,
    typer.Option(
        help="Write dose_painting.nii.gz too: Gy prescribed where the target hardly is, and "
        "surely is, such as 60,70, and in between by its probability.",
        metavar="LOW,HIGH",
        rich_help_panel=OUT,
    ),
]


def covering_of(text: str | None) -> tuple[float, float | None] | None:
    """The share of a target to cover, and with which probability (None: in the mean)."""
    if text is None:
        return None
    found = _numbers(text)
    if len(found) not in (1, 2) or not all(0 < number < 1 for number in found):
        raise InputError(
            f"--margin {text} is not understood; write a share and a probability between 0 and 1, "
            "such as 0.98,0.95, or the share alone"
        )
    return found[0], found[1] if len(found) == 2 else None


def doses_of(text: str | None) -> tuple[float, float] | None:
    """The doses, Gy, where the target hardly is and where it surely is."""
    if text is None:
        return None
    found = _numbers(text)
    if len(found) != 2 or not 0 <= found[0] <= found[1] < float("inf"):
        raise InputError(
            f"--dose {text} is not understood; write two doses in Gy, the lower one first, such as "
            "60,70"
        )
    return found[0], found[1]


def margins_of(case: Case, share: float, probability: float | None) -> list[SafetyMargin]:
    """The margin of every target by coverage; a target that has none is said."""
    from aistat_jax.planning.expected_coverage import coverage_margin

    found = []
    for one in case:
        try:
            found.append(coverage_margin(one.posterior, share=share, probability=probability))
        except InputError as error:
            complain(f"there is no margin of {one.id}: {error}")
    return found


def _numbers(text: str) -> list[float]:
    """Numbers between commas; none where one of them is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []
