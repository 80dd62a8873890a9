"""How is a network of any make calibrated from a terminal? `aistat calibrate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from aistat_jax.cli.options import OUT, Seed, check_devices, check_seed, in_flags
from aistat_jax.cli.terminal import say

_READ = "What the network gives"
_ASK = "What is asked of the calibration"


def calibrate(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="CSV: id, patient, a column of images a channel (PT, CT, ...), probability (files "
            "of what the network says) and label (files of what was drawn)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the calibration.", rich_help_panel=OUT)],
    output: Annotated[
        str,
        typer.Option(
            help="probability (maps, softmax stacks, nnU-Net's .npz), log-odds or mask.",
            metavar="KIND",
            rich_help_panel=_READ,
        ),
    ] = "probability",
    label: Annotated[
        int, typer.Option(help="Of which class, from 1.", min=1, rich_help_panel=_READ)
    ] = 1,
    name: Annotated[
        str, typer.Option(help="What the network is called.", rich_help_panel=_READ)
    ] = "the network",
    coverage: Annotated[
        float,
        typer.Option(
            help="Probability that what was drawn lies in the band of a new patient's contour, of "
            "contours whose centre lies in what was drawn; .95 needs 19 patients, .9 needs 10.",
            rich_help_panel=_ASK,
        ),
    ] = 0.95,
    rate: Annotated[
        float,
        typer.Option(
            help="Share of a new patient's contours that may be green and wrong.",
            rich_help_panel=_ASK,
        ),
    ] = 0.05,
    tolerance_mm: Annotated[
        float | None,
        typer.Option(
            help="Error that still counts as right, mm (default: by modality and voxels).",
            rich_help_panel=_ASK,
        ),
    ] = None,
    tolerance_px: Annotated[
        float | None, typer.Option(help="The same in pixels.", rich_help_panel=_ASK)
    ] = None,
    split: Annotated[
        bool,
        typer.Option(
            help="Learn from half of the patients and judge on the other half: what is promised "
            "then holds in finite samples; .95 needs 38 patients.",
            rich_help_panel=_ASK,
        ),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Make contours with honest error bars of any network's output, from a labelled validation set.

    The patients must be others than the network has learned from. The folder is then used by
    aistat contour IMAGE --probability FILE --calibration FOLDER. What the network misses has no
    contour, and nothing is promised of it.
    """
    check_seed(seed)
    from aistat_jax._files import check_writable
    from aistat_jax._progress import progress_bar
    from aistat_jax.calibrating import calibrate as calibration_of
    from aistat_jax.calibrations import refuse_taken, save_calibration
    from aistat_jax.cohort.labelled import read_labelled

    refuse_taken(out)
    check_writable(out)
    cases = read_labelled(manifest)
    check_devices()
    doing = ""
    with (
        progress_bar(None, "calibrating") as bar,
        in_flags("coverage", "rate", "tolerance_mm", "tolerance_px", "output", "label"),
    ):

        def progress(what: str, done: int, of: int, bar: Any = bar) -> None:
            nonlocal doing
            if what != doing:
                doing = what
                bar.set_description(what)
                bar.reset(total=of)
            bar.update(done - bar.n)

        found = calibration_of(
            cases, output=output, label=label, name=name, coverage=coverage, rate=rate,
            tolerance_mm=tolerance_mm, tolerance_px=tolerance_px,
            split=split, seed=seed, progress=progress,
        )  # fmt: skip
    save_calibration(found, out)
    say(found.card["left out"])
    for figure, value in found.card["measured"].items():
        say(f"  {figure}: {value:.3g}")
    for promise in found.promises:
        say(promise)
    say(f"wrote to {out}{os.sep}")
