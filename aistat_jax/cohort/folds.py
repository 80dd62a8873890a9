"""Where are the folds of a cross-validation trained? Side by side, by the workers of a cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from aistat_jax._errors import InputError
from aistat_jax.cohort.waiting import finished
from aistat_jax.cohort.workers import Workers
from aistat_jax.training import Fold, Run, begin, load_fold, read_cases, train_fold


def train_folds(
    run: Run,
    numbers: Sequence[int],
    workers: Workers,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Fold]:
    """Begin a run, and train folds of it, one a worker; yields each as it is done.

    Workers must see the dataset and the run's folder at the same paths: checkpoints lie there, so
    that a fold whose worker is lost, or a run that is ended, goes on from the last of them. Each
    keeps the whole dataset in memory. Those of a scheduler end the fold that they are at, though
    this ends; nobody else trains it until then.
    Raises InputError as `train_fold`, for no Dask, for a fold that another run is training, and for
    one that its worker ended at again and again; and OSError for a scheduler that is lost.
    """
    folder, home = run.folder.absolute(), run.dataset.folder.absolute()
    run = replace(run, folder=folder, dataset=replace(run.dataset, folder=home))
    with workers.hired(len(numbers)) as crew:
        from distributed import KilledWorker

        begin(run)
        say(crew.words)
        futures = {crew.client.submit(_trained, run, n, pure=False): n for n in numbers}
        with closing(finished(crew, futures, folder, say)) as ended:
            for number, future in ended:
                try:
                    future.result()
                except KilledWorker as error:
                    raise InputError(
                        f"fold {number}: its worker ended each time that it was tried, as one does "
                        "that needs more than its memory, where it keeps the dataset too; pass "
                        "fewer `workers`, or a smaller network (`base_width`) and another folder"
                    ) from error
                fold = load_fold(run, number)
                if fold is None:
                    raise InputError(
                        f"{folder}: fold {number} is done and its files are not here; workers must "
                        "see the same files at the same paths"
                    )
                yield fold


def _trained(run: Run, number: int) -> None:
    train_fold(run, number, read_cases(run))
