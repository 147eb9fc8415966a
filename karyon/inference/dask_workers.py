"""Blocks by processes of Dask, of this machine or jobs of SLURM: the same objects and ids, whatever their number."""

import logging
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dask
from distributed import Client, KilledWorker, LocalCluster
from distributed.deploy.spec import SpecCluster
from distributed.diagnostics.plugin import WorkerPlugin

from karyon.errors import DataError
from karyon.inference.blocks import Pending
from karyon.inference.engines import available_cores

DASHBOARD = "127.0.0.1:0"  # Dask's page, where it has one: on any port, for this machine alone
AHEAD = 2  # blocks for each worker: one in work, one that waits
# Of each job, where neither its options nor Dask's config say otherwise; its time limit is that of the partition.
JOB = {
    "name": "karyon",
    "cores": 4,
    "memory": "8GB",
    "walltime": None,
    "scheduler-options": {"dashboard_address": DASHBOARD},
    "job-script-prologue": ["export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}"],
}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class DaskWorkers:
    """Workers in other processes; see `karyon.inference.blocks.Workers`.

    Attributes:
        client: of a cluster.
        at_once: how many blocks are in work or waiting.
    """

    client: Client
    at_once: int

    @contextmanager
    def sharing(self, work: Callable[[T], R]) -> Iterator[Callable[[T], Pending[R]]]:
        # Once for each worker, which opens image and model by itself.
        shared = self.client.submit(_itself, work, pure=False)
        try:
            yield lambda item: self.client.submit(_do, shared, item, pure=False)
        except KilledWorker:
            raise DataError(
                "several workers ended at the same block: give each more memory, or make blocks smaller by --memory."
            ) from None


def _itself(thing: T) -> T:
    return thing


def _do(work: Callable[[T], R], item: T) -> R:
    return work(item)


class _Deaf(WorkerPlugin):
    """A worker that does not hear the Ctrl-C of the command, which ends it."""

    def setup(self, worker: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def dask_workers(number: int, slurm: bool, options: str, logs: Path) -> Iterator[DaskWorkers]:
    """Starts workers, and ends them.

    Args:
        number: of workers.
        slurm: whether they are jobs of SLURM; else they are processes of this machine.
        options: of sbatch, for each job.
        logs: folder of what jobs say.

    Raises:
        DataError: SLURM refuses such jobs.
    """
    # What goes wrong with an image comes back; a worker that ends is replaced.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        _slurm(number, options, logs) if slurm else _here(number) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(_Deaf())
        yield DaskWorkers(client, AHEAD * number)


def _here(number: int) -> SpecCluster:
    return LocalCluster(
        n_workers=number,
        threads_per_worker=1,
        # Blocks bound it.
        memory_limit=0,
        dashboard_address=DASHBOARD,
        silence_logs=logging.CRITICAL,
        env={"OMP_NUM_THREADS": str(max(1, available_cores() // number))},
    )


def _slurm(number: int, options: str, logs: Path) -> SpecCluster:
    handler = signal.getsignal(signal.SIGINT)
    from dask_jobqueue.slurm import SLURMCluster

    # Once it is imported, Ctrl-C would end the program as if all were done.
    signal.signal(signal.SIGINT, handler)
    dask.config.update_defaults({"jobqueue": {"slurm": JOB}})
    own = dask.config.get("jobqueue.slurm.job-extra-directives")
    cluster = SLURMCluster(
        processes=1,
        job_extra_directives=[*own, *filter(None, [options])],
        worker_extra_args=["--nthreads", "1", "--memory-limit", "0", "--no-dashboard"],
        log_directory=str(logs),
    )
    # Before it is handed in so many times.
    tried = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
    if tried.returncode:
        cluster.close()
        said = " ".join(tried.stderr.split()) or "no reason given"
        raise DataError(f"SLURM refuses the jobs of --workers ({said}): name what is missing in --worker-options.")
    # A job that ends, as by its time limit, is replaced.
    cluster.adapt(minimum_jobs=number, maximum_jobs=number)
    return cluster
