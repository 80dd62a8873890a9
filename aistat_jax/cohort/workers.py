"""Where are the cases of a cohort contoured? On this computer, a Dask scheduler, or SLURM.

Workers are processes of their own, started anew (never forked), each with one case at a time on one
core, and a limit of memory. What they compile is kept in one cache for all of them.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aistat_jax._caching import cache_settings
from aistat_jax._errors import InputError

GIB = 2**30
LEAST_GIB = 1.0  # in which a small case is contoured
_SHARE = 0.9  # of the computer's memory, for all workers together
PATIENCE_S = 60.0
_CONNECT_S = 10.0
_CLOSE_S = 10.0

EXTRA = "pip install 'aistat_jax[cohort]'"
_SLURM = (
    "squeue --me lists the jobs that wait; one that has ended says why in slurm-NUMBER.out, in the "
    "folder that this was started in"
)
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
# One thread. And Dask has a worker give freed memory of more than 64 kB back at once, which it is
# then handed anew in cleared pages; here it is kept as glibc does where nothing is said.
_PROCESS = dict.fromkeys(_THREADS, "1") | {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}  # fmt: skip
_DASK = {
    # results are on disk and there is nothing to spill; a pause would never end
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.nanny.pre-spawn-environ": _PROCESS,
    "distributed.scheduler.worker-saturation": 1.0,  # so that a lost worker loses one case
    "distributed.scheduler.allowed-failures": 2,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.admin.log-format": "%(message)s",
}


@dataclass(frozen=True)
class Crew:
    """Workers that are there: a Dask client, in words where they are, and the dashboard's address.

    memory: bytes that a worker may use, where it is known here. advice: what to do where no worker
    is there, which is said after `patience_s` seconds without one.
    """

    client: Any
    words: str
    dashboard: str = ""
    memory: int | None = None
    advice: str = "end this run, and start it again"
    patience_s: float = PATIENCE_S


@runtime_checkable
class Workers(Protocol):
    """Somewhere to contour: `hired` gives a crew for that many cases while the `with` lasts."""

    def hired(self, cases: int) -> AbstractContextManager[Crew]: ...


@dataclass(frozen=True)
class LocalWorkers:
    """Processes on this computer: as many as it has cores, or as its memory allows.

    memory_gib: of each worker; one that takes more is ended, and its case tried again twice.
    """

    count: int | None = None
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        _check(self.count, self.memory_gib)

    def share(self, cases: int) -> tuple[int, int]:
        """How many workers, and the bytes of each."""
        whole = int(_SHARE * _memory())
        given = None if self.memory_gib is None else int(self.memory_gib * GIB)
        most = max(1, whole // (given or int(LEAST_GIB * GIB)))
        count = max(1, min(self.count or _cores(), cases, self.count or most))
        if given is not None and self.count is None and given > whole:
            raise InputError(
                f"`memory_gib` {self.memory_gib:g} is more than the {whole / GIB:.1f} GiB that "
                "this computer has for workers; pass less"
            )
        return count, given or whole // count

    @contextmanager
    def hired(self, cases: int) -> Iterator[Crew]:
        dask, distributed = _dask()
        count, memory = self.share(cases)
        with dask.config.set(_DASK), _quiet():
            cluster = distributed.LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, memory_limit=memory,
                host="127.0.0.1", dashboard_address="127.0.0.1:0", env=worker_environment(),
                silence_logs=logging.CRITICAL,
            )  # fmt: skip
            words = (
                f"{count} worker{'s' * (count != 1)} on this computer, one thread and at most "
                f"{memory / GIB:.1f} GiB each"
            )
            with _closing(cluster), _closing(distributed.Client(cluster, timeout=_CONNECT_S)) as c:
                yield Crew(c, words, cluster.dashboard_link, memory)


@dataclass(frozen=True)
class Scheduler:
    """A Dask scheduler that is there already, by its address (or scheduler file), and its workers.

    They must see the same files at the same paths. Start them with one thread each, a nanny and a
    limit of memory: `dask worker ADDRESS --nthreads 1 --memory-limit 4GiB`.
    """

    address: str

    @contextmanager
    def hired(self, cases: int) -> Iterator[Crew]:
        dask, distributed = _dask()
        given = {"scheduler_file": self.address} if Path(self.address).is_file() else {
            "address": self.address
        }  # fmt: skip
        with dask.config.set({"distributed.comm.timeouts.connect": f"{_CONNECT_S}s"}), _quiet():
            try:
                client = distributed.Client(**given, timeout=_CONNECT_S)
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(
                    f"scheduler {self.address}: no Dask scheduler answers there; start one by "
                    "dask scheduler, and pass its address, such as tcp://127.0.0.1:8786"
                ) from error
            with _closing(client):
                there = client.scheduler_info(n_workers=-1)["workers"]
                start = f"start workers by dask worker {client.scheduler.address} --nthreads 1"
                if not there:
                    raise InputError(f"scheduler {self.address}: it has no workers; {start}")
                _check_package(client, self.address)
                memory = [w["memory_limit"] for w in there.values() if w["memory_limit"]]
                words = f"{len(there)} workers of the scheduler {self.address}"
                if memory:
                    words += f", at most {min(memory) / GIB:.1f} GiB each"
                most = min(memory) if memory else None
                yield Crew(client, words, client.dashboard_link, most, start)


@dataclass(frozen=True)
class Slurm:
    """Jobs of SLURM, one worker on one core each, by dask-jobqueue.

    options: further arguments of dask_jobqueue.SLURMCluster, such as queue, account and walltime;
    those not given are as its configuration files say. patience_s: seconds without any worker
    after which it is said.
    """

    jobs: int
    memory_gib: float
    options: Mapping[str, Any] = field(default_factory=dict)
    patience_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        _check(self.jobs, self.memory_gib)

    def cluster(self) -> Any:
        """The cluster, before any job is sent; its `job_script()` is what SLURM will be given."""
        _dask()
        try:
            from dask_jobqueue.slurm import SLURMCluster
        except ImportError as error:
            raise InputError(f"SLURM needs dask-jobqueue: {EXTRA}") from error
        exported = [f"export {name}='{value}'" for name, value in worker_environment().items()]
        memory = int(self.memory_gib * GIB)
        return SLURMCluster(
            cores=1, processes=1, memory=f"{memory} B", python=sys.executable,
            job_script_prologue=exported, nanny=True, **self.options,
        )  # fmt: skip

    @contextmanager
    def hired(self, cases: int) -> Iterator[Crew]:
        dask, distributed = _dask()
        with dask.config.set(_DASK), _quiet():
            try:
                cluster = self.cluster()
            except (TypeError, ValueError) as error:
                raise InputError(f"SLURM: {' '.join(str(error).split())}") from error
            with _closing(cluster):
                jobs = min(self.jobs, cases)
                try:
                    cluster.scale(jobs=jobs)
                    client = distributed.Client(cluster, timeout=_CONNECT_S)
                except (OSError, RuntimeError) as error:
                    raise InputError(f"SLURM: {' '.join(str(error).split())}") from error
                words = f"{jobs} jobs of SLURM, one core and {self.memory_gib:g} GiB each"
                with _closing(client):
                    yield Crew(
                        client, words, cluster.dashboard_link, int(self.memory_gib * GIB),
                        _SLURM, self.patience_s,
                    )  # fmt: skip


def worker_environment() -> dict[str, str]:
    """What a worker's environment says: one thread, no screen, one cache of compiled programs."""
    memory = {"TARGET": "False", "SPILL": "False", "PAUSE": "False", "TERMINATE": "0.95"}
    own = {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
    own |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several may share one accelerator
    own |= _PROCESS
    own |= {f"DASK_DISTRIBUTED__WORKER__MEMORY__{name}": value for name, value in memory.items()}
    own |= {"DASK_LOGGING__DISTRIBUTED": "critical"}
    own |= {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}  # it looks 100 times a second
    kept = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    own |= {name: os.environ[name] for name in (*kept, "JAX_PLATFORMS") if name in os.environ}
    paths = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    return own | cache_settings() | ({"PYTHONPATH": paths[0]} if paths else {})


def _dask() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise InputError(f"a cohort is shared out by Dask, which is not here: {EXTRA}") from error
    return dask, distributed


@contextmanager
def _closing(one: Any) -> Iterator[Any]:
    """A client or a cluster, closed in the end; that it would not close is nobody's concern."""
    try:
        yield one
    finally:
        with suppress(Exception):
            one.close(timeout=_CLOSE_S)


@contextmanager
def _quiet() -> Iterator[None]:
    """What Dask has to say of workers that come and go is said by this package, or by nobody."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_package(client: Any, address: str) -> None:
    """Raises InputError where workers have another version of this package, or none."""
    import aistat_jax

    def version() -> str:
        try:
            import aistat_jax

            return aistat_jax.__version__
        except ImportError:
            return ""

    for worker, found in client.run(version).items():
        if found != aistat_jax.__version__:
            what = f"version {found}" if found else "no aistat_jax"
            raise InputError(
                f"scheduler {address}: worker {worker} has {what} and this is version "
                f"{aistat_jax.__version__}; install this version there"
            )


def _check(count: int | None, memory_gib: float | None) -> None:
    if count is not None and count < 1:
        raise InputError(f"`workers` must be at least 1, got {count}")
    if memory_gib is not None and not 0 < memory_gib < float("inf"):
        raise InputError(f"`memory_gib` {memory_gib:g} must be a positive number of GiB")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    """Bytes of memory of this computer, or as many as this process may use of it."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)
