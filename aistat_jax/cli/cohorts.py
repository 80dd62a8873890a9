"""What can be done with many images from a terminal? `aistat cohort`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.contours import (
    Draws,
    Level,
    Method,
    ToleranceMm,
    chart_of,
    dims_of,
    settings_of,
    slices_of,
)
from aistat_jax.cli.options import OUT, Seed, in_flags, say_written
from aistat_jax.cli.terminal import FAILED, complain, keep, say

if TYPE_CHECKING:
    from aistat_jax.cohort.task import Outcome
    from aistat_jax.cohort.workers import Workers

MOST_FAILURES = 5
_FIND = "What to contour in every case, where its row of the manifest does not say"
_FIT = "How to fit and grade"
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
            rich_help_panel=_FIND,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="A value in the image's own quantity.", rich_help_panel=_FIND),
    ] = None,
    net: Annotated[
        str | None,
        typer.Option(
            help="A network: a shipped one's name, or a folder that training wrote.",
            metavar="NAME",
            rich_help_panel=_FIND,
        ),
    ] = None,
    radius_mm: Annotated[
        float | None,
        typer.Option(
            help="How far from the points the edges are, roughly.",
            metavar="R",
            rich_help_panel=_FIND,
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(help="The channel to look in (default: the first).", rich_help_panel=_FIND),
    ] = None,
    slices: Annotated[
        str, typer.Option(help="As of aistat contour.", metavar="all|point|I,J,K")
    ] = "all",
    dims: Annotated[
        str | None, typer.Option(help="As of aistat contour.", metavar="2|3|auto")
    ] = None,
    chart: Annotated[
        str, typer.Option(help="As of aistat contour.", metavar="star|offset|auto")
    ] = "star",
    reference_label: Annotated[
        str | None,
        typer.Option(
            help="A label of the folder's label maps to compare with, or any.", metavar="LABEL"
        ),
    ] = None,
    method: Method = "laplace",
    level: Level = 0.95,
    tolerance_mm: ToleranceMm = None,
    tolerance_px: Annotated[
        float | None,
        typer.Option(help="The same in pixels.", rich_help_panel=_FIT),
    ] = None,
    draws: Draws = 1000,
    seed: Seed = 0,
    pictures: Annotated[
        bool,
        typer.Option(help="Write report.html and figure.png of every case.", rich_help_panel=OUT),
    ] = True,
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous",
            help="Leave patients, dates and names of files out of all that is written, but for the "
            "ids of the manifest.",
            rich_help_panel=OUT,
        ),
    ] = False,
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

    Each case has the files of `aistat contour` in its own folder below --out; tables of all cases
    and one report lie beside them. Cases that fail are listed and the rest goes on: exit status 1.
    """
    settings = settings_of(
        method=method, level=level, draws=draws, seed=seed, tolerance_mm=tolerance_mm,
        tolerance_px=tolerance_px,
    )  # fmt: skip
    space, kind, chosen = dims_of(dims), chart_of(chart), slices_of(slices)
    place = _workers(workers, memory_gib, scheduler, slurm)
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
            "threshold", "net", "radius_mm", "channel", "dims", "chart",
            "target_label", "reference_label", "memory_gib", "workers",
        ),
    ):  # fmt: skip
        found = contour_cohort(
            source, out, threshold=threshold, net=net, radius_mm=radius_mm, channel=channel,
            slices=chosen, dims=space, chart=kind, target_label=target_label,
            reference_label=reference_label, settings=settings, pictures=pictures,
            anonymous=anonymous, workers=place, say=say, progress=count,
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


def _workers(
    count: int | None, memory_gib: float | None, scheduler: str | None, slurm: bool
) -> Workers:
    from aistat_jax.cohort.workers import LocalWorkers, Scheduler, Slurm

    if scheduler is not None:
        given: dict[str, Any] = {"--workers": count, "--memory-gib": memory_gib}
        given["--slurm"] = slurm or None
        for flag, value in given.items():
            if value is not None:
                raise InputError(
                    f"--scheduler has workers of its own, so {flag} means nothing; drop one"
                )
        return Scheduler(scheduler)
    if slurm and (count is None or memory_gib is None):
        raise InputError("--slurm needs --workers and --memory-gib, of each job")
    with in_flags("workers", "memory_gib"):
        if slurm and count is not None and memory_gib is not None:
            return Slurm(count, memory_gib)
        return LocalWorkers(count, memory_gib)
