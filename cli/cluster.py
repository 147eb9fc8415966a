"""What a training needs to know of the cluster that it runs on."""

import os
from collections.abc import Sequence
from typing import Any

from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from karyon.errors import DataError
from lightning_modules.whole_checkpoints import WholeCheckpoints


def trainer_plugins(given: Any) -> list[Any]:
    """The trainer's plugins: those of the user, whole checkpoints, and a SLURM that is left to the job scripts.

    Lightning's own requeueing writes, in the middle of whatever the processes are at, a checkpoint into the current
    folder, which each later job there takes for its own
    (https://github.com/Lightning-AI/pytorch-lightning/issues/12369). ``slurm/fit.sbatch`` goes on from ``last.ckpt``.

    Args:
        given: the user's plugins: none, one or a list.
    """
    plugins = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] if given else []
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    if SLURMEnvironment.detect() and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def check_started_by_srun() -> None:
    """Refuses to wait for ever for processes that nobody starts.

    Raises:
        DataError: a SLURM job of several tasks runs this process outside of srun.
    """
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    if tasks > 1 and "SLURM_STEP_ID" not in os.environ and SLURMEnvironment.detect():
        raise DataError(
            f"This job has {tasks} tasks but one process: write srun before python, as slurm/fit.sbatch does, or ask "
            "for one task."
        )
