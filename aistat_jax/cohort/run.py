"""How is a whole cohort contoured? Every case once, whatever becomes of the others."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aistat_jax
from aistat_jax._errors import FolderError, InputError, about, renamed
from aistat_jax._files import sole_run, write_whole
from aistat_jax._folders import Claim, Run, claim, digest, filled
from aistat_jax.case import Settings
from aistat_jax.cohort.cases import CohortCase, check_case, check_ids
from aistat_jax.cohort.manifest import read_manifest
from aistat_jax.cohort.task import (
    WITHHELD,
    Outcome,
    Task,
    contour_task,
    failed,
    is_done,
    record_of,
)
from aistat_jax.cohort.waiting import finished
from aistat_jax.cohort.workers import Crew, LocalWorkers, Workers
from aistat_jax.io.layouts import Layout, find_cases
from aistat_jax.views.cohort_files import write_cohort_files
from aistat_jax.views.fhir import bundle_kind

CASES = "cases"
FILES = (
    "cohort.json", "cases.csv", "cases.parquet", "targets.csv", "targets.parquet", "report.html"
)  # fmt: skip
SCHEMA = 1
OF_A_FOLDER = {
    "mask": "`target_label`", "reference": "`reference_label`",
    "point_mm": "a manifest's point", "box_mm": "a manifest's box",
}  # fmt: skip
"""What the arguments of `contour` are called where a folder stands in place of a manifest."""
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Cohort:
    """What became of a cohort: its folder, and the outcome of every case in order.

    `written` are the files of the whole; each case is in its own folder of `cases`.
    """

    out: Path
    outcomes: tuple[Outcome, ...]
    written: tuple[str, ...] = ()

    @property
    def done(self) -> tuple[str, ...]:
        """Ids of the cases that are there, those kept from an earlier run among them."""
        return tuple(each.id for each in self.outcomes if each.state in ("done", "kept"))

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """(id, sentence) of the others."""
        return tuple((o.id, o.sentence) for o in self.outcomes if o.state == "failed")

    def folder(self, case: str) -> Path:
        """Where a case's files are: those of `aistat contour`, and case.json."""
        return self.out / CASES / case


def contour_cohort(
    source: PathLike | Sequence[CohortCase],
    out: PathLike,
    *,
    threshold: float | None = None,
    net: str | None = None,
    radius_mm: float | None = None,
    channel: str | None = None,
    slices: str | Sequence[int] = "all",
    dims: int | str | None = None,
    chart: str = "star",
    target_label: str | None = None,
    reference_label: str | None = None,
    settings: Settings | None = None,
    pictures: bool = True,
    fhir: bool = False,
    anonymous: bool = False,
    workers: Workers | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[Outcome, int, int], None] = lambda outcome, whole, cases: None,
) -> Cohort:
    """Contour every case of a manifest, or of a folder of a known layout, each by `contour`.

    `source` is a CSV file (see `aistat_jax.cohort.manifest`), whose rows may say for their case
    what is said here for all; or a folder of HECKTOR, autoPET, nnU-Net or MSD layout
    (`find_cases`), where `target_label` and `reference_label` name the region to
    start from, and the one to compare with ("any" is every label); or `CohortCase`s, which
    say themselves what to contour and how. The rest is as in `contour`.

    Below `out`, `cases/ID` holds the files of `aistat contour`, and the folder itself tables of all
    cases and targets and a report. pictures: with report.html and figure.png of every case, which
    take most of the time of a small one. fhir: with fhir.json of every case. A case that fails is
    listed with its sentence and the rest goes on. Run again, what is there from the same files and
    settings is kept, and the rest done.
    `anonymous` is as of `write_case`: files name cases by the ids of the manifest alone, and say
    neither why one failed nor what was remarked, which `progress` is given; a folder, whose ids are
    the names of its files, is refused.

    `workers` are `LocalWorkers()`, a `Scheduler(address)` or `Slurm(jobs, memory_gib)`. `say` is
    given sentences for people, `progress` each outcome as it comes, with how many cases are whole
    and how many there are. In a script, call this below `if __name__ == "__main__":`.

    Raises InputError for a source that cannot be used and for no Dask, before anything is written,
    and OSError when results cannot be written any more; what was whole then stays.
    """
    options = {
        "threshold": threshold, "net": net, "radius_mm": radius_mm, "channel": channel,
        "slices": slices if isinstance(slices, str) else list(slices), "dims": dims, "chart": chart,
    }  # fmt: skip
    workers, settings = workers or LocalWorkers(), settings or Settings()
    cases = _cases(source, options, settings, target_label, reference_label)
    if anonymous and isinstance(source, str | os.PathLike) and Path(source).is_dir():
        raise InputError(
            f"{source}: anonymous cases need ids of your own, and those of a folder are the names "
            "of its files; pass a manifest"
        )
    if fhir:
        bundle_kind()  # what is missing is said before anything is computed
    run, title = _run(source), _title(source)
    if anonymous:
        run, title = replace(run, input="anonymous"), "Cohort"
    out = Path(out).expanduser().absolute()
    place = claim(out, run, FILES)
    tasks = {
        each.id: Task(each, out / CASES / each.id, pictures, anonymous=anonymous, fhir=fhir)
        for each in cases
    }
    outcomes = {name: Outcome(name, "kept") for name, task in tasks.items() if is_done(task)}
    todo = [task for name, task in tasks.items() if name not in outcomes]
    if outcomes:
        say(f"{len(outcomes)} of {len(cases)} cases are there already and are kept")
    with sole_run(out, CASES):
        start = time.perf_counter()
        if todo:
            with workers.hired(len(todo)) as crew:
                say(crew.words)
                if crew.dashboard:
                    say(f"dashboard: {crew.dashboard}")
                _unfinished(place, len(cases))
                for outcome in _outcomes(crew, todo, say):
                    if outcome.state == "unwritten":
                        raise OSError(None, outcome.sentence, str(out))
                    outcomes[outcome.id] = outcome
                    whole = sum(o.state in ("done", "kept") for o in outcomes.values())
                    progress(outcome, whole, len(cases))
        ordered = tuple(outcomes[each.id] for each in cases)
        about_run = {"cases": len(cases), "seconds": round(time.perf_counter() - start, 1)}
        with filled(place, last=("cohort.json",)) as filling:
            records = {
                o.id: _told(o, record_of(tasks[o.id].out), hidden=anonymous) for o in ordered
            }
            write_cohort_files(filling.folder, out / CASES, records, title)
            _card(filling.folder, about_run | _counts(ordered))
        written = tuple(name for name in FILES if (out / name).is_file())
    return Cohort(out, ordered, written)


