"""Holds a training at the start of an epoch until the job was queued again, as if that epoch took very long."""

import os
import time
from pathlib import Path

from lightning import Callback, LightningModule, Trainer


class Hold(Callback):
    """Holds the first start of a job, and writes the file ``held``.

    Args:
        epoch: from 0.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        while trainer.current_epoch == self.epoch and int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
            Path("held").touch()
            time.sleep(0.1)
