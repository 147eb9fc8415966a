"""What a training costs: learning rate, speed, cores and memory, once an epoch, for whichever loggers there are."""

import time
from typing import Any

import psutil
import torch
from lightning import Callback, LightningModule, Trainer

from karyon.batch import Batch

GIB = 2**30


class TrainingFigures(Callback):
    """Logs the learning rate and what the machine did in each epoch of training.

    * ``train/learning_rate``: of the first group of parameters, in this epoch;
    * ``train/images_per_second``: of all processes, reading and augmentation included, validation not;
    * ``system/cores_busy``: how many cores the first process and its data loaders kept busy on average;
    * ``system/memory_gib``: of these processes at the end of the epoch, GiB;
    * ``system/gpu_memory_gib``: the most that tensors of the first process have taken on its GPU so far, GiB.
    """

    # A training that goes on within an epoch does not begin it again.
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else 0.0
        self.images, self.outside_s = 0, 0.0
        self.start, self.cpu_start_s = time.monotonic(), _cpu_seconds()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.images += len(batch)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_start = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before the first epoch a few batches are validated as a check.
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.outside_s += time.monotonic() - self.validation_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        spent = time.monotonic() - self.start
        rate = self.images / (spent - self.outside_s)
        pl_module.log("train/images_per_second", rate, reduce_fx="sum", sync_dist=True)
        figures = {
            "train/learning_rate": self.learning_rate,
            "system/cores_busy": (_cpu_seconds() - self.cpu_start_s) / spent,
            "system/memory_gib": sum(_memory(process) for process in _processes()) / GIB,
        }
        if trainer.strategy.root_device.type == "cuda":
            figures["system/gpu_memory_gib"] = torch.cuda.max_memory_allocated(trainer.strategy.root_device) / GIB
        pl_module.log_dict(figures, rank_zero_only=True)


def _processes() -> list[psutil.Process]:
    """This process and all that it has started."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        # A data loader's worker that has ended since.
        return 0


def _cpu_seconds() -> float:
    """Of this process and its workers, those that have ended included."""
    own = psutil.Process().cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for process in _processes()[1:]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