# ----------------------------------------------------------------------------------- which cases


def _cases(
    source: PathLike | Sequence[CohortCase],
    options: Mapping[str, Any],
    settings: Settings,
    target_label: str | None,
    reference_label: str | None,
) -> tuple[CohortCase, ...]:
    if not isinstance(source, str | os.PathLike):
        cases = tuple(source)
        check_ids([case.id for case in cases], "cases")
        for case in cases:
            with about(f"case {case.id}"):
                check_case(case)
    elif Path(source).is_dir():
        layout = find_cases(source)
        cases = tuple(_of_layout(layout, options, settings, target_label, reference_label))
    else:
        given = {"target_label": target_label, "reference_label": reference_label}
        for (name, label), column in zip(given.items(), ("mask", "reference"), strict=True):
            if label is not None:
                raise InputError(
                    f"`{name}` names a label of a folder's layout; a manifest has a column {column}"
                )
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{path}: there is no such manifest, or folder of images")
        cases = read_manifest(path, options, settings)
    if not cases:
        raise InputError("a cohort needs at least one case")
    return cases


def _of_layout(
    layout: Layout,
    options: Mapping[str, Any],
    settings: Settings,
    target_label: str | None,
    reference_label: str | None,
) -> Iterator[CohortCase]:
    check_ids([case.id for case in layout.cases], str(layout.folder))
    if target_label is None and options["threshold"] is None and options["net"] is None:
        raise InputError(
            f"{layout.folder}: what to contour in each case is not said; pass `threshold`, `net` "
            "or `target_label`"
        )
    for each in layout.cases:
        drawn: dict[str, Any] = {}
        for name, which in (("mask", target_label), ("reference", reference_label)):
            if which is not None:
                region = layout.region(each, which)
                by_name = {name: region.path, f"{name}_roi": region.roi}
                drawn |= {name: region} if region.roi is None else by_name
        case = CohortCase(each.id, each.images, {**options, **drawn}, settings)
        with about(f"{layout.folder}: case {each.id}"), renamed(OF_A_FOLDER):
            check_case(case)
        yield case


def _run(source: Any) -> Run:
    if isinstance(source, str | os.PathLike):
        return Run("cohort", digest(Path(source)), Path(source).resolve().name)
    return Run("cohort", digest("cases", *sorted(case.id for case in source)), "cases")


def _title(source: Any) -> str:
    return f"Cohort: {_run(source).input}"


# ---------------------------------------------------------------------------------- doing them


def _outcomes(crew: Crew, tasks: Sequence[Task], say: Callable[[str], None]) -> Iterator[Outcome]:
    """Outcomes as they come, of workers that may be lost."""
    run = f"contour-{digest(str(time.time_ns()), str(os.getpid()))}"
    tasks = [replace(task, memory=crew.memory) for task in tasks]
    futures = {
        crew.client.submit(contour_task, task, key=(run, n), pure=False): task
        for n, task in enumerate(tasks)
    }
    for task, future in finished(crew, futures, tasks[0].out.parent, say):
        ended_well = future.status == "finished"
        yield future.result() if ended_well else _lost(task, future.exception())


def _lost(task: Task, error: BaseException) -> Outcome:
    """A case whose worker ended while at it, again and again, or could not begin."""
    if type(error).__name__ == "KilledWorker":
        most = "" if task.memory is None else f" of {task.memory / 2**30:.1f} GiB"
        sentence = (
            f"its worker ended each time that it was tried, as one does that needs more than its "
            f"memory{most}; give each worker more memory, or crop the image"
        )
    else:
        sentence = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    try:
        failed(task, sentence)
    except FolderError as refused:
        if isinstance(refused.__cause__, OSError):
            raise refused.__cause__ from error
    return Outcome(task.case.id, "failed", sentence)


def _unfinished(place: Claim, cases: int) -> None:
    """From now on the folder is this cohort's; tables of an earlier run are no longer true."""
    with filled(place) as filling:
        _card(filling.folder, {"cases": cases, "state": "unfinished"})


def _counts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    states = [each.state for each in outcomes]
    return {"state": "finished", "done": len(states) - states.count("failed"),
            "kept": states.count("kept"), "failed": states.count("failed")}  # fmt: skip


def _told(outcome: Outcome, record: dict[str, Any], hidden: bool) -> dict[str, Any]:
    """What is known of a case; where a failure could not be recorded, by its outcome."""
    if outcome.state != "failed":
        return record
    return {"state": "failed", "sentence": WITHHELD if hidden else outcome.sentence}


def _card(folder: Path, content: dict[str, Any]) -> None:
    head = {"schema": SCHEMA, "kind": "cohort", "version": aistat_jax.__version__}
    write_whole(folder / "cohort.json", json.dumps(head | content, indent=1) + "\n")
