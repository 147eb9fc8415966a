"""Every epoch of a training says how fast it was, at which rate it learned, and what it took of the machine."""

import csv
import time

import numpy as np
import psutil
import pytest
import torch
from echo_model import EchoModel, loader, make_trainer, sample
from lightning.pytorch.loggers import CSVLogger

from lightning_modules.callbacks.training_figures import TrainingFigures


class Scheduled(EchoModel):
    """Halves its learning rate each epoch; validating takes much longer than training."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    def training_step(self, batch):
        time.sleep(0.02)
        return super().training_step(batch)

    def validation_step(self, batch):
        time.sleep(0.5)


def epochs(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/images_per_second")]


def test_figures_of_each_epoch(tmp_path):
    data = loader([sample(name, np.eye(8, dtype=np.int64)) for name in "abcdef"], batch_size=2)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(tmp_path, TrainingFigures(), logger=logger, max_epochs=3)
    start = time.monotonic()
    trainer.fit(Scheduled(), data, loader([sample("v", np.eye(8, dtype=np.int64))]))
    spent = time.monotonic() - start
    rows = epochs(tmp_path)
    assert [float(row["train/learning_rate"]) for row in rows] == pytest.approx([0.1, 0.05, 0.025])
    rates = [float(row["train/images_per_second"]) for row in rows]
    # Three steps of at least .02 s for six images; with the validation of .5 s it would be at most 12 images a second.
    assert max(rates) <= 6 / 0.06
    # All epochs together cannot have taken longer than all there was, the validations taken off.
    assert sum(6 / rate for rate in rates) <= spent - 3 * 0.5
    own = psutil.Process().memory_info().rss / 2**30
    for row in rows:
        assert 0.5 * own <= float(row["system/memory_gib"]) < psutil.virtual_memory().total / 2**30
        assert 0 <= float(row["system/cores_busy"]) <= psutil.cpu_count() + 0.5
        assert not row.get("system/gpu_memory_gib")
