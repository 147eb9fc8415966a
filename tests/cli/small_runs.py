"""Arguments of runs that take a second or two, and what they leave."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from config_files import QUICKSTART

Run = Callable[..., int]
"""Types a command; gives its exit code."""
Small = Callable[..., list[object]]
"""Gives arguments that make a config, with or without an addition, run in seconds."""

# U-Net with batch norm and dropout on synthetic nuclei.
SMALL: list[object] = [
    "--config",
    QUICKSTART,
    "--model.init_args.network.init_args.widths=[8,16]",
    "--model.init_args.network.init_args.dropout=[0.0,0.2]",
    "--model.init_args.optimizer.init_args.lr=0.01",
    "--data.init_args.train=15",
    "--data.init_args.test=5",
    "--data.init_args.size=[64,64]",
    "--data.init_args.batch_size=2",
    "--data.init_args.num_workers=0",
    "--data.init_args.augmentations",
    "[{class_path: albumentations.RandomCrop, init_args: {height: 64, width: 64}}, albumentations.D4, "
    "{class_path: albumentations.RandomBrightnessContrast, init_args: {p: 0.5}}]",
    "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu",
]
DDP = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def version(folder: Path) -> Path:
    """The only version of the only run in a folder."""
    (found,) = (folder / "runs" / "quickstart").iterdir()
    assert found.name == "version_0"
    return found


def last(folder: Path) -> dict[str, Any]:
    """The last state of the only run in a folder."""
    state: dict[str, Any] = torch.load(version(folder) / "checkpoints" / "last.ckpt", weights_only=False)
    return state


def validations(run: Path) -> list[dict[str, float]]:
    """The metrics of each validation of a run since it was last resumed."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    return [{key: float(value) for key, value in row.items() if value and not key.startswith("train/")} for row in rows]
