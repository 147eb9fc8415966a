"""Which weights a training begins with, and which the test after it takes."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import nn

from karyon.bundle import read_card, read_weights
from karyon.checkpoint import checkpoint_weights
from karyon.model import find_bundle
from lightning_modules.trained_runs import NO_DOWNLOAD, load_weights


def initial_weights(config: Any) -> str:
    """Says which weights a training begins with.

    A part of a model that an overlay replaces begins with the default of its class, which most have as none.

    Args:
        config: ``model``, its ``class_path`` and ``init_args`` with all defaults, and ``start_from``.

    Returns:
        a model or a checkpoint; what the parts are pretrained on; or ``random``, and the options that could change it.

    >>> initial_weights({"start_from": None, "model": {"init_args": {"network": {"pretrained": "imagenet"}}}})
    'imagenet'
    >>> initial_weights({"start_from": None, "model": {"init_args": {"network": {"pretrained": "none"}}}})
    'random (pretrained: none)'
    """
    if config["start_from"]:
        return str(config["start_from"])
    options = dict.fromkeys(_pretrained(config["model"]))
    given = [str(value) for key, value in options if value not in (None, False, NO_DOWNLOAD[key])]
    if given:
        return ", ".join(dict.fromkeys(given))
    return f"random ({', '.join(f'{key}: none' for key, _ in options)})" if options else "random"


def _pretrained(config: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of each option that starts a part of a model from others' weights."""
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key in NO_DOWNLOAD:
                yield key, value
            else:
                yield from _pretrained(value)
    elif isinstance(config, list):
        for value in config:
            yield from _pretrained(value)


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


def take_averaged(trainer: Trainer) -> None:
    """Has a test after fit take a checkpoint's averaged weights, where there are any, as every later command does.

    WeightAveraging would put back what went on learning beside them.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [callback for callback in callbacks if not isinstance(callback, WeightAveraging)]
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used")
