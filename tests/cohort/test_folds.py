"""Is it said when the workers of a training are lost, and is a fold trained by one at a time?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest

from aistat_jax import training
from aistat_jax._errors import FolderError
from aistat_jax._files import sole_run
from aistat_jax.cli import main
from aistat_jax.nets.train import TrainSettings
from tests.cli.datasets import QUICK, write_balls

pytest.importorskip("distributed", reason="needs the extra: pip install 'aistat_jax[cohort]'")

from distributed import KilledWorker

from aistat_jax.cohort import folds, workers
from tests.cohort.phantoms import Here
from tests.cohort.test_waiting import Late


@pytest.fixture
def run(tmp_path) -> training.Run:
    data = write_balls(tmp_path / "Dataset001_Balls")
    sizing, settings = training.Sizing(memory_gib=1.0, base_width=4), TrainSettings(2, warmup=0)
    return training.ready(data, tmp_path / "out", sizing, settings, count=2)


def killed(run: training.Run, number: int) -> None:
    last: Any = SimpleNamespace(address="tcp://gone")
    raise KilledWorker(f"fold {number}", last, 3)


def test_that_no_worker_is_there_and_that_the_scheduler_is_lost_are_said(run):
    crew, said = Late(0.2), []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 3:  # the crew's words, and twice that nobody has come
            (cluster,) = crew.clusters
            cluster.sync(cluster.scheduler.close)

    with pytest.raises(OSError, match="the scheduler of the workers was lost") as caught:
        list(folds.train_folds(run, [0, 1], crew, say))
    assert Path(caught.value.filename) == run.folder
    assert [text.split(",")[0] for text in said[1:3]] == ["no worker has come yet"] * 2


def test_a_fold_is_trained_by_one_at_a_time(run, monkeypatch):
    trained = []

    def quick(run: training.Run, number: int, *_: Any) -> training.Fold:
        trained.append(number)
        return create_autospec(training.Fold, instance=True)

    monkeypatch.setattr(training, "_trained", quick)
    monkeypatch.setattr(folds, "read_cases", lambda run: ())
    with sole_run(run.folder, "fold-1"):
        for attempt in (partial(folds._trained, run, 1), partial(training.train_fold, run, 1, ())):
            with pytest.raises(FolderError, match="another run is writing there"):
                attempt()
    assert trained == []
    folds._trained(run, 0)
    folds._trained(run, 1)
    assert trained == [0, 1]


def test_what_to_do_where_a_worker_needs_too_much_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folds, "_trained", killed)
    monkeypatch.setattr(workers, "LocalWorkers", Here)
    data = str(write_balls(tmp_path / "Dataset001_Balls"))
    asked = ["train", data, "--out", str(tmp_path / "out"), *QUICK, "--workers", "2"]
    assert main(asked) == 1
    said = capsys.readouterr().err
    assert "its worker ended each time that it was tried" in said
    assert "pass fewer --workers, or a smaller network (--base-width)" in said
