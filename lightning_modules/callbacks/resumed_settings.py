"""A training that goes on does so with the optimizer's and the scheduler's settings that it was asked for."""

import warnings
from copy import deepcopy
from textwrap import shorten
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import LRSchedulerConfig

from karyon.errors import DataError

Settings = dict[str, str]
"""What an optimizer or a scheduler was made with, in Python's words; ``class`` is its class."""


# Of the rate and the schedule; they say nothing more.
CONSEQUENCES = ("initial_lr", "base_lrs", "_last_lr")


class ResumedSettings(Callback):
    """Puts the settings asked for in place of those in the checkpoint, which Lightning would let win.

    The optimizer keeps its moments. A scheduler stands where it would if it had been asked for from the beginning;
    one that waits for a metric begins anew.

    Attributes:
        history: which settings were in force, and from which epoch on, counted from 0.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.resumed = False

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.resumed = trainer.state.fn == "fit"
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        if self.resumed and trainer.max_epochs not in (None, -1) and done > trainer.max_epochs:
            raise DataError(
                f"{trainer.ckpt_path} was trained for {done} epochs already: ask for as many or more by "
                f"--trainer.max_epochs, which is {trainer.max_epochs}."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # As they were made: their state in the checkpoint has not been loaded.
        optimizers, schedulers = trainer.optimizers, [config.scheduler for config in trainer.lr_scheduler_configs]
        self.groups = [[_without_parameters(group) for group in optimizer.param_groups] for optimizer in optimizers]
        self.schedules = [deepcopy(scheduler.state_dict()) for scheduler in schedulers]
        self.asked = {
            "optimizer": [_settings(made, groups[0]) for made, groups in zip(optimizers, self.groups, strict=True)],
            "scheduler": [_settings(*made) for made in zip(schedulers, self.schedules, strict=True)],
            "data": [{"batch_size": str(getattr(getattr(trainer, "datamodule", None), "batch_size", None))}],
        }
        # Checkpoints of earlier releases do not say.
        if not self.resumed or not self.history:
            return
        before, now = (
            ", ".join(made["class"] for made in settings["optimizer"]) for settings in (self.history[-1], self.asked)
        )
        if before != now:
            raise DataError(
                f"{trainer.ckpt_path} was trained by {before}, whose state {now} cannot use: leave --ckpt_path out, "
                "and begin with its weights by --start_from."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        asked = {"epoch": trainer.current_epoch, **self.asked}
        earlier = self.history[-1] if self.resumed and self.history else {}
        changed = {key: differences(earlier.get(key, []), made) for key, made in self.asked.items()}
        if any(changed.values()):
            self.history = [*self.history, asked] if self.resumed else [asked]
            if earlier:
                words = "; ".join(word for words in changed.values() for word in words)
                rank_zero_info(f"Going on with other settings than before: {words}.")
        if not self.resumed or not changed["optimizer"] + changed["scheduler"]:
            return
        for optimizer, groups in zip(trainer.optimizers, self.groups, strict=True):
            # A callback that unfreezes layers adds groups.
            for group, asked in zip(optimizer.param_groups, groups, strict=False):
                group.update(asked)
        for config, schedule in zip(trainer.lr_scheduler_configs, self.schedules, strict=True):
            _replay(config, schedule, trainer)


def settings_in_force(trainer: Trainer) -> dict[str, Any]:
    """The settings of a training for its record, where they were kept."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    kept = [callback.history for callback in callbacks if isinstance(callback, ResumedSettings)]
    return {"settings": kept[0]} if kept else {}


def differences(before: list[Settings], now: list[Settings]) -> list[str]:
    """What differs, in words.

    >>> differences([{"class": "SGD", "lr": "0.1"}], [{"class": "SGD", "lr": "0.2"}, {"class": "StepLR"}])
    ['lr: 0.1 -> 0.2', 'class: none -> StepLR']
    """
    length = max(len(before), len(now))
    pairs = zip(*(made + [{}] * (length - len(made)) for made in (before, now)), strict=True)
    return [
        f"{key}: {shorten(old.get(key, 'none'), 30)} -> {shorten(new.get(key, 'none'), 30)}"
        for old, new in pairs
        for key in ({**old, **new} if old.get("class") == new.get("class") else ["class"])
        if old.get(key) != new.get(key) and key not in CONSEQUENCES
    ]


def _settings(made: Any, values: dict[str, Any]) -> Settings:
    """Of an optimizer or a scheduler the class and the values, but for those that are objects of their own."""
    words = {key: repr(value) for key, value in values.items()}
    return {"class": type(made).__name__, **{key: word for key, word in words.items() if " at 0x" not in word}}


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _replay(config: LRSchedulerConfig, schedule: dict[str, Any], trainer: Trainer) -> None:
    """Brings a scheduler from its beginning to where the training stands."""
    scheduler: Any = config.scheduler
    # One that was added knows nothing of the steps before.
    steps = scheduler.last_epoch or _done(config, trainer)
    scheduler.load_state_dict(schedule)
    if config.reduce_on_plateau:
        return
    try:
        with warnings.catch_warnings():
            # The optimizer's steps lie before the checkpoint.
            warnings.simplefilter("ignore")
            for _ in range(steps):
                scheduler.step()
    except ValueError as error:
        raise DataError(f"The scheduler {type(scheduler).__name__} cannot go on after {steps} steps: {error}") from None


def _done(config: LRSchedulerConfig, trainer: Trainer) -> int:
    done = trainer.current_epoch if config.interval == "epoch" else trainer.global_step
    return done // config.frequency
