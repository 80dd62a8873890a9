"""Is it said when no worker comes, and not when one does?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import aistat_jax as aj
from aistat_jax.cli.options import in_flags
from aistat_jax.cohort import run
from aistat_jax.cohort.task import Outcome
from aistat_jax.cohort.workers import Crew

pytest.importorskip("distributed", reason="needs the extra: pip install 'aistat_jax[cohort]'")

import distributed

from tests.cohort.phantoms import write_cases

OPTIONS: dict[str, Any] = {"settings": aj.Settings(draws=100), "slices": "point", "pictures": False}


@dataclass(frozen=True)
class Late:
    """Workers in this process, none of which is there at first; `come` starts one."""

    patience_s: float
    first: int = 0
    clusters: list[Any] = field(default_factory=list)

    @contextmanager
    def hired(self, cases: int) -> Iterator[Crew]:
        with (
            distributed.LocalCluster(
                n_workers=self.first, threads_per_worker=1, processes=False, memory_limit=0,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            distributed.Client(cluster) as client,
        ):  # fmt: skip
            self.clusters.append(cluster)
            yield Crew(client, "none yet", advice="wake them", patience_s=self.patience_s)

    def come(self) -> None:
        self.clusters[0].scale(1)


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "contour_task", lambda task: Outcome(task.case.id, "failed", "asked"))
    return write_cases(tmp_path / "data", 2)


def test_that_no_worker_has_come_is_said_until_one_comes(manifest, tmp_path):
    workers, said = Late(0.2), []

    def say(text: str) -> None:
        said.append(text)
        if sum("no worker has come yet" in each for each in said) == 2:
            workers.come()

    found = aj.contour_cohort(manifest, tmp_path / "out", workers=workers, say=say, **OPTIONS)
    assert found.failed == (("P000", "asked"), ("P001", "asked"))  # by the one that came
    late = [text for text in said if text.startswith("no worker")]
    assert re.fullmatch(r"no worker has come yet, after \d+ s; wake them", late[0])
    assert len(late) >= 2


def test_nothing_is_said_of_workers_that_are_there(manifest, tmp_path):
    said: list[str] = []
    workers = Late(0.05, first=1)
    aj.contour_cohort(manifest, tmp_path / "out", workers=workers, say=said.append, **OPTIONS)
    assert said == ["none yet"]


def test_jobs_of_slurm_that_die_before_they_register_are_said(manifest, tmp_path, monkeypatch):
    """By a stand-in for sbatch, which takes a job and never runs it."""
    pytest.importorskip("dask_jobqueue", reason="needs the extra: pip install 'aistat_jax[cohort]'")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", "echo Submitted batch job 1"), ("scancel", "true")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    class Enough(Exception):
        pass

    def say(text: str) -> None:
        if text.startswith("no worker has come yet"):
            raise Enough(text)

    workers = aj.Slurm(1, 1.0, {"interface": "lo"}, patience_s=0.5)
    with pytest.raises(Enough, match="squeue --me lists the jobs that wait; one that has ended"):
        aj.contour_cohort(manifest, tmp_path / "out", workers=workers, say=say, **OPTIONS)


def test_a_scheduler_without_workers_is_refused(manifest, tmp_path):
    out = tmp_path / "out"
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        said = pytest.raises(aj.InputError, match="it has no workers; start workers by dask worker")
        with said, in_flags("workers"):  # on the command line as in Python
            aj.contour_cohort(manifest, out, workers=aj.Scheduler(address), **OPTIONS)
    assert not out.exists()
