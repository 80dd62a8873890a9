"""What can be done with many images from a terminal? `aistat cohort` and `aistat dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aistat_jax.cli.options import OUT, Seed, in_flags, say_written, workers_of
from aistat_jax.cli.questions import (
    FIND,
    Anonymous,
    Chart,
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
from aistat_jax.cli.terminal import FAILED, complain, keep, say

if TYPE_CHECKING:
    from aistat_jax.cohort.task import Outcome

MOST_FAILURES = 5
_WORK = "Where to contour"


def cohort(
    source: Annotated[
        Path,
        typer.Argument(
            help="A manifest (CSV: id, a column a channel, point, mask, ...), or a folder of "
            "HECKTOR, autoPET, nnU-Net or MSD layout.",
            metavar="MANIFEST|FOLDER",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)],
    target_label: Annotated[
        str | None,
        typer.Option(
            help="A label of the folder's label maps to start from, by name or number, or any.",
            metavar="LABEL",
            rich_help_panel=FIND,
        ),
    ] = None,
    threshold: Threshold = None,
    net: Net = None,
    radius_mm: RadiusMm = None,
    channel: Annotated[
        str | None,
        typer.Option(help="The channel to look in (default: the first).", rich_help_panel=FIND),
    ] = None,
    slices: Slices = "all",
    dims: Dims = None,
    chart: Chart = "star",
    reference_label: Annotated[
        str | None,
        typer.Option(
            help="A label of the folder's label maps to compare with, or any.", metavar="LABEL"
        ),
    ] = None,
    method: Method = "laplace",
    level: Level = None,
    tolerance_mm: ToleranceMm = None,
    tolerance_px: TolerancePx = None,
    draws: Draws = 1000,
    seed: Seed = 0,
    pictures: Annotated[
        bool,
        typer.Option(help="Write report.html and figure.png of every case.", rich_help_panel=OUT),
    ] = True,
    fhir: Fhir = False,
    anonymous: Anonymous = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes, or jobs of SLURM (default: cores).", rich_help_panel=_WORK),
    ] = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(
            help="Memory of each (default: what there is, shared out).", rich_help_panel=_WORK
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Use the workers of this Dask scheduler.",
            metavar="ADDRESS",
            rich_help_panel=_WORK,
        ),
    ] = None,
    slurm: Annotated[
        bool,
        typer.Option(
            "--slurm",
            help="Send jobs to SLURM, as dask-jobqueue's configuration says; needs --workers and "
            "--memory-gib.",
            rich_help_panel=_WORK,
        ),
    ] = False,
) -> None:
    """Contour every case of a manifest or a folder; what is done is kept when it is run again.

    What to contour is said for all cases whose row of the manifest does not say it.
    Each case has the files of `aistat contour` in its own folder below --out; tables of all cases
    and one report lie beside them. Cases that fail are listed and the rest goes on: exit status 1.
    """
    settings = settings_of(
        method=method, level=level, draws=draws, seed=seed, tolerance_mm=tolerance_mm,
        tolerance_px=tolerance_px,
    )  # fmt: skip
    space, kind, chosen = dims_of(dims), chart_of(chart), slices_of(slices)
    place = workers_of(workers, scheduler, memory_gib, slurm=slurm)
    from aistat_jax._progress import progress_bar
    from aistat_jax.cohort.run import contour_cohort

    def count(outcome: Outcome, whole: int, cases: int) -> None:
        if bar.total is None:
            bar.total, bar.n = cases, whole - (outcome.state != "failed")
        bar.update()
        keep(f"{whole} of {cases} cases are whole in {out}")
        if outcome.state == "failed":
            bar.clear()
            complain(f"{outcome.id}: {outcome.sentence}")
        for remark in outcome.remarks:
            bar.clear()
            complain(f"{outcome.id}: {remark}")

    keep(f"cases that are whole in {out} are kept", written=False)
    with (
        progress_bar(None, "contouring") as bar,
        in_flags(
            "threshold", "net", "radius_mm", "channel", "slices", "dims", "chart",
            "target_label", "reference_label", "memory_gib", "workers",
        ),
    ):  # fmt: skip
        found = contour_cohort(
            source, out, threshold=threshold, net=net, radius_mm=radius_mm, channel=channel,
            slices=chosen, dims=space, chart=kind, target_label=target_label,
            reference_label=reference_label, settings=settings, pictures=pictures,
            fhir=fhir, anonymous=anonymous, workers=place, say=say, progress=count,
        )  # fmt: skip
    kept = sum(each.state == "kept" for each in found.outcomes)
    anew = len(found.done) - kept
    say(f"{anew} cases contoured, {kept} kept, {len(found.failed)} failed")
    say_written(out, found.written)
    keep(f"{len(found.done)} of {len(found.outcomes)} cases are whole in {out}")
    if found.failed:
        named = ", ".join(name for name, _ in found.failed[:MOST_FAILURES])
        named += ", ..." if len(found.failed) > MOST_FAILURES else ""
        complain(
            f"{len(found.failed)} of {len(found.outcomes)} cases failed ({named}); report.html "
            f"and cases.csv in {out} say why, and the same command tries them again"
        )
        raise typer.Exit(FAILED)


def dataset(
    results: Annotated[Path, typer.Argument(help="The folder that aistat cohort wrote.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="The manifest or the folder that it was made of, which says where images are.",
            metavar="MANIFEST|FOLDER",
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new folder, the dataset's.", rich_help_panel=OUT)],
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned", help="Take cases too whose lesions are not signed, if none is rejected."
        ),
    ] = False,
    level: Annotated[
        float, typer.Option(help="A voxel has the label from this probability on.")
    ] = 0.5,
    channel: Annotated[
        list[str] | None,
        typer.Option(help="A channel to write; may be given again (default: all).", metavar="NAME"),
    ] = None,
    label: Annotated[str, typer.Option(help="What the label is called.")] = "lesion",
) -> None:
    """Make an nnU-Net dataset of the cases of a cohort whose lesions people have all accepted.

    Cases that are left out are said, with the reason. aistat train reads the dataset.
    """
    from aistat_jax.cohort.dataset import cohort_dataset

    with in_flags("level", "label", "unsigned", channels="--channel"):
        found = cohort_dataset(
            results, source, out, level=level, channels=channel or None, label=label,
            unsigned=unsigned, say=complain,
        )  # fmt: skip
    keep(f"the dataset in {out} is whole")
    count = len(found.cases)
    cases = f"{count} case{'s' * (count != 1)}"
    say(f"{cases} of {', '.join(found.channels)} with the label {label}")
    say_written(out, ["dataset.json", "imagesTr", "labelsTr"])
