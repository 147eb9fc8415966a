"""Which weights a training begins with, and which the test after it takes."""

import warnings
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import nn

from cli.processes import say
from karyon.bundle import read_card, read_weights
from karyon.checkpoint import checkpoint_weights
from karyon.model import find_bundle
from lightning_modules.trained_runs import load_weights


def start_from(model: nn.Module, source: Path) -> None:
    """Loads the weights that a training begins with.

    Args:
        model: of the same architecture; its post-processing and its optimizer are its own.
        source: a checkpoint, the folder of a bundle, or the name of a model of Karyon's.

    Raises:
        DataError: there is no such model, it cannot be read, or it is of another architecture.
    """
    if source.suffix == ".ckpt":
        load_weights(model, checkpoint_weights(source), source)
    else:
        folder = find_bundle(source)
        load_weights(model, read_weights(folder, read_card(folder)), folder)
    say(f"Starting from {source}.")


def take_averaged(trainer: Trainer) -> None:
    """Has a test after fit take a checkpoint's averaged weights, where there are any, as every later command does.

    WeightAveraging would put back what went on learning beside them.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [callback for callback in callbacks if not isinstance(callback, WeightAveraging)]
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used")
