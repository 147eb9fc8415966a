"""What a run that goes on after an interruption needs to end with the weights of one that never stopped."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer


class ExactResume(Callback):
    """Seeds torch anew before each training step, from the run's seed, the process, the epoch and the batch.

    What a step draws (dropout, the proposals that a detector is trained on) is then the same in a run that was killed
    and goes on, without any random state in its checkpoints, and differs between processes. `datamodules.sampling`
    does likewise for the images; everything else is in Lightning's checkpoints.
    """

    def __init__(self) -> None:
        self.seed = torch.initial_seed()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # With max_steps Lightning 2.6 takes every checkpoint for one from the middle of an epoch, and trains on a batch
        # too many after one from its end: https://github.com/Lightning-AI/pytorch-lightning/issues/19617
        vars(trainer.fit_loop)["_iteration_based_training"] = lambda: False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Behind a checkpoint from the last step of an epoch Lightning does not count the next as begun: what is saved
        # within it would repeat its steps.
        progress: Any = trainer.fit_loop.epoch_progress.current
        if progress.ready == progress.processed:
            trainer.fit_loop.reset_restart_stage()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        sequence = np.random.SeedSequence([self.seed, trainer.global_rank, trainer.current_epoch, batch_idx])
        torch.manual_seed(int(sequence.generate_state(1)[0]))
