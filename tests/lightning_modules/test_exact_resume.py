"""A run that is interrupted and goes on draws what one that never stopped draws, whenever it was saved."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.sampling import Draw, TrainingLoader, TrainingSampler
from lightning_modules.callbacks.exact_resume import ExactResume

ITEMS = 6


class Numbers(Dataset[Draw]):
    """Gives back what was drawn."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, draw: Draw) -> Draw:
        return draw


class Recorder(lightning.LightningModule):
    """Trains one weight, notes the draws of each step, and dies when told to."""

    def __init__(self, die_at: int = -1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.die_at = die_at
        self.seen: list[Any] = []

    def training_step(self, batch: list[Draw], batch_idx: int) -> torch.Tensor:
        if self.global_step == self.die_at:
            raise KeyboardInterrupt
        # What is drawn before the step, and within it.
        self.seen.append(
            (self.global_step, self.current_epoch, batch_idx, [draw.seed for draw in batch], float(torch.rand(())))
        )
        return self.weight.sum()

    def validation_step(self, batch: list[Draw]) -> None:
        self.log("score", -float(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    model: Recorder, folder: Path, workers: int, limits: dict[str, Any], every: dict[str, Any], resume: bool
) -> Any:
    saves = lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=folder, filename="last", enable_version_counter=False, **every
    )
    lightning.seed_everything(7, verbose=False)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", callbacks=[saves, ExactResume()], **limits, **quiet)
    loader = TrainingLoader(
        Numbers(),  # type: ignore[arg-type]
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=list,
        sampler=TrainingSampler([ITEMS], [1], 2 * STEPS),
    )
    loader.trainer = trainer
    try:
        trainer.fit(model, loader, DataLoader(Numbers()), ckpt_path=folder / "last.ckpt" if resume else None)
    except SystemExit:
        assert model.die_at >= 0
    return model.seen


STEPS = 6  # an epoch


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [{"max_epochs": 4}, {"max_steps": 20, "max_epochs": -1}, {"max_epochs": 4, "val_check_interval": 2}],
    ids=["epochs", "steps", "often validated"],
)
@pytest.mark.parametrize(
    "every",
    [{"save_on_train_epoch_end": True}, {"every_n_train_steps": 1}, {"every_n_train_steps": 3}, {"monitor": "score"}],
    ids=["epoch", "step", "three steps", "validation"],
)
def test_a_run_that_goes_on_again_and_again_draws_what_it_would_have_drawn(
    tmp_path: Path, limits: dict[str, Any], every: dict[str, Any]
) -> None:
    whole = fit(Recorder(), tmp_path / "whole", 0, limits, every, resume=False)
    assert [seen[:3] for seen in whole] == [(k, *divmod(k, STEPS)) for k in range(limits.get("max_steps", 4 * STEPS))]
    saved = 0
    for die_at in (7, 12, 14, 18, -1):
        seen = fit(Recorder(die_at), tmp_path / "broken", 0, limits, every, resume=saved > 0)
        # Neither a step left out nor one trained twice.
        assert seen == whole[saved : die_at if die_at >= 0 else None]
        saved = torch.load(tmp_path / "broken" / "last.ckpt")["global_step"]
    assert saved > 18 - STEPS


def test_a_worker_that_reads_ahead_changes_nothing(tmp_path: Path) -> None:
    limits, every = {"max_epochs": 3}, {"every_n_train_steps": 4}
    whole = fit(Recorder(), tmp_path / "whole", 0, limits, every, resume=False)
    assert fit(Recorder(9), tmp_path / "broken", 1, limits, every, resume=False) == whole[:9]
    assert fit(Recorder(), tmp_path / "broken", 1, limits, every, resume=True) == whole[8:]
