"""A training that goes on has the rates that it would have had with the settings it is asked for from the beginning."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from echo_model import make_trainer
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, ReduceLROnPlateau, SequentialLR, StepLR
from torch.utils.data import DataLoader

from karyon.errors import DataError
from lightning_modules.callbacks.exact_resume import ExactResume
from lightning_modules.callbacks.resumed_settings import ResumedSettings, settings_in_force

Made = tuple[Callable[..., Any], Callable[..., Any] | None]


class RateRecorder(lightning.LightningModule):
    """Trains one weight, and notes the rate of each step."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.made = made
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rates: list[float] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.rates.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        self.log("loss", -float(self.global_step), on_epoch=True)
        return self.weight.sum()

    def configure_optimizers(self) -> Any:
        optimizer, scheduler = self.made[0](self.parameters()), self.made[1]
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler(optimizer), "monitor": "loss"}}


def fit(made: Made, epochs: int, folder: Path, resume: bool = False) -> tuple[RateRecorder, lightning.Trainer]:
    saves = lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    callbacks = [saves, ExactResume(), ResumedSettings()]
    trainer = make_trainer(folder, callbacks, max_epochs=epochs, enable_checkpointing=True)
    model = RateRecorder(made)
    trainer.fit(model, DataLoader(torch.zeros(2, 1)), ckpt_path=folder / "last.ckpt" if resume else None)
    return model, trainer


def warmup(optimizer: Any) -> SequentialLR:
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, 4)], [2])


ADAM, SLOW, STEPS = partial(Adam, lr=0.1), partial(Adam, lr=0.01), partial(StepLR, step_size=2, gamma=0.5)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ((ADAM, STEPS), (ADAM, STEPS)),
        ((ADAM, None), (SLOW, None)),
        ((ADAM, STEPS), (SLOW, STEPS)),
        ((ADAM, STEPS), (ADAM, partial(STEPS, gamma=0.1))),
        ((ADAM, STEPS), (ADAM, partial(CosineAnnealingLR, T_max=8))),
        ((ADAM, None), (ADAM, STEPS)),
        ((ADAM, STEPS), (ADAM, None)),
        ((ADAM, warmup), (SLOW, warmup)),
    ],
)
def test_the_rates_are_those_asked_for(tmp_path: Path, before: Made, now: Made) -> None:
    fit(before, 3, tmp_path)
    went_on, trainer = fit(now, 5, tmp_path, resume=True)
    assert went_on.rates == fit(now, 5, tmp_path / "never-stopped")[0].rates[6:]
    # The moments are those of before.
    assert trainer.optimizers[0].state[went_on.weight]["step"] == 10
    assert [entry["epoch"] for entry in settings_in_force(trainer)["settings"]] == ([0] if before == now else [0, 3])


def test_a_scheduler_that_waits_for_a_metric_begins_anew_with_the_rate_asked_for(tmp_path: Path) -> None:
    plateau = partial(ReduceLROnPlateau, patience=0, factor=0.5, mode="max")
    fit((ADAM, plateau), 3, tmp_path)
    assert fit((SLOW, plateau), 5, tmp_path, resume=True)[0].rates == [0.01, 0.01, 0.01, 0.01]


def test_what_has_changed_is_said_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit((ADAM, None), 1, tmp_path)
    with caplog.at_level("INFO"):
        fit((partial(Adam, lr=0.1, weight_decay=0.5), None), 2, tmp_path, resume=True)
    assert "Going on with other settings than before: weight_decay: 0 -> 0.5." in caplog.text
    trainer = fit((SLOW, None), 3, tmp_path, resume=True)[1]
    history = settings_in_force(trainer)["settings"]
    assert [(entry["epoch"], *(entry["optimizer"][0][key] for key in ("lr", "weight_decay"))) for entry in history] == [
        *((0, "0.1", "0"), (1, "0.1", "0.5"), (2, "0.01", "0"))
    ]


def test_checkpoints_of_earlier_releases_take_what_is_asked_for(tmp_path: Path) -> None:
    fit((ADAM, STEPS), 3, tmp_path)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del checkpoint["callbacks"]["ResumedSettings"]
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert fit((SLOW, STEPS), 4, tmp_path, resume=True)[0].rates == [0.005, 0.005]


@pytest.mark.parametrize(
    ("now", "epochs", "message"),
    [
        ((partial(SGD, lr=0.1), None), 5, "was trained by Adam, whose state SGD cannot use: leave --ckpt_path out"),
        ((ADAM, None), 2, "was trained for 3 epochs already: ask for as many or more by --trainer.max_epochs"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, now: Made, epochs: int, message: str) -> None:
    fit((ADAM, None), 3, tmp_path)
    with pytest.raises(DataError, match=message):
        fit(now, epochs, tmp_path, resume=True)
